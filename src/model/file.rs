//! A model's files as they are on disk, and what is wrong with one that is there and is not what it should be.
//!
//! Downloads break off, `git clone` without Git LFS leaves pointers of three lines, and copies leave empty files.
//! Each of these would fail somewhere in a parser, with the parser's words. Here each is told by the file's name and
//! with what to do. Invariant: whatever this module hands out is the content of a regular file that is neither empty
//! nor a pointer. What the content means is left to its reader.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::CardError;

/// The first bytes of a Git LFS pointer, by its specification.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Says whether `path` can be read as a file of a model. `hint` ends the message where it is missing.
pub(super) fn require(path: &Path, hint: &'static str) -> Result<(), CardError> {
    open(path)?.map(drop).ok_or_else(|| CardError::Missing { path: path.to_owned(), hint })
}

/// The whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CardError> {
    read_if_present(path)?.ok_or_else(|| CardError::Missing { path: path.to_owned(), hint: "" })
}

/// The same for a file that not every model has.
fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, CardError> {
    let Some((beginning, mut file)) = open(path)? else { return Ok(None) };
    let mut bytes = beginning;
    file.read_to_end(&mut bytes).map_err(|source| CardError::Unreadable { path: path.to_owned(), source })?;
    Ok(Some(bytes))
}

/// Reads a JSON file; fields that `T` does not have are passed over.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CardError> {
    parse(path, &read(path)?)
}

/// The same for a file that not every model has.
pub(super) fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CardError> {
    read_if_present(path)?.map(|text| parse(path, &text)).transpose()
}

/// Reads JSON that came from `path`.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, CardError> {
    serde_json::from_slice(text)
        .map_err(|error| CardError::Malformed { path: path.to_owned(), problem: error.to_string() })
}

/// The beginning of a file and the file behind it; none where there is no file.
fn open(path: &Path) -> Result<Option<(Vec<u8>, File)>, CardError> {
    let unreadable = |source| CardError::Unreadable { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(source) => return Err(unreadable(source)),
    };
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(CardError::Directory { path: path.to_owned() });
    }
    let mut beginning = Vec::new();
    file.by_ref().take(POINTER.len() as u64).read_to_end(&mut beginning).map_err(unreadable)?;
    match beginning.as_slice() {
        [] => Err(CardError::Empty { path: path.to_owned() }),
        POINTER => Err(CardError::Pointer { path: path.to_owned() }),
        _ => Ok(Some((beginning, file))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(content: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        std::fs::write(&path, content).unwrap();
        require(&path, "").map_err(|error| error.to_string()).expect_err("it is no file of a model")
    }

    #[test]
    fn a_pointer_an_empty_file_and_a_directory_are_named_with_what_to_do() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n";
        let error = reason(pointer);
        assert!(error.contains("model.safetensors is a Git LFS pointer") && error.contains("git lfs pull"), "{error}");
        assert!(reason("").contains("model.safetensors is empty"));
        let directory = tempfile::tempdir().unwrap();
        let error = require(directory.path(), "").unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }

    #[test]
    fn a_file_is_read_from_its_first_byte_and_a_missing_one_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let long = format!("{:?}", "version https://git-lfs.github.com/spec/".repeat(3));
        std::fs::write(&path, &long).unwrap();
        assert_eq!(read(&path).unwrap(), long.as_bytes());
        std::fs::write(&path, "1").unwrap();
        assert_eq!(read_json::<u8>(&path).unwrap(), 1);
        assert_eq!(read_json_if_present::<u8>(&directory.path().join("other.json")).unwrap(), None);
        assert!(matches!(require(&path.join("below"), ""), Err(CardError::Missing { .. })));
    }
}
