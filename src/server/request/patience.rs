//! How long a request waits for its client.
//!
//! Invariant: a client that sends fewer than [`LEAST_PROGRESS`] bytes in [`Patience::stall`] while the server waits for
//! it ends its call; so does one that is silent for [`Patience::idle`] between two messages of a stream. Only time in
//! which the server waits counts against the client. Deadlines of calls are left to `call.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::rpc::refusal::Refusal;
use crate::server::progress::Progress;

/// Bytes that must arrive in [`Patience::stall`], unless the message is complete with less.
pub const LEAST_PROGRESS: usize = 16 * 1024;

/// How long the server waits for a client.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// In the middle of a message, and for the one message of a call. Higher: slower clients are served, and a client
    /// that sends nothing holds its place longer.
    pub stall: Duration,
    /// Between the messages of a stream, while no answer is sent either. Higher: people may type for longer between
    /// two messages, and a client that went away without a word holds its place longer.
    pub idle: Duration,
}

/// The part of a request that the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The rest of a message, or the one message of a call.
    Message,
    /// The next message of a stream, which may come at any time.
    NextOfStream,
}

/// The waiting of one request for its client.
pub struct Waiting {
    patience: Patience,
    progress: Arc<Progress>,
    waited: Waited,
    timer: Pin<Box<Sleep>>,
}

/// How long the server has waited for the client, and how many bytes came meanwhile.
#[derive(Debug, Default)]
struct Waited {
    before: Duration,
    since: Option<Instant>,
    bytes: usize,
}

impl Waiting {
    /// The waiting of a request that begins now, and tells `progress` of it.
    pub fn new(patience: Patience, progress: Arc<Progress>) -> Self {
        Self { patience, progress, waited: Waited::default(), timer: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// The client has sent `bytes`. If they are enough, its time begins anew.
    pub fn arrived(&mut self, bytes: usize) {
        let waited = &mut self.waited;
        if let Some(since) = waited.since.take() {
            waited.before += since.elapsed();
        }
        waited.bytes += bytes;
        if waited.bytes >= LEAST_PROGRESS {
            self.begin_anew();
        }
        self.progress.moved();
    }

    /// The client has ended the stream.
    pub fn ended(&self) {
        self.progress.moved();
    }

    /// The time of the client begins anew: a head or a message is complete.
    pub fn begin_anew(&mut self) {
        self.waited = Waited::default();
    }

    /// Ready when the server has waited for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>, awaited: Awaited) -> Poll<Refusal> {
        let Patience { stall, idle } = self.patience;
        self.progress.waits();
        let now = Instant::now();
        let since = *self.waited.since.get_or_insert(now);
        let (due, refusal) = match awaited {
            Awaited::NextOfStream => {
                (since.max(self.progress.last_moved()) + idle, Refusal::StreamIdle { timeout: idle })
            }
            Awaited::Message => {
                (since + stall.saturating_sub(self.waited.before), Refusal::RequestStalled { timeout: stall })
            }
        };
        if due <= now {
            return Poll::Ready(refusal);
        }
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        // Woken too early, it looks again: an answer may have been sent meanwhile.
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
