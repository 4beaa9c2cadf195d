//! The coarse graph, built by `hnsw_rs` (Malkov and Yashunin, 2016). Only this file uses that crate, and only to build.
//!
//! - A point of the crate is one `u32`: a row of [`Codes`].
//! - It panics on distances that are NaN or negative: [`CodeDistance`] returns neither.
//! - It needs 16 layers, and an insert beside a search may deadlock: nothing searches here.
//! - Equal rows would fill each other's lists and block the path to other rows: rows are distinct, see `duplicates`.
//! - It leaves points unreachable, and prunes by distance alone: see `repair`.
//!
//! One thread inserts, so that the same rows give the same graph each time.

use std::sync::Arc;

use hnsw_rs::prelude::{Distance, Hnsw};

use super::codes::Codes;
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
    hnsw: Hnsw<'static, u32, CodeDistance>,
    rows: usize,
    inserted: usize,
}

/// The result of the builder.
pub struct Coarse {
    /// The links of layer 0, by row.
    pub links: Links,
    /// Entry points: rows of the highest layers, highest first.
    pub tops: Vec<u32>,
}

impl Builder {
    /// A builder for all rows of `codes`. Higher `ef_construction`: better graph, linear cost.
    pub fn new(codes: Arc<Codes>, ef_construction: usize) -> Builder {
        let rows = codes.len();
        let hnsw = Hnsw::new(M, rows.max(1), MAX_LAYERS, ef_construction.max(1), CodeDistance(codes));
        Builder { hnsw, rows, inserted: 0 }
    }

    /// Inserts up to `count` more rows, about 0.1 ms each; true if more are left.
    pub fn insert_some(&mut self, count: usize) -> bool {
        for row in self.inserted..self.rows.min(self.inserted + count) {
            self.hnsw.insert_slice((&[row as u32], row));
            self.inserted = row + 1;
        }
        self.inserted < self.rows
    }

    /// The links, and up to `tops` entry points.
    pub fn finish(self, tops: usize) -> Coarse {
        let mut links = Links::new(self.rows);
        let points = self.hnsw.get_point_indexation();
        let mut highest = Vec::with_capacity(tops);
        let layers = if self.rows == 0 { 0 } else { points.get_max_level_observed() as usize + 1 };
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
        Coarse { links, tops: highest }
    }
}
