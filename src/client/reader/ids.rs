//! Ids for records that have none.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::proto::Document;

/// Bytes of the digest that an id shows, as twice as many letters. Only records of one line number and one file name
/// are told apart by them.
const DIGEST_BYTES: usize = 6;

/// How a record without an id is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MadeUpIds {
    /// `stem:line-digest`, where the digest is of the whole document. The same record has the same id whenever it is
    /// loaded again, and no record takes the place of another one.
    ByContent {
        /// The file's name, as a rule without its extension.
        stem: String,
    },
    /// `prefix:line`: the next load with this prefix replaces what this one stored.
    ByLine {
        /// What the user chose.
        prefix: String,
    },
}

impl MadeUpIds {
    /// The id of `document`, which has none, from line `line`.
    pub(super) fn id(&self, line: u64, document: &Document) -> String {
        match self {
            Self::ByLine { prefix } => format!("{prefix}:{line}"),
            Self::ByContent { stem } => {
                let digest = Sha256::digest(document.encode_to_vec());
                let digest: String = digest[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{stem}:{line}-{digest}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_record_has_the_same_id_and_another_record_another_one() {
        let ids = MadeUpIds::ByContent { stem: "data".into() };
        let document = |text: &str| Document { text: text.into(), ..Default::default() };
        let january = ids.id(1, &document("january"));
        assert!(january.starts_with("data:1-") && january.len() == "data:1-".len() + 12, "{january}");
        assert_eq!(january, ids.id(1, &document("january")));
        assert_ne!(january, ids.id(1, &document("february")));
        let with_metadata = Document { metadata: Some(Default::default()), ..document("january") };
        assert_ne!(january, ids.id(1, &with_metadata));
    }

    #[test]
    fn a_prefix_names_lines() {
        let ids = MadeUpIds::ByLine { prefix: "p".into() };
        assert_eq!(ids.id(7, &Document::default()), "p:7");
    }
}
