//! DOCUMENTS: ids, texts, metadata, the index that finds them, and the disk that stores them.
//!
//! A [`Store`] holds the collections of the process under common limits: on disk, from where they are loaded at start,
//! and in memory, where they are searched. The texts of a collection on disk are not in memory: they are read when hits
//! and documents are returned. A [`Collection`] joins an index of vectors with its documents.
//!
//! Invariants: a reader sees a document whole, in its old or its new state. When a commit returns, its documents
//! are on disk (if the store is) and searchable. A search waits for commits only while they swap pointers, and
//! never for disk or graph work. This module knows nothing of messages or of the model.

mod accounting;
mod backup;
mod backup_turns;
mod budget;
mod budgets;
mod changes;
mod collections;
mod columns;
mod commit_queue;
mod commits;
mod description;
pub mod disk;
mod distinct;
mod diversity;
mod document;
mod documents;
mod exports;
mod facets;
pub mod filter;
pub(crate) mod fuzz;
mod groups;
mod listing;
mod load;
mod maintenance;
mod maintenance_thread;
mod matching;
mod metadata;
mod migration;
mod open_exports;
mod options;
pub(crate) mod passages;
mod patch;
mod search;
mod single;
mod spread;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod text_cache;
mod texts;
mod unfound;
mod update;

pub use backup::{Backup, BackupError};
pub use budget::{Full, Limit, Quota, Usage};
pub(crate) use columns::facet::Tally;
pub use columns::facet::{Facet, FacetError, FacetField, Numbers};
#[cfg(test)]
pub(crate) use columns::tests::metadata as any_metadata;
pub use commit_queue::CommitError;
pub use description::Description;
pub use distinct::TooManyFields;
pub use diversity::Diversity;
pub use document::{Content, DocId, Document, Kept, Origin};
pub use exports::Export;
pub use facets::{FacetQuery, Facets};
pub use filter::Filter;
#[cfg(test)]
pub(crate) use filter::tests::filters as any_filter;
pub use groups::Groups;
pub use listing::{Listed, PageSize};
pub use load::OpenError;
pub use matching::Matching;
pub use metadata::Metadata;
pub use migration::{ClientVectors, Migration, MigrationError, MigrationState, Step, ToEmbed};
pub use open_exports::ExportError;
pub use options::Options;
pub use passages::{NotPassages, PassageSizes, Span, StoredVectors, Vectors};
pub(crate) use patch::Update;
pub use patch::{NotPatched, Patch, Updated};
pub(crate) use search::fusion::{FLOOR_RANK, Frame, Parts};
pub use search::fusion::{Fusion, Mode, Scores};
pub use search::{Asked, Chosen, Hit, Search};
pub(crate) use search::{best_first, diverse, merged};
pub use single::Collection;
pub use stats::Searches;
pub use store::{CollectionError, Model, NewName, Settings, Store};
pub use text_cache::TextCacheStats;
pub use texts::FetchError;
