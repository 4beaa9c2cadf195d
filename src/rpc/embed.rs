//! `Embed` and `EmbedStream`: texts to vectors.

use std::sync::Arc;

use prost::Message;

use super::answer::{self, Answer};
use super::request::{Next, Received, Requests};
use super::status::{Failure, MAX_ITEM_BYTES};
use super::{Engine, Responses, each, parse, size, vector};
use crate::compute::WhenFull;
use crate::embedder::{Embedding, InputType, NotAnEmbedding};
use crate::inference::{Output, Truncation};
use crate::proto::{self, VectorFormat, embed_result};

/// How texts become wire vectors.
#[derive(Clone, Copy)]
struct Form {
    input_type: InputType,
    truncation: Truncation,
    normalize: bool,
    /// Dimensions kept.
    dimensions: usize,
    /// These are not all that the model gives.
    is_cut: bool,
    format: VectorFormat,
}

impl Form {
    /// Bytes of a text's result, at most.
    fn result_bytes(&self) -> usize {
        const COUNTS: usize = 6 + 6 + 2;
        size::field(size::field(size::vector(self.dimensions, self.format)) + COUNTS)
    }
}

pub async fn embed(engine: &Engine, request: Received<proto::EmbedRequest>) -> Result<Answer, Failure> {
    let when_full = WhenFull::Refuse(request.deadline);
    answer(engine, request, when_full).await
}

pub fn embed_stream(engine: Arc<Engine>, requests: Requests<proto::EmbedRequest>) -> Responses<Answer> {
    each::in_order(requests, move |request: Next<proto::EmbedRequest>| {
        let engine = Arc::clone(&engine);
        async move {
            let answer = |request| answer(&engine, request, WhenFull::Wait);
            let fail = |items: Vec<_>| proto::EmbedResponse { results: items.into_iter().map(failed).collect() };
            each::answer_in_place(&engine, request, |request| request.texts.len(), answer, fail).await
        }
    })
}

fn parse(engine: &Engine, request: &proto::EmbedRequest) -> Result<Form, Failure> {
    parse::count("texts", request.texts.len(), 1, engine.limits.max_texts)?;
    let (wanted, all) = (request.dimensions as usize, engine.embedder.dimensions());
    if wanted > all {
        return Err(Failure::invalid("dimensions", format!("{wanted} exceed the model's {all}")));
    }
    Ok(Form {
        input_type: parse::input_type(request.input_type)?,
        truncation: parse::truncation(request.truncation)?,
        normalize: request.normalize.unwrap_or(true),
        dimensions: if wanted == 0 { all } else { wanted },
        is_cut: (1..all).contains(&wanted),
        format: vector::format("format", request.format)?,
    })
}

async fn answer(
    engine: &Engine,
    request: Received<proto::EmbedRequest>,
    when_full: WhenFull,
) -> Result<Answer, Failure> {
    let Received { message: request, held, .. } = request;
    let form = parse(engine, &request)?;
    let n_sound = request.texts.iter().filter(|text| text.len() <= engine.limits.max_text_bytes).count();
    answer::check(n_sound * form.result_bytes(), &engine.limits)?;
    let run = |texts| engine.embedder.embed(texts, form.input_type, form.truncation, when_full);
    let embedded = each::text(request.texts, &engine.limits, run).await?;
    drop(held);
    let n_failed = embedded.iter().filter(|result| result.is_err()).count();
    let errors = (n_failed * MAX_ITEM_BYTES).min(engine.limits.max_message_bytes);
    let vectors = (embedded.len() - n_failed) * form.result_bytes();
    let most = (vectors + errors).min(engine.limits.max_message_bytes);
    Answer::build(engine, most, when_full, move || {
        let written = embedded.into_iter().map(|result| result.and_then(|output| write(output, &form)));
        let results = written.map(|result| result.unwrap_or_else(|failure| failed(failure.to_item())));
        Ok(proto::EmbedResponse { results: results.collect() })
    })
    .await
}

fn write(output: Output, form: &Form) -> Result<proto::EmbedResult, Failure> {
    let Output { mut values, tokens, tokens_total } = output;
    values.truncate(form.dimensions);
    if form.normalize {
        values = Embedding::normalized(values).map_err(|error| no_direction(&error, form))?.into_values();
    }
    let result = proto::EmbedResult {
        result: Some(embed_result::Result::Vector(vector::write(values, form.format))),
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    };
    debug_assert!(size::field(result.encoded_len()) <= form.result_bytes());
    Ok(result)
}

/// Why a text's vector cannot be scaled to length 1: the caller kept nothing of it but zeros, or the model gave no more.
fn no_direction(error: &NotAnEmbedding, form: &Form) -> Failure {
    if form.is_cut {
        let n = form.dimensions;
        let reason = format!(
            "the first {n} of this text's vector are zero and have no direction; ask for more of them, or for normalize false"
        );
        return Failure::invalid("dimensions", reason);
    }
    Failure::of_model(error)
}

fn failed(item: tonic_types::pb::Status) -> proto::EmbedResult {
    proto::EmbedResult { result: Some(embed_result::Result::Error(item)), ..Default::default() }
}
