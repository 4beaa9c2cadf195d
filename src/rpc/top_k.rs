//! `TopK`: the nearest documents, or candidate texts, of each query.

mod parsed;

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use futures::try_join;
use tracing::Instrument;

use super::access::AllowedName;
use super::answer::Answer;
use super::hits::{Candidates, FOUND_BYTES, HitWriter, Hits, PASSAGE_BYTES};
use super::request::{Received, hold};
use super::reranked::Texts;
use super::status::{Failure, Resource, shown};
use super::{Engine, compute_if_large, vector};
use crate::backend::{self, Collection, Searches};
use crate::collection::{DocId, Hit, Mode, Search};
use crate::compute::stop::{Stop, Stopped};
use crate::compute::{SHORT, Terms};
use crate::embedder::{Embedder, InputType};
use crate::index::Effort;
use crate::inference::Truncation;
use crate::kernel::embedding::Embedding;
use crate::wire;
pub use parsed::parse_search;
use parsed::{Meaning, Parsed, Query, parse_request};

pub async fn top_k(engine: &Arc<Engine>, request: Received<wire::TopKRequest>) -> Result<Answer, Failure> {
    let terms = request.terms();
    let Received { message, bytes, held, access, .. } = request;
    let (when_full, of_call) = (terms.when_full, Arc::clone(engine));
    let parsed = compute_if_large(engine, bytes, when_full, move || parse_request(&of_call, &access, message));
    let Parsed { mut queries, candidates: texts, collection, model, search, fields, reranking } = parsed.await??;
    let collection = match collection {
        Some(name) => Some(find(engine, &name, search.mode).await?),
        None => None,
    };
    let dimensions = match &collection {
        Some(collection) => collection.model().dimensions,
        None => engine.models.get(&model)?.embedder.dimensions(),
    };
    queries.iter_mut().enumerate().for_each(|(n, query)| check_length(n, query, dimensions));
    let embeds = !texts.is_empty() || queries.iter().flatten().any(|query| matches!(query.meaning, Meaning::Text(_)));
    let embedder = if embeds { Some(embedder(engine, &model, collection.as_ref())?) } else { None };
    let hit_bytes = FOUND_BYTES + (search.passages.get() - 1) * PASSAGE_BYTES;
    let found_bytes = queries.len() * search.k.saturating_mul(hit_bytes);
    let _of_hits = hold(&engine.messages, found_bytes, when_full).await?;

    let keeps_texts = fields.text || reranking.is_some();
    let (texts, to_embed) = if keeps_texts { (texts.clone(), texts) } else { (Vec::new(), texts) };
    let (queries, vectors) = try_join!(
        vectors(embedder, queries, collection.as_ref(), terms),
        candidate_vectors(embedder, to_embed, terms)
    )?;
    if let Some(first) = first_failure_of_all(&queries) {
        return Err(first);
    }
    let writer = HitWriter::new(fields, Arc::new(search), Arc::new(Candidates { texts, vectors }));
    let (limits, counted, are_final) = (engine.limits.clone(), writer.clone(), reranking.is_none());
    let count = move |found: Result<Hits, Failure>| {
        if are_final {
            counted.count(&found, &limits)?;
        }
        Ok(found)
    };
    let (pools, cost, span) = (&engine.pools, cost(&writer.search), span(&queries, &writer.search));
    let mut found = match &collection {
        Some(collection) if writer.candidates.vectors.is_empty() => {
            let searches = Searches { queries, search: Arc::clone(&writer.search), cost, when_full };
            let documents = move |found: Result<Vec<Hit>, Failure>| count(found.map(Hits::Documents));
            let found = collection.search(pools, searches, documents).instrument(span).await;
            found.map_err(|failure| match failure {
                Failure::AnswerTooLarge { limit } if reranking.is_some() => Failure::TextsTooLarge { limit },
                failure => failure,
            })?
        }
        _ => {
            let ranking = writer.clone();
            let rank = move |query: Result<backend::Query, Failure>, stop: &Stop| match query {
                Ok(query) => count(Ok(Hits::Candidates(rank_candidates(&query.vectors, &ranking, stop)?))),
                Err(failure) => count(Err(failure)),
            };
            let ranked = pools.search.run_each(when_full, cost, queries, rank).instrument(span).await?;
            ranked.into_iter().collect::<Result<Vec<_>, Failure>>()?
        }
    };
    let _of_texts = hold(&engine.messages, found.iter().flatten().map(Hits::text_bytes).sum(), when_full).await?;
    if let Some((reranking, asked)) = reranking {
        let texts = Texts { asked, collection, candidates: Arc::clone(&writer.candidates) };
        found = reranking.apply(engine, texts, found, terms).await?;
        if let Some(first) = first_failure_of_all(&found) {
            return Err(first);
        }
        found.iter().try_for_each(|found| writer.count(found, &engine.limits))?;
    }
    let answer = Answer::build(engine, writer.bytes(), when_full, move || {
        Ok(wire::TopKResponse { results: found.into_iter().map(|found| writer.write(found)).collect() })
    });
    let answer = answer.await;
    drop(held);
    answer
}

/// Finds the collection that is searched.
async fn find(engine: &Engine, name: &AllowedName, mode: Mode) -> Result<Collection, Failure> {
    let found = engine.store.get(name).await?;
    if mode != Mode::Vector && found.lexical().is_none() {
        return Err(Failure::NoLexicalIndex { name: name.as_str().to_owned() });
    }
    Ok(found)
}

/// Finds the model that embeds the texts of a call: that of the collection, or else the one that it names.
fn embedder<'a>(engine: &'a Engine, name: &str, collection: Option<&Collection>) -> Result<&'a Embedder, Failure> {
    let served = match collection {
        None => engine.models.get(name)?,
        Some(collection) => {
            let own = engine.models.of_collection(collection)?;
            if !name.is_empty() && engine.models.get(name)?.about.name != own.about.name {
                let (name, own, of) = (shown(name), &own.about.name, shown(collection.name()));
                let reason = format!("{name} is not {own}, the model of collection {of}: leave it out");
                return Err(Failure::invalid("model", reason));
            }
            own
        }
    };
    Ok(&served.embedder)
}

/// Makes an error of a query by a vector of a wrong length.
fn check_length(n: usize, query: &mut Result<Query, Failure>, dimensions: usize) {
    if let Ok(Query { meaning: Meaning::Vector(vector), .. }) = query
        && let Err(failure) = vector::check_length(&format!("queries[{n}].vector"), vector, dimensions)
    {
        *query = Err(failure);
    }
}

/// The span of the searches of a call.
fn span<E>(queries: &[Result<backend::Query, E>], search: &Search) -> tracing::Span {
    tracing::info_span!("search", queries = queries.len(), k = search.k, mode = ?search.mode)
}

/// The vectors of each query with its words: one vector, or for an id one for each passage. Texts are embedded
/// together, ids are looked up.
async fn vectors(
    embedder: Option<&Embedder>,
    mut queries: Vec<Result<Query, Failure>>,
    collection: Option<&Collection>,
    terms: Terms,
) -> Result<Vec<Result<backend::Query, Failure>>, Failure> {
    let text = |query: &mut Query| match &mut query.meaning {
        Meaning::Text(text) => Some(std::mem::take(text)),
        _ => None,
    };
    let texts: Vec<String> = queries.iter_mut().flatten().filter_map(text).collect();
    let embedded = match embedder {
        Some(embedder) => embedder.embed(texts, InputType::Query, Truncation::End, terms).await?,
        None => Vec::new(),
    };
    let mut embedded = embedded.into_iter();
    let ids: Vec<DocId> = queries.iter().flatten().filter_map(|query| query.meaning.id()).cloned().collect();
    let found = match collection {
        Some(collection) if !ids.is_empty() => collection.vectors(&ids).await?,
        _ => Vec::new(),
    };
    let mut found = found.into_iter();
    let mut vectors_of = |n: usize, meaning: Meaning| match meaning {
        Meaning::None => Ok(Vec::new()),
        Meaning::Text(_) => {
            let embedded = embedded.next().ok_or(Failure::Internal)?;
            Ok(vec![vector::of_text(embedded, || format!("queries[{n}].text"))?])
        }
        Meaning::Vector(vector) => Ok(vec![vector]),
        Meaning::Id(id) => {
            let collection = collection.ok_or(Failure::Internal)?;
            let found = found.next().flatten().ok_or_else(|| {
                let (collection, id) = (collection.name().to_owned(), id.as_str().to_owned());
                Failure::NotFound(Resource::Document { collection, id })
            })?;
            let rows = found.iter().map(|row| Embedding::normalized(row.to_vec()));
            rows.collect::<Result<_, _>>().map_err(|error| Failure::of_model(format!("queries[{n}].id"), &error))
        }
    };
    let sought = |(n, query): (usize, Result<Query, Failure>)| {
        let Query { meaning, words } = query?;
        Ok(backend::Query { vectors: vectors_of(n, meaning)?, words })
    };
    Ok(queries.into_iter().enumerate().map(sought).collect())
}

async fn candidate_vectors(
    embedder: Option<&Embedder>,
    texts: Vec<String>,
    terms: Terms,
) -> Result<Vec<Embedding>, Failure> {
    let Some(embedder) = embedder else { return Ok(Vec::new()) };
    let pooled = embedder.embed(texts, InputType::Document, Truncation::End, terms).await?;
    pooled.into_iter().enumerate().map(|(n, pooled)| vector::of_text(pooled, || format!("candidates[{n}]"))).collect()
}

/// The expected cost of one query; the pool corrects it by measurement.
fn cost(search: &Search) -> Duration {
    let exact = if search.effort == Effort::Exact { 4 } else { 0 };
    let groups = if search.groups.is_some() { 4 } else { 0 };
    let words = if matches!(search.mode, Mode::Hybrid(_)) { 2 } else { 0 };
    // Candidates are compared with those already chosen.
    let diversity = if search.diversity.is_some() { search.k / 4 } else { 0 };
    SHORT.saturating_mul(u32::try_from(1 + exact + groups + words + diversity).unwrap_or(u32::MAX))
}

/// Returns the first failure if all results are failures.
fn first_failure_of_all<T>(results: &[Result<T, Failure>]) -> Option<Failure> {
    if results.iter().any(Result::is_ok) { None } else { results.iter().find_map(|r| r.as_ref().err().cloned()) }
}

/// The best candidates by position, with their scores.
fn rank_candidates(query: &[Embedding], writer: &HitWriter, stop: &Stop) -> Result<Vec<(usize, f32)>, Stopped> {
    stop.check()?;
    let (search, candidates) = (&writer.search, &writer.candidates.vectors);
    let score = |candidate: &Embedding| query.iter().map(|vector| vector.cosine(candidate)).fold(f32::MIN, f32::max);
    let mut ranked: Vec<(usize, f32)> = candidates.iter().map(score).enumerate().collect();
    ranked.retain(|(_, score)| search.min_score.is_none_or(|min| *score >= min));
    // The sort is stable: ties stay in the order of positions.
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
    if let Some(diversity) = search.diversity {
        let pool: Vec<(f32, &[f32])> = ranked.iter().map(|(n, score)| (*score, candidates[*n].values())).collect();
        ranked = diversity.choose(&pool, search.k, stop)?.into_iter().map(|place| ranked[place]).collect();
    }
    ranked.truncate(search.k);
    Ok(ranked)
}
