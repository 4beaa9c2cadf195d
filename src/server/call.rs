//! One call: the protocol it is made in, its caller, its admission and its request.
//!
//! Invariants: a call holds its permits, that of the server and that of its caller, until the last byte of its answer
//! is handed to HTTP, and its deadline applies until then. Every protocol over every version of HTTP comes this way.

use std::sync::Arc;

use http::{Request, request};
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::Instrument;

use super::admission::CallPermit;
use super::answer::{Answer, fail};
use super::authentication::{EndOfRights, Recognised};
use super::http::cors;
use super::http::exchange::{Respond, Source};
use super::http::protocol::{Asked, Context, understand};
use super::http::reply::Reply;
use super::methods::Method;
use super::observed::Observed;
use super::peer::Peer;
use super::request::{Expected, Form, Messages};
use super::served::Served;
use super::time_limit::{Ended, TimeLimit};
use super::timeout;
use crate::compute;
use crate::rpc::access;
use crate::rpc::status::Failure;

/// Answers one request of `peer`.
pub async fn answer(served: Arc<Served>, peer: Arc<Peer>, request: Request<Source>, respond: Respond) {
    let _active = peer.begin_call();
    let (mut head, body) = request.into_parts();
    let context = Context {
        http1: matches!(body, Source::Http1 { .. }),
        origins: &served.origins,
        memory: &served.memory,
        max_message_bytes: served.options.max_message_bytes,
        api: &served.api,
        console: served.console,
    };
    let Asked { form, reply, fault } = match understand(&mut head, &context) {
        Ok(asked) => asked,
        Err(mut page) => {
            cors::allow(&mut page.headers, &served.origins.allowed(&head.headers));
            return page.send(respond, head.method == http::Method::HEAD);
        }
    };
    let mut observed = Observed::begin(&served.observers, Method::of(head.uri.path()), &peer);
    let recognised = recognise(&served, &mut observed, &mut head);
    let span = observed.begin_trace(&head.headers);
    let request = Request::from_parts(head, body);
    let recognised = recognised.and_then(|recognised| fault.map_or(Ok(recognised), Err));
    let allowed = recognised.map(|(allowance, end_of_rights)| Allowed { request, form, allowance, end_of_rights });
    answer_observed(&served, observed, allowed, (reply, respond)).instrument(span).await;
}

/// A request whose caller may make it.
struct Allowed {
    request: Request<Source>,
    form: Form,
    allowance: Option<Arc<compute::Allowance>>,
    end_of_rights: EndOfRights,
}

/// Answers a call. It is reported at the end of this function.
async fn answer_observed(
    served: &Served,
    mut observed: Observed<'_>,
    allowed: Result<Allowed, Failure>,
    (reply, mut respond): (Reply, Respond),
) {
    let admitted = match allowed {
        Ok(allowed) => admit(served, &observed, allowed, &mut respond).await,
        Err(failure) => Err(Ended::Failed(failure)),
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(Ended::Gone) => return,
        Err(Ended::Failed(failure)) => return fail(&reply, &mut observed, failure.into(), respond),
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
        () = respond.gone() => return,
    };
    let stall = served.options.client_timeouts.stall;
    Answer { reply: &reply, limit, stall, observed: &mut observed, in_part: false }.send(response, respond).await;
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
    respond: &mut Respond,
) -> Result<AdmittedCall, Ended> {
    let Allowed { request, form, allowance, end_of_rights } = allowed;
    let (mut head, body) = request.into_parts();
    let (path, method, peer) = (head.uri.path(), observed.record.method, &observed.record.peer);
    let timeout = timeout::parse(&head.headers).map_err(Ended::Failed)?;
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
        form,
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
        () = respond.gone() => return Err(Ended::Gone),
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
