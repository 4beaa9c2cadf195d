//! The one place where commands write files that were asked for by name.
//!
//! A regular file is there whole or not at all. It is written under a name of its own beside its place, synced, and
//! renamed: a reader sees the old file or all of the new one, after a power cut too. A symbolic link is followed, and
//! a file that is replaced keeps its mode and, where the system allows it, its owner. `-` is standard output. Anything
//! else (a pipe, a device) is written into as it is. What is not finished is removed, by a signal too.

mod place;

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};

use self::place::Place;
use super::interrupt;

/// Files that a signal must remove.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file on its way.
#[derive(Debug)]
pub struct NewFile {
    to: BufWriter<Target>,
    /// Its name in messages.
    shown: String,
    /// `None`: it is written into as it is.
    renaming: Option<Renaming>,
}

/// From the name that a file is written under to the one that was asked for.
#[derive(Debug)]
struct Renaming {
    place: PathBuf,
    partial: PathBuf,
    finished: bool,
}

#[derive(Debug)]
enum Target {
    File(File),
    Stdout(io::Stdout),
}

impl NewFile {
    /// Begins the file that will be at `path`.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let mut shown = path.display().to_string();
        let (to, renaming) = match Place::of(path)? {
            Place::Stdout => {
                "standard output".clone_into(&mut shown);
                (Target::Stdout(io::stdout()), None)
            }
            Place::Stream(path) => {
                let opened = File::options().write(true).truncate(true).open(&path);
                (Target::File(opened.with_context(|| format!("cannot write into {shown}"))?), None)
            }
            Place::File { path: place, replaced } => {
                interrupt::end();
                let (file, partial) = begin(&place)?;
                // From here on it is removed unless it is finished.
                let renaming = Renaming { place, partial, finished: false };
                if let Some(replaced) = replaced {
                    let kept = replaced.keep(&file);
                    kept.with_context(|| format!("cannot give {} the mode of {shown}", renaming.partial.display()))?;
                }
                (Target::File(file), Some(renaming))
            }
        };
        Ok(Self { to: BufWriter::with_capacity(1 << 20, to), shown, renaming })
    }

    /// Refuses a path where a regular file is already.
    pub fn refuse_to_replace(path: &Path) -> anyhow::Result<()> {
        let is_there = matches!(Place::of(path)?, Place::File { replaced: Some(_), .. });
        ensure!(!is_there, "{} exists: choose another name, or remove it", path.display());
        Ok(())
    }

    /// A pipe or a device: what is written reaches a reader at once and cannot be changed any more.
    pub fn is_stream(&self) -> bool {
        self.renaming.is_none()
    }

    /// It is the standard output of this process, which then has no room for anything else.
    pub fn is_stdout(&self) -> bool {
        matches!(self.to.get_ref(), Target::Stdout(_))
    }

    /// Syncs the file and gives it its name; one that was there is replaced.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let shown = &self.shown;
        self.to.flush().with_context(|| format!("cannot write {shown}"))?;
        let (Some(renaming), Target::File(file)) = (&mut self.renaming, self.to.get_ref()) else { return Ok(()) };
        file.sync_all().with_context(|| format!("cannot write {shown}"))?;
        renaming.rename().with_context(|| format!("cannot finish {shown}"))?;
        sync_directory(&renaming.place).with_context(|| format!("cannot sync the directory of {shown}"))
    }
}

/// Removes all files that were begun and are not finished. For the end of the process.
pub fn remove_unfinished() {
    // Not unlocked again: nothing is begun or renamed any more.
    let unfinished = std::mem::ManuallyDrop::new(UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner));
    for partial in unfinished.iter() {
        let _ = fs::remove_file(partial);
    }
}

/// Makes a new file beside `place`, readable by its owner alone if it replaces one (its mode is given to it later).
fn begin(place: &Path) -> anyhow::Result<(File, PathBuf)> {
    let mut options = File::options();
    // New: two commands that write the same file do not write into one another, and no link is followed.
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    if place.exists() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    for n in 0.. {
        let suffix = if n == 0 { String::new() } else { format!("-{n}") };
        let partial = place.with_added_extension(format!("{}{suffix}.partial", std::process::id()));
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        match options.open(&partial) {
            Ok(file) => {
                unfinished.push(partial.clone());
                return Ok((file, partial));
            }
            // Of a process with our number that was killed, or a second file of ours.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && n < 100 => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot make {} (a file is written beside its place first)", partial.display())
                });
            }
        }
    }
    unreachable!("the last of the hundred tries returned")
}

impl Renaming {
    fn rename(&mut self) -> io::Result<()> {
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(&self.partial, &self.place)?;
        unfinished.retain(|partial| *partial != self.partial);
        self.finished = true;
        Ok(())
    }
}

impl Drop for Renaming {
    fn drop(&mut self) {
        if !self.finished {
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody takes it for the whole file, by its name.
            let _ = fs::remove_file(&self.partial);
            unfinished.retain(|partial| *partial != self.partial);
        }
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

/// A file that was asked for by name is not done when its reader has gone. Output that nobody named may end quietly.
fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::other("its reader ended before all of it was written"),
        _ => error,
    }
}

/// So that the name is there after a power cut too.
fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    fn write(place: &Path, content: &[u8]) {
        let mut file = NewFile::create(place).unwrap();
        file.write_all(content).unwrap();
        file.finish().unwrap();
    }

    #[test]
    fn a_file_is_replaced_when_the_new_one_is_whole_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("f.jsonl");
        fs::write(&place, "old").unwrap();
        let mut file = NewFile::create(&place).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        let mut file = NewFile::create(&place).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(names(directory.path()), ["f.jsonl"], "nothing else is left");
    }

    #[test]
    fn two_writers_of_one_file_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("f");
        let [mut first, mut second] = [(); 2].map(|()| NewFile::create(&place).unwrap());
        first.write_all(b"first").unwrap();
        second.write_all(b"second one").unwrap();
        first.finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "first");
        second.finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "second one");
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
            let place = directory.path().join("f");
            for mode in [0o600, 0o664, 0o640] {
                fs::write(&place, "old").unwrap();
                fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
                write(&place, b"new");
                assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o7777, mode, "{mode:o}");
            }
        }

        #[test]
        fn a_pipe_is_written_into_and_stays_one() {
            let directory = tempfile::tempdir().unwrap();
            let place = directory.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&place).status();
            if !made.is_ok_and(|made| made.success()) {
                return;
            }
            let reading = std::thread::spawn({
                let place = place.clone();
                move || fs::read_to_string(place).unwrap()
            });
            write(&place, b"through");
            assert_eq!(reading.join().unwrap(), "through");
            use std::os::unix::fs::FileTypeExt;
            assert!(fs::metadata(&place).unwrap().file_type().is_fifo());
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
