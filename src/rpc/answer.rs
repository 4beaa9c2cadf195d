//! Answers: large ones are encoded away from the async threads, and their memory is held until they are sent.
//!
//! Invariants: the size of an answer is known before it is built, and an answer above max_message_bytes is never built.
//! From then on the message budget holds its memory, until its last byte was handed to the socket. No byte is copied
//! after it was encoded.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::status::Failure;
use super::{Engine, Limits, compute_if_large, request};
use crate::budget::Held;
use crate::compute::WhenFull;

/// Bytes of the flag and the length before each message.
const HEADER_BYTES: usize = 5;

/// An encoded message, with the bytes that precede it on the wire.
#[derive(Debug)]
pub struct Answer(Bytes);

impl Answer {
    /// Encodes a small message.
    pub fn of(message: &impl Message, limits: &Limits) -> Result<Self, Failure> {
        encode(message, limits).map(|bytes| Self(bytes.into()))
    }

    /// Builds and encodes a message of at most `bytes`, or a little less. Fails before anything is built if the message
    /// is too large, or if there is no memory for it.
    pub async fn build<M: Message>(
        engine: &Engine,
        bytes: usize,
        when_full: WhenFull,
        make: impl FnOnce() -> Result<M, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let limits = engine.limits.clone();
        check(bytes, &limits)?;
        // The message, and its encoded form.
        let mut held = request::hold(&engine.messages, 2 * bytes, when_full).await?;
        compute_if_large(engine, bytes, when_full, move || {
            let encoded = encode(&make()?, &limits)?;
            held.shrink_to(encoded.len());
            Ok(Self(Bytes::from_owner(Paid { bytes: encoded, _held: held })))
        })
        .await?
    }

    /// The number of its bytes on the wire.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Refuses an answer of `bytes` that is too large for a message.
pub fn check(bytes: usize, limits: &Limits) -> Result<(), Failure> {
    let limit = limits.max_message_bytes;
    if bytes > limit { Err(Failure::AnswerTooLarge { limit }) } else { Ok(()) }
}

fn encode(message: &impl Message, limits: &Limits) -> Result<Vec<u8>, Failure> {
    let n = message.encoded_len();
    check(n, limits)?;
    let length = u32::try_from(n).map_err(|_| Failure::AnswerTooLarge { limit: u32::MAX as usize })?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + n);
    bytes.push(0); // not compressed
    bytes.extend(length.to_be_bytes());
    message.encode_raw(&mut bytes);
    Ok(bytes)
}

/// Bytes that hold their part of the budget.
struct Paid {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Returns the response that sends `answers`, and then the status.
pub fn respond(answers: impl Stream<Item = Result<Answer, Status>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::new(Sending { answers: Some(Box::pin(answers)) }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The body of a response.
struct Sending<S> {
    /// `None` once all answers are sent.
    answers: Option<Pin<Box<S>>>,
}

impl<S: Stream<Item = Result<Answer, Status>>> HttpBody for Sending<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
        let end = match ready!(answers.as_mut().poll_next(cx)) {
            Some(Ok(answer)) => return Poll::Ready(Some(Ok(Frame::data(answer.0)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.answers = None;
        let mut trailers = HeaderMap::new();
        end.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.answers.is_none()
    }
}

/// Returns the answer if it fits in a message.
pub fn bounded<M: Message>(answer: M, limits: &Limits) -> Result<M, Failure> {
    check(answer.encoded_len(), limits)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::budget::ByteBudget;
    use crate::wire;

    async fn frame(body: &mut Body) -> Option<Frame<Bytes>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_body_has_each_message_after_its_length_and_the_status_at_the_end() {
        let message = wire::CreateCollectionRequest { name: "a name".into(), ..Default::default() };
        let answer = Answer::of(&message, &Limits::default()).unwrap();
        assert_eq!(answer.bytes(), HEADER_BYTES + message.encoded_len());
        let answers = stream::iter([Ok(answer), Err(Failure::Internal.into())]);
        let mut body = respond(answers).into_body();
        let data = frame(&mut body).await.unwrap().into_data().unwrap();
        assert_eq!(data[..HEADER_BYTES], [0, 0, 0, 0, 8]);
        assert_eq!(wire::CreateCollectionRequest::decode(&data[HEADER_BYTES..]), Ok(message));
        let trailers = frame(&mut body).await.unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "13");
        assert!(frame(&mut body).await.is_none());
    }

    #[test]
    fn a_message_above_the_limit_is_not_encoded() {
        let limits = Limits { max_message_bytes: 10, ..Limits::default() };
        let message = wire::CreateCollectionRequest { name: "longer than that".into(), ..Default::default() };
        assert_eq!(Answer::of(&message, &limits).unwrap_err(), Failure::AnswerTooLarge { limit: 10 });
    }

    #[test]
    fn memory_is_given_back_when_the_last_part_of_an_answer_is_dropped() {
        let budget = ByteBudget::new(1 << 20);
        let held = budget.try_hold(1 << 10).unwrap();
        let mut rest = Bytes::from_owner(Paid { bytes: vec![1; 1 << 10], _held: held });
        let first = rest.split_to(100);
        drop(rest);
        assert_eq!(budget.in_use(), 1 << 10);
        drop(first);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn an_empty_stream_ends_with_status_ok() {
        let mut body = respond(stream::empty()).into_body();
        assert_eq!(frame(&mut body).await.unwrap().into_trailers().unwrap()["grpc-status"], "0");
        assert!(frame(&mut body).await.is_none());
    }
}
