//! WHERE DOCUMENTS ARE: one interface over the stores that a server may keep its collections in.
//!
//! A [`Backend`] holds collections, and a [`Collection`] is a cheap handle of one. Their operations are whole calls:
//! all queries of a search, all documents of a chunk. So a store that is another process is asked once for each.
//!
//! ```text
//!   rpc ── question ──► backend ── Local ───────► collection, in the pools of compute
//!       ◄── then ─────          ── OpenSearch ──► opensearch, which waits for the engine
//! ```
//! A question is a closure that parses a part of the request, and `then` is one that makes something of the answer. The
//! local store runs both in the same piece of work as the operation itself, so that a call waits for one turn in one
//! pool. With an engine, `question` and `then` are computed in the pool, and only the engine is waited for between
//! them.
//!
//! Invariants: the local store is never used on an async thread, but for work that takes microseconds and for small
//! messages. This module knows nothing of messages, of callers' rights or of models.

mod collection;
mod error;
mod export;
mod reads;
mod search;
mod storage;
mod store;
mod writes;

pub use collection::Collection;
pub use error::Error;
pub use export::Export;
pub use reads::Page;
pub use search::{Query, Searches};
pub use storage::Storage;
pub use store::{Backend, Health, New};
pub use writes::{Chosen, Update};
