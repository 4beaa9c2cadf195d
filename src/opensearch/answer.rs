//! The answers of the engine to searches.

use serde::Deserialize;
use serde_json::Value;

use super::document::{Source, Version};
use super::error::{Error, Unavailable};
use super::http;
use super::refusal::RefusalReason;

/// The answer to a search.
#[derive(Debug, Deserialize)]
pub(super) struct SearchAnswer {
    #[serde(default)]
    pub hits: Hits,
    #[serde(default)]
    pub aggregations: Value,
    #[serde(default)]
    pub pit_id: Option<String>,
    /// The reason why this one of several searches has no answer.
    #[serde(default)]
    error: Option<RefusalReason>,
    #[serde(default)]
    status: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Hits {
    #[serde(default)]
    pub total: Option<Total>,
    #[serde(default)]
    pub hits: Vec<RawHit>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Total {
    pub value: u64,
}

/// A document that was found.
#[derive(Debug, Deserialize)]
pub(super) struct RawHit {
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(rename = "_score", default)]
    pub score: Option<f32>,
    #[serde(rename = "_source", default)]
    pub source: Option<Source>,
    #[serde(rename = "_seq_no", default)]
    sequence: Option<u64>,
    #[serde(rename = "_primary_term", default)]
    term: Option<u64>,
}

/// The answer to several searches.
#[derive(Debug, Deserialize)]
pub(super) struct SearchAnswers {
    pub responses: Vec<SearchAnswer>,
}

/// The answer to a request for documents by their ids.
#[derive(Debug, Deserialize)]
pub(super) struct GetAnswer {
    pub docs: Vec<Got>,
}

/// A document that was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Got {
    #[serde(flatten)]
    pub hit: RawHit,
    #[serde(default)]
    error: Option<RefusalReason>,
}

impl SearchAnswers {
    /// The answers, or the reason of the first failure.
    pub fn checked(self) -> Result<Vec<SearchAnswer>, Error> {
        self.responses.into_iter().map(SearchAnswer::checked).collect()
    }
}

impl GetAnswer {
    /// The documents, or the reason of the first failure.
    pub fn checked(self) -> Result<Vec<RawHit>, Error> {
        self.docs.into_iter().map(Got::checked).collect()
    }
}

impl RawHit {
    /// The version of the document, if it was asked for.
    pub fn version(&self) -> Option<Version> {
        Some(Version { sequence: self.sequence?, term: self.term? })
    }
}

impl SearchAnswer {
    /// The answer, or the reason of a failure.
    pub fn checked(self) -> Result<Self, Error> {
        match &self.error {
            None => Ok(self),
            Some(error) => Err(failed(error, self.status)),
        }
    }

    /// True if it has each document of a window of the hits, by their total up to the end of the window. A node that
    /// gives up a copy of a shard while it is asked may leave out documents that it has counted.
    pub fn is_whole(&self, from: usize, size: usize) -> bool {
        let total = self.hits.total.as_ref().map_or(0, |total| usize::try_from(total.value).unwrap_or(usize::MAX));
        self.hits.hits.len() >= total.saturating_sub(from).min(size)
    }

    /// Takes the buckets of an aggregation.
    pub fn buckets(&mut self, name: &str) -> Result<Vec<Value>, Error> {
        match self.aggregations.get_mut(name).and_then(|of_name| of_name.get_mut("buckets")).map(Value::take) {
            Some(Value::Array(buckets)) => Ok(buckets),
            _ => Err(Error::unexpected(format!("no buckets of {name}"))),
        }
    }

    /// The number of documents that match.
    pub fn total(&self) -> Result<u64, Error> {
        self.hits.total.as_ref().map(|total| total.value).ok_or_else(|| Error::unexpected("a search without a total"))
    }
}

impl Got {
    /// The document, or the reason why there is no answer.
    pub fn checked(self) -> Result<RawHit, Error> {
        match &self.error {
            None => Ok(self.hit),
            Some(error) => Err(failed(error, None)),
        }
    }
}

/// The error of an item that failed alone.
pub(super) fn failed(error: &RefusalReason, status: Option<u16>) -> Error {
    error.known().unwrap_or_else(|| {
        if error.passes(status) {
            let (reason, details) = (error.in_short(), error.to_string());
            return Error::Unavailable(Unavailable { reason, details, retry_after: http::pause(3) });
        }
        Error::unexpected(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hits_that_were_counted_and_are_not_there_are_noticed() {
        let is_whole = |total: Value, n: usize, from, size| {
            let hits = json!({ "total": total, "hits": vec![json!({ "_id": "a" }); n] });
            serde_json::from_value::<SearchAnswer>(json!({ "hits": hits })).unwrap().is_whole(from, size)
        };
        let of = |n: u64| json!({ "value": n, "relation": "gte" });
        assert!(is_whole(of(3), 3, 0, 10) && is_whole(of(30), 10, 0, 10) && is_whole(of(13), 3, 10, 10));
        assert!(is_whole(of(0), 0, 0, 10) && is_whole(of(3), 0, 10, 10));
        assert!(!is_whole(of(3), 2, 0, 10) && !is_whole(of(30), 9, 0, 10) && !is_whole(of(13), 2, 10, 10));
    }

    #[test]
    fn a_document_that_its_node_cannot_give_now_is_asked_for_again() {
        let got =
            |error: Value| serde_json::from_value::<Got>(json!({ "_id": "a", "error": error })).unwrap().checked();
        let passing = json!({ "type": "node_closed_exception", "reason": "node closed {node1}{127.0.0.1:9300}" });
        let Err(Error::Unavailable(unavailable)) = got(passing) else { panic!("it passes") };
        assert!(!unavailable.reason.contains("127") && unavailable.details.contains("127"), "{unavailable:?}");
        assert!(matches!(got(json!({ "type": "x", "reason": "y" })), Err(Error::Unexpected { .. })));
    }
}
