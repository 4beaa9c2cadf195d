//! How the memory that the process may use is shared out: the one place where its parts are set against each other.
//!
//! ```text
//! limit  =  fixed (model, code, threads)  +  working  +  messages  +  caches  +  stored × (1 + building)  +  slack
//! ```
//! `messages` and the caches are known before the model is loaded; `stored` gets what is left when the model has shown what
//! it takes. What is given by a setting is taken as it is, and the rest is shared out around it.
//!
//! Invariant: the parts that are chosen here never exceed the limit together, but for [`LEAST_STORED`]; without a known limit
//! they are what they always were.

use crate::machine::memory;

const MIB: usize = 1 << 20;

/// What is reckoned for the model and the process before they are measured: 150 to 200 MiB with the default model.
const FIXED: usize = 256 * MIB;
/// A process with a model takes no less: what is measured less may be what documents take in files.
const LEAST_FIXED: usize = 64 * MIB;
/// Pages of the program and its libraries.
const CODE: usize = 32 * MIB;
/// Batches, tokenising and searches at full load, beside what is idle.
const WORKING: usize = 48 * MIB;
/// One part in so many is left to connections, which take a sixteenth at most (`server::default_connections`), and to what
/// nobody counts: pages of files, fragments, threads.
const SLACK_SHARE: usize = 8;
/// A segment that is built takes this part of what its vectors count for, once more (benches/memory.py, `graphs`).
const BUILDING: (usize, usize) = (1, 2);
/// Most bytes of messages on their way where nobody says how many: 64 of 16 MiB at a time.
const MOST_MESSAGES: usize = 1 << 30;
/// Messages that there is room for at least, so that work overlaps.
const LEAST_MESSAGES: usize = 4;
/// Vectors of earlier texts, where there is memory.
const EMBED_CACHE: usize = 64 * MIB;
/// Each cache takes one part in so many at most.
const CACHE_SHARE: usize = 32;
/// What is stored without a known limit.
const STORED: usize = 4 << 30;
/// A server that stores nothing at all is of no use: it says that memory is short, and takes some documents.
const LEAST_STORED: usize = 16 * MIB;

/// The shares of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Bytes that the process may use; `None`: not known.
    pub limit: Option<usize>,
    /// One message, which is a setting.
    pub max_message_bytes: usize,
    /// Requests and answers on their way.
    pub messages: usize,
    /// Vectors of earlier texts.
    pub embed_cache: usize,
    /// Scores of earlier texts, of all classifiers.
    pub score_caches: usize,
    /// Pages of the data file.
    pub disk_cache: usize,
    /// Documents, vectors and graphs, if a setting says so.
    pub stored: Option<usize>,
}

/// What the settings say; `None`: to be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given {
    /// `message_budget`.
    pub messages: Option<usize>,
    /// `embed_cache_bytes`.
    pub embed_cache: Option<usize>,
    /// `max_stored_bytes`.
    pub stored: Option<usize>,
    /// Bytes of one message.
    pub max_message_bytes: usize,
    /// Pages of the data file, where there is memory.
    pub disk_cache: usize,
    /// Classifiers, each of which keeps an eighth of what the model does.
    pub classifiers: usize,
}

impl Shares {
    /// Of the memory that this process may use.
    pub fn new(given: Given) -> Self {
        Self::of(memory::limit().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)), given)
    }

    fn of(limit: Option<usize>, given: Given) -> Self {
        let cache = |wanted: usize| limit.map_or(wanted, |limit| wanted.min(limit / CACHE_SHARE));
        let messages = given.messages.unwrap_or_else(|| {
            // Half of what the model leaves.
            let half = limit.map_or(MOST_MESSAGES, |limit| limit.saturating_sub(FIXED) / 2);
            half.min(MOST_MESSAGES).max(given.max_message_bytes.saturating_mul(LEAST_MESSAGES))
        });
        let embed_cache = given.embed_cache.unwrap_or_else(|| cache(EMBED_CACHE));
        Self {
            limit,
            max_message_bytes: given.max_message_bytes,
            messages,
            embed_cache,
            score_caches: embed_cache / 8 * given.classifiers,
            disk_cache: cache(given.disk_cache),
            stored: given.stored,
        }
    }

    /// Bytes that the process takes before anything is stored, of which `measured` are its own: pages of its code come on top.
    pub fn fixed(&self, measured: Option<usize>) -> usize {
        measured.map_or(FIXED, |bytes| bytes.max(LEAST_FIXED) + CODE)
    }

    /// Bytes that may be stored, if the process takes `fixed` bytes before anything is stored. Never 0.
    pub fn stored(&self, fixed: usize) -> usize {
        let chosen = || match self.limit {
            None => STORED,
            Some(limit) => {
                let left = limit.saturating_sub(limit / SLACK_SHARE).saturating_sub(self.beside_stored(fixed));
                (left / (BUILDING.0 + BUILDING.1) * BUILDING.1).max(LEAST_STORED)
            }
        };
        self.stored.unwrap_or_else(chosen)
    }

    /// The resident memory that the settings imply, of a process that takes `fixed` bytes before anything is stored: it stays
    /// below this. `None`: what may be stored has no limit.
    pub fn most_resident(&self, fixed: usize) -> Option<usize> {
        let stored = self.stored(fixed);
        let building = (stored / BUILDING.1).checked_mul(BUILDING.0).filter(|_| stored != usize::MAX)?;
        let counted = self.beside_stored(fixed).checked_add(stored)?.checked_add(building)?;
        counted.checked_add(counted / (SLACK_SHARE - 1))
    }

    fn beside_stored(&self, fixed: usize) -> usize {
        [fixed, WORKING, self.messages, self.embed_cache, self.score_caches, self.disk_cache]
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: Given = Given {
        messages: None,
        embed_cache: None,
        stored: None,
        max_message_bytes: 16 * MIB,
        disk_cache: 32 * MIB,
        classifiers: 1,
    };

    #[test]
    fn the_parts_fit_the_limit_from_small_containers_to_large_machines() {
        for limit in [400 * MIB, 512 * MIB, 1 << 30, 4 << 30, 64 << 30] {
            let shares = Shares::of(Some(limit), GIVEN);
            let most = shares.most_resident(170 * MIB).unwrap();
            assert!(most <= limit, "{most} of {limit}: {shares:?}");
            assert!(most * 4 > limit * 3, "{most} of {limit} is little: {shares:?}");
        }
    }

    #[test]
    fn what_a_setting_says_is_taken_and_the_rest_is_shared_out_around_it() {
        let limit = Some(1 << 30);
        let given = Given { messages: Some(100 * MIB), embed_cache: Some(0), ..GIVEN };
        let shares = Shares::of(limit, given);
        assert_eq!((shares.messages, shares.embed_cache, shares.score_caches), (100 * MIB, 0, 0));
        assert!(shares.stored(170 * MIB) > Shares::of(limit, GIVEN).stored(170 * MIB));
        let told = Shares::of(limit, Given { stored: Some(7), ..GIVEN });
        assert_eq!(told.stored(usize::MAX), 7);
    }

    #[test]
    fn a_model_that_leaves_nothing_leaves_room_for_some_documents() {
        let shares = Shares::of(Some(300 * MIB), GIVEN);
        assert_eq!((shares.messages, shares.stored(290 * MIB)), (64 * MIB, LEAST_STORED));
    }

    #[test]
    fn without_a_known_limit_the_parts_are_those_of_a_large_machine() {
        let shares = Shares::of(None, GIVEN);
        assert_eq!((shares.messages, shares.stored(0), shares.embed_cache), (MOST_MESSAGES, STORED, EMBED_CACHE));
        let unlimited = Shares::of(None, Given { stored: Some(usize::MAX), ..GIVEN });
        assert_eq!(unlimited.most_resident(1), None);
    }
}
