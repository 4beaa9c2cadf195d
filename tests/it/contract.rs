//! The contract as buf reads it: `proto/buf.yaml` has the rules, and `proto/released.binpb` is the contract of the last
//! release, which clients have generated their code from. CONTRIBUTING.md says when it is renewed.

use std::process::Command;

use crate::installed::{buf, repository, run, stderr};

/// Runs buf in `proto/`. It prints faults to stdout, and fails if there are any.
fn finds_nothing(words: &[&str]) {
    let mut command = Command::new(buf());
    let output = run(command.current_dir(repository().join("proto")).args(words), String::new());
    let output = output.expect("buf was installed");
    assert!(output.status.success(), "buf {words:?}:\n{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
}

#[test]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
fn the_contract_has_the_form_that_generators_of_code_expect() {
    finds_nothing(&["lint"]);
    finds_nothing(&["format", "--diff", "--exit-code"]);
}

#[test]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
fn the_contract_breaks_no_code_that_was_generated_from_the_last_release() {
    finds_nothing(&["breaking", "--against", "released.binpb"]);
}
