//! Metadata on the wire (`google.protobuf.Struct`) and in memory (JSON).
//!
//! Metadata from clients is refused if it could not be returned to them: a number that JSON lacks, or nesting too deep
//! for clients to decode.

use std::fmt::Write as _;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Number, Value};

/// The deepest nesting of metadata: `{"a": 1}` is 1 deep, `{"a": {"b": 1}}` and `{"a": [1]}` are 2.
// Decoders stop at 100 nested messages: prost, and protobuf in C++ and Python. An object inside another one costs
// three (map entry, Value, Struct), and five are around it: response, result, hit, entry, Value.
pub const MAX_DEPTH: usize = 30;

/// The largest magnitude below which every whole number is exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Characters of a path that an error shows.
const PATH_CHARS: usize = 100;

/// The reason why metadata is refused. `path` joins keys and positions by dots: `author.names.0`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A number that JSON cannot hold.
    #[error("{path} is not a finite number")]
    NotFinite {
        /// The path of the number.
        path: String,
    },
    /// A `google.protobuf.Value` without a kind.
    #[error("{path} has no value")]
    NoValue {
        /// The path of the value.
        path: String,
    },
    /// The metadata is nested too deeply.
    #[error("{path} is nested more than {MAX_DEPTH} deep")]
    TooDeep {
        /// The first key that is too deep.
        path: String,
    },
}

/// Converts metadata from the wire to JSON. A whole number up to 2⁵³ becomes an integer, so 3 does not come back as
/// 3.0.
pub fn to_json(metadata: &Struct) -> Result<Map<String, Value>, Invalid> {
    object(metadata, &mut Path::default())
}

/// Converts one value, for example of a filter, from the wire to JSON.
pub fn value_to_json(value: &prost_types::Value) -> Result<Value, Invalid> {
    json(value, &mut Path::default())
}

/// Converts metadata from JSON to the wire. Numbers become doubles: integers above 2⁵³ are rounded. Nesting beyond
/// [`MAX_DEPTH`] is not refused here; [`to_json`] refuses it.
pub fn from_json(metadata: &Map<String, Value>) -> Struct {
    Struct { fields: metadata.iter().map(|(key, value)| (key.clone(), value_from_json(value))).collect() }
}

fn object<'s>(metadata: &'s Struct, path: &mut Path<'s>) -> Result<Map<String, Value>, Invalid> {
    let mut map = Map::new();
    for (key, value) in &metadata.fields {
        path.enter(Key::Name(key))?;
        map.insert(key.clone(), json(value, path)?);
        path.leave();
    }
    Ok(map)
}

fn json<'s>(value: &'s prost_types::Value, path: &mut Path<'s>) -> Result<Value, Invalid> {
    Ok(match &value.kind {
        None => return Err(Invalid::NoValue { path: path.to_string() }),
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(b)) => Value::Bool(*b),
        Some(Kind::StringValue(s)) => Value::String(s.clone()),
        Some(Kind::NumberValue(x)) => {
            Value::Number(number(*x).ok_or_else(|| Invalid::NotFinite { path: path.to_string() })?)
        }
        Some(Kind::StructValue(inner)) => Value::Object(object(inner, path)?),
        Some(Kind::ListValue(list)) => {
            let mut items = Vec::with_capacity(list.values.len());
            for (position, item) in list.values.iter().enumerate() {
                path.enter(Key::Position(position))?;
                items.push(json(item, path)?);
                path.leave();
            }
            Value::Array(items)
        }
    })
}

fn number(x: f64) -> Option<Number> {
    if x.fract() == 0.0 && x.abs() <= EXACT { Some(Number::from(x as i64)) } else { Number::from_f64(x) }
}

/// Converts one value, for example of a filter, from JSON to the wire.
pub fn value_from_json(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().expect("a JSON number parsed as 64 bits is a double")),
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(value_from_json).collect() }),
        Value::Object(map) => Kind::StructValue(from_json(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// One step of a path.
#[derive(Clone, Copy)]
enum Key<'s> {
    Name(&'s str),
    Position(usize),
}

/// The path of the current value. It is written only for an error, and only its beginning, because a key may be as long
/// as a message.
#[derive(Default)]
struct Path<'s>(Vec<Key<'s>>);

impl<'s> Path<'s> {
    fn enter(&mut self, key: Key<'s>) -> Result<(), Invalid> {
        self.0.push(key);
        if self.0.len() > MAX_DEPTH { Err(Invalid::TooDeep { path: self.to_string() }) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.0.pop();
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("metadata")?;
        let mut left = PATH_CHARS;
        for key in &self.0 {
            let position;
            let name = match key {
                Key::Name(name) => *name,
                Key::Position(n) => {
                    position = n.to_string();
                    &position
                }
            };
            f.write_str(".")?;
            for character in name.chars() {
                let Some(rest) = left.checked_sub(1) else { return f.write_str("…") };
                left = rest;
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::wire;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn nested(depth: usize) -> Map<String, Value> {
        let mut value = json!(1);
        for _ in 0..depth {
            value = json!({ "k": value });
        }
        map(value)
    }

    #[test]
    fn json_survives_the_wire_with_its_integers() {
        let metadata = map(json!({
            "s": "text", "i": 3, "neg": -7, "f": 0.5, "t": true, "n": null, "l": [1, "two", [], {}],
            "o": { "p": { "q": 1e300 } }
        }));
        assert_eq!(to_json(&from_json(&metadata)), Ok(metadata));
    }

    #[test]
    fn numbers_that_json_lacks_are_refused_with_their_path() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut metadata = from_json(&map(json!({ "a": { "b": [1] } })));
            let Some(Kind::StructValue(a)) = &mut metadata.fields.get_mut("a").unwrap().kind else { unreachable!() };
            let Some(Kind::ListValue(b)) = &mut a.fields.get_mut("b").unwrap().kind else { unreachable!() };
            b.values.push(prost_types::Value { kind: Some(Kind::NumberValue(bad)) });
            let error = to_json(&metadata).unwrap_err();
            assert_eq!(error, Invalid::NotFinite { path: "metadata.a.b.1".into() });
            assert_eq!(error.to_string(), "metadata.a.b.1 is not a finite number");
        }
    }

    #[test]
    fn an_error_shows_the_beginning_of_a_long_key() {
        let fields = [("k".repeat(9 << 20), prost_types::Value { kind: None })].into();
        let path = to_json(&Struct { fields }).unwrap_err().to_string();
        assert_eq!(path, format!("metadata.{}… has no value", "k".repeat(PATH_CHARS)));
    }

    #[test]
    fn a_value_without_a_kind_is_refused() {
        let metadata = Struct { fields: [("x".to_string(), prost_types::Value { kind: None })].into() };
        assert_eq!(to_json(&metadata), Err(Invalid::NoValue { path: "metadata.x".into() }));
    }

    #[test]
    fn nesting_is_bounded() {
        let (deepest, deeper) = (nested(MAX_DEPTH), nested(MAX_DEPTH + 1));
        assert!(to_json(&from_json(&deepest)).is_ok());
        let expected = Err(Invalid::TooDeep { path: format!("metadata{}", ".k".repeat(MAX_DEPTH + 1)) });
        assert_eq!(to_json(&from_json(&deeper)).map(|_| ()), expected);
    }

    #[test]
    fn the_deepest_metadata_can_be_decoded_in_the_deepest_message() {
        let hit = wire::Hit { metadata: Some(from_json(&nested(MAX_DEPTH))), ..Default::default() };
        let response = wire::TopKResponse { results: vec![wire::TopKResult { hits: vec![hit], error: None }] };
        assert_eq!(wire::TopKResponse::decode(&*response.encode_to_vec()), Ok(response));
    }
}
