//! Checks a request of `TopK`: the queries, the settings of the search, and what the hits bring along.
//!
//! What depends on the collection is left to the parent, which finds it: the length of a vector, and ids.

use std::num::NonZeroUsize;

use super::super::access::{Access, AllowedName};
use super::super::hits::Fields;
use super::super::reranked::{Asked, Reranking};
use super::super::status::Failure;
use super::super::{Engine, Limits, answer, filter, lexical, parse, vector};
use crate::collection::{Diversity, DocId, Groups, Mode, Search};
use crate::index::{Effort, MAX_EF};
use crate::kernel::embedding::Embedding;
use crate::wire::{self, query};

/// A parsed request.
pub struct Parsed {
    pub queries: Vec<Result<Query, Failure>>,
    pub candidates: Vec<String>,
    /// The collection; `None`: only candidates are ranked.
    pub collection: Option<AllowedName>,
    /// The name of the model of candidates; empty: that of the collection, or the default.
    pub model: String,
    pub search: Search,
    pub fields: Fields,
    /// The second step, and the text of each query for it.
    pub reranking: Option<(Reranking, Vec<Asked>)>,
}

/// A parsed query, with the words that it is searched by.
pub struct Query {
    pub meaning: Meaning,
    pub words: String,
}

/// The part of a query that becomes vectors.
pub enum Meaning {
    Text(String),
    Vector(Embedding),
    Id(DocId),
    /// Words are searched alone.
    None,
}

impl Meaning {
    /// The id of the document whose vectors are the query's.
    pub fn id(&self) -> Option<&DocId> {
        if let Self::Id(id) = self { Some(id) } else { None }
    }
}

pub fn parse_request(engine: &Engine, access: &Access, mut request: wire::TopKRequest) -> Result<Parsed, Failure> {
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

pub fn parse_search(request: &mut wire::TopKRequest, k: usize, limits: &Limits) -> Result<Search, Failure> {
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
