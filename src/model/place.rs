//! The options that name a model to serve: `NAME=PLACE`.
//!
//! ```text
//! NAME=DIRECTORY[#file.onnx]               a model in a directory
//! NAME=owner/name[@revision][#file.onnx]   the same from the hub
//! ```
//! An existing path wins over a hub id of the same spelling.

use std::path::Path;

use super::cache::is_hub_id;
use super::layout::Kind;
use super::options::Options;

/// Splits `NAME=PLACE`. `None`: a part is missing.
///
/// # Errors
/// The text names the characters of a name.
pub fn split_named(text: &str) -> Result<Option<(&str, &str)>, String> {
    let Some((name, place)) = text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty()) else {
        return Ok(None);
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(allowed) {
        return Err(format!("{name:?} is not a name; use letters, digits, `-`, `_` and `.`"));
    }
    Ok(Some((name, place)))
}

impl Options {
    /// Parses a place. `kind` makes the purpose of the model from the file after `#`, if there is one.
    pub fn at(place: &str, kind: fn(Option<String>) -> Kind) -> Self {
        let model = |source: &str, revision: Option<&str>, file: Option<&str>| Self {
            source: source.to_owned(),
            revision: revision.map(str::to_owned),
            offline: false,
            kind: kind(file.map(str::to_owned)),
        };
        let (place, file) = match place.rsplit_once('#') {
            Some((before, file)) if !Path::new(place).exists() => (before, Some(file)),
            _ => (place, None),
        };
        if let (None, Some((folder, file))) = (file, graph_in_a_folder(place)) {
            return model(folder, None, Some(file));
        }
        match place.rsplit_once('@') {
            Some((id, revision)) if !Path::new(place).exists() && is_hub_id(id) => model(id, Some(revision), file),
            _ => model(place, None, file),
        }
    }
}

/// Splits the path of a graph, `DIR/file.onnx`.
fn graph_in_a_folder(place: &str) -> Option<(&str, &str)> {
    let path = Path::new(place);
    let is_graph = path.extension().is_some_and(|extension| extension == "onnx") && path.is_file();
    let (folder, file) = (path.parent()?.to_str()?, path.file_name()?.to_str()?);
    is_graph.then_some((if folder.is_empty() { "." } else { folder }, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(place: &str) -> (String, Option<String>, Option<String>) {
        match Options::at(place, Kind::Reranker) {
            Options { source, revision, kind: Kind::Reranker(file), .. } => (source, revision, file),
            other => panic!("{other:?}"),
        }
    }

    fn expected(source: &str, revision: Option<&str>, file: Option<&str>) -> (String, Option<String>, Option<String>) {
        (source.to_owned(), revision.map(str::to_owned), file.map(str::to_owned))
    }

    #[test]
    fn a_place_is_read_with_its_revision_and_its_file() {
        assert_eq!(parts("owner/name"), expected("owner/name", None, None));
        assert_eq!(parts("owner/name@v1#onnx/m.onnx"), expected("owner/name", Some("v1"), Some("onnx/m.onnx")));
        assert_eq!(parts("./x@y/dir#m.onnx"), expected("./x@y/dir", None, Some("m.onnx")));
    }

    #[test]
    fn the_path_of_a_graph_is_its_folder_and_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().display().to_string();
        std::fs::write(directory.path().join("m.onnx"), "").unwrap();
        assert_eq!(parts(&format!("{folder}/m.onnx")), expected(&folder, None, Some("m.onnx")));
    }

    #[test]
    fn a_name_is_needed_and_its_characters_are_checked() {
        assert_eq!(split_named("a.b-c=x=y"), Ok(Some(("a.b-c", "x=y"))));
        for incomplete in ["tickets", "a=", "=b", ""] {
            assert_eq!(split_named(incomplete), Ok(None), "{incomplete}");
        }
        assert!(split_named("a b=c").unwrap_err().contains("is not a name"));
    }
}
