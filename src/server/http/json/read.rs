//! Reads JSON into an encoded message.
//!
//! Invariants: the message is written as the JSON is read, so its memory is bounded by its own limit. JSON is nested at
//! most 128 deep, which is serde_json's limit. A name that the message has not, one that comes twice, two members of
//! one oneof, and a value of another type or out of range are refused, and the refusal names the field. `null` is an
//! absent field. Names are those of the proto or those of JSON.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::encode_varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::values::{Entries, Value, Values};
use super::writer::{Step, Writer};
use crate::rpc::status::Failure;

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const BASE64_FOR_URLS: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// Returns the message that the JSON in `body` is, in at most `limit` bytes.
pub fn message(descriptor: &MessageDescriptor, body: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    if body.is_empty() {
        return Err(Failure::Malformed("the body is empty: expected JSON, `{}` for a message without fields".into()));
    }
    let mut out = Writer { bytes: Vec::new(), limit, path: Vec::new(), failure: None };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Message { descriptor, out: &mut out }.deserialize(&mut json).and_then(|()| json.end());
    match read {
        Ok(()) => Ok(out.bytes),
        Err(error) => Err(match out.failure.take() {
            Some(failure) => failure,
            None if error.is_data() && !out.path.is_empty() => Failure::invalid(out.shown_path(), error.to_string()),
            None => Failure::Malformed(format!("the JSON cannot be read: {error}")),
        }),
    }
}

/// Reads a message, without its key and length.
struct Message<'a> {
    descriptor: &'a MessageDescriptor,
    out: &'a mut Writer,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.descriptor.full_name() {
            "google.protobuf.Value" => Value(self.out).deserialize(json),
            "google.protobuf.Struct" => json.deserialize_map(Entries(self.out)),
            "google.protobuf.ListValue" => json.deserialize_seq(Values(self.out)),
            _ => json.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.descriptor.name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { descriptor, out } = self;
        let mut seen: Vec<FieldDescriptor> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let field = descriptor.get_field_by_json_name(&name).or_else(|| descriptor.get_field_by_name(&name));
            let Some(field) = field else {
                let known: Vec<String> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
                out.path.push(Step::Key(name));
                let (of, known) = (descriptor.name(), known.join(", "));
                return Err(out.refuse(format_args!("{of} has no such field; it has {known}")));
            };
            let oneof = field.containing_oneof();
            let other =
                seen.iter().find(|other| **other == field || oneof.is_some() && other.containing_oneof() == oneof);
            if let Some(other) = other {
                let reason = match *other == field {
                    true => "it is there twice".to_owned(),
                    false => format!("only one of {} and {} may be there", other.json_name(), field.json_name()),
                };
                out.path.push(Step::Field(field));
                return Err(out.refuse(reason));
            }
            out.path.push(Step::Field(field.clone()));
            map.next_value_seed(Field { field: &field, out })?;
            out.path.pop();
            seen.push(field);
        }
        Ok(())
    }
}

/// Reads the value of a field. `null` is no value, unless the field may hold it.
struct Field<'a> {
    field: &'a FieldDescriptor,
    out: &'a mut Writer,
}

impl Field<'_> {
    fn holds_null(&self) -> bool {
        !self.field.is_list()
            && matches!(self.field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Value")
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.holds_null() {
            true => One { field: self.field, tagged: true, out: self.out }.deserialize(json),
            false => json.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.field.is_list() { "an array" } else { "a value" })
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.field.is_list() {
            true => json.deserialize_seq(List { field: self.field, out: self.out }),
            false => One { field: self.field, tagged: true, out: self.out }.deserialize(json),
        }
    }
}

/// Reads the elements of a repeated field.
struct List<'a> {
    field: &'a FieldDescriptor,
    out: &'a mut Writer,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { field, out } = self;
        let packed = field.is_packed();
        let mut each = |out: &mut Writer| {
            for n in 0.. {
                out.path.push(Step::Item(n));
                let one = One { field, tagged: !packed, out };
                let more = items.next_element_seed(one)?.is_some();
                out.path.pop();
                if !more {
                    break;
                }
            }
            Ok(())
        };
        if packed { out.nested(field.number(), each) } else { each(out) }
    }
}

/// Reads one value of a field; with its key if it is tagged.
struct One<'a> {
    field: &'a FieldDescriptor,
    tagged: bool,
    out: &'a mut Writer,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.field.kind() {
            Kind::Message(descriptor) => {
                let number = self.field.number();
                self.out.nested(number, |out| Message { descriptor: &descriptor, out }.deserialize(json))
            }
            _ => json.deserialize_any(self),
        }
    }
}

impl One<'_> {
    /// Writes a whole number, if the field can hold it.
    fn whole<E: serde::de::Error>(mut self, n: i128) -> Result<(), E> {
        let (low, high): (i128, i128) = match self.field.kind() {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => (i32::MIN.into(), i32::MAX.into()),
            Kind::Uint32 | Kind::Fixed32 => (0, u32::MAX.into()),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (i64::MIN.into(), i64::MAX.into()),
            Kind::Uint64 | Kind::Fixed64 => (0, u64::MAX.into()),
            Kind::Float | Kind::Double => return self.real(n as f64),
            _ => return Err(self.other(format_args!("the number {n}"))),
        };
        if n < low || n > high {
            return Err(self.out.refuse(format_args!("{n} is out of range: expected {low} to {high}")));
        }
        let kind = self.field.kind();
        self.tag();
        let out = &mut self.out.bytes;
        match kind {
            Kind::Sint32 | Kind::Sint64 => encode_varint(((n << 1) ^ (n >> 127)) as u64, out),
            Kind::Fixed32 | Kind::Sfixed32 => out.extend((n as u32).to_le_bytes()),
            Kind::Fixed64 | Kind::Sfixed64 => out.extend((n as u64).to_le_bytes()),
            _ => encode_varint(n as u64, out),
        }
        self.out.check()
    }

    /// Writes a number, if the field can hold it.
    fn real<E: serde::de::Error>(mut self, x: f64) -> Result<(), E> {
        match self.field.kind() {
            Kind::Double => {
                self.tag();
                self.out.bytes.extend(x.to_le_bytes());
            }
            Kind::Float if x.is_finite() && !(x as f32).is_finite() => {
                return Err(self.out.refuse(format_args!("{x} is out of range of a float")));
            }
            Kind::Float => {
                self.tag();
                self.out.bytes.extend((x as f32).to_le_bytes());
            }
            _ if x.fract() == 0.0 && x.abs() < 2f64.powi(64) => return self.whole(x as i128),
            _ => return Err(self.other(format_args!("the number {x}"))),
        }
        self.out.check()
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let number = self.field.number();
        match self.field.kind() {
            Kind::String => self.out.field(number, text.as_bytes()),
            Kind::Bytes => match BASE64.decode(text).or_else(|_| BASE64_FOR_URLS.decode(text)) {
                Ok(bytes) => self.out.field(number, &bytes),
                Err(error) => Err(self.out.refuse(format_args!("expected base64: {error}"))),
            },
            Kind::Enum(descriptor) => match descriptor.get_value_by_name(text) {
                Some(value) => self.whole(value.number().into()),
                None => {
                    let known: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
                    let text = crate::rpc::status::shown(text);
                    Err(self.out.refuse(format_args!("{text} is not one of {}", known.join(", "))))
                }
            },
            Kind::Float | Kind::Double => match text {
                "NaN" => self.real(f64::NAN),
                "Infinity" => self.real(f64::INFINITY),
                "-Infinity" => self.real(f64::NEG_INFINITY),
                _ => match text.parse::<f64>() {
                    Ok(x) if x.is_finite() => self.real(x),
                    _ => Err(self.other("a text")),
                },
            },
            Kind::Bool | Kind::Message(_) => Err(self.other("a text")),
            _ => match text.parse::<i128>() {
                Ok(n) => self.whole(n),
                Err(_) => Err(self.other("a text")),
            },
        }
    }

    fn tag(&mut self) {
        if self.tagged {
            self.out.key(self.field.number(), self.field.kind().wire_type());
        }
    }

    /// Refuses a value of another type.
    fn other<E: serde::de::Error>(self, found: impl fmt::Display) -> E {
        let expected = match self.field.kind() {
            Kind::Double | Kind::Float => "a number",
            Kind::Bool => "true or false",
            Kind::String => "a text",
            Kind::Bytes => "a text in base64",
            Kind::Enum(_) => "the name of a value",
            Kind::Message(_) => "an object",
            _ => "a whole number",
        };
        self.out.refuse(format_args!("expected {expected}, found {found}"))
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        if self.field.kind() != Kind::Bool {
            return Err(self.other(value));
        }
        self.tag();
        self.out.bytes.push(value.into());
        self.out.check()
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<(), E> {
        self.whole(n.into())
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<(), E> {
        self.whole(n.into())
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<(), E> {
        self.real(x)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.text(text)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.other("an object"))
    }
}
