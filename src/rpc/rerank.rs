//! `Rerank`: texts in the order in which they answer a query.

use super::answer::Answer;
use super::request::Received;
use super::status::{Failure, MAX_ITEM_BYTES, QUERY, Resource};
use super::{Engine, each, parse, size};
use crate::reranker::{Reranker, Scored, rank};
use crate::wire::{self, rerank_result};

/// Bytes of a result without its text: index, score, tokens, tokens_total and truncated.
const RESULT_BYTES: usize = 6 + 5 + 6 + 6 + 2;

pub async fn rerank(engine: &Engine, request: Received<wire::RerankRequest>) -> Result<Answer, Failure> {
    let terms = request.terms();
    let Received { message, held, .. } = request;
    let wire::RerankRequest { query, texts, model, top_n, with_text, truncation } = message;
    let limits = &engine.limits;
    parse::count("texts", texts.len(), 1, limits.max_texts)?;
    parse::text(QUERY, &query, limits)?;
    let (reranker, truncation) = (find(engine, &model)?, parse::truncation(truncation)?);

    let mut kept = if with_text { texts.clone() } else { Vec::new() };
    let results = each::text(texts, limits, |texts| reranker.score(&query, texts, truncation, terms)).await?;
    let (scored, failed) = split(results, top_n as usize)?;
    let text_bytes = |n: usize| kept.get(n).map_or(0, |text| size::field(text.len()));
    let bytes = scored.iter().map(|(n, _)| size::field(RESULT_BYTES + text_bytes(*n))).sum::<usize>()
        + failed.len() * size::field(RESULT_BYTES + MAX_ITEM_BYTES);
    let answer = Answer::build(engine, bytes, terms.when_full, move || {
        let mut text = |n: usize| kept.get_mut(n).map(std::mem::take).unwrap_or_default();
        let scored = scored.into_iter().map(|(n, scored)| write(n, scored, text(n)));
        let failed = failed.into_iter().map(|(n, failure)| wire::RerankResult {
            index: n as u32,
            result: Some(rerank_result::Result::Error(failure.to_item())),
            ..Default::default()
        });
        Ok(wire::RerankResponse { results: scored.chain(failed).collect() })
    });
    let answer = answer.await;
    drop(held);
    answer
}

/// Finds the reranker that a request names.
pub(super) fn find<'a>(engine: &'a Engine, name: &str) -> Result<&'a Reranker, Failure> {
    engine.rerankers.get(name).ok_or_else(|| {
        let known = engine.rerankers.iter().map(|reranker| reranker.about().name.clone()).collect();
        Failure::NotFound(Resource::Model { kind: "reranker", name: name.to_owned(), known })
    })
}

/// The scored texts by their positions, and the failed ones.
type Split = (Vec<(usize, Scored)>, Vec<(usize, Failure)>);

/// Ranks the scored texts and keeps the best `top_n` of them; 0 keeps all. Fails if no text can be scored because of
/// the query.
fn split(results: Vec<Result<Scored, Failure>>, top_n: usize) -> Result<Split, Failure> {
    let (mut scored, mut failed) = (Vec::with_capacity(results.len()), Vec::new());
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(result) => scored.push((n, result)),
            Err(Failure::Invalid(violations)) if violations.iter().any(|wrong| wrong.field == QUERY) => {
                return Err(Failure::Invalid(violations));
            }
            Err(failure) => failed.push((n, failure)),
        }
    }
    rank(&mut scored);
    if top_n > 0 {
        scored.truncate(top_n);
    }
    Ok((scored, failed))
}

fn write(n: usize, scored: Scored, text: String) -> wire::RerankResult {
    let Scored { score, tokens, tokens_total, .. } = scored;
    wire::RerankResult {
        index: n as u32,
        result: Some(rerank_result::Result::Score(score)),
        text,
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(logit: f32) -> Result<Scored, Failure> {
        Ok(Scored { logit, score: 1.0, tokens: 1, tokens_total: 1 })
    }

    #[test]
    fn texts_are_ranked_by_the_models_number_and_equal_ones_keep_their_order() {
        let results = vec![scored(40.0), scored(50.0), Err(Failure::Internal), scored(40.0), scored(-1.0)];
        let positions = |top_n| {
            let (scored, failed) = split(results.clone(), top_n).unwrap();
            let of_scored: Vec<usize> = scored.iter().map(|(n, _)| *n).collect();
            (of_scored, failed.iter().map(|(n, _)| *n).collect::<Vec<_>>())
        };
        assert_eq!(positions(0), (vec![1, 0, 3, 4], vec![2]));
        assert_eq!(positions(2), (vec![1, 0], vec![2]), "a failure is listed in addition");
    }

    #[test]
    fn a_query_that_leaves_no_room_fails_the_call() {
        let results = vec![Err(Failure::Internal), Err(Failure::invalid(QUERY, "600 tokens"))];
        assert_eq!(split(results, 0).unwrap_err(), Failure::invalid(QUERY, "600 tokens"));
    }
}
