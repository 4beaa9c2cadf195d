//! Space: free bytes of the file system, and bytes of the file.

use std::io;
use std::path::Path;

/// Allocated bytes of a file. Less than its length where it has holes: redb grows its file by doubling, and parts
/// that were never written take no space.
pub(super) fn allocated(file: &Path) -> io::Result<u64> {
    let metadata = std::fs::metadata(file)?;
    #[cfg(unix)]
    let bytes = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512; // stat(2): always in units of 512 bytes
    #[cfg(not(unix))]
    let bytes = metadata.len();
    Ok(bytes)
}

/// Bytes of the file system of `path` that this user may still take.
#[cfg(unix)]
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Unknown on this system: the reserve is not kept, and a full disk stops the writes.
#[cfg(not(unix))]
pub(super) fn free(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Bytes of these records on disk when packed: keys, lengths and inner pages add 5 %, the last page of a small
/// table some more.
pub(super) fn packed(record_bytes: u64) -> u64 {
    record_bytes + record_bytes / 16 + 64 * 1024
}

/// Estimate of the bytes inside a file that new records can use. Removals leave pages partly filled, which redb
/// joins only if they are nearly empty. So half as much again counts as occupied.
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
