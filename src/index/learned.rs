//! The search settings that an index learned from its queries, kept beside its segments in a file of 24 bytes.
//!
//! The file is a cache like the rest of the directory. A file that is missing, damaged or of another version is
//! ignored, and its content is learned again.
//!
//! ```text
//! 0 magic and version, 8 bytes   8 levels by kind, 4 bytes, 255: unknown   12 mostly in crowds   13 zeros   20 crc32
//! of 0..20
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::ef::{Kind, LEVELS};
use crate::machine::files;

const MAGIC: &[u8; 8] = b"cogrecl\x02";
const BYTES: usize = 24;
const UNKNOWN: u8 = u8::MAX;
const FILE: &str = "recall";
const NEW_FILE: &str = "recall.new";

/// The result of checking the latest queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Learned {
    /// The level of `ef` for each kind of search; `None`: unknown.
    pub(super) levels: [Option<u8>; Kind::COUNT],
    /// True if most searches end in a crowd.
    pub(super) mostly_in_crowds: bool,
}

impl Learned {
    /// Reads the file of an earlier process in that directory, if it is valid.
    pub(super) fn read(directory: &Path) -> Option<Learned> {
        Learned::decode(&fs::read(directory.join(FILE)).ok()?)
    }

    /// Replaces the file in that directory.
    pub(super) fn write(self, directory: &Path) -> io::Result<()> {
        let new = directory.join(NEW_FILE);
        let _ = fs::remove_file(&new);
        let mut file = files::create_private(&new)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&new, directory.join(FILE))
    }

    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.levels.map(|level| level.unwrap_or(UNKNOWN)));
        bytes[12] = u8::from(self.mostly_in_crowds);
        let checksum = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Learned> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let is_sound = bytes.starts_with(MAGIC) && bytes[20..] == crc32fast::hash(&bytes[..20]).to_le_bytes();
        let level = |byte: u8| (usize::from(byte) < LEVELS).then_some(byte);
        let levels = [level(bytes[8]), level(bytes[9]), level(bytes[10]), level(bytes[11])];
        is_sound.then_some(Learned { levels, mostly_in_crowds: bytes[12] == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNED: Learned = Learned { levels: [Some(3), None, Some(12), Some(0)], mostly_in_crowds: true };

    #[test]
    fn a_written_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Learned::read(directory.path()), None);
        for learned in [Learned::default(), LEARNED] {
            learned.write(directory.path()).unwrap();
            assert_eq!(Learned::read(directory.path()), Some(learned));
        }
    }

    #[test]
    fn a_file_that_is_damaged_anywhere_is_ignored() {
        let whole = LEARNED.encode();
        for at in 0..BYTES {
            let mut damaged = whole;
            damaged[at] ^= 1;
            assert_eq!(Learned::decode(&damaged), None, "byte {at}");
            assert_eq!(Learned::decode(&whole[..at]), None, "{at} bytes");
        }
    }
}
