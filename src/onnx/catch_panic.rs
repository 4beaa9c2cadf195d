//! Protection from panics in the runtimes: a panic becomes an error, and its text becomes one line.
//!
//! The panic hook still runs and prints where it happened; only the unwinding is caught here. The program must be built
//! with `panic = "unwind"`, the default.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Characters of an error that are kept: runtimes quote whole nodes and stacks.
const REASON_CHARACTERS: usize = 600;

/// Runs `call` and turns a panic into an error. Values that `call` borrows must stay usable if it is left half-way.
pub(super) fn catch_panic<T, E: Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(one_line),
        Err(panic) => Err(one_line(format!("it panicked: {}", message(&*panic)))),
    }
}

/// Makes a text one line of bounded length.
pub(super) fn one_line(text: impl Display) -> String {
    let text = text.to_string();
    let mut line = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(REASON_CHARACTERS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Returns the message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_of_one_line() {
        let number = 7;
        let formatted = catch_panic::<(), String>(|| panic!("node {number}\n  of the graph"));
        assert_eq!(formatted, Err("it panicked: node 7 of the graph".to_owned()));
        let plain = catch_panic::<(), String>(|| panic!("plain"));
        assert_eq!(plain, Err("it panicked: plain".to_owned()));
        let other = catch_panic::<(), String>(|| std::panic::panic_any(7));
        assert_eq!(other, Err("it panicked: without a message".to_owned()));
    }

    #[test]
    fn an_endless_error_is_cut_between_characters() {
        let line = one_line("ä".repeat(10_000));
        assert_eq!(line.chars().count(), REASON_CHARACTERS + 1);
        assert!(line.ends_with('…'));
    }
}
