//! Requests to the engine: its nodes in turn, with time-outs and bounded retries.
//!
//! Every request may be sent twice without harm: documents are written under their ids, and changes that depend on a
//! state name its number. So a request whose answer is lost is sent again, to the next node, after a pause with jitter.
//!
//! Invariants: at most [`MOST_IN_FLIGHT`] requests are in flight. Their answers take at most [`ANSWERS_BYTES`] of
//! memory until they are read. One that is larger than [`MOST_ANSWER_BYTES`] is not read, and the caller asks for less.
//! The addresses of nodes are in the log, and in no text for a client.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::{Certificate, Client, Identity, StatusCode, Url, header};
use tokio::sync::Semaphore;

use super::error::{Error, StartError, Unavailable};
use super::options::Options;
use super::refusal::{self, Refusal, RefusalReason, beginning};
use crate::budget::{ByteBudget, Held};
use crate::per_second::PerSecond;

/// Requests in flight. The engine has a queue of a thousand for each kind of work, which other servers use too.
const MOST_IN_FLIGHT: usize = 64;

/// Memory of all answers that are not read yet.
const ANSWERS_BYTES: usize = 256 << 20;

/// Memory of one answer.
const MOST_ANSWER_BYTES: usize = if cfg!(test) { 12 << 10 } else { 64 << 20 };

/// Time to connect to a node.
const CONNECT: Duration = Duration::from_secs(3);

/// Time for which a node that did not answer is asked after all others.
const DOWN: Duration = Duration::from_secs(5);

/// Lines of the log in a second about requests that were given up.
const LOGGED: u64 = 1;

/// Attempts beyond one for each node.
const MORE_ATTEMPTS: usize = 2;

/// The first pause between attempts. Each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// The effect of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// JSON, or one JSON on each line; may be empty.
    pub body: Bytes,
}

/// The body of an answer, which counts as held until it is dropped.
pub(super) struct Answer {
    pub body: Bytes,
    _held: Held,
}

/// The answer to a request.
pub(super) enum Sent {
    Answer(Answer),
    /// It has more than [`MOST_ANSWER_BYTES`].
    TooLarge,
}

/// The nodes of the engine.
pub(super) struct Http {
    client: Client,
    hosts: Vec<Host>,
    next: AtomicUsize,
    user: Option<(String, String)>,
    timeout: Duration,
    in_flight: Semaphore,
    answers: ByteBudget,
    logged: PerSecond,
}

struct Host {
    address: Url,
    /// The time until which it comes after others.
    down_until: Mutex<Option<Instant>>,
}

/// An attempt that another one may follow.
struct Failed {
    /// The reason for the client.
    reason: String,
    /// The reason for the log.
    details: String,
    /// The node did not answer at all.
    is_down: bool,
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Delete => Self::DELETE,
        }
    }
}

impl Request {
    /// A request with a JSON body.
    pub fn new(method: Method, path: String, body: &serde_json::Value) -> Self {
        Self { method, path, body: Bytes::from(body.to_string()) }
    }

    /// A request without a body.
    pub fn bare(method: Method, path: String) -> Self {
        Self { method, path, body: Bytes::new() }
    }
}

impl Http {
    /// Reads the certificates. Connects to nothing yet.
    pub fn new(options: &Options) -> Result<Self, StartError> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| StartError::Settings(format!("{what}: {error}"));
        let mut client = Client::builder().connect_timeout(CONNECT).tcp_keepalive(Duration::from_secs(30));
        if let Some(path) = &options.ca {
            let pem = std::fs::read(path).map_err(|error| wrong(&format!("store_ca {}", path.display()), &error))?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(&format!("store_ca {} is not PEM", path.display()), &error))?;
            client = client.tls_built_in_root_certs(false);
            client = authorities.into_iter().fold(client, |client, one| client.add_root_certificate(one));
        }
        if let Some((certificate, key)) = &options.identity {
            let read = |path| std::fs::read(path).map_err(|error| wrong("store_cert and store_key", &error));
            let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
            let identity = Identity::from_pem(&pem)
                .map_err(|error| wrong("store_cert and store_key are not a certificate and its key in PEM", &error))?;
            client = client.identity(identity);
        }
        let host = |host: &String| {
            let address = Url::parse(host).map_err(|error| wrong(&format!("store: {host} is no address"), &error))?;
            if !matches!(address.scheme(), "http" | "https") {
                return Err(wrong(&format!("store: {host} is no address"), &"expected http:// or https://"));
            }
            Ok::<_, StartError>(Host { address, down_until: Mutex::default() })
        };
        let hosts = options.hosts.iter().map(host).collect::<Result<Vec<Host>, _>>()?;
        if hosts.is_empty() {
            return Err(StartError::Settings("store has no address: expected opensearch+https://host:9200".into()));
        }
        Ok(Self {
            client: client.build().map_err(|error| wrong("TLS", &error))?,
            hosts,
            next: AtomicUsize::new(0),
            user: options.user.clone(),
            timeout: options.timeout,
            in_flight: Semaphore::new(MOST_IN_FLIGHT),
            answers: ByteBudget::new(ANSWERS_BYTES),
            logged: PerSecond::new(LOGGED),
        })
    }

    /// Sends a request until a node answers, or all attempts have failed.
    pub async fn send(&self, request: &Request) -> Result<Sent, Error> {
        let attempts = self.hosts.len() + MORE_ATTEMPTS;
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = Unavailable::new("", jittered(Duration::from_secs(2)));
        for attempt in 0..attempts {
            let host = self.host(first.wrapping_add(attempt));
            // The permit is given back before the pause.
            let permit = self.in_flight.acquire().await;
            let outcome = self.attempt(host, request).await;
            drop(permit);
            match outcome {
                Ok(sent) => {
                    if lock(&host.down_until).take().is_some() {
                        tracing::info!(node = %host.address, "the node of the search engine answers again");
                    }
                    return sent;
                }
                Err(Failed { reason, details, is_down }) => {
                    if is_down && lock(&host.down_until).replace(Instant::now() + DOWN).is_none() {
                        let reason = &details;
                        tracing::warn!(reason, "a node of the search engine does not answer: others are asked first");
                    }
                    tracing::debug!(details, attempt, path = %request.path, "an attempt failed");
                    (last.reason, last.details) = (reason, details);
                }
            }
            // Each node is asked once before the first pause.
            if attempt + 1 < attempts && attempt + 1 >= self.hosts.len() {
                tokio::time::sleep(pause(attempt + 1 - self.hosts.len())).await;
            }
        }
        self.give_up(&last);
        Err(Error::Unavailable(last))
    }

    /// Logs the reason why a request is not sent again.
    pub fn give_up(&self, last: &Unavailable) {
        if self.logged.admits() {
            let reason = &last.details;
            tracing::warn!(reason, "the search engine is not available: a request failed after all attempts");
        }
    }

    /// The node behind the first ones in turn, of those that are not down if there is one.
    fn host(&self, first: usize) -> &Host {
        let now = Instant::now();
        let in_turn = (0..self.hosts.len()).map(|n| &self.hosts[(first.wrapping_add(n)) % self.hosts.len()]);
        let is_up = |host: &&Host| lock(&host.down_until).is_none_or(|until| until <= now);
        in_turn.clone().find(is_up).unwrap_or(&self.hosts[first % self.hosts.len()])
    }

    async fn attempt(&self, host: &Host, request: &Request) -> Result<Result<Sent, Error>, Failed> {
        let failed = |error: reqwest::Error| {
            let kind = match (error.is_timeout(), error.is_connect()) {
                (true, _) => "does not answer in time",
                (_, true) => "cannot be reached",
                _ => "broke the connection",
            };
            let details = format!("{} {kind}: {}", host.address, cause(&error));
            Failed { reason: format!("a node of it {kind}"), details, is_down: true }
        };
        let not_sent = |details: String| Failed { reason: "a request cannot be sent".into(), details, is_down: false };
        let url = host
            .address
            .join(&request.path)
            .map_err(|error| not_sent(format!("{} is no path: {error}", request.path)))?;
        let mut asked = self.client.request(request.method.into(), url).timeout(self.timeout);
        if !request.body.is_empty() {
            let kind = if request.body.ends_with(b"\n") { "application/x-ndjson" } else { "application/json" };
            asked = asked.header(header::CONTENT_TYPE, kind).body(request.body.clone());
        }
        if let Some((user, password)) = &self.user {
            asked = asked.basic_auth(user, Some(password));
        }
        let mut response = asked.send().await.map_err(failed)?;
        let status = response.status();
        let bytes = response.content_length().map_or(MOST_ANSWER_BYTES, |bytes| bytes as usize);
        if bytes > MOST_ANSWER_BYTES {
            return Ok(Ok(Sent::TooLarge));
        }
        let held = self
            .answers
            .hold(bytes)
            .await
            .ok_or_else(|| not_sent(format!("an answer of {bytes} bytes does not fit")))?;
        let mut body = BytesMut::with_capacity(bytes.min(1 << 16));
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > bytes {
                return Ok(Ok(Sent::TooLarge));
            }
            body.extend_from_slice(&part);
        }
        let body = body.freeze();
        if status.is_success() {
            return Ok(Ok(Sent::Answer(Answer { body, _held: held })));
        }
        refused(&host.address, request, status, &body).map(Err)
    }
}

/// The error that a refusal means; as a failure if another attempt may succeed.
fn refused(address: &Url, request: &Request, status: StatusCode, body: &[u8]) -> Result<Error, Failed> {
    let refusal = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error).ok();
    if let Some(error) = refusal.as_ref().and_then(RefusalReason::known) {
        return Ok(error);
    }
    let number = status.as_u16();
    let passes = refusal.as_ref().map_or(refusal::passes(number), |refusal| refusal.passes(Some(number)));
    let said =
        refusal.as_ref().map_or_else(|| beginning(&String::from_utf8_lossy(body)), |refusal| refusal.to_string());
    let details = format!("{address} answers {status} to {}: {said}", beginning(&request.path));
    match refusal {
        _ if !passes => Ok(Error::unexpected(details)),
        Some(refusal) => Err(Failed { reason: refusal.in_short(), details, is_down: false }),
        None => Err(Failed { reason: format!("it answers {status}"), details, is_down: false }),
    }
}

/// The innermost cause of a failure: the outer ones repeat the address.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The pause after an attempt, from 0.
pub(super) fn pause(attempt: usize) -> Duration {
    /// Doublings: 100 ms to 1.6 s.
    const MOST: u32 = 4;
    jittered(PAUSE * 2_u32.pow((attempt as u32).min(MOST)))
}

/// A time between half and one and a half of this one, so that many callers do not come at once.
fn jittered(time: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    time.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
