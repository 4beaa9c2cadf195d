//! The changes that a batch may contain.

use super::follows::{FirstPass, Follows};
use super::record::{self, Record};
use crate::collection::passages::PassageSizes;
use crate::lexical;

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
    /// Creates an empty collection that follows another, whose name it has.
    CreateFollower(NewCollection, Follows),
    /// Notes that a follower lacks the latest change of a document.
    Note(Pending),
    /// Forgets a noted change, unless a later one is noted.
    Settle(Pending),
    /// Notes the progress of a follower's first pass.
    FirstPass {
        /// Number of the follower.
        follower: u32,
        /// The progress.
        first_pass: FirstPass,
    },
    /// Makes a follower that lacks nothing the leader of its leader.
    Exchange {
        /// Number of the follower.
        follower: u32,
    },
}

/// A document whose latest change a follower lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Number of the follower.
    pub follower: u32,
    /// The document's id.
    pub id: Box<str>,
    /// The number of the change, higher than those before.
    pub number: u64,
}

/// A collection to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollection {
    /// A number from [`Disk::new_collection_number`](super::Disk::new_collection_number).
    pub number: u32,
    /// A name that no other collection has.
    pub name: String,
    /// The caller who creates it; `None`: it has no name.
    pub owner: Option<String>,
    /// The name of the model of its vectors.
    pub model: String,
    /// Fingerprint of this model.
    pub fingerprint: String,
    /// Length of its vectors.
    pub dimensions: usize,
    /// The sizes of its passages; `None`: each document is one passage.
    pub passages: Option<PassageSizes>,
    /// The settings of its lexical index; `None`: it has none.
    pub lexical: Option<lexical::Options>,
}

/// A document, encoded for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub(super) collection: u32,
    /// The first row number of the document.
    pub(super) row: u64,
    /// The number of its row numbers: one for each passage. The record is stored under the first.
    pub(super) passages: u64,
    pub(super) dimensions: usize,
    pub(super) bytes: Vec<u8>,
}

impl Put {
    /// Encodes a document for row numbers from `row` on, one for each passage. New rows in ascending order are
    /// appended, which is fast and packs them well. The encoding happens here, in the caller's thread, and not in the
    /// writer's.
    pub fn new(collection: u32, row: u64, record: &Record<'_>) -> Self {
        let passages = record.spans.len().max(1);
        let dimensions = record.vectors.len() / passages;
        Self { collection, row, passages: passages as u64, dimensions, bytes: record::encode(collection, row, record) }
    }
}

impl Change {
    /// Bytes that the change adds to the file, approximately.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(put) | Self::Replace(put) => put.bytes.len(),
            Self::CreateCollection(new) | Self::CreateFollower(new, _) => {
                new.name.len() + new.model.len() + new.fingerprint.len() + 256
            }
            Self::Note(pending) => pending.id.len() + 64,
            Self::DeleteCollection { .. } | Self::Remove { .. } | Self::Settle(_) | Self::Exchange { .. } => 0,
            Self::FirstPass { .. } => 0,
        }
    }

    /// The earliest [schema](super::schema) of a file with this change.
    pub(super) fn schema(&self) -> u64 {
        match self {
            Self::Put(put) | Self::Replace(put) if put.passages > 1 => 2,
            Self::CreateCollection(new) if new.passages.is_some() || new.lexical.is_some() => 2,
            Self::CreateFollower(..) => 3,
            // The others change a collection that is there.
            _ => 1,
        }
    }

    /// True if the change needs space. The others free some; a note takes little, and is never a reason to refuse a
    /// removal.
    pub(super) fn grows(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Replace(_) | Self::CreateCollection(_) | Self::CreateFollower(..))
    }
}
