//! Numbers in files, and the doubles that metadata holds.

/// The treatment of whole numbers that a double would change. Metadata (`google.protobuf.Struct`) has only doubles,
/// which are exact up to 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LargeNumbers {
    /// The record is refused.
    #[default]
    Refuse,
    /// The number is stored as text, with all its digits.
    Text,
    /// The number is rounded to the nearest double.
    Round,
}

/// The double of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Double {
    /// A double with the same value, or the usual one for a decimal fraction.
    Same(f64),
    /// The nearest double of a whole number that no double represents.
    Rounded(f64),
}

/// The error of a number outside the range of doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OutOfRange {
    #[error("too large for a number, at most 1.8e308")]
    TooLarge,
    #[error("too small for a number, it would become 0")]
    TooSmall,
}

/// Returns the double of `token`, a number in the grammar of JSON.
pub(super) fn double(token: &str) -> Result<Double, OutOfRange> {
    let value: f64 = token.parse().map_err(|_| OutOfRange::TooLarge)?;
    if !value.is_finite() {
        return Err(OutOfRange::TooLarge);
    }
    let mantissa = token.split(['e', 'E']).next().unwrap_or_default();
    if value == 0.0 && mantissa.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        return Err(OutOfRange::TooSmall);
    }
    let is_whole = token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    // 15: every whole number with up to 15 digits is a double.
    let is_same = !is_whole || token.len() <= 15 || format!("{value:.0}") == token;
    Ok(if is_same { Double::Same(value) } else { Double::Rounded(value) })
}

/// Returns true if `token` is a number in the grammar of JSON; `007`, `.5`, `1,5` and `NaN` are not.
pub(super) fn is_number(token: &str) -> bool {
    let unsigned = token.strip_prefix('-').unwrap_or(token);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_that_a_double_changes_are_recognised() {
        for same in ["0", "-0", "7", "9007199254740992", "-9007199254740994", "100000000000000000000", "1e300"] {
            assert!(matches!(double(same), Ok(Double::Same(_))), "{same}");
        }
        for rounded in ["9007199254740993", "-9223372036854775807", "1768907725507217522", "100000000000000000001"] {
            assert!(matches!(double(rounded), Ok(Double::Rounded(_))), "{rounded}");
        }
        assert_eq!(double("0.1"), Ok(Double::Same(0.1)), "decimals are doubles by custom");
        assert_eq!(double("1e999"), Err(OutOfRange::TooLarge));
        assert_eq!(double("-0.2e-999"), Err(OutOfRange::TooSmall));
        assert_eq!(double("0.0e-999"), Ok(Double::Same(0.0)));
    }

    #[test]
    fn a_number_is_written_as_in_json() {
        for number in ["0", "-1", "10", "0.50", "1e5", "1.5E-3", "2E+2"] {
            assert!(is_number(number), "{number}");
        }
        for other in ["", "-", "007", "00", "+1", ".5", "1.", "1e", "NaN", "1,5", "0x10", " 1", "1 ", "٣"] {
            assert!(!is_number(other), "{other}");
        }
    }
}
