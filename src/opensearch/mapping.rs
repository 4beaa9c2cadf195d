//! The index of a collection: its name, its mapping, and what it says of the collection.
//!
//! A collection is one index, named by a digest of the collection's name. Every call goes through an alias that the
//! index got when it was created. A holder of a collection that was deleted and created again finds nothing,
//! and mixes no vectors of two models.
//!
//! Invariant: the mapping is of [`SCHEMA`]. A later change of the mapping gets another number, and is told apart by it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options::Options;
use super::tokens::digest;
use crate::collection::{Model, NewName, PassageSizes, Settings};
use crate::index::MAX_DIMENSIONS;
use crate::lexical;

/// The version of the mapping.
pub(super) const SCHEMA: u32 = 1;

/// The id, by which documents are sorted.
pub(super) const ID: &str = "id";
/// The fields and values of the metadata.
pub(super) const TOKENS: &str = "tokens";
/// The values by which documents are grouped.
pub(super) const SINGLE: &str = "single";
/// The terms of the text.
pub(super) const WORDS: &str = "words";
/// The number of these terms.
pub(super) const LENGTH: &str = "length";
/// The passages of a document, one at least.
pub(super) const PASSAGES: &str = "passages";
/// The vector of a passage.
pub(super) const VECTOR: &str = "passages.vector";

/// Links of a vector in the graph, and candidates among which they are chosen. Higher: better recall, slower uploads.
const LINKS: u32 = 16;
const EF_CONSTRUCTION: u32 = 128;

/// The description of a collection in its index, in `_meta` of the mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The version of the mapping.
    pub schema: u32,
    /// The name of the collection.
    pub name: String,
    /// The caller who created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The name of its model when it was created; empty: a version before this field created it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// The fingerprint of its model.
    pub fingerprint: String,
    /// The length of its vectors.
    pub dimensions: usize,
    /// The sizes of its passages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passages: Option<PassageSizes>,
    /// The settings of its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<lexical::Options>,
    /// A random number, which the alias has too.
    pub incarnation: String,
}

impl Meta {
    /// Describes a new collection.
    pub fn new(NewName { name, owner }: NewName<'_>, model: Model<'_>, settings: Settings, random: u64) -> Self {
        Self {
            schema: SCHEMA,
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
            model: model.name.to_owned(),
            fingerprint: model.fingerprint.to_owned(),
            dimensions: model.dimensions,
            passages: settings.passages,
            lexical: settings.lexical,
            incarnation: format!("{random:016x}"),
        }
    }

    /// Reads what an index says. `None`: it has another form, or vectors that no collection has.
    pub fn read(json: Value) -> Option<Self> {
        serde_json::from_value(json).ok().filter(|meta: &Self| (1..=MAX_DIMENSIONS).contains(&meta.dimensions))
    }

    /// The name through which the collection is called.
    pub fn alias(&self, prefix: &str) -> String {
        format!("{}.{}", index(prefix, &self.name), self.incarnation)
    }
}

/// The name of a collection's index.
pub(super) fn index(prefix: &str, collection: &str) -> String {
    format!("{prefix}{}", &digest(collection.as_bytes())[..40])
}

/// The index of a new collection, as it is created.
pub(super) fn body(meta: &Meta, options: &Options) -> Value {
    let method = json!({
        "name": "hnsw", "engine": "lucene", "space_type": "cosinesimil",
        "parameters": { "m": LINKS, "ef_construction": EF_CONSTRUCTION },
    });
    // Exact searches read the vectors of the graph too, so they are not stored once more as doc values.
    let vector = json!({ "type": "knn_vector", "dimension": meta.dimensions, "method": method, "doc_values": false });
    let mut properties = json!({
        ID: { "type": "keyword" },
        TOKENS: { "type": "keyword" },
        SINGLE: { "type": "keyword", "doc_values": false },
        PASSAGES: { "type": "nested", "dynamic": false, "properties": { "vector": vector } },
    });
    if meta.lexical.is_some() {
        properties[WORDS] = json!({ "type": "text", "analyzer": "whitespace", "index_options": "freqs" });
        properties[LENGTH] = json!({ "type": "integer", "index": false });
    }
    json!({
        "settings": { "index": {
            "knn": true,
            "number_of_shards": options.shards,
            "number_of_replicas": options.replicas,
            "refresh_interval": format!("{}ms", options.refresh_interval.as_millis()),
            "translog": { "durability": "request" },
        } },
        "aliases": { meta.alias(&options.prefix): {} },
        "mappings": {
            "dynamic": false,
            "_meta": meta,
            // The other fields are read back: id, text, metadata, and the bits of the vectors.
            "_source": { "excludes": [PASSAGES, TOKENS, SINGLE, WORDS, LENGTH] },
            "properties": properties,
        },
    })
}
