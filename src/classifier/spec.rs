//! `--classifier`: how a classifier is named on the command line, and where it comes from.
//!
//! ```text
//! sentiment                                the one within this binary
//! NAME=DIRECTORY[#file.onnx]               an exported model: graph, tokenizer.json, config.json
//! NAME=owner/name[@revision][#file.onnx]   the same from the hub
//! NAME=head.json                           a head on the embedding, made by `cognate train-head`
//! ```

use std::path::{Path, PathBuf};

use crate::model;

/// The classifier within this binary.
pub const BUILT_IN: &str = "sentiment";

/// A classifier that shall be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What requests call it.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Its labels by hand, whatever its configuration says.
    pub labels: Option<Vec<String>>,
}

/// Where a classifier comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This binary.
    BuiltIn,
    /// A head on the embedding.
    Head(PathBuf),
    /// A directory or the hub.
    Model(model::Options),
}

impl Spec {
    /// Reads one. A path that is there wins over a hub id of the same spelling.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == BUILT_IN {
            return Ok(Self { name: BUILT_IN.to_owned(), source: Source::BuiltIn, labels: None });
        }
        let (name, source) = text.split_once('=').filter(|(_, source)| !source.is_empty()).ok_or_else(|| {
            format!(
                "expected {BUILT_IN}, none, or NAME=PLACE, where PLACE is a directory, a hub id or a file of train-head"
            )
        })?;
        check_name(name)?;
        Ok(Self { name: name.to_owned(), source: Source::parse(source), labels: None })
    }

    /// Reads `NAME=label,label`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse_labels(text: &str) -> Result<(String, Vec<String>), String> {
        let (name, labels) = text.split_once('=').ok_or("expected NAME=label,label")?;
        let labels: Vec<String> = labels.split(',').map(|label| label.trim().to_owned()).collect();
        model::check_labels(&labels)?;
        Ok((name.to_owned(), labels))
    }
}

impl Source {
    fn parse(text: &str) -> Self {
        if Path::new(text).is_file() && !text.ends_with(".onnx") {
            return Self::Head(text.into());
        }
        let (place, file) = match text.rsplit_once('#') {
            Some((place, file)) if !Path::new(text).exists() => (place, Some(file.to_owned())),
            _ => (text, None),
        };
        if let (None, Some((folder, file))) = (&file, graph_in_a_folder(place)) {
            return Self::model(folder, None, Some(file));
        }
        match place.rsplit_once('@') {
            Some((id, revision)) if !Path::new(place).exists() && model::is_hub_id(id) => {
                Self::model(id, Some(revision.to_owned()), file)
            }
            _ => Self::model(place, None, file),
        }
    }

    fn model(source: &str, revision: Option<String>, file: Option<String>) -> Self {
        let kind = model::Kind::Classifier(file);
        Self::Model(model::Options { source: source.to_owned(), revision, offline: false, kind })
    }
}

/// `DIR/file.onnx`, the path of a graph itself.
fn graph_in_a_folder(place: &str) -> Option<(&str, String)> {
    let path = Path::new(place);
    let is_graph = path.extension().is_some_and(|extension| extension == "onnx") && path.is_file();
    let (folder, file) = (path.parent()?.to_str()?, path.file_name()?.to_str()?);
    is_graph.then(|| (if folder.is_empty() { "." } else { folder }, file.to_owned()))
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!("{name:?} is not a name: letters, digits, `-`, `_` and `.` are allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> (String, Option<String>, Option<String>) {
        match Spec::parse(text).unwrap().source {
            Source::Model(model::Options { source, revision, kind: model::Kind::Classifier(file), .. }) => {
                (source, revision, file)
            }
            other => panic!("{other:?}"),
        }
    }

    fn parts(source: &str, revision: Option<&str>, file: Option<&str>) -> (String, Option<String>, Option<String>) {
        (source.to_owned(), revision.map(str::to_owned), file.map(str::to_owned))
    }

    #[test]
    fn a_place_is_read_with_its_revision_and_its_file() {
        assert_eq!(source("a=owner/name"), parts("owner/name", None, None));
        assert_eq!(source("a=owner/name@v1#onnx/m.onnx"), parts("owner/name", Some("v1"), Some("onnx/m.onnx")));
        assert_eq!(source("a=./x@y/dir#m.onnx"), parts("./x@y/dir", None, Some("m.onnx")));
    }

    #[test]
    fn what_is_on_disk_is_told_by_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().display().to_string();
        std::fs::write(directory.path().join("head.json"), "{}").unwrap();
        std::fs::write(directory.path().join("m.onnx"), "").unwrap();
        let head = format!("{folder}/head.json");
        assert_eq!(Spec::parse(&format!("a={head}")).unwrap().source, Source::Head(head.into()));
        assert_eq!(source(&format!("a={folder}/m.onnx")), parts(&folder, None, Some("m.onnx")));
    }

    #[test]
    fn the_one_within_the_binary_needs_no_place() {
        assert_eq!(Spec::parse("sentiment").unwrap().source, Source::BuiltIn);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for wrong in ["tickets", "a=", "=b"] {
            assert!(Spec::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Spec::parse("a b=c").unwrap_err().contains("is not a name"));
        assert_eq!(Spec::parse_labels("a=x, y"), Ok(("a".to_owned(), vec!["x".to_owned(), "y".to_owned()])));
        assert!(Spec::parse_labels("a=x,x").unwrap_err().contains("twice"));
        assert!(Spec::parse_labels("x,y").is_err());
    }
}
