//! The answers that are no calls: who asks for a path in a way that it does not have gets a sentence.
//!
//! Invariant: a page is small, needs no key, and says nothing that only callers may know. It takes no permit and is
//! not counted, because it costs no more than its head.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method as HttpMethod, Response, StatusCode, request};
use serde_json::json;

use super::exchange::Respond;
use crate::budget::ByteBudget;
use crate::console::{self, Asset};
use crate::server::unpack::Encoding;
use crate::wire;

/// The content types that calls may have.
const KNOWN: &str = "application/json (with one message), application/proto, application/connect+json, \
    application/connect+proto, application/grpc-web, application/grpc-web-text, or application/grpc over HTTP/2";

/// An answer that is no call.
#[derive(Debug)]
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Box<HeaderMap>,
    /// Its content.
    pub body: Bytes,
}

impl Page {
    /// A page of plain text.
    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        Self { status, headers: Box::new(HeaderMap::from_iter([(CONTENT_TYPE, content_type)])), body: text.into() }
    }

    /// A refusal: as JSON in the form of the Connect protocol to a client that sends JSON, as text to others.
    fn refusal(status: StatusCode, code: &str, text: &str, head: &request::Parts) -> Self {
        if !essence(&head.headers).to_ascii_lowercase().ends_with("json") {
            return Self::text(status, format!("{text}\n"));
        }
        let json = HeaderValue::from_static("application/json");
        let body = json!({ "code": code, "message": text }).to_string();
        Self { status, headers: Box::new(HeaderMap::from_iter([(CONTENT_TYPE, json)])), body: body.into() }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Sends the page. `bare` leaves out the content, for HEAD.
    pub fn send(self, respond: Respond, bare: bool) {
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        *head.headers_mut() = *self.headers;
        if self.status != StatusCode::NO_CONTENT {
            head.headers_mut().insert(CONTENT_LENGTH, self.body.len().into());
        }
        if bare || self.body.is_empty() {
            return respond.end(head);
        }
        // An error means that the client has left.
        let Ok(mut sink) = respond.begin(head) else { return };
        let _ = sink.send(self.body).and_then(|()| sink.end());
    }
}

/// The content type of a request, without parameters.
pub fn essence(headers: &HeaderMap) -> &str {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim_ascii()
}

/// The page for people who open the address.
pub fn front() -> Page {
    let service = wire::SERVICE;
    Page::text(
        StatusCode::OK,
        format!(
            "This is Cognate {}: embeddings, similarity and vector search.\n\n\
             It speaks gRPC, gRPC-web and the Connect protocol. With curl, a call is JSON:\n\n  \
             curl -H 'content-type: application/json' http://HOST:PORT/{service}/Info -d '{{}}'\n\n\
             With gRPC reflection: grpcurl -plaintext HOST:PORT list\n",
            env!("CARGO_PKG_VERSION"),
        ),
    )
}

/// The page for a path that does not exist.
pub fn unknown(head: &request::Parts) -> Page {
    let text = format!("there is nothing at this path: calls have paths like /{}/Embed", wire::SERVICE);
    Page::refusal(StatusCode::NOT_FOUND, "unimplemented", &text, head)
}

/// The page for a method of HTTP that a path does not have.
pub fn method(head: &request::Parts, wanted: &HttpMethod) -> Page {
    let text = format!("this path is called by {wanted}");
    let page = Page::refusal(StatusCode::METHOD_NOT_ALLOWED, "unimplemented", &text, head);
    let is_post = *wanted == HttpMethod::POST;
    page.with(
        ALLOW,
        match head.method {
            HttpMethod::OPTIONS if is_post => "POST, OPTIONS",
            HttpMethod::OPTIONS => "GET, OPTIONS",
            _ if is_post => "POST",
            _ => "GET",
        },
    )
}

/// The files of the console that compression makes smaller, by path and encoding. They are compressed once, so that a
/// page costs no more than its head.
static PACKED: LazyLock<HashMap<(&'static str, Encoding), Bytes>> = LazyLock::new(|| {
    let budget = ByteBudget::new(1 << 20);
    let both = |(path, asset): &'static (&str, Asset)| [(*path, asset, Encoding::Gzip), (*path, asset, Encoding::Zstd)];
    let packed = |(path, asset, encoding): (_, &Asset, Encoding)| {
        Some(((path, encoding), encoding.pack(asset.content, &budget)?))
    };
    console::ASSETS.iter().flat_map(both).filter_map(packed).collect()
});

/// The file of the console at a path, in an encoding that its client accepts.
pub fn asset(path: &str, asset: Asset, accepted: Option<Encoding>) -> Page {
    let content_type = HeaderValue::from_static(asset.content_type);
    let headers = Box::new(HeaderMap::from_iter([(CONTENT_TYPE, content_type)]));
    let mut page = Page { status: StatusCode::OK, headers, body: Bytes::from_static(asset.content) };
    if let Some((encoding, packed)) = accepted.and_then(|encoding| Some((encoding, PACKED.get(&(path, encoding))?))) {
        page.body = packed.clone();
        page = page.with(CONTENT_ENCODING, encoding.name());
    }
    page.with(CONTENT_SECURITY_POLICY, console::POLICY)
        .with(VARY, "accept-encoding")
        .with(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .with(REFERRER_POLICY, "no-referrer")
        // Another version of the server has other files at the same paths.
        .with(CACHE_CONTROL, "no-cache")
}

/// The page for a content type that calls do not have.
pub fn content_type(head: &request::Parts) -> Page {
    let text = format!("the content type of a call must be {KNOWN}");
    Page::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unimplemented", &text, head)
        .with(HeaderName::from_static("accept-post"), "application/json, application/proto, application/grpc-web")
}

/// The page for gRPC over HTTP/1.1.
pub fn grpc_over_http1(head: &request::Parts) -> Page {
    let text = "gRPC needs HTTP/2: call this port with it (h2c without TLS), or use application/grpc-web or JSON";
    Page::refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "unimplemented", text, head)
}

/// The page for a stream of requests that is asked for as one message, or the other way round.
pub fn other_kind(head: &request::Parts, stream: bool) -> Page {
    let text = match stream {
        true => {
            "this call takes a stream of requests: send it in envelopes as application/connect+json, or by gRPC or \
             gRPC-web"
        }
        false => "this call takes one request and gives one answer: send it as application/json or application/proto",
    };
    Page::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unimplemented", text, head)
}
