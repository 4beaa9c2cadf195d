//! `cognate bench`: people and programs can read its output.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Server, document, upload};

fn bench(command: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut cognate = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let ended = cognate.args(["bench", command]).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[test]
fn the_encoder_is_measured_on_ones_own_texts_in_three_ways() {
    let file = tempfile::Builder::new().suffix(".txt").tempfile().unwrap();
    let texts: Vec<String> = (0..70).map(|n| format!("ticket {n}: the parcel did not arrive")).collect();
    std::fs::write(file.path(), texts.join("\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, out, err) = bench("embed", &["--file", path, "--json", "--usd-per-hour", "0.36", "--precision", "int8"]);
    assert_eq!(code, Some(0), "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON alone on standard output");
    assert_eq!(report["precision"], "int8");
    let rows = report["rows"].as_array().unwrap();
    let sent: Vec<&str> = rows.iter().map(|row| row["sent"].as_str().unwrap()).collect();
    assert_eq!(sent, ["one at a time", "batches of 32", "all at once"]);
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row}"));
        assert_eq!(number("texts"), 70.0);
        // 0.36 USD an hour is 1e-4 a second: 100 USD for a million seconds.
        let cost = 100.0 / number("texts_per_second");
        assert!((number("usd_per_million_texts") / cost - 1.0).abs() < 1e-9, "{row}");
        let tokens = number("tokens_per_second") / number("texts_per_second");
        assert!((tokens - number("mean_tokens")).abs() < 1e-6 && tokens > 8.0, "{row}");
        assert!((1e-4..1.5).contains(&number("share_of_peak")), "{row}");
    }
    assert!(rows[0]["p50_ms"].as_f64() <= rows[0]["p99_ms"].as_f64());
    assert!(rows[2]["p50_ms"].is_null());
}

#[test]
fn a_wrong_price_and_a_missing_file_are_named() {
    let (code, _, err) = bench("embed", &["--usd-per-hour=-1"]);
    assert!(code == Some(2) && err.contains("usd-per-hour"), "{err}");
    let (code, _, err) = bench("embed", &["--file", "no/such/file.txt"]);
    assert!(code == Some(2) && err.contains("no/such/file.txt"), "{err}");
}

/// Parses the rows of a report and checks their numbers.
fn rows(report: &Value) -> Vec<(Option<u64>, f64)> {
    let of = |row: &Value| {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row}"));
        assert!((0.0..=1.0).contains(&number("recall")) && number("queries_per_second") > 0.0, "{row}");
        assert!(number("p50_us") <= number("p99_us"), "{row}");
        (row["ef"].as_u64(), number("recall"))
    };
    report["rows"].as_array().expect("rows").iter().map(of).collect()
}

#[test]
fn searches_of_generated_vectors_are_measured_for_programs_and_for_people() {
    let args = ["--documents", "12000", "--dimensions", "16", "--queries", "50", "--ef", "64,10"];
    let (code, out, err) = bench("top-k", &[&args[..], &["--json", "--threads", "2"]].concat());
    assert_eq!(code, Some(0), "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON alone on standard output");
    for (name, value) in [("documents", 12_000), ("dimensions", 16), ("queries", 50), ("k", 10), ("threads", 2)] {
        assert_eq!(report[name], value, "{name}");
    }
    assert_eq!((&report["source"], &report["seed"]), (&"generated".into(), &42.into()));
    assert!(report["build_seconds"].as_f64() > Some(0.0));
    let bytes = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name} of {report}"));
    assert!(bytes("bytes_per_vector_beside_f32") > 16.0, "{report}");
    assert_eq!(bytes("bytes_per_vector") - bytes("bytes_per_vector_beside_f32"), 64.0);
    let rows = rows(&report);
    let efs: Vec<_> = rows.iter().map(|(ef, _)| *ef).collect();
    assert_eq!(efs, [Some(10), Some(64), None]);
    assert!(rows[0].1 < rows[1].1 && rows[1].1 >= 0.95 && rows[2].1 == 1.0, "{rows:?}");
    let reaches = |(ef, recall): &(Option<u64>, f64)| ef.filter(|_| *recall >= 0.98);
    assert_eq!(report["smallest_ef"].as_u64(), rows.iter().find_map(reaches));
    assert_eq!(report["rows"][2]["search"], "exact");

    let (code, out, err) = bench("top-k", &args);
    assert_eq!(code, Some(0), "{err}");
    for part in ["12,000 vectors of 16 dimensions", "recall@10", "queries/s", "exact", "best of 5 rounds"] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_of_ones_own_collection_and_file_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let mut server = Server::start(&["--data-dir", data]).await;
    let documents = (0..40).map(|n| document(&format!("{n}"), &format!("parcel {n} did not arrive"))).collect();
    upload(&mut server.client().await, "parcels", documents).await;
    let npy = folder.path().join("texts.npy");
    let npy = npy.to_str().unwrap();
    let mut embed = Command::new(env!("CARGO_BIN_EXE_cognate"));
    embed.args(["embed", "one", "two", "three", "four", "--addr", &server.addr.to_string(), "--output", npy]);
    assert!(embed.status().unwrap().success());

    let of_collection = ["--collection", "parcels", "--data-dir", data, "--queries", "5", "-k", "3", "--json"];
    let (code, _, err) = bench("top-k", &of_collection);
    assert!(code == Some(2) && err.contains("in use by another process"), "{err}");
    server.terminate();
    server.exit_code().await;
    let (code, out, err) = bench("top-k", &of_collection);
    assert_eq!(code, Some(0), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["source"], &report["name"]), (&"collection".into(), &"parcels".into()));
    assert_eq!((&report["documents"], &report["dimensions"]), (&35.into(), &384.into()));
    // A few documents are always scanned.
    assert!(rows(&report).iter().all(|(_, recall)| *recall == 1.0), "{report}");
    assert_eq!(report["rows"][0]["search"], "scan");

    assert!(report["smallest_ef"].is_null(), "nothing was walked: {report}");

    let of_file = ["--vectors", npy, "--queries", "1", "-k", "3"];
    let (code, out, err) = bench("top-k", &of_file);
    assert!(code == Some(0) && out.contains("every search compared all vectors"), "{out}{err}");
    let (code, out, err) = bench("top-k", &[&of_file[..], &["--json"]].concat());
    assert_eq!(code, Some(0), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["source"], &report["path"], &report["documents"]), (&"file".into(), &npy.into(), &3.into()));
}

#[test]
fn options_of_searches_that_cannot_be_are_named() {
    let wrong: [(&[&str], &str); 10] = [
        (&["-k", "0"], "--k <N>': expected a whole number from 1 to 4096"),
        (&["--ef", "16,5000"], "'5000' for '--ef"),
        (&["--ef", "5"], "--ef has 5, and must be at least --k, 10"),
        (&["--dimensions", "1"], "--dimensions <N>': expected a whole number from 2 to 4096"),
        (&["--threads", "0"], "--threads"),
        (&["--documents", "5", "--queries", "2"], "--k is 10, and must be at most 5"),
        (&["--documents", "5", "--collection", "c"], "--documents"),
        (&["--data-dir", "no/such"], "--collection"),
        (&["--data-dir", "no/such", "--collection", "c"], "no/such is not a directory"),
        (&["--vectors", "no/such.npy"], "no/such.npy"),
    ];
    for (args, part) in wrong {
        let (code, _, err) = bench("top-k", args);
        assert!(code == Some(2) && err.contains(part), "{args:?}: {part} is not in: {err}");
    }
}
