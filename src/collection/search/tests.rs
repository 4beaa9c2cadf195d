//! Tests of searches against a plain ranking of all documents.

mod graphs;
mod meanwhile;
mod random_steps;

use std::collections::HashMap;
use std::num::NonZeroUsize;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::diversity::Diversity;
use super::super::filter::{Path, text};
use super::super::groups::Groups;
use super::super::passages::Span;
use super::super::{Content, Document, Listed, Model, Options, PageSize, Patch, Settings, Store, Vectors, disk};
use super::*;
use crate::index;

const DIMENSIONS: usize = 3;

/// A document of the plain ranking: its metadata and its vector.
type Said = (Option<Value>, Embedding);

/// A document of the plain ranking with a vector for each of its passages.
type Long = (Option<Value>, Vec<Embedding>);

fn long(documents: &[Said]) -> Vec<Long> {
    documents.iter().map(|(metadata, vector)| (metadata.clone(), vec![vector.clone()])).collect()
}

fn collection(documents: &[Said], index: index::Options) -> Arc<Collection> {
    collection_of(&long(documents), index)
}

fn collection_of(documents: &[Long], index: index::Options) -> Arc<Collection> {
    let store = Store::open(Options { index, ..Options::default() }).unwrap();
    let dimensions = documents.first().map_or(DIMENSIONS, |(_, vectors)| vectors[0].values().len());
    let model = Model { name: "m", fingerprint: "f", dimensions };
    let collection = store.create("c", model, Settings::default()).unwrap();
    let document = |(n, said): (usize, &Long)| document(n, said);
    // In reverse, so that positions and ids are not in the same order.
    collection.commit(documents.iter().enumerate().map(document).rev().collect()).unwrap();
    collection.finish_graph();
    collection
}

/// A document whose passages are one byte each.
fn document(n: usize, (metadata, vectors): &Long) -> Document {
    let metadata = metadata.as_ref().map(|value| json!({ "g": value }).as_object().unwrap().clone());
    let text = "x".repeat(vectors.len());
    let vectors = match &vectors[..] {
        [one] => one.clone().into(),
        several => {
            let span = |n: usize| Span { start: n as u32, end: n as u32 + 1 };
            let passages = several.iter().enumerate().map(|(n, vector)| (span(n), vector.clone()));
            Vectors::of_passages(&text, passages.collect()).unwrap()
        }
    };
    Document {
        id: id(n),
        content: Arc::new(Content::new(text, metadata.as_ref())),
        vectors,
        origin: Default::default(),
    }
}

fn by_vectors(vectors: &[Embedding]) -> Asked<'_> {
    Asked { vectors, words: "" }
}

fn id(n: usize) -> DocId {
    DocId::new(&format!("{n:05}")).unwrap()
}

fn by(size: usize) -> Groups {
    Groups { by: Path::readings("g").unwrap(), size: NonZeroUsize::new(size).unwrap() }
}

/// Scores every document, sorts all, and takes the first that are allowed.
fn plain(documents: &[Said], query: &Embedding, search: &Search) -> Vec<(DocId, f32)> {
    plain_of(&long(documents), std::slice::from_ref(query), search)
        .into_iter()
        .map(|(n, score)| (id(n), score))
        .collect()
}

/// The score of a vector for the nearest of the queries.
fn score(queries: &[Embedding], vector: &Embedding) -> f32 {
    queries.iter().map(|query| query.cosine(vector).clamp(-1.0, 1.0)).fold(f32::MIN, f32::max)
}

/// Like [`plain`], for documents of several passages and queries of several vectors. Returns positions of documents.
fn plain_of(documents: &[Long], queries: &[Embedding], search: &Search) -> Vec<(usize, f32)> {
    let best = |vectors: &[Embedding]| vectors.iter().map(|vector| score(queries, vector)).fold(f32::MIN, f32::max);
    let mut ranked: Vec<(usize, f32)> = documents.iter().map(|(_, vectors)| best(vectors)).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut members: HashMap<String, usize> = HashMap::new();
    ranked.retain(|(n, score)| {
        let value = documents[*n].0.as_ref();
        let metadata = value.map(|value| json!({ "g": value }).as_object().unwrap().clone()).unwrap_or_default();
        if search.min_score.is_some_and(|least| *score < least) {
            return false;
        }
        if search.filter.as_ref().is_some_and(|filter| !filter.matches(&metadata)) {
            return false;
        }
        let Some(groups) = &search.groups else { return true };
        let name = match value {
            Some(Value::Number(number)) => format!("{:?}", number.as_f64()),
            Some(Value::String(_) | Value::Bool(_)) => format!("{value:?}"),
            _ => return true,
        };
        let members = members.entry(name).or_default();
        *members += 1;
        *members <= groups.size.get()
    });
    if let Some(diversity) = search.diversity {
        ranked.truncate(diversity.pool(search.k));
        let nearest = |n: usize, best: f32| {
            let mut nearest = queries.iter().flat_map(|query| documents[n].1.iter().map(move |vector| (query, vector)));
            nearest.find(|(query, vector)| score(std::slice::from_ref(query), vector) == best).unwrap().1
        };
        let pool: Vec<(f32, &[f32])> = ranked.iter().map(|&(n, score)| (score, nearest(n, score).values())).collect();
        ranked =
            diversity.choose(&pool, search.k, &Stop::never()).unwrap().into_iter().map(|index| ranked[index]).collect();
    }
    ranked.truncate(search.k);
    ranked
}

fn found(collection: &Collection, query: &Embedding, search: &Search) -> Vec<(DocId, f32)> {
    collection.search(query, search).into_iter().map(|found| (found.id, found.score)).collect()
}

/// Vectors of whole numbers, so that some scores are equal.
fn vector() -> impl Strategy<Value = Embedding> {
    prop::collection::vec(-3i8..=3, DIMENSIONS).prop_filter_map("a direction", |values| {
        Embedding::normalized(values.into_iter().map(f32::from).collect()).ok()
    })
}

/// Values of the field, most of them the same.
fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        20 => Just(Some(json!("big"))),
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        2 => Just(Some(json!(["big"]))),
        1 => Just(Some(json!({"g": "big"}))),
        1 => any::<bool>().prop_map(|value| Some(json!(value))),
        2 => prop_oneof![Just(json!(1)), Just(json!(1.0)), Just(json!(2))].prop_map(Some),
        4 => (0..6u8).prop_map(|n| Some(json!(n.to_string()))),
    ]
}

fn search() -> impl Strategy<Value = Search> {
    let filter = prop_oneof![Just(None), Just(Some("not g = 1")), Just(Some("g = big")), Just(Some("g exists"))];
    let lambda = prop_oneof![Just(0.0f32), Just(1.0), 0.01f32..1.0];
    let min_score = prop::option::of(-1.0f32..1.0);
    (1..30usize, prop::option::of(1..5usize), filter, min_score, lambda).prop_map(
        |(k, group_size, filter, min_score, lambda)| Search {
            filter: filter.map(|filter| text::parse(filter).unwrap()),
            min_score,
            groups: group_size.map(by),
            diversity: Diversity::new(lambda),
            ..Search::nearest(k, Effort::Exact)
        },
    )
}

proptest! {
    #[test]
    fn an_exact_search_finds_what_a_plain_ranking_does(
        documents in prop::collection::vec((value(), vector()), 0..150),
        searches in prop::collection::vec((vector(), search()), 1..12),
    ) {
        let collection = collection(&documents, index::Options::default());
        for (query, search) in searches {
            let expected = plain(&documents, &query, &search);
            prop_assert_eq!(found(&collection, &query, &search), expected, "{:?}", search);
        }
    }
}

/// The passages of a document by descending score, then in order, with their spans.
fn by_score(vectors: &[Embedding], query: &Embedding) -> Vec<(Span, f32)> {
    let span = |n: usize| Span { start: n as u32, end: n as u32 + 1 };
    let scored = vectors.iter().enumerate().map(|(n, vector)| (span(n), query.cosine(vector).clamp(-1.0, 1.0)));
    let mut scored: Vec<(Span, f32)> = scored.collect();
    scored.sort_by(|one, other| other.1.total_cmp(&one.1));
    scored
}

proptest! {
    #[test]
    fn a_document_is_found_once_by_its_nearest_passage(
        documents in prop::collection::vec((value(), prop::collection::vec(vector(), 1..6)), 0..60),
        later in prop::collection::vec((0..60usize, value(), prop::collection::vec(vector(), 1..6)), 0..8),
        searches in prop::collection::vec((prop::collection::vec(vector(), 1..4), search(), 1..4usize), 1..8),
    ) {
        let mut documents: Vec<Long> = documents;
        let collection = collection_of(&documents, index::Options::default());
        for (n, metadata, vectors) in later {
            let n = n % documents.len().max(1);
            let said = (metadata, vectors);
            if n < documents.len() {
                collection.commit(vec![document(n, &said)]).unwrap();
                documents[n] = said;
            }
        }
        for (queries, search, passages) in searches {
            let search = Search { passages: NonZeroUsize::new(passages).unwrap(), ..search };
            let asked = by_vectors(&queries);
            let hits = collection.search_in_call(asked, &search, &Chosen::default(), &Stop::never()).unwrap();
            let told: Vec<(DocId, f32)> = hits.iter().map(|hit| (hit.id.clone(), hit.score)).collect();
            let expected = plain_of(&documents, &queries, &search);
            let named: Vec<_> = expected.iter().map(|&(n, score)| (id(n), score)).collect();
            prop_assert_eq!(told, named, "{:?}", search);
            for (hit, (n, _)) in hits.iter().zip(expected).filter(|_| queries.len() == 1) {
                let mut scored = by_score(&documents[n].1, &queries[0]).into_iter();
                let best = scored.next().unwrap();
                let whole = documents[n].1.len() == 1;
                prop_assert_eq!((hit.passage, hit.score), ((!whole).then_some(best.0), best.1));
                let others = scored.filter(|(_, score)| search.min_score.is_none_or(|least| *score >= least));
                prop_assert_eq!(&hit.others, &others.take(passages - 1).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_document_whose_hundred_passages_are_all_nearest_leaves_as_many_hits_as_there_can_be() {
    let directions: Vec<Embedding> = fan(5_000).collect();
    // Each of the nearest documents has a hundred passages, the others have one.
    let near = directions[..2_000].chunks(100).map(|vectors| (None, vectors.to_vec()));
    let documents: Vec<Long> = near.chain(directions[2_000..].iter().map(|one| (None, vec![one.clone()]))).collect();
    let collection = collection_of(&documents, graphs());
    let query = &directions[0];
    for k in [1, 10, 50] {
        let exact = Search::nearest(k, Effort::Exact);
        let expected = plain_of(&documents, std::slice::from_ref(query), &exact);
        let expected: Vec<(DocId, f32)> = expected.into_iter().map(|(n, score)| (id(n), score)).collect();
        assert_eq!(found(&collection, query, &exact), expected);
        let walked = found(&collection, query, &Search::nearest(k, Effort::Graph { ef: None }));
        assert_eq!((walked.len(), &walked[0]), (k, &expected[0]));
    }
}

/// `n` directions, each turned a little more from the first.
fn fan(n: usize) -> impl Iterator<Item = Embedding> {
    (0..n).map(move |i| {
        let (turn, lift) = (i as f32 / n as f32 * 3.0, (i as f32).sin() * 0.01);
        Embedding::normalized(vec![turn.cos(), turn.sin(), lift]).unwrap()
    })
}

fn graphs() -> index::Options {
    index::Options { exact_below: 100, scan_rows_per_ef: 1, ef_search: Some(32), ..index::Options::default() }
}
