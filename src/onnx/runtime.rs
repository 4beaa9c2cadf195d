//! The choice between the runtimes, made once at the start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::library::Unusable;
use super::onnxruntime;
use super::options::{Choice, Optimization, Options};
use super::places::{Absent, Place, Surroundings, places};
use super::rten_runtime;

/// A runtime that was found and works. A clone is cheap and means the same one.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) settings: Settings,
}

#[derive(Debug, Clone)]
pub(super) enum Engine {
    OnnxRuntime(onnxruntime::Library),
    Rten(rten_runtime::Threads),
}

/// How it loads and runs a graph.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub optimization: Optimization,
    pub threads: usize,
}

/// Why there is no runtime as it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library that was named is none.
    #[error(
        "{path} is not usable as ONNX Runtime's library: {reason}; give --onnxruntime its file or directory, \
         or use --onnx-runtime rten", path = .path.display()
    )]
    Library {
        /// What was named.
        path: PathBuf,
        /// Why not.
        reason: Reason,
    },
    /// ONNX Runtime was wanted and is nowhere.
    #[error("{}", describe(.attempts))]
    NotFound {
        /// Where it was looked for, in that order.
        attempts: Vec<Attempt>,
    },
}

/// A place that was looked at.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Attempt {
    /// A path, a variable, a program.
    pub place: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Why a place gives no library.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// There is none.
    #[error("{0}")]
    Absent(Absent),
    /// There is one, and it cannot be used.
    #[error("{0}")]
    Unusable(Unusable),
}

impl Runtime {
    /// Finds the runtime that was chosen. ONNX Runtime's library is loaded here, once for the whole process: another
    /// path later is an error.
    pub fn find(options: &Options) -> Result<Self, RuntimeError> {
        Self::find_in(options, &Surroundings::of_process())
    }

    fn find_in(options: &Options, surroundings: &Surroundings<'_>) -> Result<Self, RuntimeError> {
        let settings = Settings { optimization: options.optimization, threads: options.threads.max(1) };
        let rten = || Engine::Rten(rten_runtime::Threads::new(settings.threads));
        let engine = match (options.runtime, &options.library) {
            (Choice::Rten, _) => rten(),
            (Choice::Auto | Choice::OnnxRuntime, Some(path)) => Engine::OnnxRuntime(given(path, surroundings)?),
            (Choice::OnnxRuntime, None) => {
                Engine::OnnxRuntime(found(surroundings).map_err(|attempts| RuntimeError::NotFound { attempts })?)
            }
            (Choice::Auto, None) => found(surroundings).map_or_else(|_| rten(), Engine::OnnxRuntime),
        };
        Ok(Self { engine, settings })
    }

    /// Its name and version, `onnxruntime 1.23.2` or `rten 0.27.0`.
    pub fn name(&self) -> String {
        match &self.engine {
            Engine::OnnxRuntime(library) => format!("onnxruntime {}", library.version),
            Engine::Rten(_) => format!("rten {}", rten_runtime::VERSION),
        }
    }

    /// The file of ONNX Runtime's library.
    pub fn library(&self) -> Option<&Path> {
        match &self.engine {
            Engine::OnnxRuntime(library) => Some(&library.path),
            Engine::Rten(_) => None,
        }
    }
}

/// The library that was named.
fn given(path: &Path, surroundings: &Surroundings<'_>) -> Result<onnxruntime::Library, RuntimeError> {
    let error = |reason| RuntimeError::Library { path: path.to_owned(), reason };
    let files = Place::Option(path.to_owned()).files(surroundings);
    let files = files.map_err(|absent| error(Reason::Absent(absent)))?;
    // Where a directory holds several, the newest was meant.
    let newest = files.first().expect("a place has a file or an error");
    onnxruntime::Library::load(newest).map_err(|unusable| error(Reason::Unusable(unusable)))
}

/// The first library that works, or each place and what is wrong with it.
fn found(surroundings: &Surroundings<'_>) -> Result<onnxruntime::Library, Vec<Attempt>> {
    let mut attempts = Vec::new();
    for place in places(surroundings) {
        let files = match place.files(surroundings) {
            Ok(files) => files,
            Err(absent) => {
                tracing::debug!("no ONNX Runtime at {place}: {absent}");
                attempts.push(Attempt { place: place.to_string(), reason: Reason::Absent(absent) });
                continue;
            }
        };
        for file in files {
            match onnxruntime::Library::load(&file) {
                Ok(library) => return Ok(library),
                Err(unusable) => {
                    let place = file.display().to_string();
                    tracing::warn!("ONNX Runtime at {place} is not used: {unusable}");
                    attempts.push(Attempt { place, reason: Reason::Unusable(unusable) });
                }
            }
        }
    }
    Err(attempts)
}

fn describe(attempts: &[Attempt]) -> String {
    let mut text = "ONNX Runtime's library was found nowhere; looked at:".to_owned();
    for attempt in attempts {
        write!(text, "\n  {attempt}").expect("a String takes what is written");
    }
    text.push_str("\nwhat to do next, any one of:");
    text.push_str("\n  pip install onnxruntime");
    text.push_str("\n  name its file or directory: --onnxruntime PATH");
    text.push_str("\n  use the runtime that is built in: --onnx-runtime rten");
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    /// Finds with a library of the system that is none, and without Python.
    fn find(runtime: Choice) -> Result<Runtime, RuntimeError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(super::super::library::shared_name());
        std::fs::write(&file, "a text").unwrap();
        let variable = |name: &str| (name == "ORT_DYLIB_PATH").then(|| OsString::from("/no/such/library"));
        let system = vec![directory.path().to_owned()];
        let surroundings = Surroundings { variable: &variable, executable: None, system, python: "/no/such/python" };
        Runtime::find_in(&Options { runtime, ..Options::default() }, &surroundings)
    }

    #[test]
    fn without_a_library_that_works_auto_means_rten() {
        let runtime = find(Choice::Auto).unwrap();
        assert_eq!((runtime.name().as_str(), runtime.library()), ("rten 0.27.0", None));
        assert_eq!(runtime.settings.threads, 1);
    }

    #[test]
    fn without_a_library_that_works_each_place_is_told_and_what_to_do() {
        let text = find(Choice::OnnxRuntime).unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1], "/no/such/library: no such file or directory");
        assert!(lines[2].ends_with(": not a shared library"), "{text}");
        assert!(lines[3].starts_with("python3: /no/such/python cannot be started"), "{text}");
        assert!(text.contains("pip install onnxruntime") && text.contains("--onnx-runtime rten"), "{text}");
    }
}
