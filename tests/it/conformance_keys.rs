//! Keys, as clients of other languages see them: each method with each role, in own and in others' collections, and
//! wrong keys of all kinds. A program prints `ok NAME` for what it has checked, and gets from its environment the
//! address and authority of a server with TLS, and its keys.

use std::process::Command;

use crate::certificates::Authority;
use crate::conformance::{go_scenario, in_python, pythons, said_by};
use crate::harness::Server;
use crate::keys::Keys;

/// Runs a program, which must print these names.
async fn checks(mut program: Command, names: &[&str]) {
    let (authority, keys) = (Authority::new(), Keys::new());
    let [rotated, read] = [(); 2].map(|()| keys.create("reader", "read", &[]));
    let revoked = keys.create("reader", "read", &[]);
    keys.revoke(&revoked);
    for (variable, key) in [
        ("KEYS_READ", read),
        ("KEYS_ROTATED", rotated),
        ("KEYS_REVOKED", revoked),
        ("KEYS_WRITE", keys.create("writer", "write", &[])),
        ("KEYS_ADMIN", keys.create("admin", "admin", &[])),
        ("KEYS_TEAM", keys.create("team", "admin", &["--collections", "a-*"])),
        ("KEYS_EXPIRED", keys.create_expired("late", "read")),
    ] {
        program.env(variable, key);
    }
    let certificate = authority.valid().flags();
    let mut flags: Vec<&str> = certificate.iter().map(String::as_str).collect();
    flags.extend(["--keys", keys.path.to_str().unwrap()]);
    let server = Server::spawn(&flags);
    server.has_logged("memory is divided").await; // the last step of its start
    program.env("KEYS_ADDR", server.addr.to_string()).env("KEYS_CA", authority.ca());
    assert_eq!(said_by(program, &[&server]).await, names);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn keys_in_go() {
    let mut program = go_scenario();
    program.arg("keys");
    checks(program, &["rights", "wrong-keys"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
async fn keys_in_python() {
    let [python, _] = pythons();
    let words = ["-m", "pytest", "-p", "no:cacheprovider", "tests/test_keys.py"];
    checks(in_python(python, &words), &[]).await; // pytest prints other lines
}
