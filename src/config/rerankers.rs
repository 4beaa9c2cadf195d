//! The settings of rerankers.

use super::classifiers::{CACHE_SHARE, each};
use super::reader::Reader;
use super::values::auto;
use crate::embedder::{self, Backend, Precision};
use crate::reranker::{self, Spec};
use crate::{model, onnx};

impl Reader<'_> {
    pub(super) fn rerankers(
        &mut self,
        embedder: &embedder::Options,
        onnx: &onnx::Options,
        offline: bool,
    ) -> reranker::Options {
        let specs = self.get("reranker", |s| each(s, Spec::parse));
        self.check_names("reranker", specs.iter().map(|spec| &*spec.name));
        let offline = |spec| {
            let Spec { name, model } = spec;
            Spec { name, model: model::Options { offline, ..model } }
        };
        let precision = self.get("reranker_precision", |s| auto(s, str::parse::<Precision>));
        reranker::Options {
            specs: specs.into_iter().map(offline).collect(),
            model: embedder::Options {
                backend: Backend::Candle,
                precision: precision.unwrap_or(embedder.precision),
                cache_bytes: embedder.cache_bytes / CACHE_SHARE,
                ..embedder.clone()
            },
            onnx: onnx.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Flags};
    use crate::embedder::Precision;

    fn resolve(env: &[(&str, &str)]) -> Result<Config, String> {
        let value = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::resolve(&Flags::default(), value).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn there_is_no_reranker_unless_one_is_named_and_several_are_read_in_order() {
        assert!(resolve(&[]).unwrap().reranker.specs.is_empty());
        let env = [("COGNATE_RERANKER", "a=owner/x@v1; b=owner/y#onnx/m.onnx"), ("COGNATE_OFFLINE", "true")];
        let specs = resolve(&env).unwrap().reranker.specs;
        assert_eq!(specs.iter().map(|spec| &*spec.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((&*specs[0].model.source, specs[0].model.revision.as_deref()), ("owner/x", Some("v1")));
        assert!(specs.iter().all(|spec| spec.model.offline));
    }

    #[test]
    fn the_precision_is_that_of_the_model_unless_it_is_set() {
        let precision = |env: &[(&str, &str)]| resolve(env).unwrap().reranker.model.precision;
        assert_eq!(precision(&[("COGNATE_PRECISION", "int8")]), Precision::Int8);
        assert_eq!(precision(&[("COGNATE_RERANKER_PRECISION", "int8")]), Precision::Int8);
        assert_eq!(precision(&[]), Precision::F32);
    }

    #[test]
    fn mistakes_name_the_reranker() {
        let text = resolve(&[("COGNATE_RERANKER", "a=owner/x;a=owner/y")]).unwrap_err();
        assert!(text.contains("reranker names \"a\" twice"), "{text}");
        let text = resolve(&[("COGNATE_RERANKER", "minilm")]).unwrap_err();
        assert!(text.contains("COGNATE_RERANKER is \"minilm\"") && text.contains("NAME=PLACE"), "{text}");
    }
}
