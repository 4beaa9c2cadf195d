//! The cache of vectors by the keys of their texts. It is bounded in bytes.
//!
//! The policy is quick_cache's, which is close to S3-FIFO. A text that is asked for once passes through a small part of
//! the cache. Only a text that is asked for again gets into the large part. So an upload of any size does not displace
//! the texts that are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache as Bounded;

use super::key::Key;
use super::text::Output;

/// The bytes of an entry without its values: the key, the lengths, and 96 bytes for the counters of the `Arc`, the
/// links and the slot in the hash table.
const ENTRY_BYTES: usize = size_of::<Key>() + size_of::<Output>() + 96;

/// The contents of a cache, and how often it helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Look-ups that found the text.
    pub hits: u64,
    /// Look-ups that did not find the text.
    pub misses: u64,
    /// Texts in the cache.
    pub entries: usize,
    /// Bytes of these texts.
    pub bytes: usize,
}

/// Vectors by the keys of their texts.
pub struct Cache {
    /// The entries; `None` if there is no cache.
    entries: Option<Bounded<Key, Arc<Output>, RealBytes>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
struct RealBytes;

impl Weighter<Key, Arc<Output>> for RealBytes {
    fn weight(&self, _: &Key, output: &Arc<Output>) -> u64 {
        (ENTRY_BYTES + output.values.capacity() * size_of::<f32>()) as u64
    }
}

impl Cache {
    /// Creates a cache of at most `bytes` for vectors of about `dimensions`; no cache if `bytes` is 0.
    pub fn new(bytes: usize, dimensions: usize) -> Self {
        let about = bytes / (ENTRY_BYTES + dimensions * size_of::<f32>());
        let entries = (bytes > 0).then(|| Bounded::with_weighter(about.max(1), bytes as u64, RealBytes));
        Self { entries, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// Looks up the vector of a text. Counts the look-up, and marks the text as used.
    pub fn get(&self, key: &Key) -> Option<Arc<Output>> {
        let found = self.entries.as_ref()?.get(key);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Looks up the vector of a text again, without counting. It may have been computed since the first look-up.
    pub fn peek(&self, key: &Key) -> Option<Arc<Output>> {
        self.entries.as_ref()?.peek(key)
    }

    /// Stores a vector, which stays while its text is asked for.
    pub fn insert(&self, key: Key, output: &Arc<Output>) {
        if let Some(entries) = &self.entries {
            entries.insert(key, Arc::clone(output));
        }
    }

    /// The contents, and how often the cache helped.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.entries.as_ref().map_or(0, Bounded::len),
            bytes: self.entries.as_ref().map_or(0, |entries| entries.weight() as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::*;

    const DIMENSIONS: usize = 384;
    const BYTES: usize = 1 << 20;

    fn key(text: &str) -> Key {
        Keys::new("model").key(text)
    }

    fn ask(cache: &Cache, text: &str) -> bool {
        let found = cache.get(&key(text)).is_some();
        if !found {
            let output = Output { values: vec![0.5; DIMENSIONS], tokens: 3, tokens_total: 3 };
            cache.insert(key(text), &Arc::new(output));
        }
        found
    }

    #[test]
    fn a_stored_vector_is_found_and_counted() {
        let cache = Cache::new(BYTES, DIMENSIONS);
        assert!(!ask(&cache, "a") && ask(&cache, "a") && !ask(&cache, "b"));
        assert!(cache.peek(&key("a")).is_some() && cache.peek(&key("c")).is_none());
        let bytes = 2 * (ENTRY_BYTES + DIMENSIONS * 4);
        assert_eq!(cache.stats(), CacheStats { hits: 1, misses: 2, entries: 2, bytes });
    }

    #[test]
    fn it_never_holds_more_than_its_bytes() {
        let cache = Cache::new(BYTES, DIMENSIONS);
        (0..5000).for_each(|n| _ = ask(&cache, &n.to_string()));
        let stats = cache.stats();
        assert!(stats.bytes <= BYTES && stats.bytes > BYTES / 2, "{stats:?}");
        assert_eq!(stats.bytes, stats.entries * (ENTRY_BYTES + DIMENSIONS * 4));
    }

    #[test]
    fn a_huge_upload_does_not_displace_texts_in_use() {
        let cache = Cache::new(BYTES, DIMENSIONS);
        let in_use: Vec<String> = (0..50).map(|n| format!("in use {n}")).collect();
        let upload = |name: &str| (0..20_000).for_each(|n| _ = ask(&cache, &format!("{name} {n}")));
        upload("before");
        // Each is asked for again before the cache drops it.
        for _ in 0..3 {
            in_use.iter().for_each(|text| _ = ask(&cache, text));
        }
        upload("after");
        let kept = in_use.iter().filter(|text| cache.peek(&key(text)).is_some()).count();
        assert!(kept >= 45, "{kept} of 50 are left");
    }

    #[test]
    fn a_cache_of_no_bytes_never_holds_anything() {
        let cache = Cache::new(0, DIMENSIONS);
        assert!(!ask(&cache, "a") && !ask(&cache, "a"));
        assert_eq!(cache.stats(), CacheStats::default());
    }
}
