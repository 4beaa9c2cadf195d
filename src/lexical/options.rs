//! The settings of an index, fixed when it is made.

use serde::{Deserialize, Serialize};

use super::language::Language;

/// The settings of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The language of its texts; `None`: their words are neither stemmed nor left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}
