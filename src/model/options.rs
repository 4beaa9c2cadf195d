//! The model that the user wants, and the sources that it may come from.

use super::default_model::{DEFAULT_MODEL, WHEEL_REVISION};
use super::layout::Kind;

/// The default branch, as everywhere on the hub.
pub(super) const MAIN: &str = "main";

/// The model to use, and its permitted sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A directory, or a hub id (`owner/name`). A directory that exists wins over an id of the same spelling.
    pub source: String,
    /// Branch, tag or commit on the hub; `None` means `main`. A commit fixes the model on every machine and for ever. A
    /// revision other than `main` turns off the default model's digest check and its wheel. Directories ignore it.
    pub revision: Option<String>,
    /// Uses only files on this machine. The hub and package indexes are not asked, and a missing model fails at once
    /// instead of after time-outs.
    pub offline: bool,
    /// The purpose of the model.
    pub kind: Kind,
}

impl Default for Options {
    fn default() -> Self {
        Self { source: DEFAULT_MODEL.to_owned(), revision: None, offline: false, kind: Kind::Encoder }
    }
}

impl Options {
    /// The revision, or the default branch.
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// Returns whether this is the unchanged default model. Its digest is known, and its wheel is a source.
    pub(super) fn is_pinned(&self) -> bool {
        self.source == DEFAULT_MODEL && self.kind == Kind::Encoder && matches!(self.revision(), MAIN | WHEEL_REVISION)
    }
}
