//! Segments beside the store: written once, mapped, and never needed. What is missing or damaged is built again of the
//! vectors, which are somebody else's to keep.
//!
//! ```text
//! header: eight u64 ─► codes ─► links ─► scales ─► sums ─► starts ─► digests ─► keys ─► f32 rows     each from a multiple of 64
//! ```
//! Numbers are in the machine's own order; a file of another order has another magic number, and is no file of ours. The
//! checksum covers all but the f32 rows: each of those is compared with the vector that its owner brings.
//!
//! Invariants: a file has its name only when it is complete and synced; it never changes; it is deleted when the last
//! reader of a segment that was replaced is gone.

use std::fs::{self, DirBuilder};
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
use super::learned::Learned;
use super::parts::{Member, SegmentParts};
use super::stored_rows::StoredRows;
use crate::kernel::dot_i8::{BLOCK, Block};
use crate::machine::files;
use crate::machine::mapping::Mapping;

/// "cognate" and the version of what follows.
const MAGIC: u64 = u64::from_be_bytes(*b"cognate\x01");
/// Where parts may begin: a cache line, and what [`Block`] needs.
const ALIGN: usize = 64;
const HEADER_BYTES: usize = 64;

const EXTENSION: &str = "segment";
const NEW_EXTENSION: &str = "new";

/// Where an index may keep its segments.
pub struct SegmentStorage {
    /// Of its own; made if there is none.
    pub directory: PathBuf,
    /// Whether there is room for a file of so many bytes.
    pub has_room: Box<dyn Fn(u64) -> bool + Send + Sync>,
}

/// Where an index keeps its segments.
pub(super) struct Files {
    storage: SegmentStorage,
    dimensions: usize,
    /// Of the next file.
    number: AtomicU64,
    discarded: AtomicBool,
}

/// A segment in a file.
pub(super) struct Stored {
    pub(super) parts: SegmentParts,
    /// By vector: what its owner calls it.
    pub(super) keys: Column<u64>,
    pub(super) rows: Arc<StoredRows>,
}

/// Where each part of a file is.
struct Layout {
    blocks: Range<usize>,
    links: Range<usize>,
    scales: Range<usize>,
    sums: Range<usize>,
    starts: Range<usize>,
    digests: Range<usize>,
    keys: Range<usize>,
    rows: Range<usize>,
}

impl Layout {
    /// `None`: there are not so many bytes in the world.
    fn new(dimensions: usize, vectors: usize, nodes: usize) -> Option<Layout> {
        let mut end = HEADER_BYTES;
        let mut part = |values: usize, of: usize| {
            let from = end.checked_next_multiple_of(ALIGN)?;
            end = from.checked_add(values.checked_mul(of)?)?;
            Some(from..end)
        };
        Some(Layout {
            blocks: part(nodes, dimensions.div_ceil(BLOCK) * size_of::<Block>())?,
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

impl Files {
    /// The directory, made if there is none, and the segments in it, newest first. Removes what is damaged, what is not
    /// finished, and what has another number of dimensions; says so.
    pub(super) fn open(storage: SegmentStorage, dimensions: usize) -> io::Result<(Files, Vec<Stored>)> {
        let directory = &storage.directory;
        make_directory(directory)?;
        if !files::is_directory(directory) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link, or no directory"));
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
                    tracing::warn!(path = %path.display(), %error, "a part of the index is built anew");
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
            // Whoever did that meanwhile may have found the directory not empty.
            self.discard();
        }
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        read(&path, self.dimensions)
    }

    /// Deletes the directory, as far as nobody reads from it, and writes nothing more there.
    pub(super) fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
        let _ = fs::remove_dir_all(&self.storage.directory);
    }

    /// What an earlier process learned here.
    pub(super) fn learned(&self) -> Option<Learned> {
        Learned::read(&self.storage.directory)
    }

    /// Keeps what was learned. That it cannot be kept costs another process what it takes to learn it.
    pub(super) fn save_learned(&self, learned: Learned) {
        if self.are_discarded() || !(self.storage.has_room)(size_of::<Learned>() as u64) {
            return;
        }
        if let Err(error) = learned.write(&self.storage.directory)
            && !self.are_discarded()
        {
            tracing::debug!(%error, "what was learned of searches is not kept");
        }
    }

    /// Whether it was discarded.
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
    let sections: [&[u8]; 7] = [
        bytemuck::cast_slice(blocks),
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

/// Vectors tell what their texts are about: directories and files are their user's alone.
fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

fn checksum(counts: &[u64; 5], sections: [&[u8]; 7]) -> u32 {
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

/// What is wrong with a file.
fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads a file, all but its rows, and checks it.
fn read(path: &Path, dimensions: usize) -> io::Result<Stored> {
    let file = Arc::new(Mapping::of(&files::open_to_read(path)?)?);
    let header = file.get(..HEADER_BYTES).ok_or_else(|| damaged("it is shorter than its header"))?;
    let header: &[u64] = bytemuck::cast_slice(header);
    let [magic, of_dimensions, vectors, nodes, entries, checksum_of_file, ..] = *header else {
        return Err(damaged("it is shorter than its header"));
    };
    if magic != MAGIC {
        return Err(damaged("it is no segment that this version reads"));
    }
    if of_dimensions != dimensions as u64 {
        return Err(damaged("its vectors have another number of dimensions"));
    }
    let layout = Layout::new(dimensions, vectors as usize, nodes as usize);
    let layout = layout.filter(|layout| layout.rows.end == file.len());
    let layout = layout.ok_or_else(|| damaged("its length is not what its header says"))?;
    let ranges =
        [&layout.blocks, &layout.links, &layout.scales, &layout.sums, &layout.starts, &layout.digests, &layout.keys];
    let counts = [magic, of_dimensions, vectors, nodes, entries];
    if u64::from(checksum(&counts, ranges.map(|range| &file[range.clone()]))) != checksum_of_file {
        return Err(damaged("its checksum is wrong"));
    }
    let starts: Column<u32> = column(&file, &layout.starts);
    let digests: Column<[u32; 2]> = column(&file, &layout.digests);
    let lists: Column<[u32; DEGREE]> = column(&file, &layout.links);
    // A program that wrote nonsense with its checksum must not lead a walk astray.
    let is_node = |node: u32| u64::from(node) < nodes;
    let is_sound = entries <= nodes
        && vectors <= u64::from(u32::MAX)
        && starts.is_sorted()
        && starts.first() == Some(&0)
        && starts.last().map(|&last| u64::from(last)) == Some(vectors)
        && digests.iter().all(|&[_, node]| is_node(node))
        && lists.iter().flatten().all(|&target| target == NONE || is_node(target));
    if !is_sound {
        return Err(damaged("its links lead nowhere"));
    }
    let codes = Codes::of_parts(
        dimensions,
        column(&file, &layout.blocks),
        column(&file, &layout.scales),
        column(&file, &layout.sums),
    );
    let graph = Graph::of_parts(codes, Links::of_lists(lists), entries as usize);
    Ok(Stored {
        parts: SegmentParts { graph, starts, digests },
        keys: column(&file, &layout.keys),
        rows: Arc::new(StoredRows::new(file, path.to_owned(), layout.rows.start, dimensions)),
    })
}

/// The bytes of a file with the checksum that they should have; `None`: no checksum makes them a file.
pub(super) fn with_its_checksum(mut bytes: Vec<u8>, dimensions: usize) -> Option<Vec<u8>> {
    let word = |n: usize| Some(u64::from_ne_bytes(bytes.get(8 * n..8 * n + 8)?.try_into().ok()?));
    let counts = [MAGIC, dimensions as u64, word(2)?, word(3)?, word(4)?];
    let layout = Layout::new(dimensions, usize::try_from(counts[2]).ok()?, usize::try_from(counts[3]).ok()?)?;
    let ranges =
        [&layout.blocks, &layout.links, &layout.scales, &layout.sums, &layout.starts, &layout.digests, &layout.keys];
    if layout.rows.end != bytes.len() {
        return None;
    }
    let checksum = checksum(&counts, ranges.map(|range| &bytes[range.clone()]));
    for (n, number) in counts.into_iter().chain([u64::from(checksum)]).enumerate() {
        bytes[8 * n..8 * n + 8].copy_from_slice(&number.to_ne_bytes());
    }
    Some(bytes)
}

/// A file of vectors that are all zero, without links between them.
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
