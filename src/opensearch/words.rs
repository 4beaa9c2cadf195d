//! The words of queries, weighed by figures of the engine.
//!
//! The engine ranks by its own figures: of each copy of a shard, and with documents that were removed a while ago. So
//! it finds the candidates, and their scores are computed here from exact figures of the whole collection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::SearchAnswers;
use super::collection::Collection;
use super::error::Error;
use super::http::Request;
use super::mapping::{LENGTH, WORDS};
use crate::collection::Asked;
use crate::lexical::{TermWeights, Totals, looked_up};

/// Terms that are counted by one request.
const COUNTED_AT_ONCE: usize = 1_000;

impl Collection {
    /// The weights of the words of each query; `None`: the collection has no words.
    pub(super) async fn weights(&self, queries: &[Asked<'_>]) -> Result<Option<Vec<Arc<TermWeights>>>, Error> {
        let Some(mut reader) = self.reader.clone() else { return Ok(None) };
        let texts: Vec<String> = queries.iter().map(|query| query.words.to_owned()).collect();
        let terms = self.engine.compute(move || texts.iter().map(|text| reader.terms(text)).collect::<Vec<_>>());
        let terms: Vec<Vec<String>> = terms.await?;
        let of_queries: Vec<BTreeMap<&str, u32>> = terms.iter().map(|terms| looked_up(terms)).collect();
        let different: BTreeSet<&str> = of_queries.iter().flat_map(|counts| counts.keys().copied()).collect();
        let different: Vec<&str> = different.into_iter().collect();
        let (totals, with_term) = self.figures(&different).await?;
        let count = |term: &str| different.binary_search(&term).map_or(0, |at| with_term[at]);
        Ok(Some(of_queries.iter().map(|counts| Arc::new(TermWeights::new(counts, totals, count))).collect()))
    }

    /// The totals of the collection, and the number of documents with each of the terms, of one request.
    async fn figures(&self, terms: &[&str]) -> Result<(Totals, Vec<u64>), Error> {
        let search = |aggregations: Value| {
            let body = json!({ "size": 0, "track_total_hits": false, "aggs": aggregations });
            format!("{}\n{body}\n", json!({ "allow_partial_search_results": false }))
        };
        // A document without terms has no length, and does not count.
        let of_all = json!({ "sum": { "field": LENGTH } });
        let mut lines = search(json!({ "terms": of_all, "documents": { "value_count": { "field": LENGTH } } }));
        for some in terms.chunks(COUNTED_AT_ONCE) {
            let filters: Vec<Value> = some.iter().map(|term| json!({ "term": { WORDS: term } })).collect();
            lines.push_str(&search(json!({ "terms": { "filters": { "filters": filters } } })));
        }
        let request = Request { method: Method::Post, path: self.path("_msearch"), body: Bytes::from(lines) };
        let answers = self.engine.ask_for_items(&request, SearchAnswers::checked).await?;
        let mut answers = answers.ok_or_else(|| Error::unexpected("the figures of words are too large"))?.into_iter();
        let of_all = answers.next().ok_or_else(|| Error::unexpected("no figures of words"))?;
        let figure = |name: &str| of_all.aggregations[name]["value"].as_f64().unwrap_or_default() as u64;
        let totals = Totals { documents: figure("documents"), terms: figure("terms") };
        let mut with_term = Vec::with_capacity(terms.len());
        for mut answer in answers {
            let count = |bucket: &Value| bucket["doc_count"].as_u64();
            with_term.extend(answer.buckets("terms")?.iter().filter_map(count));
        }
        if with_term.len() != terms.len() {
            return Err(Error::unexpected(format!("{} figures of {} words", with_term.len(), terms.len())));
        }
        Ok((totals, with_term))
    }
}
