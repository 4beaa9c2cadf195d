//! Searches in the language of the engine: filters, neighbours by graph or by comparison with all, and words.
//!
//! Invariant: a filter finds a document exactly if [`Filter::matches`] its metadata.

use std::ops::Bound;

use serde_json::{Value, json};

use super::mapping::{PASSAGES, TOKENS, VECTOR, WORDS};
use super::tokens::{EVERY, of_field, of_value};
use crate::collection::filter::{Bounds, Filter, Finite, Path, Scalar};
use crate::lexical::TermWeights;

/// Values of one list of terms (the engine's `index.max_terms_count`).
const MOST_TERMS: usize = 65_536;

/// Conditions that are joined at once (the engine's `max_clause_count` is 1,024).
const MOST_CLAUSES: usize = 1_000;

/// The documents that match a filter.
pub(super) fn of_filter(filter: &Filter) -> Value {
    match filter {
        Filter::And(all) => every(all.iter().map(of_filter).collect()),
        Filter::Or(any) => one_of(any.iter().map(of_filter).collect()),
        Filter::Not(filter) => json!({ "bool": { "must_not": [of_filter(filter)] } }),
        Filter::In(path, values) => {
            let field = of_field(path);
            terms(TOKENS, values.iter().map(|value| of_value(&field, value)).collect())
        }
        Filter::Range(path, bounds) => range(path, bounds),
        Filter::Exists(path) => exists(path),
    }
}

/// All documents, or those that match a filter.
pub(super) fn chosen(filter: Option<&Filter>) -> Value {
    filter.map_or_else(|| json!({ "match_all": {} }), of_filter)
}

/// The documents for which all of the conditions hold, regardless of scores.
pub(super) fn every(conditions: Vec<Value>) -> Value {
    joined(conditions, &|conditions| json!({ "bool": { "filter": conditions } }))
}

/// The documents for which one of the conditions holds.
pub(super) fn one_of(conditions: Vec<Value>) -> Value {
    joined(conditions, &|conditions| json!({ "bool": { "should": conditions, "minimum_should_match": 1 } }))
}

/// The documents of which a field has one of the values.
pub(super) fn terms(field: &str, mut values: Vec<String>) -> Value {
    if values.len() <= MOST_TERMS {
        return json!({ "terms": { field: values } });
    }
    let rest = values.split_off(MOST_TERMS);
    one_of(vec![json!({ "terms": { field: values } }), terms(field, rest)])
}

/// The documents that have a field.
pub(super) fn exists(path: &Path) -> Value {
    json!({ "term": { TOKENS: of_field(path) } })
}

/// The neighbours of a vector by the graph: `k` of each shard, found among `ef` candidates.
pub(super) fn near(vector: &[f32], k: usize, ef: usize, among: Option<&Value>) -> Value {
    let mut search = json!({ "vector": vector, "k": k, "method_parameters": { "ef_search": ef } });
    if let Some(among) = among {
        // The engine takes a condition for one on passages unless it sees that none can match it. It sees this for a
        // term that must be there, and not for ranges and negations alone: then it would find none, or all.
        search["filter"] = every(vec![json!({ "term": { TOKENS: EVERY } }), among.clone()]);
    }
    nested(json!({ "knn": { VECTOR: search } }))
}

/// The neighbours of a vector by comparison with all.
pub(super) fn exactly_near(vector: &[f32], among: Option<&Value>) -> Value {
    let params = json!({ "field": VECTOR, "query_value": vector, "space_type": "cosinesimil" });
    let script = json!({ "source": "knn_score", "lang": "knn", "params": params });
    let scored = nested(json!({ "script_score": { "query": { "match_all": {} }, "script": script } }));
    json!({ "bool": { "must": [scored], "filter": among.into_iter().collect::<Vec<_>>() } })
}

/// The documents with terms of a query, by their BM25.
pub(super) fn by_words(weights: &TermWeights, among: Option<&Value>) -> Value {
    let term = |(term, count): (&str, u32)| json!({ "term": { WORDS: { "value": term, "boost": count } } });
    let terms: Vec<Value> = weights.terms().map(term).collect();
    let among: Vec<&Value> = among.into_iter().collect();
    json!({ "bool": { "should": terms, "minimum_should_match": 1, "filter": among } })
}

/// The best passage of a document decides.
fn nested(query: Value) -> Value {
    json!({ "nested": { "path": PASSAGES, "score_mode": "max", "query": query } })
}

fn range(path: &Path, bounds: &Bounds) -> Value {
    let field = of_field(path);
    let token = |number| of_value(&field, &Scalar::Number(number));
    let (from, lower) = match bounds.lower() {
        Bound::Included(number) => ("gte", number),
        Bound::Excluded(number) => ("gt", number),
        Bound::Unbounded => ("gte", Finite::MIN),
    };
    let (to, upper) = match bounds.upper() {
        Bound::Included(number) => ("lte", number),
        Bound::Excluded(number) => ("lt", number),
        Bound::Unbounded => ("lte", Finite::MAX),
    };
    json!({ "range": { TOKENS: { from: token(lower), to: token(upper) } } })
}

/// Joins conditions, in groups of groups if they are too many.
fn joined(mut conditions: Vec<Value>, join: &dyn Fn(Vec<Value>) -> Value) -> Value {
    while conditions.len() > MOST_CLAUSES {
        let mut groups = Vec::new();
        while !conditions.is_empty() {
            let rest = conditions.split_off(conditions.len().min(MOST_CLAUSES));
            groups.push(join(std::mem::replace(&mut conditions, rest)));
        }
        conditions = groups;
    }
    join(conditions)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::tokens::Tokens;
    use super::*;
    use crate::collection::{any_filter, any_metadata};

    /// The meaning of a query for a document with these tokens, by the engine's documentation.
    fn finds(query: &Value, tokens: &BTreeSet<String>) -> bool {
        let (kind, body) = query.as_object().unwrap().iter().next().unwrap();
        let all = |key: &str| body[key].as_array().cloned().unwrap_or_default();
        match kind.as_str() {
            "bool" => {
                let should = all("should");
                all("filter").iter().all(|one| finds(one, tokens))
                    && !all("must_not").iter().any(|one| finds(one, tokens))
                    && (should.is_empty() || should.iter().any(|one| finds(one, tokens)))
            }
            "term" => tokens.contains(body[TOKENS].as_str().unwrap()),
            "terms" => body[TOKENS].as_array().unwrap().iter().any(|one| tokens.contains(one.as_str().unwrap())),
            "range" => tokens.iter().any(|token| {
                body[TOKENS].as_object().unwrap().iter().all(|(side, bound)| {
                    let order = token.as_str().cmp(bound.as_str().unwrap());
                    match side.as_str() {
                        "gt" => order.is_gt(),
                        "gte" => order.is_ge(),
                        "lt" => order.is_lt(),
                        _ => order.is_le(),
                    }
                })
            }),
            other => panic!("{other}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_query_finds_what_the_filter_matches(filter in any_filter(), metadata in any_metadata()) {
            let metadata = metadata.unwrap_or_default();
            let tokens = Tokens::of(&metadata).all.into_iter().collect();
            prop_assert_eq!(finds(&of_filter(&filter), &tokens), filter.matches(&metadata), "{:?}", metadata);
        }
    }

    #[test]
    fn many_conditions_and_values_are_divided() {
        let value = |n: usize| Scalar::Number(Finite::new(n as f64).unwrap());
        let path = Path::parse("a").unwrap();
        let many = Filter::In(path.clone(), (0..MOST_TERMS * 2 + 1).map(value).collect());
        let tokens = |n: usize| BTreeSet::from([of_value(&of_field(&path), &value(n))]);
        assert!(finds(&of_filter(&many), &tokens(2 * MOST_TERMS)) && !finds(&of_filter(&many), &tokens(999_999)));
        let equal = |n| Filter::In(path.clone(), vec![value(n)]);
        let any = of_filter(&Filter::Or((0..2_500).map(equal).collect()));
        assert!(finds(&any, &tokens(2_499)) && !finds(&any, &tokens(2_500)));
        assert_eq!(any["bool"]["should"].as_array().map(Vec::len), Some(3));
    }
}
