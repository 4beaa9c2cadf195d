//! The directory where commands keep their progress for the next attempt.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The directory that `--state-dir` names, or the user's own for state of this `kind`.
pub fn of(given: Option<&Path>, kind: &str) -> anyhow::Result<PathBuf> {
    let platform = || Some(dirs::state_dir().or_else(dirs::cache_dir)?.join("cognate").join(kind));
    given.map(Path::to_owned).or_else(platform).context("this user has no directory for state: set --state-dir")
}
