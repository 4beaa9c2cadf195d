//! The body of a request on its way to the service: messages are passed on whole, as they were before compression.
//!
//! tonic reserves memory for a message when it sees its length, and keeps it for the rest of the stream. So it sees a
//! message only when all of it is here, and what is held here, or kept there, is paid for from the budget of bytes.
//!
//! Invariants: of a message above [`FREE`] bytes no more is read than the budget has given; a client that sends too
//! little in [`Patience::stall`] while it is waited for ends its call; a message is whole, of one of the encodings that
//! are understood, and the only one where there must be one. What the bytes mean is left to [`crate::rpc`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::{BoxFuture, poll_fn};
use h2::RecvStream;
use http_body::{Body, Frame};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::progress::Progress;
use super::unpack::{AT_ONCE, Encoding};
use crate::budget::{ByteBudget, Held};
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// A message of so many bytes costs no budget: `max_calls` times it is little.
const FREE: usize = 64 * 1024;
/// Bytes that must arrive in [`Patience::stall`], unless the message is complete with less.
pub const LEAST_PROGRESS: usize = 16 * 1024;
/// How long a message waits for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one piece of a message.
const PIECE: usize = 64 * 1024;
/// The head of a message: a flag, and its length.
const HEAD: usize = 5;

/// The memory that requests on their way may take.
#[derive(Debug, Clone)]
pub struct Memory {
    all: ByteBudget,
    /// The part of it that requests may have, so that half messages never stand in the way of answers.
    requests: ByteBudget,
    /// Messages that are unpacked at a time, each by a thread.
    unpacking: Arc<Semaphore>,
}

impl Memory {
    /// Half of `budget` for requests; in a small one more, so that a stream can have a compressed message after another.
    pub fn new(budget: &ByteBudget, max_message_bytes: usize) -> Self {
        let least = max_message_bytes.saturating_mul(3).min(budget.total());
        let requests = ByteBudget::new((budget.total() / 2).max(least));
        Self { all: budget.clone(), requests, unpacking: Arc::new(Semaphore::new(2)) }
    }

    /// The part of it that one connection may have: an eighth of what requests may, and room for two messages.
    pub fn of_connection(&self, max_message_bytes: usize) -> ByteBudget {
        ByteBudget::new((self.requests.total() / 8).max(max_message_bytes.saturating_mul(2)))
    }

    fn hold(&self, connection: Option<&ByteBudget>, bytes: usize) -> BoxFuture<'static, Option<Share>> {
        let (requests, all, connection) = (self.requests.clone(), self.all.clone(), connection.cloned());
        Box::pin(async move {
            // The smallest first: nobody waits for a large one while others need what he holds of it.
            let connection = match connection {
                Some(connection) => Some(connection.hold(bytes).await?),
                None => None,
            };
            Some(Share { connection, requests: requests.hold(bytes).await?, all: all.hold(bytes).await? })
        })
    }
}

/// Bytes held of each budget.
#[derive(Debug)]
struct Share {
    connection: Option<Held>,
    requests: Held,
    all: Held,
}

impl Share {
    fn bytes(&self) -> usize {
        self.all.bytes()
    }

    fn merge(&mut self, other: Share) {
        match (&mut self.connection, other.connection) {
            (Some(mine), Some(more)) => mine.merge(more),
            (mine @ None, more) => *mine = more,
            (Some(_), None) => {}
        }
        self.requests.merge(other.requests);
        self.all.merge(other.all);
    }

    fn shrink_to(&mut self, bytes: usize) {
        if let Some(connection) = &mut self.connection {
            connection.shrink_to(bytes);
        }
        self.requests.shrink_to(bytes);
        self.all.shrink_to(bytes);
    }
}

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// In the middle of a message, and for the one message of a call. Higher: slower clients are served, and a client
    /// that sends nothing holds its place longer.
    pub stall: Duration,
    /// Between the messages of a stream, while no answer is sent either. Higher: people may type for longer between
    /// two messages, and a client that went away without a word holds its place longer.
    pub idle: Duration,
}

/// What is known of a request before its body.
#[derive(Debug)]
pub struct Expected {
    /// Any number of messages may come; otherwise exactly one.
    pub stream: bool,
    /// What `grpc-encoding` names.
    pub encoding: Option<Encoding>,
    /// Bytes that a message may have, unpacked.
    pub max_message_bytes: usize,
    /// How long the client is waited for.
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
    stream: RecvStream,
    expected: Expected,
    reading: Reading,
    /// Bytes that were read from the stream and are still to be looked at.
    chunk: Bytes,
    /// Of the message that arrives.
    arrived: VecDeque<BytesMut>,
    /// What is complete.
    complete: VecDeque<Bytes>,
    n_messages: u64,
    /// Bytes of the largest message so far: tonic keeps memory for it.
    kept: usize,
    share: Option<Share>,
    waiting_for_memory: Option<BoxFuture<'static, Option<Share>>>,
    unpacking: Option<BoxFuture<'static, Result<Unpacked, Refusal>>>,
    waited: Waited,
    timer: Pin<Box<Sleep>>,
    /// What [`Self::first`] waited for.
    first: Option<Result<Option<Bytes>, Broken>>,
    ended: bool,
}

enum Reading {
    Head { bytes: [u8; HEAD], have: usize },
    Payload { compressed: bool, length: usize, left: usize },
}

impl Reading {
    const NEXT: Self = Self::Head { bytes: [0; HEAD], have: 0 };
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

struct Unpacked {
    pieces: VecDeque<Bytes>,
    share: Option<Share>,
}

/// How long the client has been waited for, and what came meanwhile.
#[derive(Debug, Default)]
struct Waited {
    before: Duration,
    since: Option<Instant>,
    bytes: usize,
}

impl Messages {
    /// The messages of `stream`.
    pub fn new(stream: RecvStream, expected: Expected) -> Self {
        Self {
            stream,
            expected,
            reading: Reading::NEXT,
            chunk: Bytes::new(),
            arrived: VecDeque::new(),
            complete: VecDeque::new(),
            n_messages: 0,
            kept: 0,
            share: None,
            waiting_for_memory: None,
            unpacking: None,
            waited: Waited::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            first: None,
            ended: false,
        }
    }

    /// Waits until the first message is here, or it is known that none will come: the body tells which.
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
                self.add_share(share);
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
                Reading::Head { .. } => self.read_head()?,
                Reading::Payload { .. } => ready!(self.poll_payload(cx))?,
            }
        }
    }

    /// The next bytes of the stream, if there are more; waits for the client no longer than it may.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        match self.stream.poll_data(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                // What it takes from now on is counted here.
                let _ = self.stream.flow_control().release_capacity(chunk.len());
                self.waited.over(chunk.len());
                self.expected.progress.moved();
                self.chunk = chunk;
                Poll::Ready(Ok(true))
            }
            Poll::Ready(None) => {
                self.expected.progress.moved();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Broken::Gone)),
            Poll::Pending => self.poll_patience(cx).map(|refusal| Err(Broken::Refused(refusal))),
        }
    }

    /// Ready when the client has been waited for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let Patience { stall, idle } = self.expected.patience;
        self.expected.progress.waits();
        let now = Instant::now();
        let between = matches!(self.reading, Reading::Head { have: 0, .. });
        let since = *self.waited.since.get_or_insert(now);
        let (due, refusal) = if between && self.expected.stream {
            (since.max(self.expected.progress.last_moved()) + idle, Refusal::StreamIdle { timeout: idle })
        } else {
            (since + stall.saturating_sub(self.waited.before), Refusal::RequestStalled { timeout: stall })
        };
        if due <= now {
            return Poll::Ready(refusal);
        }
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        // Woken too early, it looks again: an answer may have been sent meanwhile.
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn read_head(&mut self) -> Result<(), Broken> {
        if !self.expected.stream && self.n_messages > 0 {
            return Err(Refusal::SecondMessage.into());
        }
        let Reading::Head { bytes, have } = &mut self.reading else { return Ok(()) };
        let more = (HEAD - *have).min(self.chunk.len());
        bytes[*have..*have + more].copy_from_slice(&self.chunk[..more]);
        let whole_in_chunk = *have == 0;
        *have += more;
        if *have < HEAD {
            self.chunk = Bytes::new();
            return Ok(());
        }
        let [flag, length @ ..] = *bytes;
        let length = u32::from_be_bytes(length) as usize;
        let compressed = match flag {
            0 => false,
            1 if self.expected.encoding.is_some() => true,
            1 => return Err(Refusal::NoEncoding.into()),
            flag => return Err(Refusal::BadFlag(flag).into()),
        };
        let limit = self.expected.max_message_bytes;
        if length > limit {
            return Err(Refusal::TooLarge { bytes: Some(length), limit }.into());
        }
        self.waited = Waited::default();
        if !compressed && whole_in_chunk && length <= FREE && self.chunk.len() >= HEAD + length {
            // The usual case: a small message that is here in one piece, with its head.
            self.complete.push_back(self.chunk.split_to(HEAD + length));
            self.reading = Reading::NEXT;
            self.n_messages += 1;
            return Ok(());
        }
        let _ = self.chunk.split_to(more);
        self.reading = Reading::Payload { compressed, length, left: length };
        if length == 0 {
            self.complete_message(compressed)?;
        }
        Ok(())
    }

    /// Takes what the chunk has of the message, if there is memory for it.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Reading::Payload { compressed, length, left } = self.reading else { return Poll::Ready(Ok(())) };
        let n = left.min(self.chunk.len());
        let arrived = length - left;
        if length > FREE {
            ready!(self.poll_memory(cx, self.kept + arrived + n, self.kept + length))?;
        }
        let mut bytes = self.chunk.split_to(n);
        while !bytes.is_empty() {
            let room = match self.arrived.back_mut() {
                Some(piece) if piece.len() < piece.capacity() => piece,
                _ => {
                    // A promise costs nothing: pieces grow with what has arrived.
                    let size = left.min(arrived.clamp(bytes.len().clamp(1024, PIECE), PIECE));
                    self.arrived.push_back(BytesMut::with_capacity(size.max(1)));
                    continue;
                }
            };
            let part = bytes.split_to(bytes.len().min(room.capacity() - room.len()));
            room.put(part);
        }
        let left = left - n;
        self.reading = Reading::Payload { compressed, length, left };
        Poll::Ready(if left == 0 { self.complete_message(compressed) } else { Ok(()) })
    }

    /// Ready when at least `bytes` of the budgets are held. It takes more than that, up to `most`, to ask seldom.
    fn poll_memory(&mut self, cx: &mut Context<'_>, bytes: usize, most: usize) -> Poll<Result<(), Broken>> {
        let held = self.share.as_ref().map_or(0, Share::bytes);
        if held >= bytes {
            return Poll::Ready(Ok(()));
        }
        let (memory, of_connection) = (&self.expected.memory, &self.expected.of_connection);
        let waiting = self.waiting_for_memory.get_or_insert_with(|| {
            self.timer.as_mut().reset(Instant::now() + MEMORY_PATIENCE);
            memory.hold(Some(of_connection), (held * 2).clamp(bytes, most) - held)
        });
        let share = match waiting.as_mut().poll(cx) {
            Poll::Ready(share) => share,
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                None
            }
        };
        self.waiting_for_memory = None;
        if share.is_none() {
            return Poll::Ready(Err(Refusal::NoMemory { bytes: most }.into()));
        }
        self.add_share(share);
        Poll::Ready(Ok(()))
    }

    fn add_share(&mut self, more: Option<Share>) {
        match (&mut self.share, more) {
            (Some(share), Some(more)) => share.merge(more),
            (share @ None, more) => *share = more,
            (Some(_), None) => {}
        }
    }

    fn complete_message(&mut self, compressed: bool) -> Result<(), Broken> {
        self.reading = Reading::NEXT;
        self.waited = Waited::default();
        let pieces: VecDeque<Bytes> = std::mem::take(&mut self.arrived).into_iter().map(BytesMut::freeze).collect();
        let Some(encoding) = self.expected.encoding.filter(|_| compressed) else {
            self.pass_on(pieces);
            return Ok(());
        };
        let limit = self.expected.max_message_bytes;
        let packed: usize = pieces.iter().map(Bytes::len).sum();
        if packed <= AT_ONCE {
            match encoding.unpack(pieces.clone(), AT_ONCE.min(limit)) {
                Ok(pieces) => {
                    self.pass_on(pieces);
                    return Ok(());
                }
                Err(Refusal::TooLarge { .. }) if limit > AT_ONCE => {}
                Err(Refusal::TooLarge { .. }) => {
                    return Err(Refusal::TooLarge { bytes: None, limit }.into());
                }
                Err(refusal) => return Err(Broken::Refused(refusal)),
            }
        }
        self.unpacking = Some(Box::pin(unpack(encoding, pieces, limit, self.expected.memory.clone())));
        Ok(())
    }

    /// Passes a complete message on, with the head of one that was never compressed.
    fn pass_on(&mut self, pieces: VecDeque<Bytes>) {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_u8(0);
        // At most `max_message_bytes`, and a compressed one that is no larger.
        head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        self.complete.push_back(head.freeze());
        self.complete.extend(pieces);
        self.n_messages += 1;
        self.kept = self.kept.max(if length > FREE { length } else { 0 });
        let kept = self.kept;
        if let Some(share) = &mut self.share {
            share.shrink_to(kept);
        }
    }

    /// The stream has ended: is that a place where it may?
    fn end(&self) -> Result<(), Refusal> {
        match self.reading {
            Reading::Head { have: 0, .. } if self.expected.stream || self.n_messages == 1 => Ok(()),
            Reading::Head { have: 0, .. } => Err(Refusal::NoMessage),
            _ => Err(Refusal::CutOff),
        }
    }
}

/// Unpacks away from the threads that serve connections, a few messages at a time.
async fn unpack(
    encoding: Encoding,
    pieces: VecDeque<Bytes>,
    limit: usize,
    memory: Memory,
) -> Result<Unpacked, Refusal> {
    let no_memory = || Refusal::NoMemory { bytes: limit };
    let held = tokio::time::timeout(MEMORY_PATIENCE, memory.hold(None, limit)).await;
    let mut share = held.ok().flatten().ok_or_else(no_memory)?;
    // Never closed.
    let turn = Arc::clone(&memory.unpacking).acquire_owned().await.map_err(|_| no_memory())?;
    let unpacked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        encoding.unpack(pieces, limit)
    });
    let pieces = unpacked.await.map_err(|_| no_memory())??;
    share.shrink_to(pieces.iter().map(Bytes::len).sum());
    Ok(Unpacked { pieces, share: Some(share) })
}

impl Waited {
    /// The client has sent `bytes`: enough of them, and its time begins anew.
    fn over(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.before += since.elapsed();
        }
        self.bytes += bytes;
        if self.bytes >= LEAST_PROGRESS {
            *self = Self::default();
        }
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
