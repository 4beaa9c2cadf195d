//! Tests of counts against a plain walk over all documents, while documents come, go and are updated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::columns::tests::metadata;
use super::super::filter::tests::filters;
use super::super::filter::{Path, Scalar, text};
use super::super::{Content, DocId, Document, Model, Numbers, Options, Patch, Settings, Span, Store, Vectors};
use super::*;
use crate::kernel::embedding::Embedding;

type Fields = Map<String, Value>;

fn collection() -> Arc<Collection> {
    let model = Model { name: "m", fingerprint: "f", dimensions: 2 };
    Store::open(Options::default()).unwrap().create("c", model, Settings::default()).unwrap()
}

fn id(n: u8) -> DocId {
    DocId::new(&n.to_string()).unwrap()
}

fn put(collection: &Collection, n: u8, metadata: Option<&Fields>) {
    let embedding = |passage| Embedding::normalized(vec![1.0 + f32::from(passage), f32::from(n)]).unwrap();
    // One document in three has three passages.
    let passage = |passage: u8| (Span { start: passage.into(), end: 6 }, embedding(passage));
    let vectors = match n % 3 {
        0 => Vectors::of_passages("a text", (0..3).map(passage).collect()).unwrap(),
        _ => embedding(0).into(),
    };
    let document = Document {
        id: id(n),
        content: Arc::new(Content::new("a text", metadata)),
        vectors,
        origin: Default::default(),
    };
    collection.commit(vec![document]).unwrap();
}

/// A change of one document.
#[derive(Debug, Clone)]
enum Step {
    Put(Option<Fields>),
    Remove,
    Update(Fields),
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step)>> {
    let step = prop_oneof![
        4 => metadata().prop_map(Step::Put),
        1 => Just(Step::Remove),
        3 => metadata().prop_map(|patch| Step::Update(patch.unwrap_or_default())),
    ];
    prop::collection::vec((0..12u8, step), 1..40)
}

/// RFC 7396, section 2, word by word.
fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = if let Value::Object(target) = target { target } else { Map::new() };
    for (name, value) in patch {
        match (value, target.remove(name)) {
            (Value::Null, _) => {}
            (value, old) => drop(target.insert(name.clone(), merge_patch(old.unwrap_or_default(), value))),
        }
    }
    Value::Object(target)
}

/// The values at the end of a path, in lists and objects in lists too; `None`: the field is missing.
fn values(value: &Value, keys: &[String]) -> Option<Vec<Scalar>> {
    match (keys.split_first(), value) {
        (None, Value::Array(elements)) => {
            Some(elements.iter().filter_map(|element| values(element, &[])).flatten().collect())
        }
        (None, one) => Some(Scalar::of(one).into_iter().collect()),
        (Some((key, rest)), Value::Object(fields)) => values(fields.get(key)?, rest),
        (Some(_), Value::Array(elements)) => {
            let found: Vec<_> = elements.iter().filter_map(|element| values(element, keys)).collect();
            (!found.is_empty()).then(|| found.concat())
        }
        (Some(_), _) => None,
    }
}

/// Counts by a walk over all documents.
fn plain(documents: &[&Fields], field: &FacetField) -> Facet {
    let mut facet = Facet::default();
    let mut counts: BTreeMap<Scalar, u64> = BTreeMap::new();
    for document in documents {
        let document = Value::Object((*document).clone());
        let readings: Vec<_> = field.by.iter().filter_map(|path| values(&document, path.keys())).collect();
        facet.documents += u64::from(!readings.is_empty());
        for value in readings.concat().into_iter().collect::<BTreeSet<_>>() {
            *counts.entry(value).or_default() += 1;
        }
    }
    facet.distinct = counts.len() as u64;
    let numbers = counts.iter().filter_map(|(value, n)| match value {
        Scalar::Number(x) => Some(vec![x.get(); *n as usize]),
        _ => None,
    });
    let numbers: Vec<f64> = numbers.flatten().collect();
    facet.numbers = numbers.first().map(|&min| {
        let (count, max) = (numbers.len() as u64, numbers[numbers.len() - 1]);
        Numbers { count, min, max, mean: numbers.iter().sum::<f64>() / count as f64 }
    });
    facet.values = counts.into_iter().collect();
    facet.values.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    facet.values.truncate(field.limit);
    facet
}

/// Facets with means that are rounded to 12 digits of the greatest number.
fn rounded(mut facet: Facet) -> Facet {
    if let Some(numbers) = &mut facet.numbers {
        let unit = numbers.max.abs().max(numbers.min.abs()) * 1e-12;
        if unit > 0.0 {
            numbers.mean = (numbers.mean / unit).round();
        }
    }
    facet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn counts_and_facets_are_those_of_a_walk_over_all_documents(
        steps in steps(),
        filter in prop::option::of(filters()),
        names in prop::collection::vec(
            (prop::sample::select(vec!["a", "b", "a.b", "a.a", "e.f", "\"e.f\"", "c d", ""]), 0..5usize), 1..4),
    ) {
        let (collection, stop) = (collection(), Stop::never());
        let mut map: BTreeMap<u8, Fields> = BTreeMap::new();
        for (n, step) in steps {
            match step {
                Step::Put(metadata) => {
                    put(&collection, n, metadata.as_ref());
                    map.insert(n, metadata.unwrap_or_default());
                }
                Step::Remove => {
                    collection.remove(&[id(n)]).unwrap();
                    map.remove(&n);
                }
                Step::Update(fields) => {
                    let patch = Arc::new(Patch { fields: fields.clone(), max_bytes: 10_000 });
                    let updated = collection.update(&[id(n)], &patch, None).unwrap();
                    prop_assert_eq!(updated.documents, usize::from(map.contains_key(&n)));
                    if let Some(here) = map.get_mut(&n) {
                        let merged = merge_patch(Value::Object(here.clone()), &Value::Object(fields));
                        *here = merged.as_object().unwrap().clone();
                        let stored = collection.get(&id(n)).unwrap().unwrap().kept;
                        prop_assert_eq!(stored.fields().unwrap_or_default(), here.clone());
                    }
                }
            }
        }
        let matches = |fields: &&Fields| filter.as_ref().is_none_or(|filter| filter.matches(fields));
        let chosen: Vec<&Fields> = map.values().filter(matches).collect();
        prop_assert_eq!(collection.count(filter.as_ref(), &stop), Ok(chosen.len() as u64));
        let field = |(name, limit): (&str, usize)| FacetField { by: Path::readings(name).unwrap(), limit };
        let fields: Vec<FacetField> = names.into_iter().map(field).collect();
        let query = FacetQuery { filter, fields, max_bytes: 10_000 };
        let found = collection.facets(&query, &stop).unwrap();
        prop_assert_eq!(found.documents, chosen.len() as u64);
        for (facet, field) in found.fields.into_iter().zip(&query.fields) {
            prop_assert_eq!(rounded(facet), rounded(plain(&chosen, field)), "{:?}", field);
        }
    }
}

fn facets_of(collection: &Collection, name: &str, limit: usize, max_bytes: usize) -> Result<Facet, FacetError> {
    let fields = vec![FacetField { by: Path::readings(name).unwrap(), limit }];
    let found = collection.facets(&FacetQuery { filter: None, fields, max_bytes }, &Stop::never());
    found.map(|mut found| found.fields.remove(0))
}

#[test]
fn a_value_counts_the_documents_that_a_filter_by_the_same_path_finds() {
    let collection = collection();
    for (n, metadata) in
        [json!({"a": {"b": 1}}), json!({"a.b": 1}), json!({"a": [{"b": [1, 1]}], "a.b": 1})].iter().enumerate()
    {
        put(&collection, n as u8, metadata.as_object());
    }
    let facet = facets_of(&collection, "a.b", 10, 1_000).unwrap();
    let one = Scalar::of(&json!(1)).unwrap();
    assert_eq!((facet.documents, facet.distinct, facet.values), (3, 1, vec![(one.clone(), 3)]));
    let filter = Filter::any(
        Path::readings("a.b").unwrap().into_iter().map(|path| Filter::In(path, vec![one.clone()])).collect(),
    );
    assert_eq!(collection.count(Some(&filter), &Stop::never()), Ok(3));
}

#[test]
fn the_mean_of_the_largest_numbers_is_between_them() {
    let collection = collection();
    for (n, x) in [f64::MAX, f64::MAX, f64::MAX / 2.0].into_iter().enumerate() {
        put(&collection, n as u8, json!({ "x": x }).as_object());
    }
    let numbers = facets_of(&collection, "x", 0, 0).unwrap().numbers.unwrap();
    assert!((numbers.mean / f64::MAX - 5.0 / 6.0).abs() < 1e-12, "{numbers:?}");
}

#[test]
fn values_that_take_too_much_memory_are_refused_and_rare_ones_are_not_kept() {
    let collection = collection();
    for n in 0..60 {
        put(&collection, n, json!({"long": format!("{n} {}", "x".repeat(1_000)), "short": n % 7}).as_object());
    }
    assert_eq!(facets_of(&collection, "long", 60, 50_000), Err(FacetError::TooLarge));
    assert_eq!(facets_of(&collection, "long", 3, 50_000).unwrap().distinct, 60);
    assert_eq!(facets_of(&collection, "short", 60, 50_000).unwrap().values.len(), 7);
}

#[test]
fn counting_stops_when_it_is_told() {
    let collection = collection();
    put(&collection, 0, json!({"a": 1}).as_object());
    let stop = Stop::never();
    stop.raise();
    let fields = vec![FacetField { by: Path::readings("a").unwrap(), limit: 1 }];
    let query = FacetQuery { filter: Some(text::parse("a = 1").unwrap()), fields, max_bytes: 100 };
    assert_eq!(collection.facets(&query, &stop), Err(FacetError::Stopped(Stopped)));
}

/// Every document has one of two values at each moment, and all change together.
#[test]
fn numbers_of_one_answer_are_of_one_moment_while_documents_change() {
    let collection = collection();
    (0..8).for_each(|n| put(&collection, n, json!({"side": "left", "other": "left"}).as_object()));
    let ids: Vec<DocId> = (0..8).map(id).collect();
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for n in 0..400 {
                let side = if n % 2 == 0 { "right" } else { "left" };
                let fields = json!({"side": side, "other": side}).as_object().unwrap().clone();
                collection.update(&ids, &Arc::new(Patch { fields, max_bytes: 100 }), None).unwrap();
            }
        });
        while !changes.is_finished() {
            let fields = ["side", "other"].map(|name| FacetField { by: Path::readings(name).unwrap(), limit: 2 });
            let filter = Some(text::parse("side = left or side = right").unwrap());
            let query = FacetQuery { filter, fields: fields.into(), max_bytes: 1_000 };
            let found = collection.facets(&query, &Stop::never()).unwrap();
            assert_eq!((found.documents, found.fields[0].values.len(), found.fields[0].values[0].1), (8, 1, 8));
            assert_eq!(found.fields[0], found.fields[1]);
            let left = text::parse("side = left").unwrap();
            assert!([0, 8].contains(&collection.count(Some(&left), &Stop::never()).unwrap()));
        }
    });
}
