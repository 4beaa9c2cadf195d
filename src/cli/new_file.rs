//! A file that is there whole or not at all.
//!
//! It is written under a name of its own beside its place, synced, and renamed: whoever looks, also after a power cut,
//! sees what was there before or all of the new one. What is not finished is removed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A file on its way.
#[derive(Debug)]
pub struct NewFile {
    place: PathBuf,
    partial: PathBuf,
    to: BufWriter<File>,
    finished: bool,
}

impl NewFile {
    /// Begins the file that will be at `place`.
    pub fn create(place: &Path) -> anyhow::Result<Self> {
        let partial = place.with_added_extension("partial");
        let to = File::create(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        Ok(Self { place: place.to_owned(), partial, to: BufWriter::with_capacity(1 << 20, to), finished: false })
    }

    /// Syncs the file and gives it its name; one that was there is replaced.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let synced = self.to.flush().and_then(|()| self.to.get_ref().sync_all());
        synced.with_context(|| format!("cannot write {}", self.partial.display()))?;
        let shown = self.place.display();
        fs::rename(&self.partial, &self.place).with_context(|| format!("cannot finish {shown}"))?;
        self.finished = true;
        sync_directory(&self.place).with_context(|| format!("cannot sync the directory of {shown}"))
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

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody takes it for the whole file, by its name.
            let _ = fs::remove_file(&self.partial);
        }
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
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }
}
