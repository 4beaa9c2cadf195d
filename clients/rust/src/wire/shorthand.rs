//! Short ways to write messages that most requests have.

use super::{Filter, Query, Vector, filter, query};

/// A query by text.
impl From<&str> for Query {
    fn from(text: &str) -> Self {
        Self { query: Some(query::Query::Text(text.to_owned())), ..Self::default() }
    }
}

/// A query by a vector with the model's dimensions.
impl From<Vec<f32>> for Query {
    fn from(values: Vec<f32>) -> Self {
        Self { query: Some(query::Query::Vector(Vector { values, ..Vector::default() })), ..Self::default() }
    }
}

impl Query {
    /// A query by the id of a document.
    pub fn by_id(id: impl Into<String>) -> Self {
        Self { query: Some(query::Query::Id(id.into())), ..Self::default() }
    }
}

/// A filter in the language of filters: `year >= 1960 and author.name exists`.
impl From<&str> for Filter {
    fn from(text: &str) -> Self {
        Self { condition: Some(filter::Condition::Text(text.to_owned())) }
    }
}
