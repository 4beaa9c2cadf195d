//! The files of one segment, as tantivy reads and writes them: private, in a directory of their own, and mapped.
//!
//! tantivy's own directory would make files by the process's mask and would lock and watch them. Here a segment is
//! written once by one thread, and nothing changes afterwards.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, OwnedBytes, TerminatingWrite, WatchCallback, WatchHandle, WritePtr,
};

use crate::machine::files;
use crate::machine::mapping::Mapping;

/// A directory with the files of one segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentDirectory(PathBuf);

impl SegmentDirectory {
    /// The files in a directory, which exists.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn path(&self, name: &Path) -> PathBuf {
        self.0.join(name)
    }
}

impl Directory for SegmentDirectory {
    fn get_file_handle(&self, name: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let mapping = Mapping::open(&self.path(name)).map_err(|error| unreadable(error, name))?;
        Ok(Arc::new(OwnedBytes::new(mapping)))
    }

    fn delete(&self, name: &Path) -> Result<(), DeleteError> {
        fs::remove_file(self.path(name))
            .map_err(|error| DeleteError::IoError { io_error: Arc::new(error), filepath: name.to_owned() })
    }

    fn exists(&self, name: &Path) -> Result<bool, OpenReadError> {
        self.path(name).try_exists().map_err(|error| unreadable(error, name))
    }

    fn open_write(&self, name: &Path) -> Result<WritePtr, OpenWriteError> {
        match files::create_private(&self.path(name)) {
            Ok(file) => Ok(BufWriter::new(Box::new(NewFile(file)))),
            Err(error) => Err(OpenWriteError::wrap_io_error(error, name.to_owned())),
        }
    }

    fn atomic_read(&self, name: &Path) -> Result<Vec<u8>, OpenReadError> {
        let mapping = Mapping::open(&self.path(name)).map_err(|error| unreadable(error, name))?;
        Ok(mapping.to_vec())
    }

    /// Writes a file anew. It need not be atomic: the directory gets its final name when all its files are complete.
    fn atomic_write(&self, name: &Path, data: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => files::create_private(&path)?.write_all(data),
        }
    }

    /// Does nothing: all files are synced when the segment is complete.
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    /// No lock is needed: one thread writes, and nobody reads before it has ended.
    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

fn unreadable(error: io::Error, name: &Path) -> OpenReadError {
    if error.kind() == io::ErrorKind::NotFound {
        return OpenReadError::FileDoesNotExist(name.to_owned());
    }
    OpenReadError::wrap_io_error(error, name.to_owned())
}

/// A file that is being written.
struct NewFile(File);

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TerminatingWrite for NewFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.flush()
    }
}
