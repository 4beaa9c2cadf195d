//! `POST /v1/embeddings`: texts to vectors, as floats or as their bytes in base64.
//!
//! A text that is longer than the model reads is cut, as by `Embed`; its item says `"truncated": true` then.
//! `input_type`, which OpenAI does not have, chooses the prompt of a model that has one for each role.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::Deserialize;
use serde::de::DeserializeSeed;

use super::failures::{body_error, of_item};
use super::messages::items;
use super::models::{Name, no_model};
use super::texts::{Field, Texts};
use crate::rpc::status::Failure;
use crate::server::http::translation::{Output, Translation};
use crate::wire::{self, InputType, VectorFormat, embed_result};

/// One call.
pub struct Embeddings {
    /// The names of the models, the default first.
    models: Vec<Name>,
    /// The one of them that is asked for, which the answer repeats.
    asked: AtomicUsize,
    /// True if vectors are wanted in base64, which is known once the request is read.
    base64: AtomicBool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(deserialize_with = "input")]
    input: Texts,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    encoding_format: EncodingFormat,
    dimensions: Option<u32>,
    #[serde(default)]
    input_type: Role,
    /// The end user, for reports of abuse: nothing is done with it, as the caller may expect.
    #[serde(default, rename = "user")]
    _user: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Role {
    #[default]
    None,
    Query,
    Document,
}

fn input<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
    DeserializeSeed::deserialize(Field { number: 1, or_one: true, objects: false }, from)
}

impl Embeddings {
    /// A call of a server with these models, the default first.
    pub fn new(models: Vec<Name>) -> Self {
        Self { models, asked: 0.into(), base64: false.into() }
    }
}

impl Translation for Embeddings {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        let request: Request<'_> = serde_json::from_slice(body).map_err(|error| body_error(&error))?;
        let mut model = String::new();
        if let Some(asked) = request.model {
            let found = self.models.iter().position(|name| name.is(&asked));
            let found = found.ok_or_else(|| no_model(&asked, &self.models))?;
            self.asked.store(found, Ordering::Relaxed);
            model.clone_from(&self.models[found].of_rpc);
        }
        self.base64.store(request.encoding_format == EncodingFormat::Base64, Ordering::Relaxed);
        let input_type = match request.input_type {
            Role::None => InputType::Unspecified,
            Role::Query => InputType::Query,
            Role::Document => InputType::Document,
        };
        let rest = wire::EmbedRequest {
            input_type: input_type.into(),
            dimensions: request.dimensions.unwrap_or_default(),
            format: VectorFormat::F32Bytes.into(),
            model,
            ..Default::default()
        };
        if request.dimensions == Some(0) {
            return Err(Failure::invalid("dimensions", "0 is not a number of dimensions"));
        }
        // The fields of a message may be written in any order, and one after the other.
        let mut message = request.input.encoded;
        message.extend(rest.encode_to_vec());
        Ok(message)
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let base64 = self.base64.load(Ordering::Relaxed);
        let mut tokens = 0u64;
        out.put(br#"{"object":"list","data":["#)?;
        for (index, item) in items(message).enumerate() {
            let result = wire::EmbedResult::decode(item?).map_err(|_| Failure::Internal)?;
            tokens += u64::from(result.tokens);
            let vector = match result.result {
                Some(embed_result::Result::Vector(vector)) => vector.data,
                Some(embed_result::Result::Error(error)) => return Err(of_item("texts", index, &error)),
                None => return Err(Failure::Internal),
            };
            let comma = if index > 0 { "," } else { "" };
            out.put(format!(r#"{comma}{{"object":"embedding","index":{index},"embedding":"#).as_bytes())?;
            if base64 {
                out.put_json(&STANDARD.encode(&vector))?;
            } else {
                let values: Vec<f32> =
                    vector.chunks_exact(4).map(|le| f32::from_le_bytes([le[0], le[1], le[2], le[3]])).collect();
                out.put_json(&values)?;
            }
            out.put(if result.truncated { br#","truncated":true}"# } else { b"}" })?;
        }
        out.put(br#"],"model":"#)?;
        let model = self.models.get(self.asked.load(Ordering::Relaxed));
        out.put_json(model.map_or("", |name| &*name.shown))?;
        out.put(format!(r#","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::budget::ByteBudget;

    fn call() -> Embeddings {
        let default = Name::of("default", "sentence-transformers/all-MiniLM-L6-v2", "a commit");
        Embeddings::new(vec![default, Name::of("small", "/models/small-v1", "local")])
    }

    fn request(call: &Embeddings, body: Value) -> Result<wire::EmbedRequest, Failure> {
        let message = call.request(body.to_string().as_bytes(), usize::MAX)?;
        Ok(wire::EmbedRequest::decode(&*message).expect("a message"))
    }

    fn answer(call: &Embeddings, results: Vec<wire::EmbedResult>) -> Result<Value, Failure> {
        let mut out = Output::new(ByteBudget::new(1 << 20), 1 << 20);
        call.answer(&wire::EmbedResponse { results }.encode_to_vec(), &mut out)?;
        Ok(serde_json::from_slice(&out.finish()).expect("JSON"))
    }

    fn vector(values: &[f32]) -> wire::EmbedResult {
        let vector = wire::vector::write(values.to_vec(), VectorFormat::F32Bytes);
        wire::EmbedResult { result: Some(embed_result::Result::Vector(vector)), tokens: 4, ..Default::default() }
    }

    #[test]
    fn a_request_says_what_to_embed_and_how() {
        let body = json!({ "input": ["a", "b"], "model": "all-MiniLM-L6-v2", "dimensions": 64, "input_type": "query" });
        let request = request(&call(), body).unwrap();
        assert_eq!(request.texts, ["a", "b"]);
        assert_eq!((request.dimensions, request.input_type()), (64, InputType::Query));
    }

    #[test]
    fn a_model_is_asked_for_by_its_name_and_the_answer_repeats_it() {
        for (asked, of_rpc, shown) in [
            (None, "", "sentence-transformers/all-MiniLM-L6-v2"),
            (Some("default"), "default", "sentence-transformers/all-MiniLM-L6-v2"),
            (Some("all-MiniLM-L6-v2"), "default", "sentence-transformers/all-MiniLM-L6-v2"),
            (Some("small"), "small", "small"),
        ] {
            let call = call();
            assert_eq!(request(&call, json!({ "input": "a", "model": asked })).unwrap().model, of_rpc);
            assert_eq!(answer(&call, vec![vector(&[1.0])]).unwrap()["model"], shown);
        }
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        for (body, name) in [
            (json!({ "input": "a", "model": "text-embedding-3-small" }), "text-embedding-3-small"),
            (json!({ "input": "a", "service_tier": "auto" }), "service_tier"),
            (json!({ "input": "a", "encoding_format": "int8" }), "int8"),
            (json!({ "input": [1, 2] }), "token ids"),
            (json!({ "input": "a", "dimensions": 0 }), "dimensions"),
            (json!({}), "input"),
        ] {
            let failure = tonic::Status::from(request(&call(), body).unwrap_err());
            assert!(failure.message().contains(name), "{failure:?}");
        }
    }

    #[test]
    fn an_answer_has_floats_or_their_bytes_and_counts_tokens() {
        let call = call();
        request(&call, json!({ "input": "a" })).unwrap();
        let floats = answer(&call, vec![vector(&[0.5, -0.25]), vector(&[1.0, 0.0])]).unwrap();
        assert_eq!(floats["data"][0], json!({ "object": "embedding", "index": 0, "embedding": [0.5, -0.25] }));
        assert_eq!(floats["usage"], json!({ "prompt_tokens": 8, "total_tokens": 8 }));
        request(&call, json!({ "input": "a", "encoding_format": "base64" })).unwrap();
        let bytes = answer(&call, vec![vector(&[0.5, -0.25])]).unwrap();
        assert_eq!(bytes["data"][0]["embedding"], STANDARD.encode([0.5f32, -0.25].map(f32::to_le_bytes).concat()));
    }

    #[test]
    fn a_text_with_an_error_fails_the_call() {
        let error = Failure::invalid("texts[1]", "2 bytes are more than 1").to_item();
        let wrong = wire::EmbedResult { result: Some(embed_result::Result::Error(error)), ..Default::default() };
        let failure = answer(&call(), vec![vector(&[1.0]), wrong]).unwrap_err();
        assert_eq!(failure, Failure::invalid("texts[1]", "2 bytes are more than 1"));
    }
}
