//! `Embed` and `EmbedStream`: texts to vectors.

use std::sync::Arc;

use tonic::Streaming;

use super::status::Failure;
use super::{Engine, Responses, bounded, each, parse, vector};
use crate::compute::{Deadline, WhenFull};
use crate::embedder::{Embedding, InputType, NotAnEmbedding};
use crate::inference::{Output, Truncation};
use crate::proto::{self, VectorFormat, embed_result};

/// How texts become wire vectors.
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

pub async fn embed(
    engine: &Engine,
    request: proto::EmbedRequest,
    deadline: Deadline,
) -> Result<proto::EmbedResponse, Failure> {
    answer(engine, request, WhenFull::Refuse(deadline)).await
}

pub fn embed_stream(engine: Arc<Engine>, requests: Streaming<proto::EmbedRequest>) -> Responses<proto::EmbedResponse> {
    each::in_order(requests, move |request: proto::EmbedRequest| {
        let engine = Arc::clone(&engine);
        async move {
            let n = request.texts.len();
            let answered = answer(&engine, request, WhenFull::Wait).await;
            answered.unwrap_or_else(|failure| proto::EmbedResponse { results: vec![failed(&failure); n] })
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
    request: proto::EmbedRequest,
    when_full: WhenFull,
) -> Result<proto::EmbedResponse, Failure> {
    let form = parse(engine, &request)?;
    let run = |texts| engine.embedder.embed(texts, form.input_type, form.truncation, when_full);
    let embedded = each::text(request.texts, &engine.limits, run).await?;
    let written = embedded.into_iter().map(|result| result.and_then(|output| write(output, &form)));
    let results = written.map(|result| result.unwrap_or_else(|failure| failed(&failure)));
    bounded(proto::EmbedResponse { results: results.collect() }, &engine.limits)
}

fn write(output: Output, form: &Form) -> Result<proto::EmbedResult, Failure> {
    let Output { mut values, tokens, tokens_total } = output;
    values.truncate(form.dimensions);
    if form.normalize {
        values = Embedding::normalized(values).map_err(|error| no_direction(&error, form))?.into_values();
    }
    Ok(proto::EmbedResult {
        result: Some(embed_result::Result::Vector(vector::write(values, form.format))),
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    })
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

fn failed(failure: &Failure) -> proto::EmbedResult {
    proto::EmbedResult { result: Some(embed_result::Result::Error(failure.to_item())), ..Default::default() }
}
