//! Cuts a text that is longer than the model reads into passages: the door of `text-splitter`.
//!
//! The crate finds the ends of paragraphs, sentences and words. The tokens between two of them are counted by one
//! tokenisation of the whole text: a part of the text has the tokens that touch it. A tokenizer may give a part a few
//! tokens more than it has in the whole, so each passage is tokenised by itself too, and cut again if it is too long.
//!
//! The crate looks at the whole rest of a text for each passage, which is quadratic. So it gets the text in windows of
//! a few passages, and of each window those passages are kept that would be the same in a longer one.
//!
//! Invariants: each byte of the text that is no white space lies in a passage. Passages are in order: each begins and
//! ends behind the one before. Only a passage of a single character may have more tokens than allowed.

use std::cmp::Reverse;
use std::ops::Range;

use text_splitter::{ChunkConfig, ChunkSizer, TextSplitter};

use super::text::{ModelFailed, TextError};
use super::tokenizer::{TokenPlaces, Tokenizer};
use crate::compute::stop::Stop;

/// The length of a window, in passages.
const WINDOW: usize = 4;
/// The passages that must still follow in the window behind the beginning of one that is kept.
const LOOK_AHEAD: usize = 2;

/// The sizes of passages, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The most tokens of a passage, special tokens and prompt included.
    pub max_tokens: usize,
    /// The most tokens that a passage repeats from the end of the one before it.
    pub overlap_tokens: usize,
    /// The most passages of a text.
    pub max_passages: usize,
}

/// A text that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The bytes of each passage, in order.
    pub passages: Vec<Range<usize>>,
    /// The number of tokens of the whole text, special tokens and prompt included.
    pub tokens_total: usize,
}

/// Cuts `text`, which stands behind `prompt` in the model. `stop` ends the work; then there is no result.
pub(super) fn cut(
    tokenizer: &Tokenizer,
    prompt: &str,
    text: &str,
    sizes: Sizes,
    stop: &Stop,
) -> Result<Cut, TextError> {
    let places = tokenizer.places(text)?;
    let around = tokenizer.tokens(prompt)?.total;
    let mut passages = Vec::new();
    match sizes.max_tokens.saturating_sub(around) {
        // The prompt leaves nothing to cut for.
        0 => passages.push(0..text.len()),
        room => {
            let work = Cutting { tokenizer, prompt, text, places: &places, sizes, stop };
            work.fit(0..text.len(), room, &mut passages)?;
        }
    }
    // A passage that was cut again may end in one that lies in its overlap with the next.
    passages.sort_unstable_by_key(|passage| (passage.start, Reverse(passage.end)));
    let mut end = 0;
    passages.retain(|passage| {
        let is_new = passage.end > end;
        end = end.max(passage.end);
        is_new
    });
    Ok(Cut { passages, tokens_total: places.count() + around })
}

struct Cutting<'t> {
    tokenizer: &'t Tokenizer,
    prompt: &'t str,
    text: &'t str,
    places: &'t TokenPlaces,
    sizes: Sizes,
    stop: &'t Stop,
}

impl Cutting<'_> {
    /// Cuts a part of the text into passages of `room` tokens, and those again that are still too long.
    fn fit(&self, part: Range<usize>, room: usize, passages: &mut Vec<Range<usize>>) -> Result<(), TextError> {
        let overlap = self.sizes.overlap_tokens.min(room / 2);
        for piece in self.pieces(part, room, overlap)? {
            let part = &self.text[piece.clone()];
            let tokens = self.tokenizer.tokens(&format!("{}{part}", self.prompt))?;
            let second = part.char_indices().nth(1).map(|(at, _)| at);
            match second.filter(|_| tokens.total > self.sizes.max_tokens) {
                None => passages.push(piece),
                Some(_) if room > 1 => self.fit(piece, room / 2, passages)?,
                // A word of one token that has several without the words around it.
                Some(second) => {
                    let middle = piece.start + part.floor_char_boundary(part.len() / 2).max(second);
                    self.fit(piece.start..middle, room, passages)?;
                    self.fit(middle..piece.end, room, passages)?;
                }
            }
            if passages.len() > self.sizes.max_passages {
                return Err(TextError::TooManyPassages { max_passages: self.sizes.max_passages });
            }
        }
        Ok(())
    }

    /// Cuts a part of the text by the tokens of the whole.
    fn pieces(&self, part: Range<usize>, room: usize, overlap: usize) -> Result<Vec<Range<usize>>, TextError> {
        let sizer = PlaceSizer { places: self.places, text_at: self.text.as_ptr() as usize };
        let config = ChunkConfig::new(room).with_sizer(sizer);
        let config = config.with_overlap(overlap).expect("at most half of the room is repeated");
        let splitter = TextSplitter::new(config.with_trim(true));
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut from = part.start;
        while from < part.end {
            self.stop.check().map_err(|_| ModelFailed)?;
            let beyond = self.places.before(from) + WINDOW * room;
            let end = self.places.start(beyond).unwrap_or(part.end).min(part.end);
            let end = if end > from { self.text.floor_char_boundary(end) } else { part.end };
            let is_last = end == part.end;
            let mut next = None;
            for (offset, chunk) in splitter.chunk_indices(&self.text[from..end]) {
                let piece = from + offset..from + offset + chunk.len();
                let is_sure = self.places.before(piece.start) + LOOK_AHEAD * room <= beyond;
                if !is_last && !is_sure && piece.start > from {
                    next = Some(piece.start);
                    break;
                }
                if pieces.last().is_none_or(|last| piece.end > last.end) {
                    pieces.push(piece);
                }
            }
            from = if is_last { part.end } else { next.unwrap_or(end) };
        }
        Ok(pieces)
    }
}

/// Counts the tokens of a part of the text by its place in memory.
struct PlaceSizer<'t> {
    places: &'t TokenPlaces,
    text_at: usize,
}

impl ChunkSizer for PlaceSizer<'_> {
    fn size(&self, chunk: &str) -> usize {
        let start = (chunk.as_ptr() as usize).saturating_sub(self.text_at);
        self.places.within(start..start + chunk.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tokenizer::tests::{byte_pairs, tokenizer, unigram};
    use super::*;

    fn sizes(max_tokens: usize, overlap_tokens: usize) -> Sizes {
        Sizes { max_tokens, overlap_tokens, max_passages: usize::MAX }
    }

    fn parts(text: &str, sizes: Sizes) -> Vec<&str> {
        let cut = cut(&tokenizer(100), "", text, sizes, &Stop::never()).unwrap();
        cut.passages.into_iter().map(|passage| &text[passage]).collect()
    }

    #[test]
    fn a_text_is_cut_at_paragraphs_then_sentences_then_words() {
        let (cats, more) = ("Cat cat cat cat.", "Cat cats.");
        assert_eq!(
            parts(&format!("{cats}\n\n{more} {more}\n\n{cats}"), sizes(10, 0)),
            [cats, &format!("{more} {more}"), cats]
        );
        assert_eq!(parts(&format!("{cats} {more} {more}"), sizes(10, 0)), [cats, &format!("{more} {more}")]);
        assert_eq!(parts("cat cat cat cat cat", sizes(4, 0)), ["cat cat", "cat cat", "cat"]);
    }

    #[test]
    fn a_passage_repeats_the_end_of_the_one_before_it() {
        assert_eq!(parts("a b c d e f g h", sizes(6, 2)), ["a b c d", "c d e f", "e f g h"]);
    }

    #[test]
    fn more_passages_than_allowed_are_an_error() {
        let few = |max_passages| {
            let sizes = Sizes { max_passages, ..sizes(4, 0) };
            cut(&tokenizer(100), "", "cat cat cat cat cat", sizes, &Stop::never()).map(|cut| cut.passages.len())
        };
        assert_eq!(few(3), Ok(3));
        assert_eq!(few(2), Err(TextError::TooManyPassages { max_passages: 2 }));
    }

    #[test]
    fn a_search_that_is_stopped_has_no_passages() {
        let stop = Stop::never();
        stop.raise();
        assert!(cut(&tokenizer(100), "", "cat cat cat", sizes(4, 0), &stop).is_err());
    }

    /// Texts of words, sentences, paragraphs and characters that tokenizers treat in their own way.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => "(cat|cats|abc|cab|a|x){1,3}[ ]",
            2 => prop::sample::select(vec![". ", "\n\n", "\n", "! ", "  ", "\t", "\r\n"]).prop_map(str::to_owned),
            1 => "\\PC{1,4}",
            1 => prop::sample::select(vec!["İ", "ﷺ", "ΣΑΣ", "👩‍👩‍👧", "é", "\u{0}", "漢字"]).prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_passage_fits(
            text in text(), kind in 0..4usize, max_tokens in 6..24usize, overlap in 0..12usize, prompt in "(cat: )?",
        ) {
            let tokenizer = match kind {
                0 => tokenizer(100),
                1 => unigram(100),
                2 => byte_pairs(100),
                _ => tokenizer(100).with_lowercase(),
            };
            prop_assume!(tokenizer.tokens(&prompt).unwrap().total < max_tokens);
            let cut = cut(&tokenizer, &prompt, &text, sizes(max_tokens, overlap), &Stop::never()).unwrap();
            let mut end = 0;
            for (n, passage) in cut.passages.iter().enumerate() {
                prop_assert!(passage.start < passage.end && passage.end > end);
                prop_assert!(n == 0 || passage.start > cut.passages[n - 1].start);
                if let Some(left_out) = text.get(end..passage.start) {
                    prop_assert!(left_out.trim().is_empty(), "{left_out:?} is lost");
                }
                end = passage.end;
                let part = &text[passage.clone()];
                let tokens = tokenizer.tokens(&format!("{prompt}{part}")).unwrap();
                prop_assert!(tokens.total <= max_tokens || part.chars().count() == 1, "{part:?}: {}", tokens.total);
            }
            prop_assert!(text[end..].trim().is_empty(), "{:?} is lost", &text[end..]);
        }

        #[test]
        fn windows_cut_as_the_whole_text_would_be(
            words in prop::collection::vec("(cat|cats|dog)", 1..400), breaks in 2..30usize, overlap in 0..4usize,
        ) {
            let mut text = String::new();
            for (n, word) in words.iter().enumerate() {
                text.push_str(word);
                text.push_str(match n % breaks { 0 if n % (2 * breaks) == 0 => ".\n\n", 0 => ". ", _ => " " });
            }
            let tokenizer = tokenizer(100);
            let cut = cut(&tokenizer, "", &text, sizes(12, overlap), &Stop::never()).unwrap();
            let places = tokenizer.places(&text).unwrap();
            let sizer = PlaceSizer { places: &places, text_at: text.as_ptr() as usize };
            let config = ChunkConfig::new(10).with_sizer(sizer).with_overlap(overlap).unwrap();
            let splitter = TextSplitter::new(config);
            let whole: Vec<&str> = splitter.chunks(&text).collect();
            prop_assert_eq!(cut.passages.iter().map(|passage| &text[passage.clone()]).collect::<Vec<_>>(), whole);
        }
    }
}
