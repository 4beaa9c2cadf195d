//! `cognate bench`: what it prints can be read by people and by programs.

use std::process::Command;

use serde_json::Value;

fn bench(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let ended = command.args(["bench", "embed"]).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[test]
fn the_encoder_is_measured_on_ones_own_texts_in_three_ways() {
    let file = tempfile::Builder::new().suffix(".txt").tempfile().unwrap();
    let texts: Vec<String> = (0..70).map(|n| format!("ticket {n}: the parcel did not arrive")).collect();
    std::fs::write(file.path(), texts.join("\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, out, err) = bench(&["--file", path, "--json", "--usd-per-hour", "0.36", "--precision", "int8"]);
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
    let (code, _, err) = bench(&["--usd-per-hour=-1"]);
    assert!(code == Some(2) && err.contains("usd-per-hour"), "{err}");
    let (code, _, err) = bench(&["--file", "no/such/file.txt"]);
    assert!(code == Some(2) && err.contains("no/such/file.txt"), "{err}");
}
