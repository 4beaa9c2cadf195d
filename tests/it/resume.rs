//! A load that broke resumes where it stopped, and ends like one that did not break.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cognate::wire::{DeleteCollectionRequest, ListCollectionsRequest};
use serde_json::Value;

use crate::harness::{Server, new_texts};

const RECORDS: usize = 1_500;

fn cognate(addr: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let command = command.args(args).args(["--addr", addr]).stdin(Stdio::null());
    command.output().expect("the binary was built with the tests")
}

/// The summary, exit status and standard error of `cognate upload --json`.
fn loaded(output: &Output) -> (Value, Option<i32>, String) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or_else(|| panic!("nothing was printed: {stderr}"));
    (serde_json::from_str(last).unwrap(), output.status.code(), stderr)
}

/// Starts a server on this address again.
async fn start_at(addr: &str, directory: &Path) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--addr", addr, "--data-dir"]).arg(directory);
    let mut server = Server::of(command);
    server.wait_until_serving().await;
    server
}

async fn documents(server: &Server, collection: &str) -> u64 {
    let listed = server.client().await.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
    listed.collections.iter().find(|c| c.name == collection).map_or(0, |c| c.documents)
}

fn notes(state: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_broken_by_a_crash_of_the_server_goes_on_and_ends_as_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state, data) = (folder.path().join("f.csv"), folder.path().join("state"), folder.path().join("data"));
    // Records span two lines and have no ids. They are named by their lines, which must be right after the break.
    let records = new_texts(RECORDS, 25).into_iter().map(|text| format!("\"{text},\nand a second line\",n\r\n"));
    fs::write(&file, "text,kind\r\n".to_owned() + &records.collect::<String>()).unwrap();
    let load = |collection: &str| {
        let args = ["upload", file.to_str().unwrap(), "--json", "--collection", collection];
        args.map(str::to_owned).to_vec()
    };
    let resume = |addr: &str| {
        let mut args = load("c");
        args.extend(["--resume", "--state-dir", state.to_str().unwrap()].map(str::to_owned));
        cognate(addr, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };

    let server = Server::start(&["--data-dir", data.to_str().unwrap()]).await;
    let addr = server.addr.to_string();
    let broken = std::thread::scope(|scope| {
        let broken = scope.spawn(|| resume(&addr));
        let killing = async {
            while documents(&server, "c").await < 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(killing));
        server.kill();
        broken.join().unwrap()
    });
    let (first, code, said) = loaded(&broken);
    assert_eq!(code, Some(2), "{said}");
    assert!(first["error"].is_string(), "{first}");
    let committed = first["committed"].as_u64().unwrap();
    assert!(committed >= 64 && committed < RECORDS as u64, "{first}");
    let noted = notes(&state);
    assert_eq!(noted.len(), 1, "{noted:?}");
    let note = fs::read(&noted[0]).unwrap();

    let server = start_at(&addr, &data).await;
    let (second, code, said) = loaded(&resume(&addr));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("resuming at line ") && said.contains("f.csv"), "{said}");
    assert_eq!(second["received"].as_u64().unwrap(), RECORDS as u64 - committed, "only what was not committed is sent");
    assert!(notes(&state).is_empty(), "a complete load leaves nothing");

    let whole = load("whole");
    assert_eq!(cognate(&addr, &whole.iter().map(String::as_str).collect::<Vec<_>>()).status.code(), Some(0));
    let export = |collection: &str| cognate(&addr, &["export", collection, "--with-vectors"]).stdout;
    let (resumed, unbroken) = (export("c"), export("whole"));
    assert_eq!(unbroken.iter().filter(|byte| **byte == b'\n').count(), RECORDS);
    assert!(resumed == unbroken, "the same ids, texts, metadata and vectors");

    // The note of the first try is restored, but the collection has changed since.
    fs::write(&noted[0], note).unwrap();
    let gone = DeleteCollectionRequest { name: "c".to_owned() };
    server.client().await.delete_collection(gone).await.unwrap();
    let (third, code, said) = loaded(&resume(&addr));
    assert_eq!((code, third["received"].as_u64()), (Some(0), Some(RECORDS as u64)), "{said}");
    assert!(said.contains("again: the collection does not exist any more"), "{said}");
    assert!(export("c") == unbroken);
}

#[test]
fn standard_input_and_several_files_cannot_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["a.txt", "b.txt"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    files.iter().for_each(|file| fs::write(file, "a text\n").unwrap());
    for inputs in [&["-"][..], &[&*files[0], &*files[1]]] {
        let args = [&["upload", "--collection", "c", "--resume"], inputs].concat();
        let output = cognate("127.0.0.1:1", &args);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--resume needs one regular file"), "{said}");
    }
}
