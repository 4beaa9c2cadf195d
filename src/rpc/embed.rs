//! `Embed` and `EmbedStream`: texts to vectors.

use std::sync::Arc;

use prost::Message;

use super::answer::{self, Answer};
use super::request::{Next, Received, Requests};
use super::status::{Failure, MAX_ITEM_BYTES};
use super::{Engine, Responses, each, parse, size, vector};
use crate::compute::{Terms, WhenFull};
use crate::embedder::InputType;
use crate::inference::{Output, Truncation};
use crate::kernel::embedding::{Embedding, NotAnEmbedding};
use crate::wire::{self, VectorFormat, embed_result};

/// The options of an embedding call.
#[derive(Clone, Copy)]
struct EmbedOptions {
    input_type: InputType,
    truncation: Truncation,
    normalize: bool,
    /// Dimensions to keep.
    dimensions: usize,
    /// True if these are fewer than the model's.
    is_cut: bool,
    format: VectorFormat,
}

impl EmbedOptions {
    /// The most bytes that the result of a text takes.
    fn result_bytes(&self) -> usize {
        const COUNTS: usize = 6 + 6 + 2;
        size::field(size::field(size::vector(self.dimensions, self.format)) + COUNTS)
    }
}

pub async fn embed(engine: &Engine, request: Received<wire::EmbedRequest>) -> Result<Answer, Failure> {
    let terms = request.terms();
    answer(engine, request, terms).await
}

pub fn embed_stream(engine: Arc<Engine>, requests: Requests<wire::EmbedRequest>) -> Responses<Answer> {
    each::in_order(requests, move |request: Next<wire::EmbedRequest>| {
        let engine = Arc::clone(&engine);
        async move {
            let answer = |request| answer(&engine, request, WhenFull::Wait.into());
            let fail = |items: Vec<_>| wire::EmbedResponse { results: items.into_iter().map(failed).collect() };
            each::answer_in_place(&engine, request, |request| request.texts.len(), answer, fail).await
        }
    })
}

fn parse(engine: &Engine, request: &wire::EmbedRequest) -> Result<EmbedOptions, Failure> {
    parse::count("texts", request.texts.len(), 1, engine.limits.max_texts)?;
    let (wanted, all) = (request.dimensions as usize, engine.embedder.dimensions());
    if wanted > all {
        return Err(Failure::invalid("dimensions", format!("{wanted} dimensions exceed the model's {all}")));
    }
    Ok(EmbedOptions {
        input_type: parse::input_type(request.input_type)?,
        truncation: parse::truncation(request.truncation)?,
        normalize: request.normalize.unwrap_or(true),
        dimensions: if wanted == 0 { all } else { wanted },
        is_cut: (1..all).contains(&wanted),
        format: vector::format("format", request.format)?,
    })
}

async fn answer(engine: &Engine, request: Received<wire::EmbedRequest>, terms: Terms) -> Result<Answer, Failure> {
    let Received { message: request, held, .. } = request;
    let options = parse(engine, &request)?;
    let n_sound = request.texts.iter().filter(|text| text.len() <= engine.limits.max_text_bytes).count();
    answer::check(n_sound * options.result_bytes(), &engine.limits)?;
    let run = |texts| engine.embedder.embed(texts, options.input_type, options.truncation, terms);
    let embedded = each::text(request.texts, &engine.limits, run).await?;
    drop(held);
    let n_failed = embedded.iter().filter(|result| result.is_err()).count();
    let errors = (n_failed * MAX_ITEM_BYTES).min(engine.limits.max_message_bytes);
    let vectors = (embedded.len() - n_failed) * options.result_bytes();
    let max_bytes = (vectors + errors).min(engine.limits.max_message_bytes);
    Answer::build(engine, max_bytes, terms.when_full, move || {
        let written = embedded.into_iter().map(|result| result.and_then(|output| write(output, &options)));
        let results = written.map(|result| result.unwrap_or_else(|failure| failed(failure.to_item())));
        Ok(wire::EmbedResponse { results: results.collect() })
    })
    .await
}

fn write(output: Output, options: &EmbedOptions) -> Result<wire::EmbedResult, Failure> {
    let Output { mut values, tokens, tokens_total } = output;
    values.truncate(options.dimensions);
    if options.normalize {
        values = Embedding::normalized(values).map_err(|error| no_direction(&error, options))?.into_values();
    }
    let result = wire::EmbedResult {
        result: Some(embed_result::Result::Vector(wire::vector::write(values, options.format))),
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    };
    debug_assert!(size::field(result.encoded_len()) <= options.result_bytes());
    Ok(result)
}

/// The failure to scale a text's vector to length 1: the kept values are all zero, or the model returned no others.
fn no_direction(error: &NotAnEmbedding, options: &EmbedOptions) -> Failure {
    if options.is_cut {
        let n = options.dimensions;
        let reason = format!(
            "the first {n} values of this text's vector are zero and have no direction; ask for more dimensions, \
             or set normalize to false"
        );
        return Failure::invalid("dimensions", reason);
    }
    Failure::of_model(error)
}

fn failed(item: tonic_types::pb::Status) -> wire::EmbedResult {
    wire::EmbedResult { result: Some(embed_result::Result::Error(item)), ..Default::default() }
}
