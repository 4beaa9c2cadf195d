//! The parser of filters: `lang = "en" and (year >= 2020 or not draft = true)`.
//!
//! ```text
//! filter    = and { "or" and }
//! and       = not { "and" not }
//! not       = "not" not | "(" filter ")" | condition
//! condition = path ( "=" | "!=" ) value | path "in" "(" value { "," value } ")" | path "exists"
//!           | path ( "<" | "<=" | ">" | ">=" ) number | number ( "<" | "<=" ) path [ ( "<" | "<=" ) number ]
//! path      = key { "." key }                     key   = word | quoted, which may be empty: "a.b".c, ""
//! value     = "null" | "true" | "false" | number | quoted | word
//! ```
//! A word consists of letters, digits, `_` and `-` and begins with a letter or `_`. Keywords must be quoted to be
//! keys or values. Quotes are single or double, with JSON's escapes.

use std::ops::Bound;

use super::words::{Misquoted, is_keyword, opening, word};
use super::{Bounds, Filter, Finite, Path, Scalar};

/// Deepest nesting that is accepted: deeper than people write, and far from the end of the stack.
pub const MAX_DEPTH: usize = 32;

/// A syntax error in the text of a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} at character {}: {reason}",
    found.as_ref().map_or_else(|| "the end".to_owned(), |found| format!("{found:?}")),
    position + 1
)]
pub struct Error {
    /// Number of characters before the error.
    pub position: usize,
    /// The text at the error; `None`: the end.
    pub found: Option<String>,
    /// The mistake; mostly the token that was expected.
    pub reason: &'static str,
}

/// Reads a filter.
pub fn parse(text: &str) -> Result<Filter, Error> {
    let mut parser = Parser { rest: text, text, depth: 0 };
    let filter = parser.or()?;
    if !parser.peek().is_empty() {
        return Err(parser.error("expected \"and\", \"or\" or the end"));
    }
    if filter.depth() > MAX_DEPTH {
        return Err(Parser { rest: text, text, depth: 0 }.error(TOO_DEEP));
    }
    Ok(filter)
}

const TOO_DEEP: &str = "nested more than 32 deep";

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn or(&mut self) -> Result<Filter, Error> {
        let mut filters = vec![self.and()?];
        while self.keyword("or") {
            filters.push(self.and()?);
        }
        Ok(Filter::any(filters))
    }

    fn and(&mut self) -> Result<Filter, Error> {
        let mut filters = vec![self.not()?];
        while self.keyword("and") {
            filters.push(self.not()?);
        }
        Ok(Filter::all(filters))
    }

    fn not(&mut self) -> Result<Filter, Error> {
        self.depth += 1;
        if self.depth > 2 * MAX_DEPTH {
            return Err(self.error(TOO_DEEP));
        }
        let filter = if self.keyword("not") {
            Filter::Not(Box::new(self.not()?))
        } else if self.symbol("(") {
            let inner = self.or()?;
            self.expect(")")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn condition(&mut self) -> Result<Filter, Error> {
        if let Some(number) = self.number()? {
            return self.between(number);
        }
        let path = self.path()?;
        if self.keyword("exists") {
            return Ok(Filter::Exists(path));
        }
        if self.keyword("in") {
            return self.values().map(|values| Filter::In(path, values));
        }
        // Longer symbols come before their prefixes.
        for symbol in ["!=", "<=", ">=", "=", "<", ">"] {
            if !self.symbol(symbol) {
                continue;
            }
            if symbol == "=" {
                return Ok(Filter::In(path, vec![self.value()?]));
            }
            if symbol == "!=" {
                return Ok(Filter::Not(Box::new(Filter::In(path, vec![self.value()?]))));
            }
            let number = self.expect_number()?;
            let (lower, upper) = match symbol {
                "<=" => (Bound::Unbounded, Bound::Included(number)),
                "<" => (Bound::Unbounded, Bound::Excluded(number)),
                ">=" => (Bound::Included(number), Bound::Unbounded),
                _ => (Bound::Excluded(number), Bound::Unbounded),
            };
            return Ok(Filter::Range(path, Bounds { lower, upper }));
        }
        Err(self.error("expected =, !=, <, <=, >, >=, \"in\" or \"exists\""))
    }

    /// Parses the part after the number in `1 < path <= 2`.
    fn between(&mut self, lower: Finite) -> Result<Filter, Error> {
        let Some(bound) = self.less() else { return Err(self.error("expected < or <=")) };
        let lower = bound(lower);
        let path = self.path()?;
        let upper = match self.less() {
            Some(bound) => bound(self.expect_number()?),
            None => Bound::Unbounded,
        };
        Ok(Filter::Range(path, Bounds { lower, upper }))
    }

    fn less(&mut self) -> Option<fn(Finite) -> Bound<Finite>> {
        if self.symbol("<=") {
            return Some(Bound::Included);
        }
        self.symbol("<").then_some(Bound::Excluded)
    }

    fn values(&mut self) -> Result<Vec<Scalar>, Error> {
        self.expect("(")?;
        let mut values = vec![self.value()?];
        while self.symbol(",") {
            values.push(self.value()?);
        }
        self.expect(")")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<Scalar, Error> {
        for (word, value) in [("null", Scalar::Null), ("true", Scalar::Bool(true)), ("false", Scalar::Bool(false))] {
            if self.keyword(word) {
                return Ok(value);
            }
        }
        if let Some(number) = self.number()? {
            return Ok(Scalar::Number(number));
        }
        let text = self.word_or_quoted("expected a value: a word, a quoted text, a number, true, false or null")?;
        Ok(Scalar::Text(text.into()))
    }

    fn path(&mut self) -> Result<Path, Error> {
        const EXPECTED: &str = "expected the path of a field";
        let mut keys = vec![self.word_or_quoted(EXPECTED)?];
        while self.symbol(".") {
            keys.push(self.word_or_quoted("expected a key of the path")?);
        }
        Path::new(keys).ok_or_else(|| self.error(EXPECTED))
    }

    fn word_or_quoted(&mut self, expected: &'static str) -> Result<String, Error> {
        if let Some(text) = self.quoted()? {
            return Ok(text);
        }
        let word = word(self.peek());
        if word.is_empty() {
            return Err(self.error(expected));
        }
        if is_keyword(word) {
            return Err(self.error("a word of the grammar: quote it"));
        }
        self.rest = &self.rest[word.len()..];
        Ok(word.to_owned())
    }

    /// Parses a quoted text, if one begins here.
    fn quoted(&mut self) -> Result<Option<String>, Error> {
        match opening(self.peek()) {
            Ok(None) => Ok(None),
            Ok(Some((text, after))) => {
                self.rest = after;
                Ok(Some(text))
            }
            Err(Misquoted::Open) => Err(self.error("this quote is not closed")),
            Err(Misquoted::Escape) => Err(self.error("this quoted text has an escape that JSON lacks")),
        }
    }

    /// Parses a number, if one begins here.
    fn number(&mut self) -> Result<Option<Finite>, Error> {
        let rest = self.peek();
        if !rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
            return Ok(None);
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | '_')));
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        match number.parse().ok().and_then(Finite::new) {
            Some(number) => {
                self.rest = after;
                Ok(Some(number))
            }
            None => Err(self.error("expected a finite number; a text that begins so must be quoted")),
        }
    }

    fn expect_number(&mut self) -> Result<Finite, Error> {
        match self.number()? {
            Some(number) => Ok(number),
            None => Err(self.error("expected a number")),
        }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let word = word(self.peek());
        let is = word.eq_ignore_ascii_case(keyword);
        if is {
            self.rest = &self.rest[word.len()..];
        }
        is
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        match self.peek().strip_prefix(symbol) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), Error> {
        let reason = if symbol == "(" { "expected (" } else { "expected )" };
        if self.symbol(symbol) { Ok(()) } else { Err(self.error(reason)) }
    }

    /// Returns the rest without leading white space.
    fn peek(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn error(&mut self, reason: &'static str) -> Error {
        /// Most characters shown.
        const SHOWN: usize = 16;
        let rest = self.peek();
        let position = self.text[..self.text.len() - rest.len()].chars().count();
        let found: String = rest.chars().take_while(|c| !c.is_whitespace()).take(SHOWN).collect();
        Error { position, found: (!found.is_empty()).then_some(found), reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::filters;
    use super::*;

    fn printed(text: &str) -> String {
        parse(text).unwrap().to_string()
    }

    #[test]
    fn usual_spellings_of_filters_are_understood() {
        assert_eq!(printed("lang=en"), "lang = \"en\"");
        assert_eq!(printed("lang = 'en' AND year>=2020"), "lang = \"en\" and year >= 2020");
        assert_eq!(printed("a=1 or b=2 and not c=3"), "a = 1 or (b = 2 and not c = 3)");
        assert_eq!(printed("(a=1 or b=2) and c=3"), "(a = 1 or b = 2) and c = 3");
        assert_eq!(printed("((a = 1))"), "a = 1");
        assert_eq!(printed("tags in (x, 'y z', 3, true, null)"), "tags in (\"x\", \"y z\", 3, true, null)");
        assert_eq!(printed("author.name exists"), "author.name exists");
        assert_eq!(printed("\"a b\".\"and\" != 1e3"), "not \"a b\".\"and\" = 1000");
        assert_eq!(printed("2020 <= year < 2021"), "2020 <= year < 2021");
        assert_eq!(printed("5 < x"), "x > 5");
        assert_eq!(printed("part-of_speech = größe"), "part-of_speech = \"größe\"");
        assert_eq!(printed(r#"a = 'it\'s "so"'"#), r#"a = "it's \"so\"""#);
        assert_eq!(printed("a = -1.5"), "a = -1.5");
        assert_eq!(printed("'a.b'.c.'' exists"), "\"a.b\".c.\"\" exists");
    }

    #[test]
    fn a_mistake_is_told_by_place_and_reason() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(said(""), "the end at character 1: expected the path of a field");
        assert_eq!(said("lang"), "the end at character 5: expected =, !=, <, <=, >, >=, \"in\" or \"exists\"");
        assert_eq!(
            said("lang == en"),
            "\"=\" at character 7: expected a value: a word, a quoted text, a number, true, false or null"
        );
        assert_eq!(said("lang = en year = 1"), "\"year\" at character 11: expected \"and\", \"or\" or the end");
        assert_eq!(said("a < b"), "\"b\" at character 5: expected a number");
        assert_eq!(said("(a = 1"), "the end at character 7: expected )");
        assert_eq!(said("a = 'x"), "\"'x\" at character 5: this quote is not closed");
        assert_eq!(
            said("a = 20x"),
            "\"20x\" at character 5: expected a finite number; a text that begins so must be quoted"
        );
        assert_eq!(
            said("a = 1e999"),
            "\"1e999\" at character 5: expected a finite number; a text that begins so must be quoted"
        );
        assert_eq!(said("in = 1"), "\"in\" at character 1: a word of the grammar: quote it");
        assert_eq!(
            said("a in ()"),
            "\")\" at character 7: expected a value: a word, a quoted text, a number, true, false or null"
        );
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(parse(&format!("{}a = 1", "not ".repeat(MAX_DEPTH - 1))).is_ok());
        assert!(parse(&format!("{}a = 1", "not ".repeat(MAX_DEPTH))).is_err());
        assert!(parse(&"(".repeat(1_000_000)).is_err());
    }

    proptest! {
        #[test]
        fn a_printed_filter_reads_as_the_same_filter(filter in filters()) {
            let text = filter.to_string();
            prop_assert_eq!(parse(&text), Ok(filter), "{}", text);
        }

        #[test]
        fn any_text_is_a_filter_or_an_error(text in any::<String>()) {
            if let Ok(filter) = parse(&text) {
                prop_assert_eq!(parse(&filter.to_string()), Ok(filter));
            }
        }

        #[test]
        fn any_words_are_a_filter_or_an_error(words in prop::collection::vec(prop::sample::select(vec![
            "a", "b.c", "and", "or", "not", "in", "exists", "true",
            "(", ")", ",", "=", "!=", "<", "<=", ">", "1", "-2.5", "'x'", "\"", ".",
        ]), 0..12)) {
            if let Ok(filter) = parse(&words.join(" ")) {
                prop_assert_eq!(parse(&filter.to_string()), Ok(filter));
            }
        }
    }
}
