//! `TopK`: the nearest documents, or candidate texts, of each query.

use std::cmp::Ordering;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::try_join;
use tracing::Instrument;

use super::access::{Access, AllowedName};
use super::answer::{self, Answer};
use super::hits::{Candidates, FOUND_BYTES, Fields, HitWriter, Hits, PASSAGE_BYTES};
use super::request::{Received, hold};
use super::reranked::{Asked, Reranking, Texts};
use super::status::{Failure, Resource, shown};
use super::{Engine, Limits, compute_if_large, filter, lexical, parse, vector};
use crate::backend::{self, Collection, Searches};
use crate::collection::{Diversity, DocId, Groups, Hit, Mode, Search};
use crate::compute::stop::{Stop, Stopped};
use crate::compute::{SHORT, Terms};
use crate::embedder::{Embedder, InputType};
use crate::index::{Effort, MAX_EF};
use crate::inference::Truncation;
use crate::kernel::embedding::Embedding;
use crate::wire::{self, query};

/// A parsed query, with the words that it is searched by.
struct Query {
    meaning: Meaning,
    words: String,
}

/// The part of a query that becomes vectors.
enum Meaning {
    Text(String),
    Vector(Embedding),
    Id(DocId),
    /// Words are searched alone.
    None,
}

impl Meaning {
    /// The id of the document whose vectors are the query's.
    fn id(&self) -> Option<&DocId> {
        if let Self::Id(id) = self { Some(id) } else { None }
    }
}

/// A parsed request.
struct Parsed {
    queries: Vec<Result<Query, Failure>>,
    candidates: Vec<String>,
    /// The collection; `None`: only candidates are ranked.
    collection: Option<AllowedName>,
    /// The name of the model of candidates; empty: that of the collection, or the default.
    model: String,
    search: Search,
    fields: Fields,
    /// The second step, and the text of each query for it.
    reranking: Option<(Reranking, Vec<Asked>)>,
}

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

fn parse_request(engine: &Engine, access: &Access, mut request: wire::TopKRequest) -> Result<Parsed, Failure> {
    let limits = &engine.limits;
    parse::count("queries", request.queries.len(), 1, limits.max_texts)?;
    parse::count("candidates", request.candidates.len(), 0, limits.max_texts)?;
    parse::texts("candidates", &request.candidates, limits)?;
    let k = parse_k(engine, request.k, request.queries.len())?;
    let reranking = Reranking::parse(engine, &mut request, k)?;
    let mut search = parse_search(&mut request, reranking.as_ref().map_or(k, |step| step.candidates), limits)?;
    let fields = Fields {
        text: request.with_text,
        metadata: request.with_metadata,
        vector: vector::answered(request.with_vector, request.vector_format)?,
        passage_text: request.with_passage_text,
    };
    search.text_bytes = match &reranking {
        // A reranker reads the texts of all queries, and few of them are in the answer.
        Some(_) => Some(engine.messages.total() / request.queries.len()),
        None => (fields.text || fields.passage_text).then_some(limits.max_message_bytes),
    };

    let queries: Vec<Result<Query, Failure>> =
        request.queries.into_iter().enumerate().map(|(n, query)| parse_query(engine, n, query, search.mode)).collect();
    if !request.model.is_empty() && request.candidates.is_empty() {
        let reason = "applies to candidates, and a collection has a model of its own: leave it out";
        return Err(Failure::invalid("model", reason));
    }
    let (queries, reranking) = match reranking {
        Some(step) => {
            let (queries, asked) = queries.into_iter().enumerate().map(|(n, query)| with_text(n, query)).unzip();
            (queries, Some((step, asked)))
        }
        None => (queries, None),
    };
    let n_sound = queries.iter().filter(|query| query.is_ok()).count();
    if reranking.is_none() {
        answer::check(n_sound * min_bytes(fields.text, &search, &request.candidates), limits)?;
    }
    let needs_collection =
        request.candidates.is_empty() || queries.iter().flatten().any(|query| matches!(query.meaning, Meaning::Id(_)));
    let collection = match needs_collection {
        true => Some(access.name("collection", &request.collection, limits)?),
        false => None,
    };
    let (candidates, model) = (request.candidates, request.model);
    Ok(Parsed { queries, candidates, collection, model, search, fields, reranking })
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

/// Adds the text of a query for the second step. A vector has none, and is an error.
fn with_text(n: usize, query: Result<Query, Failure>) -> (Result<Query, Failure>, Asked) {
    let asked = match &query {
        Ok(Query { meaning: Meaning::Text(text), .. } | Query { meaning: Meaning::None, words: text }) => {
            Asked::Text(text.clone())
        }
        Ok(Query { meaning: Meaning::Id(id), .. }) => Asked::Document(id.clone()),
        Ok(Query { meaning: Meaning::Vector(_), .. }) => {
            let reason = "has no text, and rerank reads the text of a query: set text or id";
            return (Err(Failure::invalid(format!("queries[{n}].vector"), reason)), Asked::Text(String::new()));
        }
        Err(_) => Asked::Text(String::new()),
    };
    (query, asked)
}

/// The fewest bytes that the texts of candidates take in the answer to a query, known before anything is embedded.
fn min_bytes(with_text: bool, search: &Search, candidates: &[String]) -> usize {
    if !with_text || search.min_score.is_some() {
        return 0;
    }
    let mut lengths: Vec<usize> = candidates.iter().map(String::len).collect();
    lengths.sort_unstable();
    lengths.iter().take(search.k).sum()
}

fn parse_k(engine: &Engine, k: u32, n_queries: usize) -> Result<usize, Failure> {
    let (k, limits) = (k as usize, &engine.limits);
    if k == 0 || k > limits.max_k {
        return Err(Failure::invalid("k", format!("{k} is not between 1 and {}", limits.max_k)));
    }
    if k * n_queries > limits.max_hits {
        let limit = limits.max_hits;
        return Err(Failure::invalid("k", format!("{n_queries} queries times {k} hits exceed the limit of {limit}")));
    }
    Ok(k)
}

pub(super) fn parse_search(request: &mut wire::TopKRequest, k: usize, limits: &Limits) -> Result<Search, Failure> {
    let params = request.params.unwrap_or_default();
    let ef = params.ef as usize;
    if ef > MAX_EF {
        return Err(Failure::invalid("params.ef", format!("{ef} exceeds the limit of {MAX_EF}")));
    }
    if request.min_score.is_some_and(f32::is_nan) {
        return Err(Failure::invalid("min_score", "is NaN: expected a number"));
    }
    let filter = request.filter.take().map(|given| filter::parse("filter", given, limits)).transpose()?;
    if filter.is_some() && !request.candidates.is_empty() {
        return Err(Failure::invalid(
            "filter",
            "applies to a collection, but candidates are given: remove one of them",
        ));
    }
    let effort = if params.exact { Effort::Exact } else { Effort::Graph { ef: (ef > 0).then_some(ef) } };
    let (groups, diversity) = (parse_groups(request, limits)?, parse_diversity(request.diversity)?);
    let (mode, passages) = (lexical::parse_mode(request)?, parse_passages(request, k, limits)?);
    let min_score = request.min_score;
    Ok(Search { k, effort, mode, filter, min_score, groups, diversity, passages, text_bytes: None })
}

/// Parses the number of passages of each hit.
fn parse_passages(request: &wire::TopKRequest, k: usize, limits: &Limits) -> Result<NonZeroUsize, Failure> {
    let given = [
        ("passages_per_document", request.passages_per_document > 0),
        ("with_passage_text", request.with_passage_text),
    ];
    let given = given.into_iter().find(|(_, is_set)| *is_set && !request.candidates.is_empty());
    if let Some((field, _)) = given {
        let reason = "applies to a collection, but candidates are given, each of which is one text: remove one of them";
        return Err(Failure::invalid(field, reason));
    }
    let (passages, n_queries) = (request.passages_per_document as usize, request.queries.len());
    if passages > limits.max_k {
        let reason = format!("{passages} exceeds the limit of {}", limits.max_k);
        return Err(Failure::invalid("passages_per_document", reason));
    }
    if n_queries * k * passages > limits.max_hits {
        let limit = limits.max_hits;
        let reason =
            format!("{n_queries} queries times {k} hits times {passages} passages exceed the limit of {limit}");
        return Err(Failure::invalid("passages_per_document", reason));
    }
    Ok(NonZeroUsize::new(passages).unwrap_or(NonZeroUsize::MIN))
}

fn parse_groups(request: &wire::TopKRequest, limits: &Limits) -> Result<Option<Groups>, Failure> {
    let size = request.group_size as usize;
    if request.group_by.is_empty() {
        let alone = || Failure::invalid("group_size", format!("is {size} without group_by: set group_by too"));
        return if size == 0 { Ok(None) } else { Err(alone()) };
    }
    if !request.candidates.is_empty() {
        return Err(Failure::invalid(
            "group_by",
            "applies to a collection, but candidates are given: remove one of them",
        ));
    }
    if size > limits.max_k {
        return Err(Failure::invalid("group_size", format!("{size} exceeds the limit of {}", limits.max_k)));
    }
    let by = filter::names("group_by", &request.group_by)?;
    Ok(Some(Groups { by, size: NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN) }))
}

fn parse_diversity(diversity: f32) -> Result<Option<Diversity>, Failure> {
    if diversity == 0.0 {
        return Ok(None);
    }
    let parsed = Diversity::new(diversity);
    parsed.map(Some).ok_or_else(|| Failure::invalid("diversity", format!("{diversity} is not between 0 and 1")))
}

fn parse_query(engine: &Engine, n: usize, query: wire::Query, mode: Mode) -> Result<Query, Failure> {
    let words = lexical::words(n, &query, mode, &engine.limits)?;
    let meaning = match query.query {
        None => Err(Failure::invalid(format!("queries[{n}]"), "is empty: set text, vector or id")),
        Some(query::Query::Text(text)) => {
            parse::text(&format!("queries[{n}].text"), &text, &engine.limits)?;
            Ok(if mode == Mode::Lexical { Meaning::None } else { Meaning::Text(text) })
        }
        Some(query::Query::Vector(given)) => vector::unit(&format!("queries[{n}].vector"), &given).map(Meaning::Vector),
        Some(query::Query::Id(id)) => parse::id(&format!("queries[{n}].id"), &id, &engine.limits).map(Meaning::Id),
    }?;
    Ok(Query { meaning, words })
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
