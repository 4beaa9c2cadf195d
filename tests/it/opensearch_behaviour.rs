//! The store does not show: the tests of behaviour that run with the local store run again with an engine behind the
//! servers, from this same binary.

use std::process::Command;

use crate::harness::STORE;
use crate::installed::run;
use crate::opensearch::{self, Node};

/// The files of tests that both stores must pass.
const BEHAVIOURS: [&str; 7] = ["copy::", "documents::", "export::", "facets::", "filters::", "top_k::", "upload::"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn opensearch_behaves_as_the_local_store() {
    let _turn = opensearch::turn().await;
    let node = Node::start().await;
    let mut tests = Command::new(std::env::current_exe().expect("the tests run"));
    tests.args(BEHAVIOURS).args(["--test-threads", "2"]).env(STORE, format!("opensearch+{}", node.url()));
    let output = tokio::task::spawn_blocking(move || run(&mut tests, String::new())).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\nThe node's log:\n{}", node.log());
    let passed = said.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ... ok")).count();
    assert!(passed > 30, "{said}");
}
