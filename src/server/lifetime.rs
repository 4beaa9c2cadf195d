//! The timers that end a connection, of HTTP/2 or HTTP/1.1.
//!
//! Invariant: a connection ends that sends no first request in time, that leaves the head of a request incomplete, that
//! has no call for long, whose peer is gone, that is old, or that floods. Ending it in its protocol is left to the
//! drivers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::frames::Seen;
use super::peer::{Options, Peer};

/// Time for a client to close an idle connection that was asked to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest interval between two checks of a connection.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// The reason why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client sent more frames without work than it may.
    Flood,
    /// The client sent no first frame, did not answer a ping, or did not close.
    Dead,
    /// The connection had no call for long.
    Idle,
    /// The connection is old.
    Aged,
}

/// The timers and counters that end a connection.
pub struct Watch {
    /// The time by which the first frame or head must arrive, until it has.
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

/// A connection that is open, and whose protocol is known.
pub struct Opened {
    /// Its client.
    pub peer: Arc<Peer>,
    /// Its counts.
    pub seen: Arc<Seen>,
    /// The time by which its first frame, or the head of its first request, must have arrived.
    pub due: Instant,
    /// The settings.
    pub options: Options,
}

/// Resolves when the server stops.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the server is gone, which is also a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Watch {
    /// Watches a connection. `pings` is the way to ask its client for a sign of life, if its protocol has one.
    pub fn new(opened: Opened, pings: Option<PingPong>) -> Self {
        let Opened { peer, seen, due, options } = opened;
        Self {
            first_frame_due: Some(due),
            close_due: None,
            cut_due: None,
            pings,
            ping_sent: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            seen,
            max_age: options.max_age.map(|age| age.mul_f64(jitter(peer.id))),
            peer,
            options,
        }
    }

    /// Gives the connection a short time to close. `end` is the reason.
    pub fn ask_to_close(&mut self, end: End) {
        let now = Instant::now();
        self.close_due = Some(now + CLOSE_TIMEOUT);
        if end == End::Aged {
            self.max_age = None;
            self.cut_due = self.options.max_age_grace.map(|grace| now + grace);
        }
        self.timer.as_mut().reset(now);
    }

    /// Ready when the connection must end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.seen.flooded() {
            return Poll::Ready(End::Flood);
        }
        if let Some(pings) = &mut self.pings
            && self.ping_sent.is_some()
            && pings.poll_pong(cx).is_ready()
        {
            self.ping_sent = None;
        }
        if let Some(due) = self.head_due(Instant::now())
            && due < self.timer.deadline()
        {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.due(Instant::now()) {
                Ok(due) => self.timer.as_mut().reset(due),
                Err(end) => return Poll::Ready(end),
            }
        }
        Poll::Pending
    }

    /// The time by which the head of a request must be complete that has begun to arrive.
    fn head_due(&self, now: Instant) -> Option<Instant> {
        Some(now + self.options.handshake_timeout.saturating_sub(self.seen.head_open_for()?))
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
        let limits = [self.first_frame_due, self.head_due(now), self.close_due, self.cut_due];
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
        let keepalive = self.pings.is_some().then(|| match self.ping_sent {
            Some(sent) => in_future((sent + keepalive_timeout).saturating_duration_since(now)),
            None => in_future(keepalive_interval.saturating_sub(silent)),
        });
        let idle_due = in_future(connection_idle_timeout.saturating_sub(idle));
        let age_due = self.max_age.map(|age| in_future(age.saturating_sub(self.peer.age())));
        Ok(limits.into_iter().chain([age_due, keepalive]).flatten().fold(idle_due, Instant::min))
    }
}

/// A factor from 0.9 to 1.1 for the age of a connection, so that connections of one moment do not end in one moment.
/// Multiples of the golden ratio spread evenly.
fn jitter(connection: u64) -> f64 {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
    0.9 + 0.2 * (connection as f64 * GOLDEN_RATIO).fract()
}
