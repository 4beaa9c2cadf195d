//! Reads requests: each is measured, takes its memory from the message budget, and is decoded.
//!
//! Invariants: nothing is decoded before it was measured and its memory was taken from the budget. The memory is held
//! until the message and the values made from it are dropped. Large messages are decoded away from the async threads.
//! If the budget is used up, a unary call is refused and a stream waits for a while.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt, stream};
use http::HeaderMap;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, DecodeBuf, Decoder};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::access::Access;
use super::measure::{MeasureError, TooMany, measure};
use super::schema::SCHEMA;
use super::status::Failure;
use super::{Engine, compute_if_large};
use crate::budget::{ByteBudget, Held};
use crate::compute::{Caller, Deadline, Terms, WhenFull};

/// Time that a stream waits for memory before it fails. Without a limit, streams that wait for each other would wait
/// for ever.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

/// A decoded request.
#[derive(Debug)]
pub struct Received<Q> {
    /// The message.
    pub message: Q,
    /// Its bytes on the wire, decompressed.
    pub bytes: usize,
    /// Its part of the budget. Keep it until the message and the values made from it are dropped.
    pub held: Held,
    /// The caller's deadline.
    pub deadline: Deadline,
    /// The caller.
    pub caller: Caller,
    /// The collections that the caller may use.
    pub access: Access,
}

impl<Q> Received<Q> {
    /// The terms of a unary call.
    pub fn terms(&self) -> Terms {
        Terms { caller: self.caller, when_full: WhenFull::Refuse(self.deadline) }
    }

    /// The terms of a stream, which waits for room.
    pub fn terms_of_stream(&self) -> Terms {
        Terms { caller: self.caller, when_full: WhenFull::Wait }
    }
}

/// The next request of a stream, or the field with too many items to be decoded.
pub type Next<Q> = Result<Received<Q>, TooMany>;

/// The requests of a stream, until the first that cannot be read.
pub type Requests<Q> = Pin<Box<dyn Stream<Item = Result<Next<Q>, Status>> + Send>>;

/// The requests of a call that are not read yet.
pub struct Incoming<Q> {
    engine: Arc<Engine>,
    messages: Streaming<Bytes>,
    deadline: Deadline,
    caller: Caller,
    access: Access,
    /// Index of the request in the schema.
    request: usize,
    kind: PhantomData<fn() -> Q>,
}

impl<Q: Message + Default + 'static> Incoming<Q> {
    /// The requests of a call of the method at `path`.
    pub fn new(engine: Arc<Engine>, request: http::Request<Body>) -> Result<Self, Status> {
        let (parts, body) = request.into_parts();
        // The server sets these extensions.
        let deadline = parts.extensions.get::<Deadline>().copied().unwrap_or_default();
        let caller = parts.extensions.get::<Caller>().copied().unwrap_or_default();
        let access = Access::of(&parts.extensions);
        let request =
            SCHEMA.request(parts.uri.path()).ok_or_else(|| Status::unimplemented("this method does not exist"))?;
        let limit = engine.limits.max_message_bytes;
        let messages = Streaming::new_request(Undecoded, body, encoding(&parts.headers)?, Some(limit));
        Ok(Self { engine, messages, deadline, caller, access, request, kind: PhantomData })
    }

    /// Reads the one message of a unary call.
    pub async fn only(mut self) -> Result<Received<Q>, Status> {
        let Some(bytes) = self.message().await? else {
            return Err(Failure::Malformed("the request has no message: this call takes exactly one".into()).into());
        };
        let received = self.open(bytes, WhenFull::Refuse(self.deadline)).await?;
        if self.message().await?.is_some() {
            let reason = "the request has a second message: this call takes exactly one";
            return Err(Failure::Malformed(reason.into()).into());
        }
        received.map_err(|too_many| Failure::from(MeasureError::TooMany(too_many)).into())
    }

    /// Returns all messages of a stream.
    pub fn stream(self) -> Requests<Q> {
        let requests = stream::unfold(Some(self), |incoming| async move {
            let mut incoming = incoming?;
            match incoming.message().await {
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
                Ok(Some(bytes)) => match incoming.open(bytes, WhenFull::Wait).await {
                    Ok(next) => Some((Ok(next), Some(incoming))),
                    Err(failure) => Some((Err(failure.into()), None)),
                },
            }
        });
        requests.boxed()
    }

    /// Measures and decodes a message.
    async fn open(&self, bytes: Bytes, when_full: WhenFull) -> Result<Next<Q>, Failure> {
        let (engine, n_bytes) = (&*self.engine, bytes.len());
        let held = match hold_measured(engine, self.request, bytes.clone(), when_full).await? {
            Ok(held) => held,
            Err(too_many) => return Ok(Err(too_many)),
        };
        let decoded = compute_if_large(engine, n_bytes, when_full, move || Q::decode(bytes)).await?;
        let message = decoded.map_err(|error| Failure::Malformed(format!("the message cannot be read: {error}")))?;
        let (deadline, caller, access) = (self.deadline, self.caller, self.access.clone());
        Ok(Ok(Received { message, bytes: n_bytes, held, deadline, caller, access }))
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        self.messages.message().await.map_err(corrected)
    }
}

/// Measures a message, and holds the memory that it takes when it is decoded. Apart from [`Incoming::open`], because it
/// is the same for all messages.
async fn hold_measured(
    engine: &Engine,
    request: usize,
    bytes: Bytes,
    when_full: WhenFull,
) -> Result<Result<Held, TooMany>, Failure> {
    let (limits, n_bytes) = (engine.limits.clone(), bytes.len());
    match compute_if_large(engine, n_bytes, when_full, move || measure(request, &bytes, &limits)).await? {
        Ok(memory) => Ok(Ok(hold(&engine.messages, n_bytes + memory, when_full).await?)),
        Err(MeasureError::TooMany(too_many)) => Ok(Err(too_many)),
        Err(refused) => Err(refused.into()),
    }
}

/// Holds a part of the budget, but at most half of it, so that a single larger message is not refused for ever.
pub async fn hold(budget: &ByteBudget, bytes: usize, when_full: WhenFull) -> Result<Held, Failure> {
    let bytes = bytes.min(budget.total() / 2);
    if let Some(held) = budget.try_hold(bytes) {
        return Ok(held);
    }
    let held = match when_full {
        WhenFull::Refuse(_) => None,
        WhenFull::Wait => tokio::time::timeout(MEMORY_TIMEOUT, budget.hold(bytes)).await.ok().flatten(),
    };
    held.ok_or(Failure::NoMemory { bytes })
}

/// Corrects the codes of tonic's decoder, which reports unreadable messages as internal errors. They are mistakes of
/// the caller. A message that is too large when decompressed is out of range.
fn corrected(status: Status) -> Status {
    let details = status.get_error_details();
    if details.retry_info().is_some() || !status.details().is_empty() {
        return status; // from our own transport
    }
    match status.code() {
        Code::Internal => Failure::Malformed(format!("the message cannot be read: {}", status.message())).into(),
        Code::ResourceExhausted => Status::out_of_range(status.message()),
        _ => status,
    }
}

/// The encoding of compressed messages; `None`: identity.
fn encoding(headers: &HeaderMap) -> Result<Option<CompressionEncoding>, Status> {
    match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(None),
        Some(b"gzip") => Ok(Some(CompressionEncoding::Gzip)),
        Some(b"zstd") => Ok(Some(CompressionEncoding::Zstd)),
        Some(_) => {
            let mut status = Status::unimplemented("the header grpc-encoding must be gzip, zstd or identity");
            status.metadata_mut().insert("grpc-accept-encoding", "gzip,zstd,identity".parse().expect("it is ASCII"));
            Err(status)
        }
    }
}

/// A decoder that leaves messages as they are.
struct Undecoded;

impl Decoder for Undecoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
