//! The time limits for a client that sends a request.
//!
//! Invariant: a client ends its call if it sends fewer than [`MIN_PROGRESS`] bytes in [`ClientTimeouts::stall`] while
//! the server waits for it. So does a client that is silent for [`ClientTimeouts::idle`] between two messages of a
//! stream. Only the time in which the server waits counts. Deadlines of calls are left to `call.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::rpc::refusal::Refusal;
use crate::server::progress::Progress;

/// Bytes that must arrive in [`ClientTimeouts::stall`], unless fewer complete the message.
pub const MIN_PROGRESS: usize = 16 * 1024;

/// The time that the server waits for a client.
#[derive(Debug, Clone, Copy)]
pub struct ClientTimeouts {
    /// Time in the middle of a message, and for the one message of a unary call. Higher: slower clients are served, and
    /// a client that sends nothing holds its permit longer.
    pub stall: Duration,
    /// Time between the messages of a stream while no answer is sent either. Higher: people may type for longer between
    /// two messages, and a client that disappeared holds its permit longer.
    pub idle: Duration,
}

/// The part of a request that the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The rest of a message, or the one message of a unary call.
    Message,
    /// The next message of a stream, which may come at any time.
    NextOfStream,
}

/// The timer of one request: measures how long the server waits for the client.
pub struct ClientTimer {
    client_timeouts: ClientTimeouts,
    progress: Arc<Progress>,
    waited: WaitedTime,
    timer: Pin<Box<Sleep>>,
}

/// The time that the server has waited for the client, and the bytes that came in this time.
#[derive(Debug, Default)]
struct WaitedTime {
    before: Duration,
    since: Option<Instant>,
    bytes: usize,
}

impl ClientTimer {
    /// The timer of a request that begins now. It reports to `progress`.
    pub fn new(client_timeouts: ClientTimeouts, progress: Arc<Progress>) -> Self {
        Self {
            client_timeouts,
            progress,
            waited: WaitedTime::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Records that the client has sent `bytes`. If they are enough, its time restarts.
    pub fn arrived(&mut self, bytes: usize) {
        let waited = &mut self.waited;
        if let Some(since) = waited.since.take() {
            waited.before += since.elapsed();
        }
        waited.bytes += bytes;
        if waited.bytes >= MIN_PROGRESS {
            self.begin_anew();
        }
        self.progress.moved();
    }

    /// Records that the client has ended the stream.
    pub fn ended(&self) {
        self.progress.moved();
    }

    /// Restarts the client's time: a head or a message is complete.
    pub fn begin_anew(&mut self) {
        self.waited = WaitedTime::default();
    }

    /// Ready when the server has waited for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>, awaited: Awaited) -> Poll<Refusal> {
        let ClientTimeouts { stall, idle } = self.client_timeouts;
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
        // If the timer fires early, check again: an answer may have been sent meanwhile.
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
