//! The console, used in a real browser as a person would: `tests/console/console.js` drives Chromium without a window.

use std::fs;
use std::process::Command;

use crate::harness::Server;
use crate::installed::{node, repository, run, stderr};
use crate::migrate::Models;
use crate::several_models::MINILM;
use crate::skipped::skipped;

/// Installs Chromium by Debian's package manager, if it is not there. Returns false where that cannot be done.
fn has_chromium() -> bool {
    let runs = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let is_there = || runs("chromium", &["--version"]);
    let installs =
        || runs("apt-get", &["update"]) && runs("apt-get", &["install", "-y", "--no-install-recommends", "chromium"]);
    is_there() || (installs() && is_there())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and npm, and Chromium, or is skipped: cargo test -- --ignored"]
async fn a_person_uses_the_console_in_a_browser() {
    if !has_chromium() {
        return skipped("no Chromium (Debian: `apt-get install chromium` as root)");
    }
    let folder = node("tests/console", &["console.js"]);
    let small = Models::new();
    let server = Server::start(&["--console", "true", "--model", MINILM, "--model", &small.place("mean")]).await;
    let address = server.addr.to_string();
    let words = fs::read_to_string(repository().join("examples/reverse-dictionary/words.jsonl")).expect("it is there");
    let words: String = words.lines().take(1_200).flat_map(|line| [line, "\n"]).collect();
    let cognate = |arguments: &[&str], stdin: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        let output = run(command.current_dir(repository()).args(arguments).args(["--addr", &address]), stdin);
        let output = output.expect("it was built");
        assert!(output.status.success(), "{}", stderr(&output));
    };
    cognate(&["upload", "-", "--format", "jsonl", "--collection", "words"], words);
    let long = ["upload", "docs/durability.md", "docs/filters.md", "docs/configuration.md"];
    cognate(&[&long[..], &["--collection", "manual", "--format", "whole"]].concat(), String::new());
    let moving = "{\"id\": \"a\", \"text\": \"the quick fox\"}\n{\"id\": \"b\", \"text\": \"the lazy dog\"}\n";
    cognate(&["upload", "-", "--format", "jsonl", "--collection", "moving"], moving.to_owned());
    cognate(&["migrate", "moving", "--to", "mean"], String::new());

    let mut node = Command::new("node");
    node.current_dir(&folder).arg("console.js").arg(format!("http://{address}")).arg(&folder);
    let output = run(&mut node, String::new()).expect("npm has installed its packages");
    let steps = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{steps}\n{}\n{}", stderr(&output), server.log());
    assert_eq!(steps.lines().filter(|line| line.starts_with("ok ")).count(), 10, "{steps}");
}
