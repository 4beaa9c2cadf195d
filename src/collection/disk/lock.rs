//! The lock that gives a data directory to one process.
//!
//! redb locks its file too. This lock also covers the moments when that file is missing or being replaced, and it
//! names the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::files;

pub(super) const NAME: &str = "lock";

/// Most bytes of a lock file: a process id and a line feed.
const LONGEST: u64 = 16;

/// Time to wait for the lock. Its holder may be gone already: the memory of a large process is freed before its
/// files are closed, and a starting child process has copies of its parent's files until it executes its program.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Interval of attempts.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// The lock on a directory. The system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Reasons why the directory cannot be locked.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it, with this id if it could be read.
    Held(Option<u32>),
    /// The file is not a lock: its content is not a process id.
    NotOurs,
    Io(io::Error),
}

impl Lock {
    /// Locks the directory.
    pub(super) fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = files::open(&path, &options).map_err(LockError::Io)?;
        let start = Instant::now();
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(error) => return Err(LockError::Io(error)),
                TryLockError::WouldBlock if start.elapsed() < PATIENCE => std::thread::sleep(RETRY),
                TryLockError::WouldBlock => {
                    let mut holder = String::new();
                    // The holder is only for the message, so failing to read it is no error.
                    let _ = file.read_to_string(&mut holder);
                    return Err(LockError::Held(holder.trim().parse().ok()));
                }
            }
        }
        // Another file in this place, by a hard link or by mistake, must not be overwritten.
        let mut content = String::new();
        let is_ours = (&file).take(LONGEST + 1).read_to_string(&mut content).is_ok()
            && content.len() as u64 <= LONGEST
            && content.chars().all(|c| c.is_ascii_digit() || c.is_ascii_whitespace());
        if !is_ours {
            return Err(LockError::NotOurs);
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }
}
