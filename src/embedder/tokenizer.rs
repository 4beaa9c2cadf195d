//! Text to token ids, cut to what the model reads.
//!
//! The tokenizer file's own truncation and padding are switched off: for several published models
//! they contradict the model card, and padding is the encoder's business. Length comes from the card.

use tokenizers::{PostProcessor, TruncationDirection};

/// A text of more bytes than this for each token that the model reads is tokenised only up to
/// there, and further only if that was not enough tokens. 16: English has 4 to 5 bytes a token.
const BYTES_PER_TOKEN: usize = 16;

/// Tokens past `max_tokens` that must be seen before the rest of a text is left unread. The cut may
/// split a word, and the longest word that a WordPiece vocabulary spells out has 100 characters.
const MARGIN_TOKENS: usize = 128;

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// At most `max_tokens` ids, special tokens included.
    pub ids: Vec<u32>,
    /// Tokens of the whole text, special tokens included; a lower bound above `max_tokens` where
    /// the end of the text was not read.
    pub total: usize,
}

impl Tokens {
    /// The model does not read the whole text.
    pub fn truncated(&self) -> bool {
        self.total > self.ids.len()
    }
}

/// A tokenizer file and a length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
    lowercase: bool,
    /// Special tokens around one text.
    added: usize,
}

/// Why a tokenizer cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not a tokenizer.
    #[error("not a tokenizer file: {0}")]
    Malformed(String),
    /// There is no room for text beside the special tokens.
    #[error("max_tokens is {max_tokens}, but the special tokens alone are {added}")]
    NoRoom {
        /// The model's length.
        max_tokens: usize,
        /// Special tokens around one text.
        added: usize,
    },
    /// The tokenizer failed on a text.
    #[error("the text cannot be tokenised: {0}")]
    Text(String),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `max_tokens` counts special tokens too; `lowercase`: the model wants
    /// lower case, whatever its tokenizer does.
    pub fn new(json: &[u8], max_tokens: usize, lowercase: bool) -> Result<Self, TokenizerError> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(json).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        let added = inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if max_tokens <= added {
            return Err(TokenizerError::NoRoom { max_tokens, added });
        }
        Ok(Self { inner, max_tokens, lowercase, added })
    }

    /// Tokens of `text`. Costs time linear in what has to be read of the text, not in its length.
    pub fn tokens(&self, text: &str) -> Result<Tokens, TokenizerError> {
        let fail = |e: tokenizers::Error| TokenizerError::Text(e.to_string());
        let lowered;
        let text = if self.lowercase {
            lowered = text.to_lowercase();
            &lowered
        } else {
            text
        };
        let enough = self.max_tokens + MARGIN_TOKENS;
        let mut cut = text.floor_char_boundary(enough * BYTES_PER_TOKEN);
        let mut encoding = self.inner.encode_fast(&text[..cut], false).map_err(fail)?;
        while cut < text.len() && encoding.len() < enough {
            cut = text.floor_char_boundary(cut * 4);
            encoding = self.inner.encode_fast(&text[..cut], false).map_err(fail)?;
        }
        let total = encoding.len() + self.added;
        encoding.truncate(self.max_tokens - self.added, 0, TruncationDirection::Right);
        let encoding = self.inner.post_process(encoding, None, true).map_err(fail)?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), total })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A WordPiece tokenizer of five words, with the truncation and padding that must not count.
    pub fn tokenizer(max_tokens: usize) -> Tokenizer {
        let json = serde_json::json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100,
                      "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "cat": 4, "##s": 5}}
        });
        Tokenizer::new(json.to_string().as_bytes(), max_tokens, false).expect("a valid tokenizer")
    }

    #[test]
    fn the_files_own_padding_and_truncation_do_not_count() {
        let tokens = tokenizer(64).tokens("Cats cat cats").unwrap();
        assert_eq!(tokens.ids, [1, 4, 5, 4, 4, 5, 2]);
        assert_eq!(tokens.total, 7);
        assert!(!tokens.truncated());
    }

    #[test]
    fn a_long_text_keeps_its_head_and_both_special_tokens() {
        let tokens = tokenizer(5).tokens("cat cats cat cat").unwrap();
        assert_eq!(tokens.ids, [1, 4, 4, 5, 2]);
        assert_eq!(tokens.total, 7);
        assert!(tokens.truncated());
    }

    #[test]
    fn the_end_of_a_huge_text_is_not_read() {
        let tokens = tokenizer(8).tokens(&"cat ".repeat(1_000_000)).unwrap();
        assert_eq!(tokens.ids.len(), 8);
        assert!(tokens.truncated());
        assert!(tokens.total < 10_000, "{} tokens were read", tokens.total);
    }

    #[test]
    fn a_word_behind_a_megabyte_of_spaces_is_found() {
        let tokens = tokenizer(8).tokens(&format!("{}cats", " ".repeat(1 << 20))).unwrap();
        assert_eq!(tokens.ids, [1, 4, 5, 2]);
        assert!(!tokens.truncated());
    }

    #[test]
    fn a_cut_inside_a_character_is_moved_to_its_start() {
        let tokens = tokenizer(8).tokens(&"é".repeat(100_000)).unwrap();
        assert_eq!(tokens.ids, [1, 3, 2]);
    }

    #[test]
    fn a_length_without_room_for_text_is_refused() {
        let json = serde_json::to_vec(&tokenizer(8).inner).unwrap();
        assert!(matches!(Tokenizer::new(&json, 2, false), Err(TokenizerError::NoRoom { max_tokens: 2, added: 2 })));
    }
}
