//! `Embed` and `EmbedStream`: texts to vectors.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, future};
use tonic::{Status, Streaming};

use super::status::Failure;
use super::{Engine, Responses, bounded, parse, vector};
use crate::embedder::{Embedding, InputType, Pooled, Truncation, WhenFull};
use crate::proto::{self, VectorFormat, embed_result};

/// Requests of one stream that are in work at a time: one is computed, one waits behind it so that
/// no worker is idle between them, and the others hide the way to the client.
const STREAM_DEPTH: usize = 4;

/// How texts become wire vectors.
struct Form {
    input_type: InputType,
    truncation: Truncation,
    normalize: bool,
    /// Dimensions kept.
    dimensions: usize,
    format: VectorFormat,
}

pub async fn embed(engine: &Engine, request: proto::EmbedRequest) -> Result<proto::EmbedResponse, Failure> {
    let form = parse(engine, &request)?;
    answer(engine, request.texts, &form, WhenFull::Refuse).await
}

pub fn embed_stream(engine: Arc<Engine>, requests: Streaming<proto::EmbedRequest>) -> Responses<proto::EmbedResponse> {
    let answers = requests
        .map_ok(move |request| {
            let engine = Arc::clone(&engine);
            async move { Ok::<_, Status>(answer_in_place(&engine, request).await) }
        })
        .map(|next| match next {
            Ok(answer) => future::Either::Left(answer),
            Err(status) => future::Either::Right(future::ready(Err(status))),
        })
        .buffered(STREAM_DEPTH);
    Box::pin(answers)
}

/// A stream outlives a wrong request: each of its texts is answered with the error.
async fn answer_in_place(engine: &Engine, request: proto::EmbedRequest) -> proto::EmbedResponse {
    let n = request.texts.len();
    let answered = match parse(engine, &request) {
        Ok(form) => answer(engine, request.texts, &form, WhenFull::Wait).await,
        Err(failure) => Err(failure),
    };
    answered.unwrap_or_else(|failure| {
        let result =
            proto::EmbedResult { result: Some(embed_result::Result::Error(failure.to_item())), ..Default::default() };
        proto::EmbedResponse { results: vec![result; n] }
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
        format: vector::format("format", request.format)?,
    })
}

async fn answer(
    engine: &Engine,
    texts: Vec<String>,
    form: &Form,
    when_full: WhenFull,
) -> Result<proto::EmbedResponse, Failure> {
    let path = |n: usize| format!("texts[{n}]");
    let checked: Vec<Result<(), Failure>> =
        texts.iter().enumerate().map(|(n, text)| parse::text(&path(n), text, &engine.limits)).collect();
    let sound: Vec<String> =
        texts.into_iter().zip(&checked).filter(|(_, check)| check.is_ok()).map(|(text, _)| text).collect();
    let mut embedded = engine.embedder.embed(sound, form.input_type, form.truncation, when_full).await?.into_iter();
    let results = checked.into_iter().enumerate().map(|(n, check)| {
        let result = check.and_then(|()| match embedded.next() {
            Some(Ok(pooled)) => write(pooled, form),
            Some(Err(error)) => Err(Failure::text(path(n), &error)),
            None => Err(Failure::Internal),
        });
        result.unwrap_or_else(|failure| proto::EmbedResult {
            result: Some(embed_result::Result::Error(failure.to_item())),
            ..Default::default()
        })
    });
    bounded(proto::EmbedResponse { results: results.collect() }, &engine.limits)
}

fn write(pooled: Pooled, form: &Form) -> Result<proto::EmbedResult, Failure> {
    let Pooled { mut values, tokens, tokens_total } = pooled;
    values.truncate(form.dimensions);
    if form.normalize {
        // Only a model whose kept dimensions are all zero gets here.
        values = Embedding::normalized(values).map_err(|_| Failure::Internal)?.into_values();
    }
    Ok(proto::EmbedResult {
        result: Some(embed_result::Result::Vector(vector::write(values, form.format))),
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    })
}
