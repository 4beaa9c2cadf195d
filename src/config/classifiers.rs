//! The settings of classifiers: which there are, by name, and what belongs to each.

use super::settings::SEPARATOR;
use super::{Reader, onnx};
use crate::classifier::{self, Source, Spec};
use crate::embedder;

/// The part of the memory for earlier texts that each classifier gets on top: its rows are short.
const CACHE_SHARE: usize = 8;

impl Reader<'_> {
    pub(super) fn classifiers(
        &mut self,
        embedder: &embedder::Options,
        onnx: &onnx::Options,
        offline: bool,
    ) -> classifier::Options {
        let mut specs = self.get("classifier", |s| if s == "none" { Ok(Vec::new()) } else { each(s, Spec::parse) });
        let labels = self.get("classifier_labels", |s| each(s, Spec::parse_labels));
        for (n, spec) in specs.iter().enumerate() {
            if specs[..n].iter().any(|other| other.name == spec.name) {
                self.mistakes.push(format!("classifier names {:?} twice: give each a name of its own", spec.name));
            }
        }
        for (name, labels) in labels {
            match specs.iter_mut().find(|spec| spec.name == name) {
                Some(spec) => spec.labels = Some(labels),
                None => {
                    self.mistakes.push(format!("classifier_labels names {name:?}, and no classifier has that name"))
                }
            }
        }
        for spec in &mut specs {
            if let Source::Model(options) = &mut spec.source {
                options.offline = offline;
            }
        }
        classifier::Options {
            specs,
            threads: onnx.threads,
            batch_tokens: embedder.batch_tokens,
            queue_tokens: embedder.queue_tokens,
            cache_bytes: embedder.cache_bytes / CACHE_SHARE,
        }
    }
}

/// Each of the values that are given, in order.
fn each<T>(s: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let given = s.split(SEPARATOR).map(str::trim).filter(|part| !part.is_empty());
    given.map(|part| parse(part).map_err(|reason| format!("{part:?}: {reason}"))).collect()
}
