//! Turns a text into token ids, at most as many as the model reads.
//!
//! Truncation and padding of the tokenizer file are switched off: for several published models they contradict the
//! model card, and padding is left to the encoder. The length comes from the card.

use std::panic::catch_unwind;

use tokenizers::{PostProcessor, TruncationDirection};

/// The bytes for each token that the model reads, up to which a text is tokenised at first. More of the text is
/// tokenised only if that gave too few tokens. 16: English has 4 to 5 bytes a token.
const BYTES_PER_TOKEN: usize = 16;

/// The tokens past `max_tokens` that must be seen before the rest of a text is left unread. The cut may split a word,
/// and the rest of that word may have other tokens than the whole word.
///
/// WordPiece (BERT, MPNet): the longest word that the vocabulary spells out has 100 characters, so no token before the
/// margin belongs to a split word. Unigram (XLM-RoBERTa) and byte-level BPE (RoBERTa) spell out words of any length,
/// and a text without spaces is one word. But two words with the same beginning share their tokens up to a few before
/// the point where they differ. Only a run that repeats itself for thousands of bytes can carry a difference through
/// the margin.
const MARGIN_TOKENS: usize = 128;

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The token ids, at most `max_tokens`, special tokens included.
    pub ids: Vec<u32>,
    /// The number of tokens of the whole text, special tokens included. If the end of the text was not read, it is a
    /// lower bound above `max_tokens`.
    pub total: usize,
}

impl Tokens {
    /// Tokens that the model reads, and tokens that the text has.
    pub fn lengths(&self) -> (usize, usize) {
        (self.ids.len(), self.total)
    }
}

/// The way in which a model reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The most tokens that it reads, special tokens included.
    pub max_tokens: usize,
    /// The text is put into lower case first, whatever the tokenizer does.
    pub lowercase: bool,
    /// The part of a long text that is kept.
    pub kept: Kept,
}

/// The part of a text that is kept if it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kept {
    /// The first tokens.
    #[default]
    Beginning,
    /// The last tokens.
    End,
}

/// A tokenizer of a model, with its length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    reading: Reading,
    /// The number of special tokens around one text.
    added: usize,
}

/// The reasons why a tokenizer cannot be used, or fails on a text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not a tokenizer.
    #[error("not a tokenizer file: {0}")]
    Malformed(String),
    /// The special tokens leave no tokens for text.
    #[error("max_tokens is {max_tokens}, but the special tokens alone are {added}")]
    NoRoom {
        /// The length of the model.
        max_tokens: usize,
        /// The number of special tokens around one text.
        added: usize,
    },
    /// The tokenizer failed on a text.
    #[error("the text cannot be tokenised: {0}")]
    Text(String),
}

/// Reads a tokenizer file. `tokenizers` panics on a file whose decoder it does not know.
fn read(json: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    let json = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    // Not `from_bytes`, which is generic: all of the library's parsers would be compiled again in this crate.
    match catch_unwind(|| json.parse::<tokenizers::Tokenizer>()) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("a part of it has a form that the tokenizer library does not know".to_owned()),
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn new(json: &[u8], reading: Reading) -> Result<Self, TokenizerError> {
        let max_tokens = reading.max_tokens;
        let mut inner = read(json).map_err(TokenizerError::Malformed)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        let added = inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if max_tokens <= added {
            return Err(TokenizerError::NoRoom { max_tokens, added });
        }
        Ok(Self { inner, reading, added })
    }

    /// The greatest id of a token, added tokens included; `None` if there are no tokens.
    pub fn last_token(&self) -> Option<u32> {
        self.inner.get_vocab(true).into_values().max()
    }

    /// The most tokens of a text that the model reads.
    pub fn max_tokens(&self) -> usize {
        self.reading.max_tokens
    }

    /// Tokenises `text`. The time is linear in the part of the text that has to be read, not in its length.
    pub fn tokens(&self, text: &str) -> Result<Tokens, TokenizerError> {
        let fail = |e: tokenizers::Error| TokenizerError::Text(e.to_string());
        let lowered;
        let text = if self.reading.lowercase {
            lowered = text.to_lowercase();
            &lowered
        } else {
            text
        };
        let enough = self.max_tokens() + MARGIN_TOKENS;
        let mut bytes = enough * BYTES_PER_TOKEN;
        let mut encoding = self.inner.encode_fast(self.part(text, bytes), false).map_err(fail)?;
        while bytes < text.len() && encoding.len() < enough {
            bytes *= 4;
            encoding = self.inner.encode_fast(self.part(text, bytes), false).map_err(fail)?;
        }
        let total = encoding.len() + self.added;
        let left_out = match self.reading.kept {
            Kept::Beginning => TruncationDirection::Right,
            Kept::End => TruncationDirection::Left,
        };
        encoding.truncate(self.max_tokens() - self.added, 0, left_out);
        let encoding = self.inner.post_process(encoding, None, true).map_err(fail)?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), total })
    }

    /// Returns about `bytes` of `text`, from the side that is kept, in whole characters.
    fn part<'a>(&self, text: &'a str, bytes: usize) -> &'a str {
        match self.reading.kept {
            Kept::Beginning => &text[..text.floor_char_boundary(bytes)],
            Kept::End => &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..],
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
