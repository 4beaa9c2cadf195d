//! Failures in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use http::StatusCode;
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
    let error = json!({
        "message": renamed(status.message()),
        "type": kind,
        "param": param.map_or(Value::Null, Value::String),
        "code": code,
    });
    Failed::new(status, http, &json!({ "error": error }))
}

/// The HTTP status, OpenAI's type of the error, and its code.
fn kind(status: &Status) -> (StatusCode, &'static str, Option<&'static str>) {
    let asks = "invalid_request_error";
    match status.code() {
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, asks, Some("invalid_api_key")),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, asks, Some("permission_denied")),
        Code::NotFound => (StatusCode::NOT_FOUND, asks, Some("model_not_found")),
        Code::OutOfRange => (StatusCode::PAYLOAD_TOO_LARGE, asks, Some("request_too_large")),
        Code::ResourceExhausted if status.get_details_quota_failure().is_some() => {
            (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota"))
        }
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded")),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("unavailable")),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "server_error", Some("timeout")),
        Code::Internal | Code::Unknown | Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, asks, Some("unimplemented")),
        _ => (StatusCode::BAD_REQUEST, asks, None),
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderValue, RETRY_AFTER};

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
