//! The body of a request on its way to the service: passes on whole, decompressed messages.
//!
//! tonic reserves memory for a message when it reads its length, and keeps the memory for the rest of the stream. So
//! tonic gets a message only when all of it has arrived. The request pays for the bytes that wait here, and for the
//! memory that tonic keeps. A message of another protocol becomes one of gRPC here: a body without heads is one message
//! ([`Framing`]), and its bytes may have another form ([`Translation`]).
//!
//! ```text
//! frames ─► message: head, payload ─► (unpacking, translation) ─► Messages ─► tonic
//!   │ the client's timeouts apply        │ the budget pays for the pieces
//! ```
//!
//! Invariants: no more of a message above [`memory::FREE`] bytes is read than the budget has granted. A message is
//! whole, has one of the known encodings, and is the only one of a unary call. A client that sends too little ends its
//! call ([`client_timeouts`]). The meaning of the bytes is left to [`crate::rpc`].

mod client_timeouts;
mod memory;
mod message;
mod unpacking;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::{BoxFuture, poll_fn};
use http_body::{Body, Frame};
use tonic::Status;

pub use client_timeouts::{ClientTimeouts, MIN_PROGRESS};
pub use memory::Memory;
pub use message::Heads;

use super::http::exchange::{Source, Unreadable};
use super::http::translation::Translation;
use super::http::web::Text;
use super::observed::Traffic;
use super::progress::Progress;
use super::unpack::Encoding;
use crate::budget::ByteBudget;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;
use client_timeouts::{Awaited, ClientTimer};
use memory::Account;
use message::{HEAD, Head, Payload};
use unpacking::{Packed, Unpacked, Unpacking};

/// The way in which messages lie in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each after a head, as gRPC frames them.
    Heads,
    /// The same, all in base64.
    HeadsInText,
    /// The body is one message, of this length if the headers name it.
    Whole(Option<usize>),
}

/// The form of the messages of a request.
pub struct Form {
    /// Their place in the body.
    pub framing: Framing,
    /// Their compression.
    pub encoding: Option<Encoding>,
    /// The translation of each into a message of the rpc; `None`: it is one.
    pub translation: Option<Arc<dyn Translation>>,
}

/// The facts about a request that are known before its body.
pub struct Expected {
    /// True for any number of messages, false for exactly one.
    pub stream: bool,
    /// The form of the messages.
    pub form: Form,
    /// Bytes of a message at most, unpacked.
    pub max_message_bytes: usize,
    /// The time limits for the client.
    pub client_timeouts: ClientTimeouts,
    /// The memory of all requests.
    pub memory: Memory,
    /// The memory of all requests of this connection.
    pub of_connection: ByteBudget,
    /// The progress of the call.
    pub progress: Arc<Progress>,
    /// Counts what arrives.
    pub traffic: Arc<Traffic>,
}

/// The messages of a request, passed on as they become complete.
pub struct Messages {
    body: Source,
    /// True for any number of messages, false for exactly one.
    stream: bool,
    form: Form,
    /// Reads a body of text.
    text: Option<Text>,
    /// True when the body has no more bytes.
    all_read: bool,
    max_message_bytes: usize,
    account: Account,
    client_timer: ClientTimer,
    traffic: Arc<Traffic>,
    reading: Reading,
    /// Bytes that were read from the body and not yet parsed.
    chunk: Bytes,
    unpacking: Option<BoxFuture<'static, Result<Unpacked, Failure>>>,
    /// Pieces of complete messages, with their heads.
    complete: VecDeque<Bytes>,
    n_messages: u64,
    /// The piece for which [`Self::first`] waited.
    first: Option<Result<Option<Bytes>, Broken>>,
    ended: bool,
}

/// The part of a message that is being read.
enum Reading {
    Head(Head),
    Payload(Payload),
}

/// The reason why the messages break off.
enum Broken {
    Refused(Failure),
    /// The stream was reset, or its connection is gone: nobody reads an answer.
    Gone,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl From<Broken> for Status {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Refused(failure) => failure.into(),
            Broken::Gone => Status::cancelled("the client has left"),
        }
    }
}

impl Messages {
    /// The messages of `body`.
    pub fn new(body: Source, expected: Expected) -> Self {
        let Expected { client_timeouts, memory, of_connection, progress, .. } = expected;
        let Expected { stream, form, max_message_bytes, traffic, .. } = expected;
        let reading = match form.framing {
            Framing::Heads | Framing::HeadsInText => Reading::Head(Head::default()),
            Framing::Whole(length) => {
                Reading::Payload(Payload::of_body(length, form.encoding.is_some(), max_message_bytes))
            }
        };
        Self {
            body,
            stream,
            text: (form.framing == Framing::HeadsInText).then(Text::default),
            form,
            all_read: false,
            max_message_bytes,
            account: Account::new(memory, of_connection),
            client_timer: ClientTimer::new(client_timeouts, progress),
            traffic,
            reading,
            chunk: Bytes::new(),
            unpacking: None,
            complete: VecDeque::new(),
            n_messages: 0,
            first: None,
            ended: false,
        }
    }

    /// Waits until the first message has arrived, or until it is certain that none will come. The body then returns the
    /// result.
    pub async fn first(&mut self) {
        let first = poll_fn(|cx| self.poll_piece(cx)).await;
        self.first = Some(first);
    }

    /// Proceeds until a piece of a message can be passed on; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            if let Some(piece) = self.complete.pop_front() {
                return Poll::Ready(Ok(Some(piece)));
            }
            if let Some(unpacking) = &mut self.unpacking {
                let unpacked = ready!(unpacking.as_mut().poll(cx));
                self.unpacking = None;
                let Unpacked { pieces, share } = unpacked?;
                self.account.add(share);
                self.pass_on(pieces);
                continue;
            }
            if self.chunk.is_empty() {
                if !ready!(self.poll_chunk(cx))? {
                    if self.is_whole() {
                        self.end_whole()?;
                        continue;
                    }
                    return Poll::Ready(self.end().map(|()| None).map_err(Broken::from));
                }
                // A DATA frame may be empty: many clients end a stream with one.
                continue;
            }
            match self.reading {
                Reading::Head(_) => self.read_head()?,
                Reading::Payload(_) => ready!(self.poll_payload(cx))?,
            }
        }
    }

    /// Reads the next bytes of the body; false at its end. Fails when the client's time is up.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        if self.all_read {
            return Poll::Ready(Ok(false));
        }
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.client_timer.arrived(chunk.len());
                self.traffic.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                self.chunk = match &mut self.text {
                    None => chunk,
                    Some(text) => text.read(&chunk)?,
                };
                Poll::Ready(Ok(true))
            }
            Poll::Ready(None) => {
                self.client_timer.ended();
                self.all_read = true;
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Some(Err(Unreadable::Gone))) => Poll::Ready(Err(Broken::Gone)),
            Poll::Ready(Some(Err(Unreadable::Damaged))) => Poll::Ready(Err(Refusal::CutOff.into())),
            Poll::Pending => {
                let awaited =
                    if self.stream && self.is_between_messages() { Awaited::NextOfStream } else { Awaited::Message };
                self.client_timer.poll(cx, awaited).map(|refusal| Err(refusal.into()))
            }
        }
    }

    /// Reads a head from the chunk, or the next part of one, and a small message behind it.
    fn read_head(&mut self) -> Result<(), Broken> {
        if !self.stream && self.n_messages > 0 {
            return Err(Refusal::SecondMessage.into());
        }
        let Reading::Head(head) = &mut self.reading else { return Ok(()) };
        let whole_in_chunk = head.is_empty();
        let n = head.copy_from(&self.chunk);
        if !head.is_complete() {
            self.chunk = Bytes::new();
            return Ok(());
        }
        let payload = head.parse(self.form.encoding.is_some(), self.max_message_bytes)?;
        self.client_timer.begin_anew();
        let message = HEAD + payload.length;
        let small = !payload.compressed && self.form.translation.is_none() && payload.length <= memory::FREE;
        if small && whole_in_chunk && self.chunk.len() >= message {
            // The usual case: a small message that arrived in one piece, with its head.
            self.complete.push_back(self.chunk.split_to(message));
            self.reading = Reading::Head(Head::default());
            self.count_message();
            return Ok(());
        }
        let _ = self.chunk.split_to(n);
        self.reading = Reading::Payload(payload);
        self.complete_if_whole()
    }

    /// Takes the chunk's part of a payload when the budget has granted the memory.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let whole = self.is_whole();
        let Reading::Payload(payload) = &mut self.reading else { return Poll::Ready(Ok(())) };
        if whole && payload.is_complete() {
            let limit = self.max_message_bytes;
            return Poll::Ready(Err(Refusal::TooLarge { bytes: None, limit }.into()));
        }
        let arrived = payload.arrived_with(&self.chunk);
        ready!(self.account.poll_hold(cx, arrived, payload.promised(arrived)))?;
        payload.take(&mut self.chunk);
        Poll::Ready(if whole { Ok(()) } else { self.complete_if_whole() })
    }

    /// Returns true while the body is read as one message.
    fn is_whole(&self) -> bool {
        matches!((self.form.framing, &self.reading), (Framing::Whole(_), Reading::Payload(_)))
    }

    /// Passes on the message that a body is.
    fn end_whole(&mut self) -> Result<(), Broken> {
        let complete = match &mut self.reading {
            Reading::Payload(payload) => payload.ends_here(),
            Reading::Head(_) => false,
        };
        if complete { self.complete_if_whole() } else { Err(Refusal::CutOff.into()) }
    }

    /// Passes on a message whose payload is complete, or unpacks it first.
    fn complete_if_whole(&mut self) -> Result<(), Broken> {
        if !matches!(&self.reading, Reading::Payload(payload) if payload.is_complete()) {
            return Ok(());
        }
        let read = std::mem::replace(&mut self.reading, Reading::Head(Head::default()));
        let Reading::Payload(payload) = read else { return Ok(()) };
        self.client_timer.begin_anew();
        let encoding = self.form.encoding.filter(|_| payload.compressed);
        let (pieces, translation) = (payload.into_pieces(), self.form.translation.clone());
        let packed = Packed { encoding, translation, pieces, limit: self.max_message_bytes };
        match packed.unpack(self.account.memory())? {
            Unpacking::Done(pieces) => self.pass_on(pieces),
            Unpacking::Running(unpacking) => self.unpacking = Some(unpacking),
        }
        Ok(())
    }

    /// Passes on a complete message, with the head of an uncompressed one.
    fn pass_on(&mut self, pieces: VecDeque<Bytes>) {
        let length = pieces.iter().map(Bytes::len).sum();
        self.complete.push_back(Head::of(length));
        self.complete.extend(pieces);
        self.count_message();
        self.account.settle(length);
    }

    fn count_message(&mut self) {
        self.n_messages += 1;
        self.traffic.messages.fetch_add(1, Ordering::Relaxed);
    }

    fn is_between_messages(&self) -> bool {
        matches!(&self.reading, Reading::Head(head) if head.is_empty())
    }

    /// Handles the end of the body: refuses the request if it may not end here.
    fn end(&self) -> Result<(), Refusal> {
        if !self.is_between_messages() {
            return Err(Refusal::CutOff);
        }
        if self.stream || self.n_messages == 1 { Ok(()) } else { Err(Refusal::NoMessage) }
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = match self.first.take() {
            Some(first) => first,
            None => ready!(self.poll_piece(cx)),
        };
        self.ended = !matches!(piece, Ok(Some(_)));
        Poll::Ready(piece.map_err(Status::from).map(|piece| piece.map(Frame::data)).transpose())
    }
}
