//! The cache of texts that were read from the disk, bounded in bytes.
//!
//! A row of a collection is never used twice, and an update of metadata keeps the text of its row. So the text of a row
//! never changes, and the cache needs no invalidation: what is in it under a row is the text of that version of the
//! document, or nobody asks for it any more, and other texts displace it. A text that is asked for once passes through
//! a small part of the cache (the policy of quick_cache, close to S3-FIFO), so a listing does not displace texts in
//! use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::machine::allocator;

/// Bytes of an entry beside its text: the key, the links, and the slot in the hash table.
const ENTRY_BYTES: usize = 96;

/// The number of a collection on disk, and the row of a document in it.
type RowKey = (u32, u64);

/// The contents of the cache, and how often it helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextCacheStats {
    /// Texts that the cache had.
    pub hits: u64,
    /// Texts that were read from the disk.
    pub misses: u64,
    /// Bytes of the texts in the cache.
    pub bytes: usize,
}

/// The texts that were read lately, of all collections.
pub(super) struct TextCache {
    texts: Option<Cache<RowKey, Arc<str>, RealBytes>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
struct RealBytes;

impl Weighter<RowKey, Arc<str>> for RealBytes {
    fn weight(&self, _: &RowKey, text: &Arc<str>) -> u64 {
        (ENTRY_BYTES + allocator::shared(text.len())) as u64
    }
}

impl TextCache {
    /// Makes a cache of at most `bytes`; 0: none.
    pub fn new(bytes: usize) -> Self {
        /// Bytes of a usual text, for the first size of the hash table.
        const USUAL: usize = 1_024;
        let texts = (bytes > 0).then(|| Cache::with_weighter((bytes / USUAL).max(1), bytes as u64, RealBytes));
        Self { texts, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// The text of a row. Counts the look-up.
    pub fn get(&self, key: RowKey) -> Option<Arc<str>> {
        let found = self.texts.as_ref().and_then(|texts| texts.get(&key));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Adds a text, which stays while it is asked for.
    pub fn insert(&self, key: RowKey, text: &Arc<str>) {
        if let Some(texts) = &self.texts {
            texts.insert(key, Arc::clone(text));
        }
    }

    /// The contents, and how often the cache helped.
    pub fn stats(&self) -> TextCacheStats {
        TextCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.texts.as_ref().map_or(0, |texts| texts.weight() as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_bytes_and_counts_what_it_has() {
        let cache = TextCache::new(1 << 20);
        for row in 0..5_000 {
            assert_eq!(cache.get((1, row)), None);
            cache.insert((1, row), &"x".repeat(1_000).into());
        }
        assert_eq!(cache.get((1, 4_999)).map(|text| text.len()), Some(1_000));
        assert_eq!(cache.get((2, 4_999)), None);
        let TextCacheStats { hits, misses, bytes } = cache.stats();
        assert_eq!((hits, misses), (1, 5_001));
        assert!(bytes <= 1 << 20 && bytes > 1 << 19, "{bytes}");
        let none = TextCache::new(0);
        none.insert((1, 1), &"x".into());
        assert_eq!((none.get((1, 1)), none.stats().bytes), (None, 0));
    }
}
