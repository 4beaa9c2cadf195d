//! The common part of `Embed` and `Classify`: one result for each text, in order. A wrong text fails alone. Also serves
//! streams of such calls.

use std::future::Future;

use futures::{StreamExt, TryFutureExt, future};
use prost::Message;
use tonic::Status;
use tonic_types::pb;

use super::answer::Answer;
use super::measure::MeasureError;
use super::request::{Next, Received, Requests};
use super::status::Failure;
use super::{Engine, Limits, Responses, parse, size};
use crate::compute::WhenFull;
use crate::inference::TextError;

/// Requests of one stream that are processed at a time. One is computed, one waits behind it so that no worker is idle
/// in between, and the others hide the latency to the client.
const STREAM_DEPTH: usize = 4;

/// Passes those of `texts` that are within the limits to `run`, together. Each of the others, and each text for which
/// `run` fails, gets a failure as its result.
pub async fn text<T, E, F>(
    texts: Vec<String>,
    limits: &Limits,
    run: impl FnOnce(Vec<String>) -> F,
) -> Result<Vec<Result<T, Failure>>, Failure>
where
    F: Future<Output = Result<Vec<Result<T, TextError>>, E>>,
    Failure: From<E>,
{
    let path = |n: usize| format!("texts[{n}]");
    let check = |(n, text): (usize, &String)| {
        if text.len() <= limits.max_text_bytes { Ok(()) } else { parse::text(&path(n), text, limits) }
    };
    let checked: Vec<Result<(), Failure>> = texts.iter().enumerate().map(check).collect();
    let sound: Vec<String> =
        texts.into_iter().zip(&checked).filter(|(_, check)| check.is_ok()).map(|(text, _)| text).collect();
    let mut results = run(sound).await?.into_iter();
    let result = |(n, check): (usize, Result<(), Failure>)| {
        check.and_then(|()| match results.next() {
            Some(result) => result.map_err(|error| Failure::text(path(n), &error)),
            None => Err(Failure::Internal),
        })
    };
    Ok(checked.into_iter().enumerate().map(result).collect())
}

/// Answers the requests of a stream in order, several at a time. A failed request ends the stream.
pub fn in_order<Q, F>(requests: Requests<Q>, answer: impl Fn(Next<Q>) -> F + Send + 'static) -> Responses<Answer>
where
    Q: Send + 'static,
    F: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    let answers = requests
        .map(move |next| match next {
            Ok(request) => future::Either::Left(answer(request).map_err(Status::from)),
            Err(status) => future::Either::Right(future::ready(Err(status))),
        })
        .buffered(STREAM_DEPTH);
    Box::pin(answers)
}

/// Answers one request of a stream with `answer`. If the whole request fails, each of its texts gets the failure, in
/// the form that `fail` writes. If the texts were too many to be counted, the stream ends.
pub async fn answer_in_place<Q, M, F>(
    engine: &Engine,
    request: Next<Q>,
    n_texts: impl FnOnce(&Q) -> usize,
    answer: impl FnOnce(Received<Q>) -> F,
    fail: impl FnOnce(Vec<pb::Status>) -> M + Send + 'static,
) -> Result<Answer, Failure>
where
    M: Message,
    F: Future<Output = Result<Answer, Failure>>,
{
    let (n, failure) = match request {
        Ok(request) => {
            let n = n_texts(&request.message);
            match answer(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => (n, failure),
            }
        }
        Err(too_many) if too_many.at_least => return Err(MeasureError::TooMany(too_many).into()),
        Err(too_many) => (too_many.count, MeasureError::TooMany(too_many).into()),
    };
    let item = failure.to_item();
    let bytes = n.saturating_mul(size::field(size::field(item.encoded_len())));
    let answered = Answer::build(engine, bytes, WhenFull::Wait, move || Ok(fail(vec![item; n]))).await;
    // If even the errors are too large for a message, the failure ends the stream.
    answered.map_err(|error| if matches!(error, Failure::AnswerTooLarge { .. }) { failure } else { error })
}
