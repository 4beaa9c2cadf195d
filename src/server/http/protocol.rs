//! The protocol of a request, by its head: gRPC, gRPC-web, or the Connect protocol in JSON or protobuf.
//!
//! Invariant: every protocol is a form of the same calls. The head of a call leaves here with the path of its rpc; all
//! that differs is in its [`Form`] and its [`Reply`]. A request that is no call gets a [`Page`].

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName};
use http::{Method as HttpMethod, Uri, request};

use super::json;
use super::pages::{self, Page, essence};
use super::reply::{Reply, Shape};
use super::translation::Translation;
use super::{connect, cors, openai, tei};
use crate::console;
use crate::rpc::Api;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;
use crate::server::methods::Method;
use crate::server::request::{Form, Framing, Memory};
use crate::server::unpack::Encoding;
use crate::wire;

/// A call, as its head asks for it.
pub struct Asked {
    /// The form of its messages.
    pub form: Form,
    /// The form of its answer.
    pub reply: Reply,
    /// The fault of a head that cannot be answered otherwise.
    pub fault: Option<Failure>,
}

/// The facts beside the head.
pub struct Context<'a> {
    /// True for HTTP/1.1.
    pub http1: bool,
    /// The origins whose pages may call.
    pub origins: &'a cors::Origins,
    /// The memory of messages.
    pub memory: &'a Memory,
    /// Bytes of one message.
    pub max_message_bytes: usize,
    /// The engine, which knows the names of models.
    pub api: &'a Api,
    /// True if people get the console.
    pub console: bool,
}

/// The messages that a content type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    Web { text: bool },
    Unary { json: bool },
    Envelopes { json: bool },
}

/// The content types of calls, the most frequent first.
const KINDS: [(&str, Kind); 10] = [
    ("application/grpc", Kind::Grpc),
    ("application/grpc+proto", Kind::Grpc),
    ("application/json", Kind::Unary { json: true }),
    ("application/proto", Kind::Unary { json: false }),
    ("application/connect+json", Kind::Envelopes { json: true }),
    ("application/connect+proto", Kind::Envelopes { json: false }),
    ("application/grpc-web", Kind::Web { text: false }),
    ("application/grpc-web+proto", Kind::Web { text: false }),
    ("application/grpc-web-text", Kind::Web { text: true }),
    ("application/grpc-web-text+proto", Kind::Web { text: true }),
];

impl Kind {
    fn of(essence: &str) -> Option<Self> {
        Some(KINDS.iter().find(|(known, _)| essence.eq_ignore_ascii_case(known))?.1)
    }
}

/// Understands the head of a request. A call leaves with the path of its rpc.
pub fn understand(head: &mut request::Parts, context: &Context<'_>) -> Result<Asked, Page> {
    let kind = Kind::of(essence(&head.headers));
    if kind == Some(Kind::Grpc) && head.method == HttpMethod::POST && !context.http1 {
        return Ok(match tei::rpc(head.uri.path()) {
            Some(Ok(counterpart)) => translated(head, context, counterpart, (Framing::Heads, Shape::Grpc)),
            Some(Err(failure)) => {
                Asked { fault: Some(failure), ..Asked::of(context, head, Framing::Heads, Shape::Grpc) }
            }
            // The service refuses a path that is no method with a status.
            None => Asked::of(context, head, Framing::Heads, Shape::Grpc),
        });
    }
    if let Some(page) = context.origins.preflight(head) {
        return Err(page);
    }
    let path = head.uri.path();
    let method = Method::of(path);
    if method == Method::OTHER && matches!(head.method, HttpMethod::GET | HttpMethod::HEAD) {
        if let Some(asset) = console::asset(path).filter(|_| context.console) {
            return Err(pages::asset(path, asset, Encoding::accepted(&head.headers, ACCEPT_ENCODING)));
        }
        if path == "/" {
            return Err(pages::front());
        }
    }
    if let Some(method) = openai::method(path) {
        return if head.method == method { Ok(routed(head, context)) } else { Err(pages::method(head, &method)) };
    }
    if method == Method::OTHER {
        return Err(pages::unknown(head));
    }
    if head.method != HttpMethod::POST {
        return Err(pages::method(head, &HttpMethod::POST));
    }
    let (unary, streams_requests) = (method.kind() == "unary", method.is_client_stream());
    let whole = Framing::Whole(number(&head.headers, CONTENT_LENGTH));
    let (framing, shape, json) = match kind {
        None => return Err(pages::content_type(head)),
        Some(Kind::Grpc) => return Err(pages::grpc_over_http1(head)),
        Some(Kind::Web { text }) => {
            let framing = if text { Framing::HeadsInText } else { Framing::Heads };
            (framing, Shape::Web { text }, false)
        }
        Some(Kind::Unary { .. }) if streams_requests => return Err(pages::other_kind(head, true)),
        Some(Kind::Unary { json }) if unary => (whole, Shape::Whole(connect::failed), json),
        Some(Kind::Unary { json: true }) => (whole, Shape::Lines, true),
        Some(Kind::Unary { json: false }) => return Err(pages::content_type(head)),
        Some(Kind::Envelopes { .. }) if unary => return Err(pages::other_kind(head, false)),
        Some(Kind::Envelopes { json }) => (Framing::Heads, Shape::Envelopes, json),
    };
    let mut asked = Asked::of(context, head, framing, shape);
    if json {
        let translation = json::translation(head.uri.path());
        asked.form.translation.clone_from(&translation);
        asked.reply.translation = translation;
    }
    Ok(asked)
}

/// A call in a form of OpenAI's.
fn routed(head: &mut request::Parts, context: &Context<'_>) -> Asked {
    let openai::Route { rpc, translation, failure } = openai::route(head, context.api);
    // A GET has no body.
    let length = if head.method == HttpMethod::GET { Some(0) } else { number(&head.headers, CONTENT_LENGTH) };
    translated(head, context, (rpc, translation), (Framing::Whole(length), Shape::Whole(failure)))
}

/// A call of one of our rpcs in another form.
fn translated(
    head: &mut request::Parts,
    context: &Context<'_>,
    (rpc, translation): (&str, Arc<dyn Translation>),
    (framing, shape): (Framing, Shape),
) -> Asked {
    head.uri = Uri::try_from(format!("/{}/{rpc}", wire::SERVICE)).expect("a path");
    let mut asked = Asked::of(context, head, framing, shape);
    asked.form.translation = Some(Arc::clone(&translation));
    asked.reply.translation = Some(translation);
    asked
}

impl Asked {
    fn of(context: &Context<'_>, head: &mut request::Parts, framing: Framing, shape: Shape) -> Self {
        let compression = match shape {
            Shape::Grpc | Shape::Web { .. } => HeaderName::from_static("grpc-encoding"),
            Shape::Envelopes => HeaderName::from_static("connect-content-encoding"),
            Shape::Whole(_) | Shape::Lines => CONTENT_ENCODING,
        };
        let named = head.headers.get(&compression).and_then(|value| value.to_str().ok());
        let encoding = named.and_then(Encoding::from_name);
        let unknown = encoding.is_none() && named.is_some_and(|named| named != "identity");
        let packing = match shape {
            // Libraries of gRPC always say what they could read. One that wants compression compresses its requests.
            Shape::Grpc | Shape::Web { .. } => {
                encoding.and_then(|_| Encoding::accepted(&head.headers, "grpc-accept-encoding"))
            }
            Shape::Envelopes => Encoding::accepted(&head.headers, "connect-accept-encoding"),
            Shape::Whole(_) => Encoding::accepted(&head.headers, ACCEPT_ENCODING),
            Shape::Lines => None,
        };
        if encoding.is_some() {
            // The service gets messages as they are when unpacked. tonic's own services would refuse the encoding.
            head.headers.remove(&compression);
        }
        let version = head.headers.get("connect-protocol-version");
        let limit = context.max_message_bytes;
        let fault = match &shape {
            _ if matches!(framing, Framing::Whole(Some(length)) if length > limit) => {
                Some(Refusal::TooLarge { bytes: number(&head.headers, CONTENT_LENGTH), limit }.into())
            }
            // The service refuses an unknown encoding.
            Shape::Grpc | Shape::Web { .. } => None,
            _ if unknown => Some(Refusal::UnknownEncoding { header: compression.as_str().to_owned() }.into()),
            _ if version.is_some_and(|version| version != "1") => {
                Some(Failure::invalid("connect-protocol-version", "expected 1, the only version"))
            }
            _ => None,
        };
        let reply = Reply {
            shape,
            translation: None,
            packing,
            origin: context.origins.allowed(&head.headers),
            memory: context.memory.clone(),
            max_message_bytes: limit,
        };
        Self { form: Form { framing, encoding, translation: None }, reply, fault }
    }
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<usize> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::CONTENT_TYPE;

    use super::*;
    use crate::budget::ByteBudget;

    /// The HTTP status of a request that is no call; `None`: it is one.
    fn status(method: HttpMethod, path: &str, content_type: &str, http1: bool) -> Option<u16> {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type).body(()).unwrap();
        let memory = Memory::new(&ByteBudget::new(1 << 20), 1 << 10);
        let context = Context {
            http1,
            origins: &cors::Origins::default(),
            memory: &memory,
            max_message_bytes: 1 << 10,
            api: &Api::default(),
            console: false,
        };
        understand(&mut request.into_parts().0, &context).err().map(|page| page.status.as_u16())
    }

    #[test]
    fn the_content_type_and_the_kind_of_the_rpc_decide_if_a_request_is_a_call() {
        const UNARY: &str = "/cognate.v1.Cognate/Embed";
        const SERVER_STREAM: &str = "/cognate.v1.Cognate/Export";
        const STREAM: &str = "/cognate.v1.Cognate/Upload";
        let post = |path, content_type, http1| status(HttpMethod::POST, path, content_type, http1);
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"] {
            assert_eq!((post(UNARY, grpc, false), post(UNARY, grpc, true)), (None, Some(505)), "{grpc}");
            assert_eq!(post("/nothing", grpc, false), None, "{grpc}: the service refuses the path");
        }
        for web in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"] {
            assert_eq!([UNARY, SERVER_STREAM, STREAM].map(|path| post(path, web, true)), [None; 3], "{web}");
        }
        let of = |content_type| [UNARY, SERVER_STREAM, STREAM].map(|path| post(path, content_type, false));
        assert_eq!(of("application/json"), [None, None, Some(415)]);
        assert_eq!(of("application/json; charset=utf-8"), [None, None, Some(415)]);
        assert_eq!(of("application/proto"), [None, Some(415), Some(415)]);
        for envelopes in ["application/connect+json", "application/connect+proto"] {
            assert_eq!(of(envelopes), [Some(415), None, None], "{envelopes}");
        }
        for other in ["text/plain", "application/grpc+json", "application/x-www-form-urlencoded", ""] {
            assert_eq!(of(other), [Some(415); 3], "{other}");
        }
        assert_eq!(post("/cognate.v1.Cognate/Nothing", "application/json", true), Some(404));
        let get = |path| status(HttpMethod::GET, path, "", true);
        assert_eq!([get("/"), get("/other"), get(UNARY)], [Some(200), Some(404), Some(405)]);
        assert_eq!(status(HttpMethod::GET, UNARY, "application/grpc", false), Some(405));
    }
}
