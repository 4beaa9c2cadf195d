//! Is a file ONNX Runtime's library? Found out by reading it, before any of its code runs.
//!
//! Loading a wrong file can end the process (the system's loader maps a file that was cut short, and dies by a signal
//! when it reads behind its end) or run code that has nothing to do with us. So a library is loaded only when it is
//! whole, built for this machine, has the function that everything starts with, and is new enough.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use object::read::elf::{ElfFile, FileHeader, Sym};
use object::read::macho::{FatArch, MachOFatFile32, MachOFatFile64};
use object::{Architecture, BinaryFormat, FileKind, Object, ObjectKind, ObjectSegment, ReadCache, ReadRef};

/// The function that gives all others.
const ENTRY: &str = "OrtGetApiBase";

/// A file that looks like a usable library.
#[derive(Debug, Clone)]
pub(super) struct Library {
    /// Where it is, links followed.
    pub path: PathBuf,
    /// Its version, where the file tells it.
    pub version: Option<String>,
}

/// Why a file is not used as ONNX Runtime's library.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Nothing there.
    #[error("no such file or directory")]
    Missing,
    /// A directory without it.
    #[error("a directory without {}", shared_name())]
    EmptyDirectory,
    /// A pipe, a device and the like.
    #[error("not a regular file")]
    NotAFile,
    /// The system does not let us.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// Anything else than a program's part.
    #[error("not a shared library")]
    NotALibrary,
    /// For another system or processor.
    #[error("built for another machine ({format:?}, {architecture:?})")]
    OtherMachine {
        /// Its format.
        format: BinaryFormat,
        /// Its processor.
        architecture: Architecture,
    },
    /// An interrupted download or copy.
    #[error("cut short: {has} bytes of {needs}; install it again")]
    CutShort {
        /// Bytes in the file.
        has: u64,
        /// Bytes that its own table asks for.
        needs: u64,
    },
    /// Its tables contradict each other.
    #[error("damaged or cut short: {0}; install it again")]
    Damaged(object::Error),
    /// A library of something else.
    #[error("not ONNX Runtime: it has no function {ENTRY}")]
    OtherLibrary,
    /// From before the interface that we speak.
    #[error("version {version}, and 1.{oldest} is the oldest that works; update it")]
    TooOld {
        /// Its version.
        version: String,
        /// The second number of the oldest one.
        oldest: u32,
    },
    /// The system or the library itself refuses.
    #[error("does not load: {reason}")]
    Load {
        /// Its words.
        reason: String,
    },
    /// It did not come to an end. The system's loader is still at it and holds its lock: on Linux the process then waits
    /// for it when it exits, and ends by a signal only.
    #[error("still not loaded after {} s; this process tries no other", .0.as_secs())]
    Stuck(Duration),
    /// A process has one attempt.
    #[error("this process has loaded {path} before, and can load one only", path = .path.display())]
    OtherLoaded {
        /// The one that it has.
        path: PathBuf,
    },
}

/// The library's usual name on this system.
pub(super) fn shared_name() -> String {
    format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Examines a file. `oldest`: the second number of the oldest version that is good.
pub(super) fn check(path: &Path, oldest: u32) -> Result<Library, Unusable> {
    // Not opened before this is known: a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Unreadable(error),
    })?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    let file = ReadCache::new(File::open(path)?);
    let version = inspect(&file)?.or_else(|| version_in_name(path));
    if let Some(version) = &version
        && older(version, oldest)
    {
        return Err(Unusable::TooOld { version: version.clone(), oldest });
    }
    Ok(Library { path: fs::canonicalize(path)?, version })
}

/// The version, where the file has one inside.
fn inspect<'d, R: ReadRef<'d>>(data: R) -> Result<Option<String>, Unusable> {
    match FileKind::parse(data).map_err(|_| Unusable::NotALibrary)? {
        FileKind::MachOFat32 => {
            let fat = MachOFatFile32::parse(data).map_err(Unusable::Damaged)?;
            inspect_slice(slice(fat.arches(), data)?)
        }
        FileKind::MachOFat64 => {
            let fat = MachOFatFile64::parse(data).map_err(Unusable::Damaged)?;
            inspect_slice(slice(fat.arches(), data)?)
        }
        _ => inspect_slice(data),
    }
}

/// The part for this processor of a file that has parts for several.
fn slice<'d, A: FatArch>(arches: &[A], data: impl ReadRef<'d>) -> Result<&'d [u8], Unusable> {
    let other = |arch: &A| Unusable::OtherMachine { format: BinaryFormat::MachO, architecture: arch.architecture() };
    match arches.iter().find(|arch| is_ours(arch.architecture())) {
        Some(ours) => ours.data(data).map_err(Unusable::Damaged),
        None => Err(arches.first().map_or(Unusable::NotALibrary, other)),
    }
}

fn inspect_slice<'d, R: ReadRef<'d>>(data: R) -> Result<Option<String>, Unusable> {
    let file = object::File::parse(data).map_err(Unusable::Damaged)?;
    if file.format() != OUR_FORMAT || !is_ours(file.architecture()) {
        return Err(Unusable::OtherMachine { format: file.format(), architecture: file.architecture() });
    }
    if file.kind() != ObjectKind::Dynamic {
        return Err(Unusable::NotALibrary);
    }
    let ends = file.segments().map(|segment| {
        let (offset, size) = segment.file_range();
        offset.saturating_add(size)
    });
    let (has, needs) = (data.len().unwrap_or(0), ends.max().unwrap_or(0));
    if needs > has {
        return Err(Unusable::CutShort { has, needs });
    }
    // A linker of macOS puts an underscore before every name.
    let is_entry = |name: &[u8]| name.strip_prefix(b"_").unwrap_or(name) == ENTRY.as_bytes();
    let exports = file.exports().map_err(Unusable::Damaged)?;
    if !exports.iter().any(|export| is_entry(export.name())) {
        return Err(Unusable::OtherLibrary);
    }
    Ok(match &file {
        object::File::Elf64(elf) => version_of_entry(elf),
        object::File::Elf32(elf) => version_of_entry(elf),
        _ => None,
    })
}

/// Builds for Linux carry their version in that of their symbols: `OrtGetApiBase@@VERS_1.23.2`.
fn version_of_entry<'d, Elf: FileHeader, R: ReadRef<'d>>(elf: &ElfFile<'d, Elf, R>) -> Option<String> {
    let endian = elf.endian();
    let versions = elf.elf_section_table().versions(endian, elf.data()).ok()??;
    let symbols = elf.elf_dynamic_symbol_table();
    let is_entry = |symbol: &Elf::Sym| symbol.name(endian, symbols.strings()) == Ok(ENTRY.as_bytes());
    let (index, _) = symbols.enumerate().find(|(_, symbol)| is_entry(symbol))?;
    let version = versions.version(versions.version_index(endian, index)).ok()??;
    std::str::from_utf8(version.name()).ok()?.strip_prefix("VERS_").map(str::to_owned)
}

/// `libonnxruntime.so.1.23.2`, `libonnxruntime.1.23.2.dylib`; one number alone is that of the interface.
fn version_in_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let numbers: Vec<&str> = name.split('.').filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).collect();
    (numbers.len() >= 2).then(|| numbers.join("."))
}

fn older(version: &str, oldest: u32) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let first_two = (numbers.next().flatten(), numbers.next().flatten());
    matches!(first_two, (Some(major), Some(minor)) if (major, minor) < (1, oldest))
}

const OUR_FORMAT: BinaryFormat = if cfg!(windows) {
    BinaryFormat::Pe
} else if cfg!(target_vendor = "apple") {
    BinaryFormat::MachO
} else {
    BinaryFormat::Elf
};

/// Whether code for it runs here; yes for processors that are not listed, where the system's loader has to say it.
fn is_ours(architecture: Architecture) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => architecture == Architecture::X86_64,
        "aarch64" => architecture == Architecture::Aarch64,
        "x86" => architecture == Architecture::I386,
        "arm" => architecture == Architecture::Arm,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDEST: u32 = 17;

    /// The library of this test's own process that everything has.
    #[cfg(target_os = "linux")]
    fn libc() -> PathBuf {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        path.expect("this test is linked with libc.so").into()
    }

    fn refused(path: &Path) -> Unusable {
        check(path, OLDEST).expect_err("it is no ONNX Runtime")
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(refused(&directory.path().join("nothing.so")), Unusable::Missing));
        assert!(matches!(refused(directory.path()), Unusable::NotAFile));
        #[cfg(unix)]
        assert!(matches!(refused(Path::new("/dev/null")), Unusable::NotAFile));
    }

    #[test]
    fn other_content_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libonnxruntime.so");
        for content in [&b""[..], b"this is a text\n", b"\x7fELF", b"MZ", &[0; 4096]] {
            fs::write(&file, content).unwrap();
            let reason = refused(&file);
            assert!(matches!(reason, Unusable::NotALibrary | Unusable::Damaged(_)), "{content:?}: {reason}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_library_is_refused() {
        assert!(matches!(refused(&libc()), Unusable::OtherLibrary));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_is_refused() {
        let reason = refused(&std::env::current_exe().unwrap());
        assert!(matches!(reason, Unusable::OtherLibrary | Unusable::NotALibrary), "{reason}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_that_is_cut_short_is_refused_at_every_length() {
        let whole = fs::read(libc()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libonnxruntime.so");
        for part in 0..64 {
            fs::write(&file, &whole[..whole.len() * part / 64]).unwrap();
            let reason = refused(&file);
            let expected = matches!(reason, Unusable::NotALibrary | Unusable::Damaged(_) | Unusable::CutShort { .. });
            assert!(expected, "{part}/64: {reason}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_for_another_processor_is_refused() {
        let mut bytes = fs::read(libc()).unwrap();
        // e_machine: 0x28 is 32-bit ARM, where no test of a 64-bit library runs.
        bytes[18..20].copy_from_slice(&0x28_u16.to_le_bytes());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libonnxruntime.so");
        fs::write(&file, bytes).unwrap();
        let reason = refused(&file);
        assert!(matches!(reason, Unusable::OtherMachine { architecture: Architecture::Arm, .. }), "{reason}");
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(older("1.9.0", 17) && older("1.16.3", 17) && older("0.99", 17));
        assert!(!older("1.17.0", 17) && !older("1.100", 17) && !older("2.0.0", 17) && !older("nightly", 17));
        assert_eq!(version_in_name(Path::new("/lib/libonnxruntime.so.1.16.3")), Some("1.16.3".to_owned()));
        assert_eq!(version_in_name(Path::new("libonnxruntime.1.23.2.dylib")), Some("1.23.2".to_owned()));
        assert_eq!(version_in_name(Path::new("libonnxruntime.so.1")), None);
    }
}
