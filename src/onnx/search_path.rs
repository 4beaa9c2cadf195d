//! The search path for ONNX Runtime's library: the locations that may hold it, in order.
//!
//! Variables come first, then the directories of the system's loader, then Python's wheel, which is how most people
//! install it. Directories are not searched recursively, and the working directory is never searched.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::library::{Unusable, shared_name};
use super::python;

/// Everything that the search depends on. Tests give their own.
pub(super) struct Surroundings<'a> {
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The path of this program.
    pub executable: Option<PathBuf>,
    /// The directories in which the system's packages put libraries.
    pub system: Vec<PathBuf>,
    /// The Python interpreter to ask.
    pub python: &'a str,
}

/// A location that may hold the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// The path in the options.
    Option(PathBuf),
    /// The path in `ORT_DYLIB_PATH`.
    Variable(PathBuf),
    /// A directory of libraries.
    Directory(PathBuf),
    /// A directory of Python's packages.
    Packages(PathBuf),
    /// The directory that python3 reports for the package.
    Python,
}

/// The reason why a location gives no library.
#[derive(Debug, thiserror::Error)]
pub enum NoLibrary {
    /// The path or the file cannot be used.
    #[error("{0}")]
    Unusable(#[from] Unusable),
    /// The wheel is too old to contain the library.
    #[error("the package onnxruntime has no {}; install version 1.19 or newer", shared_name())]
    OldWheel,
    /// The package is not installed.
    #[error("the package onnxruntime is not installed")]
    NoPackage,
    /// Python does not answer.
    #[error("{0}")]
    NoAnswer(#[from] python::NoAnswer),
}

const LIBRARY_PATH: &str = if cfg!(target_vendor = "apple") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

impl Surroundings<'static> {
    /// Returns the surroundings of this process.
    pub(super) fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var_os(name),
            executable: std::env::current_exe().ok(),
            system: system_directories(),
            python: python::PYTHON,
        }
    }
}

/// Lists the directories of the system's libraries.
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

/// Lists the locations, the preferred ones first.
pub(super) fn search_path(surroundings: &Surroundings<'_>) -> Vec<Location> {
    let variable = |name| (surroundings.variable)(name).filter(|value| !value.is_empty());
    let entries = |name| variable(name).map(|value| std::env::split_paths(&value).collect::<Vec<_>>());
    // A relative path means another directory in each working directory.
    let absolute = |path: &PathBuf| path.is_absolute();
    let mut locations: Vec<Location> =
        variable("ORT_DYLIB_PATH").map(PathBuf::from).map(Location::Variable).into_iter().collect();
    let beside = surroundings.executable.as_deref().and_then(Path::parent).map(Path::to_owned);
    let directories = entries(LIBRARY_PATH).unwrap_or_default().into_iter().filter(absolute);
    locations.extend(directories.chain(beside).chain(surroundings.system.iter().cloned()).map(Location::Directory));
    let environment = variable("VIRTUAL_ENV").map(PathBuf::from).filter(absolute);
    let packages = environment.iter().flat_map(|root| site_packages(root));
    let python_path = entries("PYTHONPATH").unwrap_or_default().into_iter().filter(absolute);
    locations.extend(packages.chain(python_path).map(Location::Packages));
    locations.push(Location::Python);
    locations
}

/// Lists the package directories of a virtual environment.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![root.join("Lib").join("site-packages")];
    }
    let names = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let of_python = names.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    of_python.map(|entry| entry.path().join("site-packages")).collect()
}

impl Location {
    /// Lists the files with the library's name, the newest first. There is at least one.
    pub(super) fn files(&self, surroundings: &Surroundings<'_>) -> Result<Vec<PathBuf>, NoLibrary> {
        match self {
            Self::Option(path) | Self::Variable(path) => Ok(named(path)?),
            Self::Directory(path) => Ok(within(path)?),
            Self::Packages(path) => in_package(&path.join("onnxruntime").join("capi")),
            Self::Python => {
                let directories = python::ask(surroundings.python, python::PATIENCE)?;
                in_package(directories.first().ok_or(NoLibrary::NoPackage)?)
            }
        }
    }
}

/// Lists a file itself, or the libraries of a directory. The directory of a release has them in `lib`.
fn named(path: &Path) -> Result<Vec<PathBuf>, Unusable> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    within(path).or_else(|nothing| within(&path.join("lib")).map_err(|_| nothing))
}

/// Lists the libraries in the binary directory of the package `onnxruntime`.
fn in_package(directory: &Path) -> Result<Vec<PathBuf>, NoLibrary> {
    within(directory).map_err(|nothing| match nothing {
        Unusable::Missing => NoLibrary::NoPackage,
        Unusable::EmptyDirectory => NoLibrary::OldWheel,
        other => NoLibrary::Unusable(other),
    })
}

/// Lists the libraries in a directory, without duplicates.
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
    // Usually there is one file with links to it.
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

/// Reads the version in a file's name, if the name is the library's: `libonnxruntime.so.1.23.2` or
/// `libonnxruntime.1.23.2.dylib`.
fn numbers(name: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix(std::env::consts::DLL_PREFIX)?.strip_prefix("onnxruntime")?;
    let suffix = std::env::consts::DLL_SUFFIX;
    let version = rest.strip_prefix(suffix).or_else(|| rest.strip_suffix(suffix))?;
    let mut parts = version.split('.');
    let ends_there = parts.next() == Some("");
    ends_there.then(|| parts.map(|number| number.parse().ok()).collect()).flatten()
}

impl fmt::Display for Location {
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
mod tests;
