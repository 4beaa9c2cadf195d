//! Loading: turns the records on disk into collections that answer.
//!
//! Every record is checked on the way. Graphs are taken from the index files where these hold the same vectors.
//! Missing parts are built in the background, and until then searches compare with all vectors. Words that the files
//! lack are read from the texts before the collection answers.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::budget::{Exchange, Full, Usage};
use super::commit_queue::After;
use super::disk::{self, ReadError, Record, Snapshot, StoredCollection};
use super::document::{Content, DocId, Document, Origin};
use super::metadata::Metadata;
use super::passages::{NotPassages, Vectors};
use super::single::{Changed, Collection};
use crate::kernel::embedding::Embedding;

/// Documents that are added to the index together.
const BATCH: usize = 1_024;

/// Fewer are added together if their texts have this many bytes, which are in memory until then.
const BATCH_BYTES: usize = 8 << 20;

/// Reasons why a data directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Disk(#[from] disk::OpenError),
    /// The files cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored document breaks a rule that this program checks before storing.
    #[error(
        "row {row} of collection {collection:?} is not a valid document: {reason}. \
         Run `cognate verify` to list all damage, and restore a backup"
    )]
    Document {
        /// Name of the collection.
        collection: String,
        /// Row number of the document.
        row: u64,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The stored documents exceed a limit.
    #[error("the stored documents exceed a limit ({0}): raise it")]
    Full(Full),
}

/// Fills a new collection that is not visible yet.
pub(super) fn fill(collection: &Collection, stored: &StoredCollection, from: &Snapshot) -> Result<(), OpenError> {
    let mut waiting: Vec<(u64, Document)> = Vec::with_capacity(BATCH);
    let mut bytes = 0;
    let mut failed = None;
    from.read(stored.number, |row, record| {
        let added = document(&record)
            .map_err(|reason| OpenError::Document { collection: stored.name.clone(), row, reason })
            .and_then(|document| {
                bytes += document.content.text.len();
                waiting.push((row, document));
                if waiting.len() < BATCH && bytes < BATCH_BYTES {
                    return Ok(());
                }
                bytes = 0;
                add(collection, std::mem::take(&mut waiting))
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
    let added: Usage = documents.iter().map(|(_, document)| collection.cost_of(document)).sum();
    let exchange = Exchange { added, ..Exchange::default() };
    collection.budgets.take_stored(added).map_err(OpenError::Full)?;
    let changed = |(row, document): (u64, Document)| {
        let id = document.id.clone();
        Changed { row, id, after: After::Stored(document) }
    };
    let changed: Vec<Changed> = documents.into_iter().map(changed).collect();
    let words = collection.read_words(&changed);
    // The bytes of columns and words are known only afterwards. If they exceed the limit, the next batch is refused.
    collection.apply(&mut collection.write(), exchange, changed, words);
    if let Some(lexical) = &collection.lexical {
        // Without its files all words are read again, and they must not pile up.
        lexical.join_batches();
        lexical.seal_if_large();
    }
    Ok(())
}

fn document(record: &Record<'_>) -> Result<Document, &'static str> {
    let metadata = match record.metadata {
        Some(json) => Some(Metadata::from_json(json).ok_or("its metadata is not a JSON object")?),
        None => None,
    };
    Ok(Document {
        id: DocId::new(record.id).ok_or("its id is empty")?,
        content: Arc::new(Content { text: record.text.into(), metadata }),
        vectors: vectors(record)?,
        // Records of earlier versions do not say it, but a model embeds no empty text.
        origin: if record.text.is_empty() { Origin::Client } else { record.origin },
    })
}

fn vectors(record: &Record<'_>) -> Result<Vectors, &'static str> {
    let restored = |values: &[f32]| Embedding::restored(values.to_vec()).ok_or("its vector is not of length 1");
    if record.spans.is_empty() {
        return restored(record.vectors).map(Vectors::Whole);
    }
    let each = record.vectors.chunks_exact(record.vectors.len() / record.spans.len());
    let passages = record.spans.iter().zip(each).map(|(span, values)| Ok((*span, restored(values)?)));
    Vectors::of_passages(record.text, passages.collect::<Result<_, &'static str>>()?)
        .map_err(|_: NotPassages| "its passages are not parts of its text")
}
