//! A connection of HTTP/2: its handshake, its streams and its end. The door of h2's connections.
//!
//! Invariants: the server ends a connection that sends no first frame, and one whose peer floods it with frames
//! ([`frames`](super::super::frames)). A peer that may still read gets a GOAWAY.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::sync::watch;

use super::detect::Rewound;
use super::exchange::{Respond, Source};
use super::http1::MAX_HEADER_BYTES;
use crate::server::call;
use crate::server::frames::Counted;
use crate::server::lifetime::{End, Opened, Watch, stopped};
use crate::server::peer::Peer;
use crate::server::served::Served;
use crate::server::stream::Stream;

/// HTTP/2 flow-control windows. 256 KiB keep a stream of documents flowing over a network with a few milliseconds of
/// latency. 1 MiB is the most memory that a connection costs while none of it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Streams that may be reset before they are accepted, or because of a client's mistakes, before the connection ends.
const MAX_ERROR_RESETS: usize = 256;
/// Streams whose reset a client may not have seen yet: frames for them are ignored, and are not counted as mistakes.
const REMEMBERED_RESETS: usize = 256;
const REMEMBERED_RESET_TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer that wait for the network.
const SEND_BUFFER: usize = 256 * 1024;

/// Time for a GOAWAY to be sent.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection until it ends, or until calls in progress have ended after `stop`.
pub async fn serve(served: Arc<Served>, io: Rewound<Stream>, opened: Opened, stop: watch::Receiver<bool>) {
    let io = Counted::new(io, Arc::clone(&opened.seen));
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(served.options.max_streams)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .max_pending_accept_reset_streams(MAX_ERROR_RESETS)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_RESET_TIME)
        .max_send_buffer_size(SEND_BUFFER);
    let mut connection = match tokio::time::timeout_at(opened.due, builder.handshake(io)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(reason)) => return tracing::debug!("a connection ends in its handshake: {reason}"),
        Err(_) => return tracing::debug!("a connection did not finish its handshake in time"),
    };
    let peer = Arc::clone(&opened.peer);
    let watch = Watch::new(opened, connection.ping_pong());
    drive(served, connection, peer, watch, stop).await;
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

async fn drive(
    served: Arc<Served>,
    mut connection: Connection<Counted<Rewound<Stream>>, Bytes>,
    peer: Arc<Peer>,
    mut watch: Watch,
    stop: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(stopped(stop));
    let mut stopping = false;
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(match accepted {
                    Some(Ok((request, respond))) => Event::Call(request, respond),
                    Some(Err(error)) => Event::Closed(Some(error)),
                    None => Event::Closed(None),
                });
            }
            if !stopping && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            watch.poll(cx).map(Event::End)
        });
        match event.await {
            Event::Call(request, respond) => {
                let (request, respond) = (request.map(Source::Http2), Respond::Http2(respond));
                tokio::spawn(call::answer(Arc::clone(&served), Arc::clone(&peer), request, respond));
            }
            Event::Closed(error) => {
                if let Some(error) = error {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            Event::Stop => {
                stopping = true;
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
