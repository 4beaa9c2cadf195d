//! Files as memory: the system reads what is touched, and forgets it where memory is short.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// The bytes of a file, at an address that is a multiple of a page.
pub struct Mapping(Mmap);

impl Mapping {
    /// All of a file, which nobody may change or shorten as long as this lives: readers would see it change, or be
    /// stopped by the system. So it is for files that are complete before they get their name, in a directory that
    /// belongs to this process.
    pub fn of(file: &File) -> io::Result<Mapping> {
        // SAFETY: only read through shared slices; that it does not change is what the caller keeps to.
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
