//! Checks on a file before it is loaded as ONNX Runtime's library.
//!
//! Loading is the real check: the system's loader and the library itself say what is wrong with it (`onnxruntime.rs`).
//! Two mistakes are found here first, because nobody else reports them well. A file that was cut short ends the
//! process by a signal when the loader reads behind its end. A library for another processor is reported as missing.
//! Both are found in the first bytes of an ELF file. Other systems check them in their own loaders.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The reason why a file is not used as ONNX Runtime's library.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The path leads nowhere.
    #[error("no such file or directory")]
    Missing,
    /// The directory has no file of the library's name.
    #[error("a directory without {}", shared_name())]
    EmptyDirectory,
    /// The path leads to a directory, a pipe or a device.
    #[error("not a regular file")]
    NotAFile,
    /// The system refuses to open or read the file.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file has another format.
    #[error("not a shared library")]
    NotALibrary,
    /// The library is for another processor.
    #[error("built for another processor than {}", std::env::consts::ARCH)]
    OtherProcessor,
    /// A download or a copy was interrupted.
    #[error("cut short: it has {has} bytes and must have {needs}; install it again")]
    CutShort {
        /// Bytes in the file.
        has: u64,
        /// Bytes that the loader would read.
        needs: u64,
    },
    /// The library has another purpose.
    #[error("not ONNX Runtime: it has no function OrtGetApiBase")]
    OtherLibrary,
    /// The library has an older interface than ours.
    #[error("version {version}; 1.{oldest} is the oldest that works; update it")]
    TooOld {
        /// The library's version.
        version: String,
        /// The minor number of the oldest version that works.
        oldest: u32,
    },
    /// The system's loader or the library's own start failed.
    #[error("does not load: {reason}")]
    Load {
        /// The reason in their words.
        reason: String,
    },
    /// Loading takes too long and goes on. It holds the lock of the system's loader: on Linux the process waits for
    /// that lock when it exits, and only a signal ends it.
    #[error("still not loaded after {} s; this process tries no other library", .0.as_secs())]
    Stuck(Duration),
    /// This process has loaded a library before.
    #[error("this process has loaded {path} before, and can load only one library", path = .path.display())]
    OtherLoaded {
        /// The file of that library.
        path: PathBuf,
    },
}

/// Returns the library's usual file name on this system.
pub(super) fn shared_name() -> String {
    format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Checks that the loader can be trusted with this file. Returns its path with links followed.
pub(super) fn check(path: &Path) -> Result<PathBuf, Unusable> {
    // The type is checked before the file is opened, because opening a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Unreadable(error),
    })?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    if cfg!(target_os = "linux") {
        check_elf(path, metadata.len())?;
    } else {
        File::open(path)?;
    }
    Ok(fs::canonicalize(path)?)
}

/// Bytes of a file that are read: the header, and behind it the table of the parts that are loaded.
const START_BYTES: u64 = 4096;

/// `e_ident[EI_CLASS]` of a 64-bit file.
const CLASS_64: u8 = 2;

/// `p_type` of a part that is loaded.
const PT_LOAD: u64 = 1;

/// The start of an ELF file, with its fields by their offsets.
struct Elf(Vec<u8>);

impl Elf {
    /// Reads the start of a file, if it is an ELF file with a whole header.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut start = Vec::new();
        File::open(path)?.take(START_BYTES).read_to_end(&mut start)?;
        Ok((start.len() >= 64 && start.starts_with(b"\x7fELF")).then_some(Self(start)))
    }

    /// Returns word size, byte order and processor.
    fn machine(&self) -> [u8; 4] {
        [self.0[4], self.0[5], self.0[18], self.0[19]]
    }

    /// Returns a little-endian number. A field beyond the bytes that were read counts as 0.
    fn number(&self, at: u64, bytes: u64) -> u64 {
        let at = |n: u64| usize::try_from(at.saturating_add(n)).ok().and_then(|at| self.0.get(at)).copied();
        (0..bytes).rev().fold(0, |number, n| number << 8 | u64::from(at(n).unwrap_or(0)))
    }

    /// Returns the bytes that the file must have, up to the end of the last part that is loaded. They are known for
    /// 64-bit files only; otherwise the result is 0.
    fn needs(&self) -> u64 {
        if self.0[4] != CLASS_64 {
            return 0;
        }
        let (table, size, count) = (self.number(32, 8), self.number(54, 2), self.number(56, 2));
        let parts = (0..count).map(|n| table.saturating_add(n * size)).filter(|&part| self.number(part, 4) == PT_LOAD);
        let field = |part: u64, at| self.number(part.saturating_add(at), 8);
        parts.map(|part| field(part, 8).saturating_add(field(part, 32))).max().unwrap_or(0)
    }
}

/// Checks format, processor and length of a library for Linux.
fn check_elf(path: &Path, has: u64) -> Result<(), Unusable> {
    let elf = Elf::read(path)?.ok_or(Unusable::NotALibrary)?;
    let own = Elf::read(Path::new("/proc/self/exe"));
    if own.is_ok_and(|own| own.is_some_and(|own| own.machine() != elf.machine())) {
        return Err(Unusable::OtherProcessor);
    }
    let needs = elf.needs();
    if needs > has { Err(Unusable::CutShort { has, needs }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> Unusable {
        check(path).expect_err("it is no ONNX Runtime")
    }

    /// Returns the reason why a file of this content is refused.
    #[cfg(target_os = "linux")]
    fn refused_content(content: &[u8]) -> Unusable {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libonnxruntime.so");
        fs::write(&file, content).unwrap();
        refused(&file)
    }

    /// Reads the C library, which this process has loaded.
    #[cfg(target_os = "linux")]
    fn libc() -> Vec<u8> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        fs::read(path.expect("this test is linked with libc.so")).unwrap()
    }

    #[test]
    fn a_path_without_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(refused(&directory.path().join("nothing.so")), Unusable::Missing));
        assert!(matches!(refused(directory.path()), Unusable::NotAFile));
        #[cfg(unix)]
        assert!(matches!(refused(Path::new("/dev/null")), Unusable::NotAFile));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn other_content_is_refused() {
        for content in [&b""[..], b"this is a text\n", b"\x7fELF", b"MZ", &[0; 4096]] {
            assert!(matches!(refused_content(content), Unusable::NotALibrary), "{content:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_that_is_cut_short_is_refused_at_every_length() {
        let whole = libc();
        for part in 0..64 {
            let reason = refused_content(&whole[..whole.len() * part / 64]);
            assert!(matches!(reason, Unusable::NotALibrary | Unusable::CutShort { .. }), "{part}/64: {reason}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_for_another_processor_is_refused() {
        let mut bytes = libc();
        // e_machine: 0x28 is 32-bit ARM, where no test of a 64-bit library runs.
        bytes[18..20].copy_from_slice(&0x28_u16.to_le_bytes());
        assert!(matches!(refused_content(&bytes), Unusable::OtherProcessor));
    }
}
