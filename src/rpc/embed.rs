//! `Embed` and `EmbedStream`: texts to vectors.

use std::ops::Range;
use std::sync::Arc;

use prost::Message;

use super::answer::{self, Answer};
use super::passages::{self, Embedded, Texts};
use super::request::{Next, Received, Requests};
use super::status::{Failure, MAX_ITEM_BYTES};
use super::{Engine, Responses, each, parse, size, vector};
use crate::collection::PassageSizes;
use crate::compute::Terms;
use crate::embedder::{Embedder, InputType};
use crate::inference::{Output, Truncation};
use crate::kernel::embedding::{Embedding, NotAnEmbedding};
use crate::wire::{self, VectorFormat, embed_result};

/// The options of an embedding call.
struct EmbedOptions {
    embedder: Embedder,
    input_type: InputType,
    truncation: Truncation,
    normalize: bool,
    /// Dimensions to keep.
    dimensions: usize,
    /// True if these are fewer than the model's.
    is_cut: bool,
    format: VectorFormat,
    /// The sizes of passages; `None`: one vector for each text.
    passages: Option<PassageSizes>,
}

impl EmbedOptions {
    /// The most bytes that the result of a text with this number of vectors takes.
    fn result_bytes(&self, n_vectors: usize) -> usize {
        const COUNTS: usize = 6 + 6 + 2;
        const SPAN: usize = 6 + 6;
        let vector = size::field(size::vector(self.dimensions, self.format));
        let vector = if self.passages.is_some() { size::field(vector + SPAN) } else { vector };
        size::field(vector.saturating_mul(n_vectors) + COUNTS)
    }
}

/// The vectors of a text.
enum Computed {
    /// One, of the text or of its beginning.
    One(Output),
    /// One of each passage.
    Passages(Embedded),
}

impl Computed {
    fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Passages(embedded) => embedded.passages.len(),
        }
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
            let answer = |request: Received<_>| {
                let terms = request.terms_of_stream();
                answer(&engine, request, terms)
            };
            let fail = |items: Vec<_>| wire::EmbedResponse { results: items.into_iter().map(failed).collect() };
            each::answer_in_place(&engine, request, |request| request.texts.len(), answer, fail).await
        }
    })
}

fn parse(engine: &Engine, request: &wire::EmbedRequest) -> Result<EmbedOptions, Failure> {
    parse::count("texts", request.texts.len(), 1, engine.limits.max_texts)?;
    let embedder = engine.models.get(&request.model)?.embedder.clone();
    let (wanted, all) = (request.dimensions as usize, embedder.dimensions());
    if wanted > all {
        return Err(Failure::invalid("dimensions", format!("{wanted} dimensions exceed the model's {all}")));
    }
    let input_type = parse::input_type(request.input_type)?;
    let passages = match &request.passages {
        Some(given) => passages::parse(given, &embedder, input_type)?,
        None => None,
    };
    if passages.is_some() && request.truncation != wire::Truncation::Unspecified as i32 {
        let reason = "is set together with passages, which cut nothing off: leave one of them out";
        return Err(Failure::invalid("truncation", reason));
    }
    Ok(EmbedOptions {
        embedder,
        input_type,
        passages,
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
    answer::check(n_sound * options.result_bytes(1), &engine.limits)?;
    let embedded = compute(engine, request.texts, &options, terms).await?;
    drop(held);
    let n_failed = embedded.iter().filter(|result| result.is_err()).count();
    let errors = (n_failed * MAX_ITEM_BYTES).min(engine.limits.max_message_bytes);
    let vectors: usize = embedded.iter().flatten().map(|computed| options.result_bytes(computed.count())).sum();
    let max_bytes = (vectors + errors).min(engine.limits.max_message_bytes);
    Answer::build(engine, max_bytes, terms.when_full, move || {
        let written = embedded.into_iter().map(|result| result.and_then(|computed| write(computed, &options)));
        let results = written.map(|result| result.unwrap_or_else(|failure| failed(failure.to_item())));
        Ok(wire::EmbedResponse { results: results.collect() })
    })
    .await
}

/// Computes the vectors of texts. The call is refused before passages are computed whose answer is too large.
async fn compute(
    engine: &Engine,
    texts: Vec<String>,
    options: &EmbedOptions,
    terms: Terms,
) -> Result<Vec<Result<Computed, Failure>>, Failure> {
    let &EmbedOptions { ref embedder, input_type, truncation, passages, .. } = options;
    let Some(sizes) = passages else {
        let run = |texts| embedder.embed(texts, input_type, truncation, terms);
        let outputs = each::text(texts, &engine.limits, run).await?;
        return Ok(outputs.into_iter().map(|output| output.map(Computed::One)).collect());
    };
    let admit = |n_passages| answer::check(options.result_bytes(n_passages), &engine.limits);
    let run = |texts| passages::embed(embedder, Texts { texts, input_type, sizes }, terms, admit);
    let embedded = each::text(texts, &engine.limits, run).await?;
    Ok(embedded.into_iter().map(|embedded| embedded.map(Computed::Passages)).collect())
}

fn write(computed: Computed, options: &EmbedOptions) -> Result<wire::EmbedResult, Failure> {
    let n_vectors = computed.count();
    let result = match computed {
        Computed::One(Output { values, tokens, tokens_total }) => wire::EmbedResult {
            result: Some(embed_result::Result::Vector(write_vector(values, options)?)),
            tokens: tokens as u32,
            tokens_total: tokens_total as u32,
            truncated: tokens_total > tokens,
            passages: Vec::new(),
        },
        Computed::Passages(Embedded { passages, tokens_total }) => {
            let tokens = passages.iter().map(|(_, output)| output.tokens).sum::<usize>() as u32;
            let passage = |(bytes, output): (Range<usize>, Output)| {
                let vector = Some(write_vector(output.values, options)?);
                Ok(wire::Passage { start: bytes.start as u32, end: bytes.end as u32, vector, ..Default::default() })
            };
            let passages = passages.into_iter().map(passage).collect::<Result<_, Failure>>()?;
            let tokens_total = tokens_total as u32;
            wire::EmbedResult { result: None, tokens, tokens_total, truncated: false, passages }
        }
    };
    debug_assert!(size::field(result.encoded_len()) <= options.result_bytes(n_vectors));
    Ok(result)
}

fn write_vector(mut values: Vec<f32>, options: &EmbedOptions) -> Result<wire::Vector, Failure> {
    values.truncate(options.dimensions);
    if options.normalize {
        values = Embedding::normalized(values).map_err(|error| no_direction(&error, options))?.into_values();
    }
    Ok(wire::vector::write(values, options.format))
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
    Failure::of_model("texts", error)
}

fn failed(item: tonic_types::pb::Status) -> wire::EmbedResult {
    wire::EmbedResult { result: Some(embed_result::Result::Error(item)), ..Default::default() }
}
