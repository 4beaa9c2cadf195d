//! The kinds of sources of models, and the steps of the search through them.

/// A kind of source of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A directory that the user named.
    Directory,
    /// The hub cache on disk, shared with Python.
    Cache,
    /// The hub, or the mirror that `HF_ENDPOINT` names.
    Hub,
    /// The default model's wheel from a Python package index.
    Wheel,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Cache => "hub cache",
            Self::Hub => "hub",
            Self::Wheel => "wheel",
        })
    }
}

/// A step of [`locate`](super::locate), for a caller that shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the comment of each variant names its fields")]
pub enum Event<'a> {
    /// A source is asked. `place` is its path, address or package.
    Asking { origin: Origin, place: &'a str },
    /// Another process is fetching the same model. We wait and take its result.
    Waiting,
    /// Bytes that have arrived, of the total. Sent often while a hub delivers.
    Bytes { done: u64, total: u64 },
}
