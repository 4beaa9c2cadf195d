//! The files of a model on disk, and the faults of a file that exists.
//!
//! A download is interrupted, `git clone` without Git LFS leaves pointers of three lines, and a failed copy leaves an
//! empty file. Each of these would fail in a parser with the parser's message. Here the error names the file and says
//! what to do. Invariant: this module returns only the content of regular files that are neither empty nor a pointer.
//! Parsing is left to the caller.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::CardError;

/// The first bytes of a Git LFS pointer, by its specification.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Checks that `path` can be read as a file of a model. `hint` ends the error for a missing file.
pub(super) fn require(path: &Path, hint: &'static str) -> Result<(), CardError> {
    open(path)?.map(drop).ok_or_else(|| CardError::Missing { path: path.to_owned(), hint })
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CardError> {
    read_if_present(path)?.ok_or_else(|| CardError::Missing { path: path.to_owned(), hint: "" })
}

/// Reads a whole file that not every model has.
fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, CardError> {
    let Some((beginning, mut file)) = open(path)? else { return Ok(None) };
    let mut bytes = beginning;
    file.read_to_end(&mut bytes).map_err(|source| CardError::Unreadable { path: path.to_owned(), source })?;
    Ok(Some(bytes))
}

/// Reads a JSON file. Fields that `T` does not have are skipped.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CardError> {
    parse(path, &read(path)?)
}

/// Reads a JSON file that not every model has.
pub(super) fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CardError> {
    read_if_present(path)?.map(|text| parse(path, &text)).transpose()
}

/// Reads a file of text that not every model has.
pub(super) fn read_text_if_present(path: &Path) -> Result<Option<String>, CardError> {
    let text = |bytes| String::from_utf8(bytes).map_err(|error| CardError::malformed(path, error.to_string()));
    read_if_present(path)?.map(text).transpose()
}

/// Parses JSON that was read from `path`.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, CardError> {
    serde_json::from_slice(text).map_err(|error| CardError::malformed(path, error.to_string()))
}

/// Opens a file and checks its first bytes. Returns them with the file, which is at their end; `None` without a file.
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
