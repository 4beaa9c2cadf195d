//! The npm package `cognate-server` of `deploy/npm`: packed with the binary of the development profile, installed from
//! its file into an empty folder, and used.

use std::fs;
use std::process::Command;

use crate::installed::{install, repository, run, stderr, target_dir};
use crate::wheel::shows_the_demo;

const NEEDS: &str = "Node.js 20 or later with npm";

#[test]
#[ignore = "needs Node.js: cargo test -- --ignored"]
fn the_npm_package_brings_a_binary_that_shows_the_demo() {
    let folder = target_dir().join("npm");
    let _ = fs::remove_dir_all(&folder);
    let empty = folder.join("empty");
    fs::create_dir_all(&empty).expect("the target directory can be written");
    let mut pack = Command::new("node");
    pack.arg(repository().join("deploy/npm/pack.mjs")).arg(env!("CARGO_BIN_EXE_cognate")).arg(&folder);
    let packed = run(&mut pack, String::new()).expect(NEEDS);
    assert!(packed.status.success(), "{}", stderr(&packed));
    let file = folder.join(String::from_utf8_lossy(&packed.stdout).trim());
    let mut npm = Command::new("npm");
    npm.current_dir(&empty).args(["install", "--offline", "--no-audit", "--no-fund", "--prefix", "."]).arg(&file);
    install(&mut npm, NEEDS);
    shows_the_demo(|| {
        let mut npx = Command::new("npx");
        npx.current_dir(&empty).args(["--no", "cognate", "--"]);
        npx
    });
    // The licences of what is inside come along.
    for licence in ["LICENSE", "NOTICE", "LICENSE.wordnet", "LICENSE.vadersentiment"] {
        assert!(empty.join("node_modules/cognate-server").join(licence).is_file(), "{licence}");
    }
}
