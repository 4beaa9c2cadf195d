//! Vectors that were computed before, by the keys of their texts; bounded in bytes.
//!
//! The policy is quick_cache's, near to S3-FIFO: a text that was asked for once passes through a
//! small part of the cache, and only one that is asked for again gets into the large part. So an
//! upload of any size leaves the texts that are in use where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache as Bounded;

use super::key::Key;
use super::text::Output;

/// What an entry takes beside its values: the key, the lengths, and 96 bytes for the counters of the
/// `Arc`, the links and the place in the hash table.
const ENTRY_BYTES: usize = size_of::<Key>() + size_of::<Output>() + 96;

/// What a cache holds, and how often it helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Texts that were looked for and there.
    pub hits: u64,
    /// Texts that were looked for and not there.
    pub misses: u64,
    /// Texts that are there.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Texts and their vectors.
pub struct Cache {
    /// Nothing, where there is no cache.
    held: Option<Bounded<Key, Arc<Output>, RealBytes>>,
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
    /// A cache of at most `bytes` for vectors of about `dimensions`; no cache if `bytes` is 0.
    pub fn new(bytes: usize, dimensions: usize) -> Self {
        let about = bytes / (ENTRY_BYTES + dimensions * size_of::<f32>());
        let held = (bytes > 0).then(|| Bounded::with_weighter(about.max(1), bytes as u64, RealBytes));
        Self { held, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// The vector of a text, if it is there. Counts, and makes the text stay.
    pub fn get(&self, key: &Key) -> Option<Arc<Output>> {
        let found = self.held.as_ref()?.get(key);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The vector of a text that was looked for before and may be there by now.
    pub fn peek(&self, key: &Key) -> Option<Arc<Output>> {
        self.held.as_ref()?.peek(key)
    }

    /// Keeps a vector, for as long as its text is asked for.
    pub fn insert(&self, key: Key, output: &Arc<Output>) {
        if let Some(held) = &self.held {
            held.insert(key, Arc::clone(output));
        }
    }

    /// What it holds, and how often it helped.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.held.as_ref().map_or(0, Bounded::len),
            bytes: self.held.as_ref().map_or(0, |held| held.weight() as usize),
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
        Keys::new("model").key("", text)
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
    fn what_was_kept_is_found_and_counted() {
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
    fn a_huge_upload_does_not_flush_what_is_in_use() {
        let cache = Cache::new(BYTES, DIMENSIONS);
        let in_use: Vec<String> = (0..50).map(|n| format!("in use {n}")).collect();
        let upload = |name: &str| (0..20_000).for_each(|n| _ = ask(&cache, &format!("{name} {n}")));
        upload("before");
        // Asked for, and asked for again before it is forgotten.
        for _ in 0..3 {
            in_use.iter().for_each(|text| _ = ask(&cache, text));
        }
        upload("after");
        let kept = in_use.iter().filter(|text| cache.peek(&key(text)).is_some()).count();
        assert!(kept >= 45, "{kept} of 50 are left");
    }

    #[test]
    fn none_at_all_is_a_cache_that_never_has_anything() {
        let cache = Cache::new(0, DIMENSIONS);
        assert!(!ask(&cache, "a") && !ask(&cache, "a"));
        assert_eq!(cache.stats(), CacheStats::default());
    }
}
