//! Files mapped into memory: the system reads the pages that are used, and drops them when memory is short.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// The bytes of a file, at an address that is a multiple of a page.
pub struct Mapping(Mmap);

impl Mapping {
    /// Maps all of a file. The caller guarantees that nobody changes or shortens the file while the mapping lives.
    /// Otherwise readers would see the change, or the system would stop them (SIGBUS), as it does if the disk cannot
    /// read a page. The only caller, `index/file.rs`, maps files of our own data directory, which one process uses at a
    /// time under a lock. A file there is complete and synced before it gets its name, and is never written again. Its
    /// bytes stay after its deletion until the last mapping is dropped.
    pub fn of(file: &File) -> io::Result<Mapping> {
        // SAFETY: the type gives only shared slices, and the caller guarantees that the bytes do not change.
        unsafe { Mmap::map(file) }.map(Mapping)
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
