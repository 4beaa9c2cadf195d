//! The gate that calls pass: how many at a time, until when, and whether the server still takes any.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;

use crate::compute::Deadline;
use crate::rpc::status::Failure;

/// The call that is answered even when no more are let in: a client that is refused asks it for the limits.
const ALWAYS_ANSWERED: &str = "/Info";

/// tonic has a timer of its own outside of this one, whose end is `CANCELLED`. Ours must be first.
const HEAD_START: Duration = Duration::from_millis(2);

/// Counts calls.
pub struct Gate {
    places: Arc<Semaphore>,
    limit: usize,
    closed: AtomicBool,
}

impl Gate {
    /// Lets `limit` calls in at a time.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(limit)), limit, closed: AtomicBool::new(false) }
    }

    /// Calls in progress.
    pub fn calls(&self) -> usize {
        self.limit - self.places.available_permits()
    }

    /// Lets no more in.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Waits for the last call to end.
    pub async fn drained(&self) {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        // Never closed, so this is never an error.
        let _ = self.places.acquire_many(all).await;
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Status> {
        if self.closed.load(Ordering::Acquire) {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
            return Err(Status::with_error_details(Code::Unavailable, "the server is stopping", details));
        }
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Failure::TooManyCalls(self.limit).into())
    }
}

/// A service behind a gate.
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> Gated<S> {
    pub fn new(inner: S, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
    }
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.uri().path().ends_with(ALWAYS_ANSWERED) {
            return Box::pin(self.inner.call(request));
        }
        let place = match self.gate.enter() {
            Ok(place) => place,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let deadline = timeout(request.headers()).map(|t| Instant::now() + t.saturating_sub(HEAD_START));
        if let Some(deadline) = deadline {
            // So that what cannot be done by then is refused.
            request.extensions_mut().insert(Deadline::at(deadline));
        }
        let deadline = deadline.map(|deadline| tokio::time::sleep_until(deadline.into()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match deadline {
                None => answer.await?,
                Some(deadline) => tokio::select! {
                    answer = answer => answer?,
                    // The call is dropped here, and what it queued with it.
                    () = deadline => return Ok(Status::from(Failure::DeadlineExceeded).into_http()),
                },
            };
            Ok(answer.map(|body| Body::new(Counted { body, _place: place })))
        })
    }
}

/// The caller's deadline: `grpc-timeout`, at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let digits = Some(digits).filter(|d| d.len() <= 8 && d.bytes().all(|b| b.is_ascii_digit()))?;
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// A response body that keeps its call's place until it has been sent.
struct Counted {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value.parse().unwrap());
        timeout(&headers)
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(of("3M"), Some(Duration::from_secs(180)));
        assert_eq!(of("4S"), Some(Duration::from_secs(4)));
        assert_eq!(of("5m"), Some(Duration::from_millis(5)));
        assert_eq!(of("6u"), Some(Duration::from_micros(6)));
        assert_eq!(of("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    /// A service that never answers.
    #[derive(Clone)]
    struct Silent;

    impl Service<Request<()>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = futures::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            futures::future::pending()
        }
    }

    #[tokio::test]
    async fn a_call_past_its_deadline_is_dropped_and_says_so() {
        let gate = Arc::new(Gate::new(1));
        let mut service = Gated::new(Silent, Arc::clone(&gate));
        let request =
            Request::builder().uri("/cognate.v1.Cognate/Embed").header("grpc-timeout", "20m").body(()).unwrap();
        let answer = service.call(request).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4");
        assert_eq!(gate.calls(), 0);
    }

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_in_and_drains_when_the_last_has_left() {
        let gate = Gate::new(2);
        let first = gate.enter().unwrap();
        let second = gate.enter().unwrap();
        assert_eq!(gate.enter().unwrap_err().code(), Code::ResourceExhausted);
        drop(second);
        gate.close();
        assert_eq!(gate.enter().unwrap_err().code(), Code::Unavailable);
        let mut drained = std::pin::pin!(gate.drained());
        assert!(futures::poll!(&mut drained).is_pending());
        drop(first);
        drained.await;
    }
}
