//! What a text is known by, so that equal texts are recognised: the digest of what the model reads
//! of it, together with the model.
//!
//! SHA-256, whole: whoever could construct two texts with one key could make others receive a wrong
//! vector, and nobody can. So no secret is needed, and it costs a thousandth of what the model does:
//! a microsecond or two for a kilobyte.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sha2::{Digest, Sha256};

/// Bytes that are digested on an async thread before it looks after its other calls: less than half
/// a millisecond's work.
const STRETCH_BYTES: usize = 64 * 1024;

/// Name of a text and a model. Equal keys have equal vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Makes the keys of one model.
pub struct Keys(Sha256);

impl Keys {
    /// Keys for the model of this fingerprint.
    pub fn new(fingerprint: &str) -> Self {
        let length = (fingerprint.len() as u64).to_le_bytes();
        Self(Sha256::new().chain_update(length).chain_update(fingerprint))
    }

    /// The key of `text` behind `prompt`. Where one ends and the other begins is not in it: the model
    /// does not see that either.
    pub fn key(&self, prompt: &str, text: &str) -> Key {
        Key(self.0.clone().chain_update(prompt).chain_update(text).finalize().into())
    }
}

/// The texts of a call, each once.
pub struct Distinct {
    /// The key of each text.
    pub keys: Vec<Key>,
    /// The texts, in the order in which they first come.
    pub texts: Vec<String>,
    /// For each text of the call, its position among the distinct ones.
    pub places: Vec<usize>,
}

impl Distinct {
    /// Finds the distinct ones among `texts`, which all stand behind `prompt`.
    pub async fn of(keys: &Keys, prompt: &str, texts: Vec<String>) -> Self {
        let mut distinct = Self { keys: Vec::new(), texts: Vec::new(), places: Vec::with_capacity(texts.len()) };
        let mut place_of = HashMap::new();
        let mut stretch = 0;
        for text in texts {
            stretch += text.len();
            if stretch > STRETCH_BYTES {
                tokio::task::yield_now().await;
                stretch = 0;
            }
            let key = keys.key(prompt, &text);
            distinct.places.push(match place_of.entry(key) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(place) => {
                    distinct.keys.push(key);
                    distinct.texts.push(text);
                    *place.insert(distinct.keys.len() - 1)
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
    fn a_key_names_what_the_model_reads_and_the_model() {
        let keys = Keys::new("model");
        assert_eq!(keys.key("", "text"), Keys::new("model").key("", "text"));
        assert_eq!(keys.key("query: ", "text"), keys.key("", "query: text"));
        assert_ne!(keys.key("query: ", "text"), keys.key("", "text"));
        assert_ne!(keys.key("", "text"), Keys::new("another").key("", "text"));
        assert_ne!(Keys::new("modelt").key("", "ext"), keys.key("", "text"));
    }

    #[tokio::test]
    async fn texts_that_repeat_are_kept_once_and_found_again() {
        let texts = ["b", "a", "b", "", "a"].map(str::to_owned).to_vec();
        let distinct = Distinct::of(&Keys::new("model"), "", texts).await;
        assert_eq!(distinct.texts, ["b", "a", ""]);
        assert_eq!(distinct.places, [0, 1, 0, 2, 1]);
        assert_eq!(distinct.keys.len(), 3);
    }
}
