//! The coarse graph of a sample of the rows, built by `hnsw_rs` (Malkov and Yashunin, 2016). Only this file uses that
//! crate, and only to build.
//!
//! - A point of the crate is one `u32`: a row of [`Codes`].
//! - It panics on distances that are NaN or negative: [`CodeDistance`] returns neither.
//! - It needs 16 layers, and an insert beside a search may deadlock: nothing searches here.
//! - Equal rows would fill each other's lists and block the path to other rows: rows are distinct, see `duplicates`.
//! - It leaves points unreachable, and prunes by distance alone: see `connect` and `repair`.
//!
//! One thread inserts, so that the same rows give the same graph each time. The sample is small, because `repair` links
//! all rows on all threads.

use std::sync::Arc;

use hnsw_rs::prelude::{Distance, Hnsw};

use super::codes::Codes;
use super::connect::connect;
use super::links::{DEGREE, Links};

/// The number of layers that the crate needs.
const MAX_LAYERS: usize = 16;
/// M of the paper: links of a node in the upper layers; twice this number in layer 0.
const M: usize = DEGREE / 2;

/// The distance `1 - estimated cosine`: 0 to about 2, never NaN, never negative.
struct CodeDistance(Arc<Codes>);

impl Distance<u32> for CodeDistance {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        (1.0 - self.0.similarity(a[0], b[0])).max(0.0)
    }
}

/// A graph that is being built.
pub struct Builder {
    codes: Arc<Codes>,
    hnsw: Hnsw<'static, u32, CodeDistance>,
    /// One in this many rows is in the graph.
    one_of: usize,
    /// The next row that is inserted.
    next: usize,
}

/// The result of the builder.
pub struct Coarse {
    /// The links of layer 0, by row. Rows outside the sample have none. A path leads from the first of `tops` to each
    /// row of the sample.
    pub links: Links,
    /// Entry points: rows of the highest layers, highest first.
    pub tops: Vec<u32>,
}

impl Builder {
    /// A builder for one in `one_of` rows of `codes`. Higher `ef_construction`: better graph, linear cost.
    pub fn new(codes: Arc<Codes>, one_of: usize, ef_construction: usize) -> Builder {
        let sample = codes.len().div_ceil(one_of).max(1);
        let hnsw = Hnsw::new(M, sample, MAX_LAYERS, ef_construction.max(1), CodeDistance(Arc::clone(&codes)));
        Builder { codes, hnsw, one_of, next: 0 }
    }

    /// Inserts up to `count` more rows, about 0.1 ms each; true if more are left.
    pub fn insert_some(&mut self, count: usize) -> bool {
        for row in self.sample().skip(self.next / self.one_of).take(count) {
            self.hnsw.insert_slice((&[row as u32], row));
            self.next = row + self.one_of;
        }
        self.next < self.codes.len()
    }

    /// The rows that are in the graph.
    fn sample(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.codes.len()).step_by(self.one_of)
    }

    /// The links, and up to `tops` entry points.
    pub fn finish(self, tops: usize) -> Coarse {
        let mut links = Links::new(self.codes.len());
        let points = self.hnsw.get_point_indexation();
        let mut highest = Vec::with_capacity(tops);
        let layers = if links.is_empty() { 0 } else { points.get_max_level_observed() as usize + 1 };
        for layer in (0..layers).rev() {
            for point in points.get_layer_iterator(layer) {
                let row = point.get_origin_id() as u32;
                if highest.len() < tops {
                    highest.push(row);
                }
                let lowest = &point.get_neighborhood_id()[0];
                lowest.iter().take(DEGREE).for_each(|link| {
                    links.push(row, link.d_id as u32);
                });
            }
        }
        if let Some(&root) = highest.first() {
            connect(&self.codes, &mut links, root, self.sample().map(|row| row as u32));
        }
        Coarse { links, tops: highest }
    }
}
