//! One process for a data directory.
//!
//! redb locks its file too. This lock also covers the moments when there is no such file or a new one
//! takes its place, and it can say who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::files;

pub(super) const NAME: &str = "lock";

/// The longest content of a lock: the number of a process and a line feed.
const LONGEST: u64 = 16;

/// How long a lock is waited for. Its holder may be gone already: the memory of a large process is
/// freed before its files are closed, and a process that is being started has copies of its parent's
/// files until it is what it will be.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// The directory is ours while this lives. The system releases it with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Why the directory is not ours.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it, with this number if it could be read.
    Held(Option<u32>),
    /// The file is no lock: its content is not the number of a process.
    NotOurs,
    Io(io::Error),
}

impl Lock {
    /// Takes the directory, or says who has it.
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
                    // Who holds it is for the message only: not to know is no failure.
                    let _ = file.read_to_string(&mut holder);
                    return Err(LockError::Held(holder.trim().parse().ok()));
                }
            }
        }
        // A file of somebody else, by a hard link or by mistake, is not overwritten.
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
