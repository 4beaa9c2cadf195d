//! Conditions on a document's metadata.

use serde_json::{Map, Value};

/// A condition. Where a field is a list, a condition on it holds if it holds for one element.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All hold.
    And(Vec<Filter>),
    /// One holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// The field equals one of the values: nulls, booleans, numbers or strings.
    In(Path, Vec<Value>),
    /// The field is a number between the bounds.
    Range(Path, Bounds),
    /// The field is there.
    Exists(Path),
}

/// Where a field is: its keys from the outside in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<String>);

/// Bounds of a range; those that are `None` do not bind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// Greater than.
    pub gt: Option<f64>,
    /// Greater than or equal to.
    pub gte: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
    /// Less than or equal to.
    pub lte: Option<f64>,
}

impl Path {
    /// Keys joined by dots, `author.name`; `None` if a key is empty.
    pub fn parse(path: &str) -> Option<Self> {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        keys.iter().all(|key| !key.is_empty()).then_some(Self(keys))
    }

    fn find<'m>(&self, metadata: &'m Map<String, Value>) -> Option<&'m Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(metadata.get(first)?, |value, key| value.get(key))
    }
}

impl Bounds {
    fn contain(&self, x: f64) -> bool {
        self.gt.is_none_or(|b| x > b)
            && self.gte.is_none_or(|b| x >= b)
            && self.lt.is_none_or(|b| x < b)
            && self.lte.is_none_or(|b| x <= b)
    }
}

impl Filter {
    /// The condition holds for a document with this metadata.
    pub fn matches(&self, metadata: &Map<String, Value>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|filter| filter.matches(metadata)),
            Self::Or(any) => any.iter().any(|filter| filter.matches(metadata)),
            Self::Not(filter) => !filter.matches(metadata),
            Self::In(path, values) => one(path.find(metadata), |field| values.iter().any(|value| same(field, value))),
            Self::Range(path, bounds) => {
                one(path.find(metadata), |field| field.as_f64().is_some_and(|x| bounds.contain(x)))
            }
            Self::Exists(path) => path.find(metadata).is_some(),
        }
    }
}

/// The test holds for the field, or for one element of it.
fn one(field: Option<&Value>, test: impl Fn(&Value) -> bool) -> bool {
    match field {
        None => false,
        Some(Value::Array(elements)) => elements.iter().any(test),
        Some(field) => test(field),
    }
}

/// Equal, numbers by value: 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(filter: &Filter) -> bool {
        let metadata = json!({
            "lang": "en", "year": 2020, "author": {"name": "Ann"}, "tags": ["a", "b"], "draft": false, "none": null
        });
        filter.matches(metadata.as_object().unwrap())
    }

    fn path(s: &str) -> Path {
        Path::parse(s).unwrap()
    }

    fn equals(at: &str, value: Value) -> Filter {
        Filter::In(path(at), vec![value])
    }

    #[test]
    fn fields_are_found_by_their_path() {
        assert!(matches(&equals("lang", json!("en"))));
        assert!(matches(&equals("author.name", json!("Ann"))));
        assert!(!matches(&equals("author", json!("Ann"))));
        assert!(!matches(&equals("lang.name", json!("en"))));
        assert!(matches(&equals("year", json!(2020.0))));
        assert!(!matches(&equals("year", json!("2020"))));
        assert!(matches(&equals("draft", json!(false))));
    }

    #[test]
    fn a_missing_field_equals_nothing_and_a_null_is_there() {
        assert!(!matches(&equals("absent", Value::Null)));
        assert!(matches(&equals("none", Value::Null)));
        assert!(matches(&Filter::Exists(path("none"))));
        assert!(!matches(&Filter::Exists(path("absent"))));
        assert!(matches(&Filter::Not(Box::new(Filter::Exists(path("absent"))))));
    }

    #[test]
    fn a_list_matches_by_one_of_its_elements() {
        assert!(matches(&equals("tags", json!("b"))));
        assert!(!matches(&equals("tags", json!("c"))));
    }

    #[test]
    fn ranges_bind_on_the_sides_that_are_given() {
        let range = |bounds| Filter::Range(path("year"), bounds);
        assert!(matches(&range(Bounds { gte: Some(2020.0), lt: Some(2021.0), ..Bounds::default() })));
        assert!(!matches(&range(Bounds { gt: Some(2020.0), ..Bounds::default() })));
        assert!(!matches(&range(Bounds { lte: Some(2019.0), ..Bounds::default() })));
        assert!(!matches(&Filter::Range(path("lang"), Bounds { gt: Some(0.0), ..Bounds::default() })));
    }

    #[test]
    fn and_or_combine() {
        let (yes, no) = (equals("lang", json!("en")), equals("lang", json!("de")));
        assert!(!matches(&Filter::And(vec![yes.clone(), no.clone()])));
        assert!(matches(&Filter::Or(vec![no, yes])));
    }

    #[test]
    fn paths_with_empty_keys_are_refused() {
        for wrong in ["", ".", "a.", ".a", "a..b"] {
            assert_eq!(Path::parse(wrong), None, "{wrong}");
        }
    }
}
