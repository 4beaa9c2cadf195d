//! One connection: its handshake, its streams and its end.
//!
//! Invariants: the server ends a connection that sends no first frame, that has no call for long, whose peer is gone,
//! or whose peer floods it with frames. A peer that may still read gets a GOAWAY. Each call runs in its own task
//! ([`super::call`]), so a connection never computes.

use std::pin::Pin;
use std::sync::Arc;
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

use super::accept::ConnectionPermit;
use super::call;
use super::frames::{Counted, Seen};
use super::peer::Peer;
use super::served::Served;

/// HTTP/2 flow-control windows. 256 KiB keep a stream of documents flowing over a network with a few milliseconds of
/// latency. 1 MiB is the most memory that a connection costs while none of it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Concurrent streams of a connection. The client queues further ones.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that may be reset before they are accepted, or because of a client's mistakes, before the connection ends.
const MAX_ERROR_RESETS: usize = 256;
/// Streams whose reset a client may not have seen yet: frames for them are ignored, and are not counted as mistakes.
const REMEMBERED_RESETS: usize = 256;
const REMEMBERED_RESET_TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer that wait for the network.
const SEND_BUFFER: usize = 256 * 1024;

/// A client that is silent for the interval gets a ping. If it does not answer within the timeout, it is gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for a GOAWAY to be sent, and time after it for a client to close an idle connection.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest interval between two checks of a connection.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// Serves a connection until it ends. `stop` becomes true when the server stops: then calls in progress continue, and
/// new ones are not accepted.
pub async fn serve(served: Arc<Served>, stream: TcpStream, permit: ConnectionPermit, stop: watch::Receiver<bool>) {
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
        .reset_stream_duration(REMEMBERED_RESET_TIME)
        .max_send_buffer_size(SEND_BUFFER);
    let began = Instant::now();
    let handshake = tokio::time::timeout(options.handshake_timeout, builder.handshake::<_, Bytes>(io));
    let mut connection = match handshake.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection does not speak HTTP/2"),
        Err(_) => return tracing::debug!("a connection sent nothing within the handshake timeout"),
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
    // Counts the connection as open until it is over: the server waits until the last receiver is dropped.
    let open = stop.clone();
    drive(served, connection, peer, watch, stop).await;
    drop((permit, open));
}

/// An event of a connection. Most events are calls, so they are not boxed.
#[allow(clippy::large_enum_variant)]
enum Event {
    Call(Request<RecvStream>, SendResponse<Bytes>),
    /// The connection is over.
    Closed(Option<h2::Error>),
    Stop,
    End(End),
}

/// The reason why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client sent more frames without work than it may.
    Flood,
    /// The client sent no first frame, did not answer a ping, or did not close.
    Dead,
    /// The connection had no call for long.
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
        // An error means that the server is gone, which is also a stop.
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
                tracing::debug!("a connection without calls is asked to close");
                connection.graceful_shutdown();
                watch.close_due = Some(Instant::now() + CLOSE_TIMEOUT);
                watch.timer.as_mut().reset(Instant::now());
            }
            Event::End(End::Dead) => return,
            Event::End(End::Flood) => {
                tracing::debug!("a connection is closed: it sends too many frames that carry no work");
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let closed = poll_fn(|cx| connection.poll_closed(cx));
                // The connection is over with any result.
                let _ = tokio::time::timeout(GOAWAY_TIMEOUT, closed).await;
                return;
            }
        }
    }
}

/// The timers and counters that end a connection.
struct Watch {
    /// The time by which the first frame must arrive, until it has.
    first_frame_due: Option<Instant>,
    /// The time by which a connection must close after it was asked to.
    close_due: Option<Instant>,
    pings: Option<PingPong>,
    ping_sent: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    seen: Arc<Seen>,
    peer: Arc<Peer>,
    idle_timeout: Duration,
}

impl Watch {
    /// Ready when the connection must end.
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

    /// Returns the time of the next check, or the reason to end the connection now.
    fn due(&mut self, now: Instant) -> Result<Instant, End> {
        if self.seen.any_frame() {
            self.first_frame_due = None;
        }
        if self.close_due.is_some() && self.peer.idle_for().is_zero() {
            // A call was in transit when the connection was asked to close.
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
        // A minimum pause, in case clocks disagree: the next check only comes a little later.
        let in_future = |left: Duration| now + left.max(MIN_PAUSE);
        let keepalive = match self.ping_sent {
            Some(sent) => in_future((sent + KEEPALIVE_TIMEOUT).saturating_duration_since(now)),
            None => in_future(KEEPALIVE_INTERVAL.saturating_sub(silent)),
        };
        let idle_due = in_future(self.idle_timeout.saturating_sub(idle));
        Ok([self.first_frame_due, self.close_due].into_iter().flatten().fold(keepalive.min(idle_due), Instant::min))
    }
}
