//! Switches in configuration files: `true` and `false`, and 1 and 0, which Python takes for the same.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Reads a value as a switch. `null` is off, as in Python.
pub(super) fn of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Null => Some(false),
        Value::Number(number) if number.as_u64() == Some(0) => Some(false),
        Value::Number(number) if number.as_u64() == Some(1) => Some(true),
        _ => None,
    }
}

/// Reads the field of a file as a switch; `None` if it is `null` or missing.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_null() {
        return Ok(None);
    }
    of(&value).map(Some).ok_or_else(|| de::Error::custom(format!("expected true or false, found {value}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ones_and_zeros_are_switches_and_other_numbers_are_not() {
        for (value, switch) in [
            (json!(true), Some(true)),
            (json!(0), Some(false)),
            (json!(1), Some(true)),
            (json!(null), Some(false)),
            (json!(2), None),
            (json!("true"), None),
        ] {
            assert_eq!(of(&value), switch, "{value}");
        }
    }
}
