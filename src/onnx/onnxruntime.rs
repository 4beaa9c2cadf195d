//! ONNX Runtime: a shared library that is loaded once and stays.
//!
//! Invariant: no function of `ort` is called before a library is loaded. Each of them, even making an error, would
//! load a library of its own choice, and panic without one.
//!
//! A process keeps its library: `ort` keeps the first one that it loads, and its environment can be made only once.
//! Loading runs in a thread of its own with a time limit, because the library's code then runs for the first time.

mod session;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;

pub(super) use session::Session;

use super::catch_panic::{catch_panic, one_line};
use super::library::{self, Unusable};

/// The minor number of the oldest version that has the interface we are built for.
const OLDEST: u32 = ort::MINOR_VERSION;

/// Time for loading. It takes a fifth of a second; from a disk that is far away it may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The library of this process.
#[derive(Debug, Clone)]
pub(super) struct Library {
    /// The library's file, links followed.
    pub path: PathBuf,
    /// The library's version: of the file's name, or the first two numbers as the library tells them.
    pub version: String,
    environment: Environment,
}

/// The state of the one library that a process can load.
enum State {
    /// No library was loaded. Those that were refused left nothing behind.
    Free,
    /// The library works.
    Loaded(Library),
    /// The library's code ran and failed, or is still running.
    Spoilt(PathBuf),
}

static STATE: Mutex<State> = Mutex::new(State::Free);

impl Library {
    /// Loads a library, or returns the one that this process has if it is the same file.
    pub(super) fn load(path: &Path) -> Result<Self, Unusable> {
        let path = library::check(path)?;
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Free => {}
            State::Loaded(loaded) if loaded.path == path => return Ok(loaded.clone()),
            State::Loaded(Self { path, .. }) | State::Spoilt(path) => {
                return Err(Unusable::OtherLoaded { path: path.clone() });
            }
        }
        let loaded = in_time({
            let path = path.clone();
            move || start(path)
        });
        match loaded {
            Ok(library) => {
                *state = State::Loaded(library.clone());
                Ok(library)
            }
            Err(Failure::Refused(reason)) => Err(reason),
            Err(Failure::Spoilt(reason)) => {
                *state = State::Spoilt(path);
                Err(reason)
            }
        }
    }
}

/// A failed attempt to load a library.
enum Failure {
    /// The library is not loaded, and another one can be tried.
    Refused(Unusable),
    /// The library is loaded and does not work. The process has no second attempt.
    Spoilt(Unusable),
}

/// Loads a library and starts it.
fn start(path: PathBuf) -> Result<Library, Failure> {
    let builder = match catch_panic(|| Ok::<_, String>(ort::init_from(&path))) {
        Ok(Ok(builder)) => builder,
        Ok(Err(error)) => return Err(Failure::Refused(unusable(&error))),
        Err(reason) => return Err(Failure::Spoilt(Unusable::Load { reason })),
    };
    let build = || {
        let environment = builder.with_name("onnx").with_telemetry(false).with_logger(Arc::new(log)).build()?;
        // The default level logs everything.
        environment.set_log_level(LogLevel::Warning);
        Ok::<_, ort::Error>(environment)
    };
    let environment = catch_panic(build).map_err(|reason| Failure::Spoilt(Unusable::Load { reason }))?;
    let told_by_library = || ort::util::probe(&path).map(|minor| format!("1.{minor}"));
    let version = version_in_name(&path).or_else(told_by_library).unwrap_or_else(|| "of unknown version".to_owned());
    Ok(Library { path, version, environment })
}

/// Translates the reason why a library was not loaded.
fn unusable(error: &LoadDynamicError) -> Unusable {
    match error {
        LoadDynamicError::MissingApi { .. } => Unusable::OtherLibrary,
        LoadDynamicError::BadVersion { version_str, .. } => {
            Unusable::TooOld { version: version_str.clone(), oldest: OLDEST }
        }
        // Only the source names the file or symbol that the system misses.
        LoadDynamicError::Dlopen { error: system, .. } => {
            Unusable::Load { reason: one_line(system.source().map_or_else(|| error.to_string(), ToString::to_string)) }
        }
        LoadDynamicError::InvalidVersionString => Unusable::Load { reason: one_line(error) },
    }
}

/// Finds the version in a file's name: `libonnxruntime.so.1.23.2`, `libonnxruntime.1.23.2.dylib`. A single number is
/// the version of the interface and does not count.
fn version_in_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let numbers: Vec<&str> = name.split('.').filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).collect();
    (numbers.len() >= 2).then(|| numbers.join("."))
}

/// Waits for `work` for [`PATIENCE`]. After that it leaves the thread alone.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        // Nobody receives what comes too late.
        let _ = sender.send(work());
    };
    let thread = thread::Builder::new().name("onnxruntime".to_owned());
    thread.spawn(work).map_err(|error| Failure::Refused(Unusable::Load { reason: one_line(error) }))?;
    receiver.recv_timeout(PATIENCE).unwrap_or(Err(Failure::Spoilt(Unusable::Stuck(PATIENCE))))
}

/// Logs a message of ONNX Runtime. Its errors are returned as results too, so they are not logged as errors.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    let message = message.trim_end();
    match level {
        LogLevel::Fatal => tracing::error!(location, "ONNX Runtime: {message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(location, "ONNX Runtime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(location, "ONNX Runtime: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reason for which `ort` refused a library, translated.
    fn translated(error: &LoadDynamicError) -> String {
        unusable(error).to_string()
    }

    #[test]
    fn a_library_that_is_too_old_is_refused_with_its_version() {
        let error = LoadDynamicError::BadVersion { version_str: "1.16.3".to_owned(), path: "old.so".into() };
        assert_eq!(translated(&error), "version 1.16.3; 1.17 is the oldest that works; update it");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_library_is_refused_and_leaves_the_attempt_to_the_next() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        for _ in 0..2 {
            let reason = Library::load(Path::new(libc.expect("this test is linked with libc.so"))).unwrap_err();
            // Another test of this process may have loaded ONNX Runtime.
            assert!(matches!(reason, Unusable::OtherLibrary | Unusable::OtherLoaded { .. }), "{reason}");
        }
    }

    #[test]
    fn the_version_is_read_from_the_name_of_the_file() {
        let version = |name: &str| version_in_name(Path::new(name));
        assert_eq!(version("/lib/libonnxruntime.so.1.16.3").as_deref(), Some("1.16.3"));
        assert_eq!(version("libonnxruntime.1.23.2.dylib").as_deref(), Some("1.23.2"));
        assert_eq!(version("libonnxruntime.so.1"), None);
    }
}
