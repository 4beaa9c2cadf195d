//! Text → terms: the words of a text, in the form in which they are stored and looked up.
//!
//! A word is what Unicode says (UAX 29), in lower case. `E11.9` and `numpy.mean` are one word, and their parts are
//! terms beside it: `mean` finds `numpy.mean`. `C91.A2` and `ORA-00942` are two words each, which are common. So the
//! whole code is a term before them: a run of letters, digits and [`JOINERS`], with a digit, over several words. The
//! letters have a case: scripts without it may be written without blanks, and a run would be a sentence. Each of these
//! terms counts in the length of the document.
//!
//! With a language, stop words are left out and the others are stemmed. Documents and queries go the same way, or they
//! would not meet.

use std::str::Split;

use tantivy::tokenizer::{Stemmer, StopWordFilter, TextAnalyzer, Token, TokenStream, Tokenizer};
use unicode_segmentation::{UnicodeSegmentation, UnicodeWordIndices};

use super::language::Language;

/// A longer word counts by its first bytes, cut at a character. A longer run is not a code.
const MOST_WORD_BYTES: usize = 255;

/// Characters between the words of a code.
const JOINERS: [char; 8] = ['-', '.', '_', '/', '\\', ':', '+', '@'];

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
    text: &'a str,
    words: UnicodeWordIndices<'a>,
    /// The end of the last run. The words up to it belong to it.
    run_end: usize,
    /// The first word of the last code, which is still to come.
    first_word: Option<&'a str>,
    /// Parts of the last word that are still to come.
    parts: Option<Parts<'a>>,
    token: &'a mut Token,
}

impl<'a> Pass<'a> {
    /// The next term as the text has it.
    fn next(&mut self) -> Option<&'a str> {
        if let Some(part) = self.parts.as_mut().and_then(|parts| parts.find(|part| !part.is_empty())) {
            return Some(part);
        }
        let word = match self.first_word.take() {
            Some(word) => word,
            None => {
                let (start, word) = self.words.next()?;
                if start >= self.run_end {
                    let run = run(&self.text[start..]);
                    self.run_end = start + run.len().max(word.len());
                    if (word.len() + 1..=MOST_WORD_BYTES).contains(&run.len()) && run.contains(char::is_numeric) {
                        self.first_word = Some(word);
                        return Some(run.trim_start_matches(JOINERS));
                    }
                }
                word
            }
        };
        let word = &word[..word.floor_char_boundary(MOST_WORD_BYTES)];
        self.parts = word.contains(is_between).then(|| word.split(is_between as fn(char) -> bool));
        Some(word)
    }
}

/// True between two parts of a word. Apostrophes are not: nobody looks for the t of `can't`.
fn is_between(c: char) -> bool {
    !c.is_alphanumeric() && !matches!(c, '\'' | '’')
}

/// The run of letters, digits and joiners at the beginning of a text, without the joiners behind it.
fn run(text: &str) -> &str {
    let is_outside = |c: char| !(c.is_numeric() || c.is_lowercase() || c.is_uppercase() || JOINERS.contains(&c));
    text[..text.find(is_outside).unwrap_or(text.len())].trim_end_matches(JOINERS)
}

impl Tokenizer for Words {
    type TokenStream<'a> = Pass<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Pass<'a> {
        self.token.reset();
        let words = text.unicode_word_indices();
        Pass { text, words, run_end: 0, first_word: None, parts: None, token: &mut self.token }
    }
}

impl TokenStream for Pass<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.next() else { return false };
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
        assert_eq!(terms(None, "E11.9: ORA-00942, rc1!"), ["e11.9", "e11", "9", "ora-00942", "ora", "00942", "rc1"]);
        assert_eq!(terms(None, "numpy.mean(_x)"), ["numpy.mean", "numpy", "mean", "_x", "x"]);
        assert_eq!(terms(None, "Größe, ÉTÉ; can't — naïve"), ["größe", "été", "can't", "naïve"]);
        assert_eq!(terms(None, "東京 タワー 3,50"), ["東", "京", "タワー", "3,50", "3", "50"]);
        assert!(terms(None, " -- ... \n").is_empty());
    }

    #[test]
    fn a_code_that_unicode_divides_is_a_term_before_its_words() {
        for (text, expected) in [
            ("(C91.A2).", vec!["c91.a2", "c91", "a2"]),
            ("see INC-2024/17:", vec!["see", "inc-2024/17", "inc", "2024", "17"]),
            ("v1.2.3-rc1…", vec!["v1.2.3-rc1", "v1.2.3", "v1", "2", "3", "rc1"]),
            ("10.0.0.1 ok", vec!["10.0.0.1", "10", "0", "0", "1", "ok"]),
            ("__KX_4-B/7__", vec!["kx_4-b/7", "__kx_4", "kx", "4", "b", "7__", "7"]),
            ("\"Ä-1\",'Б-2'", vec!["ä-1", "ä", "1", "б-2", "б", "2"]),
            // Without a digit, in one word, and in a script without case or blanks.
            ("and/or E-mail", vec!["and", "or", "e", "mail"]),
            ("a_1 3,50-", vec!["a_1", "a", "1", "3,50", "3", "50"]),
            ("東-1", vec!["東", "1"]),
        ] {
            assert_eq!(terms(None, text), expected, "{text}");
        }
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
        assert_eq!(terms(None, &"a1-".repeat(85)).len(), 86);
        assert_eq!(terms(None, &"a1-".repeat(86)).len(), 86, "a long run is not a code");
    }
}
