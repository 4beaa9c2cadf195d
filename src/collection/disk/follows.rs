//! The part of a catalog's entry that makes a collection a follower: it is brought to the documents of another, its
//! leader, with the vectors of another model.
//!
//! Invariant: a follower has its leader's name. A collection has one follower at most, and a follower has none.

use serde::{Deserialize, Serialize};

/// The settings and the progress of a follower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// Number of its leader.
    pub leader: u32,
    /// The progress of the first pass over the leader's documents.
    pub first_pass: FirstPass,
    /// True if vectors of documents without a text are taken over as they are.
    pub keeps_vectors: bool,
    /// True if it was the leader first, and the two were exchanged.
    pub switched: bool,
}

/// The progress of a pass over all documents in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstPass {
    /// It is past the documents up to this id; past none, if it is empty.
    UpTo(Box<str>),
    /// It is past all documents, those to come included.
    Over,
}

impl FirstPass {
    /// A pass that is past no document.
    pub fn start() -> Self {
        Self::UpTo("".into())
    }

    /// True if it is past the document of this id.
    pub fn is_past(&self, id: &str) -> bool {
        match self {
            Self::UpTo(front) => id <= &**front,
            Self::Over => true,
        }
    }
}
