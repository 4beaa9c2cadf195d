//! Generates ids for records that have none.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::wire::Document;

/// Bytes of the digest in an id, written as twice as many letters. They only distinguish records with the same line
/// number and file name.
const DIGEST_BYTES: usize = 6;

/// The rule for the ids of records without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MadeUpIds {
    /// `stem:line-digest`, with a digest of the whole document. A record gets the same id each time it is loaded, and
    /// never replaces another record.
    ByContent {
        /// The name of the file, usually without its extension.
        stem: String,
    },
    /// `prefix:line`: the next load with this prefix replaces the documents of this one.
    ByLine {
        /// The prefix that the user chose.
        prefix: String,
    },
}

impl MadeUpIds {
    /// Returns the id of `document`, which has none and stands on line `line`.
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
    fn equal_records_have_equal_ids_and_different_ones_do_not() {
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
