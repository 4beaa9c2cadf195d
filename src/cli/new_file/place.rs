//! What a path that is to be written names.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// As many links as the system follows.
const MAX_LINKS: usize = 40;

/// Where output goes.
#[derive(Debug)]
pub(super) enum Place {
    /// Standard output.
    Stdout,
    /// A pipe, a device, or an open file of this process.
    Stream(PathBuf),
    /// A regular file, or none yet; links are followed.
    File {
        /// Its own name.
        path: PathBuf,
        /// The file that is there.
        replaced: Option<Replaced>,
    },
}

/// What a new file takes over from the one it replaces.
#[derive(Debug)]
pub(super) struct Replaced(Metadata);

impl Place {
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name)) {
            return Ok(Self::Stdout);
        }
        // `>(gzip > f)` is such a name. Behind it may be a regular file, which the shell has open.
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
        // A file that is protected against writing is not replaced by another.
        File::options().write(true).open(&path).with_context(|| format!("cannot write {shown}"))?;
        Ok(Self::File { path, replaced: Some(Replaced(metadata)) })
    }
}

/// The file that a name leads to, whether or not it exists.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { return Ok(path) };
        // A relative link starts from the directory that it is in; an absolute one replaces the path.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(io::Error::other("its links lead in a circle"))
}

impl Replaced {
    /// Gives `file` the mode of the file it replaces, and its owner and group where the system allows that.
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
        // Last: a change of owner takes bits of the mode away.
        file.set_permissions(old.permissions())
    }

    /// Gives `file` the permissions of the file it replaces.
    #[cfg(not(unix))]
    pub(super) fn keep(&self, file: &File) -> io::Result<()> {
        file.set_permissions(self.0.permissions())
    }
}
