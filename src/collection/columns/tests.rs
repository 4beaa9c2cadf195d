//! Tests of columns against plain evaluation, and of their counted bytes.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::filter::{Filter, tests::filters, text};
use super::super::metadata::Metadata;
use super::evaluate::{self, Corpus};
use super::*;
use crate::compute::stop::{Stop, Stopped};

/// Columns together with the metadata they were built from.
#[derive(Default)]
struct Documents {
    columns: Columns,
    plain: BTreeMap<u32, Option<Map<String, Value>>>,
    asked: Cell<usize>,
}

impl Corpus for Documents {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn holds(&self, position: u32, filter: &Filter) -> bool {
        self.asked.set(self.asked.get() + 1);
        filter.matches(self.plain[&position].as_ref().unwrap_or(&Map::new()))
    }
}

impl Documents {
    fn put(&mut self, position: u32, metadata: Option<Map<String, Value>>) {
        self.take(position);
        self.columns.insert(position, metadata.as_ref());
        self.plain.insert(position, metadata);
    }

    fn take(&mut self, position: u32) {
        if let Some(old) = self.plain.remove(&position) {
            self.columns.remove(position, old.as_ref());
        }
    }

    fn found(&self, filter: &Filter) -> Vec<u32> {
        evaluate::matching(filter, &|| self, &Stop::never()).unwrap().into_iter().collect()
    }

    fn found_by(&self, filter: &str) -> Vec<u32> {
        self.found(&text::parse(filter).unwrap())
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

#[test]
fn documents_are_found_by_what_they_hold_and_not_by_what_they_held() {
    let mut here = Documents::default();
    here.put(3, object(json!({"lang": "en", "year": 2020, "tags": ["a", "a", 7]})));
    here.put(4, object(json!({"lang": "en", "author": {"name": "Ann"}})));
    here.put(5, None);
    assert_eq!(here.found_by("lang = en"), [3, 4]);
    assert_eq!(here.found_by("not lang = en"), [5]);
    assert_eq!(here.found_by("2020 <= year < 2021"), [3]);
    assert_eq!(here.found_by("tags < 8 or author.name = Ann"), [3, 4]);
    assert_eq!(here.found_by("author exists"), [4]);
    assert_eq!(here.asked.get(), 0, "lookups are enough");
    here.put(3, object(json!({"lang": "de"})));
    assert_eq!(here.found_by("lang = en"), [4]);
    assert_eq!(here.found_by("year exists"), Vec::<u32>::new());
    assert_eq!(here.columns.n_fields(), 3, "a field that nobody has takes no memory");
}

#[test]
fn an_evaluation_stops_when_it_is_told() {
    let mut here = Documents::default();
    (0..100).for_each(|n| here.put(n, object(json!({ "n": n }))));
    let stop = Stop::never();
    let filter = text::parse("n > 3 and not n = 7").unwrap();
    let looks = Cell::new(0);
    let lock = || {
        looks.set(looks.get() + 1);
        if looks.get() == 3 {
            stop.raise();
        }
        &here
    };
    assert_eq!(evaluate::matching(&filter, &lock, &stop), Err(Stopped));
    assert_eq!(looks.get(), 3, "nothing is looked at after that");
}

#[test]
fn many_ranges_of_one_field_are_one_walk() {
    let mut here = Documents::default();
    (0..1_000).for_each(|n| here.put(n, object(json!({ "n": n }))));
    let ranges = (0..500).map(|n| format!("{n} <= n < {}", n + 400)).collect::<Vec<_>>().join(" or ");
    let filter = text::parse(&ranges).unwrap();
    let locked = Cell::new(0);
    let lock = || {
        locked.set(locked.get() + 1);
        &here
    };
    let found = evaluate::matching(&filter, &lock, &Stop::never()).unwrap();
    assert_eq!(found.len(), 899);
    // In tests a step passes two values.
    assert!(locked.get() < 600, "{}", locked.get());
}

#[test]
fn a_field_of_one_document_costs_one_entry() {
    let mut columns = Columns::default();
    for position in 0..100 {
        let fields = (0..100).map(|n| (format!("field {position} {n}"), json!(n))).collect();
        columns.insert(position, Some(&fields));
    }
    let each = columns.bytes() / 10_000;
    assert!((200..256).contains(&each), "{each} bytes");
}

#[test]
fn the_cost_of_a_document_is_estimated_to_a_quarter() {
    let mut columns = Columns::default();
    for n in 0..20_000u32 {
        let metadata = json!({
            "lang": if n % 3 == 0 { "en" } else { "de" }, "n": n, "title": format!("a title of its own, number {n}"),
            "tags": [n % 7, n % 11, n % 7], "authors": [{"name": format!("author {}", n % 900)}, {"age": n % 50}],
        });
        columns.insert(n, metadata.as_object());
    }
    let (before, mut told) = (columns.bytes(), 0);
    for n in 20_000..30_000u32 {
        let metadata =
            json!({"lang": "fr", "n": n, "tags": [n, n, n], "authors": [{"name": n}, {"name": n}, {"name": 3}]});
        told += columns.cost_of(metadata.as_object());
        columns.insert(n, metadata.as_object());
    }
    let took = columns.bytes() - before;
    assert!(took <= told && told <= took * 5 / 4, "{told} told, {took} taken");
}

#[test]
fn fields_that_are_new_are_named_by_their_keys() {
    let mut columns = Columns::default();
    columns.insert(0, json!({"a": {"b": 1}}).as_object());
    let metadata = json!({"a": {"b": 2, "c": 3}, "l": [[{"x": 1}], {"y": 2}]});
    let mut new = Vec::new();
    columns.new_fields(metadata.as_object().unwrap(), &mut |keys| new.push(keys.join("/")));
    assert_eq!(new, ["a/c", "l", "l/x", "l/y"]);
}

/// Metadata over the fields and values that `filters` asks for.
pub(crate) fn metadata() -> impl Strategy<Value = Option<Map<String, Value>>> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i8..4).prop_map(Value::from),
        (-2.0..4.0).prop_map(Value::from),
        prop_oneof![Just(-0.0), Just(0.0), Just(1e300)].prop_map(Value::from),
        prop_oneof![Just("x"), Just("y"), Just(""), Just("not")].prop_map(Value::from),
    ];
    let key = || prop_oneof![Just("a"), Just("b"), Just("c d"), Just("e.f"), Just("and"), Just("\"é"), Just("")];
    let value = scalar.prop_recursive(4, 16, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key().prop_map(str::to_owned), inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    let fields = prop::collection::btree_map(key().prop_map(str::to_owned), value, 0..4);
    prop::option::of(fields.prop_map(|fields| fields.into_iter().collect()))
}

proptest! {
    /// Inserts, replaces and removes documents; then every filter must find those that match one by one.
    #[test]
    fn columns_find_what_matches(
        steps in prop::collection::vec((0u32..12, prop::option::of(metadata())), 1..40),
        filters in prop::collection::vec(filters(), 1..12),
    ) {
        let mut here = Documents::default();
        for (position, now) in steps {
            match now {
                Some(metadata) => {
                    here.take(position);
                    let (told, before) = (here.columns.cost_of(metadata.as_ref()), here.columns.bytes());
                    here.put(position, metadata);
                    prop_assert!(here.columns.bytes() <= before + told);
                }
                None => here.take(position),
            }
        }
        let none = Map::new();
        for filter in filters {
            let matching = here.plain.iter().filter(|(_, metadata)| filter.matches(metadata.as_ref().unwrap_or(&none)));
            let expected: Vec<u32> = matching.map(|(position, _)| *position).collect();
            prop_assert_eq!(here.found(&filter), expected, "{}", filter);
        }
        for metadata in here.plain.values().flatten() {
            here.columns.new_fields(metadata, &mut |keys| panic!("{keys:?} is there"));
        }
        for position in 0..12 {
            here.take(position);
        }
        prop_assert_eq!((here.columns.n_fields(), here.columns.bytes(), here.columns.values.len()), (0, 0, 0));
        prop_assert!(here.columns.all.is_empty());
    }

    /// Groups by columns are the groups that the documents themselves report.
    #[test]
    fn columns_find_groups(
        documents in prop::collection::vec(metadata(), 1..12),
        name in prop::sample::select(vec!["a", "b", "a.b", "a.a", "e.f", "\"e.f\"", "a.\"\"", "a.\"e.f\""]),
    ) {
        let groups = Groups { by: Path::readings(name).unwrap(), size: std::num::NonZeroUsize::MIN };
        let mut here = Documents::default();
        for (position, metadata) in (0..).zip(&documents) {
            here.put(position, metadata.clone());
        }
        let key = |fields: &Option<Map<String, Value>>| groups.key(fields.as_ref().map(Metadata::new).as_ref());
        let keys: Vec<Option<Scalar>> = documents.iter().map(key).collect();
        for key in keys.iter().flatten() {
            let members = (0..).zip(&keys).filter(|(_, its)| its.as_ref() == Some(key));
            let expected: Vec<u32> = members.map(|(n, _)| n).collect();
            prop_assert_eq!(here.columns.in_group(&groups, key).into_iter().collect::<Vec<_>>(), expected);
        }
    }
}
