//! One connection: its handshake, its streams and its end.
//!
//! Invariants: the server ends a connection that sends no first frame, that has no call for long, whose peer is gone,
//! that is old, or whose peer floods it with frames. A peer that may still read gets a GOAWAY. Each call runs in its
//! own task ([`super::call`]), so a connection never computes.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::accept::ConnectionPermit;
use super::call;
use super::frames::{Counted, Seen};
use super::listen::Incoming;
use super::peer::{Options, Peer};
use super::served::Served;
use super::stream::{Remote, Stream};
use super::tls::Chain;

/// HTTP/2 flow-control windows. 256 KiB keep a stream of documents flowing over a network with a few milliseconds of
/// latency. 1 MiB is the most memory that a connection costs while none of it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of a request's headers. A key, a trace and a client's name have some hundred.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that may be reset before they are accepted, or because of a client's mistakes, before the connection ends.
const MAX_ERROR_RESETS: usize = 256;
/// Streams whose reset a client may not have seen yet: frames for them are ignored, and are not counted as mistakes.
const REMEMBERED_RESETS: usize = 256;
const REMEMBERED_RESET_TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer that wait for the network.
const SEND_BUFFER: usize = 256 * 1024;

/// Time for a GOAWAY to be sent, and time after it for a client to close an idle connection.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest interval between two checks of a connection.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// Serves a connection until it ends. `stop` becomes true when the server stops: then calls in progress continue, and
/// new ones are not accepted.
pub async fn serve(served: Arc<Served>, incoming: Incoming, permit: ConnectionPermit, stop: watch::Receiver<bool>) {
    let options = served.options;
    let handshake_due = Instant::now() + options.handshake_timeout;
    let handshake = tokio::time::timeout_at(handshake_due, handshake(incoming, &served));
    let Opened { mut connection, seen, remote, chain } = match handshake.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return tracing::debug!("a connection ends in its handshake: {reason}"),
        Err(_) => return tracing::debug!("a connection did not finish its handshake in time"),
    };
    let peer = Peer::new(served.memory.of_connection(options.max_message_bytes), remote);
    let watch = Watch {
        first_frame_due: Some(handshake_due),
        close_due: None,
        cut_due: None,
        pings: connection.ping_pong(),
        ping_sent: None,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        seen,
        max_age: options.max_age.map(|age| age.mul_f64(jitter(peer.id))),
        peer: Arc::clone(&peer),
        options,
    };
    // Counts the connection as open until it is over: the server waits until the last receiver is dropped.
    let open = stop.clone();
    tokio::select! {
        () = drive(served, connection, peer, watch, stop) => {}
        () = refused(chain) => tracing::debug!("a connection is cut off: its client certificate is no longer accepted"),
    }
    drop((permit, open));
}

/// Resolves when the client's certificates are no longer accepted.
async fn refused(chain: Option<Chain>) {
    match chain {
        Some(chain) => chain.refused().await,
        None => pending().await,
    }
}

/// A factor from 0.9 to 1.1 for the age of a connection, so that connections of one moment do not end in one moment.
/// Multiples of the golden ratio spread evenly.
fn jitter(connection: u64) -> f64 {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
    0.9 + 0.2 * (connection as f64 * GOLDEN_RATIO).fract()
}

/// A connection whose handshakes are done.
struct Opened {
    connection: Connection<Counted<Stream>, Bytes>,
    seen: Arc<Seen>,
    remote: Remote,
    chain: Option<Chain>,
}

/// Does the handshakes of TLS and HTTP/2.
async fn handshake(incoming: Incoming, served: &Served) -> Result<Opened, Box<dyn std::error::Error + Send + Sync>> {
    let address = incoming.address();
    let (stream, chain) = incoming.open(served.tls.as_deref()).await?;
    let remote = Remote { address, certificate: chain.as_ref().map(|chain| chain.certificate().into()) };
    let (io, seen) = Counted::new(stream);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(served.options.max_streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .max_pending_accept_reset_streams(MAX_ERROR_RESETS)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_RESET_TIME)
        .max_send_buffer_size(SEND_BUFFER);
    Ok(Opened { connection: builder.handshake(io).await?, seen, remote, chain })
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
    /// The connection is old.
    Aged,
}

async fn drive(
    served: Arc<Served>,
    mut connection: Connection<Counted<Stream>, Bytes>,
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
            Event::End(end @ (End::Idle | End::Aged)) => {
                tracing::debug!("a connection is asked to close: {end:?}");
                connection.graceful_shutdown();
                watch.ask_to_close(end);
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
    /// The time by which a connection must close after it was asked to, unless a call is in progress.
    close_due: Option<Instant>,
    /// The time by which an old connection must close in any case.
    cut_due: Option<Instant>,
    pings: Option<PingPong>,
    ping_sent: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    seen: Arc<Seen>,
    max_age: Option<Duration>,
    peer: Arc<Peer>,
    options: Options,
}

impl Watch {
    fn ask_to_close(&mut self, end: End) {
        let now = Instant::now();
        self.close_due = Some(now + CLOSE_TIMEOUT);
        if end == End::Aged {
            self.max_age = None;
            self.cut_due = self.options.max_age_grace.map(|grace| now + grace);
        }
        self.timer.as_mut().reset(now);
    }

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
        let limits = [self.first_frame_due, self.close_due, self.cut_due];
        if limits.into_iter().flatten().any(|due| due <= now) {
            return Err(End::Dead);
        }
        let Options { keepalive_interval, keepalive_timeout, connection_idle_timeout, .. } = self.options;
        let silent = self.seen.silent_for();
        if let Some(sent) = self.ping_sent
            && silent >= sent.elapsed()
            && sent + keepalive_timeout <= now
        {
            return Err(End::Dead);
        }
        if self.ping_sent.is_none()
            && silent >= keepalive_interval
            && let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            self.ping_sent = Some(now);
        }
        let idle = self.peer.idle_for();
        if self.close_due.is_none() && idle >= connection_idle_timeout {
            return Err(End::Idle);
        }
        if self.max_age.is_some_and(|age| age <= self.peer.age()) {
            return Err(End::Aged);
        }
        // A minimum pause, in case clocks disagree: the next check only comes a little later.
        let in_future = |left: Duration| now + left.max(MIN_PAUSE);
        let keepalive = match self.ping_sent {
            Some(sent) => in_future((sent + keepalive_timeout).saturating_duration_since(now)),
            None => in_future(keepalive_interval.saturating_sub(silent)),
        };
        let idle_due = in_future(connection_idle_timeout.saturating_sub(idle));
        let age_due = self.max_age.map(|age| in_future(age.saturating_sub(self.peer.age())));
        Ok(limits.into_iter().chain([age_due]).flatten().fold(keepalive.min(idle_due), Instant::min))
    }
}
