//! Where python3 keeps its package `onnxruntime`, whose wheel holds the shared library.
//!
//! Python alone knows: virtual environments, user directories and system packages all differ. It is asked for the place
//! and does not import the package, which would load the library into it and take seconds.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The interpreter that is asked, as found on the `PATH`.
pub(super) const PYTHON: &str = "python3";

/// An interpreter on a cold disk needs a second or two.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The working directory leaves the path first: whatever lies there is not ours to run.
const QUESTION: &str = "
import sys
sys.path[:] = [place for place in sys.path if place]
import importlib.util, os
spec = importlib.util.find_spec('onnxruntime')
for place in (spec and spec.submodule_search_locations) or []:
    sys.stdout.buffer.write(os.fsencode(os.path.join(place, 'capi')) + b'\\n')
";

/// Bytes of an answer that are read; a path is much shorter.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Not installed, or not for us.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// The interpreter.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It was ended.
    #[error("{program} gave no answer within {} s", .patience.as_secs())]
    TooSlow {
        /// The interpreter.
        program: String,
        /// How long it was waited for.
        patience: Duration,
    },
}

/// The directories of the package's binaries, in Python's order; none where it has no such package.
pub(super) fn ask(program: &str, patience: Duration) -> Result<Vec<PathBuf>, NoAnswer> {
    let not_started = |source| NoAnswer::NotStarted { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(["-c", QUESTION])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(not_started)?;
    let mut stdout = child.stdout.take().expect("it was asked for").take(ANSWER_BYTES);
    let (sender, receiver) = mpsc::channel();
    // In a thread of its own: what Python starts may keep the pipe open after Python was ended.
    let reader = move || {
        let mut answer = Vec::new();
        // Half an answer is judged like a whole one: what it names is looked at anyway.
        let _ = stdout.read_to_end(&mut answer);
        let _ = sender.send(answer);
    };
    thread::Builder::new().name("python".to_owned()).spawn(reader).map_err(not_started)?;
    let answer = receiver.recv_timeout(patience);
    // It has said all or it never will; either way it is not left behind.
    let _ = child.kill();
    let _ = child.wait();
    let answer = answer.map_err(|_| NoAnswer::TooSlow { program: program.to_owned(), patience })?;
    let answer = String::from_utf8(answer).unwrap_or_default();
    Ok(answer.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    fn program(directory: &tempfile::TempDir, script: &str) -> String {
        let path = directory.path().join("python");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_line_of_the_answer_is_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let python = program(&directory, "echo /a b/capi; echo; echo /c");
        assert_eq!(ask(&python, PATIENCE).unwrap(), [PathBuf::from("/a b/capi"), PathBuf::from("/c")]);
        let silent = program(&directory, "exit 1");
        assert!(ask(&silent, PATIENCE).unwrap().is_empty());
    }

    #[test]
    fn an_interpreter_that_hangs_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        // The sleeping child outlives the shell and keeps the pipe open.
        let python = program(&directory, "sleep 3; echo /late");
        let start = Instant::now();
        let error = ask(&python, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, NoAnswer::TooSlow { .. }));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[test]
    fn no_interpreter_is_an_error() {
        assert!(matches!(ask("/no/such/python", PATIENCE), Err(NoAnswer::NotStarted { .. })));
    }

    #[test]
    fn the_package_is_found_without_being_imported_and_not_in_the_working_directory() {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("onnxruntime");
        fs::create_dir(&package).unwrap();
        let imported = directory.path().join("imported");
        fs::write(package.join("__init__.py"), format!("open({imported:?}, 'w')")).unwrap();
        let directory_text = directory.path().to_str().unwrap();
        let with_path =
            |setting: &str| program(&directory, &format!("cd '{directory_text}'; {setting} exec python3 \"$@\""));
        let found = ask(&with_path(&format!("PYTHONPATH='{directory_text}'")), PATIENCE).unwrap();
        assert_eq!(found, [package.join("capi")]);
        assert!(!imported.exists());
        let elsewhere = ask(&with_path("PYTHONPATH="), PATIENCE).unwrap();
        assert!(!elsewhere.contains(&package.join("capi")));
    }
}
