//! DOCUMENTS ON OPENSEARCH: collections that a search engine of one node or many stores and searches, instead of this
//! process.
//!
//! A [`Store`] has the operations of the local one, on whole calls and async. The engine decides where documents are
//! and finds candidates; scores, fusion, groups and diversity are computed here, by the rules of the local store. So a
//! call has the same answer from both, and docs/scale-out.md says where it has not.
//!
//! Invariants: what is acknowledged is in the log of every copy, and every search finds it. Any number of servers may
//! use one engine: no state is kept here but connections, and what indices say of their collections, for a second. All
//! that waits, is in flight or was found has a bound.
//!
//! | file | |
//! |---|---|
//! | `store`, `describe` | collections by name, and their figures |
//! | `version`, `health` | the check of the engine at the start, and its state |
//! | `collection` | one of them, with what its index says of it |
//! | `mapping`, `tokens`, `document` | names and mapping of an index; metadata as tokens; documents as JSON |
//! | `query` | filters and searches in the language of the engine |
//! | `writer`, `change` | the queue of changes, one request for all that wait; commits, patches, removals |
//! | `reader`, `export` | documents by id, in pages, and of one moment |
//! | `search`, `rounds`, `ranking`, `words` | searches: requests, rounds, scores, and weights of words |
//! | `facets` | values of fields |
//! | `engine`, `http`, `answer`, `refusal` | requests and answers: the only door to HTTP |
//! | `fuzz` | answers of any shape |

mod answer;
mod change;
mod collection;
mod describe;
mod document;
mod engine;
mod error;
mod export;
mod facets;
pub(crate) mod fuzz;
mod health;
mod http;
mod mapping;
mod options;
mod query;
mod ranking;
mod reader;
mod refusal;
mod rounds;
mod search;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod version;
mod words;
mod writer;

pub use collection::Collection;
pub use error::{Error, NotStored, StartError, Unavailable};
pub use export::Export;
pub use options::Options;
pub use store::Store;
