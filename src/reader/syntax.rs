//! Parses JSON into a tree that keeps what usual parsers drop: the digits of a number, and the error of a repeated
//! name.
//!
//! Follows RFC 8259 exactly. The depth is limited, so a hostile line cannot exhaust the stack.

use std::borrow::Cow;
use std::fmt;

/// The deepest nesting; metadata may have less.
const MAX_DEPTH: usize = 128;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'t> {
    Null,
    Bool(bool),
    /// The digits as written.
    Number(&'t str),
    String(Cow<'t, str>),
    Array(Vec<Node<'t>>),
    /// The fields in the order of the text; each name occurs once.
    Object(Vec<(Cow<'t, str>, Node<'t>)>),
}

/// The reason why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    fault: Fault,
    /// The line in the text, from 1.
    line: usize,
    /// The column in characters, from 1.
    column: usize,
    /// True if the text ended too early.
    pub(super) is_cut_off: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Expected(&'static str),
    Twice(String),
    TooDeep,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Expected(what) => write!(f, "expected {what}")?,
            Fault::Twice(name) => write!(f, "the name {name:?} occurs twice in one object, the second time")?,
            Fault::TooDeep => write!(f, "nested more than {MAX_DEPTH} deep")?,
        }
        if self.line > 1 {
            write!(f, " in line {} of the record,", self.line)?;
        }
        write!(f, " at column {}", self.column)?;
        if self.is_cut_off { f.write_str(", where the record ends") } else { Ok(()) }
    }
}

/// Parses `text`, which must be one value.
pub(super) fn parse(text: &str) -> Result<Node<'_>, Invalid> {
    let mut parser = Parser { text, at: 0 };
    let parsed = parser.value(0).and_then(|node| {
        parser.skip_blanks();
        if parser.at == text.len() { Ok(node) } else { Err(Fault::Expected("nothing more after the first value")) }
    });
    parsed.map_err(|fault| {
        let before = &text[..parser.at];
        let line_begin = before.rfind('\n').map_or(0, |end| end + 1);
        Invalid {
            fault,
            line: before.matches('\n').count() + 1,
            column: before[line_begin..].chars().count() + 1,
            is_cut_off: parser.at == text.len(),
        }
    })
}

struct Parser<'t> {
    text: &'t str,
    /// The position in `text`, always at the beginning of a character.
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Consumes `byte` if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Node<'t>, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Node::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Node::Number(self.number()?)),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Node<'t>, Fault> {
        for (word, node) in [("null", Node::Null), ("true", Node::Bool(true)), ("false", Node::Bool(false))] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(node);
            }
        }
        Err(Fault::Expected("a value"))
    }

    fn object(&mut self, depth: usize) -> Result<Node<'t>, Fault> {
        self.at += 1;
        let mut fields: Vec<(Cow<'t, str>, Node<'t>)> = Vec::new();
        self.skip_blanks();
        if self.take(b'}') {
            return Ok(Node::Object(fields));
        }
        // Only in large objects is a set faster than comparing each name.
        let mut names = std::collections::HashSet::new();
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(Fault::Expected("a name in quotes"));
            }
            let begin = self.at;
            let name = self.string()?;
            let is_twice = match fields.len() {
                0..16 => fields.iter().any(|(earlier, _)| *earlier == name),
                16 => {
                    names.extend(fields.iter().map(|(earlier, _)| earlier.clone()));
                    !names.insert(name.clone())
                }
                _ => !names.insert(name.clone()),
            };
            if is_twice {
                self.at = begin;
                return Err(Fault::Twice(shortened(&name)));
            }
            self.skip_blanks();
            if !self.take(b':') {
                return Err(Fault::Expected("a colon"));
            }
            fields.push((name, self.value(depth + 1)?));
            self.skip_blanks();
            if self.take(b'}') {
                return Ok(Node::Object(fields));
            }
            if !self.take(b',') {
                return Err(Fault::Expected("a comma or a closing brace"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node<'t>, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_blanks();
        if self.take(b']') {
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.take(b']') {
                return Ok(Node::Array(items));
            }
            if !self.take(b',') {
                return Err(Fault::Expected("a comma or a closing bracket"));
            }
        }
    }

    fn number(&mut self) -> Result<&'t str, Fault> {
        let begin = self.at;
        let digits = |parser: &mut Self| {
            let begin = parser.at;
            while matches!(parser.peek(), Some(b'0'..=b'9')) {
                parser.at += 1;
            }
            if parser.at > begin { Ok(()) } else { Err(Fault::Expected("a digit")) }
        };
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(Fault::Expected("no digit after a leading 0"));
            }
        } else {
            digits(self)?;
        }
        if self.take(b'.') {
            digits(self)?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            digits(self)?;
        }
        Ok(&self.text[begin..self.at])
    }

    fn string(&mut self) -> Result<Cow<'t, str>, Fault> {
        self.at += 1;
        let mut unescaped: Option<String> = None;
        let mut begin = self.at;
        loop {
            match self.peek() {
                None => return Err(Fault::Expected("a closing quote")),
                Some(b'"') => {
                    let rest = &self.text[begin..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(rest),
                        Some(text) => Cow::Owned(text + rest),
                    });
                }
                Some(b'\\') => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(&self.text[begin..self.at]);
                    self.at += 1;
                    let escaped = self.escape()?;
                    unescaped.get_or_insert_default().push(escaped);
                    begin = self.at;
                }
                Some(0..0x20) => return Err(Fault::Expected("an escape (as \\n or \\u0000) for a control character")),
                Some(_) => self.at += 1,
            }
            // Inside a character of several bytes nothing above matches: those bytes are 0x80 or more.
        }
    }

    /// Parses the character after a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let escaped = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte.into(),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(Fault::Expected("one of \"\\/bfnrtu after a backslash")),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// Parses the character of `\uXXXX`, or of a surrogate pair of two.
    fn unicode(&mut self) -> Result<char, Fault> {
        let unit = self.hex()?;
        let code = match unit {
            0xd800..=0xdbff => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(Fault::Expected("the second half of a surrogate pair"));
                }
                match self.hex()? {
                    low @ 0xdc00..=0xdfff => 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                    _ => return Err(Fault::Expected("the second half of a surrogate pair")),
                }
            }
            unit => unit,
        };
        char::from_u32(code).ok_or(Fault::Expected("the first half of a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let expected = Fault::Expected("four hexadecimal digits after \\u");
        let Some(digits) = self.text.as_bytes().get(self.at..self.at + 4) else { return Err(expected) };
        let unit = digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?));
        match unit {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(expected),
        }
    }
}

/// The first 100 characters of a text in a file, for a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn value(node: &Node<'_>) -> Value {
        match node {
            Node::Null => Value::Null,
            Node::Bool(truth) => Value::Bool(*truth),
            Node::Number(digits) => serde_json::from_str(digits).unwrap(),
            Node::String(text) => Value::String(text.to_string()),
            Node::Array(items) => items.iter().map(value).collect(),
            Node::Object(fields) => fields.iter().map(|(name, node)| (name.to_string(), value(node))).collect(),
        }
    }

    #[test]
    fn a_number_keeps_its_digits() {
        let text = "[100000000000000000001, 1.10, 1e0, -0, 0.0]";
        let expected = ["100000000000000000001", "1.10", "1e0", "-0", "0.0"].map(Node::Number);
        assert_eq!(parse(text), Ok(Node::Array(expected.to_vec())));
    }

    #[test]
    fn faults_are_reported_with_their_columns() {
        for (text, message) in [
            (r#"{"a": 1, "a": 2}"#, r#"the name "a" occurs twice in one object, the second time at column 10"#),
            (r#"{"a": NaN}"#, "expected a value at column 7"),
            (r#"{"é": 01}"#, "expected no digit after a leading 0 at column 8"),
            (r#"{"a": 1} {"b": 2}"#, "expected nothing more after the first value at column 10"),
            (r#"{"a": "x"#, "expected a closing quote at column 9, where the record ends"),
            ("{\n\"a\"\n1}", "expected a colon in line 3 of the record, at column 1"),
            (r#"["\ud800"]"#, "expected the second half of a surrogate pair at column 9"),
            ("[\"a\tb\"]", "expected an escape (as \\n or \\u0000) for a control character at column 4"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn a_repeated_name_among_many_is_found() {
        let many: Vec<String> = (0..40).map(|n| format!("\"{n}\": 0")).collect();
        assert!(parse(&format!("{{{}}}", many.join(","))).is_ok());
        for twice in [0, 15, 16, 17, 39] {
            assert!(parse(&format!("{{{}, \"{twice}\": 1}}", many.join(","))).is_err(), "{twice}");
        }
    }

    #[test]
    fn a_hostile_depth_is_refused() {
        assert!(parse(&"[".repeat(1_000_000)).unwrap_err().to_string().starts_with("nested more than 128 deep"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_of_another_writer_is_read_unchanged(written in any_json()) {
            for text in [written.to_string(), serde_json::to_string_pretty(&written).unwrap()] {
                prop_assert_eq!(value(&parse(&text).unwrap()), written.clone());
            }
        }

        #[test]
        fn any_text_is_json_exactly_if_another_parser_accepts_it(text in r#"[\[\]{}",:\\a0-9eE.\-+ ut]{0,12}"#) {
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            match parse(&text) {
                Ok(node) if !format!("{node:?}").contains("Number") => prop_assert_eq!(theirs.ok(), Some(value(&node))),
                Ok(_) => {}
                // The other parser accepts the last of two equal names.
                Err(Invalid { fault: Fault::Twice(_), .. }) => {}
                Err(invalid) => prop_assert!(theirs.is_err(), "{text}: {invalid}"),
            }
        }
    }
}
