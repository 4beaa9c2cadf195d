//! A line for tests that a machine cannot run, so that none passes silently.

/// Prints that a test is skipped, and why. It shows with `cargo test -- --nocapture`, and in the output of a failed
/// run.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
