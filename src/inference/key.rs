//! The key of an input: a digest of the model and of the text, or both texts of a pair, as the model reads them. Equal
//! inputs have equal keys.
//!
//! It is the whole SHA-256. If a client could construct two texts with one key, others would receive a wrong vector;
//! nobody can. So no secret is needed. The cost is a microsecond or two for a kilobyte, a thousandth of the model's.
//!
//! A principal has keys of its own. Otherwise the time of an answer would tell one tenant which texts another has
//! embedded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sha2::{Digest, Sha256};

use super::text::Before;
use crate::compute::Caller;

/// The bytes that are digested on an async thread before it turns to other calls: less than half a millisecond of work.
const STRETCH_BYTES: usize = 64 * 1024;

/// A byte before the first text of a pair. No UTF-8 text has it, so a pair and a single text never share a key.
const PAIR: [u8; 1] = [0xff];

/// A byte before a prompt that takes no part in the result. No UTF-8 text has it.
const LEFT_OUT: [u8; 1] = [0xfd];

/// A byte before the number of a principal. No UTF-8 text has it, nor is it the one of a pair.
const PRINCIPAL: [u8; 1] = [0xfe];

/// The key of an input for a model. Equal keys have equal vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Makes the keys of one model, or of those of its inputs that begin in the same way.
pub struct Keys(Sha256);

impl Keys {
    /// Creates the keys for the model of this fingerprint.
    pub fn new(fingerprint: &str) -> Self {
        let length = (fingerprint.len() as u64).to_le_bytes();
        Self(Sha256::new().chain_update(length).chain_update(fingerprint))
    }

    /// Returns the keys of a caller: its own if it is a principal, and else those that all connections share.
    pub fn of(&self, caller: Caller) -> Self {
        let keys = self.0.clone();
        Self(match caller.principal() {
            Some(principal) => keys.chain_update(PRINCIPAL).chain_update(principal.to_le_bytes()),
            None => keys,
        })
    }

    /// Returns the keys of texts behind `before`. The boundary after a prompt is not part of a key, because the model
    /// does not see it either. The boundary between the texts of a pair is.
    pub fn behind(&self, before: Before<'_>) -> Self {
        let keys = self.0.clone();
        Self(match before {
            Before::Prompt(prompt) => keys.chain_update(prompt),
            Before::First(first) => {
                keys.chain_update(PAIR).chain_update((first.len() as u64).to_le_bytes()).chain_update(first)
            }
        })
    }

    /// Returns the keys of texts behind a prompt that takes no part in the result. The boundary after it is part of a
    /// key, because it decides which tokens do.
    pub fn behind_left_out(&self, prompt: &str) -> Self {
        let length = (prompt.len() as u64).to_le_bytes();
        Self(self.0.clone().chain_update(LEFT_OUT).chain_update(length).chain_update(prompt))
    }

    /// Returns the key of a text.
    pub fn key(&self, text: &str) -> Key {
        Key(self.0.clone().chain_update(text).finalize().into())
    }
}

/// The texts of a call, each once.
pub struct Distinct {
    /// The keys of the distinct texts.
    pub keys: Vec<Key>,
    /// The distinct texts, in the order of their first occurrence.
    pub texts: Vec<String>,
    /// For each text of the call, its position among the distinct ones.
    pub positions: Vec<usize>,
}

impl Distinct {
    /// Finds the distinct texts by their keys.
    pub async fn of(keys: &Keys, texts: Vec<String>) -> Self {
        let mut distinct = Self { keys: Vec::new(), texts: Vec::new(), positions: Vec::with_capacity(texts.len()) };
        let mut position_of = HashMap::new();
        let mut stretch = 0;
        for text in texts {
            stretch += text.len();
            if stretch > STRETCH_BYTES {
                tokio::task::yield_now().await;
                stretch = 0;
            }
            let key = keys.key(&text);
            distinct.positions.push(match position_of.entry(key) {
                Entry::Occupied(position) => *position.get(),
                Entry::Vacant(entry) => {
                    distinct.keys.push(key);
                    distinct.texts.push(text);
                    *entry.insert(distinct.keys.len() - 1)
                }
            });
        }
        distinct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_identifies_the_model_and_the_text_that_it_reads() {
        let keys = Keys::new("model");
        let behind = |prompt, text| keys.behind(Before::Prompt(prompt)).key(text);
        assert_eq!(keys.key("text"), Keys::new("model").key("text"));
        assert_eq!(behind("query: ", "text"), keys.key("query: text"));
        assert_ne!(behind("query: ", "text"), keys.key("text"));
        assert_ne!(keys.key("text"), Keys::new("another").key("text"));
        assert_ne!(Keys::new("modelt").key("ext"), keys.key("text"));
    }

    #[test]
    fn a_key_of_a_pair_covers_both_texts_and_the_boundary_between_them() {
        let keys = Keys::new("model");
        let pair = |first, second| keys.behind(Before::First(first)).key(second);
        assert_eq!(pair("a", "b"), pair("a", "b"));
        for other in [pair("b", "a"), pair("ab", ""), pair("", "ab"), pair("a", "c"), keys.key("ab")] {
            assert_ne!(pair("a", "b"), other);
        }
    }

    #[test]
    fn the_boundary_after_a_prompt_that_takes_no_part_is_part_of_a_key() {
        let keys = Keys::new("model");
        let behind = |prompt, text| keys.behind_left_out(prompt).key(text);
        assert_eq!(behind("a", "b"), behind("a", "b"));
        for other in [behind("ab", ""), behind("", "ab"), keys.key("ab"), keys.behind(Before::First("a")).key("b")] {
            assert_ne!(behind("a", "b"), other);
        }
    }

    #[test]
    fn principals_share_no_key_and_connections_share_all() {
        let keys = Keys::new("model");
        let of = |caller| keys.of(caller).behind(Before::Prompt("p")).key("text");
        let plain = keys.behind(Before::Prompt("p")).key("text");
        assert_eq!((of(Caller::of_connection(1)), of(Caller::default())), (plain, plain));
        let (a, b) = (of(Caller::of_principal("a")), of(Caller::of_principal("b")));
        assert!(a != b && a != plain && b != plain && a == of(Caller::of_principal("a")));
    }

    #[tokio::test]
    async fn repeated_texts_are_kept_once_and_found_by_position() {
        let texts = ["b", "a", "b", "", "a"].map(str::to_owned).to_vec();
        let distinct = Distinct::of(&Keys::new("model"), texts).await;
        assert_eq!(distinct.texts, ["b", "a", ""]);
        assert_eq!(distinct.positions, [0, 1, 0, 2, 1]);
        assert_eq!(distinct.keys.len(), 3);
    }
}
