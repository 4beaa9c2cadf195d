//! How far a file has been loaded, kept on disk for the next try.
//!
//! A bookmark says that every record in the first so many bytes of a file was committed or refused. It holds for those
//! very bytes: their digest is in it. So a file that has grown since goes on, and one that was edited begins again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::new_file::NewFile;
use crate::proto::Document;

/// Committed documents that are remembered, to be looked for in the collection: a few, as one may be gone by chance.
const MARKS: usize = 8;
/// How often it is written while the load goes on: what was loaded since is loaded again.
const PERIOD: Duration = Duration::from_secs(1);

/// By what a committed document is known again.
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

/// Up to where every record is committed or refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Of the file.
    pub(super) bytes: u64,
    /// The documents committed last.
    pub(super) marks: VecDeque<Mark>,
}

impl Position {
    /// Moves behind a record; `mark` is that of a committed document.
    pub(super) fn pass(&mut self, bytes: u64, mark: Option<Mark>) {
        self.bytes = bytes;
        let Some(mark) = mark else { return };
        // Of one id the collection has the last.
        self.marks.retain(|earlier| earlier.id != mark.id);
        self.marks.push_back(mark);
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }
}

/// What the file of a bookmark holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// For whoever looks at it.
    source: PathBuf,
    sha256: String,
    #[serde(flatten)]
    position: Position,
}

/// What is known of an earlier try.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Something that does not hold, and why.
    Outdated(&'static str),
    /// That it came so far; `line` is the next one of the file, from 1.
    At { position: Position, line: u64 },
}

/// The bookmark of one file's load into one collection.
#[derive(Debug)]
pub(super) struct Bookmark {
    place: PathBuf,
    source: PathBuf,
    /// Read beside the load, which is ahead: what was loaded just now is in the page cache.
    file: File,
    /// Of the file's first `digested` bytes.
    digest: Sha256,
    digested: u64,
    written: Instant,
}

impl Bookmark {
    /// That of loading `source` as `load` says, in `directory`, which is made if need be. Whatever changes the
    /// documents that become of the file, or where they go, is part of `load`.
    pub(super) fn of(source: &Path, load: &impl Serialize, directory: &Path) -> anyhow::Result<Self> {
        let shown = source.display();
        let open = || Ok::<_, io::Error>((fs::canonicalize(source)?, File::open(source)?));
        let (source, file) = open().with_context(|| format!("cannot open {shown}"))?;
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let name = hex(Sha256::digest(serde_json::to_vec(&(&source, load))?));
        let place = directory.join(format!("{}.json", &name[..32]));
        Ok(Self { place, source, file, digest: Sha256::new(), digested: 0, written: Instant::now() })
    }

    /// What it says, if the file still has those bytes.
    pub(super) fn find(&mut self) -> anyhow::Result<Found> {
        let shown = self.place.display();
        let kept = match fs::read(&self.place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            kept => kept.with_context(|| format!("cannot read {shown}"))?,
        };
        let Ok(Kept { sha256, position, .. }) = serde_json::from_slice(&kept) else {
            return Ok(Found::Outdated("what was noted of an earlier try cannot be read"));
        };
        let mut lines = 0;
        match self.digest_to(position.bytes, |byte| lines += u64::from(byte == b'\n')) {
            Ok(()) if hex(self.digest.clone().finalize()) == sha256 => {}
            Ok(()) => return Ok(Found::Outdated("the part that was loaded has changed since")),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Found::Outdated("it is shorter than what was loaded of it"));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.source.display())),
        }
        Ok(Found::At { position, line: lines + 1 })
    }

    /// Forgets an earlier try.
    pub(super) fn begin_again(&mut self) -> anyhow::Result<()> {
        let mut forget = || {
            self.file.rewind()?;
            match fs::remove_file(&self.place) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        forget().with_context(|| format!("cannot remove {}", self.place.display()))?;
        (self.digest, self.digested) = (Sha256::new(), 0);
        Ok(())
    }

    /// It was not written for a while.
    pub(super) fn is_due(&self) -> bool {
        self.written.elapsed() >= PERIOD
    }

    /// Writes it. Positions only grow.
    pub(super) fn keep(&mut self, position: Position) -> anyhow::Result<()> {
        if position.bytes == 0 {
            return Ok(());
        }
        self.digest_to(position.bytes, |_| ()).with_context(|| format!("cannot read {}", self.source.display()))?;
        let sha256 = hex(self.digest.clone().finalize());
        let mut file = NewFile::create(&self.place)?;
        serde_json::to_writer(&mut file, &Kept { source: self.source.clone(), sha256, position })?;
        file.flush()?;
        file.finish()?;
        self.written = Instant::now();
        Ok(())
    }

    /// The load is complete.
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

    /// A folder with a file of which the first four lines, 20 bytes, are loaded.
    fn loaded() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.txt");
        fs::write(&file, "one.\ntwo.\n333.\n444.\nfive\n").unwrap();
        let mut bookmark = bookmark(&folder, &file);
        assert_eq!(bookmark.find().unwrap(), Found::Nothing);
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
        let expected = Found::At { position: position(20), line: 5 };
        assert_eq!(bookmark(&folder, &file).find().unwrap(), expected);
        let mut more = File::options().append(true).open(&file).unwrap();
        more.write_all(b"six.\n").unwrap();
        let mut again = bookmark(&folder, &file);
        assert_eq!(again.find().unwrap(), expected);
        again.keep(position(30)).unwrap();
        let expected = Found::At { position: position(30), line: 7 };
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
                Found::Outdated(why) => assert!(!reason.is_empty() && why.contains(reason), "{text}: {why}"),
                found => assert!(reason.is_empty() && found != Found::Nothing, "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_begins_again_is_forgotten_and_noted_anew() {
        let (folder, file) = loaded();
        let mut again = bookmark(&folder, &file);
        again.find().unwrap();
        again.begin_again().unwrap();
        assert_eq!(bookmark(&folder, &file).find().unwrap(), Found::Nothing);
        again.keep(position(10)).unwrap();
        assert_eq!(bookmark(&folder, &file).find().unwrap(), Found::At { position: position(10), line: 3 });
        fs::write(&again.place, "{").unwrap();
        assert!(matches!(bookmark(&folder, &file).find().unwrap(), Found::Outdated(_)));
        again.remove().unwrap();
        assert_eq!(bookmark(&folder, &file).find().unwrap(), Found::Nothing);
    }

    #[test]
    fn another_server_collection_or_way_of_reading_is_another_load() {
        let (folder, file) = loaded();
        let other = Bookmark::of(&file, &("server", "other"), &folder.path().join("state"));
        assert_eq!(other.unwrap().find().unwrap(), Found::Nothing);
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
