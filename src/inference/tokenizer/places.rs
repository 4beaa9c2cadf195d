//! The tokens of a whole text, each with its place in the text. The text may have been put into lower case first: the
//! places are those in the original.

use std::ops::Range;

use super::{Inputs, Tokenizer, TokenizerError, fail};

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: u32,
    /// The part of the text that it stands for, or the name of a special token.
    pub text: String,
    /// True for a token that the tokenizer adds.
    pub special: bool,
    /// The bytes of the text that it stands for; empty for a special token.
    pub bytes: Range<usize>,
}

impl Tokenizer {
    /// Tokenises the whole of `text` and returns the places of its tokens.
    pub(in crate::inference) fn places(&self, text: &str) -> Result<TokenPlaces, TokenizerError> {
        let lowered = self.reading.lowercase.then(|| text.to_lowercase());
        let encoding = self.inner.encode(lowered.as_deref().unwrap_or(text), false).map_err(fail)?;
        let (mut starts, mut ends): (Vec<usize>, Vec<usize>) = encoding.get_offsets().iter().copied().unzip();
        for places in [&mut starts, &mut ends] {
            places.sort_unstable();
            if lowered.is_some() && !text.is_ascii() {
                before_lowercase(text, places);
            }
        }
        Ok(TokenPlaces { starts, ends })
    }

    /// Tokenises the whole of `text`; `special`: with the special tokens that the model reads around it.
    pub(in crate::inference) fn all(&self, text: &str, special: bool) -> Result<Vec<Token>, TokenizerError> {
        let special = special && !matches!(self.inputs, Inputs::Words(_));
        let lowered = self.reading.lowercase.then(|| text.to_lowercase());
        let encoding = self.inner.encode(lowered.as_deref().unwrap_or(text), special).map_err(fail)?;
        let mut places: Vec<usize> = encoding.get_offsets().iter().flat_map(|&(start, end)| [start, end]).collect();
        if lowered.is_some() && !text.is_ascii() {
            let mut lowered = places.clone();
            lowered.sort_unstable();
            lowered.dedup();
            let mut original = lowered.clone();
            before_lowercase(text, &mut original);
            for place in &mut places {
                *place = original[lowered.binary_search(place).expect("it is one of them")];
            }
        }
        let ids = encoding.get_ids().iter().zip(encoding.get_special_tokens_mask());
        let of_text = |(n, (id, special)): (usize, (&u32, &u32))| {
            let special = *special == 1;
            // A token may stand for a part of a character, or for nothing: a blank before a word.
            let bytes = match (special, &places[2 * n..2 * n + 2]) {
                (false, &[start, end]) => text.floor_char_boundary(start)..text.ceil_char_boundary(end.max(start)),
                _ => 0..0,
            };
            let own = if special { encoding.get_tokens()[n].as_str() } else { &text[bytes.clone()] };
            Token { id: *id, text: own.to_owned(), special, bytes }
        };
        Ok(ids.enumerate().map(of_text).collect())
    }
}

/// Turns ascending places in the lower case of a text into places in the text.
fn before_lowercase(text: &str, places: &mut [usize]) {
    let mut chars = text.chars();
    let (mut lowered_at, mut at) = (0, 0);
    for place in places {
        while lowered_at < *place
            && let Some(char) = chars.next()
        {
            lowered_at += char.to_lowercase().map(char::len_utf8).sum::<usize>();
            at += char.len_utf8();
        }
        *place = at;
    }
}

/// The places of a text's tokens, in bytes and in order. Special tokens have none.
#[derive(Debug)]
pub(in crate::inference) struct TokenPlaces {
    /// The first byte of each.
    starts: Vec<usize>,
    /// The byte after the last of each.
    ends: Vec<usize>,
}

impl TokenPlaces {
    /// The number of tokens.
    pub(in crate::inference) fn count(&self) -> usize {
        self.starts.len()
    }

    /// The first byte of a token, by its number; `None` if there are fewer.
    pub(in crate::inference) fn start(&self, number: usize) -> Option<usize> {
        self.starts.get(number).copied()
    }

    /// The number of tokens that end at this byte or before.
    pub(in crate::inference) fn before(&self, at: usize) -> usize {
        self.ends.partition_point(|end| *end <= at)
    }

    /// The number of tokens that touch these bytes.
    pub(in crate::inference) fn within(&self, bytes: Range<usize>) -> usize {
        self.starts.partition_point(|start| *start < bytes.end).saturating_sub(self.before(bytes.start))
    }
}
