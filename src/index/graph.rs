//! An HNSW-like graph of vectors: building it and searching it.
//!
//! ```text
//! vectors ─► codes, duplicates ─► build (hnsw_rs) ─► repair, connect, layout ─► searchable ─► walks
//! ```
//!
//! | file | |
//! |---|---|
//! | `column` | values in memory or in a mapped file |
//! | `quantise` | a vector as bytes |
//! | `codes` | rows of such bytes |
//! | `query` | the bytes of a query, and the error of its estimates |
//! | `sketches` | vectors as two bits for each component, which guide a walk |
//! | `guide` | the scores of a walk: by codes or by sketches |
//! | `duplicates` | vectors with equal codes share a node |
//! | `build` | the coarse graph of a sample; the only file that uses `hnsw_rs` |
//! | `links` | lists of links in a flat array |
//! | `select` | the choice of links among candidates |
//! | `repair` | links for all, chosen by walks through the graph as it is |
//! | `connect` | links to unreachable nodes |
//! | `layout` | the order of nodes in memory |
//! | `beam` | the best candidates of a walk |
//! | `bounds` | the bounds of a walk |
//! | `ending` | the end of a walk by sketches |
//! | `searchable` | the finished graph and its search |
//! | `filtered` | its search for nodes that match a filter |
//! | `crowd` | the test that a walk may have missed much |

mod beam;
pub(super) mod bounds;
pub(super) mod build;
pub(super) mod codes;
pub(super) mod column;
mod connect;
pub(super) mod crowd;
pub(super) mod duplicates;
mod ending;
pub(super) mod filtered;
mod guide;
pub(super) mod layout;
pub(super) mod links;
mod quantise;
pub(super) mod query;
pub(super) mod repair;
pub(super) mod searchable;
mod select;
pub(super) mod sketches;
#[cfg(test)]
mod tests;
