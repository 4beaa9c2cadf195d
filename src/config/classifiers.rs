//! The settings of classifiers: the list of them, and the labels of each.

use super::reader::Reader;
use super::settings::SEPARATOR;
use crate::classifier::{self, ClassifierSource, Spec};
use crate::{embedder, onnx};

/// Each classifier and reranker gets this part of the model's cache, in addition: its rows are short.
pub(super) const CACHE_SHARE: usize = 8;

impl Reader<'_> {
    pub(super) fn classifiers(
        &mut self,
        embedder: &embedder::Options,
        onnx: &onnx::Options,
        offline: bool,
    ) -> classifier::Options {
        let mut specs = self.get("classifier", |s| if s == "none" { Ok(Vec::new()) } else { each(s, Spec::parse) });
        let labels = self.get("classifier_labels", |s| each(s, Spec::parse_labels));
        self.check_names("classifier", specs.iter().map(|spec| &*spec.name));
        for (name, labels) in labels {
            match specs.iter_mut().find(|spec| spec.name == name) {
                Some(spec) => spec.labels = Some(labels),
                None => self.mistakes.push(format!(
                    "classifier_labels names {name:?}, and no classifier has that name: add it to classifier"
                )),
            }
        }
        for spec in &mut specs {
            if let ClassifierSource::Model(options) = &mut spec.source {
                options.offline = offline;
            }
        }
        classifier::Options {
            specs,
            threads: onnx.threads,
            batch_tokens: embedder.batch_tokens,
            queue_tokens: embedder.queue_tokens,
            cache_bytes: embedder.cache_bytes / CACHE_SHARE,
            pools: embedder.pools.clone(),
        }
    }
}

impl Reader<'_> {
    /// Reports the names that a setting has twice.
    pub(super) fn check_names<'a>(&mut self, setting: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = std::collections::HashSet::new();
        let twice = names.filter(|name| !seen.insert(*name));
        let mistake = |name| format!("{setting} names {name:?} twice: expected a different name for each");
        self.mistakes.extend(twice.map(mistake));
    }
}

/// Parses each of the values in order.
pub(super) fn each<T>(s: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let given = s.split(SEPARATOR).map(str::trim).filter(|part| !part.is_empty());
    given.map(|part| parse(part).map_err(|reason| format!("{part:?}: {reason}"))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{Config, Flags, Mistakes};

    fn resolve(flag: Option<&str>, env: &'static [(&str, &str)]) -> Result<Config, Mistakes> {
        let flags = Flags(flag.map(|path| ("config", path.to_owned())).into_iter().collect());
        Config::resolve(&flags, |name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn names(config: &Config) -> Vec<&str> {
        config.classifier.specs.iter().map(|spec| spec.name.as_str()).collect()
    }

    #[test]
    fn the_default_is_one_classifier_and_none_is_possible() {
        assert_eq!(names(&resolve(None, &[]).unwrap()), ["sentiment"]);
        assert!(names(&resolve(None, &[("COGNATE_CLASSIFIER", "none")]).unwrap()).is_empty());
    }

    #[test]
    fn several_are_read_in_order_from_the_environment_or_a_list_in_the_file() {
        let env = &[("COGNATE_CLASSIFIER", "a=owner/x; sentiment"), ("COGNATE_CLASSIFIER_LABELS", "a=yes,no")];
        let config = resolve(None, env).unwrap();
        assert_eq!(names(&config), ["a", "sentiment"]);
        assert_eq!(config.classifier.specs[0].labels, Some(vec!["yes".to_owned(), "no".to_owned()]));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"classifier = [\"b=owner/x@v1\", \"sentiment\"]\n").unwrap();
        assert_eq!(names(&resolve(file.path().to_str(), &[]).unwrap()), ["b", "sentiment"]);
    }

    #[test]
    fn mistakes_name_the_classifier() {
        let env = &[("COGNATE_CLASSIFIER", "a=owner/x;a=owner/y"), ("COGNATE_CLASSIFIER_LABELS", "b=yes,no")];
        let text = resolve(None, env).unwrap_err().to_string();
        assert!(text.contains("2 mistakes") && text.contains("\"a\" twice"), "{text}");
        assert!(text.contains("\"b\", and no classifier has that name"), "{text}");
        let text = resolve(None, &[("COGNATE_CLASSIFIER", "tickets")]).unwrap_err().to_string();
        assert!(text.contains("COGNATE_CLASSIFIER is \"tickets\"") && text.contains("NAME=PLACE"), "{text}");
    }
}
