//! The answer of the service in the protocol of its caller.
//!
//! Invariants: gRPC's own answers pass unchanged, unless the client asks for compression. Each of the others has the
//! messages of the rpc, one by one, and a status at its end that no client can miss. Large messages are translated and
//! compressed on a blocking thread, few at a time. Failures and the ends of streams are not compressed.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::poll_fn;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY};
use http_body::Body as _;
use tonic::body::Body;
use tonic::{Code, Status};

use super::translation::{FailureForm, MEMORY_FACTOR, Output, Translation};
use super::{connect, cors, web};
use crate::budget::ByteBudget;
use crate::rpc::status::Failure;
use crate::server::request::Memory;
use crate::server::unpack::Encoding;

/// Bytes of the flag and the length before a message.
const HEAD: usize = 5;
/// Bytes of messages that are translated and compressed on the thread that sends them: a fraction of a millisecond.
const INLINE: usize = 16 * 1024;

/// The shape of an answer.
#[derive(Clone, Copy)]
pub enum Shape {
    /// gRPC: messages behind heads, and trailers.
    Grpc,
    /// gRPC-web: the same, with the trailers in a last frame; or all of it in base64.
    Web {
        /// True for base64.
        text: bool,
    },
    /// A stream of the Connect protocol: messages behind heads, and an envelope with the status.
    Envelopes,
    /// JSON of a stream, a message in each line. A failure is a last line.
    Lines,
    /// One message without a head, or a failure in this form.
    Whole(FailureForm),
}

/// The form of the answer to one call.
pub struct Reply {
    /// Its shape.
    pub shape: Shape,
    /// The translation of its messages; `None`: they stay as they are.
    pub translation: Option<Arc<dyn Translation>>,
    /// The compression that the client asks for.
    pub packing: Option<Encoding>,
    /// The origin whose pages may read it.
    pub origin: Option<HeaderValue>,
    /// The memory of messages.
    pub memory: Memory,
    /// Bytes of one message before its translation.
    pub max_message_bytes: usize,
}

/// A part of an answer in its shape.
#[derive(Debug, PartialEq)]
pub struct Part {
    /// Its bytes.
    pub data: Bytes,
    /// The compression of all of them. The flags of messages behind heads have their own.
    pub encoding: Option<Encoding>,
}

/// The end of a body.
pub enum End {
    /// Trailers.
    Trailers(HeaderMap),
    /// Last bytes.
    Data(Bytes),
}

impl Reply {
    /// Returns true if the head needs the status, which comes last.
    pub fn is_whole(&self) -> bool {
        matches!(self.shape, Shape::Whole(_))
    }

    /// Returns true if the end of the answer is beside its body.
    pub fn has_trailers(&self) -> bool {
        matches!(self.shape, Shape::Grpc)
    }

    /// Returns true if messages pass as they are.
    pub fn passes(&self) -> bool {
        let as_they_are = matches!(self.shape, Shape::Grpc | Shape::Web { text: false } | Shape::Envelopes);
        as_they_are && self.translation.is_none() && self.packing.is_none()
    }

    fn content_type(&self) -> &'static str {
        let json = self.translation.is_some();
        match self.shape {
            Shape::Grpc => "application/grpc",
            Shape::Web { text: false } => "application/grpc-web+proto",
            Shape::Web { text: true } => "application/grpc-web-text+proto",
            Shape::Envelopes if json => "application/connect+json",
            Shape::Envelopes => "application/connect+proto",
            Shape::Lines => "application/x-ndjson",
            Shape::Whole(_) if json => "application/json",
            Shape::Whole(_) => "application/proto",
        }
    }

    /// The head of an answer whose messages follow, from that of the service.
    pub fn head(&self, head: http::response::Parts) -> Response<()> {
        let mut head = Response::from_parts(head, ());
        head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        if let Some((encoding, header)) = self.packing.zip(self.shape.encoding_of_messages()) {
            head.headers_mut().insert(header, HeaderValue::from_static(encoding.name()));
        }
        cors::allow(head.headers_mut(), &self.origin);
        head
    }

    /// The head of a whole answer.
    pub fn head_of_whole(&self, whole: &Part) -> Response<()> {
        let mut head = self.head(Response::new(()).into_parts().0);
        let headers = head.headers_mut();
        headers.insert(CONTENT_LENGTH, whole.data.len().into());
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
        if let Some(encoding) = whole.encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        head
    }

    /// The answer to a call that failed before any of its messages was sent.
    pub fn failed(&self, status: Status) -> (Response<()>, Bytes) {
        let form: FailureForm = match self.shape {
            Shape::Grpc | Shape::Web { .. } => {
                return (self.head(status.into_http::<()>().into_parts().0), Bytes::new());
            }
            Shape::Envelopes => return (self.head(Response::new(()).into_parts().0), connect::end(&status)),
            Shape::Lines => connect::failed,
            Shape::Whole(form) => form,
        };
        let failed = form(&status);
        let mut head = Response::new(());
        *head.status_mut() = failed.status;
        let headers = head.headers_mut();
        *headers = failed.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, failed.body.len().into());
        cors::allow(headers, &self.origin);
        (head, failed.body.into())
    }

    /// The end of an answer with these trailers.
    pub fn end(&self, trailers: HeaderMap) -> End {
        let status =
            |trailers: &HeaderMap| Status::from_header_map(trailers).unwrap_or_else(|| Failure::Internal.into());
        End::Data(match self.shape {
            Shape::Grpc => return End::Trailers(trailers),
            Shape::Web { text: false } => web::trailers(&trailers),
            Shape::Web { text: true } => web::text(&web::trailers(&trailers)),
            Shape::Envelopes => connect::end(&status(&trailers)),
            Shape::Lines => match status(&trailers) {
                status if status.code() == Code::Ok => Bytes::new(),
                status => connect::last_line(&status),
            },
            Shape::Whole(_) => Bytes::new(),
        })
    }

    /// Reads the one message of a unary answer and its status. Returns it in the shape of the answer.
    pub async fn collect(&self, body: &mut Body) -> Result<Part, Status> {
        let mut message = Bytes::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(data) if message.is_empty() => message = data,
                // The service writes a message in one piece.
                Ok(_) => return Err(Failure::Internal.into()),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if let Some(status) = Status::from_header_map(&trailers).filter(|end| end.code() != Code::Ok) {
                        return Err(status);
                    }
                }
            }
        }
        Ok(self.part(message).await?)
    }

    /// Puts messages, each behind its head, into the shape of the answer.
    pub async fn part(&self, messages: Bytes) -> Result<Part, Failure> {
        if self.passes() {
            return Ok(Part { data: messages, encoding: None });
        }
        let work = Work {
            shape: self.shape,
            translation: self.translation.clone(),
            packing: self.packing,
            budget: self.memory.of_answers(),
            limit: self.max_message_bytes.saturating_mul(MEMORY_FACTOR),
        };
        if messages.len() <= INLINE {
            return work.shape(messages);
        }
        // The semaphore is never closed.
        let turn = Arc::clone(&self.memory.unpacking).acquire_owned().await.map_err(|_| Failure::Internal)?;
        let shaped = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work.shape(messages)
        });
        shaped.await.unwrap_or(Err(Failure::Internal))
    }
}

impl Shape {
    /// The header that names the compression of each message; `None`: a message has none of its own.
    fn encoding_of_messages(self) -> Option<HeaderName> {
        match self {
            Self::Grpc | Self::Web { .. } => Some(HeaderName::from_static("grpc-encoding")),
            Self::Envelopes => Some(HeaderName::from_static("connect-content-encoding")),
            Self::Lines | Self::Whole(_) => None,
        }
    }
}

/// The computation for a part of an answer.
struct Work {
    shape: Shape,
    translation: Option<Arc<dyn Translation>>,
    packing: Option<Encoding>,
    /// The memory of answers.
    budget: ByteBudget,
    /// Bytes of the part at most.
    limit: usize,
}

impl Work {
    /// Puts messages into the shape of the answer.
    fn shape(self, messages: Bytes) -> Result<Part, Failure> {
        let behind_heads = self.shape.encoding_of_messages().is_some();
        let mut data = match &self.translation {
            None if behind_heads => messages,
            translation => self.written(translation.as_deref(), messages)?,
        };
        let mut encoding = None;
        if let Some(packing) = self.packing {
            let packed = match behind_heads {
                true => packed_messages(packing, &data, &self.budget),
                false => packing.pack(&data, &self.budget).inspect(|_| encoding = Some(packing)),
            };
            data = packed.unwrap_or(data);
        }
        if let Shape::Web { text: true } = self.shape {
            data = web::text(&data);
        }
        Ok(Part { data, encoding })
    }

    /// Translates messages. Without a translation, returns the first one.
    fn written(&self, translation: Option<&dyn Translation>, mut messages: Bytes) -> Result<Bytes, Failure> {
        let mut out = Output::new(self.budget.clone(), self.limit);
        while !messages.is_empty() {
            let message = next_message(&mut messages).ok_or(Failure::Internal)?;
            let Some(translation) = translation else { return Ok(message) };
            let begin = out.len();
            if let Shape::Grpc | Shape::Envelopes = self.shape {
                out.put(&[0; HEAD])?;
            }
            translation.answer(&message, &mut out)?;
            match self.shape {
                Shape::Grpc | Shape::Envelopes => out.set_length_at(begin + 1),
                Shape::Lines => out.put(b"\n")?,
                _ => {}
            }
        }
        Ok(out.finish())
    }
}

/// Takes the next message, without its head. `None` if it is not there, or not whole.
fn next_message(messages: &mut Bytes) -> Option<Bytes> {
    let [0, length @ ..] = messages.first_chunk::<HEAD>()? else { return None };
    let length = HEAD + u32::from_be_bytes(*length) as usize;
    (length <= messages.len()).then(|| messages.split_to(length).slice(HEAD..))
}

/// Compresses each message that becomes smaller. `None` if no message does, or there is no memory for them.
fn packed_messages(encoding: Encoding, messages: &Bytes, budget: &ByteBudget) -> Option<Bytes> {
    let (mut rest, mut any) = (messages.clone(), false);
    let mut out = Output::new(budget.clone(), messages.len());
    while let Some(message) = next_message(&mut rest) {
        let packed = encoding.pack(&message, budget);
        if packed.is_none() && rest.is_empty() && !any {
            return None;
        }
        any |= packed.is_some();
        let begin = out.len();
        out.put(&[packed.is_some().into(), 0, 0, 0, 0]).ok()?;
        out.put(&packed.unwrap_or(message)).ok()?;
        out.set_length_at(begin + 1);
    }
    (any && rest.is_empty()).then(|| out.finish())
}
