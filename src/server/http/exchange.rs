//! Both ends of one HTTP request, its body and its answer, over HTTP/2 or HTTP/1.1. Calls are written against this
//! file, so their limits hold for both.
//!
//! Invariants: a body is read only when it is asked for its next bytes. At most one piece of an answer waits for an
//! HTTP/1.1 connection; HTTP/2 has the client's windows. The end of an answer always has room. The door of hyper's
//! bodies and h2's streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, mpsc, oneshot};

/// Bytes handed over at a time.
pub const PIECE: usize = 64 * 1024;

/// Parts of an answer that an HTTP/1.1 connection has room for: a piece, the last frame of a protocol, and the end.
const PARTS: usize = 3;

/// The client has left: nobody reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A connection of HTTP/1.1, as its calls see it.
#[derive(Debug, Default)]
pub struct Link {
    cut: Notify,
    over: AtomicBool,
}

impl Link {
    /// Ends the connection, because an answer cannot be completed or the client left before the end of its request.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// Resolves when a call ends the connection.
    pub async fn is_cut(&self) {
        self.cut.notified().await;
    }

    /// Notes that the connection is over. To be called before its bodies are dropped.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// The body of a request.
pub enum Source {
    /// A stream of HTTP/2.
    Http2(RecvStream),
    /// A request of HTTP/1.1.
    Http1 {
        /// The body.
        body: hyper::body::Incoming,
        /// Told when the client left before the end of it.
        link: Arc<Link>,
    },
}

/// The reason why a body cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// The client has left.
    Gone,
    /// Its framing is damaged.
    Damaged,
}

impl Source {
    /// Reads the next bytes; `None` at the end. If the client of HTTP/1.1 has left, its connection ends, and the call
    /// with it.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Unreadable>>> {
        match self {
            Self::Http2(body) => {
                let data = ready!(body.poll_data(cx));
                if let Some(Ok(data)) = &data {
                    // From now on the budget counts these bytes, and the HTTP/2 window no longer does.
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(data.map(|data| data.map_err(|_| Unreadable::Gone)))
            }
            Self::Http1 { body, link } => loop {
                let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) if is_damaged(&error) => return Poll::Ready(Some(Err(Unreadable::Damaged))),
                    Some(Err(_)) => {
                        link.cut();
                        return Poll::Pending;
                    }
                    // hyper shows the end of the connection as that of the body. The call ends with the connection.
                    None if link.is_over() => return Poll::Pending,
                    None => return Poll::Ready(None),
                };
                // Trailers of a request mean nothing to any protocol here.
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            },
        }
    }
}

/// Returns true if the body is at fault, for example the length of a chunk, and not the connection.
fn is_damaged(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// The answer of a request, before its head.
pub enum Respond {
    /// A stream of HTTP/2.
    Http2(SendResponse<Bytes>),
    /// A request of HTTP/1.1.
    Http1(Http1Respond),
}

/// The answer of a request of HTTP/1.1, before its head.
pub struct Http1Respond {
    head: oneshot::Sender<Response<Http1Body>>,
    link: Arc<Link>,
}

/// The answer of a request over HTTP/1.1, for hyper. `link` is cut when the connection must end because the answer
/// cannot.
pub fn http1(link: Arc<Link>) -> (Respond, oneshot::Receiver<Response<Http1Body>>) {
    let (head, answer) = oneshot::channel();
    (Respond::Http1(Http1Respond { head, link }), answer)
}

impl Respond {
    /// Resolves when the client has left.
    pub async fn gone(&mut self) {
        match self {
            Self::Http2(respond) => {
                let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            }
            Self::Http1(respond) => respond.head.closed().await,
        }
    }

    /// Sends a head without a body.
    pub fn end(self, head: Response<()>) {
        // An error means that the client has left.
        match self {
            Self::Http2(mut respond) => {
                let _ = respond.send_response(head, true);
            }
            Self::Http1(respond) => {
                let _ = respond.head.send(head.map(|()| Http1Body { parts: None }));
            }
        }
    }

    /// Sends a head. The body follows.
    pub fn begin(self, head: Response<()>) -> Result<Sink, Gone> {
        match self {
            Self::Http2(mut respond) => respond.send_response(head, false).map(Sink::Http2).map_err(|_| Gone),
            Self::Http1(Http1Respond { head: sender, link }) => {
                let (parts, received) = mpsc::channel(PARTS);
                sender.send(head.map(|()| Http1Body { parts: Some(received) })).map_err(|_| Gone)?;
                Ok(Sink::Http1 { parts, link })
            }
        }
    }
}

/// The body of an answer, for its sender.
pub enum Sink {
    /// A stream of HTTP/2.
    Http2(SendStream<Bytes>),
    /// An answer of HTTP/1.1.
    Http1 {
        /// The way to the connection.
        parts: mpsc::Sender<Part>,
        /// Told when the connection must end.
        link: Arc<Link>,
    },
}

/// A part of the body of an answer of HTTP/1.1.
#[derive(Debug)]
pub enum Part {
    /// Bytes.
    Data(Bytes),
    /// The regular end.
    End,
}

impl Sink {
    /// Resolves when the client has left.
    pub async fn gone(&mut self) {
        match self {
            Self::Http2(send) => {
                let _ = poll_fn(|cx| send.poll_reset(cx)).await;
            }
            Self::Http1 { parts, .. } => parts.closed().await,
        }
    }

    /// Asks for room for `wanted` bytes. Returns the bytes that may be sent now.
    pub fn room(&mut self, wanted: usize) -> usize {
        match self {
            Self::Http2(send) => {
                send.reserve_capacity(wanted.min(PIECE));
                send.capacity()
            }
            Self::Http1 { parts, .. } if parts.capacity() == PARTS => PIECE,
            Self::Http1 { .. } => 0,
        }
    }

    /// Waits until there is room for some of the bytes that were asked for.
    pub async fn wait_for_room(&mut self) -> Result<usize, Gone> {
        match self {
            Self::Http2(send) => match poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(Ok(room)) => Ok(room),
                Some(Err(_)) | None => Err(Gone),
            },
            // The permits are given back at once: there is no other sender.
            Self::Http1 { parts, .. } => parts.reserve_many(PARTS).await.map(|_| PIECE).map_err(|_| Gone),
        }
    }

    /// Sends bytes for which there is room, or the last ones.
    pub fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        match self {
            Self::Http2(send) => send.send_data(data, false).map_err(|_| Gone),
            Self::Http1 { parts, .. } => parts.try_send(Part::Data(data)).map_err(|_| Gone),
        }
    }

    /// Ends the answer.
    pub fn end(&mut self) -> Result<(), Gone> {
        match self {
            Self::Http2(send) => send.send_data(Bytes::new(), true).map_err(|_| Gone),
            Self::Http1 { parts, .. } => parts.try_send(Part::End).map_err(|_| Gone),
        }
    }

    /// Ends the answer with trailers. They need no window, so a client that takes no data still gets them. Protocols
    /// over HTTP/1.1 have none.
    pub fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        match self {
            Self::Http2(send) => send.send_trailers(trailers).map_err(|_| Gone),
            Self::Http1 { .. } => self.end(),
        }
    }

    /// Breaks the answer off. The client sees that it is not complete.
    pub fn cut_off(&mut self) {
        match self {
            Self::Http2(send) => send.send_reset(Reason::CANCEL),
            Self::Http1 { link, .. } => link.cut(),
        }
    }
}

/// The body of an answer of HTTP/1.1, for hyper. It fails if its sender goes before the end.
pub struct Http1Body {
    /// `None` at the end.
    parts: Option<mpsc::Receiver<Part>>,
}

/// The sender of an answer went before its end.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off")]
pub struct BrokenOff;

impl Body for Http1Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        match ready!(parts.poll_recv(cx)) {
            Some(Part::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Part::End) => {
                self.parts = None;
                Poll::Ready(None)
            }
            None => Poll::Ready(Some(Err(BrokenOff))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.parts.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
