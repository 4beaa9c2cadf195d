//! Describes failed requests for people.

use super::super::error::Reason;

/// The reason why a request failed.
pub(super) fn problem(error: impl std::error::Error) -> Reason {
    // The outermost text is the address, which the report names already; the causes below it say what failed.
    Reason::Hub { problem: error.source().map_or_else(|| chain(&error), chain) }
}

/// Writes an error and its causes in one line. The first says "request error", and the last has the reason.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
