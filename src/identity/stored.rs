//! The keys file on disk.
//!
//! Who can write it can give rights to anybody, so it must belong to this user or to root, and nobody else may write
//! it. It has no secrets, but the names of tenants, so it is not readable by everybody. A group may read it: a service
//! that runs as its own user reads a file of root in this way. Links are followed, because secrets that orchestrators
//! mount are links; the file at their end is the one that is checked.

use std::io::{self, Read};
use std::path::Path;

use super::entry::KeyFile;
use super::text::Mistakes;
use crate::machine::files;

/// The most bytes of a keys file: 400 for each of the most entries.
const MAX_BYTES: u64 = 4 << 20;

/// The reason why a keys file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// The system cannot read it.
    #[error("the keys file {path} cannot be read: {error}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// Others can read or write it.
    #[error(
        "the keys file {path} has the mode {mode:03o}: everybody can read it, or others can write it; \
         expected 600, or 640 for a service's group: `chmod 600 {path}`"
    )]
    Mode {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("the keys file {path} belongs to the user {owner}: expected root, or the user of this process, {user}")]
    Owner {
        /// The file.
        path: String,
        /// The id of its owner.
        owner: u32,
        /// The id of this process's user.
        user: u32,
    },
    /// It is too large.
    #[error("the keys file {path} exceeds the limit of {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Its text has mistakes.
    #[error("the keys file {path} has mistakes: {mistakes}")]
    Wrong {
        /// The file.
        path: String,
        /// The mistakes.
        mistakes: Mistakes,
    },
}

/// Reads and checks a keys file. Blocks.
pub fn read(path: &Path) -> Result<KeyFile, NotRead> {
    parse(path, &read_text(path)?)
}

/// Parses the text of the file at `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<KeyFile, NotRead> {
    KeyFile::parse(text).map_err(|mistakes| NotRead::Wrong { path: path.display().to_string(), mistakes })
}

/// Reads the text of a keys file, and checks who else can.
pub fn read_text(path: &Path) -> Result<String, NotRead> {
    let shown = || path.display().to_string();
    let failed = |error| NotRead::Io { path: shown(), error };
    let target = path.canonicalize().map_err(failed)?;
    let file = files::open_to_read(&target).map_err(failed)?;
    check(&file.metadata().map_err(failed)?, shown)?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES { Err(NotRead::TooLarge { path: shown() }) } else { Ok(text) }
}

#[cfg(unix)]
fn check(found: &std::fs::Metadata, path: impl Fn() -> String) -> Result<(), NotRead> {
    use std::os::unix::fs::MetadataExt;
    /// Everything for everybody, and writing for the group.
    const FORBIDDEN: u32 = 0o027;
    let (owner, user, mode) = (found.uid(), rustix::process::geteuid().as_raw(), found.mode() & 0o7777);
    if owner != user && owner != 0 {
        return Err(NotRead::Owner { path: path(), owner, user });
    }
    if mode & FORBIDDEN != 0 { Err(NotRead::Mode { path: path(), mode }) } else { Ok(()) }
}

/// Not known on this system.
#[cfg(not(unix))]
fn check(_: &std::fs::Metadata, _: impl Fn() -> String) -> Result<(), NotRead> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_others_can_read_or_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        fs::write(&path, "version = 1").unwrap();
        for (mode, is_good) in
            [(0o600, true), (0o400, true), (0o640, true), (0o440, true), (0o644, false), (0o660, false), (0o602, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), is_good, "{mode:o}");
        }
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("has the mode 602") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_link_is_followed_and_its_target_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("keys.toml"), directory.path().join("link"));
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Err(NotRead::Io { .. })));
        fs::write(&path, "version = 1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(read(&link), Err(NotRead::Mode { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&link).is_ok());
    }

    #[test]
    fn a_file_that_is_too_large_or_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        fs::write(&path, "#".repeat(MAX_BYTES as usize + 1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read(&path), Err(NotRead::TooLarge { .. })));
        assert!(matches!(read(directory.path()), Err(NotRead::Io { .. })));
    }
}
