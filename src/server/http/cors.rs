//! Pages of other origins that may call this server from a browser (CORS).
//!
//! Invariants: without the setting no page may. A page gets no credentials of the browser: a key is sent by the page
//! itself, in `authorization`. An answer names its origin only if that may read it.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};
use http::{Method, StatusCode, request};

use super::pages::Page;

/// The methods and headers that pages may use: those of gRPC-web and of the Connect protocol.
const METHODS: &str = "GET, POST";
const HEADERS: &str = "authorization, connect-accept-encoding, connect-content-encoding, connect-protocol-version, \
     connect-timeout-ms, content-encoding, content-type, grpc-accept-encoding, grpc-encoding, grpc-timeout, \
     traceparent, tracestate, x-grpc-web, x-user-agent";
/// The headers of answers that pages may read.
const EXPOSED: &str = "connect-content-encoding, content-encoding, grpc-encoding, grpc-message, grpc-status, \
     grpc-status-details-bin, retry-after";
/// Seconds for which a browser may remember the answer: two hours, the most that Chromium takes.
const MAX_AGE: &str = "7200";

/// The origins whose pages may call this server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<HeaderValue>);

/// A text is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin as browsers send it, scheme://host or scheme://host:port without a path, or *")]
pub struct NoOrigin;

impl Origins {
    /// Adds an origin; `*` is any.
    pub fn add(&mut self, origin: &str) -> Result<(), NoOrigin> {
        let host = |rest: &str| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']);
        let valid =
            origin == "*" || origin.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && host(rest));
        // Browsers send hosts in lower case.
        let value = HeaderValue::from_str(&origin.to_ascii_lowercase()).ok().filter(|_| valid).ok_or(NoOrigin)?;
        self.0.push(value);
        Ok(())
    }

    /// The value that allows the page that sends these headers to read the answer; `None`: it may not, or is no page of
    /// another origin.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.0.iter().find(|known| *known == origin || *known == "*").cloned()
    }

    /// Answers the question of a browser if a page may call; `None`: the request is no such question.
    pub fn preflight(&self, head: &request::Parts) -> Option<Page> {
        if head.method != Method::OPTIONS || !head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        if self.allowed(&head.headers).is_none() {
            let text = "pages of this origin may not call this server: see the setting cors_origin\n";
            return Some(Page::text(StatusCode::FORBIDDEN, text));
        }
        let mut page = Page::text(StatusCode::NO_CONTENT, "");
        page.body = Bytes::new();
        page.headers.extend([
            (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)),
            (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS)),
            (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE)),
        ]);
        Some(page)
    }
}

/// Allows a page to read an answer.
pub fn allow(headers: &mut HeaderMap, allowed: &Option<HeaderValue>) {
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(origin: &str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, origin.parse().unwrap())])
    }

    #[test]
    fn only_the_origins_of_the_setting_may_read_answers() {
        let mut origins = Origins::default();
        assert_eq!(origins.allowed(&of("https://a.example")), None);
        origins.add("https://A.example").unwrap();
        origins.add("http://localhost:8080").unwrap();
        assert_eq!(origins.allowed(&of("https://a.example")), Some("https://a.example".parse().unwrap()));
        for other in ["http://a.example", "https://a.example:444", "https://a.example.evil.example", "null"] {
            assert_eq!(origins.allowed(&of(other)), None, "{other}");
        }
        assert_eq!(origins.allowed(&HeaderMap::new()), None);
        origins.add("*").unwrap();
        assert_eq!(origins.allowed(&of("http://b.example")), Some("*".parse().unwrap()));
    }

    #[test]
    fn a_text_that_is_no_origin_is_refused() {
        for wrong in
            ["", "a.example", "https://", "https://a.example/", "https://a.example/path", "https://a b", "://a"]
        {
            assert_eq!(Origins::default().add(wrong), Err(NoOrigin), "{wrong}");
        }
    }
}
