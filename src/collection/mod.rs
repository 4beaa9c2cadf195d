//! DOCUMENTS: ids, texts, metadata, and the index that finds them.
//!
//! A [`Store`] holds the collections of the process in memory, under one bound on their bytes. A
//! [`Collection`] joins an index of vectors with the documents they belong to.
//!
//! Invariants: a reader sees a document whole, in its old or its new state, never both and never
//! half; what a commit returned is searchable; a search waits for no commit longer than it takes to
//! swap pointers, and for no graph work at all. Knows nothing of messages or of the model.

mod document;
mod filter;
mod gardener;
mod single;
mod store;

pub use document::{Content, DocId, Document};
pub use filter::{Bounds, Filter, Path};
pub use single::{Collection, CommitError, Found, Search};
pub use store::{CollectionError, Full, Model, Options, Store};
