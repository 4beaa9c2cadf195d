//! Failures in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use http::HeaderMap;
use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::server::http::translation::Failed;

/// A failure of `/v1/embeddings` and `/v1/models`, whose texts are called `input`.
pub fn of_embeddings(status: &Status) -> Failed {
    failed(status, "input")
}

/// A failure of `/v1/rerank`, whose texts are called `documents`.
pub fn of_rerank(status: &Status) -> Failed {
    failed(status, "documents")
}

fn failed(status: &Status, texts: &str) -> Failed {
    let renamed = |name: &str| match name.strip_prefix("texts") {
        Some(rest) => format!("{texts}{rest}"),
        None => name.to_owned(),
    };
    let param =
        status.get_details_bad_request().and_then(|wrong| Some(renamed(&wrong.field_violations.first()?.field)));
    let (http, kind, code) = kind(status);
    let mut headers = HeaderMap::new();
    if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs_f64().ceil() as u64));
    }
    if status.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let error = json!({
        "message": renamed(status.message()),
        "type": kind,
        "param": param.map_or(Value::Null, Value::String),
        "code": code,
    });
    let body = json!({ "error": error }).to_string().into_bytes();
    Failed { status: http::StatusCode::from_u16(http).expect("a status"), headers, body }
}

/// The HTTP status, OpenAI's type of the error, and its code.
fn kind(status: &Status) -> (u16, &'static str, Option<&'static str>) {
    let asks = "invalid_request_error";
    match status.code() {
        Code::Unauthenticated => (401, asks, Some("invalid_api_key")),
        Code::PermissionDenied => (403, asks, Some("permission_denied")),
        Code::NotFound => (404, asks, Some("model_not_found")),
        Code::OutOfRange => (413, asks, Some("request_too_large")),
        Code::ResourceExhausted if status.get_details_quota_failure().is_some() => {
            (429, "insufficient_quota", Some("insufficient_quota"))
        }
        Code::ResourceExhausted => (429, "rate_limit_error", Some("rate_limit_exceeded")),
        Code::Unavailable => (503, "server_error", Some("unavailable")),
        Code::DeadlineExceeded => (504, "server_error", Some("timeout")),
        Code::Internal | Code::Unknown | Code::DataLoss => (500, "server_error", None),
        Code::Unimplemented => (501, asks, Some("unimplemented")),
        _ => (400, asks, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::status::Failure;

    #[test]
    fn a_failure_names_the_field_as_the_caller_knows_it() {
        let failed = of_rerank(&Failure::invalid("texts[3]", "too long").into());
        let error: Value = serde_json::from_slice(&failed.body).unwrap();
        assert_eq!(failed.status, 400);
        assert_eq!(
            (&error["error"]["param"], &error["error"]["type"]),
            (&json!("documents[3]"), &json!("invalid_request_error"))
        );
        assert_eq!(error["error"]["message"], "documents[3]: too long");
    }

    #[test]
    fn a_full_server_says_when_to_try_again() {
        let failed = of_embeddings(&Failure::TooManyCalls(1).into());
        assert_eq!((failed.status.as_u16(), &failed.headers[RETRY_AFTER]), (429, &HeaderValue::from(1)));
    }
}
