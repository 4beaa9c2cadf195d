//! The caller's deadline: the header `grpc-timeout`, a number and a unit, or `connect-timeout-ms`, milliseconds.

use std::time::Duration;

use http::HeaderMap;

use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// The name of gRPC's header.
const HEADER: &str = "grpc-timeout";
/// The name of the header of the Connect protocol.
const CONNECT: &str = "connect-timeout-ms";

/// Returns the caller's timeout, if there is one. A value of gRPC's header that is not a timeout counts as none, as in
/// other servers. A negative one is an error: a mistake of the caller, which an answer would hide.
pub fn parse(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(HEADER).and_then(|value| value.to_str().ok()) else { return connect(headers) };
    let Some((digits, unit)) = value.len().checked_sub(1).and_then(|at| value.split_at_checked(at)) else {
        return Ok(None);
    };
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if digits.strip_prefix('-').is_some_and(is_number) {
        return Err(Refusal::NegativeTimeout.into());
    }
    // The protocol allows eight digits.
    if digits.len() > 8 || !is_number(digits) {
        return Ok(None);
    }
    let Ok(n) = digits.parse::<u64>() else { return Ok(None) };
    Ok(match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    })
}

/// Returns the timeout of the Connect protocol: up to ten digits.
fn connect(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(CONNECT) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|digits| digits.len() <= 10 && digits.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        None => Err(Failure::invalid(CONNECT, "expected milliseconds, a whole number of at most ten digits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Option<Duration>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().unwrap());
        parse(&headers)
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(of("2H"), Ok(Some(Duration::from_secs(7200))));
        assert_eq!(of("3M"), Ok(Some(Duration::from_secs(180))));
        assert_eq!(of("4S"), Ok(Some(Duration::from_secs(4))));
        assert_eq!(of("5m"), Ok(Some(Duration::from_millis(5))));
        assert_eq!(of("6u"), Ok(Some(Duration::from_micros(6))));
        assert_eq!(of("7n"), Ok(Some(Duration::from_nanos(7))));
        for nothing in ["", "S", "1", "1x", "-S", "123456789S", "1.5S", "soon"] {
            assert_eq!(of(nothing), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn a_negative_timeout_is_an_error() {
        let negative = || Err(Failure::Transport(Refusal::NegativeTimeout));
        assert_eq!((of("-1S"), of("-20m")), (negative(), negative()));
    }

    #[test]
    fn a_timeout_in_milliseconds_has_at_most_ten_digits() {
        let of = |value: &str| parse(&HeaderMap::from_iter([(CONNECT.parse().unwrap(), value.parse().unwrap())]));
        assert_eq!(of("250"), Ok(Some(Duration::from_millis(250))));
        for wrong in ["", "-1", "1s", "12345678901", "1.5"] {
            assert!(matches!(of(wrong), Err(Failure::Invalid(_))), "{wrong}");
        }
    }
}
