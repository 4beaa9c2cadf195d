//! The body of a request on its way to the service: it passes messages on whole, as they were before compression.
//!
//! tonic reserves memory for a message when it sees its length, and keeps it for the rest of the stream. So tonic sees
//! a message only when all of it is here, and the request pays for what is held here, or kept there.
//!
//! ```text
//! frames ─► message: head, payload ─► (unpacking) ─► Messages ─► tonic
//!   │ patience waits for the client      │ memory pays for the pieces
//! ```
//!
//! Invariants: no more of a message above [`memory::FREE`] bytes is read than the budget has given; a message is whole,
//! of one of the encodings that are understood, and the only one where there must be one; a client that sends too
//! little ends its call ([`patience`]). The meaning of the bytes is left to [`crate::rpc`].

mod memory;
mod message;
mod patience;
mod unpacking;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::{BoxFuture, poll_fn};
use h2::RecvStream;
use http_body::{Body, Frame};
use tonic::Status;

pub use memory::Memory;
pub use patience::{LEAST_PROGRESS, Patience};

use super::progress::Progress;
use super::unpack::Encoding;
use crate::budget::ByteBudget;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;
use memory::Account;
use message::{HEAD, Head, Payload};
use patience::{Awaited, Waiting};
use unpacking::{Unpacked, Unpacking, unpack};

/// What is known of a request before its body.
#[derive(Debug)]
pub struct Expected {
    /// Any number of messages may come; otherwise exactly one.
    pub stream: bool,
    /// The encoding that `grpc-encoding` names.
    pub encoding: Option<Encoding>,
    /// Bytes that a message may have, unpacked.
    pub max_message_bytes: usize,
    /// How long the server waits for the client.
    pub patience: Patience,
    /// The memory of all requests.
    pub memory: Memory,
    /// The memory of all requests of this connection.
    pub of_connection: ByteBudget,
    /// How the call gets on.
    pub progress: Arc<Progress>,
}

/// The messages of a request, as they become complete.
pub struct Messages {
    body: RecvStream,
    /// Any number of messages may come; otherwise exactly one.
    stream: bool,
    encoding: Option<Encoding>,
    max_message_bytes: usize,
    account: Account,
    waiting: Waiting,
    reading: Reading,
    /// Bytes that were read from the body and are still to be looked at.
    chunk: Bytes,
    unpacking: Option<BoxFuture<'static, Result<Unpacked, Refusal>>>,
    /// Pieces of complete messages, with their heads.
    complete: VecDeque<Bytes>,
    n_messages: u64,
    /// The piece that [`Self::first`] waited for.
    first: Option<Result<Option<Bytes>, Broken>>,
    ended: bool,
}

/// The part of a message that arrives.
enum Reading {
    Head(Head),
    Payload(Payload),
}

/// Why no more comes.
enum Broken {
    Refused(Refusal),
    /// The stream was reset, or its connection is gone: nobody reads an answer.
    Gone,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Broken> for Status {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Refused(refusal) => Failure::Transport(refusal).into(),
            Broken::Gone => Status::cancelled("the client is gone"),
        }
    }
}

impl Messages {
    /// The messages of `body`.
    pub fn new(body: RecvStream, expected: Expected) -> Self {
        let Expected { stream, encoding, max_message_bytes, patience, memory, of_connection, progress } = expected;
        Self {
            body,
            stream,
            encoding,
            max_message_bytes,
            account: Account::new(memory, of_connection),
            waiting: Waiting::new(patience, progress),
            reading: Reading::Head(Head::default()),
            chunk: Bytes::new(),
            unpacking: None,
            complete: VecDeque::new(),
            n_messages: 0,
            first: None,
            ended: false,
        }
    }

    /// Waits until the first message is here, or until it is known that none will come. The body tells which.
    pub async fn first(&mut self) {
        let first = poll_fn(|cx| self.poll_piece(cx)).await;
        self.first = Some(first);
    }

    /// Goes on until a piece of a message can be passed on; `None` at the end.
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
                    return Poll::Ready(self.end().map(|()| None).map_err(Broken::Refused));
                }
                // A DATA frame may be empty: many clients end a stream by one.
                continue;
            }
            match self.reading {
                Reading::Head(_) => self.read_head()?,
                Reading::Payload(_) => ready!(self.poll_payload(cx))?,
            }
        }
    }

    /// Reads the next bytes of the body, if there are more. Waits for the client no longer than it may.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                // From now on the bytes are counted here, and not by the window of HTTP/2.
                let _ = self.body.flow_control().release_capacity(chunk.len());
                self.waiting.arrived(chunk.len());
                self.chunk = chunk;
                Poll::Ready(Ok(true))
            }
            Poll::Ready(None) => {
                self.waiting.ended();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Broken::Gone)),
            Poll::Pending => {
                let awaited =
                    if self.stream && self.is_between_messages() { Awaited::NextOfStream } else { Awaited::Message };
                self.waiting.poll(cx, awaited).map(|refusal| Err(Broken::Refused(refusal)))
            }
        }
    }

    /// Reads what the chunk has of a head, and a small message behind it.
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
        let payload = head.parse(self.encoding.is_some(), self.max_message_bytes)?;
        self.waiting.begin_anew();
        let message = HEAD + payload.length;
        let small = !payload.compressed && payload.length <= memory::FREE;
        if small && whole_in_chunk && self.chunk.len() >= message {
            // The usual case: a small message that is here in one piece, with its head.
            self.complete.push_back(self.chunk.split_to(message));
            self.reading = Reading::Head(Head::default());
            self.n_messages += 1;
            return Ok(());
        }
        let _ = self.chunk.split_to(n);
        self.reading = Reading::Payload(payload);
        self.complete_if_whole()
    }

    /// Takes what the chunk has of a payload, when there is memory for it.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Reading::Payload(payload) = &mut self.reading else { return Poll::Ready(Ok(())) };
        ready!(self.account.poll_hold(cx, payload.arrived_with(&self.chunk), payload.length))?;
        payload.take(&mut self.chunk);
        Poll::Ready(self.complete_if_whole())
    }

    /// Passes on a message whose payload has arrived, or unpacks it first.
    fn complete_if_whole(&mut self) -> Result<(), Broken> {
        if !matches!(&self.reading, Reading::Payload(payload) if payload.is_complete()) {
            return Ok(());
        }
        let read = std::mem::replace(&mut self.reading, Reading::Head(Head::default()));
        let Reading::Payload(payload) = read else { return Ok(()) };
        self.waiting.begin_anew();
        let encoding = self.encoding.filter(|_| payload.compressed);
        let pieces = payload.into_pieces();
        let Some(encoding) = encoding else {
            self.pass_on(pieces);
            return Ok(());
        };
        match unpack(encoding, pieces, self.max_message_bytes, self.account.memory())? {
            Unpacking::Done(pieces) => self.pass_on(pieces),
            Unpacking::Running(unpacking) => self.unpacking = Some(unpacking),
        }
        Ok(())
    }

    /// Passes a complete message on, with the head of a message that was never compressed.
    fn pass_on(&mut self, pieces: VecDeque<Bytes>) {
        let length = pieces.iter().map(Bytes::len).sum();
        self.complete.push_back(Head::of(length));
        self.complete.extend(pieces);
        self.n_messages += 1;
        self.account.settle(length);
    }

    fn is_between_messages(&self) -> bool {
        matches!(&self.reading, Reading::Head(head) if head.is_empty())
    }

    /// The body has ended: refuses the request unless it may end here.
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
