//! Files as memory: the system reads what is touched, and forgets it where memory is short.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// The bytes of a file, at an address that is a multiple of a page.
pub struct Mapping(Mmap);

impl Mapping {
    /// All of a file. The caller sees to it that nobody changes or shortens the file as long as this lives: readers would see it
    /// change, or be stopped by the system (SIGBUS), as they are by a disk that cannot read it back. The one caller, `index/file.rs`,
    /// maps files of our own data directory, which one process uses at a time and holds a lock on; a file there is complete and
    /// synced before it gets its name, is never written again, and its bytes stay after it is deleted until the last mapping goes.
    pub fn of(file: &File) -> io::Result<Mapping> {
        // SAFETY: only read through shared slices, by the type; that the bytes do not change is the caller's part, kept as said.
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
