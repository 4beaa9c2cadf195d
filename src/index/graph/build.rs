//! The coarse graph: `hnsw_rs` (Malkov and Yashunin, 2016) as a builder only. The only file that knows that crate.
//!
//! - A point of the crate is a handle, one `u32`: a row of [`Codes`].
//! - It panics on distances that are NaN or negative: [`CodeDistance`] makes neither.
//! - It wants 16 layers, and inserting next to searches may deadlock: nothing searches here.
//! - Equal rows would fill each other's lists and bar the way to the rest: rows are distinct, see `duplicates`.
//! - It leaves points without a link to them, and prunes by distance alone: see `repair`.
//!
//! One thread inserts, so that the same rows make the same graph each time.

use std::sync::Arc;

use hnsw_rs::prelude::{Distance, Hnsw};

use super::codes::Codes;
use super::links::{DEGREE, Links};

/// Layers the crate wants.
const MAX_LAYERS: usize = 16;
/// Links in the upper layers; twice as many in the lowest.
const M: usize = DEGREE / 2;

/// `1 - estimated cosine`: 0 to about 2, never NaN, never negative.
struct CodeDistance(Arc<Codes>);

impl Distance<u32> for CodeDistance {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        (1.0 - self.0.similarity(a[0], b[0])).max(0.0)
    }
}

/// A graph in the making.
pub struct Builder {
    hnsw: Hnsw<'static, u32, CodeDistance>,
    rows: usize,
    inserted: usize,
}

/// What the builder leaves.
pub struct Coarse {
    /// Links of the lowest layer, by row.
    pub links: Links,
    /// Rows of the highest layers, highest first: where walks may begin.
    pub tops: Vec<u32>,
}

impl Builder {
    /// A builder for all rows of `codes`. Higher `ef_construction`: better graph, linear cost.
    pub fn new(codes: Arc<Codes>, ef_construction: usize) -> Builder {
        let rows = codes.len();
        let hnsw = Hnsw::new(M, rows.max(1), MAX_LAYERS, ef_construction.max(1), CodeDistance(codes));
        Builder { hnsw, rows, inserted: 0 }
    }

    /// Inserts up to `count` more rows; whether there are more. About 0.1 ms each.
    pub fn insert_some(&mut self, count: usize) -> bool {
        for row in self.inserted..self.rows.min(self.inserted + count) {
            self.hnsw.insert_slice((&[row as u32], row));
            self.inserted = row + 1;
        }
        self.inserted < self.rows
    }

    /// The links, and `tops` rows to begin at.
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
