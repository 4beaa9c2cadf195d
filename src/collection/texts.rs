//! Texts that are on disk: they are read when documents are returned.
//!
//! A reader finds documents in memory, and their texts on disk afterwards. A row may be gone by then: the document was
//! replaced or removed, or a commit is on disk and not in memory yet. The reader then waits until the commit is in
//! memory too, and begins again. After [`ATTEMPTS`] it lets no commit begin before it has finished.
//!
//! Invariants: a text belongs to the version of the document that was found. No lock of the documents is held while the
//! disk is read. The number of bytes that are read at one time is bounded by the callers, who know it before.

use std::sync::Arc;

use super::commit_queue::OnDisk;
use super::disk::{ReadError, Reader, RowsOf};
use super::document::{Kept, KeptText};
use super::single::Collection;
use crate::compute::stop::Stopped;

/// Attempts that commits may spoil before they wait for the reader.
const ATTEMPTS: usize = 3;

/// Reasons why documents that were found are not returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The caller has gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A text cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The texts take more than the reader has room for.
    #[error("the texts of the hits take more than {most} bytes")]
    TooLarge {
        /// The limit.
        most: usize,
    },
}

/// A reader of texts of one collection. Opens the disk when the first one is not in the cache.
pub(super) struct Texts<'c> {
    collection: &'c Collection,
    reader: Option<Reader>,
}

impl<'c> Texts<'c> {
    pub fn of(collection: &'c Collection) -> Self {
        Self { collection, reader: None }
    }

    /// The text of a version of a document. [`ReadError::NoRow`]: its row is gone.
    pub fn read(&mut self, kept: &Kept, row: u64) -> Result<Arc<str>, ReadError> {
        let bytes = match &kept.text {
            KeptText::Here(text) => return Ok(Arc::clone(text)),
            KeptText::Elsewhere { bytes } => *bytes,
        };
        let Some(on_disk) = self.collection.on_disk.as_ref().filter(|_| bytes > 0) else { return Ok(Arc::default()) };
        let key = (on_disk.number, row);
        if let Some(text) = on_disk.texts.get(key) {
            return Ok(text);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            closed => closed.insert(on_disk.disk.reader(self.collection.rows_of(on_disk.number))?),
        };
        let text = reader.text(row)?;
        on_disk.texts.insert(key, &text);
        Ok(text)
    }
}

/// The text of a version of a document, without the cache. `from`: the texts on disk of the moment when the document
/// was found; `None`: they are in memory.
pub(super) fn text_of(kept: &Kept, row: u64, from: Option<&Reader>) -> Result<Arc<str>, ReadError> {
    match (&kept.text, from) {
        (KeptText::Here(text), _) => Ok(Arc::clone(text)),
        (KeptText::Elsewhere { .. }, Some(texts)) => texts.text(row),
        (KeptText::Elsewhere { .. }, None) => Ok(Arc::default()),
    }
}

impl Collection {
    /// Reads documents and their texts, until the texts are those of the documents. `attempt` finds them anew each
    /// time.
    pub(super) fn with_texts<T>(
        &self,
        mut attempt: impl FnMut(&mut Texts<'_>) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        for _ in 0..ATTEMPTS {
            match attempt(&mut Texts::of(self)) {
                // The commit that removed the row from the disk has its turn until it is in memory.
                Err(FetchError::Read(ReadError::NoRow { .. })) => drop(self.group_commit.turn_of_reader()),
                done => return done,
            }
        }
        let _turn = self.group_commit.turn_of_reader();
        attempt(&mut Texts::of(self))
    }

    /// A reader of the texts as they are on disk now, for [`text_of`]; `None`: they are in memory.
    pub(super) fn texts_now(&self) -> Result<Option<Reader>, ReadError> {
        let open = |on_disk: &OnDisk| on_disk.disk.reader(self.rows_of(on_disk.number));
        self.on_disk.as_ref().map(open).transpose()
    }

    fn rows_of(&self, number: u32) -> RowsOf<'_> {
        RowsOf { number, name: self.name(), dimensions: self.dimensions() }
    }
}
