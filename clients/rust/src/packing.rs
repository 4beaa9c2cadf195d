//! Packs documents into upload messages. They are large enough that the overhead of a message does not matter, and
//! small enough for frequent progress and for the server's limit.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use prost::Message;
use tokio::time::{Sleep, sleep};
use tonic::Code;
use tonic_types::pb::Status;

use crate::wire::{Document, UploadError, UploadRequest};

/// Documents in a message at most: a few batches of the server.
const MAX_DOCUMENTS: usize = 256;
/// Bytes in a message, unless a single document is larger.
const TARGET_BYTES: usize = 1 << 20;
/// Time that a message waits for more documents when the source has none ready.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes of the tag and length around a document, and around the name of the collection.
const FRAME_BYTES: usize = 16;

/// The size limits of messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The size at which a message is sent.
    target_bytes: usize,
    /// The largest message that the server accepts.
    max_bytes: usize,
}

impl Limits {
    /// The limits for the server's `max_message_bytes`. Only the first message has the name, but it is counted in each.
    pub(super) fn new(max_message_bytes: u64, collection: &str) -> Self {
        let max_bytes = usize::try_from(max_message_bytes).unwrap_or(usize::MAX);
        let max_bytes = max_bytes.saturating_sub(collection.len() + FRAME_BYTES);
        Self { target_bytes: TARGET_BYTES.min(max_bytes / 2), max_bytes }
    }
}

/// Documents that are too large for any message. They are not sent, so the server's positions skip them.
#[derive(Debug, Default)]
pub(super) struct TooLarge {
    /// Their positions in the caller's stream, ascending.
    positions: Vec<u64>,
    /// The errors that are not reported yet.
    errors: Vec<UploadError>,
}

/// The documents too large to send, shared by the sending and the receiving half of an upload.
#[derive(Debug, Clone, Default)]
pub(super) struct Oversized(Arc<Mutex<TooLarge>>);

impl Oversized {
    /// Returns the errors since the last call.
    pub(super) fn take_errors(&self) -> Vec<UploadError> {
        std::mem::take(&mut self.lock().errors)
    }

    /// The number of these documents.
    pub(super) fn count(&self) -> u64 {
        self.lock().positions.len() as u64
    }

    /// Converts the server's position of a document into its position in the caller's stream.
    pub(super) fn position(&self, sent: u64) -> u64 {
        let mut position = sent;
        for &skipped in &self.lock().positions {
            if skipped > position {
                break;
            }
            position += 1;
        }
        position
    }

    fn add(&self, position: u64, id: String, bytes: usize, max_bytes: usize) {
        let message =
            format!("the document has {bytes} bytes, a message holds at most {max_bytes}: split the document");
        let status = Status { code: Code::OutOfRange as i32, message, details: Vec::new() };
        let mut oversized = self.lock();
        oversized.positions.push(position);
        oversized.errors.push(UploadError { position, id, status: Some(status) });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TooLarge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of one upload. A message is sent when it is full, or when the next document is late, so a slow source
/// is not delayed. An upload without documents is one message that names the collection.
pub(super) struct Messages<S> {
    documents: S,
    limits: Limits,
    oversized: Oversized,
    /// The number of documents taken from the source.
    taken: u64,
    collection: Option<String>,
    gathered: Vec<Document>,
    gathered_bytes: usize,
    /// The linger timer; runs while the source has nothing ready and documents are gathered.
    linger: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<S: Stream<Item = Document> + Unpin> Messages<S> {
    pub(super) fn new(collection: &str, documents: S, limits: Limits, oversized: Oversized) -> Self {
        let (gathered, collection) = (Vec::new(), Some(collection.to_string()));
        Self {
            documents,
            limits,
            oversized,
            taken: 0,
            collection,
            gathered,
            gathered_bytes: 0,
            linger: None,
            ended: false,
        }
    }

    /// Adds a document. Returns the message before it, if the document does not fit in that one.
    fn add(&mut self, document: Document) -> Option<UploadRequest> {
        let bytes = document.encoded_len() + FRAME_BYTES;
        let position = self.taken;
        self.taken += 1;
        if bytes > self.limits.max_bytes {
            self.oversized.add(position, document.id, bytes, self.limits.max_bytes);
            return None;
        }
        let full = self.gathered.len() == MAX_DOCUMENTS || self.gathered_bytes + bytes > self.limits.target_bytes;
        let message = if full { self.message() } else { None };
        self.gathered.push(document);
        self.gathered_bytes += bytes;
        message
    }

    /// Returns a message with the gathered documents, if there are any.
    fn message(&mut self) -> Option<UploadRequest> {
        if self.gathered.is_empty() {
            return None;
        }
        self.gathered_bytes = 0;
        self.linger = None;
        let documents = std::mem::take(&mut self.gathered);
        Some(UploadRequest { collection: self.collection.take().unwrap_or_default(), documents })
    }

    fn last_message(&mut self) -> Option<UploadRequest> {
        let last = self.message();
        last.or_else(|| self.collection.take().map(|collection| UploadRequest { collection, documents: Vec::new() }))
    }
}

impl<S: Stream<Item = Document> + Unpin> Stream for Messages<S> {
    type Item = UploadRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<UploadRequest>> {
        while !self.ended {
            match self.documents.poll_next_unpin(context) {
                Poll::Ready(Some(document)) => {
                    if let Some(message) = self.add(document) {
                        return Poll::Ready(Some(message));
                    }
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    ready!(self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER))).as_mut().poll(context));
                    return Poll::Ready(self.message());
                }
            }
        }
        Poll::Ready(self.last_message())
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use futures::{FutureExt, executor::block_on, stream};

    use super::*;

    fn document(id: usize, text_bytes: usize) -> Document {
        Document { id: id.to_string(), text: "x".repeat(text_bytes), ..Default::default() }
    }

    fn pack(sizes: &[usize], max_message_bytes: u64) -> (Vec<UploadRequest>, Oversized) {
        let oversized = Oversized::default();
        let documents: Vec<_> = sizes.iter().enumerate().map(|(id, &bytes)| document(id, bytes)).collect();
        let limits = Limits::new(max_message_bytes, "c");
        (block_on(Messages::new("c", stream::iter(documents), limits, oversized.clone()).collect()), oversized)
    }

    #[test]
    fn messages_keep_the_order_and_stay_below_the_limit() {
        let sizes: Vec<usize> = (0..1000).map(|i| i * 7919 % 2000).collect();
        let (messages, oversized) = pack(&sizes, 8_000);
        assert!(messages.iter().all(|message| message.encoded_len() <= 4_000), "half the limit is the target");
        let ids: Vec<usize> = messages.iter().flat_map(|m| &m.documents).map(|d| d.id.parse().unwrap()).collect();
        assert_eq!(ids, (0..1000).collect::<Vec<_>>());
        assert_eq!(oversized.count(), 0);
    }

    #[test]
    fn only_the_first_message_names_the_collection() {
        let (messages, _) = pack(&[1; 1000], 1 << 22);
        let names: Vec<&str> = messages.iter().map(|m| m.collection.as_str()).collect();
        assert_eq!(names, ["c", "", "", ""]);
        assert_eq!(messages[0].documents.len(), MAX_DOCUMENTS);
    }

    #[test]
    fn an_empty_upload_names_the_collection() {
        let (messages, _) = pack(&[], 1 << 22);
        assert_eq!(messages, [UploadRequest { collection: "c".into(), documents: vec![] }]);
    }

    #[test]
    fn a_document_between_target_and_limit_travels_alone() {
        let (messages, oversized) = pack(&[10, 6_000, 10], 8_000);
        assert_eq!(messages.iter().map(|m| m.documents.len()).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(messages.iter().all(|m| m.encoded_len() <= 8_000) && oversized.count() == 0);
    }

    #[test]
    fn a_document_too_large_for_any_message_is_reported_and_positions_skip_it() {
        let (messages, oversized) = pack(&[10, 9_000, 10, 9_000, 9_000, 10], 8_000);
        let sent: Vec<&str> = messages.iter().flat_map(|m| &m.documents).map(|d| d.id.as_str()).collect();
        assert_eq!(sent, ["0", "2", "5"]);
        assert_eq!((0..3).map(|sent| oversized.position(sent)).collect::<Vec<_>>(), [0, 2, 5]);
        let errors = oversized.take_errors();
        assert_eq!(
            errors.iter().map(|e| (e.position, e.id.as_str())).collect::<Vec<_>>(),
            [(1, "1"), (3, "3"), (4, "4")]
        );
        assert!(oversized.take_errors().is_empty() && oversized.count() == 3, "reported once, counted for good");
    }

    #[tokio::test]
    async fn documents_of_a_slow_source_are_sent_after_a_moment() {
        let (mut source, documents) = mpsc::unbounded();
        let mut messages = Messages::new("c", documents, Limits::new(1 << 22, "c"), Oversized::default());
        source.start_send(document(0, 1)).unwrap();
        assert!(messages.next().now_or_never().is_none(), "more may come");
        source.start_send(document(1, 1)).unwrap();
        // The source stays open, so only the timer can send them.
        let first = messages.next().await.expect("a message");
        assert_eq!(first.documents.len(), 2);
        assert!(messages.next().now_or_never().is_none(), "nothing more yet, and not the end");
    }
}
