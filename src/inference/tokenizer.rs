//! Turns a text, or a pair of texts, into token ids, at most as many as the model reads.
//!
//! Truncation and padding of the tokenizer file are switched off: for several published models they contradict the
//! model card, and padding is left to the encoder. The length comes from the card.

mod chats;
mod error;
mod model2vec;
mod places;
mod tokens;
mod words;

use std::panic::catch_unwind;

use tokenizers::{Encoding, PostProcessor, TruncationDirection};

use chats::Chat;
pub use error::TokenizerError;
use model2vec::Model2Vec;
pub use places::Token;
pub(super) use places::TokenPlaces;
pub use tokens::Tokens;
use words::Words;

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
    /// The number of special tokens around an input.
    added: usize,
    inputs: Inputs,
    /// The tokens of a prompt take no part in the result.
    leaves_prompts_out: bool,
    /// The faster way to the ids of a text, for the kinds that have it.
    words: Option<Words>,
    /// The ids of the special tokens before and after each single text; `None` if they depend on the text.
    around: Option<[Vec<u32>; 2]>,
    /// The fixed texts of pairs that are chats.
    chat: Option<Chat>,
}

/// The inputs of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inputs {
    /// Single texts.
    Texts,
    /// Pairs of texts.
    Pairs {
        /// The tokens of the second text have type 1, as far as the tokenizer says so. Otherwise all have type 0.
        typed: bool,
    },
    /// Pairs of texts inside fixed texts, without special tokens.
    Chats,
    /// Single texts without special tokens.
    Words(Option<Model2Vec>),
}

/// The first text of pairs.
pub struct First(FirstPart);

enum FirstPart {
    /// Its tokens.
    Tokens(Box<Encoding>),
    /// The beginning of a chat up to the second text.
    Chat(String),
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
    /// Reads a `tokenizer.json` for a model of single texts.
    pub fn new(json: &[u8], reading: Reading) -> Result<Self, TokenizerError> {
        Self::of(json, reading, Inputs::Texts)
    }

    /// Reads a `tokenizer.json` for a model of pairs. `typed`: the model gets the token types.
    pub fn of_pairs(json: &[u8], reading: Reading, typed: bool) -> Result<Self, TokenizerError> {
        Self::of(json, reading, Inputs::Pairs { typed })
    }

    /// Reads a `tokenizer.json` for a model of pairs that are chats: `texts` stand before the first text of a pair,
    /// between both, and after the second. There are no other special tokens.
    pub fn of_chats(json: &[u8], reading: Reading, texts: [String; 3]) -> Result<Self, TokenizerError> {
        let tokenizer = Self::of(json, reading, Inputs::Chats)?;
        let ids = |text: &str| Ok(tokenizer.inner.encode_fast(text, false).map_err(fail)?.get_ids().to_vec());
        let chat = Chat::of(texts, ids)?;
        let (max_tokens, added) = (reading.max_tokens, chat.added());
        if max_tokens <= added {
            return Err(TokenizerError::NoRoom { max_tokens, added });
        }
        Ok(Self { added, chat: Some(chat), ..tokenizer })
    }

    /// Reads a `tokenizer.json` for a model of single texts without special tokens. `drops_unknown`: it reads texts as
    /// model2vec does.
    pub fn of_words(json: &[u8], reading: Reading, drops_unknown: bool) -> Result<Self, TokenizerError> {
        let mut tokenizer = Self::of(json, reading, Inputs::Words(None))?;
        if drops_unknown {
            let model = serde_json::from_slice(json).map_err(|error| TokenizerError::Malformed(error.to_string()))?;
            tokenizer.inputs = Inputs::Words(Some(Model2Vec::of(&tokenizer.inner, model, reading.max_tokens)));
        }
        Ok(tokenizer)
    }

    /// Leaves the tokens of prompts out of the result.
    pub fn leaving_prompts_out(self) -> Self {
        Self { leaves_prompts_out: true, ..self }
    }

    /// Returns whether the tokens of prompts take no part in the result.
    pub fn leaves_prompts_out(&self) -> bool {
        self.leaves_prompts_out
    }

    fn of(json: &[u8], reading: Reading, inputs: Inputs) -> Result<Self, TokenizerError> {
        let max_tokens = reading.max_tokens;
        let mut inner = read(json).map_err(TokenizerError::Malformed)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        let special = |is_pair| inner.get_post_processor().map_or(0, |p| p.added_tokens(is_pair));
        let added = match inputs {
            Inputs::Texts => special(false),
            Inputs::Pairs { .. } => special(true),
            Inputs::Words(_) | Inputs::Chats => 0,
        };
        if max_tokens <= added {
            return Err(TokenizerError::NoRoom { max_tokens, added });
        }
        let words = Words::of(&inner);
        let around = around(&inner);
        Ok(Self { inner, reading, added, inputs, leaves_prompts_out: false, words, around, chat: None })
    }

    /// The greatest id of a token, added tokens included; `None` if there are no tokens.
    pub fn last_token(&self) -> Option<u32> {
        self.inner.get_vocab(true).into_values().max()
    }

    /// The most tokens of a text that the model reads.
    pub fn max_tokens(&self) -> usize {
        self.reading.max_tokens
    }

    /// Tokenises `text` as an input of the model: for a model of pairs, behind a word.
    pub fn sample(&self, text: &str) -> Result<Tokens, TokenizerError> {
        match self.inputs {
            Inputs::Texts | Inputs::Words(_) => self.tokens(text),
            Inputs::Pairs { .. } | Inputs::Chats => self.pair(&self.first("Ready?")?, text),
        }
    }

    /// Tokenises `text`. The time is linear in the part of the text that has to be read, not in its length.
    pub fn tokens(&self, text: &str) -> Result<Tokens, TokenizerError> {
        if let Inputs::Words(reading) = self.inputs {
            return self.words(text, reading);
        }
        let Some([before, after]) = &self.around else {
            let mut encoding = self.encode(text, self.reading.kept)?;
            let total = encoding.len() + self.added;
            encoding.truncate(self.max_tokens() - self.added, 0, self.left_out());
            let encoding = self.inner.post_process(encoding, None, true).map_err(fail)?;
            return Ok(Tokens::of_text(encoding.get_ids().to_vec(), total));
        };
        let ids = self.ids(text)?;
        let kept = self.kept(&ids, self.max_tokens() - self.added);
        Ok(Tokens::of_text([before, kept, after].concat(), ids.len() + self.added))
    }

    /// Tokenises `text` without special tokens.
    fn words(&self, text: &str, reading: Option<Model2Vec>) -> Result<Tokens, TokenizerError> {
        let end = reading.and_then(|reading| text.char_indices().nth(reading.most_chars)).map(|(at, _)| at);
        let all = self.ids(&text[..end.unwrap_or(text.len())])?;
        let (mut ids, mut total) = (self.kept(&all, self.max_tokens()).to_vec(), all.len());
        if let Some(unknown) = reading.and_then(|reading| reading.unknown) {
            let before = ids.len();
            ids.retain(|id| *id != unknown);
            total -= before - ids.len();
        }
        // Tokens beyond the last character are not counted.
        Ok(Tokens::of_text(ids, if end.is_some() { total.max(self.max_tokens() + 1) } else { total }))
    }

    /// Counts the tokens of a prompt, as sentence-transformers does when it leaves them out: those of the prompt alone,
    /// without a special token at the end.
    pub fn prompt_tokens(&self, prompt: &str) -> Result<usize, TokenizerError> {
        let ids = self.tokens(prompt)?.ids;
        let last = ids.last().and_then(|id| self.inner.id_to_token(*id));
        let is_special = last.is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token));
        Ok(ids.len() - usize::from(is_special))
    }

    /// Tokenises the first text of pairs.
    ///
    /// # Errors
    /// [`TokenizerError::FirstTooLong`] if it leaves no room for a second text: only the second is cut.
    pub fn first(&self, text: &str) -> Result<First, TokenizerError> {
        let beginning = self.chat.as_ref().map(|chat| chat.beginning(text));
        let encoding = self.encode(beginning.as_deref().unwrap_or(text), Kept::Beginning)?;
        let (tokens, max_tokens) = (encoding.len() + self.added, self.max_tokens());
        if tokens >= max_tokens {
            return Err(TokenizerError::FirstTooLong { tokens, max_tokens });
        }
        Ok(First(beginning.map_or(FirstPart::Tokens(Box::new(encoding)), FirstPart::Chat)))
    }

    /// Tokenises a pair of texts. The second one is cut if both together are too long.
    pub fn pair(&self, First(first): &First, second: &str) -> Result<Tokens, TokenizerError> {
        let first = match (first, &self.chat) {
            (FirstPart::Tokens(first), _) => first,
            (FirstPart::Chat(beginning), Some(chat)) => return self.chat(chat, beginning, second),
            (FirstPart::Chat(_), None) => return Err(TokenizerError::Text("a chat of another model".to_owned())),
        };
        let mut second = self.encode(second, self.reading.kept)?;
        let around = first.len() + self.added;
        let total = around + second.len();
        second.truncate(self.max_tokens() - around, 0, self.left_out());
        second.take_overflowing();
        // As in the library's own call with two texts; some post-processors keep these types.
        second.set_type_ids(vec![1; second.len()]);
        let encoding = self.inner.post_process(Encoding::clone(first), Some(second), true).map_err(fail)?;
        let (ids, types) = (encoding.get_ids().to_vec(), encoding.get_type_ids());
        if self.inputs != (Inputs::Pairs { typed: true }) {
            return Ok(Tokens::of_text(ids, total));
        }
        let first = types.iter().take_while(|of_token| **of_token == 0).count();
        if types[first..].iter().any(|of_token| *of_token != 1) {
            return Err(TokenizerError::Types { types: types.to_vec() });
        }
        Ok(Tokens { ids, first, left_out: 0, total })
    }

    /// Tokenises a pair that is a chat.
    fn chat(&self, chat: &Chat, beginning: &str, second: &str) -> Result<Tokens, TokenizerError> {
        let mut ids = self.read(second, Kept::Beginning, Vec::len, |part| {
            let text = chat.with(beginning, part, second);
            Ok(self.inner.encode_fast(text, false).map_err(fail)?.get_ids().to_vec())
        })?;
        let total = ids.len();
        chat.cut(&mut ids, self.max_tokens());
        Ok(Tokens::of_text(ids, total))
    }

    /// Returns the part of a text's ids that is kept.
    fn kept<'a>(&self, ids: &'a [u32], most: usize) -> &'a [u32] {
        match self.reading.kept {
            Kept::Beginning => &ids[..ids.len().min(most)],
            Kept::End => &ids[ids.len().saturating_sub(most)..],
        }
    }

    /// Tokenises a text without special tokens, up to the point after which nothing can matter. Returns the ids.
    fn ids(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.read(text, self.reading.kept, Vec::len, |part| {
            let mut ids = Vec::new();
            if let Some(words) = &self.words
                && words.tokenise(&self.inner, part, &mut ids).map_err(fail)?
            {
                return Ok(ids);
            }
            Ok(self.inner.encode_fast(part, false).map_err(fail)?.get_ids().to_vec())
        })
    }

    /// Tokenises a text without special tokens, up to the point after which nothing can matter.
    fn encode(&self, text: &str, kept: Kept) -> Result<Encoding, TokenizerError> {
        self.read(text, kept, Encoding::len, |part| self.inner.encode_fast(part, false).map_err(fail))
    }

    /// Tokenises a part of a text by `of`, and a longer one as long as it has too few tokens.
    fn read<T>(
        &self,
        text: &str,
        kept: Kept,
        tokens: impl Fn(&T) -> usize,
        of: impl Fn(&str) -> Result<T, TokenizerError>,
    ) -> Result<T, TokenizerError> {
        let lowered;
        let text = if self.reading.lowercase {
            lowered = text.to_lowercase();
            &lowered
        } else {
            text
        };
        let enough = self.max_tokens() + MARGIN_TOKENS;
        let mut bytes = enough * BYTES_PER_TOKEN;
        let mut read = of(part(text, bytes, kept))?;
        while bytes < text.len() && tokens(&read) < enough {
            bytes *= 4;
            read = of(part(text, bytes, kept))?;
        }
        Ok(read)
    }

    /// The side at which a long text is cut off.
    fn left_out(&self) -> TruncationDirection {
        match self.reading.kept {
            Kept::Beginning => TruncationDirection::Right,
            Kept::End => TruncationDirection::Left,
        }
    }
}

/// Finds the ids of the special tokens around a single text.
fn around(tokenizer: &tokenizers::Tokenizer) -> Option<[Vec<u32>; 2]> {
    // No token has this id.
    let text = Encoding::from_tokens(vec![tokenizers::Token::new(u32::MAX, "text".to_owned(), (0, 4))], 0);
    let encoding = tokenizer.post_process(text, None, true).ok()?;
    let mut parts = encoding.get_ids().split(|id| *id == u32::MAX).map(<[u32]>::to_vec);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Some([before, after]),
        _ => None,
    }
}

/// Returns about `bytes` of `text`, from the side that is kept, in whole characters.
fn part(text: &str, bytes: usize, kept: Kept) -> &str {
    match kept {
        Kept::Beginning => &text[..text.floor_char_boundary(bytes)],
        Kept::End => &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..],
    }
}

/// Makes the error of the library.
fn fail(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Text(error.to_string())
}

#[cfg(test)]
pub(super) mod tests;
