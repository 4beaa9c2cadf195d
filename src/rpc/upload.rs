//! `Upload`: stores documents from a stream in a collection.
//!
//! ```text
//! messages ── checked, cut into chunks ── embedded, CHUNKS_AHEAD at a time ── committed in order ── progress
//! ```
//!
//! Invariants: documents are committed in the order in which they were sent. `committed` counts a document only when it
//! is on disk and searches find it. The stream is read only when there is memory for the next message, so memory is
//! bounded and a fast client waits (backpressure). No work continues after the client has left.

use std::sync::Arc;

use futures::{Stream, StreamExt, future, stream};
use tonic::Status;

use super::answer::Answer;
use super::measure::MeasureError;
use super::request::{Received, Requests};
use super::status::{Failure, shown, shown_name};
use super::{Engine, Limits, Responses, commit, compute_if_large, parse, vector};
use crate::budget::Held;
use crate::collection::{Collection, Content, DocId, Document, Metadata};
use crate::compute::WhenFull;
use crate::embedder::InputType;
use crate::inference::Truncation;
use crate::kernel::embedding::Embedding;
use crate::wire;
use crate::wire::metadata;

/// Documents that are embedded, committed and reported together.
const CHUNK_DOCUMENTS: usize = 64;
/// A chunk with large texts ends sooner.
const CHUNK_TEXT_BYTES: usize = 256 * 1024;
/// Longest id that is reported in full: 64 of them, with their errors, stay far below the 4 MiB that clients read.
const MAX_SHOWN_ID_BYTES: usize = 16 * 1024;
/// Chunks that are processed at a time: enough texts of similar length for the scheduler to choose from.
const CHUNKS_AHEAD: usize = 16;

/// Consecutive documents of the stream.
struct Chunk {
    collection: Arc<Collection>,
    items: Vec<Item>,
    /// The memory of their message.
    held: Arc<Held>,
}

/// One document of a chunk.
struct Item {
    /// Its position in the whole stream, from 0.
    position: u64,
    /// Its position in its message, from 0.
    index: usize,
    /// Its id as sent, or the beginning of it.
    id: String,
    state: Result<Checked, Failure>,
}

/// A document whose fields are valid.
pub(super) struct Checked {
    id: DocId,
    content: Content,
    /// The client's vector; `None` if it must be computed.
    embedding: Option<Embedding>,
}

/// A chunk whose documents have vectors or errors.
struct Embedded {
    collection: Arc<Collection>,
    received: usize,
    documents: Vec<Document>,
    /// The origin of each document.
    sent: Vec<Sent>,
    errors: Vec<wire::UploadError>,
    /// The memory of their message.
    _held: Arc<Held>,
}

/// The origin of a document in the stream, for messages about it.
struct Sent {
    position: u64,
    id: String,
}

impl Sent {
    fn error(self, failure: &Failure) -> wire::UploadError {
        wire::UploadError { position: self.position, id: self.id, status: Some(failure.to_item()) }
    }
}

pub fn upload(engine: Arc<Engine>, requests: Requests<wire::UploadRequest>) -> Responses<Answer> {
    let embed = move |chunk: Result<Chunk, Status>, engine: Arc<Engine>| match chunk {
        Ok(chunk) => future::Either::Left(async move { embed(&engine, chunk).await }),
        Err(status) => future::Either::Right(future::ready(Err(status))),
    };
    let ahead = Arc::clone(&engine);
    let embedded =
        chunks(Arc::clone(&engine), requests).map(move |chunk| embed(chunk, Arc::clone(&ahead))).buffered(CHUNKS_AHEAD);
    let limits = engine.limits.clone();
    Box::pin(progress(engine, embedded).map(move |progress| Ok(Answer::of(&progress?, &limits)?)))
}

/// Reads messages one by one and splits them into chunks. Ends after its first error.
fn chunks(
    engine: Arc<Engine>,
    requests: Requests<wire::UploadRequest>,
) -> impl Stream<Item = Result<Chunk, Status>> + Send {
    struct Reader {
        requests: Requests<wire::UploadRequest>,
        collection: Option<Arc<Collection>>,
        position: u64,
        ended: bool,
    }
    let reader = Reader { requests, collection: None, position: 0, ended: false };
    stream::unfold((reader, engine), |(mut reader, engine)| async move {
        if reader.ended {
            return None;
        }
        let Received { message, bytes, held, .. } = match reader.requests.next().await {
            Some(Ok(Ok(received))) => received,
            None if reader.collection.is_some() => return None,
            None => {
                reader.ended = true;
                let failure = Failure::invalid("collection", "the stream ended before its first message");
                return Some((vec![Err(failure.into())], (reader, engine)));
            }
            Some(Ok(Err(too_many))) => {
                reader.ended = true;
                let failure = Failure::from(MeasureError::TooMany(too_many));
                return Some((vec![Err(failure.into())], (reader, engine)));
            }
            Some(Err(status)) => {
                reader.ended = true;
                return Some((vec![Err(status)], (reader, engine)));
            }
        };
        let found = collection(&engine, reader.collection.take(), &message.collection).await;
        let cut = match found {
            Ok(collection) => {
                let part =
                    MessageDocuments { first: reader.position, documents: message.documents, held: Arc::new(held) };
                reader.position += part.documents.len() as u64;
                reader.collection = Some(Arc::clone(&collection));
                let of_call = Arc::clone(&engine);
                let cut = move || cut(&of_call, &collection, part);
                compute_if_large(&engine, bytes, WhenFull::Wait, cut).await
            }
            Err(failure) => Err(failure),
        };
        let cut = match cut {
            Ok(chunks) => chunks.into_iter().map(Ok).collect(),
            Err(failure) => {
                reader.ended = true;
                vec![Err(failure.into())]
            }
        };
        Some((cut, (reader, engine)))
    })
    .flat_map(stream::iter)
}

/// Returns the collection of the stream: the first message names it, and later ones repeat the name or leave it out.
async fn collection(
    engine: &Arc<Engine>,
    current: Option<Arc<Collection>>,
    name: &str,
) -> Result<Arc<Collection>, Failure> {
    match current {
        Some(current) if name.is_empty() || name == current.name() => Ok(current),
        Some(current) => {
            let reason = format!(
                "the stream began with collection {}: send documents of other collections in another stream",
                shown(current.name())
            );
            Err(Failure::invalid("collection", reason))
        }
        None => {
            parse::collection_name("collection", name, &engine.limits)?;
            let (of_call, name) = (Arc::clone(engine), name.to_owned());
            commit(engine, move |_| {
                let made = of_call.store.get_or_create(&name, of_call.model());
                made.map_err(|error| Failure::collection(&name, error))
            })
            .await?
        }
    }
}

/// The documents of one message.
struct MessageDocuments {
    /// The position of the first one in the stream.
    first: u64,
    documents: Vec<wire::Document>,
    held: Arc<Held>,
}

fn cut(engine: &Engine, collection: &Arc<Collection>, part: MessageDocuments) -> Vec<Chunk> {
    let MessageDocuments { first, documents, held } = part;
    let new_chunk = || Chunk { collection: Arc::clone(collection), items: Vec::new(), held: Arc::clone(&held) };
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (new_chunk(), 0);
    for (n, document) in documents.into_iter().enumerate() {
        bytes += document.text.len();
        // Responses stay small even if refused ids are long.
        let is_long = document.id.len() > engine.limits.max_id_bytes.min(MAX_SHOWN_ID_BYTES);
        let id = if is_long { shown_name(&document.id) } else { document.id.clone() };
        let state = check(&engine.limits, engine.embedder.dimensions(), n, document);
        chunk.items.push(Item { position: first + n as u64, index: n, id, state });
        if chunk.items.len() == CHUNK_DOCUMENTS || bytes >= CHUNK_TEXT_BYTES {
            chunks.push(std::mem::replace(&mut chunk, new_chunk()));
            bytes = 0;
        }
    }
    if !chunk.items.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

pub(super) fn check(
    limits: &Limits,
    dimensions: usize,
    n: usize,
    document: wire::Document,
) -> Result<Checked, Failure> {
    let field = |name: &str| format!("documents[{n}].{name}");
    let id = parse::id(&field("id"), &document.id, limits)?;
    parse::text(&field("text"), &document.text, limits)?;
    let metadata = match &document.metadata {
        Some(given) => Some(check_metadata(&field("metadata"), given, limits.max_metadata_bytes)?),
        None => None,
    };
    let embedding = match &document.vector {
        Some(given) => Some(vector::read(&field("vector"), given, dimensions)?),
        None if document.text.is_empty() => {
            return Err(Failure::invalid(field("text"), "is empty: set text or vector"));
        }
        None => None,
    };
    Ok(Checked { id, content: Content { text: document.text.into(), metadata }, embedding })
}

fn check_metadata(field: &str, given: &prost_types::Struct, limit: usize) -> Result<Metadata, Failure> {
    let metadata = metadata::to_json(given).map_err(|error| Failure::invalid(field, error.to_string()))?;
    let metadata = Metadata::new(&metadata);
    let bytes = metadata.as_json().len();
    if bytes > limit {
        return Err(Failure::invalid(field, format!("{bytes} bytes as JSON exceed the limit of {limit}")));
    }
    Ok(metadata)
}

/// Computes the vectors of the documents that have none.
async fn embed(engine: &Engine, chunk: Chunk) -> Result<Embedded, Status> {
    let received = chunk.items.len();
    let texts = chunk
        .items
        .iter()
        .filter_map(|item| item.state.as_ref().ok())
        .filter(|checked| checked.embedding.is_none())
        .map(|checked| checked.content.text.to_string())
        .collect();
    let pooled = engine.embedder.embed(texts, InputType::Document, Truncation::End, WhenFull::Wait).await;
    let mut pooled = pooled.map_err(Failure::from)?.into_iter();
    let (mut documents, mut sent, mut errors) = (Vec::with_capacity(received), Vec::new(), Vec::new());
    for item in chunk.items {
        let ready = item.state.and_then(|Checked { id, content, embedding }| {
            let embedding = match embedding {
                Some(given) => given,
                None => {
                    let pooled = pooled.next().ok_or(Failure::Internal)?;
                    vector::of_text(pooled, || format!("documents[{}].text", item.index))?
                }
            };
            Ok(Document { id, content: Arc::new(content), embedding })
        });
        let here = Sent { position: item.position, id: item.id };
        match ready {
            Ok(document) => {
                documents.push(document);
                sent.push(here);
            }
            Err(failure) => errors.push(here.error(&failure)),
        }
    }
    Ok(Embedded { collection: chunk.collection, received, documents, sent, errors, _held: chunk.held })
}

/// Commits one chunk after the other, and reports the counts.
fn progress(
    engine: Arc<Engine>,
    chunks: impl Stream<Item = Result<Embedded, Status>> + Send + 'static,
) -> impl Stream<Item = Result<wire::UploadResponse, Status>> + Send {
    /// The counts until now, until the stream has ended.
    struct State<S> {
        engine: Arc<Engine>,
        chunks: S,
        received: u64,
        committed: u64,
        ended: bool,
    }
    let state = State { engine, chunks: Box::pin(chunks), received: 0, committed: 0, ended: false };
    stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let response = match state.chunks.next().await {
            Some(Ok(chunk)) => {
                state.received += chunk.received as u64;
                match store(&state.engine, chunk).await {
                    Ok((n, errors)) => {
                        state.committed += n;
                        Ok(wire::UploadResponse {
                            received: state.received,
                            committed: state.committed,
                            errors,
                            done: false,
                        })
                    }
                    Err(failure) => Err(failure.into()),
                }
            }
            Some(Err(status)) => Err(status),
            None => {
                state.ended = true;
                Ok(wire::UploadResponse {
                    received: state.received,
                    committed: state.committed,
                    errors: vec![],
                    done: true,
                })
            }
        };
        state.ended |= response.is_err();
        Some((response, state))
    })
}

/// Commits a chunk. Returns the number of stored documents, and the errors of the others, in order.
async fn store(engine: &Engine, chunk: Embedded) -> Result<(u64, Vec<wire::UploadError>), Failure> {
    let Embedded { collection, documents, sent, mut errors, .. } = chunk;
    if documents.is_empty() {
        return Ok((0, errors));
    }
    let (name, n) = (collection.name().to_owned(), documents.len());
    let stored = commit(engine, move |_| collection.commit(documents)).await?;
    let refused = stored.map_err(|error| Failure::commit(&name, error))?;
    let committed = (n - refused.len()) as u64;
    let mut refused = refused.into_iter().peekable();
    for (position, sent) in sent.into_iter().enumerate() {
        if let Some(error) = refused.next_if(|error| error.position == position) {
            errors.push(sent.error(&Failure::TooManyFields(error)));
        }
    }
    errors.sort_by_key(|error| error.position);
    Ok((committed, errors))
}
