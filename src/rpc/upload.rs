//! `Upload`: stores documents from a stream in a collection.
//!
//! ```text
//! messages ── checked, cut into chunks ── embedded, CHUNKS_AHEAD at a time ── committed in order ── progress
//! ```
//!
//! Invariants: documents are committed in the order in which they were sent. `committed` counts a document only when it
//! is on disk and searches find it. The stream is read only when there is memory for the next message, so memory is
//! bounded and a fast client waits (backpressure). No work continues after the client has left.

pub(super) mod document;
mod embedding;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt, future, stream};
use tonic::Status;

use super::access::Access;
use super::answer::Answer;
use super::measure::MeasureError;
use super::migrations::Entered;
use super::request::{Received, Requests};
use super::status::{Failure, shown, shown_name};
use super::{Engine, Responses, compute_if_large, passages, text_vectors};
use crate::backend::Collection;
use crate::budget::Held;
use crate::collection::{Document, Settings};
use crate::compute::{Terms, WhenFull};
use crate::lexical;
use crate::wire;
use document::check;
use embedding::{Chunk, Embedded, HeldOfMessage, Item, embed, embed_again};

/// Documents that are embedded, committed and reported together.
const CHUNK_DOCUMENTS: usize = 64;
/// A chunk with large texts ends sooner.
const CHUNK_TEXT_BYTES: usize = 256 * 1024;
/// Longest id that is reported in full: 64 of them, with their errors, stay far below the 4 MiB that clients read.
const MAX_SHOWN_ID_BYTES: usize = 16 * 1024;
/// Chunks that are processed at a time: enough texts of similar length for the scheduler to choose from.
const CHUNKS_AHEAD: usize = 16;

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
        collection: Option<Collection>,
        position: u64,
        ended: bool,
    }
    let reader = Reader { requests, collection: None, position: 0, ended: false };
    stream::unfold((reader, engine), |(mut reader, engine)| async move {
        if reader.ended {
            return None;
        }
        let received = match reader.requests.next().await {
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
        let terms = received.terms_of_stream();
        let Received { message, bytes, held, access, .. } = received;
        let found = collection(&engine, &access, reader.collection.take(), &message.collection).await;
        let cut = match found {
            Ok(collection) => match hold_vectors(&engine, &collection, &message.documents).await {
                Ok(vectors) => {
                    let held = Arc::new([held, vectors]);
                    let part = MessageDocuments { first: reader.position, documents: message.documents, terms, held };
                    reader.position += part.documents.len() as u64;
                    reader.collection = Some(collection.clone());
                    let of_call = Arc::clone(&engine);
                    let cut = move || cut(&of_call, &collection, part);
                    compute_if_large(&engine, bytes, WhenFull::Wait, cut).await
                }
                Err(failure) => Err(failure),
            },
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
/// A new one is of the default model. Nothing is stored without the collection's model.
async fn collection(
    engine: &Engine,
    access: &Access,
    current: Option<Collection>,
    name: &str,
) -> Result<Collection, Failure> {
    match current {
        Some(current) if name.is_empty() || name == current.name() => match current.has_moved() {
            true => engine.store.renewed(&current).await,
            false => Ok(current),
        },
        Some(current) => {
            let reason = format!(
                "the stream began with collection {}: send documents of other collections in another stream",
                shown(current.name())
            );
            Err(Failure::invalid("collection", reason))
        }
        None => {
            let name = access.name("collection", name, &engine.limits)?;
            let model = engine.models.first();
            let settings = Settings {
                passages: Some(passages::default_sizes(&model.embedder)),
                lexical: Some(lexical::Options::default()),
            };
            let found = engine.store.get_or_create(&engine.pools.storage, &name, model.of_new(), settings).await?;
            engine.models.of_collection(&found)?;
            Ok(found)
        }
    }
}

/// The documents of one message.
struct MessageDocuments {
    /// The position of the first one in the stream.
    first: u64,
    documents: Vec<wire::Document>,
    terms: Terms,
    held: HeldOfMessage,
}

/// Holds the memory that the vectors of a message's long texts may take. It waits here, where the stream is read, so
/// that the messages before it can go on and give theirs back.
async fn hold_vectors(engine: &Engine, collection: &Collection, documents: &[wire::Document]) -> Result<Held, Failure> {
    let texts = documents.iter().filter(|document| document.vector.is_none() && document.passages.is_empty());
    let texts = texts.map(|document| &*document.text);
    let shape = (collection.passages(), collection.model().dimensions);
    text_vectors::hold_vectors(&engine.messages, texts, shape, 0).await
}

fn cut(engine: &Engine, collection: &Collection, part: MessageDocuments) -> Vec<Chunk> {
    let MessageDocuments { first, documents, terms, held } = part;
    let new_chunk = || Chunk { collection: collection.clone(), items: Vec::new(), terms, held: Arc::clone(&held) };
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (new_chunk(), 0);
    for (n, document) in documents.into_iter().enumerate() {
        bytes += document.text.len();
        // Responses stay small even if refused ids are long.
        let is_long = document.id.len() > engine.limits.max_id_bytes.min(MAX_SHOWN_ID_BYTES);
        let id = if is_long { shown_name(&document.id) } else { document.id.clone() };
        let state = check(&engine.limits, collection.model().dimensions, n, document);
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

/// Commits chunks in order, and reports the counts behind each.
fn progress(
    engine: Arc<Engine>,
    chunks: impl Stream<Item = Result<Embedded, Status>> + Send + 'static,
) -> impl Stream<Item = Result<wire::UploadResponse, Status>> + Send {
    /// The counts until now, until the stream has ended.
    struct State<S> {
        engine: Arc<Engine>,
        chunks: S,
        /// Responses to chunks that were committed together.
        responses: VecDeque<Result<wire::UploadResponse, Status>>,
        counts: Counts,
        ended: bool,
    }
    let (responses, counts) = (VecDeque::new(), Counts::default());
    let state = State { engine, chunks: Box::pin(chunks), responses, counts, ended: false };
    stream::unfold(state, |mut state| async move {
        if state.responses.is_empty() && !state.ended {
            let (group, end) = ready(&mut state.chunks).await;
            match store(&state.engine, group, &mut state.counts).await {
                Ok(responses) => {
                    state.responses.extend(responses.into_iter().map(Ok));
                    state.responses.extend(end.map(|end| end.map(|()| state.counts.response(vec![], true))));
                }
                Err(failure) => state.responses.push_back(Err(failure.into())),
            }
            state.ended = state.responses.back().is_none_or(|last| last.as_ref().map_or(true, |last| last.done));
        }
        Some((state.responses.pop_front()?, state))
    })
}

/// The counts of an upload.
#[derive(Default)]
struct Counts {
    received: u64,
    committed: u64,
}

impl Counts {
    fn response(&self, errors: Vec<wire::UploadError>, done: bool) -> wire::UploadResponse {
        wire::UploadResponse { received: self.received, committed: self.committed, errors, done }
    }
}

/// Waits for the next chunk. If the store takes several at once, those that are ready come with it. The second value is
/// the end of the stream, or what is wrong behind these chunks.
async fn ready<S>(chunks: &mut S) -> (Vec<Embedded>, Option<Result<(), Status>>)
where
    S: Stream<Item = Result<Embedded, Status>> + Unpin,
{
    let mut group: Vec<Embedded> = Vec::new();
    loop {
        let most = group.first().map_or(1, |first| first.collection.chunks_together(CHUNKS_AHEAD));
        let next = match group.len() {
            0 => Some(chunks.next().await),
            n if n < most => chunks.next().now_or_never(),
            _ => None,
        };
        match next {
            Some(Some(Ok(chunk))) => group.push(chunk),
            Some(Some(Err(status))) => return (group, Some(Err(status))),
            Some(None) => return (group, Some(Ok(()))),
            None => return (group, None),
        }
    }
}

/// Enters the collection of chunks. They are embedded for the model that it has then, and it keeps that until the
/// result is dropped.
async fn enter(engine: &Engine, group: &mut [Embedded]) -> Result<Option<Entered>, Failure> {
    let Some(first) = group.first() else { return Ok(None) };
    let name = first.collection.name().to_owned();
    loop {
        let entered = engine.migrations.enter(&name).await;
        let Some(moved) = group.iter_mut().find(|chunk| chunk.collection.has_moved()) else { return Ok(Some(entered)) };
        drop(entered);
        embed_again(engine, moved).await?;
    }
}

/// Commits chunks at once. Returns the response to each.
async fn store(
    engine: &Engine,
    mut group: Vec<Embedded>,
    counts: &mut Counts,
) -> Result<Vec<wire::UploadResponse>, Failure> {
    let _entered = enter(engine, &mut group).await?;
    let documents: Vec<Document> = match &mut group[..] {
        [one] => mem::take(&mut one.documents),
        several => several.iter_mut().flat_map(|chunk| mem::take(&mut chunk.documents)).collect(),
    };
    let mut refused = match group.first() {
        Some(first) if !documents.is_empty() => first.collection.commit(&engine.pools.storage, documents).await?,
        _ => Vec::new(),
    }
    .into_iter()
    .peekable();
    let mut begin = 0;
    let response = |chunk: Embedded| {
        let Embedded { received, sent, mut errors, .. } = chunk;
        let n = sent.len();
        counts.received += received as u64;
        counts.committed += n as u64;
        for (position, sent) in (begin..).zip(sent) {
            if let Some(error) = refused.next_if(|error| error.position == position) {
                counts.committed -= 1;
                errors.push(sent.error(&error.reason.into()));
            }
        }
        begin += n;
        errors.sort_by_key(|error| error.position);
        counts.response(errors, false)
    };
    Ok(group.into_iter().map(response).collect())
}
