//! A question to python3: the directory of its package `onnxruntime`, whose wheel contains the shared library.
//!
//! Only Python knows it, because virtual environments, user directories and system packages differ. Python does not
//! import the package for this: that would load the library and take seconds.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The interpreter, as found on the `PATH`.
pub(super) const PYTHON: &str = "python3";

/// Time for the answer. An interpreter on a cold disk needs a second or two.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The program that Python runs. It removes the working directory from the path first, so that no file there is run.
const QUESTION: &str = "
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import importlib.util, os
spec = importlib.util.find_spec('onnxruntime')
for folder in (spec and spec.submodule_search_locations) or []:
    sys.stdout.buffer.write(os.fsencode(os.path.join(folder, 'capi')) + b'\\n')
";

/// Bytes of an answer that are read; a path is much shorter.
const ANSWER_BYTES: u64 = 64 * 1024;

/// The reason why Python gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Python is not installed, or we may not run it.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// The interpreter.
        program: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Python took too long and was killed.
    #[error("{program} gave no answer within {} s", .patience.as_secs())]
    TooSlow {
        /// The interpreter.
        program: String,
        /// The time that it had.
        patience: Duration,
    },
}

/// Returns the directories of the package's binaries, in Python's order. The list is empty if the package is not
/// installed.
pub(super) fn ask(program: &str, patience: Duration) -> Result<Vec<PathBuf>, NoAnswer> {
    let not_started = |source| NoAnswer::NotStarted { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(["-c", QUESTION])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(not_started)?;
    let mut stdout = child.stdout.take().expect("stdout is piped").take(ANSWER_BYTES);
    let (sender, receiver) = mpsc::channel();
    // A thread reads the answer: a process that Python started may keep the pipe open after Python was killed.
    let reader = move || {
        let mut answer = Vec::new();
        // Half an answer is used like a whole one: the directories in it are checked anyway.
        let _ = stdout.read_to_end(&mut answer);
        let _ = sender.send(answer);
    };
    thread::Builder::new().name("python".to_owned()).spawn(reader).map_err(not_started)?;
    let answer = receiver.recv_timeout(patience);
    // Python has answered or never will. In both cases it must not stay behind.
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
    fn an_interpreter_that_hangs_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        // The sleeping process outlives the shell and keeps the pipe open.
        let python = program(&directory, "sleep 3; echo /late");
        let error = ask(&python, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, NoAnswer::TooSlow { .. }));
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
