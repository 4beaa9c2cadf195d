//! The choice between the runtimes, made once at the start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::onnxruntime;
use super::options::{Choice, Options, Settings};
use super::rten_runtime;
use super::search_path::{Location, NoLibrary, Surroundings, search_path};

/// A runtime that was found and works. A clone is cheap and stands for the same runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) settings: Settings,
}

/// The engine of a runtime.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    OnnxRuntime(onnxruntime::Library),
    Rten(rten_runtime::Threads),
}

/// The reason why the wanted runtime is not available.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library that the options name cannot be used.
    #[error(
        "{path} is not usable as ONNX Runtime's library: {reason}; give --onnxruntime its file or directory, \
         or use --onnx-runtime rten", path = .path.display()
    )]
    Library {
        /// The path in the options.
        path: PathBuf,
        /// The reason.
        reason: NoLibrary,
    },
    /// ONNX Runtime was wanted and is not installed in any known location.
    #[error("{}", describe(.tried))]
    NotFound {
        /// The locations and files that were tried, with the reason why each was not used.
        tried: Vec<(String, NoLibrary)>,
    },
}

impl Runtime {
    /// Finds the runtime that the options choose. ONNX Runtime's library is loaded here, once for the whole process:
    /// another path later is an error.
    pub fn find(options: &Options) -> Result<Self, RuntimeError> {
        Self::find_in(options, &Surroundings::of_process())
    }

    fn find_in(options: &Options, surroundings: &Surroundings<'_>) -> Result<Self, RuntimeError> {
        let settings = Settings { optimization: options.optimization, threads: options.threads.max(1) };
        let rten = || Engine::Rten(rten_runtime::Threads::new(settings.threads));
        let engine = match (options.runtime, &options.library) {
            (Choice::Rten, _) => rten(),
            (Choice::Auto | Choice::OnnxRuntime, Some(path)) => Engine::OnnxRuntime(named(path, surroundings)?),
            (Choice::OnnxRuntime, None) => {
                Engine::OnnxRuntime(search(surroundings).map_err(|tried| RuntimeError::NotFound { tried })?)
            }
            (Choice::Auto, None) => search(surroundings).map_or_else(|_| rten(), Engine::OnnxRuntime),
        };
        Ok(Self { engine, settings })
    }

    /// Returns the runtime's name and version: `onnxruntime 1.23.2` or `rten 0.27.0`.
    pub fn name(&self) -> String {
        match &self.engine {
            Engine::OnnxRuntime(library) => format!("onnxruntime {}", library.version),
            Engine::Rten(_) => format!("rten {}", rten_runtime::VERSION),
        }
    }

    /// Returns the file of ONNX Runtime's library.
    pub fn library(&self) -> Option<&Path> {
        match &self.engine {
            Engine::OnnxRuntime(library) => Some(&library.path),
            Engine::Rten(_) => None,
        }
    }
}

/// Loads the library that the options name.
fn named(path: &Path, surroundings: &Surroundings<'_>) -> Result<onnxruntime::Library, RuntimeError> {
    let error = |reason| RuntimeError::Library { path: path.to_owned(), reason };
    let files = Location::Option(path.to_owned()).files(surroundings).map_err(error)?;
    // A directory with several versions means the newest.
    let newest = files.first().expect("a location has a file or an error");
    onnxruntime::Library::load(newest).map_err(|unusable| error(unusable.into()))
}

/// Loads the first library on the search path that works. The error lists what was tried, in that order.
fn search(surroundings: &Surroundings<'_>) -> Result<onnxruntime::Library, Vec<(String, NoLibrary)>> {
    let mut tried = Vec::new();
    for location in search_path(surroundings) {
        let files = match location.files(surroundings) {
            Ok(files) => files,
            Err(reason) => {
                tracing::debug!("no ONNX Runtime at {location}: {reason}");
                tried.push((location.to_string(), reason));
                continue;
            }
        };
        for file in files {
            match onnxruntime::Library::load(&file) {
                Ok(library) => return Ok(library),
                Err(unusable) => {
                    let file = file.display().to_string();
                    tracing::warn!("ONNX Runtime at {file} is not used: {unusable}");
                    tried.push((file, unusable.into()));
                }
            }
        }
    }
    Err(tried)
}

fn describe(tried: &[(String, NoLibrary)]) -> String {
    let mut text = "ONNX Runtime's library was not found; tried:".to_owned();
    for (location, reason) in tried {
        write!(text, "\n  {location}: {reason}").expect("a String takes what is written");
    }
    text.push_str("\nto continue, do one of these:");
    text.push_str("\n  pip install onnxruntime");
    text.push_str("\n  name the library's file or directory: --onnxruntime PATH");
    text.push_str("\n  use the built-in runtime: --onnx-runtime rten");
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    /// Finds a runtime where the system's library is a text file, and without Python.
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
    fn without_a_library_that_works_the_error_lists_what_was_tried_and_what_to_do() {
        let text = find(Choice::OnnxRuntime).unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1], "/no/such/library: no such file or directory");
        assert!(lines[2].contains("libonnxruntime.so: not a shared library") || !cfg!(target_os = "linux"), "{text}");
        assert!(lines[3].starts_with("python3: /no/such/python cannot be started"), "{text}");
        assert!(text.contains("pip install onnxruntime") && text.contains("--onnx-runtime rten"), "{text}");
    }
}
