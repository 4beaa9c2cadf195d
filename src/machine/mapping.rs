//! Files mapped into memory: the system reads the pages that are used, and drops them when memory is short.
//!
//! A mapping is sound only while nobody changes or shortens its file. Readers would see the change, or the system would
//! stop the process (SIGBUS). So [`Mapping::open`] maps only a file that other users cannot write, and reads any other
//! file into memory. It cannot exclude this user's own programs. They do not write there: one process uses a data
//! directory at a time, under a lock, and never writes again to a file that has its final name. The bytes of a deleted
//! file stay until its last mapping is dropped.

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Mmap, MmapMut};
use stable_deref_trait::StableDeref;

use super::files;

/// The bytes of a file, at an address that is a multiple of a page.
pub struct Mapping {
    bytes: Mmap,
    /// False if the bytes are a copy in memory.
    is_file: bool,
}

impl Mapping {
    /// Opens a regular file, never through a symbolic link, and maps all of it. A file that other users can write is
    /// read into memory instead. If the disk cannot read a mapped page later, the system stops the process.
    pub fn open(path: &Path) -> io::Result<Mapping> {
        let file = files::open_to_read(path)?;
        if files::exposure_of_file(&file)?.is_some() {
            return Ok(Mapping { bytes: in_memory(file)?, is_file: false });
        }
        // SAFETY: the type gives only shared slices. Other users cannot write the file, and this user's programs do not
        // (see the top of this file).
        let bytes = unsafe { Mmap::map(&file) }?;
        Ok(Mapping { bytes, is_file: true })
    }

    /// Returns whether the bytes are those of the file, and not a copy in memory.
    pub fn is_file(&self) -> bool {
        self.is_file
    }

    /// Takes the pages of a part of the file out of this process's resident memory. The next use of a page brings it
    /// back from the system's cache, or from the disk if memory was short. Does nothing where the system cannot do it.
    pub fn release(&self, part: Range<usize>) {
        if !self.is_file || part.is_empty() {
            return;
        }
        #[cfg(unix)]
        {
            debug_assert!(part.end <= self.len(), "{part:?} of {}", self.len());
            // SAFETY: nobody changes the file (see the top of this file), so a page has the same bytes when it is read
            // again, and slices of it stay valid. A copy in memory, whose bytes would be lost, was left alone above.
            let released = unsafe {
                self.bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, part.start, part.len())
            };
            if let Err(error) = released {
                tracing::debug!(%error, "pages of a file stay in memory");
            }
        }
    }
}

// SAFETY: the bytes are mapped, and stay where they are when the value that owns the mapping moves.
unsafe impl StableDeref for Mapping {}

/// Reads a file into memory of its own.
fn in_memory(mut file: File) -> io::Result<Mmap> {
    let bytes = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut memory = MmapMut::map_anon(bytes)?;
    file.read_exact(&mut memory)?;
    memory.make_read_only()
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, OpenOptions, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_others_can_write_keeps_its_bytes_in_memory_when_it_changes_and_shrinks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for mode in [0o660, 0o606, 0o666] {
            fs::write(&path, "some bytes").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let mapping = Mapping::open(&path).unwrap();
            fs::write(&path, "other").unwrap();
            assert_eq!(&*mapping, b"some bytes", "{mode:o}");
            OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
            assert_eq!(&*mapping, b"some bytes", "{mode:o}");
            assert!(Mapping::open(&path).unwrap().is_empty());
        }
    }

    /// Bytes of a mapping that are resident, as the system says.
    #[cfg(target_os = "linux")]
    fn resident(mapping: &Mapping) -> u64 {
        let start = format!("{:x}-", mapping.as_ptr() as usize);
        let of_all = fs::read_to_string("/proc/self/smaps").unwrap();
        let own = of_all.lines().skip_while(|line| !line.starts_with(&start));
        let line = own.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1_024
    }

    #[test]
    fn pages_that_were_released_are_not_resident_and_have_the_same_bytes_when_they_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        for mode in [0o600, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let mapping = Mapping::open(&path).unwrap();
            assert!(*mapping == *bytes);
            mapping.release(5_000..1 << 20);
            #[cfg(target_os = "linux")]
            assert!(mode != 0o600 || resident(&mapping) < 1 << 17);
            assert!(*mapping == *bytes);
        }
    }

    #[test]
    fn a_private_file_is_read_and_stays_after_its_deletion_and_a_link_to_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, "some bytes").unwrap();
        symlink(&path, &link).unwrap();
        for mode in [0o600, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(&*Mapping::open(&path).unwrap(), b"some bytes", "{mode:o}");
        }
        assert_eq!(Mapping::open(&link).err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput));
        let mapping = Mapping::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(&*mapping, b"some bytes");
    }
}
