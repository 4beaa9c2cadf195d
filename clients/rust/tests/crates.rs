//! The crate stays small for those who build it: this counts the crates that it brings along.

use std::collections::BTreeSet;
use std::process::Command;

/// Itself included. The server has about 480.
const FEWER_THAN: usize = 80;

#[test]
fn few_crates_are_built_for_a_client() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tree", "--locked", "-p", "cognate-client"]);
    let output = cargo.args(["-e", "normal,build", "--prefix", "none"]).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    // A crate that came before has `(*)` behind its version.
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(" (").next()).collect();
    assert!(output.status.success() && crates.len() > 1, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(crates.len() < FEWER_THAN, "{}: {crates:?}", crates.len());
}
