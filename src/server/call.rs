//! One call: its admission, its request, and its answer at the speed of the client.
//!
//! Invariants: a call holds its permits, that of the server and that of its caller, until the last byte of its answer
//! is handed to HTTP/2, and its deadline applies until then. No more of an answer is handed over than the client's
//! flow-control windows allow. So the server never waits for a client that takes too little for too long, and can still
//! send it a status.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, Response, StatusCode, request};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::Instrument;

use super::admission::CallPermit;
use super::authentication::{EndOfRights, Recognised};
use super::methods::Method;
use super::observed::Observed;
use super::peer::Peer;
use super::progress::Progress;
use super::request::{Expected, MIN_PROGRESS, Messages};
use super::served::Served;
use super::timeout;
use super::unpack::Encoding;
use crate::compute;
use crate::rpc::access;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// Bytes handed to HTTP/2 at a time.
const PIECE: usize = 64 * 1024;

/// Answers one request of `peer`.
pub async fn answer(
    served: Arc<Served>,
    peer: Arc<Peer>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let _active = peer.begin_call();
    let (mut head, body) = request.into_parts();
    if let Some(status) = unsupported(&head) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        // An error means that the client has left.
        let _ = respond.send_response(response, true);
        return;
    }
    let mut observed = Observed::begin(&served.observers, Method::of(head.uri.path()), &peer);
    let recognised = recognise(&served, &mut observed, &mut head);
    let span = observed.begin_trace(&head.headers);
    let request = Request::from_parts(head, body);
    let allowed = recognised.map(|(allowance, end_of_rights)| Allowed { request, allowance, end_of_rights });
    answer_observed(&served, observed, allowed, respond).instrument(span).await;
}

/// A request whose caller may make it.
struct Allowed {
    request: Request<RecvStream>,
    allowance: Option<Arc<compute::Allowance>>,
    end_of_rights: EndOfRights,
}

/// Answers a call. It is reported at the end of this function.
async fn answer_observed(
    served: &Served,
    mut observed: Observed<'_>,
    allowed: Result<Allowed, Failure>,
    mut respond: SendResponse<Bytes>,
) {
    let admitted = match allowed {
        Ok(allowed) => admit(served, &observed, allowed, &mut respond).await,
        Err(failure) => Err(Ended::Failed(failure)),
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(Ended::Gone) => return,
        Err(Ended::Failed(failure)) => {
            let (head, ()) = Status::from(failure).into_http::<()>().into_parts();
            observed.told(&head.headers);
            // An error means that the client has left.
            let _ = respond.send_response(Response::from_parts(head, ()), true);
            return;
        }
    };
    // The permits are held until the end of this function.
    let AdmittedCall { _permit, _of_caller, mut limit, request } = admitted;
    let mut routes = served.routes.clone();
    let response = tokio::select! {
        response = routes.call(request) => match response {
            Ok(response) => response,
            Err(never) => match never {},
        },
        // The call is dropped here, with its queued work.
        failure = limit.over() => Status::from(failure).into_http(),
        () = reset(&mut respond) => return,
    };
    let (head, body) = response.into_parts();
    let ends_here = body.is_end_stream();
    if ends_here {
        observed.told(&head.headers);
    }
    let Ok(send) = respond.send_response(Response::from_parts(head, ()), ends_here) else { return };
    if !ends_here {
        let stall = served.options.client_timeouts.stall;
        Answer { send, limit, stall, observed: &mut observed }.send(body).await;
    }
}

/// A call that holds its permits.
struct AdmittedCall {
    _permit: CallPermit,
    _of_caller: Option<compute::CallInProgress>,
    limit: TimeLimit,
    request: Request<Body>,
}

/// Admits a call: a stream when it begins, a unary call when its one message has arrived.
async fn admit(
    served: &Served,
    observed: &Observed<'_>,
    allowed: Allowed,
    respond: &mut SendResponse<Bytes>,
) -> Result<AdmittedCall, Ended> {
    let Allowed { request, allowance, end_of_rights } = allowed;
    let (mut head, body) = request.into_parts();
    let (path, method, peer) = (head.uri.path(), observed.record.method, &observed.record.peer);
    let timeout = timeout::parse(&head.headers)
        .map_err(|timeout::Negative| Ended::Failed(Failure::Transport(Refusal::NegativeTimeout)))?;
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        // This applies even if the answer is known at once.
        return Err(Ended::Failed(Failure::DeadlineExceeded));
    }
    if let Some(timeout) = timeout {
        // Work that cannot be done by the deadline is refused.
        head.extensions.insert(compute::Deadline::at(observed.began() + timeout));
    }
    let stream = method.is_client_stream();
    let first = if stream { served.limiters.admit(path, peer.id) } else { served.limiters.admit_arriving(peer.id) };
    let first = first.map_err(Ended::Failed)?;
    let mut limit = TimeLimit::new(timeout, end_of_rights, Arc::clone(&first.progress));
    let expected = Expected {
        stream,
        encoding: encoding(&head.headers),
        max_message_bytes: served.options.max_message_bytes,
        client_timeouts: served.options.client_timeouts,
        memory: served.memory.clone(),
        of_connection: peer.memory.clone(),
        progress: Arc::clone(&first.progress),
        traffic: observed.received(),
    };
    let mut messages = Messages::new(body, expected);
    // Like the permit of the server: a stream counts from its beginning, another call when its message is here.
    let begin = || allowance.as_ref().map(compute::Allowance::begin_call).transpose();
    let begin = || begin().map_err(|exceeded| Ended::Failed(Failure::Exceeded(exceeded)));
    if stream {
        let request = Request::from_parts(head, Body::new(messages));
        return Ok(AdmittedCall { _permit: first, _of_caller: begin()?, limit, request });
    }
    tokio::select! {
        biased;
        () = messages.first() => {}
        failure = limit.over() => return Err(Ended::Failed(failure)),
        () = reset(respond) => return Err(Ended::Gone),
    }
    let permit = served.limiters.admit(path, peer.id).map_err(Ended::Failed)?;
    limit.progress = Arc::clone(&permit.progress);
    let request = Request::from_parts(head, Body::new(messages));
    Ok(AdmittedCall { _permit: permit, _of_caller: begin()?, limit, request })
}

/// Recognises the caller and checks that it may call the method, by the head of the request alone. Leaves the principal
/// in its extensions.
fn recognise(
    served: &Served,
    observed: &mut Observed<'_>,
    head: &mut request::Parts,
) -> Result<(Option<Arc<compute::Allowance>>, EndOfRights), Failure> {
    let record = &mut observed.record;
    let recognised = served.authentication.recognise(record.method, &record.peer, &mut head.headers)?;
    let Recognised { principal, caller, allowance, end } = recognised;
    record.principal = principal.shared_name();
    access::check(head.uri.path(), &principal)?;
    head.extensions.insert(principal);
    head.extensions.insert(caller);
    Ok((allowance, end))
}

/// The HTTP status of a request that is not a gRPC request; `None` for gRPC.
fn unsupported(head: &request::Parts) -> Option<StatusCode> {
    if head.method != http::Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Parameters may follow. gRPC-Web and other codecs have names that begin in the same way.
    let essence = content_type.split(';').next().unwrap_or_default().trim_ascii();
    let known = ["application/grpc", "application/grpc+proto"].iter().any(|known| essence.eq_ignore_ascii_case(known));
    (!known).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// The compression of the messages. The service refuses an unknown encoding.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    Encoding::from_name(headers.get("grpc-encoding")?.to_str().ok()?)
}

/// Resolves when the client resets the stream, or its connection is gone.
async fn reset(respond: &mut SendResponse<Bytes>) {
    let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
}

/// The time limit of a call: the caller's deadline, if it gave one, the end of its rights, and the time when others
/// need its permit.
struct TimeLimit {
    deadline: Option<Pin<Box<Sleep>>>,
    end_of_rights: EndOfRights,
    progress: Arc<Progress>,
}

impl TimeLimit {
    fn new(timeout: Option<Duration>, end_of_rights: EndOfRights, progress: Arc<Progress>) -> Self {
        Self { deadline: timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))), end_of_rights, progress }
    }

    /// Resolves when the call must end, with the reason.
    async fn over(&mut self) -> Failure {
        let Self { deadline, end_of_rights, progress } = self;
        let passed = async {
            match deadline {
                Some(sleep) => sleep.as_mut().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = passed => Failure::DeadlineExceeded,
            () = end_of_rights.reached() => Failure::Unauthenticated,
            () = progress.asked_to_yield() => Failure::Transport(Refusal::GaveWay),
        }
    }
}

/// An answer whose head has been sent.
struct Answer<'a, 'b> {
    send: SendStream<Bytes>,
    limit: TimeLimit,
    stall: Duration,
    observed: &'a mut Observed<'b>,
}

/// The reason why a call ends early.
enum Ended {
    /// The client has left.
    Gone,
    /// The client gets this status.
    Failed(Failure),
}

impl Answer<'_, '_> {
    async fn send(mut self, body: Body) {
        match self.send_all(body).await {
            Ok(()) => {}
            Err(Ended::Gone) => self.send.send_reset(Reason::CANCEL),
            Err(Ended::Failed(failure)) => {
                let mut trailers = HeaderMap::new();
                // Trailers need no window, so a client that takes no data still gets them.
                let written = Status::from(failure).add_header(&mut trailers).is_ok();
                self.observed.told(&trailers);
                if !written || self.send.send_trailers(trailers).is_err() {
                    self.send.send_reset(Reason::CANCEL);
                }
            }
        }
    }

    async fn send_all(&mut self, mut body: Body) -> Result<(), Ended> {
        loop {
            let Self { send, limit, .. } = self;
            let frame = tokio::select! {
                frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
                failure = limit.over() => return Err(Ended::Failed(failure)),
                _ = poll_fn(|cx| send.poll_reset(cx)) => return Err(Ended::Gone),
            };
            let frame = match frame {
                None => return self.send.send_data(Bytes::new(), true).map_err(|_| Ended::Gone),
                // tonic writes errors into trailers; a body that breaks off has no other way to report one.
                Some(Err(_)) => return Err(Ended::Failed(Failure::Internal)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => self.send_data(data).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.observed.told(&trailers);
                        return self.send.send_trailers(trailers).map_err(|_| Ended::Gone);
                    }
                }
            }
        }
    }

    /// Hands over `data` at the speed of the client.
    async fn send_data(&mut self, mut data: Bytes) -> Result<(), Ended> {
        let (mut stalled_at, mut sent) = (None, 0);
        while !data.is_empty() {
            self.send.reserve_capacity(data.len().min(PIECE));
            let capacity = match self.send.capacity() {
                0 => {
                    let since = *stalled_at.get_or_insert_with(Instant::now);
                    self.limit.progress.waits();
                    self.capacity(since + self.stall).await?
                }
                capacity => capacity,
            };
            let piece = data.split_to(capacity.min(data.len()));
            self.observed.sent(&piece);
            sent += piece.len();
            self.limit.progress.moved();
            if sent >= MIN_PROGRESS {
                (stalled_at, sent) = (None, 0);
            }
            self.send.send_data(piece, false).map_err(|_| Ended::Gone)?;
        }
        Ok(())
    }

    /// Waits until the client takes more data, or until `stalled`.
    async fn capacity(&mut self, stalled: Instant) -> Result<usize, Ended> {
        let Self { send, limit, stall, .. } = self;
        tokio::select! {
            capacity = poll_fn(|cx| send.poll_capacity(cx)) => match capacity {
                Some(Ok(capacity)) => Ok(capacity),
                Some(Err(_)) | None => Err(Ended::Gone),
            },
            failure = limit.over() => Err(Ended::Failed(failure)),
            () = tokio::time::sleep_until(stalled) => {
                Err(Ended::Failed(Failure::Transport(Refusal::AnswerStalled { timeout: *stall })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: http::Method, content_type: &str) -> Option<StatusCode> {
        let request = Request::builder().method(method).header(CONTENT_TYPE, content_type).body(()).unwrap();
        unsupported(&request.into_parts().0)
    }

    #[test]
    fn other_methods_and_content_types_get_an_http_status() {
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"] {
            assert_eq!(of(http::Method::POST, grpc), None, "{grpc}");
        }
        for other in ["application/json", "application/grpc-web", "application/grpc+json", "text/plain", ""] {
            assert_eq!(of(http::Method::POST, other), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{other}");
        }
        assert_eq!(of(http::Method::GET, "application/grpc"), Some(StatusCode::METHOD_NOT_ALLOWED));
    }
}
