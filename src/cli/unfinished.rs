//! Files that are not complete yet, under temporary names beside their destinations.
//!
//! Invariant: an unfinished file is removed when it is dropped, and by a signal. No file is begun or renamed while a
//! signal removes them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

/// Files that a signal must remove.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes all unfinished files, at the end of the process.
pub fn remove_all() {
    // Stays locked: no file may be begun or renamed any more.
    let unfinished = std::mem::ManuallyDrop::new(UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner));
    for partial in unfinished.iter() {
        let _ = fs::remove_file(partial);
    }
}

/// A file under its temporary name. Dropped, it is removed unless it was renamed.
#[derive(Debug)]
pub struct UnfinishedFile {
    /// The final name.
    pub destination: PathBuf,
    /// The temporary name.
    pub partial: PathBuf,
    finished: bool,
}

impl UnfinishedFile {
    /// Creates a file beside `destination`. It is readable by its owner alone if it is private, or if it replaces
    /// another, whose mode it gets later.
    pub fn begin(destination: PathBuf, is_private: bool) -> anyhow::Result<(File, Self)> {
        let mut options = File::options();
        // `create_new`, so that two commands with the same file do not write into each other, and no link is followed.
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        if is_private || destination.exists() {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        for n in 0.. {
            let suffix = if n == 0 { String::new() } else { format!("-{n}") };
            let partial = destination.with_added_extension(format!("{}{suffix}.partial", std::process::id()));
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            match options.open(&partial) {
                Ok(file) => {
                    unfinished.push(partial.clone());
                    // From here on the file is removed unless it is finished.
                    return Ok((file, Self { destination, partial, finished: false }));
                }
                // The name belongs to a killed process with our id, or to another file of ours.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && n < 100 => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot make {} (a file is written beside its destination first)", partial.display())
                    });
                }
            }
        }
        unreachable!("the last of the hundred tries returned")
    }

    /// Renames the file to its final name. An existing file is replaced.
    pub fn rename(&mut self) -> io::Result<()> {
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(&self.partial, &self.destination)?;
        unfinished.retain(|partial| *partial != self.partial);
        self.finished = true;
        Ok(())
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.finished {
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            // Its name marks it as partial, in case it cannot be removed.
            let _ = fs::remove_file(&self.partial);
            unfinished.retain(|partial| *partial != self.partial);
        }
    }
}
