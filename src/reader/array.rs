//! The elements of a JSON array that is a whole file, one by one.
//!
//! This module finds only the ends of elements; their syntax is checked when they are parsed. So a wrong element is
//! refused alone, unless its quotes or brackets hide its end.

use std::io::{self, BufRead};

use super::error::Error;
use super::lines::{KEPT_BYTES, Line, MAX_RECORD_BYTES};

/// The elements of the array in `input`, each as a [`Line`] with the line on which it begins.
pub(super) fn elements(input: impl BufRead) -> impl Iterator<Item = Result<Line, Error>> {
    let mut bytes = Bytes { input, end: 0, line: 1, last: 0 };
    let mut state = State::Before;
    std::iter::from_fn(move || {
        let element = next(&mut bytes, &mut state).transpose()?;
        if element.is_err() {
            state = State::Ended;
        }
        Some(element)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    /// After the closing bracket.
    After,
    Ended,
}

/// A reader of single bytes that knows the line of the last one.
struct Bytes<R> {
    input: R,
    /// The number of bytes read.
    end: u64,
    /// The line of the last byte, from 1.
    line: u64,
    last: u8,
}

impl<R: BufRead> Bytes<R> {
    fn next(&mut self) -> io::Result<Option<u8>> {
        let Some(&byte) = self.input.fill_buf()?.first() else { return Ok(None) };
        self.input.consume(1);
        self.line += u64::from(self.last == b'\n');
        self.end += 1;
        self.last = byte;
        Ok(Some(byte))
    }

    /// The next byte that is not white space.
    fn next_non_blank(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.next()? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => {}
                other => return Ok(other),
            }
        }
    }
}

fn next(bytes: &mut Bytes<impl BufRead>, state: &mut State) -> Result<Option<Line>, Error> {
    match *state {
        State::Ended => return Ok(None),
        State::After => {
            let after = bytes.next_non_blank()?;
            return if after.is_none() { Ok(None) } else { Err(Error::TextAfterArray { line: bytes.line }) };
        }
        State::Before | State::Inside => {}
    }
    let first = *state == State::Before;
    if first {
        // Skips the byte order mark and the bracket, which are known to be there.
        while bytes.next()?.is_some_and(|byte| byte != b'[') {}
        *state = State::Inside;
    }
    let begin = bytes.next_non_blank()?;
    if first && begin == Some(b']') {
        *state = State::After;
        return next(bytes, state);
    }
    let mut element = Element { line: bytes.line, text: Vec::new(), is_too_long: false };
    let (mut depth, mut quoted, mut escaped) = (0_u64, false, false);
    let mut taken = begin;
    // The end of the last byte of the element that is not white space.
    let mut end_of_element = bytes.end.saturating_sub(1);
    loop {
        let Some(byte) = taken else { return Err(Error::OpenArray { line: element.line }) };
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b',' if depth == 0 => break,
            b']' if depth == 0 => {
                *state = State::After;
                break;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        element.push(byte);
        if !byte.is_ascii_whitespace() {
            end_of_element = bytes.end;
        }
        taken = bytes.next()?;
    }
    Ok(Some(element.finish(end_of_element)))
}

struct Element {
    line: u64,
    text: Vec<u8>,
    is_too_long: bool,
}

impl Element {
    fn push(&mut self, byte: u8) {
        if self.is_too_long {
            return;
        }
        self.text.push(byte);
        if self.text.len() > MAX_RECORD_BYTES {
            self.is_too_long = true;
            self.text.truncate(KEPT_BYTES);
            self.text.shrink_to_fit();
        }
    }

    fn finish(mut self, end: u64) -> Line {
        self.text.truncate(self.text.trim_ascii_end().len());
        Line { number: self.line, end, bytes: self.text, too_long: self.is_too_long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Result<(u64, String), String>> {
        let element = |line: Line| (line.number, String::from_utf8(line.bytes).unwrap());
        elements(text.as_bytes()).map(|line| line.map(element).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn elements_are_found_with_their_lines_and_ends() {
        let text = "\u{feff}[\n  {\"a\": [1, \"],}\\\"\"]},\n\n {\"b\": {}} , 3\n]\n";
        let expected = [(2, "{\"a\": [1, \"],}\\\"\"]}"), (4, "{\"b\": {}}"), (4, "3")];
        assert_eq!(read(text), expected.map(|(line, text)| Ok((line, text.to_owned()))));
        for line in elements(text.as_bytes()).map(Result::unwrap) {
            let end = usize::try_from(line.end).unwrap();
            assert!(text.as_bytes()[..end].ends_with(&line.bytes), "{line:?}");
        }
        assert!(read("[ ]\n").is_empty());
    }

    #[test]
    fn a_missing_element_is_an_empty_element() {
        assert_eq!(read("[1,,2,]"), [(1, "1"), (1, ""), (1, "2"), (1, "")].map(|(n, s)| Ok((n, s.to_owned()))));
    }

    #[test]
    fn an_array_without_an_end_or_with_text_after_it_is_an_error() {
        assert!(read("[1, {\"a\":\n").last().unwrap().as_ref().unwrap_err().contains("line 1"));
        assert!(read("[1]\n{\"a\": 1}\n").last().unwrap().as_ref().unwrap_err().contains("line 2"));
    }
}
