//! Filters: conditions on a document's metadata, and the plain way to evaluate one.
//!
//! The columns of a collection evaluate the same conditions for all documents at once. [`text`] parses filters, and
//! `print` writes them. Invariant: every condition can be written as text, and parsing that text gives the same
//! condition.

mod path;
mod print;
pub mod text;
mod words;

use std::ops::Bound;

use serde_json::{Map, Value};

pub use path::Path;

/// A condition. On a list it holds if it holds for one element, in nested lists too. On a field of the objects in a
/// list it holds if it holds for one of the objects. [`Filter::Not`] negates the whole: its condition holds for
/// none of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of two or more conditions hold.
    And(Vec<Filter>),
    /// At least one of two or more conditions holds.
    Or(Vec<Filter>),
    /// The condition does not hold.
    Not(Box<Filter>),
    /// The field equals one of the values, of which there is at least one.
    In(Path, Vec<Scalar>),
    /// The field is a number between the bounds.
    Range(Path, Bounds),
    /// The field exists.
    Exists(Path),
}

/// A value of a field. Ordered by kind (nulls, booleans, numbers, texts), then by value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// JSON's null.
    Null,
    /// True or false.
    Bool(bool),
    /// A number: 1 and 1.0 are the same.
    Number(Finite),
    /// A text.
    Text(Box<str>),
}

/// A finite number. Ordered numerically.
#[derive(Debug, Clone, Copy)]
pub struct Finite(f64);

/// The size of a filter, as limits count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of conditions: those on fields, and those that join or negate others.
    pub conditions: usize,
    /// Number of values that fields are compared with for equality.
    pub values: usize,
}

/// Bounds of a range, at least one. If they contradict each other, no number lies between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    lower: Bound<Finite>,
    upper: Bound<Finite>,
}

impl Finite {
    /// The least finite number.
    pub const MIN: Self = Self(f64::MIN);
    /// The greatest finite number.
    pub const MAX: Self = Self(f64::MAX);

    /// Checks a number; `None` if it is NaN or infinite.
    pub fn new(x: f64) -> Option<Self> {
        // Adding 0 turns -0 into +0: they are one value.
        x.is_finite().then_some(Self(x + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Finite {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Finite {}

impl Scalar {
    /// Converts a JSON value; `None` for lists and objects.
    pub fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            // JSON numbers are finite.
            Value::Number(number) => Self::Number(Finite::new(number.as_f64()?)?),
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Number(a), Value::Number(b)) => b.as_f64() == Some(a.0),
            (Self::Text(a), Value::String(b)) => **a == **b,
            _ => false,
        }
    }
}

impl Size {
    /// The sum of two sizes.
    pub fn and(self, other: Self) -> Self {
        Self { conditions: self.conditions + other.conditions, values: self.values + other.values }
    }
}

impl Bounds {
    /// Makes bounds; `None` if both are unbounded.
    pub fn new(lower: Bound<Finite>, upper: Bound<Finite>) -> Option<Self> {
        (lower != Bound::Unbounded || upper != Bound::Unbounded).then_some(Self { lower, upper })
    }

    /// The lower bound.
    pub fn lower(&self) -> Bound<Finite> {
        self.lower
    }

    /// The upper bound.
    pub fn upper(&self) -> Bound<Finite> {
        self.upper
    }

    /// True if no number lies between the bounds.
    pub fn contradict(&self) -> bool {
        match (self.lower, self.upper) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }

    fn contain(&self, x: f64) -> bool {
        let above = match self.lower {
            Bound::Included(Finite(b)) => x >= b,
            Bound::Excluded(Finite(b)) => x > b,
            Bound::Unbounded => true,
        };
        let below = match self.upper {
            Bound::Included(Finite(b)) => x <= b,
            Bound::Excluded(Finite(b)) => x < b,
            Bound::Unbounded => true,
        };
        above && below
    }
}

impl Filter {
    /// Joins one or more conditions: all of them hold.
    pub fn all(filters: Vec<Filter>) -> Self {
        one_or(filters, Self::And)
    }

    /// Joins one or more conditions: at least one of them holds.
    pub fn any(filters: Vec<Filter>) -> Self {
        one_or(filters, Self::Or)
    }

    /// True if the condition holds for a document with this metadata.
    pub fn matches(&self, metadata: &Map<String, Value>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|filter| filter.matches(metadata)),
            Self::Or(any) => any.iter().any(|filter| filter.matches(metadata)),
            Self::Not(filter) => !filter.matches(metadata),
            Self::In(path, values) => path.any_value(metadata, |one| values.iter().any(|value| value.equals(one))),
            Self::Range(path, bounds) => {
                path.any_value(metadata, |one| one.as_f64().is_some_and(|x| bounds.contain(x)))
            }
            Self::Exists(path) => path.exists(metadata),
        }
    }

    /// Size of the filter: the measure of its cost, known before anything is evaluated.
    pub fn size(&self) -> Size {
        match self {
            Self::And(filters) | Self::Or(filters) => {
                filters.iter().map(Self::size).fold(Size { conditions: 1, values: 0 }, Size::and)
            }
            Self::Not(filter) => filter.size().and(Size { conditions: 1, values: 0 }),
            Self::In(_, values) => Size { conditions: 1, values: values.len() },
            Self::Range(..) | Self::Exists(_) => Size { conditions: 1, values: 0 },
        }
    }

    /// Depth of nesting. A condition on a field has depth 1.
    pub fn depth(&self) -> usize {
        match self {
            Self::And(filters) | Self::Or(filters) => 1 + filters.iter().map(Self::depth).max().unwrap_or(0),
            Self::Not(filter) => 1 + filter.depth(),
            Self::In(..) | Self::Range(..) | Self::Exists(_) => 1,
        }
    }
}

fn one_or(mut filters: Vec<Filter>, several: fn(Vec<Filter>) -> Filter) -> Filter {
    if filters.len() == 1 { filters.remove(0) } else { several(filters) }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn matches(filter: &str) -> bool {
        let metadata = json!({
            "lang": "en", "year": 2020, "author": {"name": "Ann"}, "tags": ["a", "b"], "draft": false, "none": null,
            "years": [1, 9]
        });
        text::parse(filter).unwrap().matches(metadata.as_object().unwrap())
    }

    #[test]
    fn fields_are_found_by_their_path() {
        assert!(matches("lang = 'en'"));
        assert!(matches("author.name = 'Ann'"));
        assert!(!matches("author = 'Ann'"));
        assert!(!matches("lang.name = 'en'"));
        assert!(matches("year = 2020.0"));
        assert!(!matches("year = '2020'"));
        assert!(matches("draft = false"));
    }

    #[test]
    fn a_missing_field_equals_nothing_and_a_null_is_there() {
        assert!(!matches("absent = null"));
        assert!(matches("none = null"));
        assert!(matches("none exists"));
        assert!(!matches("absent exists"));
        assert!(matches("not absent exists"));
        assert!(matches("absent != 1"));
    }

    #[test]
    fn a_list_matches_by_one_of_its_elements() {
        assert!(matches("tags = b"));
        assert!(!matches("tags = c"));
        assert!(!matches("2 < years < 8"));
        assert!(matches("2 < years and years < 8"));
    }

    #[test]
    fn ranges_bind_on_the_sides_that_are_given() {
        assert!(matches("2020 <= year < 2021"));
        assert!(!matches("year > 2020"));
        assert!(!matches("year <= 2019"));
        assert!(!matches("lang > 0"));
        assert!(!matches("2021 < year < 2019"));
    }

    #[test]
    fn and_or_combine() {
        assert!(!matches("lang = en and lang = de"));
        assert!(matches("lang = en or lang = de"));
    }

    #[test]
    fn objects_in_lists_match_by_one_of_them() {
        let metadata = json!({
            "authors": [{"name": "Ann", "age": 3}, {"name": "Bob", "age": 9, "": {"x": null}}, "unknown"],
            "deep": [[{"l": [{"v": 7}]}], []], "m": [[1, 2], [[3]]]
        });
        let matches = |filter: &str| text::parse(filter).unwrap().matches(metadata.as_object().unwrap());
        for true_of_one in [
            "authors.name = Ann",
            "authors.age > 8",
            "authors.name exists",
            "authors = unknown",
            "authors.''.x = null",
            "deep.l.v = 7",
            "deep.l.v in (1, 7)",
            "m = 3",
            "1 < m < 3",
            "authors.name = Ann and authors.age = 9",
            "not authors.name = Eve",
        ] {
            assert!(matches(true_of_one), "{true_of_one}");
        }
        for true_of_none in
            ["authors.name = unknown", "not authors.name = Ann", "3 < authors.age < 9", "m > 3", "m.m exists"]
        {
            assert!(!matches(true_of_none), "{true_of_none}");
        }
    }

    #[test]
    fn conditions_and_values_are_counted() {
        let size = |filter: &str| text::parse(filter).unwrap().size();
        assert_eq!(size("a = 1"), Size { conditions: 1, values: 1 });
        assert_eq!(size("a in (1, 2) and not (b < 1 or c exists)"), Size { conditions: 6, values: 2 });
    }

    /// Any filter over few fields and values, so that some documents match.
    pub(crate) fn filters() -> impl Strategy<Value = Filter> {
        let key = prop_oneof![Just("a"), Just("b"), Just("c d"), Just("e.f"), Just("and"), Just("\"é"), Just("")];
        let path = prop::collection::vec(key, 1..3)
            .prop_map(|keys| Path::new(keys.into_iter().map(str::to_owned).collect()).expect("there are keys"));
        let number = prop_oneof![-2.0..4.0, (-2i8..4).prop_map(f64::from), Just(1e300), Just(-0.0)]
            .prop_map(|x: f64| Finite::new(x).expect("finite"));
        let scalar = prop_oneof![
            Just(Scalar::Null),
            any::<bool>().prop_map(Scalar::Bool),
            number.clone().prop_map(Scalar::Number),
            prop_oneof![Just("x"), Just("y"), Just(""), Just("not"), Just("'\"\\\n\u{1}é")]
                .prop_map(|s| Scalar::Text(s.into())),
        ];
        let bound = prop_oneof![
            Just(Bound::Unbounded),
            number.clone().prop_map(Bound::Included),
            number.prop_map(Bound::Excluded)
        ];
        let bounds = (bound.clone(), bound).prop_filter_map("a range binds", |(a, b)| Bounds::new(a, b));
        let leaf = prop_oneof![
            (path.clone(), prop::collection::vec(scalar, 1..4)).prop_map(|(path, values)| Filter::In(path, values)),
            (path.clone(), bounds).prop_map(|(path, bounds)| Filter::Range(path, bounds)),
            path.prop_map(Filter::Exists),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let several = prop::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                several.clone().prop_map(Filter::And),
                several.prop_map(Filter::Or),
                inner.prop_map(|filter| Filter::Not(Box::new(filter))),
            ]
        })
    }
}
