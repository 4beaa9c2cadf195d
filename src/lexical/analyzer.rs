//! Text → terms: the words of a text, in the form in which they are stored and looked up.
//!
//! A word is what Unicode says (UAX 29), in lower case. `E11.9` and `numpy.mean` are one word, and their parts are
//! terms beside it; `ORA-00942` is two words. So all of them are found as written, and `mean` finds `numpy.mean`. With
//! a language, stop words are left out and the others are stemmed. Documents and queries go the same way, or they would
//! not meet.

use std::str::Split;

use tantivy::tokenizer::{Stemmer, StopWordFilter, TextAnalyzer, Token, TokenStream, Tokenizer};
use unicode_segmentation::{UnicodeSegmentation, UnicodeWords};

use super::language::Language;

/// A longer word counts by its first bytes, cut at a character.
const MOST_WORD_BYTES: usize = 255;

/// Turns texts into terms.
#[derive(Clone)]
pub(super) struct Analyzer(TextAnalyzer);

impl Analyzer {
    /// An analyser for texts of a language; `None`: words are neither stemmed nor left out.
    pub(super) fn new(language: Option<Language>) -> Self {
        let mut words = TextAnalyzer::builder(Words::default()).dynamic();
        if let Some(language) = language {
            if let Some(stop_words) = StopWordFilter::new(language.stemmed) {
                words = words.filter_dynamic(stop_words);
            }
            words = words.filter_dynamic(Stemmer::new(language.stemmed));
        }
        Self(words.build())
    }

    /// Calls `each` with each term of the text, in order.
    pub(super) fn terms(&mut self, text: &str, mut each: impl FnMut(&str)) {
        self.0.token_stream(text).process(&mut |token| each(&token.text));
    }
}

/// The words of a text in lower case.
#[derive(Clone, Default)]
struct Words {
    token: Token,
}

/// The parts of one word.
type Parts<'a> = Split<'a, fn(char) -> bool>;

/// One pass over a text.
struct Pass<'a> {
    words: UnicodeWords<'a>,
    /// Parts of the last word that are still to come.
    parts: Option<Parts<'a>>,
    token: &'a mut Token,
}

/// True between two parts of a word. Apostrophes are not: nobody looks for the t of `can't`.
fn is_between(c: char) -> bool {
    !c.is_alphanumeric() && !matches!(c, '\'' | '’')
}

impl Tokenizer for Words {
    type TokenStream<'a> = Pass<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Pass<'a> {
        self.token.reset();
        Pass { words: text.unicode_words(), parts: None, token: &mut self.token }
    }
}

impl TokenStream for Pass<'_> {
    fn advance(&mut self) -> bool {
        let part = self.parts.as_mut().and_then(|parts| parts.find(|part| !part.is_empty()));
        let word = match part {
            Some(part) => part,
            None => {
                let Some(word) = self.words.next() else { return false };
                let word = &word[..word.floor_char_boundary(MOST_WORD_BYTES)];
                self.parts = word.contains(is_between).then(|| word.split(is_between as fn(char) -> bool));
                word
            }
        };
        let text = &mut self.token.text;
        text.clear();
        if word.is_ascii() {
            text.push_str(word);
            text.make_ascii_lowercase();
        } else {
            text.extend(word.chars().flat_map(char::to_lowercase));
        }
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(language: Option<&str>, text: &str) -> Vec<String> {
        let language = language.map(|code| Language::of_code(code).unwrap());
        let mut found = Vec::new();
        Analyzer::new(language).terms(text, |term| found.push(term.to_owned()));
        found
    }

    #[test]
    fn codes_and_words_of_all_scripts_stay_as_written_but_for_case() {
        assert_eq!(terms(None, "E11.9: ORA-00942, rc1!"), ["e11.9", "e11", "9", "ora", "00942", "rc1"]);
        assert_eq!(terms(None, "numpy.mean(_x)"), ["numpy.mean", "numpy", "mean", "_x", "x"]);
        assert_eq!(terms(None, "Größe, ÉTÉ; can't — naïve"), ["größe", "été", "can't", "naïve"]);
        assert_eq!(terms(None, "東京 タワー 3,50"), ["東", "京", "タワー", "3,50", "3", "50"]);
        assert!(terms(None, " -- ... \n").is_empty());
    }

    #[test]
    fn a_language_stems_words_and_leaves_its_stop_words_out() {
        assert_eq!(
            terms(Some("en"), "The runners were running to E11.9"),
            ["runner", "were", "run", "e11.9", "e11", "9"]
        );
        assert_eq!(terms(Some("de"), "die Häuser"), terms(Some("de"), "Häusern"));
        for code in Language::codes() {
            assert!(!terms(Some(code), "x7").is_empty(), "{code}");
        }
        assert_eq!(Language::of_code("xx"), None);
    }

    #[test]
    fn a_long_word_counts_by_its_beginning() {
        let found = terms(None, &format!("{} b", "aé".repeat(1_000)));
        assert_eq!((found.len(), found[0].len(), found[1].as_str()), (2, 255, "b"));
    }
}
