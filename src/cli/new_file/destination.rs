//! The destination of output: what a path names.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Most links that are followed, as in the system.
const MAX_LINKS: usize = 40;

/// The destination of output.
#[derive(Debug)]
pub(super) enum Destination {
    /// Standard output.
    Stdout,
    /// A pipe, a device, or an open file of this process.
    Stream(PathBuf),
    /// A regular file, which may not exist yet. Links are followed.
    File {
        /// The path after following links.
        path: PathBuf,
        /// The existing file.
        replaced: Option<Replaced>,
    },
}

/// The file that a new one replaces: its mode and owner.
#[derive(Debug)]
pub(super) struct Replaced(Metadata);

impl Destination {
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name)) {
            return Ok(Self::Stdout);
        }
        // For example the shell's `>(gzip > f)`. It may lead to a regular file that the shell has open.
        if ["/dev/fd", "/dev/stderr", "/proc"].iter().any(|open| path.starts_with(open)) {
            return Ok(Self::Stream(path.to_owned()));
        }
        let path = behind_links(path).with_context(|| format!("cannot write {shown}"))?;
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::File { path, replaced: None }),
            Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
        };
        if metadata.is_dir() {
            bail!("{shown} is a directory: name a file in it");
        }
        if !metadata.is_file() {
            return Ok(Self::Stream(path));
        }
        // A write-protected file must not be replaced.
        File::options().write(true).open(&path).with_context(|| format!("cannot write {shown}"))?;
        Ok(Self::File { path, replaced: Some(Replaced(metadata)) })
    }
}

/// Follows links to the final path, which may not exist.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { return Ok(path) };
        // A relative link starts from its own directory; an absolute one replaces the path.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(io::Error::other("its links lead in a circle"))
}

impl Replaced {
    /// Gives `file` the mode of the replaced file and, if the system allows it, its owner and group.
    #[cfg(unix)]
    pub(super) fn keep(&self, file: &File) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, fchown};

        let (own, old) = (file.metadata()?, &self.0);
        if own.gid() != old.gid() {
            let _ = fchown(file, None, Some(old.gid()));
        }
        if own.uid() != old.uid() {
            let _ = fchown(file, Some(old.uid()), None);
        }
        // Last, because a change of owner clears bits of the mode.
        file.set_permissions(old.permissions())
    }

    /// Gives `file` the permissions of the replaced file.
    #[cfg(not(unix))]
    pub(super) fn keep(&self, file: &File) -> io::Result<()> {
        file.set_permissions(self.0.permissions())
    }
}
