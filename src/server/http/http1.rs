//! A connection of HTTP/1.1: its requests one after the other, and its end. The door of hyper's server.
//!
//! Invariants: the head of a request is bounded in bytes ([`MAX_HEADER_BYTES`]), in lines ([`MAX_HEADERS`]) and in
//! time. A connection has one call at a time, which runs in its own task. When the server stops, or the connection is
//! old or idle, the request in progress is the last one. hyper refuses a body with two lengths, and one whose length
//! and `transfer-encoding` disagree is read by the latter alone.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::poll_fn;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::detect::Rewound;
use super::exchange::{self, BrokenOff, Link, Source};
use crate::server::call;
use crate::server::frames::Seen;
use crate::server::lifetime::{End, Opened, Watch, stopped};
use crate::server::peer::Peer;
use crate::server::served::Served;
use crate::server::stream::Stream;

/// Bytes of a request's headers. A key, a trace and a client's name have some hundred.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Lines of a request's headers. Browsers send about twenty.
const MAX_HEADERS: usize = 100;
/// Bytes that are read, and that wait to be written, at a time.
const BUFFER: usize = 64 * 1024;

/// An event of a connection.
enum Event {
    Closed(Result<(), hyper::Error>),
    Stop,
    /// An answer cannot be completed, or the client left before the end of its request.
    Cut,
    End(End),
}

/// Serves a connection until it ends, or until the call in progress has ended after `stop`.
pub async fn serve(served: Arc<Served>, io: Rewound<Stream>, opened: Opened, stop: watch::Receiver<bool>) {
    let (peer, seen) = (Arc::clone(&opened.peer), Arc::clone(&opened.seen));
    let link = Arc::new(Link::default());
    let service = service_fn(|request: Request<Incoming>| {
        // From here to its end, what arrives is no head.
        let active = peer.begin_call();
        seen.head_ends();
        let (respond, answer) = exchange::http1(Arc::clone(&link));
        let request = request.map(|body| Source::Http1 { body, link: Arc::clone(&link) });
        let answering = call::answer(Arc::clone(&served), Arc::clone(&peer), request, respond);
        tokio::spawn(async {
            answering.await;
            drop(active);
        });
        async { answer.await.map_err(|_| BrokenOff) }
    });
    let heard = Heard { io, seen: Arc::clone(&seen), peer: Arc::clone(&peer) };
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        // `Watch` has this limit, and does not apply it to an idle connection.
        .header_read_timeout(None);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(heard), service));
    // It is dropped before the connection.
    let _over = Over(&link);
    let mut watch = Watch::new(opened, None);
    let (mut stop, mut cut_off) = (pin!(stopped(stop)), pin!(link.is_cut()));
    let mut stopping = false;
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(closed) = connection.as_mut().poll(cx) {
                return Poll::Ready(Event::Closed(closed));
            }
            if !stopping && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            if cut_off.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Cut);
            }
            watch.poll(cx).map(Event::End)
        });
        match event.await {
            Event::Closed(closed) => {
                if let Err(error) = closed {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            Event::Stop => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            Event::End(end @ (End::Idle | End::Aged)) => {
                tracing::debug!("a connection is asked to close: {end:?}");
                connection.as_mut().graceful_shutdown();
                watch.ask_to_close(end);
            }
            Event::Cut | Event::End(End::Dead | End::Flood) => return,
        }
    }
}

/// Notes the end of a connection when it is dropped.
struct Over<'a>(&'a Link);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A connection that notes when the head of a request begins to arrive.
struct Heard<IO> {
    io: IO,
    seen: Arc<Seen>,
    peer: Arc<Peer>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before && !self.peer.has_calls() {
            self.seen.head_begins();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
