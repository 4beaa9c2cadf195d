//! The key of a text: a digest of the model and of the text as the model reads it. Equal texts have equal keys.
//!
//! It is the whole SHA-256. If a client could construct two texts with one key, others would receive a wrong vector;
//! nobody can. So no secret is needed. The cost is a microsecond or two for a kilobyte, a thousandth of the model's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sha2::{Digest, Sha256};

/// The bytes that are digested on an async thread before it turns to other calls: less than half a millisecond of work.
const STRETCH_BYTES: usize = 64 * 1024;

/// The key of a text for a model. Equal keys have equal vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Makes the keys of one model.
pub struct Keys(Sha256);

impl Keys {
    /// Creates the keys for the model of this fingerprint.
    pub fn new(fingerprint: &str) -> Self {
        let length = (fingerprint.len() as u64).to_le_bytes();
        Self(Sha256::new().chain_update(length).chain_update(fingerprint))
    }

    /// Returns the key of `text` behind `prompt`. The boundary between them is not part of the key, because the model
    /// does not see it either.
    pub fn key(&self, prompt: &str, text: &str) -> Key {
        Key(self.0.clone().chain_update(prompt).chain_update(text).finalize().into())
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
    /// Finds the distinct texts. All of them stand behind `prompt`.
    pub async fn of(keys: &Keys, prompt: &str, texts: Vec<String>) -> Self {
        let mut distinct = Self { keys: Vec::new(), texts: Vec::new(), positions: Vec::with_capacity(texts.len()) };
        let mut position_of = HashMap::new();
        let mut stretch = 0;
        for text in texts {
            stretch += text.len();
            if stretch > STRETCH_BYTES {
                tokio::task::yield_now().await;
                stretch = 0;
            }
            let key = keys.key(prompt, &text);
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
        assert_eq!(keys.key("", "text"), Keys::new("model").key("", "text"));
        assert_eq!(keys.key("query: ", "text"), keys.key("", "query: text"));
        assert_ne!(keys.key("query: ", "text"), keys.key("", "text"));
        assert_ne!(keys.key("", "text"), Keys::new("another").key("", "text"));
        assert_ne!(Keys::new("modelt").key("", "ext"), keys.key("", "text"));
    }

    #[tokio::test]
    async fn repeated_texts_are_kept_once_and_found_by_position() {
        let texts = ["b", "a", "b", "", "a"].map(str::to_owned).to_vec();
        let distinct = Distinct::of(&Keys::new("model"), "", texts).await;
        assert_eq!(distinct.texts, ["b", "a", ""]);
        assert_eq!(distinct.positions, [0, 1, 0, 2, 1]);
        assert_eq!(distinct.keys.len(), 3);
    }
}
