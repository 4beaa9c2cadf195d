//! One connection: its handshake, its streams, and its end, for whatever reason.
//!
//! Invariants: a connection that says nothing at first, that has no call for long, whose peer is gone, or whose peer
//! floods it with frames ends, by a GOAWAY where its peer may still read one. Calls are answered by tasks of their own
//! ([`super::call`]), so a connection never computes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tonic::service::Routes;

use super::accept::Admitted;
use super::call;
use super::frames::{Counted, Seen};
use super::methods::Gates;
use super::request::{Memory, Patience};
use crate::budget::ByteBudget;

/// HTTP/2 windows: what a client may send ahead. 256 KiB keep a stream of documents flowing over a network of some
/// milliseconds; 1 MiB is what a connection can cost at most while none of it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Streams that a connection may have open. More wait at the client.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that may be reset for a client's mistakes before the connection ends, and before they were accepted.
const MAX_ERROR_RESETS: usize = 256;
/// Streams whose reset a client may not have seen: frames for them are passed over, and not held against it.
const REMEMBERED_RESETS: usize = 256;
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Bytes of an answer that wait for the network.
const SEND_BUFFER: usize = 256 * 1024;

/// A client that is silent for so long is pinged, and gone if it does not answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a GOAWAY may take to be sent, and after it a client to close an idle connection.
const LAST_WORDS: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection is looked at, at most.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// How connections and their calls are served.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of one message in either direction, decompressed.
    pub max_message_bytes: usize,
    /// How long the client of a call is waited for.
    pub patience: Patience,
    /// How long a new connection may take until its first frame. Higher: slower networks get in, and connections that
    /// say nothing stay longer.
    pub handshake_timeout: Duration,
    /// How long a connection may have no call. Higher: clients that call seldom connect less often, and connections
    /// that nobody uses stay longer.
    pub connection_idle_timeout: Duration,
}

/// What all connections share.
#[derive(Debug)]
pub struct Served {
    /// The services.
    pub routes: Routes,
    /// How many calls there may be.
    pub gates: Gates,
    /// The memory of requests.
    pub memory: Memory,
    /// How they are served.
    pub options: Options,
}

/// The other end of a connection, for its calls.
#[derive(Debug)]
pub struct Peer {
    /// Its number.
    pub id: u64,
    /// The memory that its requests may take.
    pub memory: ByteBudget,
    begun: Instant,
    calls: AtomicUsize,
    last_call_ms: AtomicU64,
}

impl Peer {
    fn new(memory: ByteBudget) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            memory,
            begun: Instant::now(),
            calls: AtomicUsize::new(0),
            last_call_ms: AtomicU64::new(0),
        })
    }

    /// Counts a call until the result is dropped.
    pub fn begin_call(self: &Arc<Self>) -> ActiveCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        ActiveCall(Arc::clone(self))
    }

    /// How long there has been no call.
    fn idle_for(&self) -> Duration {
        if self.calls.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_call_ms.load(Ordering::Relaxed)))
    }
}

/// A call in progress.
#[derive(Debug)]
pub struct ActiveCall(Arc<Peer>);

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.last_call_ms.store(self.0.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection to its end. `stop` becomes true when the server stops: calls in progress go on, and no new ones
/// are taken.
pub async fn serve(served: Arc<Served>, stream: TcpStream, admitted: Admitted, stop: watch::Receiver<bool>) {
    let options = served.options;
    let (io, seen) = Counted::new(stream);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .max_pending_accept_reset_streams(MAX_ERROR_RESETS)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_send_buffer_size(SEND_BUFFER);
    let began = Instant::now();
    let handshake = tokio::time::timeout(options.handshake_timeout, builder.handshake::<_, Bytes>(io));
    let mut connection = match handshake.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection did not speak HTTP/2"),
        Err(_) => return tracing::debug!("a connection said nothing in time"),
    };
    let peer = Peer::new(served.memory.of_connection(options.max_message_bytes));
    let watch = Watch {
        first_frame_due: Some(began + options.handshake_timeout),
        close_due: None,
        pings: connection.ping_pong(),
        ping_sent: None,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        seen,
        peer: Arc::clone(&peer),
        idle_timeout: options.connection_idle_timeout,
    };
    // Counts as open until it is over: the server waits for the last receiver.
    let open = stop.clone();
    drive(served, connection, peer, watch, stop).await;
    drop((admitted, open));
}

/// What happens to a connection. A call is most of what happens, so it is not boxed.
#[allow(clippy::large_enum_variant)]
enum Event {
    Call(Request<RecvStream>, SendResponse<Bytes>),
    /// The connection is over.
    Closed(Option<h2::Error>),
    Stop,
    End(End),
}

/// Why we end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It sent more frames without work than it may.
    Flood,
    /// It sent no frame at first, or no answer to a ping, or did not close.
    Dead,
    /// It had no call for long.
    Idle,
}

async fn drive(
    served: Arc<Served>,
    mut connection: Connection<Counted<TcpStream>, Bytes>,
    peer: Arc<Peer>,
    mut watch: Watch,
    mut stop: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(async move {
        // An error means that the server is gone: stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let mut stopped = false;
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(match accepted {
                    Some(Ok((request, respond))) => Event::Call(request, respond),
                    Some(Err(error)) => Event::Closed(Some(error)),
                    None => Event::Closed(None),
                });
            }
            if !stopped && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            watch.poll(cx).map(Event::End)
        });
        match event.await {
            Event::Call(request, respond) => {
                tokio::spawn(call::answer(Arc::clone(&served), Arc::clone(&peer), request, respond));
            }
            Event::Closed(error) => {
                if let Some(error) = error {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            Event::Stop => {
                stopped = true;
                connection.graceful_shutdown();
            }
            Event::End(End::Idle) => {
                tracing::debug!("a connection without calls is closed");
                connection.graceful_shutdown();
                watch.close_due = Some(Instant::now() + CLOSE_TIMEOUT);
                watch.timer.as_mut().reset(Instant::now());
            }
            Event::End(End::Dead) => return,
            Event::End(End::Flood) => {
                tracing::debug!("a connection is closed: it sends frames that bring no work");
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let closed = poll_fn(|cx| connection.poll_closed(cx));
                // Whatever comes of it, the connection is over.
                let _ = tokio::time::timeout(LAST_WORDS, closed).await;
                return;
            }
        }
    }
}

/// What ends a connection that does not end itself.
struct Watch {
    /// Until when the first frame must come, while none has.
    first_frame_due: Option<Instant>,
    /// Until when a connection that was told to must close.
    close_due: Option<Instant>,
    pings: Option<PingPong>,
    ping_sent: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    seen: Arc<Seen>,
    peer: Arc<Peer>,
    idle_timeout: Duration,
}

impl Watch {
    /// Ready when the connection is to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.seen.flooded() {
            return Poll::Ready(End::Flood);
        }
        if let Some(pings) = &mut self.pings
            && self.ping_sent.is_some()
            && pings.poll_pong(cx).is_ready()
        {
            self.ping_sent = None;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.due(Instant::now()) {
                Ok(due) => self.timer.as_mut().reset(due),
                Err(end) => return Poll::Ready(end),
            }
        }
        Poll::Pending
    }

    /// When to look again, unless the connection is to end now.
    fn due(&mut self, now: Instant) -> Result<Instant, End> {
        if self.seen.any_frame() {
            self.first_frame_due = None;
        }
        if self.close_due.is_some() && self.peer.idle_for().is_zero() {
            // A call was on its way when the connection was asked to close.
            self.close_due = Some(now + CLOSE_TIMEOUT);
        }
        if [self.first_frame_due, self.close_due].into_iter().flatten().any(|due| due <= now) {
            return Err(End::Dead);
        }
        let silent = self.seen.silent_for();
        if let Some(sent) = self.ping_sent
            && silent >= sent.elapsed()
            && sent + KEEPALIVE_TIMEOUT <= now
        {
            return Err(End::Dead);
        }
        if self.ping_sent.is_none()
            && silent >= KEEPALIVE_INTERVAL
            && let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            self.ping_sent = Some(now);
        }
        let idle = self.peer.idle_for();
        if self.close_due.is_none() && idle >= self.idle_timeout {
            return Err(End::Idle);
        }
        // At least a moment, whatever the clocks say: it is only looked again.
        let in_future = |left: Duration| now + left.max(LEAST_PAUSE);
        let keepalive = match self.ping_sent {
            Some(sent) => in_future((sent + KEEPALIVE_TIMEOUT).saturating_duration_since(now)),
            None => in_future(KEEPALIVE_INTERVAL.saturating_sub(silent)),
        };
        let idle_due = in_future(self.idle_timeout.saturating_sub(idle));
        Ok([self.first_frame_due, self.close_due].into_iter().flatten().fold(keepalive.min(idle_due), Instant::min))
    }
}
