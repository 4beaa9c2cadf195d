//! A graph of vectors, from building to walking.
//!
//! ```text
//! vectors ─► codes, twins ─► build (hnsw_rs) ─► repair, connect ─► layout ─► frozen ─► walks
//! ```
//!
//! | file | |
//! |---|---|
//! | `column` | values in memory or in a mapped file |
//! | `codes` | vectors as bytes |
//! | `duplicates` | equal codes are one point |
//! | `build` | the coarse graph; the only file that knows `hnsw_rs` |
//! | `links` | lists of links in a flat array |
//! | `select` | which candidates become links |
//! | `repair` | better links, chosen by walks through the coarse graph |
//! | `connect` | no node out of reach |
//! | `layout` | the order of nodes in memory |
//! | `beam` | the best candidates of a walk |
//! | `searchable` | the finished graph and its search |
//! | `filtered` | its search for nodes that match |
//! | `crowd` | whether a walk may have missed much |

mod beam;
pub(super) mod build;
pub(super) mod codes;
pub(super) mod column;
mod connect;
pub(super) mod crowd;
pub(super) mod duplicates;
pub(super) mod filtered;
pub(super) mod layout;
pub(super) mod links;
pub(super) mod repair;
pub(super) mod searchable;
mod select;
#[cfg(test)]
mod tests;
