//! Texts in JSON, straight into the bytes of a message: they take no more memory than they have bytes.

use std::borrow::Cow;
use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

/// Texts as a repeated field of a message.
#[derive(Debug, Default)]
pub struct Texts {
    /// The encoded field.
    pub encoded: Vec<u8>,
}

/// The number of the field and the form of its items.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The number of the field in the message.
    pub number: u32,
    /// True if a single text may stand for a list of one.
    pub or_one: bool,
    /// True if an item may be an object with a `text`.
    pub objects: bool,
}

impl Texts {
    fn push(&mut self, number: u32, text: &str) {
        encode_key(number, WireType::LengthDelimited, &mut self.encoded);
        encode_varint(text.len() as u64, &mut self.encoded);
        self.encoded.extend_from_slice(text.as_bytes());
    }
}

impl<'de> DeserializeSeed<'de> for Field {
    type Value = Texts;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Texts, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.or_one { "a text or a list of texts" } else { "a list of texts" })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        if !self.or_one {
            return Err(E::invalid_type(serde::de::Unexpected::Str(""), &self));
        }
        let mut texts = Texts::default();
        texts.push(self.number, text);
        Ok(texts)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
        let mut texts = Texts::default();
        while let Some(text) = items.next_element_seed(Item { objects: self.objects })? {
            texts.push(self.number, &text);
        }
        Ok(texts)
    }
}

/// One item of a list.
struct Item {
    objects: bool,
}

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_any(self)
    }
}

/// The answer to token ids, of one text or of several.
const TOKENS: &str = "token ids are not read, because they belong to another model's tokenizer: send texts";

impl<'de> Visitor<'de> for Item {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.objects { "a text, or an object with one field `text`" } else { "a text" })
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(E::custom(TOKENS))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        // Errors of the first element are those of this one.
        match items.next_element::<u64>() {
            Ok(_) => Err(A::Error::custom(TOKENS)),
            Err(_) => Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        if !self.objects {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let mut text = None;
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if name != "text" {
                return Err(A::Error::unknown_field(&name, &["text"]));
            }
            if text.replace(fields.next_value()?).is_some() {
                return Err(A::Error::duplicate_field("text"));
            }
        }
        text.ok_or_else(|| A::Error::missing_field("text"))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{EmbedRequest, RerankRequest};

    const INPUT: Field = Field { number: 1, or_one: true, objects: false };
    const DOCUMENTS: Field = Field { number: 2, or_one: false, objects: true };

    fn read(field: Field, json: &str) -> Result<Vec<u8>, String> {
        let mut from = serde_json::Deserializer::from_str(json);
        field.deserialize(&mut from).map(|texts| texts.encoded).map_err(|error| error.to_string())
    }

    fn texts(json: &str) -> Vec<String> {
        EmbedRequest::decode(&*read(INPUT, json).unwrap()).unwrap().texts
    }

    #[test]
    fn texts_are_a_string_or_a_list() {
        assert_eq!(texts(r#""a \u00e9""#), ["a é"]);
        assert_eq!(texts(r#"["", "b\n", "c"]"#), ["", "b\n", "c"]);
        assert!(texts("[]").is_empty());
        let documents = RerankRequest::decode(&*read(DOCUMENTS, r#"["a", {"text": "b"}]"#).unwrap()).unwrap();
        assert_eq!(documents.texts, ["a", "b"]);
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        for (field, json, reason) in [
            (INPUT, "[1, 2]", "token ids"),
            (INPUT, "[[1, 2]]", "token ids"),
            (INPUT, "7", "a text or a list of texts"),
            (INPUT, r#"["a", null]"#, "expected a text"),
            (INPUT, r#"[{"text": "a"}]"#, "expected a text"),
            (DOCUMENTS, r#""a""#, "a list of texts"),
            (DOCUMENTS, r#"[{"title": "a"}]"#, "unknown field `title`"),
            (DOCUMENTS, r#"[{"text": "a", "text": "b"}]"#, "duplicate field"),
            (DOCUMENTS, "[{}]", "missing field"),
        ] {
            let error = read(field, json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
