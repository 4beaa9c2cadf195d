//! The crates as crates.io would get them: what cargo puts into each. Nothing is compiled. `cargo publish --dry-run
//! --workspace` compiles them from there too. And the crates that they need: each is compiled once for all commands.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::installed::{repository, run, stderr};

/// crates.io takes 10 MB, compressed. The files may have as much before that.
const MOST_BYTES: u64 = 10_000_000;

/// Returns the paths of all files in the package of a crate, whose manifest is in `folder`.
fn packaged(krate: &str, folder: &str) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repository()).args(["package", "--list", "--allow-dirty", "--offline", "-p", krate]);
    let output = run(&mut cargo, String::new()).expect("cargo runs the tests");
    assert!(output.status.success(), "{}", stderr(&output));
    let files: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let sizes = files.iter().filter_map(|file| fs::metadata(repository().join(folder).join(file)).ok());
    let bytes: u64 = sizes.map(|file| file.len()).sum();
    assert!((1..MOST_BYTES).contains(&bytes), "{krate}: {bytes} bytes");
    files
}

#[test]
fn the_crate_of_the_server_has_all_that_its_build_reads_and_no_tests() {
    let files = packaged("cognate", "");
    let has = |file: &str| files.iter().any(|known| known == file);
    for file in ["build.rs", "LICENSE", "NOTICE", "README.md", "proto/cognate/v1/cognate.proto"] {
        assert!(has(file), "{file}");
    }
    for outside in ["tests/", "benches/", "clients/", "deploy/", ".ci/"] {
        assert!(!files.iter().any(|file| file.starts_with(outside)), "{outside}");
    }
    let mut included = 0;
    for source in files.iter().filter(|file| file.starts_with("src/") && file.ends_with(".rs")) {
        let text = fs::read_to_string(repository().join(source)).expect("a source is text");
        for macro_name in ["include_str!(\"", "include_bytes!(\""] {
            for (_, rest) in text.match_indices(macro_name).map(|(at, name)| text.split_at(at + name.len())) {
                let path = rest.split('"').next().expect("a text ends");
                let path = repository().join(source).with_file_name("").join(path).canonicalize().expect("it exists");
                let path = path.strip_prefix(repository().canonicalize().unwrap()).expect("it is ours");
                assert!(has(path.to_str().unwrap()), "{source} includes {}", path.display());
                included += 1;
            }
        }
    }
    assert!(included >= 8, "{included}");
    let page = fs::read_dir(repository().join("src/console/page")).unwrap();
    for file in page.map(|file| file.unwrap().file_name().into_string().unwrap()) {
        assert!(has(&format!("src/console/page/{file}")), "{file}");
    }
}

#[test]
fn the_crate_of_the_client_has_its_stubs_and_no_tests() {
    let files = packaged("cognate-client", "clients/rust");
    for file in ["LICENSE", "README.md", "src/lib.rs", "src/wire/generated.rs"] {
        assert!(files.iter().any(|known| known == file), "{file}");
    }
    assert!(!files.iter().any(|file| file.starts_with("tests/")));
}

#[test]
fn each_package_has_the_licence() {
    let licence = fs::read(repository().join("LICENSE")).unwrap();
    for folder in ["clients/node", "clients/python", "clients/rust", "deploy/npm", "deploy/wheel"] {
        assert!(fs::read(repository().join(folder).join("LICENSE")).unwrap() == licence, "{folder}");
    }
}

/// Returns the crates that cargo compiles, each with its features.
fn crates(options: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repository()).args(["tree", "--offline", "--prefix", "none", "--format", "{p} {f}"]);
    let output = run(cargo.args(options), String::new()).expect("cargo runs the tests");
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    // A crate that came before has `(*)` at its end.
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.is_empty()).collect()
}

/// A crate that has one more feature for tests is compiled twice. So are all crates that need it, with the server: ten
/// minutes on a slow machine.
#[test]
fn the_server_its_tests_and_the_workspace_are_built_from_the_same_crates() {
    let workspace = crates(&["--workspace", "--edges", "normal,build,dev"]);
    for edges in ["normal,build", "normal,build,dev"] {
        let of_server = crates(&["--package", "cognate", "--edges", edges]);
        let differ: Vec<_> = of_server.difference(&workspace).collect();
        assert!(
            of_server.len() > 300 && differ.is_empty(),
            "with {edges}, other features than in the workspace: {differ:?}"
        );
    }
}
