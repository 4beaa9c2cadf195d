//! Metadata by field, so that a condition is evaluated for all documents at once.
//!
//! Each field has a column: the places of the documents that have it, and its values in order, each with the places of
//! the documents that hold it. Equality is one lookup, a range is a walk over the values between its bounds, and the
//! rest is algebra of bitmaps.
//!
//! Invariant: for every filter the documents found here are those that [`Filter::matches`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::filter::{Bounds, Filter, Finite, Path, Scalar};
use crate::compute::stop::{Stop, Stopped};

/// Documents that are asked one by one, for up to 4 µs each where their metadata is not in the cache. A range over a
/// million different values walks for up to 50 ms, over 100,000 for 5 ms.
const FEW: u64 = 1_024;

/// The metadata of a collection's documents, by the place of their vectors.
#[derive(Default)]
pub(super) struct Columns {
    /// Every document, those without metadata too.
    all: RoaringBitmap,
    fields: HashMap<String, Column>,
}

/// A field, and, where it is an object somewhere, the fields in it.
#[derive(Default)]
struct Column {
    /// Documents that have the field.
    present: RoaringBitmap,
    /// Documents where it is a list.
    lists: RoaringBitmap,
    /// Documents by what the field, or an element of it, is.
    values: BTreeMap<Scalar, Places>,
    fields: HashMap<String, Column>,
}

/// Some documents. Most values of a field like a title or a time belong to one, which needs no bitmap.
enum Places {
    One(u32),
    Many(RoaringBitmap),
}

impl Columns {
    /// A document, at a place that holds none.
    pub(super) fn insert(&mut self, place: u32, metadata: Option<&Map<String, Value>>) {
        self.all.insert(place);
        insert(&mut self.fields, place, metadata.into_iter().flatten());
    }

    /// Takes out the document at a place, with the metadata that it came with.
    pub(super) fn remove(&mut self, place: u32, metadata: Option<&Map<String, Value>>) {
        self.all.remove(place);
        remove(&mut self.fields, place, metadata.into_iter().flatten());
    }

    /// The places of the documents that match. `holds` evaluates a condition for the document at a place, by its metadata.
    pub(super) fn matching(
        &self,
        filter: &Filter,
        holds: &impl Fn(u32, &Filter) -> bool,
        stop: &Stop,
    ) -> Result<RoaringBitmap, Stopped> {
        stop.check()?;
        Ok(match filter {
            Filter::And(filters) => self.all_of(filters, holds, stop)?,
            Filter::Or(filters) => {
                let mut found = RoaringBitmap::new();
                for filter in filters {
                    found |= self.matching(filter, holds, stop)?;
                }
                found
            }
            Filter::Not(filter) => &self.all - self.matching(filter, holds, stop)?,
            Filter::In(path, values) => {
                let column = self.column(path);
                let places = values.iter().filter_map(|value| column?.values.get(value));
                union(places)
            }
            Filter::Range(path, bounds) => match self.column(path) {
                Some(column) if !bounds.contradict() => {
                    union(column.values.range(numbers(*bounds)).map(|(_, places)| places))
                }
                _ => RoaringBitmap::new(),
            },
            Filter::Exists(path) => self.column(path).map(|column| column.present.clone()).unwrap_or_default(),
        })
    }

    /// The places of all documents.
    pub(super) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The places of the documents whose field is this value: not those where it is a list that holds the value.
    pub(super) fn equal(&self, path: &Path, value: &Scalar) -> RoaringBitmap {
        let Some(column) = self.column(path) else { return RoaringBitmap::new() };
        union(column.values.get(value).into_iter()) - &column.lists
    }

    /// Ranges come last: where few documents are left by then, those are asked one by one.
    fn all_of(
        &self,
        filters: &[Filter],
        holds: &impl Fn(u32, &Filter) -> bool,
        stop: &Stop,
    ) -> Result<RoaringBitmap, Stopped> {
        let (walks, lookups): (Vec<&Filter>, Vec<&Filter>) = filters.iter().partition(|filter| has_range(filter));
        let mut found: Option<RoaringBitmap> = None;
        for filter in lookups.into_iter().chain(walks) {
            found = Some(match found {
                Some(few) if few.len() <= FEW && has_range(filter) => {
                    few.iter().filter(|&place| holds(place, filter)).collect()
                }
                Some(some) => some & self.matching(filter, holds, stop)?,
                None => self.matching(filter, holds, stop)?,
            });
        }
        Ok(found.unwrap_or_else(|| self.all.clone()))
    }

    fn column(&self, path: &Path) -> Option<&Column> {
        let (first, rest) = path.keys().split_first()?;
        rest.iter().try_fold(self.fields.get(first)?, |column, key| column.fields.get(key))
    }
}

/// Evaluating it walks over values.
fn has_range(filter: &Filter) -> bool {
    match filter {
        Filter::Range(..) => true,
        Filter::Not(filter) => has_range(filter),
        Filter::And(filters) | Filter::Or(filters) => filters.iter().any(has_range),
        Filter::In(..) | Filter::Exists(_) => false,
    }
}

/// Bounds of numbers as bounds of values: nothing but numbers lies between them.
fn numbers(bounds: Bounds) -> (Bound<Scalar>, Bound<Scalar>) {
    let lower = match bounds.lower() {
        Bound::Unbounded => Bound::Included(Finite::MIN),
        bound => bound,
    };
    let upper = match bounds.upper() {
        Bound::Unbounded => Bound::Included(Finite::MAX),
        bound => bound,
    };
    (lower.map(Scalar::Number), upper.map(Scalar::Number))
}

fn insert<'m>(
    columns: &mut HashMap<String, Column>,
    place: u32,
    fields: impl Iterator<Item = (&'m String, &'m Value)>,
) {
    for (key, value) in fields {
        // Most fields are there already: no copy of the key for them.
        if !columns.contains_key(key) {
            columns.insert(key.clone(), Column::default());
        }
        let Some(column) = columns.get_mut(key) else { continue };
        column.present.insert(place);
        if value.is_array() {
            column.lists.insert(place);
        }
        for scalar in scalars(value) {
            match column.values.get_mut(&scalar) {
                Some(places) => places.insert(place),
                None => drop(column.values.insert(scalar, Places::One(place))),
            }
        }
        insert(&mut column.fields, place, inner(value));
    }
}

fn remove<'m>(
    columns: &mut HashMap<String, Column>,
    place: u32,
    fields: impl Iterator<Item = (&'m String, &'m Value)>,
) {
    for (key, value) in fields {
        let Some(column) = columns.get_mut(key) else { continue };
        column.present.remove(place);
        if column.present.is_empty() {
            columns.remove(key);
            continue;
        }
        column.lists.remove(place);
        for scalar in scalars(value) {
            if let Some(places) = column.values.get_mut(&scalar)
                && !places.remove(place)
            {
                column.values.remove(&scalar);
            }
        }
        remove(&mut column.fields, place, inner(value));
    }
}

/// The values that conditions see: those of a list are its elements.
fn scalars(value: &Value) -> impl Iterator<Item = Scalar> {
    let values = match value {
        Value::Array(elements) => elements.as_slice(),
        one => std::slice::from_ref(one),
    };
    values.iter().filter_map(Scalar::of)
}

/// The fields of an object.
fn inner(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

impl Places {
    fn insert(&mut self, place: u32) {
        match self {
            Self::One(one) if *one == place => {}
            Self::One(one) => *self = Self::Many([*one, place].into_iter().collect()),
            Self::Many(many) => drop(many.insert(place)),
        }
    }

    /// False if none is left.
    fn remove(&mut self, place: u32) -> bool {
        match self {
            Self::One(one) => *one != place,
            Self::Many(many) => {
                many.remove(place);
                !many.is_empty()
            }
        }
    }
}

fn union<'p>(sets: impl Iterator<Item = &'p Places>) -> RoaringBitmap {
    let mut union = RoaringBitmap::new();
    let mut ones = Vec::new();
    for places in sets {
        match places {
            Places::One(place) => ones.push(*place),
            Places::Many(many) => union |= many,
        }
    }
    // In order they go to the end of a bitmap, which costs a tenth of inserting them anywhere.
    ones.sort_unstable();
    ones.dedup();
    union | RoaringBitmap::from_sorted_iter(ones).expect("they are in order, each once")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::filter::{tests::filters, text};
    use super::*;

    /// Where nobody is to be asked one by one.
    fn found(columns: &Columns, filter: &str) -> Vec<u32> {
        let nobody = |_, _: &Filter| panic!("lookups are enough");
        columns.matching(&text::parse(filter).unwrap(), &nobody, &Stop::never()).unwrap().into_iter().collect()
    }

    #[test]
    fn documents_are_found_by_what_they_hold_and_not_by_what_they_held() {
        let mut columns = Columns::default();
        let old = json!({"lang": "en", "year": 2020, "tags": ["a", "a", 7]});
        columns.insert(3, old.as_object());
        columns.insert(4, json!({"lang": "en", "author": {"name": "Ann"}}).as_object());
        columns.insert(5, None);
        assert_eq!(found(&columns, "lang = en"), [3, 4]);
        assert_eq!(found(&columns, "not lang = en"), [5]);
        assert_eq!(found(&columns, "2020 <= year < 2021"), [3]);
        assert_eq!(found(&columns, "tags < 8 or author.name = Ann"), [3, 4]);
        assert_eq!(found(&columns, "author exists"), [4]);
        columns.remove(3, old.as_object());
        columns.insert(3, json!({"lang": "de"}).as_object());
        assert_eq!(found(&columns, "lang = en"), [4]);
        assert_eq!(found(&columns, "year exists"), Vec::<u32>::new());
        assert!(!columns.fields.contains_key("tags"), "a field that nobody has takes no memory");
    }

    /// Metadata on the fields and values that `filters` asks for.
    fn metadata() -> impl Strategy<Value = Option<Map<String, Value>>> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2i8..4).prop_map(Value::from),
            (-2.0..4.0).prop_map(Value::from),
            prop_oneof![Just(-0.0), Just(0.0), Just(1e300)].prop_map(Value::from),
            prop_oneof![Just("x"), Just("y"), Just(""), Just("not")].prop_map(Value::from),
        ];
        let key = || prop_oneof![Just("a"), Just("b"), Just("c d"), Just("e.f"), Just("and"), Just("\"é")];
        let value = scalar.prop_recursive(2, 8, 3, move |inner| {
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
        /// Documents come, are replaced and go; then every filter finds those that match by the plain way.
        #[test]
        fn columns_find_what_matches(
            steps in prop::collection::vec((0u32..12, prop::option::of(metadata())), 1..40),
            filters in prop::collection::vec(filters(), 1..12),
        ) {
            let mut columns = Columns::default();
            let mut plain: BTreeMap<u32, Option<Map<String, Value>>> = BTreeMap::new();
            for (place, now) in steps {
                if let Some(old) = plain.remove(&place) {
                    columns.remove(place, old.as_ref());
                }
                if let Some(metadata) = now {
                    columns.insert(place, metadata.as_ref());
                    plain.insert(place, metadata);
                }
            }
            let none = Map::new();
            for filter in filters {
                let matching = plain.iter().filter(|(_, metadata)| filter.matches(metadata.as_ref().unwrap_or(&none)));
                let expected: Vec<u32> = matching.map(|(place, _)| *place).collect();
                let holds = |place, part: &Filter| part.matches(plain[&place].as_ref().unwrap_or(&none));
                let found: Vec<u32> = columns.matching(&filter, &holds, &Stop::never()).unwrap().into_iter().collect();
                prop_assert_eq!(found, expected, "{}", filter);
            }
            for (key, column) in &columns.fields {
                let path = Path::new(vec![key.clone()]).expect("keys are not empty");
                for value in column.values.keys() {
                    let is = |metadata: &Map<String, Value>| metadata.get(key).and_then(Scalar::of).as_ref() == Some(value);
                    let equal = plain.iter().filter(|(_, metadata)| metadata.as_ref().is_some_and(is));
                    let expected: Vec<u32> = equal.map(|(place, _)| *place).collect();
                    let found: Vec<u32> = columns.equal(&path, value).into_iter().collect();
                    prop_assert_eq!(found, expected, "{} = {:?}", key, value);
                }
            }
            for (place, metadata) in plain {
                columns.remove(place, metadata.as_ref());
            }
            prop_assert!(columns.all.is_empty() && columns.fields.is_empty());
        }
    }
}
