//! The f32 rows of a segment's file, shared by all their readers. The last reader of an obsolete file deletes it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::machine::mapping::Mapping;

/// The f32 rows of a file.
pub(super) struct StoredRows {
    file: Arc<Mapping>,
    path: PathBuf,
    /// The byte at which the first row begins.
    from: usize,
    dimensions: usize,
    /// True if the next start does not need the file.
    is_obsolete: AtomicBool,
}

impl StoredRows {
    /// The rows of `file`, which is at `path`, from byte `from` to its end.
    pub(super) fn new(file: Arc<Mapping>, path: PathBuf, from: usize, dimensions: usize) -> StoredRows {
        StoredRows { file, path, from, dimensions, is_obsolete: AtomicBool::new(false) }
    }

    #[inline]
    pub(super) fn row(&self, number: usize) -> &[f32] {
        let bytes = self.dimensions * size_of::<f32>();
        bytemuck::cast_slice(&self.file[self.from + number * bytes..][..bytes])
    }

    pub(super) fn file_bytes(&self) -> usize {
        self.file.len()
    }

    /// Takes the rows out of this process's resident memory until they are used.
    pub(super) fn release(&self) {
        self.file.release(self.from..self.file.len());
    }

    /// Lets the last reader delete the file.
    pub(super) fn make_obsolete(&self) {
        self.is_obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for StoredRows {
    fn drop(&mut self) {
        if *self.is_obsolete.get_mut() {
            // If the file cannot be deleted, the next start finds it useless and deletes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
