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

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt, future, stream};
use tonic::Status;

use super::access::Access;
use super::answer::Answer;
use super::measure::MeasureError;
use super::request::{Received, Requests, hold};
use super::status::{Failure, shown, shown_name};
use super::{Engine, Responses, compute_if_large, passages, vector};
use crate::backend::Collection;
use crate::budget::Held;
use crate::collection::{Document, PassageSizes, Settings, Span, Vectors};
use crate::compute::{Terms, WhenFull};
use crate::embedder::{Embedder, InputType};
use crate::inference::{Output, TextError, Truncation};
use crate::lexical;
use crate::wire;
use document::{Checked, check};

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
    collection: Collection,
    items: Vec<Item>,
    terms: Terms,
    /// The memory of their message and of the vectors of their passages.
    held: HeldOfMessage,
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

/// A chunk whose documents have vectors or errors.
struct Embedded {
    collection: Collection,
    received: usize,
    documents: Vec<Document>,
    /// The origin of each document.
    sent: Vec<Sent>,
    errors: Vec<wire::UploadError>,
    /// The memory of their message and of these vectors.
    _held: HeldOfMessage,
}

/// The memory of a message, and of the vectors of its long texts.
type HeldOfMessage = Arc<[Held; 2]>;

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
        Some(current) if name.is_empty() || name == current.name() => Ok(current),
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
    let passages: usize = match collection.passages() {
        Some(sizes) => texts.map(|document| passages::expected(document.text.len(), sizes)).sum(),
        None => 0,
    };
    let bytes = passages * collection.model().dimensions * size_of::<f32>();
    hold(&engine.messages, bytes, WhenFull::Wait).await
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

/// Computes the vectors of the documents that have none.
async fn embed(engine: &Engine, chunk: Chunk) -> Result<Embedded, Status> {
    let received = chunk.items.len();
    let texts = chunk
        .items
        .iter()
        .filter_map(|item| item.state.as_ref().ok())
        .filter(|checked| checked.vectors.is_none())
        .map(|checked| checked.content.text.to_string())
        .collect();
    let embedder = &engine.models.of_collection(&chunk.collection)?.embedder;
    let mut computed = compute_vectors(embedder, texts, chunk.collection.passages(), chunk.terms).await?.into_iter();
    let (mut documents, mut sent, mut errors) = (Vec::with_capacity(received), Vec::new(), Vec::new());
    for item in chunk.items {
        let ready = item.state.and_then(|Checked { id, content, vectors }| {
            let vectors = match vectors {
                Some(given) => given,
                None => {
                    let embedded = computed.next().ok_or(Failure::Internal)?;
                    of_text(embedded, &content.text, || format!("documents[{}].text", item.index))?
                }
            };
            Ok(Document { id, content: Arc::new(content), vectors })
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

/// The passages of a text, each with its output.
type Computed = Result<Vec<(Range<usize>, Output)>, TextError>;

/// Computes the passages of texts: one for each if the collection has none.
async fn compute_vectors(
    embedder: &Embedder,
    texts: Vec<String>,
    sizes: Option<PassageSizes>,
    terms: Terms,
) -> Result<Vec<Computed>, Failure> {
    let input_type = InputType::Document;
    let Some(sizes) = sizes else {
        let outputs = embedder.embed(texts, input_type, Truncation::End, terms).await?;
        return Ok(outputs.into_iter().map(|output| Ok(vec![(0..0, output?)])).collect());
    };
    let texts = passages::Texts { texts, input_type, sizes };
    let embedded = passages::embed(embedder, texts, terms, |_| Ok(())).await?;
    Ok(embedded.into_iter().map(|embedded| Ok(embedded?.passages)).collect())
}

/// The vectors of a text. `field` is its name in a failure.
fn of_text(computed: Computed, text: &str, field: impl Fn() -> String) -> Result<Vectors, Failure> {
    let mut computed = computed.map_err(|error| Failure::text(field(), &error))?;
    if computed.len() == 1
        && let Some((_, output)) = computed.pop()
    {
        return Ok(Vectors::Whole(vector::of_text(Ok(output), field)?));
    }
    let passage = |(bytes, output): (Range<usize>, Output)| {
        Ok((Span::new(&bytes).ok_or(Failure::Internal)?, vector::of_text(Ok(output), &field)?))
    };
    let passages = computed.into_iter().map(passage).collect::<Result<_, Failure>>()?;
    Vectors::of_passages(text, passages).map_err(|_| Failure::Internal)
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

/// Commits chunks at once. Returns the response to each.
async fn store(
    engine: &Engine,
    mut group: Vec<Embedded>,
    counts: &mut Counts,
) -> Result<Vec<wire::UploadResponse>, Failure> {
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
