//! Reads JSON of any form: `google.protobuf.Value`, `Struct` and `ListValue`.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use prost::encoding::WireType;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::writer::{Step, Writer};

/// Numbers of the fields of `google.protobuf.Value`.
mod value {
    pub const NULL: u32 = 1;
    pub const NUMBER: u32 = 2;
    pub const STRING: u32 = 3;
    pub const BOOL: u32 = 4;
    pub const STRUCT: u32 = 5;
    pub const LIST: u32 = 6;
}

/// Reads a `google.protobuf.Value`: any JSON.
pub struct Value<'a>(pub &'a mut Writer);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.key(value::NULL, WireType::Varint);
        self.0.bytes.push(0);
        self.0.check()
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<(), E> {
        self.0.key(value::BOOL, WireType::Varint);
        self.0.bytes.push(truth.into());
        self.0.check()
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<(), E> {
        self.visit_f64(n as f64)
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<(), E> {
        self.visit_f64(n as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<(), E> {
        self.0.key(value::NUMBER, WireType::SixtyFourBit);
        self.0.bytes.extend(x.to_le_bytes());
        self.0.check()
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.field(value::STRING, text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.0.nested(value::LIST, |out| Values(out).visit_seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.nested(value::STRUCT, |out| Entries(out).visit_map(map))
    }
}

/// Reads any JSON as a field with this number.
struct Tagged<'a>(u32, &'a mut Writer);

impl<'de> DeserializeSeed<'de> for Tagged<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.1.nested(self.0, |out| Value(out).deserialize(json))
    }
}

/// Reads the values of a `google.protobuf.ListValue`.
pub struct Values<'a>(pub &'a mut Writer);

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Tagged(1, self.0))?.is_some() {}
        Ok(())
    }
}

/// Reads the entries of a `google.protobuf.Struct`.
pub struct Entries<'a>(pub &'a mut Writer);

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let out = self.0;
        // Hashes with a random key, because names may be long.
        let (hasher, mut seen) = (RandomState::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            let first = seen.insert(hasher.hash_one(&name));
            out.path.push(Step::Key(name.clone()));
            if !first {
                return Err(out.refuse("it is there twice"));
            }
            out.nested(1, |out| {
                out.field(1, name.as_bytes())?;
                map.next_value_seed(Tagged(2, out))
            })?;
            out.path.pop();
        }
        Ok(())
    }
}
