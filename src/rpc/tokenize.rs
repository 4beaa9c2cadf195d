//! `Tokenize` and `TokenizeStream`: texts to tokens, as the tokenizer of an embedding model divides them.
//!
//! Invariant: texts are tokenised whole, and each becomes its part of the answer at once. So the tokens of one text for
//! each thread are in memory at a time, and the parts are never more than a message holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;

use super::answer::{self, Answer};
use super::request::{self, Next, Received, Requests};
use super::status::Failure;
use super::{Engine, Responses, each, parse, size};
use crate::compute::Terms;
use crate::inference::Token;
use crate::wire;

/// The most bytes of an answer for each byte of a text, if each is a token: number, text, place and their tags.
const BYTES_PER_BYTE: usize = 24;
/// Bytes of a result beside the tokens of its text: special tokens.
const BYTES_PER_TEXT: usize = 64;

pub async fn tokenize(engine: &Engine, request: Received<wire::TokenizeRequest>) -> Result<Answer, Failure> {
    let terms = request.terms();
    answer(engine, request, terms).await
}

pub fn tokenize_stream(engine: Arc<Engine>, requests: Requests<wire::TokenizeRequest>) -> Responses<Answer> {
    each::in_order(requests, move |request: Next<wire::TokenizeRequest>| {
        let engine = Arc::clone(&engine);
        async move {
            let answer = |request: Received<_>| {
                let terms = request.terms_of_stream();
                answer(&engine, request, terms)
            };
            let fail = |items: Vec<_>| wire::TokenizeResponse { results: items.into_iter().map(failed).collect() };
            each::answer_in_place(&engine, request, |request| request.texts.len(), answer, fail).await
        }
    })
}

/// The results of a call, encoded: [`wire::TokenizeResponse`] with the bytes of each message in it.
#[derive(Clone, PartialEq, Message)]
struct Encoded {
    #[prost(bytes = "vec", repeated, tag = "1")]
    results: Vec<Vec<u8>>,
}

async fn answer(engine: &Engine, request: Received<wire::TokenizeRequest>, terms: Terms) -> Result<Answer, Failure> {
    let Received { message: request, held, .. } = request;
    let wire::TokenizeRequest { texts, without_special_tokens, model } = request;
    let limits = &engine.limits;
    parse::count("texts", texts.len(), 1, limits.max_texts)?;
    let embedder = &engine.models.get(&model)?.embedder;
    let most: usize = texts.iter().map(|text| text.len().saturating_mul(BYTES_PER_BYTE) + BYTES_PER_TEXT).sum();
    let of_tokens = request::hold(&engine.messages, most.min(limits.max_message_bytes), terms.when_full).await?;
    let left = AtomicUsize::new(limits.max_message_bytes);
    let write = move |tokens: Vec<Token>| encoded(tokens, &left);
    let run = |texts| embedder.tokens(texts, !without_special_tokens, terms.when_full, write);
    let results = each::text(texts, limits, run).await?;
    let result = |result: Result<Option<Vec<u8>>, Failure>| match result {
        Ok(result) => result.ok_or(Failure::AnswerTooLarge { limit: limits.max_message_bytes }),
        Err(failure) => Ok(failed(failure.to_item()).encode_to_vec()),
    };
    let results = results.into_iter().map(result).collect::<Result<Vec<_>, _>>()?;
    let bytes = results.iter().map(|result| size::field(result.len())).sum();
    answer::check(bytes, limits)?;
    let answer = Answer::build(engine, bytes, terms.when_full, move || Ok(Encoded { results })).await;
    drop((held, of_tokens));
    answer
}

/// Encodes the result of a text. `None` if fewer bytes are `left`.
fn encoded(tokens: Vec<Token>, left: &AtomicUsize) -> Option<Vec<u8>> {
    let token = |Token { id, text, special, bytes }: Token| {
        // A text has at most `max_message_bytes`, which a `u32` holds.
        wire::Token { id, text, special, start: bytes.start as u32, end: bytes.end as u32 }
    };
    let result = wire::TokenizeResult { tokens: tokens.into_iter().map(token).collect(), error: None };
    let bytes = size::field(result.encoded_len());
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).ok()?;
    Some(result.encode_to_vec())
}

fn failed(item: tonic_types::pb::Status) -> wire::TokenizeResult {
    wire::TokenizeResult { tokens: Vec::new(), error: Some(item) }
}
