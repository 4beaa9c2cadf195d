//! Bookmarks: the progress of a load, stored on disk for the next attempt.
//!
//! A bookmark says that every record in the first N bytes of a file was committed or refused. It contains the
//! digest of these bytes. So a file that has grown is continued, and one that was edited is loaded again from its
//! beginning.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::new_file::NewFile;
use crate::wire::Document;

/// Committed documents that are remembered, to look for them in the collection: several, because one may have been
/// deleted.
const MARKS: usize = 8;
/// Interval of writing during a load. Records since the last write are loaded again.
const PERIOD: Duration = Duration::from_secs(1);

/// Id and text digest of a committed document, by which it is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) id: String,
    text_sha256: String,
}

impl Mark {
    pub(super) fn of(document: &Document) -> Self {
        Self { id: document.id.clone(), text_sha256: hex(Sha256::digest(&document.text)) }
    }
}

/// The position up to which every record is committed or refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Bytes from the start of the file.
    pub(super) bytes: u64,
    /// The last committed documents.
    pub(super) marks: VecDeque<Mark>,
}

impl Position {
    /// Advances past a record; `mark` is given if it was committed.
    pub(super) fn pass(&mut self, bytes: u64, mark: Option<Mark>) {
        self.bytes = bytes;
        let Some(mark) = mark else { return };
        // Only the last document of an id is in the collection.
        self.marks.retain(|earlier| earlier.id != mark.id);
        self.marks.push_back(mark);
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }
}

/// Content of a bookmark's file.
#[derive(Debug, Serialize, Deserialize)]
struct StoredBookmark {
    /// Name of the loaded file, for people who look at this one.
    source: PathBuf,
    sha256: String,
    #[serde(flatten)]
    position: Position,
}

/// The state of an earlier attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EarlierLoad {
    /// There was no earlier attempt.
    Nothing,
    /// There was one, but its bookmark is invalid, for this reason.
    Outdated(&'static str),
    /// It came to this position; `line` is the next line of the file, from 1.
    At { position: Position, line: u64 },
}

/// The bookmark of loading one file into one collection.
#[derive(Debug)]
pub(super) struct Bookmark {
    path: PathBuf,
    source: PathBuf,
    /// Read behind the load, so its bytes are in the page cache.
    file: File,
    /// Digest of the first `digested` bytes of the file.
    digest: Sha256,
    digested: u64,
    written: Instant,
}

impl Bookmark {
    /// Opens the bookmark for loading `source` with the parameters `load`, in `directory`, which is created if
    /// necessary. `load` contains everything that changes the resulting documents or their destination.
    pub(super) fn of(source: &Path, load: &impl Serialize, directory: &Path) -> anyhow::Result<Self> {
        let shown = source.display();
        let open = || Ok::<_, io::Error>((fs::canonicalize(source)?, File::open(source)?));
        let (source, file) = open().with_context(|| format!("cannot open {shown}"))?;
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let name = hex(Sha256::digest(serde_json::to_vec(&(&source, load))?));
        let path = directory.join(format!("{}.json", &name[..32]));
        Ok(Self { path, source, file, digest: Sha256::new(), digested: 0, written: Instant::now() })
    }

    /// Reads the earlier attempt, and checks that the file still has those bytes.
    pub(super) fn find(&mut self) -> anyhow::Result<EarlierLoad> {
        let shown = self.path.display();
        let kept = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(EarlierLoad::Nothing),
            kept => kept.with_context(|| format!("cannot read {shown}"))?,
        };
        let Ok(StoredBookmark { sha256, position, .. }) = serde_json::from_slice(&kept) else {
            return Ok(EarlierLoad::Outdated("the progress of the earlier load cannot be read"));
        };
        let mut lines = 0;
        match self.digest_to(position.bytes, |byte| lines += u64::from(byte == b'\n')) {
            Ok(()) if hex(self.digest.clone().finalize()) == sha256 => {}
            Ok(()) => return Ok(EarlierLoad::Outdated("the loaded part has changed since")),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(EarlierLoad::Outdated("it is shorter than the part that was loaded"));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.source.display())),
        }
        Ok(EarlierLoad::At { position, line: lines + 1 })
    }

    /// Forgets an earlier attempt.
    pub(super) fn begin_again(&mut self) -> anyhow::Result<()> {
        let mut forget = || {
            self.file.rewind()?;
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        forget().with_context(|| format!("cannot remove {}", self.path.display()))?;
        (self.digest, self.digested) = (Sha256::new(), 0);
        Ok(())
    }

    /// True if the bookmark is to be written again.
    pub(super) fn is_due(&self) -> bool {
        self.written.elapsed() >= PERIOD
    }

    /// Writes the bookmark. Positions only grow.
    pub(super) fn keep(&mut self, position: Position) -> anyhow::Result<()> {
        if position.bytes == 0 {
            return Ok(());
        }
        self.digest_to(position.bytes, |_| ()).with_context(|| format!("cannot read {}", self.source.display()))?;
        let sha256 = hex(self.digest.clone().finalize());
        let mut file = NewFile::create(&self.path)?;
        serde_json::to_writer(&mut file, &StoredBookmark { source: self.source.clone(), sha256, position })?;
        file.flush()?;
        file.finish()?;
        self.written = Instant::now();
        Ok(())
    }

    /// Removes the bookmark of a complete load.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        self.begin_again()
    }

    fn digest_to(&mut self, bytes: u64, mut see: impl FnMut(u8)) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 18];
        while self.digested < bytes {
            let wanted = usize::try_from(bytes - self.digested).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.file.read_exact(&mut buffer[..wanted])?;
            self.digest.update(&buffer[..wanted]);
            buffer[..wanted].iter().copied().for_each(&mut see);
            self.digested += wanted as u64;
        }
        Ok(())
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a file whose first four lines, 20 bytes, are loaded.
    fn loaded() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.txt");
        fs::write(&file, "one.\ntwo.\n333.\n444.\nfive\n").unwrap();
        let mut bookmark = bookmark(&folder, &file);
        assert_eq!(bookmark.find().unwrap(), EarlierLoad::Nothing);
        for bytes in [5, 10] {
            bookmark.keep(position(bytes)).unwrap();
        }
        bookmark.keep(position(20)).unwrap();
        (folder, file)
    }

    fn bookmark(folder: &tempfile::TempDir, file: &Path) -> Bookmark {
        Bookmark::of(file, &("server", "collection"), &folder.path().join("state")).unwrap()
    }

    fn position(bytes: u64) -> Position {
        let mut position = Position::default();
        position.pass(bytes, Some(Mark { id: "a".into(), text_sha256: "b".into() }));
        position
    }

    #[test]
    fn a_file_that_has_grown_goes_on() {
        let (folder, file) = loaded();
        let expected = EarlierLoad::At { position: position(20), line: 5 };
        assert_eq!(bookmark(&folder, &file).find().unwrap(), expected);
        let mut more = File::options().append(true).open(&file).unwrap();
        more.write_all(b"six.\n").unwrap();
        let mut again = bookmark(&folder, &file);
        assert_eq!(again.find().unwrap(), expected);
        again.keep(position(30)).unwrap();
        let expected = EarlierLoad::At { position: position(30), line: 7 };
        assert_eq!(bookmark(&folder, &file).find().unwrap(), expected, "the digest went on from what was found");
    }

    #[test]
    fn a_file_that_was_edited_where_it_is_loaded_begins_again() {
        let (folder, file) = loaded();
        for (text, reason) in [
            ("one.\nTWO.\n333.\n444.\nfive\n", "has changed"),
            ("one.\n", "is shorter"),
            ("one.\ntwo.\n333.\n444.\nFIVE\n", ""),
        ] {
            fs::write(&file, text).unwrap();
            match bookmark(&folder, &file).find().unwrap() {
                EarlierLoad::Outdated(why) => assert!(!reason.is_empty() && why.contains(reason), "{text}: {why}"),
                found => assert!(reason.is_empty() && found != EarlierLoad::Nothing, "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_load_that_begins_again_is_forgotten_and_recorded_anew() {
        let (folder, file) = loaded();
        let mut again = bookmark(&folder, &file);
        again.find().unwrap();
        again.begin_again().unwrap();
        assert_eq!(bookmark(&folder, &file).find().unwrap(), EarlierLoad::Nothing);
        again.keep(position(10)).unwrap();
        assert_eq!(bookmark(&folder, &file).find().unwrap(), EarlierLoad::At { position: position(10), line: 3 });
        fs::write(&again.path, "{").unwrap();
        assert!(matches!(bookmark(&folder, &file).find().unwrap(), EarlierLoad::Outdated(_)));
        again.remove().unwrap();
        assert_eq!(bookmark(&folder, &file).find().unwrap(), EarlierLoad::Nothing);
    }

    #[test]
    fn another_server_collection_or_way_of_reading_is_another_load() {
        let (folder, file) = loaded();
        let other = Bookmark::of(&file, &("server", "other"), &folder.path().join("state"));
        assert_eq!(other.unwrap().find().unwrap(), EarlierLoad::Nothing);
    }

    #[test]
    fn the_last_version_of_the_last_few_documents_is_remembered() {
        let mut position = Position::default();
        for n in 0..20 {
            let id = (n % 12).to_string();
            position.pass(n, Some(Mark { id, text_sha256: n.to_string() }));
        }
        let marks: Vec<&str> = position.marks.iter().map(|mark| mark.text_sha256.as_str()).collect();
        assert_eq!((position.bytes, marks), (19, vec!["12", "13", "14", "15", "16", "17", "18", "19"]));
    }
}
