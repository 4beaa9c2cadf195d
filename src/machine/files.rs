//! Opens files safely: never through a symbolic link, and only regular files.
//!
//! A directory that others can write may hold a link with the name of one of our files. Writing through it would change
//! the file that it points to. So each file of a data directory is opened here, and each directory in it is checked
//! here before it is used. A directory for which [`exposure`] returns `None` cannot be changed by others afterwards.
//!
//! On systems other than Unix these are plain opens: links there need rights that other users do not have.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// The way in which other users can change a directory or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Another user owns it.
    Owner {
        /// The id of the owner.
        owner: u32,
        /// The id of this process's user.
        user: u32,
    },
    /// Its mode lets the group or everybody write.
    Writable {
        /// The mode, in the form that `chmod` takes.
        mode: u32,
    },
}

/// Opens a regular file with `options`. A symbolic link, and anything else that is not a regular file, is an error of
/// the kind [`io::ErrorKind::InvalidInput`].
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    // Non-blocking: opening a pipe would wait for its other end. The flag has no effect on files.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, no_follow());
    let file = options.open(path).map_err(|error| if is_link(&error) { not_a_file() } else { error })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
}

/// Makes a file to read and write, for its user alone. A file or a link of that name is an error.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a directory and the missing ones above it, for their user alone.
pub fn make_private_directories(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// The directory that holds the last name of a path: the present one if the path is only a name.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a directory, so that a rename in it survives a power cut. Windows cannot do this, and does not need it.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file, found a symbolic link or something else")
}

/// Opens a regular file to read it; see [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Returns true for the error that the system reports if the last name of a path is a link and links are not followed.
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

/// Returns true if `path` itself is a directory; false for a link to one, and if nothing is there.
pub fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Returns how users other than this one can change the content of a directory; `None`: they cannot. The administrator
/// always can.
pub fn exposure(directory: &Path) -> io::Result<Option<Exposure>> {
    std::fs::metadata(directory).map(|found| exposure_of_found(&found))
}

/// Returns how users other than this one can write a file; `None`: they cannot. The administrator always can.
pub fn exposure_of_file(file: &File) -> io::Result<Option<Exposure>> {
    file.metadata().map(|found| exposure_of_found(&found))
}

#[cfg(unix)]
fn exposure_of_found(found: &Metadata) -> Option<Exposure> {
    use std::os::unix::fs::MetadataExt;
    exposure_of(found.uid(), found.mode() & 0o7777, rustix::process::geteuid().as_raw())
}

/// Not known on this system.
#[cfg(not(unix))]
fn exposure_of_found(_: &Metadata) -> Option<Exposure> {
    None
}

#[cfg(unix)]
fn exposure_of(owner: u32, mode: u32, user: u32) -> Option<Exposure> {
    /// Writable by the group or by everybody. A sticky bit keeps others from removing files, but not from creating
    /// them.
    const OTHERS_WRITE: u32 = 0o022;
    if owner != user {
        return Some(Exposure::Owner { owner, user });
    }
    (mode & OTHERS_WRITE != 0).then_some(Exposure::Writable { mode })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_an_error_and_its_target_is_left_alone() {
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
    fn a_directory_or_a_pipe_is_refused_without_waiting() {
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
    fn a_directory_that_others_can_write_is_exposed() {
        assert_eq!(exposure_of(7, 0o700, 7), None);
        assert_eq!(exposure_of(7, 0o755, 7), None);
        assert_eq!(exposure_of(8, 0o700, 7), Some(Exposure::Owner { owner: 8, user: 7 }));
        for mode in [0o770, 0o702, 0o1777] {
            assert_eq!(exposure_of(7, mode, 7), Some(Exposure::Writable { mode }));
        }
        assert_eq!(exposure(tempfile::tempdir().unwrap().path()).unwrap(), None);
    }
}
