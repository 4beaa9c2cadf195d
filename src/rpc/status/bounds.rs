//! The size of a status, and the part of a client's value that it quotes.
//!
//! Clients limit the headers that they read, many to 8 KiB in total, and an answer may hold a thousand errors. So
//! longer messages are cut, and details that do not fit are left out, the last ones first.
//!
//! Invariant: a status takes at most [`MAX_WIRE_BYTES`] of HTTP headers, and the error of one item at most
//! [`MAX_ITEM_BYTES`] of its answer, with any quoted value. This module knows no failures: their codes and texts are in
//! [`super`].

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

/// Bytes of a status on the wire: its percent-encoded message, and its details in base64.
const MAX_WIRE_BYTES: usize = 4096;

/// Bytes of the error of one item, encoded in an answer.
pub(in crate::rpc) const MAX_ITEM_BYTES: usize = 1024;

/// Bytes of a percent-encoded message on the wire. The details repeat it.
const MAX_MESSAGE_BYTES: usize = 1280;

/// Bytes of a message in the error of one item.
const MAX_ITEM_MESSAGE_BYTES: usize = 480;

/// Characters of a client's value that a message quotes.
const SHOWN_CHARS: usize = 100;

/// The status that ends a call.
pub(super) fn of_call(code: Code, message: String, details: ErrorDetails) -> Status {
    let message = clipped(message, MAX_MESSAGE_BYTES, percent_encoded_len);
    fitting(code, &message, details, |status| wire_bytes(status) <= MAX_WIRE_BYTES)
}

/// The status of one item of an answer.
pub(super) fn of_item(code: Code, message: String, details: ErrorDetails) -> pb::Status {
    let message = clipped(message, MAX_ITEM_MESSAGE_BYTES, str::len);
    let status = fitting(code, &message, details, |status| status.details().len() <= MAX_ITEM_BYTES);
    match pb::Status::decode(status.details()) {
        Ok(with_details) if !status.details().is_empty() => with_details,
        _ => pb::Status { code: code.into(), message, details: vec![] },
    }
}

/// Quotes the beginning of a value that a client sent: at most `SHOWN_CHARS` characters, with the quotes.
pub(crate) fn shown(value: &str) -> String {
    let mut quoted = String::from('"');
    let mut left = SHOWN_CHARS - 3; // two quotes and the ellipsis
    for character in value.chars() {
        let escaped: String = if character == '\'' { "'".to_owned() } else { character.escape_debug().collect() };
        let Some(rest) = left.checked_sub(escaped.chars().count()) else {
            quoted.push_str("\"…");
            return quoted;
        };
        left = rest;
        quoted.push_str(&escaped);
    }
    quoted.push('"');
    quoted
}

/// Returns the beginning of a name that a client sent, without quotes: at most `SHOWN_CHARS` characters.
pub(in crate::rpc) fn shown_name(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS) {
        None => name.to_owned(),
        Some(_) => name.chars().take(SHOWN_CHARS - 1).chain(['…']).collect(),
    }
}

/// Cuts `text` so that it measures at most `limit`.
fn clipped(text: String, limit: usize, measure: impl Fn(&str) -> usize) -> String {
    if text.len() * 3 <= limit || measure(&text) <= limit {
        return text;
    }
    let limit = limit.saturating_sub(measure("…"));
    let mut used = 0;
    let end = text.char_indices().find(|(at, character)| {
        used += measure(&text[*at..*at + character.len_utf8()]);
        used > limit
    });
    format!("{}…", &text[..end.map_or(text.len(), |(at, _)| at)])
}

/// Bytes of a text as the value of `grpc-message`: each byte that is not a plain printable character takes three.
fn percent_encoded_len(text: &str) -> usize {
    let plain = |byte: u8| (0x21..0x7f).contains(&byte) && !b"\"#%<>`?{}".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { 1 } else { 3 }).sum()
}

/// Bytes of a status in headers.
fn wire_bytes(status: &Status) -> usize {
    percent_encoded_len(status.message()) + (status.details().len() * 4).div_ceil(3)
}

/// The status with as many of its details as `fits` allows.
fn fitting(code: Code, message: &str, mut details: ErrorDetails, fits: impl Fn(&Status) -> bool) -> Status {
    loop {
        let status = Status::with_error_details(code, message, details.clone());
        if fits(&status) {
            return status;
        }
        let mut violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        if violations.pop().is_none() || violations.is_empty() {
            return Status::new(code, message);
        }
        details.set_bad_request(violations);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, Resource, Violation};
    use super::*;
    use crate::collection::disk::WritesStopped;

    #[test]
    fn a_long_value_is_quoted_by_its_beginning() {
        assert_eq!(shown("a\"b"), r#""a\"b""#);
        assert_eq!(shown("it's"), r#""it's""#);
        for long in ["é".repeat(200), "\u{1}".repeat(1 << 20), "\"".repeat(300), "日".repeat(98)] {
            assert!(shown(&long).ends_with('…') && shown(&long).chars().count() <= SHOWN_CHARS, "{}", shown(&long));
            assert!(shown_name(&long).chars().count() <= SHOWN_CHARS);
        }
        assert_eq!(shown_name(&"é".repeat(100)), "é".repeat(100));
    }

    /// Failures with the longest quotes, in the characters that cost most on the wire.
    fn longest() -> Vec<Failure> {
        let name = || "日\u{1}%".repeat(1 << 18);
        let violation = |n: usize| Violation { field: format!("texts[{n}].{}", name()), reason: name() };
        vec![
            Failure::Invalid((0..20).map(violation).collect()),
            Failure::NotFound(Resource::Collection(name())),
            Failure::NotFound(Resource::Document { collection: name(), id: name() }),
            Failure::NotFound(Resource::Model { kind: "classifier", name: name(), known: vec![name(); 9] }),
            Failure::NoModel { collection: name(), model: name(), fingerprint: name(), served: vec![name(); 9] },
            Failure::Stopped(WritesStopped { path: name().into(), reason: name().into() }),
        ]
    }

    #[test]
    fn a_status_with_any_quoted_value_fits_the_headers_that_clients_read() {
        for failure in longest() {
            let status = Status::from(failure);
            let headers = status.clone().into_http::<()>().into_parts().0.headers;
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(wire_bytes(&status) <= MAX_WIRE_BYTES && bytes <= MAX_WIRE_BYTES + 128, "{bytes}: {status:?}");
            assert!(!status.message().is_empty());
        }
    }

    #[test]
    fn the_error_of_an_item_with_any_quoted_value_is_small() {
        for failure in longest() {
            let item = failure.to_item();
            assert!(item.encoded_len() <= MAX_ITEM_BYTES && !item.message.is_empty(), "{}", item.encoded_len());
        }
    }

    #[test]
    fn details_that_do_not_fit_are_left_out_from_the_end() {
        let violation = |n: usize| Violation { field: format!("texts[{n}]"), reason: "x".repeat(500) };
        let status = Status::from(Failure::Invalid((0..8).map(violation).collect()));
        let kept = status.get_details_bad_request().expect("some fit").field_violations;
        assert!((1..8).contains(&kept.len()) && kept[0].field == "texts[0]", "{kept:?}");
    }
}
