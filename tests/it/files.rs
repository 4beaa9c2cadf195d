//! Files that users load: each record becomes the document that it describes, or is refused by its line with the
//! reason. No content of a file, a flag or a message is ignored in silence.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cognate::wire::filter::Condition;
use cognate::wire::metadata;
use cognate::wire::{Document, Filter, ListDocumentsRequest};
use serde_json::{Value, json};

use crate::harness::Server;

/// Runs `cognate` with this standard input.
fn run(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built with the tests");
    // A command that refuses its flags reads nothing.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// A directory for files, and a server to load them into.
struct Desk {
    server: Server,
    addr: String,
    folder: tempfile::TempDir,
    loads: std::cell::Cell<usize>,
}

/// The result of a load.
struct Loaded {
    code: Option<i32>,
    said: String,
    collection: String,
}

impl Desk {
    async fn new() -> Self {
        let server = Server::start(&["--classifier", "none"]).await;
        let addr = server.addr.to_string();
        Self { server, addr, folder: tempfile::tempdir().unwrap(), loads: 0.into() }
    }

    /// Writes a file in a directory of its own.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        self.loads.set(self.loads.get() + 1);
        let directory = self.folder.path().join(self.loads.get().to_string());
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Loads a file into a collection of its own.
    fn load(&self, name: &str, content: &[u8], flags: &[&str]) -> Loaded {
        let path = self.file(name, content);
        self.load_into(&format!("c{}", self.loads.get()), path.to_str().unwrap(), b"", flags)
    }

    fn load_into(&self, collection: &str, file: &str, input: &[u8], flags: &[&str]) -> Loaded {
        let args = [&["upload", file, "--collection", collection, "--addr", &self.addr], flags].concat();
        let output = run(&args, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        Loaded { code: output.status.code(), said, collection: collection.to_owned() }
    }

    async fn list(&self, loaded: &Loaded, filter: Option<&str>) -> BTreeMap<String, Document> {
        let filter = filter.map(|text| Filter { condition: Some(Condition::Text(text.to_owned())) });
        let request = ListDocumentsRequest {
            collection: loaded.collection.clone(),
            page_size: 1_000,
            filter,
            ..Default::default()
        };
        match self.server.client().await.list_documents(request).await {
            Ok(page) => page.into_inner().documents.into_iter().map(|d| (d.id.clone(), d)).collect(),
            Err(_) => BTreeMap::new(),
        }
    }

    async fn ids(&self, loaded: &Loaded) -> Vec<String> {
        self.list(loaded, None).await.into_keys().collect()
    }
}

fn metadata_of(document: &Document) -> Value {
    Value::Object(metadata::to_json(&document.metadata.clone().unwrap_or_default()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_keep_their_digits_as_ids_and_are_not_changed_as_metadata() {
    let desk = Desk::new().await;
    let ids = ["100000000000000000001", "100000000000000000002", "1", "1.0", "1e0", "-0", "0", "007"];
    // The last one is not a number in JSON.
    let lines: Vec<String> = ids.iter().map(|id| format!("{{\"id\": {id}, \"text\": \"t\"}}")).collect();
    let loaded = desk.load("x.jsonl", lines.join("\n").as_bytes(), &[]);
    assert_eq!(loaded.code, Some(1));
    assert!(loaded.said.contains("x.jsonl:8: not JSON"), "{}", loaded.said);
    let mut expected = ids[..7].to_vec();
    expected.sort_unstable();
    assert_eq!(desk.ids(&loaded).await, expected);

    let large = b"{\"id\": \"a\", \"text\": \"t\", \"order\": 7}\n\
        {\"id\": \"b\", \"text\": \"t\", \"order\": 9007199254740993}\n";
    let loaded = desk.load("x.jsonl", large, &[]);
    assert_eq!((loaded.code, desk.ids(&loaded).await), (Some(1), vec!["a".to_owned()]));
    assert!(
        loaded.said.contains("x.jsonl:2: order: 9007199254740993") && loaded.said.contains("2^53"),
        "{}",
        loaded.said
    );
    for (choice, kept) in [("text", json!("9007199254740993")), ("round", json!(9007199254740992_i64))] {
        let loaded = desk.load("x.jsonl", large, &["--large-numbers", choice]);
        assert_eq!(loaded.code, Some(0));
        assert!(
            loaded.said.contains("1 whole number beyond 2^53") && loaded.said.contains("line 2"),
            "{}",
            loaded.said
        );
        assert_eq!(metadata_of(&desk.list(&loaded, None).await["b"])["order"], kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_id_never_takes_the_place_of_another_document() {
    let desk = Desk::new().await;
    let first = desk.load_into("stdin", "-", b"line one\nline two\n", &[]);
    let second = desk.load_into("stdin", "-", b"another line one\n", &[]);
    assert_eq!((first.code, second.code), (Some(0), Some(0)));
    assert_eq!(desk.ids(&second).await.len(), 3);
    // Loading the file again changes nothing.
    desk.load_into("stdin", "-", b"line one\nline two\n", &[]);
    assert_eq!(desk.ids(&second).await.len(), 3);

    let mut last = None;
    for month in ["january", "february"] {
        let file = desk.file("data.jsonl", format!("{{\"text\": \"{month}\"}}\n").as_bytes());
        last = Some(desk.load_into("months", file.to_str().unwrap(), b"", &[]));
    }
    let last = last.unwrap();
    assert!(last.said.contains("1 record has no id"), "{}", last.said);
    assert_eq!(desk.ids(&last).await.len(), 2);

    let blank = b"id,text\nx:3,explicit\n,blank\n";
    let loaded = desk.load("x.csv", blank, &[]);
    assert_eq!((loaded.code, desk.ids(&loaded).await.len()), (Some(0), 2));
    // If the user's own choice makes two ids equal, the command says so.
    let loaded = desk.load("x.csv", blank, &["--id-prefix", "x"]);
    assert!(loaded.said.contains("the id of an earlier record") && loaded.said.contains("x:3"), "{}", loaded.said);
    let loaded = desk.load("x.csv", b"id,text\na,one\nb,two\na,three\n", &[]);
    assert!(loaded.said.contains("1 record has the id of an earlier record"), "{}", loaded.said);
    assert!(loaded.said.contains("first a in line 4"), "{}", loaded.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_as_intended_is_refused_in_a_sentence_and_none_of_it_is_stored() {
    let desk = Desk::new().await;
    let utf16: Vec<u8> = "id,text\na,one\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16 = [b"\xff\xfe".to_vec(), utf16].concat();
    let cases: [(&str, &[u8], &[&str], &str); 15] = [
        ("x.csv", b"id,text,tag,tag\na,one,x,y\n", &[], "two columns named \"tag\""),
        ("x.csv", b"id,id,text\na,b,one\n", &[], "two columns named \"id\""),
        ("x.csv", b"id;text\na;one\n", &[], "--delimiter ';'"),
        ("x.csv", b"ID,Text\na,one\n", &[], "did you mean \"Text\"?"),
        ("x.csv", b"id,text\na,one\n", &["--id-column", "uuid"], "has no column \"uuid\""),
        ("x.csv", b"id,text\na,one\n", &["--types", "year:number"], "has no column \"year\""),
        ("x.csv", b"id,text\na,one\n", &["--types", "id:number"], "--types is for the other columns"),
        ("x.csv", b"", &[], "is empty"),
        ("x.csv", &utf16, &[], "UTF-16"),
        ("x.jsonl.gz", b"\x1f\x8b\x08\0\0\0\0\0", &[], "gzip"),
        ("x.txt", b"{\"id\": \"a\", \"text\": \"one\"}\n", &[], "--format jsonl"),
        ("x.txt", b"id,text\na,one\n", &[], "--format csv"),
        ("x.json", b"{\n  \"id\": \"a\",\n  \"text\": \"one\"\n}\n", &[], "several lines"),
        ("x.tsv", b"id\tbody\na\tone\n", &[], "has no column \"text\""),
        ("x.xlsx", b"PK\x03\x04\x14\0", &[], "spreadsheet"),
    ];
    for (name, content, flags, reason) in cases {
        let loaded = desk.load(name, content, flags);
        assert_eq!(loaded.code, Some(2), "{name} {flags:?}: {}", loaded.said);
        assert!(loaded.said.contains(reason) && loaded.said.contains(name), "{reason} is not in: {}", loaded.said);
        assert_eq!(loaded.said.lines().count(), 1, "{}", loaded.said);
        assert!(desk.ids(&loaded).await.is_empty());
    }
    let piped = desk.load_into("piped", "-", b"{\"id\": \"a\", \"text\": \"one\"}\n", &[]);
    assert!(piped.code == Some(2) && piped.said.contains("--format jsonl"), "{}", piped.said);
    let piped = desk.load_into("piped", "-", b"{\"id\": \"a\", \"text\": \"one\"}\n", &["--format", "jsonl"]);
    assert_eq!((piped.code, desk.ids(&piped).await), (Some(0), vec!["a".to_owned()]));
    let output = run(&["top-k", "--collection", "piped", "--addr", &desk.addr], b"{\"text\": \"one\"}\n");
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("JSON"), "{output:?}");
    let lines = desk.load_into("lines", "-", b"{\"id\": \"a\", \"text\": \"one\"}\n", &["--format", "lines"]);
    assert!(desk.list(&lines, None).await.into_values().all(|d| d.text.starts_with('{')), "as was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_wrong_are_refused_by_their_lines_and_the_others_stored() {
    let desk = Desk::new().await;
    type Case<'a> = (&'a str, &'a [u8], &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let cases: [Case; 7] = [
        (
            "x.csv",
            b"id,text\na,one\nb,\xff\nc,tw\0o\nd,\"x\" y\ne,five\n",
            &[],
            &["a", "e"],
            &[":3: not UTF-8", ":4: ", ":5: field 2"],
        ),
        (
            "x.jsonl",
            b"{\"id\":\"a\",\"text\":\"t\",\"id\":\"b\"}\n{\"id\":\"c\",\"text\":\"t\"}\n",
            &[],
            &["c"],
            &[":1: ", "occurs twice"],
        ),
        (
            "x.jsonl",
            b"{\"uid\":\"a\",\"text\":\"t\"}\n{\"uuid\":\"b\",\"text\":\"t\"}\n",
            &["--id-column", "uuid"],
            &["b"],
            &[":1: no field \"uuid\"", "\"uid\""],
        ),
        (
            "x.json",
            b"[\n {\"id\": \"a\", \"text\": \"one\"},\n 7,\n {\"id\": \"b\",\n  \"text\": \"two\"}\n]\n",
            &[],
            &["a", "b"],
            &[":3: not a JSON object"],
        ),
        (
            "x.csv",
            b"id,text,year\r\na,\"one\r\nline\",1999\r\n\r\nb,two,unknown\r\n",
            &["--types", "year:number"],
            &["a"],
            &[":5: \"year\" is not a number"],
        ),
        ("x.tsv", b"id\ttext\na\tone\nb\n", &[], &["a"], &[":3: 1 fields, the header has 2"]),
        (
            "x.jsonl",
            b"{\"id\":\"a\",\"text\":\"t\",\"n\":1e999}\n{\"id\":\"b\",\"text\":\"t\"}\n",
            &[],
            &["b"],
            &[":1: n: 1e999"],
        ),
    ];
    for (name, content, flags, ids, reasons) in cases {
        let loaded = desk.load(name, content, flags);
        assert_eq!(loaded.code, Some(1), "{name}: {}", loaded.said);
        assert_eq!(desk.ids(&loaded).await, ids, "{name}: {}", loaded.said);
        for reason in reasons {
            assert!(loaded.said.contains(reason), "{reason} is not in: {}", loaded.said);
        }
    }
    // Records behind an open quote cannot be told apart. None of them is stored, and the load fails.
    let loaded = desk.load("x.csv", b"id,text\na,one\nb,\"two\nc,three\nd,four\n", &[]);
    assert_eq!((loaded.code, desk.ids(&loaded).await), (Some(2), vec!["a".to_owned()]));
    assert!(loaded.said.contains("line 3: a quote is opened and never closed"), "{}", loaded.said);
    assert!(loaded.said.contains("--no-quotes"), "{}", loaded.said);
    let loaded = desk.load("x.tsv", b"id\ttext\na\t\"one\nb\ttwo\n", &["--no-quotes"]);
    assert_eq!((loaded.code, desk.list(&loaded, None).await["a"].text.as_str()), (Some(0), "\"one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_column_is_a_number_where_that_is_asked_for_and_a_word_is_said_where_not() {
    let desk = Desk::new().await;
    let csv = b"id,text,year,zip,open\n007,one,1999,00501,true\n8,two,2020,10001,false\n";
    let loaded = desk.load("x.csv", csv, &[]);
    assert_eq!(loaded.code, Some(0));
    assert!(loaded.said.contains("--types 'year:number,open:boolean'"), "{}", loaded.said);
    assert_eq!(desk.list(&loaded, Some("year = \"2020\"")).await.len(), 1, "text as it is written");

    let loaded = desk.load("x.csv", csv, &["--types", "year:number,open:boolean"]);
    assert_eq!((loaded.code, loaded.said.as_str()), (Some(0), ""));
    assert_eq!(desk.list(&loaded, Some("year >= 2000 and open = false")).await.len(), 1);
    let first = &desk.list(&loaded, None).await["007"];
    assert_eq!(metadata_of(first), json!({ "year": 1999, "zip": "00501", "open": true }));
}

#[test]
fn a_flag_that_cannot_be_honoured_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (lines, csv, tsv) =
        (path("x.txt", "a\n"), path("x.csv", "id,text\na,one\n"), path("x.tsv", "id\ttext\na\tone\n"));
    let jsonl = path("x.jsonl", "{\"id\": \"a\", \"text\": \"one\"}\n");
    let upload = |file: &str, flags: &[&str]| {
        [&["upload", file, "--collection", "c"], flags].concat().iter().map(|arg| arg.to_string()).collect::<Vec<_>>()
    };
    let others = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (args, flag) in [
        (upload(&lines, &["--id-column", "id"]), "--id-column"),
        (upload(&lines, &["--text-column", "text"]), "--text-column"),
        (upload(&lines, &["--large-numbers", "text"]), "--large-numbers"),
        (upload(&lines, &["--types", "year:number"]), "--types"),
        (upload(&lines, &["--delimiter", ";"]), "--delimiter"),
        (upload(&jsonl, &["--types", "year:number"]), "--types"),
        (upload(&jsonl, &["--delimiter", ";"]), "--delimiter"),
        (upload(&jsonl, &["--no-quotes"]), "--no-quotes"),
        (upload(&jsonl, &["--id-column", "text"]), "--id-column"),
        (upload(&csv, &["--large-numbers", "text"]), "--large-numbers"),
        (upload(&csv, &["--rejected", &csv]), "--rejected"),
        (upload(&csv, &["--rejected", "-"]), "--rejected"),
        (upload(&csv, &["--state-dir", "d"]), "--state-dir"),
        (upload(&csv, &[&jsonl, "--id-prefix", "p"]), "--id-prefix"),
        (upload(&csv, &["--id-prefix", ""]), "--id-prefix"),
        (upload(&tsv, &["--delimiter", ";"]), "--delimiter"),
        (others("collections documents c --id a --limit 1"), "--limit"),
        (others("top-k query --collection c --exact --ef 100"), "--ef"),
        (others("top-k query --candidate a b --exact"), "--exact"),
        (others("top-k query --candidate a b --ef 100"), "--ef"),
        (others("top-k query --candidate a b --with-metadata"), "--with-metadata"),
        (others("top-k query --candidate a b --collection c"), "--collection"),
        (others("embed word --file-format csv"), "--file-format"),
        (others("classify word --text-column text"), "--text-column"),
        (others("demo --once --addr 127.0.0.1:0 --data-dir d"), "--data-dir"),
        (others("model fetch some/model --model other/model"), "--model"),
    ] {
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        if !matches!(args[0], "demo" | "model") {
            args.extend(["--addr", "127.0.0.1:1"]);
        }
        let output = Command::new(env!("CARGO_BIN_EXE_cognate"))
            .args(&args)
            .env_remove("COGNATE_STATE_DIR")
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built with the tests");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(flag) && !said.contains("127.0.0.1:1"), "{flag} is not refused by {args:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(Path::new(&csv)).unwrap(), "id,text\na,one\n", "nothing was emptied");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_a_file_are_embedded_from_the_column_that_is_named_or_not_at_all() {
    let desk = Desk::new().await;
    let file = desk.file("x.csv", b"review\ngood\n\"never closed\n");
    let embed = |flags: &[&str]| {
        let output = run(&[&["embed", "--file", file.to_str().unwrap(), "--addr", &desk.addr], flags].concat(), b"");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = embed(&[]);
    assert!(code == Some(2) && said.contains("has no column \"text\""), "{said}");
    let vectors = desk.folder.path().join("vectors.npy");
    let (code, said) = embed(&["--text-column", "review", "--output", vectors.to_str().unwrap()]);
    assert!(code == Some(2) && said.contains("line 3: a quote is opened"), "{said}");
    assert!(!vectors.exists(), "half an array is none");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_upload_says_what_is_committed() {
    let desk = Desk::new().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["upload", "-", "--collection", "c", "--json", "--addr", &desk.addr]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\ntwo\nthree\n").unwrap();
    let collection = Loaded { code: None, said: String::new(), collection: "c".to_owned() };
    while desk.ids(&collection).await.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The server has reported it too before it answers the next call but one.
    for _ in 0..2 {
        desk.ids(&collection).await;
    }
    // Not SIGINT: a shell ignores it for tests that run in the background.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    // The input stays open all the while.
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(output.status.code(), Some(143));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(summary["committed"].as_u64().unwrap() <= 3 && summary["error"].as_str().unwrap().contains("interrupted"));
}
