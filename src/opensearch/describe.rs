//! Descriptions of collections: what their indices say, with documents, passages and bytes.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::collection::Collection;
use super::engine::Engine;
use super::error::Error;
use super::http::Method;
use super::mapping::{self, Meta, PASSAGES};
use crate::collection::Description;

/// Collections whose documents are counted.
const DESCRIBED: usize = 10_000;

impl Collection {
    /// Describes the collection.
    pub async fn describe(&self) -> Result<Description, Error> {
        let index = mapping::index("", &self.meta.name);
        let figures = figures(&self.engine, &index).await?;
        Ok(described(&format!("{}{index}", self.engine.options.prefix), &self.meta, &figures))
    }
}

/// Documents, passages and bytes of each index.
pub(super) type Figures = HashMap<String, (usize, usize, usize)>;

/// The figures of the indices of these names.
pub(super) async fn figures(engine: &Engine, names: &str) -> Result<Figures, Error> {
    let indices = format!("/{}{names}", engine.options.prefix);
    let passages = json!({ "passages": { "nested": { "path": PASSAGES } } });
    let by_index = json!({ "terms": { "field": "_index", "size": DESCRIBED }, "aggs": passages });
    let body = json!({ "size": 0, "track_total_hits": false, "aggs": { "indices": by_index } });
    let counts: Value = engine.ask(Method::Post, format!("{indices}/_search"), Some(&body)).await?;
    let path = format!("{indices}/_stats/store?filter_path=indices.*.primaries.store.size_in_bytes");
    let stats: Value = engine.ask(Method::Get, path, None).await?;
    Ok(read_figures(&counts, &stats))
}

/// The figures of counts and statistics. A figure that is missing is 0.
pub(super) fn read_figures(counts: &Value, stats: &Value) -> Figures {
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let buckets = counts["aggregations"]["indices"]["buckets"].as_array();
    let of_bucket = |bucket: &Value| {
        let index = bucket["key"].as_str()?.to_owned();
        Some((index, (number(&bucket["doc_count"]), number(&bucket["passages"]["doc_count"]), 0)))
    };
    let mut figures: Figures = buckets.into_iter().flatten().filter_map(of_bucket).collect();
    for (index, stats) in stats["indices"].as_object().into_iter().flatten() {
        figures.entry(index.clone()).or_default().2 = number(&stats["primaries"]["store"]["size_in_bytes"]);
    }
    figures
}

/// The description of an index's collection.
pub(super) fn described(index: &str, meta: &Meta, figures: &Figures) -> Description {
    let (documents, n_passages, bytes) = figures.get(index).copied().unwrap_or_default();
    Description {
        name: meta.name.clone(),
        owner: meta.owner.clone(),
        model: meta.model.clone(),
        fingerprint: meta.fingerprint.clone(),
        dimensions: meta.dimensions,
        passages: meta.passages,
        lexical: meta.lexical,
        documents,
        n_passages,
        bytes,
        unindexed: 0,
        index_file_bytes: 0,
        lexical_file_bytes: 0,
        ef_search: 0,
        recall: None,
        recall_queries: 0,
    }
}
