//! The files in `deploy/`: each can be read, and names settings that the server has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::YamlLoader;

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn deployed() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        (name, std::fs::read_to_string(path).expect("it is text"))
    };
    files(&root.join("deploy")).into_iter().map(read).collect()
}

/// Words of letters, digits, and the characters in `of`.
fn words<'t>(text: &'t str, of: &'static [char]) -> impl Iterator<Item = &'t str> {
    text.split(move |c: char| !c.is_ascii_alphanumeric() && !of.contains(&c))
}

#[test]
fn every_setting_in_a_deployment_is_one_of_the_server() {
    let help = Command::new(env!("CARGO_BIN_EXE_cognate")).args(["serve", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let flags: BTreeSet<&str> = words(&help, &['-']).filter(|word| word.starts_with("--")).collect();
    let mut found = 0;
    for (name, text) in deployed() {
        let variables = words(&text, &['_']).filter_map(|word| word.strip_prefix("COGNATE_"));
        let variables = variables.map(|key| format!("--{}", key.to_lowercase().replace('_', "-")));
        let commands = text.lines().filter(|line| line.contains("cognate serve"));
        let given = commands.flat_map(|line| words(line, &['-'])).filter(|word| word.starts_with("--"));
        for flag in variables.chain(given.map(str::to_owned)) {
            assert!(flags.contains(flag.as_str()), "{name} sets {flag}, which `cognate serve` does not have");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn every_yaml_file_of_a_deployment_can_be_read() {
    let mut found = 0;
    for (name, text) in deployed() {
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            let documents = YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!documents.is_empty(), "{name} is empty");
            found += 1;
        }
    }
    assert!(found >= 5, "{found}");
}
