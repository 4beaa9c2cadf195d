//! Files that are opened as themselves: never through a symbolic link, and never something else than a file.
//!
//! A directory that others can write may hold a link with the name of one of our files; what is written through it lands in
//! whatever it points to. So each file of a data directory is opened here, and each directory in it is looked at here
//! before it is used. A directory of which [`shared`] finds nothing cannot be changed by others afterwards.
//!
//! On systems other than Unix these are plain opens: their links need rights that others do not have.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Why a directory is not this user's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Its owner is another user.
    Owner {
        /// The owner's number.
        owner: u32,
        /// This process's user.
        user: u32,
    },
    /// Its mode lets the group or everybody write.
    Writable {
        /// The mode, as `chmod` takes it.
        mode: u32,
    },
}

/// Opens a regular file with `options`. A symbolic link, and whatever else is no file, is an error of the kind
/// [`io::ErrorKind::InvalidInput`].
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    // Non-blocking: opening a pipe would wait for its other end. It has no effect on files.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, no_follow());
    let file = options.open(path).map_err(|error| if is_link(&error) { no_file() } else { error })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is a link, or no regular file")
}

/// Opens a regular file to read it; see [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// The system's answer where the last name of a path is a link, and links are not followed.
fn is_link(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error() == Some(ELOOP)
}

#[cfg(unix)]
const ELOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
#[cfg(not(unix))]
const ELOOP: i32 = 0;

#[cfg(unix)]
fn no_follow() -> i32 {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    flags.bits() as i32
}

/// Whether `path` itself is a directory: false for a link to one, and where there is nothing.
pub fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Why others than this user can change what is in a directory; `None`: they cannot. The administrator always can.
#[cfg(unix)]
pub fn shared(directory: &Path) -> io::Result<Option<Shared>> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(directory)?;
    Ok(shared_by(found.uid(), found.mode() & 0o7777, rustix::process::geteuid().as_raw()))
}

/// Not known here.
#[cfg(not(unix))]
pub fn shared(_: &Path) -> io::Result<Option<Shared>> {
    Ok(None)
}

#[cfg(unix)]
fn shared_by(owner: u32, mode: u32, user: u32) -> Option<Shared> {
    /// Writable by the group or by everybody. A sticky bit keeps them from removing files, and not from planting some.
    const OTHERS_WRITE: u32 = 0o022;
    if owner != user {
        return Some(Shared::Owner { owner, user });
    }
    (mode & OTHERS_WRITE != 0).then_some(Shared::Writable { mode })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_an_error_and_what_it_points_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        let error = open(&link, OpenOptions::new().write(true).truncate(true)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(open_to_read(&link).is_err() && open_to_read(&target).is_ok());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        assert!(open_to_read(directory.path()).is_err());
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(open_to_read(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_link_to_a_directory_is_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        symlink(directory.path(), &link).unwrap();
        assert!(is_directory(directory.path()) && !is_directory(&link));
        assert!(!is_directory(&directory.path().join("absent")));
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_ours_alone() {
        assert_eq!(shared_by(7, 0o700, 7), None);
        assert_eq!(shared_by(7, 0o755, 7), None);
        assert_eq!(shared_by(8, 0o700, 7), Some(Shared::Owner { owner: 8, user: 7 }));
        for mode in [0o770, 0o702, 0o1777] {
            assert_eq!(shared_by(7, mode, 7), Some(Shared::Writable { mode }));
        }
        assert_eq!(shared(tempfile::tempdir().unwrap().path()).unwrap(), None);
    }
}
