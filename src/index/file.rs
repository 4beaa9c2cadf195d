//! Segment files beside the store: written once, mapped, and never required. A missing or damaged file is built again
//! from the vectors, which others keep.
//!
//! ```text
//! header: eight u64 ─► codes ─► sketches, their centre ─► links ─► scales ─► sums ─► starts ─► digests ─► keys ─► f32 rows
//! each section begins at a multiple of 64 bytes
//! ```
//! Numbers are in the byte order of the machine. A file of the other order has another magic number and is refused. The
//! checksum covers everything except the f32 rows, which are compared with the vectors that the caller inserts.
//!
//! Invariants: a file has its name only when it is complete and synced. It never changes. When a segment is replaced,
//! its last reader deletes the file.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytemuck::Pod;

use super::graph::codes::Codes;
use super::graph::column::Column;
use super::graph::links::{DEGREE, Links, NONE};
use super::graph::searchable::Graph;
use super::graph::sketches::Sketches;
use super::learned::Learned;
use super::parts::{Member, SegmentParts};
use super::stored_rows::StoredRows;
use crate::kernel::dot_i8::{BLOCK, Block};
use crate::machine::files;
use crate::machine::mapping::Mapping;

/// "cognate" and the version of the format.
const MAGIC: u64 = u64::from_be_bytes(*b"cognate\x02");
/// The alignment of sections: a cache line, which [`Block`] also needs.
const ALIGN: usize = 64;
const HEADER_BYTES: usize = 64;
/// Sections that the checksum covers.
const SECTIONS: usize = 9;

const EXTENSION: &str = "segment";
const NEW_EXTENSION: &str = "new";

/// The place where an index may store its segments.
pub struct SegmentStorage {
    /// A directory for this index alone. It is created if it is missing.
    pub directory: PathBuf,
    /// Tells if there is space for a file of this many bytes.
    pub has_room: Box<dyn Fn(u64) -> bool + Send + Sync>,
}

/// The segment files of an index.
pub(super) struct Files {
    storage: SegmentStorage,
    dimensions: usize,
    /// The number of the next file.
    number: AtomicU64,
    discarded: AtomicBool,
}

/// A segment in a file.
pub(super) struct Stored {
    pub(super) parts: SegmentParts,
    /// The caller's key of each vector.
    pub(super) keys: Column<u64>,
    pub(super) rows: Arc<StoredRows>,
}

/// The byte range of each section of a file.
struct Layout {
    blocks: Range<usize>,
    sketches: Range<usize>,
    centre: Range<usize>,
    links: Range<usize>,
    scales: Range<usize>,
    sums: Range<usize>,
    starts: Range<usize>,
    digests: Range<usize>,
    keys: Range<usize>,
    rows: Range<usize>,
}

impl Layout {
    /// The layout for these counts. `None` on overflow.
    fn new(dimensions: usize, vectors: usize, nodes: usize) -> Option<Layout> {
        let mut end = HEADER_BYTES;
        let mut part = |values: usize, of: usize| {
            let from = end.checked_next_multiple_of(ALIGN)?;
            end = from.checked_add(values.checked_mul(of)?)?;
            Some(from..end)
        };
        Some(Layout {
            blocks: part(nodes, dimensions.div_ceil(BLOCK) * size_of::<Block>())?,
            sketches: part(nodes, Sketches::blocks(dimensions) * size_of::<Block>())?,
            centre: part(dimensions, size_of::<f32>())?,
            links: part(nodes, size_of::<[u32; DEGREE]>())?,
            scales: part(nodes, size_of::<f32>())?,
            sums: part(nodes, size_of::<i32>())?,
            starts: part(nodes.checked_add(1)?, size_of::<u32>())?,
            digests: part(nodes, size_of::<[u32; 2]>())?,
            keys: part(vectors, size_of::<u64>())?,
            rows: part(vectors, dimensions * size_of::<f32>())?,
        })
    }
}

impl Layout {
    /// The sections that the checksum covers.
    fn checked(&self) -> [&Range<usize>; SECTIONS] {
        let Layout { blocks, sketches, centre, links, scales, sums, starts, digests, keys, rows: _ } = self;
        [blocks, sketches, centre, links, scales, sums, starts, digests, keys]
    }
}

impl Files {
    /// Opens the directory, created if it is missing, and the segments in it, newest first. Removes files that are
    /// damaged, unfinished or of another number of dimensions, and logs a warning for each damaged one.
    pub(super) fn open(storage: SegmentStorage, dimensions: usize) -> io::Result<(Files, Vec<Stored>)> {
        let directory = &storage.directory;
        // Vectors reveal the content of their texts: directories and files belong to their user alone.
        files::make_private_directories(directory)?;
        if !files::is_directory(directory) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a directory, found a link or a file"));
        }
        let mut numbers = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            match (number, path.extension().and_then(|extension| extension.to_str())) {
                (Some(number), Some(EXTENSION)) => numbers.push(number),
                (Some(_), Some(NEW_EXTENSION)) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let next = numbers.first().map_or(0, |last| last + 1);
        let files = Files { storage, dimensions, number: AtomicU64::new(next), discarded: AtomicBool::new(false) };
        let mut found = Vec::new();
        for number in numbers {
            let path = files.path(number, EXTENSION);
            match read(&path, dimensions) {
                Ok(stored) => found.push(stored),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an index segment is unreadable and is built again");
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok((files, found))
    }

    /// Writes a segment and maps it. Blocks until it is on disk.
    pub(super) fn write(&self, parts: &SegmentParts, members: &[Member]) -> io::Result<Stored> {
        let layout = Layout::new(self.dimensions, members.len(), parts.graph.len());
        if !layout.is_some_and(|layout| (self.storage.has_room)(layout.rows.end as u64)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (new, path) = (self.path(number, NEW_EXTENSION), self.path(number, EXTENSION));
        let written = write(&new, self.dimensions, parts, members).and_then(|()| fs::rename(&new, &path));
        if self.are_discarded() {
            // The other thread may have found the directory not empty.
            self.discard();
        }
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        read(&path, self.dimensions)
    }

    /// Deletes the directory and its files, except mapped files where the system forbids it, and ends all writing.
    pub(super) fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
        let _ = fs::remove_dir_all(&self.storage.directory);
    }

    /// The search settings that an earlier process learned, if they can be read.
    pub(super) fn learned(&self) -> Option<Learned> {
        Learned::read(&self.storage.directory)
    }

    /// Stores the learned search settings. A failure costs the next process only the time to learn them again.
    pub(super) fn save_learned(&self, learned: Learned) {
        if self.are_discarded() || !(self.storage.has_room)(size_of::<Learned>() as u64) {
            return;
        }
        if let Err(error) = learned.write(&self.storage.directory)
            && !self.are_discarded()
        {
            tracing::debug!(%error, "the learned search settings cannot be stored");
        }
    }

    /// True after [`Files::discard`].
    pub(super) fn are_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.storage.directory.join(format!("{number:010}.{extension}"))
    }
}

fn write(path: &Path, dimensions: usize, parts: &SegmentParts, members: &[Member]) -> io::Result<()> {
    let (blocks, scales, sums) = parts.graph.codes().parts();
    let keys: Vec<u64> = members.iter().map(|member| member.key).collect();
    let (centre, sketches) = parts.graph.sketches().parts();
    let sections: [&[u8]; SECTIONS] = [
        bytemuck::cast_slice(blocks),
        bytemuck::cast_slice(sketches),
        bytemuck::cast_slice(&centre),
        bytemuck::cast_slice(parts.graph.links().lists()),
        bytemuck::cast_slice(scales),
        bytemuck::cast_slice(sums),
        bytemuck::cast_slice(&parts.starts),
        bytemuck::cast_slice(&parts.digests),
        bytemuck::cast_slice(&keys),
    ];
    let (vectors, nodes) = (members.len(), parts.graph.len());
    let counts = [MAGIC, dimensions as u64, vectors as u64, nodes as u64, parts.graph.entries() as u64];
    let mut header = [0u64; HEADER_BYTES / size_of::<u64>()];
    header[..5].copy_from_slice(&counts);
    header[5] = u64::from(checksum(&counts, sections));

    let mut out = Aligned { out: BufWriter::new(files::create_private(path)?), at: 0 };
    out.write(bytemuck::cast_slice(&header))?;
    for section in sections {
        out.align()?;
        out.write(section)?;
    }
    out.align()?;
    members.iter().try_for_each(|member| out.write(bytemuck::cast_slice(&member.vector)))?;
    out.out.into_inner()?.sync_all()
}

fn checksum(counts: &[u64; 5], sections: [&[u8]; SECTIONS]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytemuck::cast_slice(counts));
    sections.iter().for_each(|section| hasher.update(section));
    hasher.finalize()
}

struct Aligned<W> {
    out: W,
    at: usize,
}

impl<W: Write> Aligned<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        let gap = self.at.next_multiple_of(ALIGN) - self.at;
        self.write(&[0; ALIGN][..gap])
    }
}

/// An error that says why a file is damaged.
fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads a file and checks everything except its rows.
fn read(path: &Path, dimensions: usize) -> io::Result<Stored> {
    let file = Arc::new(Mapping::open(path)?);
    let header = file.get(..HEADER_BYTES).ok_or_else(|| damaged("it is shorter than a header"))?;
    let header: &[u64] = bytemuck::cast_slice(header);
    let [magic, of_dimensions, vectors, nodes, entries, checksum_of_file, ..] = *header else {
        return Err(damaged("it is shorter than a header"));
    };
    if magic != MAGIC {
        return Err(damaged("it is not a segment of this version"));
    }
    if of_dimensions != dimensions as u64 {
        return Err(damaged("its vectors have another number of dimensions"));
    }
    let layout = Layout::new(dimensions, vectors as usize, nodes as usize);
    let layout = layout.filter(|layout| layout.rows.end == file.len());
    let layout = layout.ok_or_else(|| damaged("its length differs from its header"))?;
    let ranges = layout.checked();
    let counts = [magic, of_dimensions, vectors, nodes, entries];
    if u64::from(checksum(&counts, ranges.map(|range| &file[range.clone()]))) != checksum_of_file {
        return Err(damaged("its checksum is wrong"));
    }
    let starts: Column<u32> = column(&file, &layout.starts);
    let digests: Column<[u32; 2]> = column(&file, &layout.digests);
    let lists: Column<[u32; DEGREE]> = column(&file, &layout.links);
    // A faulty program may have written invalid links with a correct checksum. They must not lead a walk astray.
    let is_node = |node: u32| u64::from(node) < nodes;
    let is_sound = entries <= nodes
        && vectors <= u64::from(u32::MAX)
        && starts.is_sorted()
        && starts.first() == Some(&0)
        && starts.last().map(|&last| u64::from(last)) == Some(vectors)
        && digests.iter().all(|&[_, node]| is_node(node))
        && lists.iter().flatten().all(|&target| target == NONE || is_node(target));
    if !is_sound {
        return Err(damaged("its links point to missing nodes"));
    }
    let codes = Codes::of_parts(
        dimensions,
        column(&file, &layout.blocks),
        column(&file, &layout.scales),
        column(&file, &layout.sums),
    );
    let sketches = Sketches::of_parts(&column::<f32>(&file, &layout.centre), column(&file, &layout.sketches));
    let graph = Graph::of_parts(codes, Links::of_lists(lists), entries as usize).with_sketches(sketches);
    Ok(Stored {
        parts: SegmentParts { graph, starts, digests },
        keys: column(&file, &layout.keys),
        rows: Arc::new(StoredRows::new(file, path.to_owned(), layout.rows.start, dimensions)),
    })
}

/// The bytes of a file with a corrected checksum. `None`: the length is wrong, and no checksum can make it valid.
pub(super) fn with_its_checksum(mut bytes: Vec<u8>, dimensions: usize) -> Option<Vec<u8>> {
    let word = |n: usize| Some(u64::from_ne_bytes(bytes.get(8 * n..8 * n + 8)?.try_into().ok()?));
    let counts = [MAGIC, dimensions as u64, word(2)?, word(3)?, word(4)?];
    let layout = Layout::new(dimensions, usize::try_from(counts[2]).ok()?, usize::try_from(counts[3]).ok()?)?;
    let ranges = layout.checked();
    if layout.rows.end != bytes.len() {
        return None;
    }
    let checksum = checksum(&counts, ranges.map(|range| &bytes[range.clone()]));
    for (n, number) in counts.into_iter().chain([u64::from(checksum)]).enumerate() {
        bytes[8 * n..8 * n + 8].copy_from_slice(&number.to_ne_bytes());
    }
    Some(bytes)
}

/// A file of vectors that are all zero, without links.
pub(super) fn nothing_stored(dimensions: usize, vectors: usize) -> Vec<u8> {
    let layout = Layout::new(dimensions, vectors, vectors).expect("few vectors have a layout");
    let mut bytes = vec![0; layout.rows.end];
    bytes[layout.links].fill(0xff);
    for (n, start) in bytes[layout.starts].chunks_mut(4).enumerate() {
        start.copy_from_slice(&(n as u32).to_ne_bytes());
    }
    for (n, count) in [(2, vectors), (3, vectors), (4, vectors)] {
        bytes[8 * n..8 * n + 8].copy_from_slice(&(count as u64).to_ne_bytes());
    }
    with_its_checksum(bytes, dimensions).expect("it has the length of its layout")
}

fn column<T: Pod>(file: &Arc<Mapping>, range: &Range<usize>) -> Column<T> {
    Column::Mapped(Arc::clone(file), range.clone())
}
