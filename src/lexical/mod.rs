//! WORDS → DOCUMENTS: a lexical index that ranks documents by BM25, behind one door to tantivy.
//!
//! It knows texts by a key, their terms and their scores; nothing of collections, vectors or the wire. A document has
//! a position, a number of the caller's: a search can be restricted to a set of positions.
//!
//! Guarantees: a search finds every document that was applied and has a term of the query, and none that was removed.
//! A score depends on the documents alone, not on their division into parts, their order, or on removed documents. A
//! search sees one state of the index, from its beginning to its end.
//!
//! | file | |
//! |---|---|
//! | `options`, `language`, `analyzer` | the terms of a text |
//! | `index` | documents in and out; the states that searches take |
//! | `state`, `members` | the parts at one moment, and the documents of a part |
//! | `batch` | a small part in memory: the documents of a few commits |
//! | `segment`, `schema` | a large part: a tantivy index of one segment |
//! | `files`, `directory`, `restoring` | segments in files, and reading them at the next start |
//! | `query` | the best documents of a state, and the scores of given ones |
//! | `elsewhere` | terms and scores for words that another engine stores |
//! | `maintenance` | sealing and merging, in the background |

mod analyzer;
mod batch;
mod directory;
mod elsewhere;
mod files;
mod index;
mod language;
mod maintenance;
mod members;
mod options;
mod query;
mod restoring;
mod schema;
mod segment;
mod state;
#[cfg(test)]
mod tests;

pub use elsewhere::{Matched, TermReader, TermWeights, Totals, looked_up};
pub use files::Storage;
pub use index::{LexicalIndex, Prepared, Snapshot};
pub use language::Language;
pub use options::Options;
pub use query::{MOST_TERMS, Question, Scored, Scores};
