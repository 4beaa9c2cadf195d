//! The wheel `cognate-server` of `deploy/wheel`: built, installed from its file into an empty environment, and used. It
//! holds the binary of the development profile here, which the other tests have compiled.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::installed::{as_outside_of_a_test, install, python, repository, run, stderr, target_dir};

/// Builds the wheel into an empty folder.
fn built() -> PathBuf {
    let folder = target_dir().join("wheel");
    let _ = fs::remove_dir_all(&folder);
    let target = target_dir().parent().expect("cargo made it inside the target directory");
    let mut maturin = Command::new(python("tests/wheel"));
    maturin.args(["-m", "maturin", "build", "--profile", "dev", "--compatibility", "linux", "--out"]).arg(&folder);
    maturin.current_dir(repository().join("deploy/wheel")).env("CARGO_TARGET_DIR", target);
    install(as_outside_of_a_test(&mut maturin), "maturin, which tests/wheel/requirements.txt names");
    let mut files = fs::read_dir(&folder).expect("maturin made it").map(|file| file.expect("it can be read").path());
    let wheel = files.next().expect("maturin wrote a wheel");
    assert!(files.next().is_none(), "one wheel is enough");
    wheel
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
fn the_wheel_brings_a_binary_that_shows_the_demo() {
    let wheel = built();
    let environment = target_dir().join("wheel-environment");
    install(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment), "Python's venv module");
    let mut pip = Command::new(environment.join("bin/python"));
    install(pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-index"]).arg(&wheel), "pip");

    shows_the_demo(|| Command::new(environment.join("bin/cognate")));

    // The licences of what is inside come along.
    let listing = Command::new(environment.join("bin/python"))
        .args(["-c", "import importlib.metadata as m; print(*m.files('cognate-server'), sep='\\n')"])
        .output()
        .expect("python runs");
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    for licence in ["LICENSE", "NOTICE", "LICENSE.wordnet", "LICENSE.vadersentiment"] {
        assert!(listing.lines().any(|file| file.ends_with(&format!("licenses/{licence}"))), "{licence}: {listing}");
    }
}

/// Demands that an installed program has the version of this crate, and runs the demo.
pub fn shows_the_demo(program: impl Fn() -> Command) {
    let version = run(program().arg("--version"), String::new()).expect("it was installed");
    let expected = concat!("cognate ", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), expected, "{}", stderr(&version));
    let output = run(program().args(["demo", "--once", "--addr", "127.0.0.1:0"]), String::new()).expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
}
