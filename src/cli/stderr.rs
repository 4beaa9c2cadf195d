//! Lines for the user beside the output, on standard error.

use std::io::{self, Write};

/// Prints a line on standard error. If that cannot be written, nobody reads it.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
