//! Room on the file system, and how much of it the file takes.

use std::io;
use std::path::Path;

/// Bytes that a file takes. Less than its length where it has holes: redb grows its file by
/// doubling, and what was never written takes nothing.
pub(super) fn allocated(file: &Path) -> io::Result<u64> {
    let metadata = std::fs::metadata(file)?;
    #[cfg(unix)]
    let bytes = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512; // stat(2): blocks of 512 bytes, whatever the file system's are
    #[cfg(not(unix))]
    let bytes = metadata.len();
    Ok(bytes)
}

/// Bytes that the file system of `path` has left for us.
#[cfg(unix)]
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Not known here: the reserve is not kept, and a full disk stops the writes.
#[cfg(not(unix))]
pub(super) fn free(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// What records of so many bytes take on disk when they are packed: keys, lengths and branches add
/// 5 %, the last page of a small table some more.
pub(super) fn packed(record_bytes: u64) -> u64 {
    record_bytes + record_bytes / 16 + 64 * 1024
}

/// Bytes inside a file that new records can take, by estimate. Removals leave pages partly filled,
/// which redb joins only where they are nearly empty: half as much again is taken for occupied.
pub(super) fn reusable(allocated: u64, record_bytes: u64) -> u64 {
    allocated.saturating_sub(packed(record_bytes) / 2 * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_no_space() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        assert!(allocated(file.path()).unwrap() < 1 << 20);
    }

    #[test]
    fn the_file_system_says_what_is_left() {
        assert!(free(Path::new(".")).unwrap() > 0);
        assert!(free(Path::new("/does/not/exist")).is_err());
    }
}
