//! Where ONNX Runtime's library may be, in the order in which the places are asked.
//!
//! What was set for us comes first, then what the system's loader would find, then Python's wheel, which is how most
//! people install it. Nothing is searched for below a directory, and never in the working directory.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::library::{Unusable, shared_name};
use super::python;

/// What the search depends on, so that a test can give its own.
pub(super) struct Surroundings<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// This program.
    pub executable: Option<PathBuf>,
    /// Directories where the system's packages put libraries.
    pub system: Vec<PathBuf>,
    /// The Python that is asked.
    pub python: &'a str,
}

/// A place that may hold the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// What the options name.
    Option(PathBuf),
    /// What `ORT_DYLIB_PATH` names.
    Variable(PathBuf),
    /// A directory of libraries.
    Directory(PathBuf),
    /// A directory where Python's packages are.
    Packages(PathBuf),
    /// Whatever python3 knows.
    Python,
}

/// Why a place holds no library at all.
#[derive(Debug, thiserror::Error)]
pub enum Absent {
    /// Not there, or not a file or directory to be used.
    #[error("{0}")]
    Unusable(#[from] Unusable),
    /// The wheel is too old.
    #[error("its package onnxruntime holds no {}: version 1.19 is the first with it", shared_name())]
    OldWheel,
    /// Python does not have it.
    #[error("it has no package onnxruntime")]
    NoPackage,
    /// Python does not answer.
    #[error("{0}")]
    NoAnswer(#[from] python::NoAnswer),
}

const LIBRARY_PATH: &str = if cfg!(target_vendor = "apple") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

impl Surroundings<'static> {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var_os(name),
            executable: std::env::current_exe().ok(),
            system: system_directories(),
            python: python::PYTHON,
        }
    }
}

fn system_directories() -> Vec<PathBuf> {
    if cfg!(windows) {
        return Vec::new();
    }
    let triplet = match std::env::consts::ARCH {
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "x86" => "i386-linux-gnu".to_owned(),
        architecture => format!("{architecture}-linux-gnu"),
    };
    let mut directories: Vec<PathBuf> = ["/usr/local/lib", "/usr/lib"].map(PathBuf::from).into();
    if cfg!(target_os = "linux") {
        directories.extend([Path::new("/usr/lib").join(triplet), "/usr/lib64".into()]);
    }
    if cfg!(target_os = "macos") {
        directories.push("/opt/homebrew/lib".into());
    }
    directories.push("/opt/onnxruntime/lib".into());
    directories
}

/// The places, the best first.
pub(super) fn places(surroundings: &Surroundings<'_>) -> Vec<Place> {
    let variable = |name| (surroundings.variable)(name).filter(|value| !value.is_empty());
    let entries = |name| variable(name).map(|value| std::env::split_paths(&value).collect::<Vec<_>>());
    // A relative one means another place in each working directory.
    let absolute = |path: &PathBuf| path.is_absolute();
    let mut places: Vec<Place> =
        variable("ORT_DYLIB_PATH").map(PathBuf::from).map(Place::Variable).into_iter().collect();
    let beside = surroundings.executable.as_deref().and_then(Path::parent).map(Path::to_owned);
    let directories = entries(LIBRARY_PATH).unwrap_or_default().into_iter().filter(absolute);
    places.extend(directories.chain(beside).chain(surroundings.system.iter().cloned()).map(Place::Directory));
    let environment = variable("VIRTUAL_ENV").map(PathBuf::from).filter(absolute);
    let packages = environment.iter().flat_map(|root| site_packages(root));
    let python_path = entries("PYTHONPATH").unwrap_or_default().into_iter().filter(absolute);
    places.extend(packages.chain(python_path).map(Place::Packages));
    places.push(Place::Python);
    places
}

/// The directories of packages of a virtual environment.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![root.join("Lib").join("site-packages")];
    }
    let names = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let of_python = names.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    of_python.map(|entry| entry.path().join("site-packages")).collect()
}

impl Place {
    /// The files there that have the library's name, the newest first; at least one.
    pub(super) fn files(&self, surroundings: &Surroundings<'_>) -> Result<Vec<PathBuf>, Absent> {
        match self {
            Self::Option(path) | Self::Variable(path) => Ok(named(path)?),
            Self::Directory(path) => Ok(within(path)?),
            Self::Packages(path) => in_package(&path.join("onnxruntime").join("capi")),
            Self::Python => {
                let directories = python::ask(surroundings.python, python::PATIENCE)?;
                in_package(directories.first().ok_or(Absent::NoPackage)?)
            }
        }
    }
}

/// A file, or what a directory holds: that of a release keeps it in `lib`.
fn named(path: &Path) -> Result<Vec<PathBuf>, Unusable> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    within(path).or_else(|nothing| within(&path.join("lib")).map_err(|_| nothing))
}

fn in_package(directory: &Path) -> Result<Vec<PathBuf>, Absent> {
    within(directory).map_err(|nothing| match nothing {
        Unusable::Missing => Absent::NoPackage,
        Unusable::EmptyDirectory => Absent::OldWheel,
        other => Absent::Unusable(other),
    })
}

fn within(directory: &Path) -> Result<Vec<PathBuf>, Unusable> {
    let entries = fs::read_dir(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Unreadable(error),
    })?;
    let mut found: Vec<(Vec<u32>, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((numbers(entry.file_name().to_str()?)?, entry.path()))).collect();
    if found.is_empty() {
        return Err(Unusable::EmptyDirectory);
    }
    found.sort_by(|one, other| other.cmp(one));
    // Usually one file and links to it.
    let mut files: Vec<PathBuf> = Vec::new();
    for (_, file) in found {
        let seen =
            |known: &PathBuf| matches!((fs::canonicalize(known), fs::canonicalize(&file)), (Ok(a), Ok(b)) if a == b);
        if !files.iter().any(seen) {
            files.push(file);
        }
    }
    Ok(files)
}

/// The version in a file's name, if it is the library's: `libonnxruntime.so.1.23.2` or `libonnxruntime.1.23.2.dylib`.
fn numbers(name: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix(std::env::consts::DLL_PREFIX)?.strip_prefix("onnxruntime")?;
    let suffix = std::env::consts::DLL_SUFFIX;
    let version = rest.strip_prefix(suffix).or_else(|| rest.strip_suffix(suffix))?;
    let mut parts = version.split('.');
    let ends_there = parts.next() == Some("");
    ends_there.then(|| parts.map(|number| number.parse().ok()).collect()).flatten()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(path) => path.display().fmt(f),
            Self::Variable(path) => write!(f, "ORT_DYLIB_PATH={}", path.display()),
            Self::Directory(path) | Self::Packages(path) => path.display().fmt(f),
            Self::Python => f.write_str(python::PYTHON),
        }
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
