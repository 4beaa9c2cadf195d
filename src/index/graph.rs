//! The HNSW graph (Malkov and Yashunin, 2016) of `hnsw_rs`, with its traps made unreachable. The only
//! file that knows that crate.
//!
//! - Points of the crate are handles, one `u32` each, into rows that are shared with the rest of the
//!   index; a query is its own f32s taken as `u32`s. `Index` makes no graph of
//!   vectors with fewer than two dimensions, so the lengths tell them apart.
//! - The crate panics on distances that are NaN or negative: [`RowDistance`] makes neither.
//! - It knows no removal: removed rows stay as stepping stones until the graph is built anew.
//! - Inserting next to searches may deadlock, by reading: [`SharedGraph`] has one lock around it all,
//!   and one point is linked per hold.
//! - Rows that are the same but for rounding would fill each other's lists of links and bar the way to
//!   the rest: they are one point here, and a point has as many slots as it needs.
//! - A point's link to a newer one is dropped for nearer ones whatever becomes of the newer, so some
//!   points end without a way to them: see `audit`. Those, and points newer than the last audit, are
//!   compared with each query.
//!
//! The crate draws levels from a generator with a fixed seed, and only one thread links: the same rows
//! in the same order make the same graph.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use hnsw_rs::prelude::{Distance, Hnsw};

use super::audit::{self, Links};
use super::options::Options;
use super::rows::Slot;
use super::scan::{Neighbour, cosine};

/// Layers the crate allows; the generator of levels hardly ever gets beyond 6.
const MAX_LAYERS: usize = 16;

/// Rows with at least this cosine are one point: ten times what rounding in f32 makes of equal vectors,
/// and so near that a walk to the one has found the other.
const TWIN_COSINE: f32 = 1.0 - 1e-6;

/// Rows by handle: appended by the one linking thread, read without a lock. Block `b` holds
/// `FIRST_BLOCK << b` rows, so that nothing moves when it grows.
struct RowTable {
    blocks: [OnceLock<Block>; 32],
}

type Block = Box<[OnceLock<Arc<[f32]>>]>;

const FIRST_BLOCK: usize = 1024;

impl RowTable {
    fn new() -> RowTable {
        RowTable { blocks: [const { OnceLock::new() }; 32] }
    }

    /// Block and position in it.
    fn locate(handle: u32) -> (usize, usize) {
        let n = handle as usize + FIRST_BLOCK;
        let block = (n / FIRST_BLOCK).ilog2() as usize;
        (block, n - (FIRST_BLOCK << block))
    }

    fn set(&self, handle: u32, row: Arc<[f32]>) {
        let (block, at) = Self::locate(handle);
        let block = self.blocks[block].get_or_init(|| (0..FIRST_BLOCK << block).map(|_| OnceLock::new()).collect());
        block[at].set(row).expect("each handle is given out once");
    }

    fn get(&self, handle: u32) -> &Arc<[f32]> {
        let (block, at) = Self::locate(handle);
        let row = self.blocks[block].get().and_then(|block| block[at].get());
        row.expect("a handle is given out after its row is set")
    }
}

/// `1 - cosine` of unit vectors: 0 to 2, never NaN, never negative.
struct RowDistance {
    rows: RowTable,
}

impl RowDistance {
    fn resolve<'a>(&'a self, point: &'a [u32]) -> &'a [f32] {
        match point {
            [handle] => self.rows.get(*handle),
            query => bytemuck::cast_slice(query),
        }
    }
}

impl Distance<u32> for RowDistance {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        // `cosine` is at most 1; `max` makes a NaN 0.
        (1.0 - cosine(self.resolve(a), self.resolve(b))).max(0.0)
    }
}

struct Twin {
    slot: Slot,
    row: Arc<[f32]>,
}

pub(super) struct Graph {
    hnsw: Hnsw<'static, u32, RowDistance>,
    /// By handle: the first slot that has the row.
    slots: Vec<Slot>,
    /// By handle: further slots with as good as the same row.
    twins: HashMap<u32, Vec<Twin>>,
    /// Number of slots in `twins`.
    twin_slots: usize,
    /// Digest of a row to its handle. Of two points with one digest the first is kept.
    by_digest: HashMap<u64, u32>,
    /// Handles that walks may miss, as of the last audit.
    weak: Vec<u32>,
    /// Handles below were seen by the last audit.
    audited: usize,
    /// Links in the lowest layer, as of the last audit.
    links: usize,
}

impl Graph {
    pub(super) fn new(options: &Options, expected: usize) -> Graph {
        let connections = options.max_connections.clamp(2, 128);
        let distance = RowDistance { rows: RowTable::new() };
        Graph {
            hnsw: Hnsw::new(connections, expected, MAX_LAYERS, options.ef_construction.max(1), distance),
            slots: Vec::with_capacity(expected),
            twins: HashMap::new(),
            twin_slots: 0,
            by_digest: HashMap::with_capacity(expected),
            weak: Vec::new(),
            audited: 0,
            links: 0,
        }
    }

    /// Adds a slot and its row.
    pub(super) fn link(&mut self, slot: Slot, row: Arc<[f32]>) {
        let digest = digest(&row);
        if let Some(&handle) = self.by_digest.get(&digest)
            && cosine(self.row(handle), &row) >= TWIN_COSINE
        {
            self.twins.entry(handle).or_default().push(Twin { slot, row });
            self.twin_slots += 1;
            return;
        }
        let handle = u32::try_from(self.slots.len()).expect("four billion rows do not fit into memory");
        self.hnsw.get_distance().rows.set(handle, row);
        self.slots.push(slot);
        self.by_digest.entry(digest).or_insert(handle);
        self.hnsw.insert((&[handle], handle as usize));
    }

    /// The slots found by a walk that keeps `ef` points, with those of the point that has the query's own
    /// vector, if any, and of all points that walks may miss:
    /// each slot once, removed ones among them. `None` if the walk ended early, on an island of points
    /// that have no links to others.
    fn search(&self, query: &[f32], ef: usize) -> Option<Vec<Neighbour>> {
        if self.slots.is_empty() {
            return None;
        }
        let walked = self.hnsw.search(bytemuck::cast_slice(query), ef, ef);
        let mut handles: Vec<u32> = walked.into_iter().map(|point| point.d_id as u32).collect();
        if handles.len() < ef.min(self.slots.len()) {
            return None;
        }
        // A walk may end beside a point that is well linked: of 25,000 vectors of MiniLM 20 did not find
        // themselves. Whoever asks with a vector that is stored gets it.
        handles.extend(self.by_digest.get(&digest(query)));
        handles.extend(&self.weak);
        handles.extend(self.audited as u32..self.slots.len() as u32);
        handles.sort_unstable();
        handles.dedup();
        let mut hits = Vec::with_capacity(handles.len());
        for handle in handles {
            let score = cosine(query, self.row(handle));
            hits.push(Neighbour { slot: self.slots[handle as usize], score });
            for twin in self.twins.get(&handle).into_iter().flatten() {
                hits.push(Neighbour { slot: twin.slot, score: cosine(query, &twin.row) });
            }
        }
        Some(hits)
    }

    /// Looks for the points that walks may miss. Does not change what the graph answers from.
    fn audit(&self) -> Audit {
        let mut links = Links::with_capacity(self.slots.len(), self.links);
        let points = self.hnsw.get_point_indexation();
        let top = points.get_max_level_observed();
        let mut lists: Vec<Vec<u32>> = vec![Vec::new(); self.slots.len()];
        for layer in 0..=top {
            for point in points.get_layer_iterator(layer as usize) {
                let lowest = &point.get_neighborhood_id()[0];
                lists[point.get_origin_id()] = lowest.iter().map(|n| n.d_id as u32).collect();
            }
        }
        lists.into_iter().for_each(|list| links.push(list));
        // The crate enters at the first point that reached the highest layer.
        let entry = points.get_layer_iterator(top as usize).next().map(|point| point.get_origin_id() as u32);
        Audit { weak: audit::weak_points(&links, entry), audited: self.slots.len(), links: links.count() }
    }

    fn apply(&mut self, audit: Audit) {
        (self.weak, self.audited, self.links) = (audit.weak, audit.audited, audit.links);
    }

    pub(super) fn size(&self) -> Size {
        let points = self.slots.len();
        Size {
            slots: points + self.twin_slots,
            points,
            unaudited: points - self.audited,
            weak: self.weak.len(),
            links: self.links,
        }
    }

    fn row(&self, handle: u32) -> &Arc<[f32]> {
        self.hnsw.get_distance().rows.get(handle)
    }
}

struct Audit {
    weak: Vec<u32>,
    audited: usize,
    links: usize,
}

/// Equal for rows that are the same but for rounding, unless a component lies at a border of cells.
fn digest(row: &[f32]) -> u64 {
    /// Cells to 1: a rounding error of 1e-7 crosses a border in one of 10,000 components.
    const CELLS: f32 = 1024.0;
    let mut hasher = DefaultHasher::new();
    row.iter().for_each(|x| hasher.write_i16((x * CELLS).round() as i16));
    hasher.finish()
}

/// How large a graph is, and how far its audit lies back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Slots, those of twins and removed ones included.
    pub(super) slots: usize,
    pub(super) points: usize,
    /// Points linked since the last audit.
    pub(super) unaudited: usize,
    /// Points that walks may miss, as of the last audit.
    pub(super) weak: usize,
    /// Links in the lowest layer, as of the last audit.
    pub(super) links: usize,
}

impl Size {
    /// Memory of the graph without its rows, an estimate that agrees with what a process grows by. For a
    /// point: itself 64, handle 16, lock 48, 16 lists of 24, a list of up to 32 links of 8 with room to
    /// double, our tables 80, the allocator's share. For a link: 32 and the allocator's 16.
    pub(super) fn bytes(&self) -> usize {
        self.points * 1_200 + self.links * 48
    }
}

/// A graph that one thread changes while others search it.
pub(super) struct SharedGraph {
    graph: RwLock<Graph>,
    /// Searches that want the lock.
    waiting: AtomicUsize,
}

impl SharedGraph {
    pub(super) fn new(graph: Graph) -> SharedGraph {
        SharedGraph { graph: RwLock::new(graph), waiting: AtomicUsize::new(0) }
    }

    /// As [`Graph::search`].
    pub(super) fn search(&self, query: &[f32], ef: usize) -> Option<Vec<Neighbour>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let graph = self.read();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        graph.search(query, ef)
    }

    /// Links one slot; searches wait for so long (about 1 ms among 100,000 vectors).
    ///
    /// std's lock lets a waiting writer go before new readers, so searches cannot starve linking. The
    /// other way round it needs help: whoever asks again at once gets the lock before those who sleep
    /// for it. So searches that wait are let through first.
    pub(super) fn link(&self, slot: Slot, row: Arc<[f32]>) -> Size {
        let size = {
            let mut graph = self.graph.write().unwrap_or_else(PoisonError::into_inner);
            graph.link(slot, row);
            graph.size()
        };
        // Woken threads need microseconds, or their turn on a busy CPU; the limit is for the case that new
        // ones keep coming.
        let patience = Instant::now() + Duration::from_millis(3);
        while self.waiting.load(Ordering::Relaxed) > 0 && Instant::now() < patience {
            std::thread::yield_now();
        }
        size
    }

    /// Looks for points that walks may miss, while searches go on. Only the thread that links may call it.
    pub(super) fn audit(&self) -> Size {
        let audit = self.read().audit();
        let mut graph = self.graph.write().unwrap_or_else(PoisonError::into_inner);
        graph.apply(audit);
        graph.size()
    }

    pub(super) fn size(&self) -> Size {
        self.read().size()
    }

    fn read(&self) -> RwLockReadGuard<'_, Graph> {
        // A panic in the crate would leave at worst a point without links: searches can go on.
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }
}
