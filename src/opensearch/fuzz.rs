//! Fuzz target: answers of an engine, whole, cut off, and of any other shape.
//!
//! Invariant: an answer becomes a value or an error. A document that is read has vectors of unit length, and passages
//! that lie in its text.

use serde_json::{Value, from_slice, json};

use super::answer::{GetAnswer, Got, RawHit, SearchAnswer, SearchAnswers};
use super::describe::read_figures;
use super::reader::listed;
use super::refusal::Refusal;
use super::store::{Mappings, metas};
use super::tokens::value_of;
use super::writer::{BulkAnswer, Item};
use crate::kernel::embedding::Embedding;

const DIMENSIONS: usize = 2;

/// Reads the bytes as each kind of answer.
pub(crate) fn answer(bytes: &[u8]) {
    if let Ok(SearchAnswers { responses }) = from_slice(bytes) {
        responses.into_iter().for_each(searched);
    }
    if let Ok(answer) = from_slice(bytes) {
        searched(answer);
    }
    if let Ok(GetAnswer { docs }) = from_slice(bytes) {
        docs.into_iter().filter_map(|got| Got::checked(got).ok()).for_each(document);
    }
    if let Ok(BulkAnswer { items }) = from_slice(bytes) {
        items.into_iter().map(Item::outcome).for_each(drop);
    }
    if let Ok(Refusal { error }) = from_slice(bytes) {
        let _ = (error.known(), error.passes(Some(500)), error.in_short(), error.to_string());
    }
    if let Ok(mappings) = from_slice::<Mappings>(bytes) {
        let _ = metas(mappings);
    }
    if let Ok(any) = from_slice::<Value>(bytes) {
        let _ = read_figures(&any, &any);
    }
}

fn searched(answer: SearchAnswer) {
    let Ok(mut answer) = answer.checked() else { return };
    let _ = (answer.total(), answer.is_whole(1, 2));
    for bucket in answer.buckets("values").unwrap_or_default() {
        let _ = bucket["key"]["token"].as_str().and_then(value_of);
    }
    answer.hits.hits.into_iter().for_each(document);
}

fn document(hit: RawHit) {
    let _ = hit.version();
    let Ok(listed) = listed(hit, DIMENSIONS) else { return };
    for (span, row) in listed.vectors.rows() {
        assert!(row.len() == DIMENSIONS && Embedding::restored(row.to_vec()).is_some(), "{row:?}");
        assert!(span.is_none_or(|span| span.of(&listed.text).is_some()), "{span:?}");
    }
}

pub(crate) fn answers() -> Vec<Vec<u8>> {
    let source = json!({ "id": "a", "text": "a b", "metadata": "{\"n\":1}", "vectors": "AACAPwAAAAA=" });
    let passages = json!({ "id": "b", "text": "a b", "vectors": "AACAPwAAAAAAAAAAAACAPw==", "spans": [0, 1, 2, 3] });
    let hit = |source| json!({ "_id": "a", "_score": 1.5, "_seq_no": 3, "_primary_term": 1, "_source": source });
    let documents = json!([hit(source), hit(passages)]);
    let total = json!({ "value": 2, "relation": "gte" });
    let found = json!({ "hits": { "total": total, "hits": documents }, "pit_id": "p" });
    let of_index = json!({ "key": "i", "doc_count": 1, "passages": { "doc_count": 2 } });
    let value = json!({ "key": { "token": "2bff0000000000000" }, "doc_count": 1 });
    let counts = json!({ "values": { "buckets": [value] }, "indices": { "buckets": [of_index] } });
    let bytes = json!({ "i": { "primaries": { "store": { "size_in_bytes": 9 } } } });
    let counted = json!({ "hits": { "total": { "value": 1 } }, "aggregations": counts, "indices": bytes });
    let cause = json!({ "type": "node_closed_exception", "reason": "closed" });
    let shards = json!({ "type": "search_phase_execution_exception", "root_cause": [cause], "caused_by": cause });
    let failed = json!({ "error": shards, "status": 503 });
    let none = json!({ "type": "index_not_found_exception", "reason": "no such index", "index_uuid": "_na_" });
    let stored = json!([{ "index": { "status": 201 } }, { "delete": { "status": 500, "error": cause } }]);
    let meta = json!({ "schema": 1, "name": "c", "fingerprint": "f", "dimensions": 2, "incarnation": "0" });
    let all = [
        json!({ "responses": [found, failed, counted], "docs": documents }),
        found,
        counted,
        failed,
        json!({ "error": none, "status": 404 }),
        json!({ "items": stored }),
        json!({ "i": { "mappings": { "_meta": meta } } }),
    ];
    all.map(|answer| answer.to_string().into_bytes()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    /// The keys in the seeds, so that a value often stands where another one is expected.
    fn keys() -> Vec<String> {
        fn of(value: &Value, keys: &mut Vec<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                    keys.push(key.clone());
                    of(value, keys);
                }),
                Value::Array(elements) => elements.iter().for_each(|element| of(element, keys)),
                _ => {}
            }
        }
        let mut keys = Vec::new();
        answers().iter().for_each(|seed| of(&from_slice(seed).unwrap(), &mut keys));
        keys
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)];
        let scalar =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, ".{0,8}".prop_map(Value::from)];
        scalar.prop_recursive(5, 64, 6, |inner| {
            let fields = prop::collection::vec((prop::sample::select(keys()), inner.clone()), 0..6);
            let object = fields.prop_map(|fields| Value::from(fields.into_iter().collect::<Map<String, Value>>()));
            prop_oneof![object, prop::collection::vec(inner, 0..6).prop_map(Value::from)]
        })
    }

    /// Puts a value in the place of the one with this number, counted from the outside.
    fn replace(within: &mut Value, at: &mut usize, with: &Value) {
        if *at == 0 {
            *within = with.clone();
        }
        *at = at.wrapping_sub(1);
        match within {
            Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, at, with)),
            Value::Array(elements) => elements.iter_mut().for_each(|element| replace(element, at, with)),
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn any_json_is_an_answer_or_an_error(json in any_json()) {
            answer(json.to_string().as_bytes());
        }

        #[test]
        fn an_answer_with_another_value_somewhere_or_without_its_end_is_one_or_an_error(
            seed in prop::sample::select(answers()), at in 0usize..80, with in any_json(), end: prop::sample::Index,
        ) {
            answer(&seed[..end.index(seed.len() + 1)]);
            let mut json: Value = from_slice(&seed).unwrap();
            replace(&mut json, &mut { at }, &with);
            answer(json.to_string().as_bytes());
        }
    }

    #[test]
    fn an_answer_that_is_too_deep_is_an_error() {
        for (open, close) in [("[", "]"), (r#"{"caused_by":"#, "}")] {
            let deep = format!(r#"{{"error":{}null{}}}"#, open.repeat(100_000), close.repeat(100_000));
            answer(deep.as_bytes());
        }
    }

    #[test]
    fn the_seeds_are_understood() {
        assert!(answers().iter().all(|seed| from_slice::<Value>(seed).is_ok()));
        let several: SearchAnswers = from_slice(&answers()[0]).unwrap();
        let hits = several.responses.into_iter().flat_map(|answer| answer.hits.hits);
        assert_eq!(hits.filter_map(|hit| listed(hit, DIMENSIONS).ok()).count(), 2);
    }
}
