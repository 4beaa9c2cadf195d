//! The settings of embedding models: the list of them, and the revision of the one without a name.

use super::classifiers::each;
use super::reader::Reader;
use crate::embedder::Spec;
use crate::model::{self, Kind};

impl Reader<'_> {
    /// Reads the embedding models, at least one; the first is the default.
    pub(super) fn models(&mut self, kind: &Kind, offline: bool) -> Vec<Spec> {
        let mut specs = self.get("model", |s| {
            let specs = each(s, Spec::parse)?;
            if specs.is_empty() { Err("expected an id on the hub or a directory".to_owned()) } else { Ok(specs) }
        });
        self.check_names("model", specs.iter().map(|spec| &*spec.name));
        if let Some(revision) = self.get("revision", |s| Ok(Some(s.to_owned()).filter(|s| !s.is_empty()))) {
            match specs.iter_mut().find(|spec| spec.name == Spec::UNNAMED && spec.model.revision.is_none()) {
                Some(spec) => spec.model.revision = Some(revision),
                None => self.mistakes.push(format!(
                    "revision is {revision:?}, and each model has a name: write NAME=owner/name@{revision} in model"
                )),
            }
        }
        let complete = |Spec { name, model }| {
            let model = model::Options { offline, kind: kind.clone(), ..model };
            Spec { name, model }
        };
        specs.into_iter().map(complete).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{Config, Flags};
    use crate::embedder::Spec;
    use crate::model::DEFAULT_MODEL;

    fn resolve(env: &[(&str, &str)]) -> Result<Vec<Spec>, String> {
        let value = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Ok(Config::resolve(&Flags::default(), value).map_err(|mistakes| mistakes.to_string())?.models)
    }

    fn told(specs: &[Spec]) -> Vec<(&str, &str, Option<&str>)> {
        specs.iter().map(|spec| (&*spec.name, &*spec.model.source, spec.model.revision.as_deref())).collect()
    }

    #[test]
    fn a_model_without_a_name_is_called_default_and_has_the_revision_of_the_settings() {
        assert_eq!(told(&resolve(&[]).unwrap()), [("default", DEFAULT_MODEL, None)]);
        let env = [("COGNATE_MODEL", "owner/x"), ("COGNATE_REVISION", "v1"), ("COGNATE_OFFLINE", "true")];
        let specs = resolve(&env).unwrap();
        assert_eq!(told(&specs), [("default", "owner/x", Some("v1"))]);
        assert!(specs[0].model.offline);
    }

    #[test]
    fn several_are_read_in_order_from_the_environment_or_a_list_in_the_file() {
        let specs = resolve(&[("COGNATE_MODEL", "owner/x; b=owner/y@v2")]).unwrap();
        assert_eq!(told(&specs), [("default", "owner/x", None), ("b", "owner/y", Some("v2"))]);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"model = [\"a=owner/x@v1\", \"b=owner/y\"]\n").unwrap();
        let specs = resolve(&[("COGNATE_CONFIG", file.path().to_str().unwrap())]).unwrap();
        assert_eq!(told(&specs), [("a", "owner/x", Some("v1")), ("b", "owner/y", None)]);
    }

    #[test]
    fn mistakes_name_the_model() {
        for (env, parts) in [
            (&[("COGNATE_MODEL", "owner/x;owner/y")][..], ["model names \"default\" twice", ""]),
            (&[("COGNATE_MODEL", "a=owner/x;a=owner/y")], ["model names \"a\" twice", ""]),
            (&[("COGNATE_MODEL", "a=owner/x"), ("COGNATE_REVISION", "v1")], ["revision is \"v1\"", "@v1 in model"]),
            (&[("COGNATE_MODEL", "a=owner/x#onnx/m.onnx")], ["onnx/m.onnx", "--backend onnx"]),
            (&[("COGNATE_MODEL", "a b=owner/x")], ["COGNATE_MODEL is", "\"a b\" is not a name"]),
        ] {
            let text = resolve(env).unwrap_err();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
