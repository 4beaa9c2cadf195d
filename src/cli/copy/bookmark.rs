//! Bookmarks: the progress of a copy on disk, for the next attempt.
//!
//! A bookmark says that every document of the first pages is stored at the destination. Pages are in the order of ids,
//! so what comes behind a page does not depend on the documents in it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::new_file::NewFile;
use super::args::Args;

/// Interval of writing during a copy. Pages since the last write are copied again.
const PERIOD: Duration = Duration::from_secs(1);

/// The end of the last page that is stored as a whole; at the beginning all is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The token of the page behind it.
    pub(super) page_token: String,
    /// The id of the last stored document, by which the copy is recognised.
    pub(super) last_id: String,
    /// Documents that were copied until there.
    pub(super) copied: u64,
}

/// The bookmark of one copy. Its name follows from both ends.
#[derive(Debug)]
pub(super) struct Bookmark {
    path: PathBuf,
    /// The copy, for people who look at the file.
    ends: [String; 4],
    written: Instant,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    ends: [String; 4],
    #[serde(flatten)]
    position: Position,
}

impl Bookmark {
    /// Opens the bookmark of a copy in `directory`, which is created if necessary.
    pub(super) fn of(args: &Args, directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let ends = [&*args.from, &*args.collection, &*args.to, args.name()].map(str::to_owned);
        let name: String =
            Sha256::digest(serde_json::to_vec(&ends)?).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: directory.join(format!("{name}.json")), ends, written: Instant::now() })
    }

    /// Returns the position of an earlier attempt.
    pub(super) fn find(&self) -> anyhow::Result<Option<Position>> {
        let stored = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            stored => stored.with_context(|| format!("cannot read {}", self.path.display()))?,
        };
        let stored: Stored = serde_json::from_slice(&stored)
            .with_context(|| format!("{} is no bookmark of a copy: remove it to begin again", self.path.display()))?;
        Ok(Some(stored.position))
    }

    /// Writes the bookmark if the last time was a while ago.
    pub(super) fn keep_if_due(&mut self, position: &Position) -> anyhow::Result<()> {
        if self.written.elapsed() >= PERIOD {
            self.keep(position)?;
        }
        Ok(())
    }

    /// Writes the bookmark.
    pub(super) fn keep(&mut self, position: &Position) -> anyhow::Result<()> {
        self.written = Instant::now();
        let mut file = NewFile::create(&self.path)?;
        serde_json::to_writer(&mut file, &Stored { ends: self.ends.clone(), position: position.clone() })?;
        file.flush()?;
        file.finish()
    }

    /// Removes the bookmark of a complete copy, or of one that begins again.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}
