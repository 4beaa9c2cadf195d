//! What `Embed` and `Classify` have in common: one result for each text, in order, of which one that is wrong never
//! fails its neighbours; and streams of such calls.

use std::future::Future;

use futures::{StreamExt, TryStreamExt, future};
use tonic::{Status, Streaming};

use super::status::Failure;
use super::{Limits, Responses, parse};
use crate::inference::{Overloaded, TextError};

/// Requests of one stream that are in work at a time: one is computed, one waits behind it so that
/// no worker is idle between them, and the others hide the way to the client.
const STREAM_DEPTH: usize = 4;

/// Puts those of `texts` that are within the limits through `run`, together. The others, and those that it fails on,
/// have their failure in their place.
pub async fn text<T, F>(
    texts: Vec<String>,
    limits: &Limits,
    run: impl FnOnce(Vec<String>) -> F,
) -> Result<Vec<Result<T, Failure>>, Failure>
where
    F: Future<Output = Result<Vec<Result<T, TextError>>, Overloaded>>,
{
    let path = |n: usize| format!("texts[{n}]");
    let checked: Vec<Result<(), Failure>> =
        texts.iter().enumerate().map(|(n, text)| parse::text(&path(n), text, limits)).collect();
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

/// Answers each request of a stream, several at a time and in order. A request that breaks ends it.
pub fn in_order<Q, A, F>(requests: Streaming<Q>, answer: impl Fn(Q) -> F + Send + 'static) -> Responses<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let answers = requests
        .map_ok(move |request| {
            let answer = answer(request);
            async move { Ok::<_, Status>(answer.await) }
        })
        .map(|next| match next {
            Ok(answer) => future::Either::Left(answer),
            Err(status) => future::Either::Right(future::ready(Err(status))),
        })
        .buffered(STREAM_DEPTH);
    Box::pin(answers)
}
