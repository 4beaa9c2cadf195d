//! The second step of `TopK`: the best hits of a search in the order of a reranker.
//!
//! The search chooses the hits: `filter` and `group_by` hold as without a reranker, because no hit is added here. The
//! reranker orders them by the query's text and the nearest passage of each hit, and decides their scores.

use std::sync::Arc;

use super::hits::{Candidates, Hits};
use super::request::hold;
use super::status::Failure;
use super::{Engine, Limits, rerank};
use crate::backend::Collection;
use crate::collection::{DocId, Hit};
use crate::compute::Terms;
use crate::inference::{TextError, TokenizerError, Truncation};
use crate::reranker::{Reranker, Scored, rank};
use crate::wire;

/// Hits that are scored for each query if the request names no number.
const USUAL_CANDIDATES: usize = 50;

/// The text of a query, which is read together with a hit.
#[derive(Debug, Clone)]
pub enum Asked {
    /// The query's own text; empty if the query is wrong.
    Text(String),
    /// The text of a document.
    Document(DocId),
}

/// A parsed request for the second step.
pub struct Reranking {
    reranker: Reranker,
    /// Hits of the search for each query.
    pub candidates: usize,
    k: usize,
    min_score: Option<f32>,
}

impl Reranking {
    /// Parses the step, if the request wants it. Takes `min_score` out of the request: it is a score of the reranker.
    pub fn parse(engine: &Engine, request: &mut wire::TopKRequest, k: usize) -> Result<Option<Self>, Failure> {
        let Some(given) = request.rerank.take() else { return Ok(None) };
        let reranker = rerank::find(engine, &given.model)?.clone();
        let (candidates, min_score) = parse_step(&given, request, k, &engine.limits)?;
        Ok(Some(Self { reranker, candidates, k, min_score }))
    }

    /// Orders the hits of each query anew. A query that fails keeps its failure.
    pub async fn apply(
        &self,
        engine: &Engine,
        texts: Texts,
        found: Vec<Result<Hits, Failure>>,
        terms: Terms,
    ) -> Result<Vec<Result<Hits, Failure>>, Failure> {
        let mut ordered = Vec::with_capacity(found.len());
        // One query after the other: the hits of one fill batches for all workers, and no more texts are copied.
        for (n, (found, asked)) in found.into_iter().zip(&texts.asked).enumerate() {
            let path = || format!("queries[{n}]");
            ordered.push(match (found, texts.of(engine, asked, terms).await?) {
                (Err(failure), _) => Err(failure),
                // As unknown as a document that was never there.
                (Ok(_), None) => Err(Failure::invalid(path(), "its document was deleted meanwhile")),
                (Ok(hits), Some(query)) => {
                    let hits = self.order(engine, &query, hits, &texts.candidates, terms).await?;
                    hits.map_err(|error| match error {
                        TextError::Tokenizer(TokenizerError::FirstTooLong { .. }) => {
                            Failure::invalid(path(), error.to_string())
                        }
                        error => Failure::text(path(), &error),
                    })
                }
            });
        }
        Ok(ordered)
    }

    /// Orders the hits of one query.
    async fn order(
        &self,
        engine: &Engine,
        query: &str,
        hits: Hits,
        candidates: &Candidates,
        terms: Terms,
    ) -> Result<Result<Hits, TextError>, Failure> {
        Ok(match hits {
            Hits::Documents(hits) => {
                let texts = hits.iter().map(text).collect();
                let scored = self.score(engine, query, texts, terms).await?;
                scored.map(|scored| {
                    let best = self.best(hits, scored).into_iter();
                    Hits::Reranked(best.map(|(hit, scored)| (hit, scored.score)).collect())
                })
            }
            done @ Hits::Reranked(_) => Ok(done),
            Hits::Candidates(hits) => {
                let texts = hits.iter().map(|(n, _)| &*candidates.texts[*n]).collect();
                let scored = self.score(engine, query, texts, terms).await?;
                scored.map(|scored| {
                    let set = |((n, _), scored): ((usize, f32), Scored)| (n, scored.score);
                    Hits::Candidates(self.best(hits, scored).into_iter().map(set).collect())
                })
            }
        })
    }

    /// Scores the texts of hits. The copies that the model needs take their memory from the budget.
    async fn score(
        &self,
        engine: &Engine,
        query: &str,
        texts: Vec<&str>,
        terms: Terms,
    ) -> Result<Result<Vec<Scored>, TextError>, Failure> {
        let bytes = texts.iter().map(|text| text.len()).sum();
        let held = hold(&engine.messages, bytes, terms.when_full).await?;
        let texts = texts.into_iter().map(str::to_owned).collect();
        let scored = self.reranker.score(query, texts, Truncation::End, terms).await?;
        drop(held);
        Ok(scored.into_iter().collect())
    }

    /// The best k of the hits that have the minimum score, best first.
    fn best<T>(&self, hits: Vec<T>, scored: Vec<Scored>) -> Vec<(T, Scored)> {
        let mut hits: Vec<(T, Scored)> = hits.into_iter().zip(scored).collect();
        hits.retain(|(_, scored)| self.min_score.is_none_or(|least| scored.score >= least));
        rank(&mut hits);
        hits.truncate(self.k);
        hits
    }
}

/// The text of a hit: its nearest passage, or the whole text of a document that is one.
fn text(hit: &Hit) -> &str {
    let text = &*hit.text;
    hit.passage.and_then(|span| span.of(text)).unwrap_or(text)
}

/// The texts that a reranker reads beside the hits' own.
pub struct Texts {
    /// One for each query.
    pub asked: Vec<Asked>,
    /// The collection of documents that are queries.
    pub collection: Option<Collection>,
    /// The texts that are ranked instead of a collection.
    pub candidates: Arc<Candidates>,
}

impl Texts {
    /// The text of a query; `None` if its document was deleted.
    async fn of(&self, engine: &Engine, asked: &Asked, terms: Terms) -> Result<Option<String>, Failure> {
        let id = match asked {
            Asked::Text(text) => return Ok(Some(text.clone())),
            Asked::Document(id) => id,
        };
        let Some(collection) = &self.collection else { return Ok(None) };
        let found = collection.text(&engine.pools.search, terms.when_full, id.clone()).await?;
        Ok(found.map(|text| text.to_string()))
    }
}

/// Parses the number of hits to score and the least score. Takes `min_score` out of the request.
pub fn parse_step(
    given: &wire::Rerank,
    request: &mut wire::TopKRequest,
    k: usize,
    limits: &Limits,
) -> Result<(usize, Option<f32>), Failure> {
    let candidates = candidates(given.candidates as usize, k, request.queries.len(), limits)?;
    if request.diversity != 0.0 {
        let reason = "chooses hits by score and cosine, and rerank orders them: remove one of them";
        return Err(Failure::invalid("diversity", reason));
    }
    if request.min_score.is_some_and(f32::is_nan) {
        return Err(Failure::invalid("min_score", "is NaN: expected a number"));
    }
    Ok((candidates, request.min_score.take()))
}

/// Parses the number of hits to score: at least `k`.
fn candidates(given: usize, k: usize, n_queries: usize, limits: &Limits) -> Result<usize, Failure> {
    const FIELD: &str = "rerank.candidates";
    if given > limits.max_k {
        return Err(Failure::invalid(FIELD, format!("{given} exceeds the limit of {}", limits.max_k)));
    }
    let usual = USUAL_CANDIDATES.min(limits.max_k);
    let candidates = if given == 0 { usual } else { given }.max(k);
    if candidates * n_queries > limits.max_hits {
        let limit = limits.max_hits;
        let reason = format!("{n_queries} queries times {candidates} candidates exceed the limit of {limit}");
        return Err(Failure::invalid(FIELD, reason));
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_k_hits_are_scored_and_all_of_them_are_counted() {
        let limits = Limits { max_k: 100, max_hits: 1000, ..Limits::default() };
        assert_eq!(candidates(0, 10, 1, &limits), Ok(50));
        assert_eq!(candidates(7, 10, 1, &limits), Ok(10));
        assert_eq!(candidates(80, 10, 1, &limits), Ok(80));
        assert_eq!(candidates(0, 10, 1, &Limits { max_k: 20, ..limits.clone() }), Ok(20));
        assert!(candidates(101, 10, 1, &limits).is_err());
        assert!(candidates(0, 1, 21, &limits).is_err(), "21 times 50");
    }
}
