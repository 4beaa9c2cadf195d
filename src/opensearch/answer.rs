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

fn failed(error: &RefusalReason, status: Option<u16>) -> Error {
    error.known().unwrap_or_else(|| {
        if status.is_some_and(|status| error.passes(status)) {
            return Error::Unavailable(Unavailable { reason: error.to_string(), retry_after: http::pause(3) });
        }
        Error::unexpected(error.to_string())
    })
}
