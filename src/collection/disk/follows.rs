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
    /// True if vectors that came from clients are taken over as they are.
    pub keeps_vectors: bool,
    /// True if vectors that came from clients are replaced by those of the texts. Without a word it is, because earlier
    /// versions did so: they told no origin.
    #[serde(default = "as_earlier")]
    pub replaces_vectors: bool,
    /// True if it was the leader first, and the two were exchanged.
    pub switched: bool,
}

fn as_earlier() -> bool {
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_of_an_earlier_version_embeds_texts_whose_vectors_came_from_clients() {
        let earlier = r#"{"leader":1,"first_pass":"over","keeps_vectors":false,"switched":false}"#;
        let follows: Follows = serde_json::from_str(earlier).unwrap();
        assert!(follows.replaces_vectors && !follows.keeps_vectors);
    }
}
