//! The documents of an upload get their vectors: those of the client, or the model's.
//!
//! Invariant: a document that gets none is an error in its place, and the others of its chunk go on. A chunk that was
//! embedded for a collection which has moved to another model is embedded again.

use std::mem;
use std::sync::Arc;

use tonic::Status;

use super::super::status::Failure;
use super::super::{Engine, text_vectors};
use super::document::Checked;
use crate::backend::Collection;
use crate::budget::Held;
use crate::collection::{Document, Origin};
use crate::compute::Terms;
use crate::wire;

/// Consecutive documents of the stream.
pub struct Chunk {
    pub collection: Collection,
    pub items: Vec<Item>,
    pub terms: Terms,
    /// The memory of their message and of the vectors of their passages.
    pub held: HeldOfMessage,
}

/// One document of a chunk.
pub struct Item {
    /// Its position in the whole stream, from 0.
    pub position: u64,
    /// Its position in its message, from 0.
    pub index: usize,
    /// Its id as sent, or the beginning of it.
    pub id: String,
    pub state: Result<Checked, Failure>,
}

/// A chunk whose documents have vectors or errors.
pub struct Embedded {
    pub collection: Collection,
    pub received: usize,
    pub documents: Vec<Document>,
    /// The origin of each document.
    pub sent: Vec<Sent>,
    pub errors: Vec<wire::UploadError>,
    pub terms: Terms,
    /// The memory of their message and of these vectors.
    pub _held: HeldOfMessage,
}

/// The memory of a message, and of the vectors of its long texts.
pub type HeldOfMessage = Arc<[Held; 2]>;

/// The origin of a document in the stream, for messages about it.
pub struct Sent {
    pub position: u64,
    pub id: String,
    /// Its position in its message.
    pub index: usize,
    /// True if its vectors came with it.
    pub has_vectors: bool,
}

impl Sent {
    pub fn error(self, failure: &Failure) -> wire::UploadError {
        wire::UploadError { position: self.position, id: self.id, status: Some(failure.to_item()) }
    }
}

/// Computes the vectors of the documents that have none.
pub async fn embed(engine: &Engine, chunk: Chunk) -> Result<Embedded, Status> {
    let received = chunk.items.len();
    let texts = chunk
        .items
        .iter()
        .filter_map(|item| item.state.as_ref().ok())
        .filter(|checked| checked.vectors.is_none())
        .map(|checked| checked.content.text.to_string())
        .collect();
    let embedder = &engine.models.of_collection(&chunk.collection)?.embedder;
    let computed = text_vectors::compute(embedder, texts, chunk.collection.passages(), chunk.terms).await?;
    let mut computed = computed.into_iter();
    let (mut documents, mut sent, mut errors) = (Vec::with_capacity(received), Vec::new(), Vec::new());
    for item in chunk.items {
        let has_vectors = item.state.as_ref().is_ok_and(|checked| checked.vectors.is_some());
        let ready = item.state.and_then(|Checked { id, content, vectors }| {
            let vectors = match vectors {
                Some(given) => given,
                None => {
                    let embedded = computed.next().ok_or(Failure::Internal)?;
                    text_vectors::of_text(embedded, &content.text, || format!("documents[{}].text", item.index))?
                }
            };
            let origin = if has_vectors { Origin::Client } else { Origin::Model };
            Ok(Document { id, content: Arc::new(content), vectors, origin })
        });
        let here = Sent { position: item.position, id: item.id, index: item.index, has_vectors };
        match ready {
            Ok(document) => {
                documents.push(document);
                sent.push(here);
            }
            Err(failure) => errors.push(here.error(&failure)),
        }
    }
    let Chunk { collection, terms, held, .. } = chunk;
    Ok(Embedded { collection, received, documents, sent, errors, terms, _held: held })
}

/// Embeds the documents of a chunk again, for the collection that has the name now: a migration has put it in the place
/// of that of the chunk. Vectors that came with documents are of the former model, so these documents are refused.
pub async fn embed_again(engine: &Engine, chunk: &mut Embedded) -> Result<(), Failure> {
    let collection = engine.store.renewed(&chunk.collection).await?;
    let served = engine.models.of_collection(&collection)?;
    let (documents, sent) = (mem::take(&mut chunk.documents), mem::take(&mut chunk.sent));
    let mut texts = Vec::new();
    for (document, sent) in documents.into_iter().zip(sent) {
        if sent.has_vectors {
            let reason = format!(
                "is of the former model: the collection was switched to {} meanwhile; send the text, or a vector of \
                 that model",
                served.about.name
            );
            let failure = Failure::invalid(format!("documents[{}].vector", sent.index), reason);
            chunk.errors.push(sent.error(&failure));
        } else {
            texts.push((document, sent));
        }
    }
    let of_documents = texts.iter().map(|(document, _)| document.content.text.to_string()).collect();
    let computed = text_vectors::compute(&served.embedder, of_documents, collection.passages(), chunk.terms).await?;
    for ((document, sent), computed) in texts.into_iter().zip(computed) {
        let field = || format!("documents[{}].text", sent.index);
        match text_vectors::of_text(computed, &document.content.text, field) {
            Ok(vectors) => {
                chunk.documents.push(Document { vectors, ..document });
                chunk.sent.push(sent);
            }
            Err(failure) => chunk.errors.push(sent.error(&failure)),
        }
    }
    chunk.collection = collection;
    Ok(())
}
