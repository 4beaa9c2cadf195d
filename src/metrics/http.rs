//! The listener for scrapes and probes: plain HTTP/1.1, for an inner network.
//!
//! Invariants: at most [`CONNECTIONS`] connections are open; further ones wait in the system's backlog. Each answers
//! one request and is closed, at the latest after [`PATIENCE`]. One scrape is made at a time, on a blocking thread.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_TYPE};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::scrape::Metrics;

/// Connections at a time. A Prometheus pair, a load balancer and a person have one each.
const CONNECTIONS: usize = 8;
/// Time for a request to come and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// The text format of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The state of the requests.
#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    /// The turn of a scrape.
    turn: Arc<Semaphore>,
}

/// Answers scrapes and probes for ever.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let routes = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(async || answer(StatusCode::OK, PLAIN, "alive\n".to_owned())))
        .route("/readyz", get(readiness))
        .with_state(Shared { metrics, turn: Arc::new(Semaphore::new(1)) });
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS)) };
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "metrics are served no more");
    }
}

async fn scrape(State(Shared { metrics, turn }): State<Shared>) -> Response {
    let turn = turn.acquire_owned().await;
    let rendered = tokio::task::spawn_blocking(move || {
        // Held until the scrape is made, even if its client has left.
        let _turn = turn;
        metrics.render()
    });
    match rendered.await {
        Ok(Ok(text)) => answer(StatusCode::OK, OPEN_METRICS, text),
        Ok(Err(_)) | Err(_) => {
            tracing::error!("a scrape failed");
            answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the scrape failed\n".to_owned())
        }
    }
}

async fn readiness(State(Shared { metrics, .. }): State<Shared>) -> Response {
    match metrics.readiness() {
        Ok(text) => answer(StatusCode::OK, PLAIN, text.to_owned()),
        Err(text) => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text.to_owned()),
    }
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response {
    (status, [(CONTENT_TYPE, content_type), (CONNECTION, "close")], text).into_response()
}

/// A listener with a bounded number of connections.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        // Never fails: the semaphore is not closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        (Visit { stream, end: Box::pin(tokio::time::sleep(PATIENCE)), _place: place }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over.
struct Visit {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Visit {
    fn check_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.end.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
