//! SHA-256 of files and bytes, in hex.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::CardError;

/// Bytes read at a time: enough for the full speed of a disk, and small beside a model.
const CHUNK_BYTES: usize = 1 << 20;

/// Computes the SHA-256 of files in hex: of a single file, or of the shards' digests in the given order.
pub(super) fn of_files(files: &[PathBuf]) -> Result<String, CardError> {
    if let [whole] = files {
        return of_file(whole);
    }
    let mut hash = Sha256::new();
    for shard in files {
        hash.update(of_file(shard)?);
    }
    Ok(hex(&hash.finalize()))
}

/// Computes the SHA-256 of a file in hex.
pub(super) fn of_file(path: &Path) -> Result<String, CardError> {
    read(path).map_err(|source| CardError::Unreadable { path: path.to_owned(), source })
}

/// Computes the SHA-256 of bytes in hex.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes what is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_as_sha256sum_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_file(&path).unwrap(), known);
        assert_eq!(of_files(&[path]).unwrap(), known);
    }

    #[test]
    fn the_order_of_shards_counts() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        });
        assert_ne!(of_files(&[a.clone(), b.clone()]).unwrap(), of_files(&[b, a]).unwrap());
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = of_file(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("no/such/file cannot be read"), "{error}");
    }
}
