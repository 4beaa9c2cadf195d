//! Text to token ids, cut to what the model reads.
//!
//! The tokenizer file's own truncation and padding are switched off: for several published models
//! they contradict the model card, and padding is the encoder's business. Length comes from the card.

use std::panic::catch_unwind;

use tokenizers::{PostProcessor, TruncationDirection};

/// A text of more bytes than this for each token that the model reads is tokenised only up to
/// there, and further only if that was not enough tokens. 16: English has 4 to 5 bytes a token.
const BYTES_PER_TOKEN: usize = 16;

/// Tokens past `max_tokens` that must be seen before the rest of a text is left unread. The cut may split a word, and
/// what is left of the word may have other tokens than the whole.
///
/// WordPiece (BERT, MPNet): the longest word that its vocabulary spells out has 100 characters, so no token before the
/// margin is of a split word. Unigram (XLM-RoBERTa) and byte-level BPE (RoBERTa) spell out words of any length, and
/// all of a text without spaces is one word; but two ends of one beginning share their tokens up to a few before they
/// part. What can carry on through the margin is a run that repeats itself for thousands of bytes.
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
    /// Tokens that the model reads, and tokens that the text has.
    pub fn lengths(&self) -> (usize, usize) {
        (self.ids.len(), self.total)
    }
}

/// How a model reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Tokens that it reads, special tokens included.
    pub max_tokens: usize,
    /// It wants lower case, whatever its tokenizer does.
    pub lowercase: bool,
    /// What is kept of a text that is too long.
    pub kept: Kept,
}

/// The part of a text that is kept where it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kept {
    /// Its first tokens.
    #[default]
    Beginning,
    /// Its last tokens.
    End,
}

/// A tokenizer file and a length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    reading: Reading,
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

/// `tokenizers` panics on a file whose decoder is none that it knows.
fn read(json: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    match catch_unwind(|| tokenizers::Tokenizer::from_bytes(json)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("a part of it has a form that no tokenizer has".to_owned()),
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

    /// The greatest number of a token, added tokens included; none where there are no tokens.
    pub fn last_token(&self) -> Option<u32> {
        self.inner.get_vocab(true).into_values().max()
    }

    /// Tokens of a text that the model reads.
    pub fn max_tokens(&self) -> usize {
        self.reading.max_tokens
    }

    /// Tokens of `text`. Costs time linear in what has to be read of the text, not in its length.
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

    /// About `bytes` of the part of `text` that is kept, whole characters.
    fn part<'a>(&self, text: &'a str, bytes: usize) -> &'a str {
        match self.reading.kept {
            Kept::Beginning => &text[..text.floor_char_boundary(bytes)],
            Kept::End => &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..],
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
