//! Lines of bounded length from any input, or all of it as one.

use std::io::{self, BufRead, Read};

/// The longest record that is read, in bytes. A longer one is more likely a file of another format than a document.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// A line without its end (`\n` or `\r\n`).
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Bytes of the input up to its end, with the line end.
    pub end: u64,
    /// Its content; only the beginning if it is too long.
    pub bytes: Vec<u8>,
    /// True if it is longer than [`MAX_RECORD_BYTES`]; the rest was skipped.
    pub too_long: bool,
}

/// Bytes of a line that are kept if it is too long, so that the user can recognise it.
pub(super) const KEPT_BYTES: usize = 200;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of `input`, without a byte order mark at its beginning.
pub(super) fn lines(input: impl BufRead) -> impl Iterator<Item = io::Result<Line>> {
    bounded(input, MAX_RECORD_BYTES)
}

/// All of `input` as one record, with its line ends, and without a byte order mark. `None` if there is only white
/// space.
pub(super) fn whole(input: impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    // More than the limit, so that a longer input is noticed.
    input.take(MAX_RECORD_BYTES as u64 + 4).read_to_end(&mut bytes)?;
    let end = bytes.len() as u64;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    let too_long = bytes.len() > MAX_RECORD_BYTES;
    if too_long {
        bytes.truncate(KEPT_BYTES);
        bytes.shrink_to_fit();
    }
    Ok((!bytes.trim_ascii().is_empty()).then_some(Line { number: 1, end, bytes, too_long }))
}

fn bounded(mut input: impl BufRead, max_bytes: usize) -> impl Iterator<Item = io::Result<Line>> {
    let (mut number, mut end) = (0, 0);
    std::iter::from_fn(move || {
        number += 1;
        let line = next(&mut input, number, end, max_bytes).transpose()?;
        end = line.as_ref().map_or(end, |line| line.end);
        Some(line)
    })
}

/// Reads the next line. `begin` is the number of bytes before it.
fn next(input: &mut impl BufRead, number: u64, begin: u64, max_bytes: usize) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    // Two more than the limit, for the line end.
    if input.by_ref().take(max_bytes as u64 + 2).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let mut end = begin + bytes.len() as u64;
    let ended = bytes.pop_if(|last| *last == b'\n').is_some();
    if ended {
        bytes.pop_if(|last| *last == b'\r');
    }
    if number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    let too_long = bytes.len() > max_bytes;
    if too_long {
        if !ended {
            end += input.skip_until(b'\n')? as u64;
        }
        bytes.truncate(KEPT_BYTES.min(max_bytes));
        bytes.shrink_to_fit();
    }
    Ok(Some(Line { number, end, bytes, too_long }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], max_bytes: usize) -> Vec<(u64, String, bool)> {
        let lines = bounded(input, max_bytes).map(Result::unwrap);
        lines.map(|line| (line.number, String::from_utf8(line.bytes).unwrap(), line.too_long)).collect()
    }

    #[test]
    fn line_ends_and_the_byte_order_mark_are_dropped() {
        let lines = read(b"\xef\xbb\xbfone\r\n\ntwo\rthree\nlast", 100);
        let expected = [(1, "one"), (2, ""), (3, "two\rthree"), (4, "last")];
        assert_eq!(lines, expected.map(|(number, text)| (number, text.to_string(), false)));
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read_and_a_longer_one_skipped() {
        for end in ["\n", "\r\n"] {
            let input = ["12345", "123456", &"x".repeat(1000), "next"].join(end);
            let lines = read(input.as_bytes(), 5);
            let expected = [(1, "12345", false), (2, "12345", true), (3, "xxxxx", true), (4, "next", false)];
            assert_eq!(lines, expected.map(|(number, text, too_long)| (number, text.to_string(), too_long)));
        }
    }
}
