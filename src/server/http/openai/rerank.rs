//! `POST /v1/rerank`: a query and documents to scores, best first, in the form that Jina's and Cohere's clients share.

use std::borrow::Cow;
use std::sync::OnceLock;

use prost::Message;
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};

use super::failures::{body_error, of_item};
use super::messages::items;
use super::texts::{Field, Texts};
use crate::rpc::status::Failure;
use crate::server::http::translation::{Output, Translation};
use crate::wire::{self, rerank_result};

/// One call.
pub struct Rerank {
    /// The name of the first reranker, for an answer to a request that names none.
    default: String,
    /// The name in the request, once it is read.
    asked: OnceLock<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    query: Cow<'a, str>,
    #[serde(deserialize_with = "documents")]
    documents: Texts,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    top_n: Option<u32>,
    return_documents: Option<bool>,
}

/// A result.
#[derive(Serialize)]
struct Scored<'a> {
    index: u32,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    text: &'a str,
}

fn documents<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
    DeserializeSeed::deserialize(Field { number: 2, or_one: false, objects: true }, from)
}

impl Rerank {
    /// A call of a server whose first reranker has this name.
    pub fn new(default: String) -> Self {
        Self { default, asked: OnceLock::new() }
    }
}

impl Translation for Rerank {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        let request: Request<'_> = serde_json::from_slice(body).map_err(|error| body_error(&error))?;
        if request.top_n == Some(0) {
            return Err(Failure::invalid("top_n", "0 is not a number of documents"));
        }
        let model = request.model.map(Cow::into_owned).unwrap_or_default();
        if !model.is_empty() {
            let _ = self.asked.set(model.clone());
        }
        let rest = wire::RerankRequest {
            query: request.query.into_owned(),
            model,
            top_n: request.top_n.unwrap_or_default(),
            with_text: request.return_documents.unwrap_or_default(),
            ..Default::default()
        };
        // The fields of a message may be written in any order, and one after the other.
        let mut message = request.documents.encoded;
        message.extend(rest.encode_to_vec());
        Ok(message)
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        out.put(br#"{"model":"#)?;
        out.put_json(self.asked.get().unwrap_or(&self.default))?;
        out.put(br#","results":["#)?;
        let mut tokens = 0u64;
        for (at, item) in items(message).enumerate() {
            let result = wire::RerankResult::decode(item?).map_err(|_| Failure::Internal)?;
            tokens += u64::from(result.tokens);
            let score = match result.result {
                Some(rerank_result::Result::Score(score)) => score,
                Some(rerank_result::Result::Error(error)) => {
                    return Err(of_item("texts", result.index as usize, &error));
                }
                None => return Err(Failure::Internal),
            };
            out.put(if at > 0 { b"," } else { b"" })?;
            let document = (!result.text.is_empty()).then_some(Document { text: &result.text });
            out.put_json(&Scored { index: result.index, relevance_score: score, document })?;
        }
        out.put(format!(r#"],"usage":{{"total_tokens":{tokens}}}}}"#).as_bytes())
    }
}
