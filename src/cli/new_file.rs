//! The writer of files that commands create by name.
//!
//! A regular file appears as a whole or not at all. It is written under a temporary name beside its destination,
//! synced, and renamed: a reader sees the old file or the complete new one, even after a power cut. A symbolic link
//! is followed, and a replaced file keeps its mode and, if the system allows it, its owner. `-` is standard output.
//! Anything else (a pipe, a device) is written into directly. Unfinished files are removed, also after a signal.

mod destination;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, ensure};

use self::destination::Destination;
use super::interrupt;
use super::unfinished::UnfinishedFile;
use crate::machine::files;

/// A file that is being written.
#[derive(Debug)]
pub struct NewFile {
    to: BufWriter<Target>,
    /// Name for messages.
    shown: String,
    /// `None`: the file is written into directly.
    unfinished: Option<UnfinishedFile>,
}

#[derive(Debug)]
enum Target {
    File(File),
    Stdout(io::Stdout),
}

impl NewFile {
    /// Begins the file that will be at `path`.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        Self::begin(path, false)
    }

    /// Begins the file that will be at `path`. If it is new, it is for its user alone.
    pub fn create_private(path: &Path) -> anyhow::Result<Self> {
        Self::begin(path, true)
    }

    fn begin(path: &Path, is_private: bool) -> anyhow::Result<Self> {
        let mut shown = path.display().to_string();
        let (to, unfinished) = match Destination::of(path)? {
            Destination::Stdout => {
                "standard output".clone_into(&mut shown);
                (Target::Stdout(io::stdout()), None)
            }
            Destination::Stream(path) => {
                let opened = File::options().write(true).truncate(true).open(&path);
                (Target::File(opened.with_context(|| format!("cannot write into {shown}"))?), None)
            }
            Destination::File { path: destination, replaced } => {
                interrupt::end();
                let (file, unfinished) = UnfinishedFile::begin(destination, is_private)?;
                if let Some(replaced) = replaced {
                    let kept = replaced.keep(&file);
                    kept.with_context(|| format!("cannot give {} the mode of {shown}", unfinished.partial.display()))?;
                }
                (Target::File(file), Some(unfinished))
            }
        };
        Ok(Self { to: BufWriter::with_capacity(1 << 20, to), shown, unfinished })
    }

    /// Refuses a path with an existing regular file.
    pub fn refuse_to_replace(path: &Path) -> anyhow::Result<()> {
        let is_there = matches!(Destination::of(path)?, Destination::File { replaced: Some(_), .. });
        ensure!(!is_there, "{} exists already: choose another name, or remove it", path.display());
        Ok(())
    }

    /// True for a pipe or a device: its reader gets the bytes at once, and they cannot be changed later.
    pub fn is_stream(&self) -> bool {
        self.unfinished.is_none()
    }

    /// True if the file is the standard output of this process, which then must not carry anything else.
    pub fn is_stdout(&self) -> bool {
        matches!(self.to.get_ref(), Target::Stdout(_))
    }

    /// Syncs the file and renames it to its final name. An existing file is replaced.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let shown = &self.shown;
        self.to.flush().with_context(|| format!("cannot write {shown}"))?;
        let (Some(unfinished), Target::File(file)) = (&mut self.unfinished, self.to.get_ref()) else { return Ok(()) };
        file.sync_all().with_context(|| format!("cannot write {shown}"))?;
        unfinished.rename().with_context(|| format!("cannot finish {shown}"))?;
        let directory = files::directory_of(&unfinished.destination);
        files::sync_directory(directory).with_context(|| format!("cannot sync the directory of {shown}"))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.to.seek(to)
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        };
        written.map_err(cut_off)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        };
        flushed.map_err(cut_off)
    }
}

impl Seek for Target {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Stdout(_) => Err(io::Error::from(ErrorKind::NotSeekable)),
        }
    }
}

/// Turns a broken pipe into a failure: a file that was named is not complete if its reader has gone. (Output that
/// nobody named may end quietly.)
fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::other("its reader ended before all of it was written"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    fn write(destination: &Path, content: &[u8]) {
        let mut file = NewFile::create(destination).unwrap();
        file.write_all(content).unwrap();
        file.finish().unwrap();
    }

    #[test]
    fn a_file_is_replaced_when_the_new_one_is_whole_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("f.jsonl");
        fs::write(&destination, "old").unwrap();
        let mut file = NewFile::create(&destination).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&destination).unwrap(), "old");
        let mut file = NewFile::create(&destination).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&destination).unwrap(), "old");
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&destination).unwrap(), "new");
        assert_eq!(names(directory.path()), ["f.jsonl"], "nothing else is left");
    }

    #[test]
    fn two_writers_of_one_file_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("f");
        let [mut first, mut second] = [(); 2].map(|()| NewFile::create(&destination).unwrap());
        first.write_all(b"first").unwrap();
        second.write_all(b"second one").unwrap();
        first.finish().unwrap();
        assert_eq!(fs::read_to_string(&destination).unwrap(), "first");
        second.finish().unwrap();
        assert_eq!(fs::read_to_string(&destination).unwrap(), "second one");
        assert_eq!(names(directory.path()), ["f"]);
    }

    #[test]
    fn a_directory_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let error = NewFile::create(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("is a directory: name a file in it"), "{error}");
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use super::*;

        #[test]
        fn links_are_followed_also_to_a_file_that_is_not_there_yet() {
            let directory = tempfile::tempdir().unwrap();
            let (target, link, link_to_link) =
                (directory.path().join("target"), directory.path().join("link"), directory.path().join("other"));
            symlink("target", &link).unwrap();
            symlink(&link, &link_to_link).unwrap();
            for content in [b"new", b"old"] {
                write(&link_to_link, content);
                assert_eq!(fs::read(&target).unwrap(), content);
            }
            assert!(link.is_symlink() && link_to_link.is_symlink());
            assert_eq!(names(directory.path()), ["link", "other", "target"]);
        }

        #[test]
        fn links_in_a_circle_are_refused() {
            let directory = tempfile::tempdir().unwrap();
            let link = directory.path().join("link");
            symlink(&link, &link).unwrap();
            assert!(NewFile::create(&link).is_err());
        }

        #[test]
        fn a_file_that_is_replaced_keeps_its_mode() {
            let directory = tempfile::tempdir().unwrap();
            let destination = directory.path().join("f");
            for mode in [0o600, 0o664, 0o640] {
                fs::write(&destination, "old").unwrap();
                fs::set_permissions(&destination, fs::Permissions::from_mode(mode)).unwrap();
                write(&destination, b"new");
                assert_eq!(fs::metadata(&destination).unwrap().permissions().mode() & 0o7777, mode, "{mode:o}");
            }
        }

        #[test]
        fn a_pipe_is_written_into_and_stays_one() {
            let directory = tempfile::tempdir().unwrap();
            let destination = directory.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&destination).status();
            if !made.is_ok_and(|made| made.success()) {
                return;
            }
            let reading = std::thread::spawn({
                let destination = destination.clone();
                move || fs::read_to_string(destination).unwrap()
            });
            write(&destination, b"through");
            assert_eq!(reading.join().unwrap(), "through");
            use std::os::unix::fs::FileTypeExt;
            assert!(fs::metadata(&destination).unwrap().file_type().is_fifo());
            assert_eq!(names(directory.path()), ["pipe"]);
        }

        #[test]
        fn a_device_is_written_into() {
            let mut file = NewFile::create(Path::new("/dev/null")).unwrap();
            assert!(file.is_stream());
            file.write_all(b"gone").unwrap();
            file.finish().unwrap();
        }
    }
}
