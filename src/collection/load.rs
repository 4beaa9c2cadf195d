//! From what is on disk to collections that answer.
//!
//! Every record is checked on the way. The graphs are taken from the files of the index where they hold the same vectors; what
//! is missing there is built in the background, and until then searches compare with all vectors.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::budget::{Exchange, Full, Usage};
use super::disk::{self, ReadError, Record, Snapshot, StoredCollection};
use super::document::{Content, DocId, Document};
use super::metadata::Metadata;
use super::single::Collection;
use crate::embedder::Embedding;

/// Documents that are put into the index together.
const BATCH: usize = 1_024;

/// Why a data directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error(transparent)]
    Disk(#[from] disk::OpenError),
    /// What is in it cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A document is not one that this program stores.
    #[error(
        "row {row} of collection {collection:?} is no document: {reason}. `cognate verify` lists all damage; restore a backup"
    )]
    Document {
        /// The collection.
        collection: String,
        /// Its number there.
        row: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There are more documents than may be.
    #[error("the documents on disk are more than a limit allows, {0}: raise it")]
    Full(Full),
}

/// Fills a collection that nobody sees yet.
pub(super) fn fill(collection: &Collection, stored: &StoredCollection, from: &Snapshot) -> Result<(), OpenError> {
    let mut waiting: Vec<(u64, Document)> = Vec::with_capacity(BATCH);
    let mut failed = None;
    from.read(stored.number, |row, record| {
        let added = document(&record)
            .map_err(|reason| OpenError::Document { collection: stored.name.clone(), row, reason })
            .and_then(|document| {
                waiting.push((row, document));
                if waiting.len() < BATCH { Ok(()) } else { add(collection, std::mem::take(&mut waiting)) }
            });
        match added {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => {
            add(collection, waiting)?;
            collection.loaded();
            Ok(())
        }
    }
}

fn add(collection: &Collection, documents: Vec<(u64, Document)>) -> Result<(), OpenError> {
    let added: Usage = documents.iter().map(|(_, d)| collection.cost(&d.id, &d.content)).sum();
    let exchange = Exchange { added, ..Exchange::default() };
    collection.exchange(exchange).map_err(OpenError::Full)?;
    let changed = documents.into_iter().map(|(row, d)| (row, d.id.clone(), Some(d))).collect();
    // What they take in the columns is known afterwards; the next batch finds that there is no room.
    collection.apply(&mut collection.write(), exchange, changed);
    Ok(())
}

fn document(record: &Record<'_>) -> Result<Document, &'static str> {
    let metadata = match record.metadata {
        Some(json) => Some(Metadata::from_json(json).ok_or("its metadata is no JSON object")?),
        None => None,
    };
    Ok(Document {
        id: DocId::new(record.id).ok_or("its id is empty")?,
        content: Arc::new(Content { text: record.text.into(), metadata }),
        embedding: Embedding::restored(record.vector.to_vec()).ok_or("its vector is not of length 1")?,
    })
}
