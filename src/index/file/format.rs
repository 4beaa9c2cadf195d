//! The format of a segment's file: writing it, and reading it with all its checks.
//!
//! ```text
//! header: eight u64 ─► codes ─► sketches and their centre, or neither ─► links ─► scales ─► sums
//!         ─► starts ─► digests ─► keys ─► f32 rows
//! each section begins at a multiple of 64 bytes
//! ```
//! Numbers are in the byte order of the machine. A file of the other order has another magic number and is refused. The
//! checksum covers everything except the f32 rows, which are compared with the vectors that the caller inserts.

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;

use super::super::graph::codes::Codes;
use super::super::graph::column::Column;
use super::super::graph::links::{DEGREE, Links, NONE};
use super::super::graph::searchable::Graph;
use super::super::graph::sketches::Sketches;
use super::super::parts::{Member, SegmentParts};
use super::super::stored_rows::StoredRows;
use crate::kernel::dot_i8::{BLOCK, Block};
use crate::machine::files;
use crate::machine::mapping::Mapping;

/// "cognate" and the version of the format.
const MAGIC: u64 = u64::from_be_bytes(*b"cognate\x03");
/// The alignment of sections: a cache line, which [`Block`] also needs.
const ALIGN: usize = 64;
const HEADER_BYTES: usize = 64;
/// Sections that the checksum covers.
const SECTIONS: usize = 9;
/// Numbers of the header before the checksum: the magic number, dimensions, vectors, nodes, entry points, and 1 if the
/// file has sketches.
const COUNTS: usize = 6;

/// A segment in a file.
pub(in crate::index) struct Stored {
    pub(in crate::index) parts: SegmentParts,
    /// The caller's key of each vector.
    pub(in crate::index) keys: Column<u64>,
    pub(in crate::index) rows: Arc<StoredRows>,
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
    fn new(dimensions: usize, vectors: usize, nodes: usize, sketched: bool) -> Option<Layout> {
        let mut end = HEADER_BYTES;
        let mut part = |values: usize, of: usize| {
            let from = end.checked_next_multiple_of(ALIGN)?;
            end = from.checked_add(values.checked_mul(of)?)?;
            Some(from..end)
        };
        let sketched = usize::from(sketched);
        Some(Layout {
            blocks: part(nodes, dimensions.div_ceil(BLOCK) * size_of::<Block>())?,
            sketches: part(nodes, sketched * Sketches::blocks(dimensions) * size_of::<Block>())?,
            centre: part(dimensions, sketched * size_of::<f32>())?,
            links: part(nodes, size_of::<[u32; DEGREE]>())?,
            scales: part(nodes, size_of::<f32>())?,
            sums: part(nodes, size_of::<i32>())?,
            starts: part(nodes.checked_add(1)?, size_of::<u32>())?,
            digests: part(nodes, size_of::<[u32; 2]>())?,
            keys: part(vectors, size_of::<u64>())?,
            rows: part(vectors, dimensions * size_of::<f32>())?,
        })
    }

    /// The sections that the checksum covers.
    fn checked(&self) -> [&Range<usize>; SECTIONS] {
        let Layout { blocks, sketches, centre, links, scales, sums, starts, digests, keys, rows: _ } = self;
        [blocks, sketches, centre, links, scales, sums, starts, digests, keys]
    }
}

/// The bytes of a segment's file. `None` on overflow.
pub(super) fn length(dimensions: usize, parts: &SegmentParts, vectors: usize) -> Option<usize> {
    let sketched = !parts.graph.sketches().is_empty();
    Layout::new(dimensions, vectors, parts.graph.len(), sketched).map(|layout| layout.rows.end)
}

/// Writes a new file, and syncs it.
pub(super) fn write(path: &Path, dimensions: usize, parts: &SegmentParts, members: &[Member]) -> io::Result<()> {
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
    let (entries, sketched) = (parts.graph.entries(), u64::from(!sketches.is_empty()));
    let counts = [MAGIC, dimensions as u64, vectors as u64, nodes as u64, entries as u64, sketched];
    let mut header = [0u64; HEADER_BYTES / size_of::<u64>()];
    header[..COUNTS].copy_from_slice(&counts);
    header[COUNTS] = u64::from(checksum(&counts, sections));

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

fn checksum(counts: &[u64; COUNTS], sections: [&[u8]; SECTIONS]) -> u32 {
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
pub(super) fn read(path: &Path, dimensions: usize) -> io::Result<Stored> {
    let file = Arc::new(Mapping::open(path)?);
    let header = file.get(..HEADER_BYTES).ok_or_else(|| damaged("it is shorter than a header"))?;
    let header: &[u64] = bytemuck::cast_slice(header);
    let [magic, of_dimensions, vectors, nodes, entries, sketched, checksum_of_file, ..] = *header else {
        return Err(damaged("it is shorter than a header"));
    };
    if magic != MAGIC {
        return Err(damaged("it is not a segment of this version"));
    }
    if of_dimensions != dimensions as u64 {
        return Err(damaged("its vectors have another number of dimensions"));
    }
    let layout = Layout::new(dimensions, vectors as usize, nodes as usize, sketched != 0);
    let layout = layout.filter(|layout| layout.rows.end == file.len());
    let layout = layout.ok_or_else(|| damaged("its length differs from its header"))?;
    let ranges = layout.checked();
    let counts = [magic, of_dimensions, vectors, nodes, entries, sketched];
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
    let sketches = match sketched {
        0 => Sketches::none(),
        _ => Sketches::of_parts(&column::<f32>(&file, &layout.centre), column(&file, &layout.sketches)),
    };
    let graph = Graph::of_parts(codes, Links::of_lists(lists), entries as usize).with_sketches(sketches);
    Ok(Stored {
        parts: SegmentParts { graph, starts, digests },
        keys: column(&file, &layout.keys),
        rows: Arc::new(StoredRows::new(file, path.to_owned(), layout.rows.start, dimensions)),
    })
}

/// The bytes of a file with a corrected checksum. `None`: the length is wrong, and no checksum can make it valid.
pub(in crate::index) fn with_its_checksum(mut bytes: Vec<u8>, dimensions: usize) -> Option<Vec<u8>> {
    let word = |n: usize| Some(u64::from_ne_bytes(bytes.get(8 * n..8 * n + 8)?.try_into().ok()?));
    let counts = [MAGIC, dimensions as u64, word(2)?, word(3)?, word(4)?, word(5)?];
    let (vectors, nodes) = (usize::try_from(counts[2]).ok()?, usize::try_from(counts[3]).ok()?);
    let layout = Layout::new(dimensions, vectors, nodes, counts[5] != 0)?;
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
pub(in crate::index) fn nothing_stored(dimensions: usize, vectors: usize, sketched: bool) -> Vec<u8> {
    let layout = Layout::new(dimensions, vectors, vectors, sketched).expect("few vectors have a layout");
    let mut bytes = vec![0; layout.rows.end];
    bytes[layout.links].fill(0xff);
    for (n, start) in bytes[layout.starts].chunks_mut(4).enumerate() {
        start.copy_from_slice(&(n as u32).to_ne_bytes());
    }
    for (n, count) in [(2, vectors), (3, vectors), (4, vectors), (5, usize::from(sketched))] {
        bytes[8 * n..8 * n + 8].copy_from_slice(&(count as u64).to_ne_bytes());
    }
    with_its_checksum(bytes, dimensions).expect("it has the length of its layout")
}

fn column<T: Pod>(file: &Arc<Mapping>, range: &Range<usize>) -> Column<T> {
    Column::Mapped(Arc::clone(file), range.clone())
}
