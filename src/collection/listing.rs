//! Documents with their contents and vectors: one by id, a page of them, or all, in id order.
//!
//! Invariant: one call returns the state of one moment. Vectors and contents are shared with the collection and not
//! copied; texts that are on disk are read. `exports` counts the memory that an export keeps alive beyond the
//! collection.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::disk::ReadError;
use super::document::{DocId, Kept, Origin};
use super::documents::{Documents, Entry};
use super::filter::Filter;
use super::passages::{LocatedPassage, StoredVectors};
use super::single::Collection;
use super::texts::{FetchError, Texts};
use crate::compute::stop::{Stop, Stopped};

/// Below 1 match in 16 documents, the matches are sorted by id; above, all documents are scanned in id order.
const SELECTIVE: usize = 16;

/// A document that is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The id.
    pub id: DocId,
    /// The text.
    pub text: Arc<str>,
    /// The rest of its content.
    pub kept: Arc<Kept>,
    /// The unit vectors.
    pub vectors: StoredVectors,
}

/// A document without its text, which is to be read.
pub(super) struct Located {
    pub id: DocId,
    pub row: u64,
    pub kept: Arc<Kept>,
    pub vectors: StoredVectors,
    pub origin: Origin,
}

impl PageSize {
    /// A page of this many documents, however long their texts are.
    #[cfg(test)]
    pub fn of(documents: usize) -> Self {
        Self { documents, text_bytes: usize::MAX }
    }
}

impl Located {
    /// Reads the text.
    fn with_text(self, texts: &mut Texts<'_>) -> Result<Listed, ReadError> {
        let Self { id, row, kept, vectors, .. } = self;
        Ok(Listed { text: texts.read(&kept, row)?, id, kept, vectors })
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    /// Documents at most.
    pub documents: usize,
    /// The page ends with the text that brings the texts to this many bytes, as far as they are read from the disk. It
    /// has two documents in any case, if there are two.
    pub text_bytes: usize,
}

impl Collection {
    /// Contents and vectors of documents, each as it is when it is read. Blocks while texts are read, which may have
    /// `most` bytes together.
    pub fn get_all(&self, ids: &[DocId], most: usize) -> Result<Vec<Option<Listed>>, FetchError> {
        let mut bytes = 0;
        let get = |id| {
            let found = self.get(id)?;
            bytes += found.as_ref().map_or(0, |listed| listed.kept.text_bytes_elsewhere());
            if bytes > most { Err(FetchError::TooLarge { most }) } else { Ok(found) }
        };
        ids.iter().map(get).collect()
    }

    /// Content and vectors of a document. Blocks while its text is read.
    pub fn get(&self, id: &DocId) -> Result<Option<Listed>, FetchError> {
        self.with_texts(|texts| {
            let located = {
                let here = self.read();
                here.get(id).map(|one| self.locate(&here, one))
            };
            Ok(located.map(|located| located.with_text(texts)).transpose()?)
        })
    }

    /// The vectors of a document. Waits for no disk.
    pub fn vectors(&self, id: &DocId) -> Option<StoredVectors> {
        let here = self.read();
        Some(self.locate(&here, here.get(id)?).vectors)
    }

    /// The vectors of the first `limit` documents, in id order, starting after the id `after`. Waits for no disk.
    pub fn vectors_after(&self, after: Option<&DocId>, limit: usize) -> Vec<(DocId, StoredVectors)> {
        let located = self.locate_page(None, after, limit, &Stop::never()).unwrap_or_default();
        located.into_iter().map(|one| (one.id, one.vectors)).collect()
    }

    /// Documents as they are now, without their texts; `None`: no document has this id.
    pub(super) fn locate_each<'i>(&self, ids: impl Iterator<Item = &'i DocId>) -> Vec<Option<Located>> {
        let here = self.read();
        ids.map(|id| Some(self.locate(&here, here.get(id)?))).collect()
    }

    fn locate(&self, here: &Documents, (id, entry): (&DocId, &Entry)) -> Located {
        let vectors = match here.passages(entry.slot) {
            None => StoredVectors::Whole(self.row(entry.slot)),
            Some(passages) => {
                let vector = |passage: &LocatedPassage| (passage.span, self.row(passage.slot));
                StoredVectors::Passages(passages.iter().map(vector).collect())
            }
        };
        let (kept, origin) = (Arc::clone(&entry.kept), here.origin(entry));
        Located { id: id.clone(), row: entry.row, kept, vectors, origin }
    }

    /// The first documents that match, in id order, starting after the id `after`. Blocks while their texts are read.
    pub fn list(
        &self,
        filter: Option<&Filter>,
        after: Option<&DocId>,
        size: PageSize,
        stop: &Stop,
    ) -> Result<Vec<Listed>, FetchError> {
        self.with_texts(|texts| {
            let mut bytes = 0;
            let located = self.locate_page(filter, after, size.documents, stop)?.into_iter();
            let read = located.enumerate().map_while(|(n, one)| {
                let has_room = n < 2 || bytes < size.text_bytes;
                bytes += one.kept.text_bytes_elsewhere();
                has_room.then(|| {
                    stop.check()?;
                    Ok(one.with_text(texts)?)
                })
            });
            read.collect()
        })
    }

    /// The first documents that match, without their texts.
    pub(super) fn locate_page(
        &self,
        filter: Option<&Filter>,
        after: Option<&DocId>,
        limit: usize,
        stop: &Stop,
    ) -> Result<Vec<Located>, Stopped> {
        let mut matching = filter.map(|filter| self.matching(filter, stop)).transpose()?;
        let here = self.read();
        if let Some(matching) = &mut matching {
            matching.catch_up(&here, stop)?;
        }
        let located = |one| self.locate(&here, one);
        let all = here.after(after);
        Ok(match matching {
            None => all.take(limit).map(located).collect(),
            Some(matching) => {
                let among = matching.positions();
                if here.count(among) * SELECTIVE < here.len() {
                    let mut ids: Vec<&DocId> =
                        here.ids(among).filter(|id| after.is_none_or(|after| *id > after)).collect();
                    ids.sort_unstable();
                    let entries = ids.into_iter().take(limit).filter_map(|id| here.get(id));
                    return Ok(entries.map(located).collect());
                }
                all.filter(|(_, entry)| among.contains(entry.slot.index())).take(limit).map(located).collect()
            }
        })
    }

    /// All documents, or those at some positions, in id order, without their texts.
    pub(super) fn locate_all(&self, here: &Documents, among: Option<&RoaringBitmap>) -> Vec<Located> {
        let size = among.map_or(here.len(), |among| here.count(among));
        let mut located = Vec::with_capacity(size);
        let is_wanted = |entry: &Entry| among.is_none_or(|among| among.contains(entry.slot.index()));
        let matching = here.after(None).filter(|(_, entry)| is_wanted(entry));
        located.extend(matching.map(|one| self.locate(here, one)));
        located
    }
}
