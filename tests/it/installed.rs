//! Independent programs for tests that need them. They are installed once per target directory, from the Go module
//! proxy, from PyPI and from npm, in the versions that are pinned here and in files named
//! `requirements.txt`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

const GRPCURL: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3";
const BUF: &str = "@bufbuild/buf@1.75.0";

/// A lock for Python's installation: tests run in parallel, and several need the same one.
static TURN: Mutex<()> = Mutex::new(());

pub fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command to its end, with `stdin` piped into it as it reads.
pub fn run(command: &mut Command, stdin: String) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut pipe = child.stdin.take().expect("stdin is piped");
    // A client that ends early closes the pipe. Its exit code and output tell the reason.
    let writer = std::thread::spawn(move || pipe.write_all(stdin.as_bytes()).ok());
    let output = child.wait_with_output();
    writer.join().expect("the writer does not panic");
    output
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Takes away what cargo tells a test about its crate. Build scripts that watch such variables (ring's does) would run
/// again. All that depends on them would then be compiled twice: for the test, and for the next command.
pub fn as_outside_of_a_test(command: &mut Command) -> &mut Command {
    let of_crate =
        |name: &str| name == "OUT_DIR" || ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| name.starts_with(begin));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_crate)) {
        command.env_remove(name);
    }
    command
}

/// Runs a step of an installation. If that fails, the test fails and says what to install.
pub fn install(command: &mut Command, needs: &str) {
    let output = run(command, String::new()).unwrap_or_else(|error| {
        let program = command.get_program().display();
        panic!("cannot run {program} ({error}): this test needs {needs}")
    });
    assert!(output.status.success(), "{command:?} failed; this test needs {needs}:\n{}", stderr(&output));
}

/// Returns the path of grpcurl. The first test that asks installs it.
pub fn grpcurl() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| go_program(GRPCURL, "Go 1.21 or later and a Go module proxy that GOPROXY names"))
}

/// Returns the path of a program in Go, `PACKAGE@VERSION`. It is installed if it is not there.
pub fn go_program(package: &str, needs: &str) -> PathBuf {
    let (path, version) = package.split_once('@').expect("the version is pinned");
    let name = path.rsplit('/').next().expect("a path has a last name");
    let folder = target_dir().join(name).join(version);
    let binary = folder.join(name);
    let runs = run(Command::new(&binary).arg("--version"), String::new()).is_ok_and(|output| output.status.success());
    if !runs {
        install(Command::new("go").args(["install", package]).env("GOBIN", &folder), needs);
    }
    binary
}

/// Returns the path of buf. The first test that asks installs it. npm has its binary as a package for each platform.
pub fn buf() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let (_, version) = BUF.rsplit_once('@').expect("the version is pinned");
        let folder = target_dir().join("buf").join(version);
        let binary = folder.join("node_modules/.bin/buf");
        let runs =
            run(Command::new(&binary).arg("--version"), String::new()).is_ok_and(|output| output.status.success());
        if !runs {
            let mut npm = Command::new("npm");
            npm.args(["install", "--ignore-scripts", "--no-save", "--no-package-lock", "--prefix"]).arg(&folder);
            install(npm.arg(BUF), "Node.js 20 or later and a registry that npm reaches");
        }
        binary
    })
}

pub const NEEDS_PYTHON: &str =
    "Python 3.10 or later with its venv module (Debian: python3-venv) and a PyPI that pip reaches";

/// Returns the Python of a virtual environment with the packages of `{of}/requirements.txt`.
pub fn python(of: &str) -> PathBuf {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let requirements = repository().join(of).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the requirements are in the repository");
    let folder = target_dir().join("python").join(of);
    let binary = folder.join("bin/python");
    // It is written last. An interrupted installation, or one of other versions, is made anew.
    let marker = folder.join("installed.txt");
    if fs::read_to_string(&marker).ok().as_deref() != Some(wanted.as_str()) {
        install(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), NEEDS_PYTHON);
        let mut pip = Command::new(&binary);
        install(
            pip.args(["-m", "pip", "install", "--disable-pip-version-check", "-r"]).arg(&requirements),
            NEEDS_PYTHON,
        );
        fs::write(&marker, wanted).expect("the target directory can be written");
    }
    binary
}

/// Returns a folder with these programs of `{of}` and what its package.json needs from npm. The first test that asks
/// installs it.
pub fn node(of: &str, programs: &[&str]) -> PathBuf {
    let (from, folder) = (repository().join(of), target_dir().join("node").join(of));
    fs::create_dir_all(&folder).expect("the target directory can be written");
    for file in programs.iter().chain(&["package.json", "package-lock.json"]) {
        fs::copy(from.join(file), folder.join(file)).expect("the program is in the repository");
    }
    let wanted = fs::read(folder.join("package-lock.json")).expect("it was copied");
    // It is written last, as for Python.
    let marker = folder.join("installed.json");
    if fs::read(&marker).ok().as_ref() != Some(&wanted) {
        let mut npm = Command::new("npm");
        install(npm.args(["ci", "--ignore-scripts", "--prefix"]).arg(&folder), "Node.js 20 or later and a registry");
        fs::write(&marker, wanted).expect("the target directory can be written");
    }
    folder
}
