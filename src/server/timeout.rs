//! The caller's deadline: the header `grpc-timeout`, a number and a unit.

use std::time::Duration;

use http::HeaderMap;

/// The name of the header.
const HEADER: &str = "grpc-timeout";

/// A negative timeout. It is a mistake of the caller, which an answer would hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negative;

/// Returns the caller's timeout, if there is one. A value that is not a timeout counts as none, as in other servers. A
/// negative one is an error.
pub fn parse(headers: &HeaderMap) -> Result<Option<Duration>, Negative> {
    let Some(value) = headers.get(HEADER).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    let Some((digits, unit)) = value.len().checked_sub(1).and_then(|at| value.split_at_checked(at)) else {
        return Ok(None);
    };
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if digits.strip_prefix('-').is_some_and(is_number) {
        return Err(Negative);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Option<Duration>, Negative> {
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
        assert_eq!((of("-1S"), of("-20m")), (Err(Negative), Err(Negative)));
    }
}
