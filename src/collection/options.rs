//! Settings of a store.

use std::path::PathBuf;

use super::budget::{Quota, Usage};
use super::disk;
use crate::compute::Allowances;
use crate::index;

/// Settings of a [`Store`](super::Store).
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; `None`: documents are in memory alone, and gone with the process.
    pub directory: Option<PathBuf>,
    /// Settings of the disk storage.
    pub disk: disk::Options,
    /// Most bytes of texts that were read from the disk and stay in memory.
    pub text_cache_bytes: usize,
    /// Limits on all collections together; a commit beyond them is refused.
    pub quota: Quota,
    /// Limits on one collection.
    pub collection_quota: Quota,
    /// Most collections; one more is refused.
    pub max_collections: usize,
    /// Most fields that the documents of one collection may have between them; a document that exceeds it is
    /// refused.
    pub max_collection_fields: usize,
    /// The limits of those who create collections.
    pub allowances: Allowances,
    /// Settings of the collections' indexes.
    pub index: index::Options,
}

impl Default for Options {
    /// A store in memory, without limits.
    fn default() -> Self {
        Self {
            directory: None,
            disk: disk::Options::default(),
            text_cache_bytes: 64 << 20,
            quota: Usage::UNLIMITED,
            collection_quota: Usage::UNLIMITED,
            max_collections: usize::MAX,
            max_collection_fields: usize::MAX,
            allowances: Allowances::default(),
            index: index::Options::default(),
        }
    }
}
