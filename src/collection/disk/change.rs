//! What a batch may change.

use super::record::{self, Record};

/// One change. A batch of them is on disk whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new, empty collection.
    CreateCollection(NewCollection),
    /// A collection goes, with all its rows. They are gone for every reader at once; their space is
    /// freed later, piece by piece.
    DeleteCollection {
        /// Its number.
        collection: u32,
    },
    /// A new row.
    Put(Put),
    /// A row goes.
    Remove {
        /// Its collection's number.
        collection: u32,
        /// Its number.
        row: u64,
    },
}

/// A collection that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollection {
    /// From [`Disk::new_collection_number`](super::Disk::new_collection_number).
    pub number: u32,
    /// Its name, which no other has.
    pub name: String,
    /// Fingerprint of the model that its vectors come from.
    pub fingerprint: String,
    /// Length of its vectors.
    pub dimensions: usize,
}

/// A document as it will be on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub(super) collection: u32,
    pub(super) row: u64,
    pub(super) dimensions: usize,
    pub(super) bytes: Vec<u8>,
}

impl Put {
    /// Encodes a document for a row that was never used. Rows that ascend are appended, which is
    /// fast and packs them well. The work is done here, in the caller's thread, and not by the writer.
    pub fn new(collection: u32, row: u64, record: &Record<'_>) -> Self {
        Self { collection, row, dimensions: record.vector.len(), bytes: record::encode(collection, row, record) }
    }
}

impl Change {
    /// Bytes that it adds to the file, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.bytes.len(),
            Self::CreateCollection(new) => new.name.len() + new.fingerprint.len() + 256,
            Self::DeleteCollection { .. } | Self::Remove { .. } => 0,
        }
    }

    /// It needs space, where the others free some.
    pub(super) fn grows(&self) -> bool {
        matches!(self, Self::Put(_) | Self::CreateCollection(_))
    }
}
