//! The failures and the ends of streams of the Connect protocol, in JSON.
//!
//! Invariant: a failure has the code, text and details of the gRPC status. Each detail is there in bytes, for programs,
//! and as JSON under `debug`, for people.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::pb;

use super::json::details;
use super::translation::Failed;

/// The flag of the envelope that ends a stream.
const END: u8 = 2;

/// Returns the envelope that ends a stream, with the failure if there is one.
pub fn end(status: &Status) -> Bytes {
    let end = if status.code() == Code::Ok { json!({}) } else { json!({ "error": error(status) }) };
    let body = end.to_string();
    let mut envelope = BytesMut::with_capacity(5 + body.len());
    envelope.put_u8(END);
    // A status takes a few kilobytes at most.
    envelope.put_u32(body.len() as u32);
    envelope.extend_from_slice(body.as_bytes());
    envelope.freeze()
}

/// Returns the last line of a stream of lines that failed.
pub fn last_line(status: &Status) -> Bytes {
    format!("{}\n", json!({ "error": error(status) })).into()
}

/// The answer to a unary call that failed.
pub fn failed(status: &Status) -> Failed {
    let (_, http) = named(status.code());
    Failed::new(status, http, &error(status))
}

/// A failure as JSON.
fn error(status: &Status) -> Value {
    let (code, _) = named(status.code());
    let mut error = json!({ "code": code, "message": status.message() });
    let described = pb::Status::decode(status.details()).unwrap_or_default();
    let details: Vec<Value> = described.details.iter().map(detail).collect();
    if !details.is_empty() {
        error["details"] = details.into();
    }
    error
}

fn detail(detail: &prost_types::Any) -> Value {
    let name = detail.type_url.rsplit('/').next().unwrap_or_default();
    let mut shown = json!({ "type": name, "value": STANDARD_NO_PAD.encode(&detail.value) });
    if let Some(debug) = details(name, &detail.value) {
        shown["debug"] = debug;
    }
    shown
}

/// The name of a code in the protocol, and its HTTP status.
fn named(code: Code) -> (&'static str, StatusCode) {
    let (name, http) = match code {
        Code::Ok => ("ok", 200),
        Code::Cancelled => ("canceled", 499),
        Code::Unknown => ("unknown", 500),
        Code::InvalidArgument => ("invalid_argument", 400),
        Code::DeadlineExceeded => ("deadline_exceeded", 504),
        Code::NotFound => ("not_found", 404),
        Code::AlreadyExists => ("already_exists", 409),
        Code::PermissionDenied => ("permission_denied", 403),
        Code::ResourceExhausted => ("resource_exhausted", 429),
        Code::FailedPrecondition => ("failed_precondition", 400),
        Code::Aborted => ("aborted", 409),
        Code::OutOfRange => ("out_of_range", 400),
        Code::Unimplemented => ("unimplemented", 501),
        Code::Internal => ("internal", 500),
        Code::Unavailable => ("unavailable", 503),
        Code::DataLoss => ("data_loss", 500),
        Code::Unauthenticated => ("unauthenticated", 401),
    };
    (name, StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

    use super::*;
    use crate::rpc::status::Failure;

    #[test]
    fn a_failure_names_code_text_and_details_in_bytes_and_as_json() {
        let status = Status::from(Failure::invalid("texts[1]", "too long"));
        let failed = failed(&status);
        assert_eq!(failed.status, StatusCode::BAD_REQUEST);
        let error: Value = serde_json::from_slice(&failed.body).unwrap();
        assert_eq!((&error["code"], &error["message"]), (&json!("invalid_argument"), &json!("texts[1]: too long")));
        let detail = &error["details"][0];
        assert_eq!(detail["type"], "google.rpc.BadRequest");
        assert_eq!(detail["debug"]["fieldViolations"][0]["field"], "texts[1]");
        let bytes = STANDARD_NO_PAD.decode(detail["value"].as_str().unwrap()).unwrap();
        assert_eq!(pb::BadRequest::decode(&*bytes).unwrap().field_violations[0].description, "too long");
    }

    #[test]
    fn a_client_learns_when_to_try_again_and_how_to_authenticate() {
        let busy = failed(&Failure::TooManyCalls(1).into());
        assert_eq!((busy.status.as_u16(), &busy.headers[RETRY_AFTER]), (429, &HeaderValue::from(1)));
        let unknown = failed(&Failure::Unauthenticated.into());
        assert_eq!((unknown.status.as_u16(), &unknown.headers[WWW_AUTHENTICATE]), (401, &"Bearer".parse().unwrap()));
    }

    #[test]
    fn a_stream_ends_with_an_envelope() {
        assert_eq!(end(&Status::ok("")), &b"\x02\0\0\0\x02{}"[..]);
        let envelope = end(&Failure::DeadlineExceeded.into());
        let end: Value = serde_json::from_slice(&envelope[5..]).unwrap();
        assert_eq!(end["error"]["code"], "deadline_exceeded");
    }
}
