//! The changes that a batch may contain.

use super::record::{self, Record};

/// One change. A batch of changes is on disk as a whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Creates an empty collection.
    CreateCollection(NewCollection),
    /// Deletes a collection with all its rows. They are gone for every new reader at once; their space is freed
    /// later, piece by piece.
    DeleteCollection {
        /// Number of the collection.
        collection: u32,
    },
    /// Adds a row.
    Put(Put),
    /// Stores another record under the number of a row that exists.
    Replace(Put),
    /// Removes a row.
    Remove {
        /// Number of the collection.
        collection: u32,
        /// Number of the row.
        row: u64,
    },
}

/// A collection to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollection {
    /// A number from [`Disk::new_collection_number`](super::Disk::new_collection_number).
    pub number: u32,
    /// A name that no other collection has.
    pub name: String,
    /// Fingerprint of the model of its vectors.
    pub fingerprint: String,
    /// Length of its vectors.
    pub dimensions: usize,
}

/// A document, encoded for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub(super) collection: u32,
    pub(super) row: u64,
    pub(super) dimensions: usize,
    pub(super) bytes: Vec<u8>,
}

impl Put {
    /// Encodes a document for a row number. New rows in ascending order are appended, which is fast and packs them
    /// well. The encoding happens here, in the caller's thread, and not in the writer's.
    pub fn new(collection: u32, row: u64, record: &Record<'_>) -> Self {
        Self { collection, row, dimensions: record.vector.len(), bytes: record::encode(collection, row, record) }
    }
}

impl Change {
    /// Bytes that the change adds to the file, approximately.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(put) | Self::Replace(put) => put.bytes.len(),
            Self::CreateCollection(new) => new.name.len() + new.fingerprint.len() + 256,
            Self::DeleteCollection { .. } | Self::Remove { .. } => 0,
        }
    }

    /// True if the change needs space; the others free some.
    pub(super) fn grows(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Replace(_) | Self::CreateCollection(_))
    }
}
