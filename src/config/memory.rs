//! Divides the memory of the process among its consumers. The only module that weighs them against each other.
//!
//! ```text
//! limit  =  fixed (model, code, threads)  +  working  +  messages  +  caches  +  stored × (1 + building)  +  slack
//! ```
//! `messages` and the caches are known before the model is loaded. `stored` gets the rest after the model was measured.
//! A setting fixes its share, and the others are computed around it.
//!
//! Invariant: the shares that are chosen here never exceed the limit together, except for [`MIN_STORED`]. Without a
//! known limit they have fixed defaults.

use crate::machine::memory;

const MIB: usize = 1 << 20;

/// Estimate for a model, and the process around it, before they are measured: 150 to 200 MiB with the default model.
const FIXED: usize = 256 * MIB;
/// Minimum of a process with a model. If less is measured, the rest may be documents' pages of files.
const MIN_FIXED: usize = 64 * MIB;
/// Pages of the program and its libraries.
const CODE: usize = 32 * MIB;
/// Batches, tokenising and searches at full load, in addition to the idle process.
const WORKING: usize = 48 * MIB;
/// Divisor of the share that stays free: for connections, which take a sixteenth at most
/// (`server::default_connections`), and for memory that is not counted: pages of files, fragmentation, threads.
const SLACK_SHARE: usize = 8;
/// Bytes that building a segment takes for each byte of stored documents, at most, if vectors count in memory. With 384
/// dimensions, rows that no file holds yet, graphs and a second copy of the codes take up to 2.5 KB for a vector. A
/// short document counts for 2.7 KB (benches/memory.py, `graphs`).
const BUILDING: usize = 1;
/// The same if vectors are in files and do not count. A short document counts for 0.9 KB then.
const BUILDING_OF_FILES: usize = 3;
/// Largest message budget without a setting: 64 messages of 16 MiB at a time.
const MAX_MESSAGES: usize = 1 << 30;
/// Smallest message budget in messages, so that work overlaps.
const MIN_MESSAGES: usize = 4;
/// Cache of vectors for repeated texts, if the memory allows.
const EMBED_CACHE: usize = 64 * MIB;
/// Cache of texts that were read from the disk, if the memory allows; half the part of the others, because the system
/// has a cache of the file too.
const TEXT_CACHE: usize = 64 * MIB;
/// Divisor of the largest part that each cache takes.
const CACHE_SHARE: usize = 32;
/// Bytes of stored documents without a known limit.
const STORED: usize = 4 << 30;
/// Smallest share of stored documents and the building of their segments. A server that stores nothing is useless: it
/// warns that memory is short, and accepts some documents.
const MIN_STORED: usize = 24 * MIB;

/// The shares of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Bytes that the process may use; `None`: not known.
    pub limit: Option<usize>,
    /// Bytes of one message, from the setting.
    pub max_message_bytes: usize,
    /// Requests and answers in transit.
    pub messages: usize,
    /// Vectors of repeated texts, of all models.
    pub embed_cache: usize,
    /// Scores of repeated texts and pairs, for all classifiers and rerankers.
    pub score_caches: usize,
    /// Pages of the data file.
    pub disk_cache: usize,
    /// Texts that were read from it.
    pub text_cache: usize,
    /// Documents, vectors and graphs, if a setting fixes them.
    pub stored: Option<usize>,
    /// True if texts and vectors are in files, and not in memory.
    pub in_files: bool,
}

/// The values of the settings; `None`: to be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemorySettings {
    /// `message_budget`.
    pub messages: Option<usize>,
    /// `embed_cache_bytes`.
    pub embed_cache: Option<usize>,
    /// `text_cache_bytes`.
    pub text_cache: Option<usize>,
    /// `max_stored_bytes`.
    pub stored: Option<usize>,
    /// Bytes of one message.
    pub max_message_bytes: usize,
    /// Pages of the data file, if the memory allows.
    pub disk_cache: usize,
    /// The number of classifiers and rerankers. Each of them caches an eighth of a model's cache.
    pub scorers: usize,
    /// The number of embedding models.
    pub models: usize,
}

impl Shares {
    /// Divides the memory that this process may use.
    pub fn new(given: MemorySettings) -> Self {
        Self::of(memory::limit().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)), given)
    }

    fn of(limit: Option<usize>, given: MemorySettings) -> Self {
        let cache = |wanted: usize| limit.map_or(wanted, |limit| wanted.min(limit / CACHE_SHARE));
        let messages = given.messages.unwrap_or_else(|| {
            // Half of the rest beside the models.
            let fixed = FIXED.saturating_mul(given.models);
            let half = limit.map_or(MAX_MESSAGES, |limit| limit.saturating_sub(fixed) / 2);
            half.min(MAX_MESSAGES).max(given.max_message_bytes.saturating_mul(MIN_MESSAGES))
        });
        let embed_cache = given.embed_cache.unwrap_or_else(|| cache(EMBED_CACHE));
        Self {
            limit,
            max_message_bytes: given.max_message_bytes,
            messages,
            embed_cache,
            score_caches: embed_cache / 8 * given.scorers,
            disk_cache: cache(given.disk_cache),
            text_cache: given.text_cache.unwrap_or_else(|| cache(TEXT_CACHE * 2) / 2),
            stored: given.stored,
            in_files: true,
        }
    }

    /// The shares of a process whose documents are in memory alone, or in another process.
    pub fn without_files(self) -> Self {
        Self { text_cache: 0, in_files: false, ..self }
    }

    /// Returns the bytes that the process takes before anything is stored. `measured` bytes are its own; pages of its
    /// code are added.
    pub fn fixed(&self, measured: Option<usize>) -> usize {
        measured.map_or(FIXED, |bytes| bytes.max(MIN_FIXED) + CODE)
    }

    /// Returns the bytes that may be stored if the process takes `fixed` bytes without them. Never 0.
    pub fn stored(&self, fixed: usize) -> usize {
        let chosen = || match self.limit {
            None => STORED,
            Some(limit) => {
                let left = limit.saturating_sub(limit / SLACK_SHARE).saturating_sub(self.beside_stored(fixed));
                left.max(MIN_STORED) / (1 + self.building())
            }
        };
        self.stored.unwrap_or_else(chosen)
    }

    /// Returns an upper bound of the resident memory under these settings, for a process that takes `fixed` bytes
    /// before anything is stored. `None`: stored documents have no limit.
    pub fn most_resident(&self, fixed: usize) -> Option<usize> {
        let stored = self.stored(fixed);
        let building = stored.checked_mul(self.building()).filter(|_| stored != usize::MAX)?;
        let counted = self.beside_stored(fixed).checked_add(stored)?.checked_add(building)?;
        counted.checked_add(counted / (SLACK_SHARE - 1))
    }

    fn building(&self) -> usize {
        if self.in_files { BUILDING_OF_FILES } else { BUILDING }
    }

    fn beside_stored(&self, fixed: usize) -> usize {
        let caches = [self.embed_cache, self.score_caches, self.disk_cache, self.text_cache];
        let others = [fixed, WORKING, self.messages];
        caches.iter().chain(&others).fold(0, |sum, part| sum.saturating_add(*part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: MemorySettings = MemorySettings {
        messages: None,
        embed_cache: None,
        text_cache: None,
        stored: None,
        max_message_bytes: 16 * MIB,
        disk_cache: 32 * MIB,
        scorers: 1,
        models: 1,
    };

    #[test]
    fn the_parts_fit_the_limit_from_small_containers_to_large_machines() {
        for limit in [400 * MIB, 512 * MIB, 1 << 30, 4 << 30, 64 << 30] {
            for shares in [Shares::of(Some(limit), GIVEN), Shares::of(Some(limit), GIVEN).without_files()] {
                let most = shares.most_resident(170 * MIB).unwrap();
                assert!(most <= limit, "{most} of {limit}: {shares:?}");
                assert!(most * 4 > limit * 3, "{most} of {limit} is little: {shares:?}");
            }
        }
    }

    #[test]
    fn a_setting_fixes_its_share_and_the_others_are_computed_around_it() {
        let limit = Some(1 << 30);
        let given = MemorySettings { messages: Some(100 * MIB), embed_cache: Some(0), ..GIVEN };
        let shares = Shares::of(limit, given);
        assert_eq!((shares.messages, shares.embed_cache, shares.score_caches), (100 * MIB, 0, 0));
        assert!(shares.stored(170 * MIB) > Shares::of(limit, GIVEN).stored(170 * MIB));
        let told = Shares::of(limit, MemorySettings { stored: Some(7), ..GIVEN });
        assert_eq!(told.stored(usize::MAX), 7);
    }

    #[test]
    fn some_documents_fit_even_beside_a_model_that_fills_the_memory() {
        let shares = Shares::of(Some(300 * MIB), GIVEN);
        assert_eq!((shares.messages, shares.stored(290 * MIB)), (64 * MIB, MIN_STORED / 4));
        assert_eq!(shares.without_files().stored(290 * MIB), MIN_STORED / 2);
    }

    #[test]
    fn without_a_known_limit_the_shares_are_those_of_a_large_machine() {
        let shares = Shares::of(None, GIVEN);
        assert_eq!((shares.messages, shares.stored(0), shares.embed_cache), (MAX_MESSAGES, STORED, EMBED_CACHE));
        let unlimited = Shares::of(None, MemorySettings { stored: Some(usize::MAX), ..GIVEN });
        assert_eq!(unlimited.most_resident(1), None);
    }
}
