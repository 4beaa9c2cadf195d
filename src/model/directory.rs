//! The first source: a directory given by the user.

use std::path::{Path, PathBuf};

use super::error::Reason;
use super::layout::Kind;

/// Finds a directory with a whole model.
pub(super) fn find(source: &str, kind: &Kind) -> Result<PathBuf, Reason> {
    let directory = Path::new(source);
    if !directory.is_dir() {
        return Err(Reason::NoDirectory);
    }
    kind.check_complete(directory).map_err(Reason::Incomplete)?;
    Ok(directory.to_owned())
}

/// Returns whether a name can only be a path. The hub is not asked for such a name.
pub(super) fn is_path(source: &str) -> bool {
    Path::new(source).is_absolute()
        || source.starts_with(['.', '~'])
        || source.ends_with('/')
        || source.contains('\\')
        || source.matches('/').count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_id_is_not_taken_for_a_path_and_a_path_is() {
        for id in ["gpt2", "sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5"] {
            assert!(!is_path(id), "{id}");
        }
        for path in ["/models/mine", "./mine", "../mine", "~/mine", "a/b/c", "mine/", ".", r"C:\models\mine"] {
            assert!(is_path(path), "{path}");
        }
    }
}
