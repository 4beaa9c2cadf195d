//! The option `--classifier`: the name of a classifier and its source.
//!
//! ```text
//! sentiment                                the built-in classifier
//! NAME=DIRECTORY[#file.onnx]               an exported model: graph, tokenizer.json, config.json
//! NAME=owner/name[@revision][#file.onnx]   the same from the hub
//! NAME=head.json                           a head on the embedding, made by `cognate train-head`
//! ```

use std::path::{Path, PathBuf};

use crate::model;

/// The built-in classifier.
pub const BUILT_IN: &str = "sentiment";

/// A classifier to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The name that requests use.
    pub name: String,
    /// The classifier's source.
    pub source: ClassifierSource,
    /// Labels that replace those of its configuration.
    pub labels: Option<Vec<String>>,
}

/// The source of a classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassifierSource {
    /// The files in this binary.
    BuiltIn,
    /// The file of a head on the embedding.
    Head(PathBuf),
    /// A model in a directory or on the hub.
    Model(model::Options),
}

impl Spec {
    /// Parses the option. An existing path wins over a hub id of the same spelling.
    ///
    /// # Errors
    /// The text says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == BUILT_IN {
            return Ok(Self { name: BUILT_IN.to_owned(), source: ClassifierSource::BuiltIn, labels: None });
        }
        let (name, source) = model::split_named(text)?.ok_or_else(|| {
            format!(
                "expected {BUILT_IN}, none, or NAME=PLACE, where PLACE is a directory, a hub id or a file of train-head"
            )
        })?;
        Ok(Self { name: name.to_owned(), source: ClassifierSource::parse(source), labels: None })
    }

    /// Parses `NAME=label,label`.
    ///
    /// # Errors
    /// The text says what was expected.
    pub fn parse_labels(text: &str) -> Result<(String, Vec<String>), String> {
        let (name, labels) = text.split_once('=').ok_or("expected NAME=label,label")?;
        let labels: Vec<String> = labels.split(',').map(|label| label.trim().to_owned()).collect();
        model::check_labels(&labels)?;
        Ok((name.to_owned(), labels))
    }
}

impl ClassifierSource {
    fn parse(text: &str) -> Self {
        if Path::new(text).is_file() && !text.ends_with(".onnx") {
            return Self::Head(text.into());
        }
        Self::Model(model::Options::at(text, model::Kind::Classifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> (String, Option<String>, Option<String>) {
        match Spec::parse(text).unwrap().source {
            ClassifierSource::Model(model::Options {
                source, revision, kind: model::Kind::Classifier(file), ..
            }) => (source, revision, file),
            other => panic!("{other:?}"),
        }
    }

    fn parts(source: &str, revision: Option<&str>, file: Option<&str>) -> (String, Option<String>, Option<String>) {
        (source.to_owned(), revision.map(str::to_owned), file.map(str::to_owned))
    }

    #[test]
    fn a_file_on_disk_decides_the_kind_of_source() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().display().to_string();
        std::fs::write(directory.path().join("head.json"), "{}").unwrap();
        std::fs::write(directory.path().join("m.onnx"), "").unwrap();
        let head = format!("{folder}/head.json");
        assert_eq!(Spec::parse(&format!("a={head}")).unwrap().source, ClassifierSource::Head(head.into()));
        assert_eq!(source(&format!("a={folder}/m.onnx")), parts(&folder, None, Some("m.onnx")));
    }

    #[test]
    fn the_built_in_classifier_needs_no_place() {
        assert_eq!(Spec::parse("sentiment").unwrap().source, ClassifierSource::BuiltIn);
    }

    #[test]
    fn mistakes_are_explained() {
        for wrong in ["tickets", "a=", "=b"] {
            assert!(Spec::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Spec::parse("a b=c").unwrap_err().contains("is not a name"));
        assert_eq!(Spec::parse_labels("a=x, y"), Ok(("a".to_owned(), vec!["x".to_owned(), "y".to_owned()])));
        assert!(Spec::parse_labels("a=x,x").unwrap_err().contains("twice"));
        assert!(Spec::parse_labels("x,y").is_err());
    }
}
