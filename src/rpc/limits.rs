//! The limits of one request.

use crate::collection::{Quota, Usage};
use crate::lexical::MOST_TERMS;
use crate::wire;

/// Documents in one message of an upload: with 1,600 bytes each, they fill a message of 16 MiB.
const MAX_DOCUMENTS_PER_MESSAGE: usize = 10_000;

/// Fields of one call of `Facets`. Each is one walk over its values: 4 ms for 100,000 different ones.
const MAX_FACET_FIELDS: usize = 32;

/// Passages of one text: a text of 256 KiB whose tokens have one byte each has 1,200.
pub const MAX_PASSAGES: usize = 4_096;

/// The limits of requests. `Info` reports them, except for the constant ones.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Items in one repeated field. Higher: fewer round trips, more memory for each call.
    pub max_texts: usize,
    /// Documents in one message of an upload.
    pub max_documents_per_message: usize,
    /// UTF-8 bytes of one text.
    pub max_text_bytes: usize,
    /// The largest `k`.
    pub max_k: usize,
    /// Queries times `k` of one call.
    pub max_hits: usize,
    /// Bytes of one message, decompressed, in either direction.
    pub max_message_bytes: usize,
    /// UTF-8 bytes of an id or name.
    pub max_id_bytes: usize,
    /// Bytes of one document's metadata as JSON.
    pub max_metadata_bytes: usize,
    /// Conditions of one filter. Higher: a call may compute for longer.
    pub max_filter_conditions: usize,
    /// Values that one filter compares with for equality.
    pub max_filter_values: usize,
    /// Documents on one page.
    pub max_page_size: usize,
    /// Fields of one call of `Facets`.
    pub max_facet_fields: usize,
    /// The quota of all collections (enforced by the store).
    pub stored: Quota,
    /// The quota of one collection (enforced by the store).
    pub collection: Quota,
    /// The number of collections (enforced by the store).
    pub max_collections: usize,
    /// Distinct fields in the metadata of a collection (enforced by the store).
    pub max_collection_fields: usize,
    /// An upper bound of the resident memory under these settings. Not enforced itself: it is the sum of enforced
    /// limits.
    pub max_resident_bytes: usize,
    /// Waiting tokens of unary calls (enforced by the embedder).
    pub max_queued_tokens: usize,
    /// Concurrent calls (enforced by the server).
    pub max_calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_texts: 1024,
            max_documents_per_message: MAX_DOCUMENTS_PER_MESSAGE,
            max_text_bytes: 256 * 1024,
            max_k: 1000,
            max_hits: 100_000,
            max_message_bytes: 16 * 1024 * 1024,
            max_id_bytes: 512,
            max_metadata_bytes: 64 * 1024,
            // A filter with the maximum of ranges takes seconds on a million documents; the maximum of values takes a
            // tenth of one.
            max_filter_conditions: 1024,
            max_filter_values: 65_536,
            max_page_size: 1000,
            max_facet_fields: MAX_FACET_FIELDS,
            stored: Usage::UNLIMITED,
            collection: Usage::UNLIMITED,
            max_collections: 10_000,
            max_collection_fields: 10_000,
            max_resident_bytes: usize::MAX,
            max_queued_tokens: 262_144,
            max_calls: 256,
        }
    }
}

impl Limits {
    pub(super) fn to_proto(&self) -> wire::Limits {
        // 0 on the wire means that there is no limit.
        let bound = |n: usize| if n == usize::MAX { 0 } else { n as u64 };
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        wire::Limits {
            max_texts: narrow(self.max_texts),
            max_text_bytes: self.max_text_bytes as u64,
            max_k: narrow(self.max_k),
            max_message_bytes: self.max_message_bytes as u64,
            max_id_bytes: narrow(self.max_id_bytes),
            max_metadata_bytes: self.max_metadata_bytes as u64,
            max_filter_conditions: narrow(self.max_filter_conditions),
            max_filter_values: narrow(self.max_filter_values),
            max_page_size: narrow(self.max_page_size),
            max_hits: narrow(self.max_hits),
            max_stored_bytes: bound(self.stored.bytes),
            max_documents: bound(self.stored.documents),
            max_collection_bytes: bound(self.collection.bytes),
            max_collection_documents: bound(self.collection.documents),
            max_queued_tokens: self.max_queued_tokens as u64,
            max_calls: narrow(self.max_calls),
            max_collections: bound(self.max_collections),
            max_collection_fields: bound(self.max_collection_fields),
            max_passages: narrow(MAX_PASSAGES),
            max_query_words: narrow(MOST_TERMS),
            max_resident_bytes: bound(self.max_resident_bytes),
        }
    }
}
