//! Counts of the values of fields.
//!
//! The values of a field are the tokens that begin with that of the field. The engine lists them in order, with the
//! number of documents of each, page by page at one point in time. So the numbers are exact and of one moment, however
//! many values and shards there are.

use std::collections::BTreeMap;

use super::http::{Method, Request};
use serde_json::{Value, json};

use super::answer::SearchAnswer;
use super::collection::Collection;
use super::error::Error;
use super::export::Point;
use super::mapping::TOKENS;
use super::query::{chosen, exists, one_of};
use super::reader::halved;
use super::tokens::{of_field, of_value, value_of};
use crate::collection::filter::{Path, Scalar};
use crate::collection::{Facet, FacetError, FacetField, FacetQuery, Facets, Tally};

/// Values of a page. The engine makes 65,535 buckets for a request.
const PAGE: usize = if cfg!(test) { 5 } else { 5_000 };

/// Values whose documents are counted together, if two readings of a name have them.
const SHARED_AT_ONCE: usize = if cfg!(test) { 2 } else { 500 };

/// One reading of a field's name, and the values that it has.
struct Reading {
    path: Path,
    /// The token of the field, which those of its values begin with.
    field: String,
    documents: u64,
    values: BTreeMap<Scalar, u64>,
}

impl Collection {
    /// Counts the values of fields.
    pub async fn facets(&self, query: &FacetQuery) -> Result<Facets, Error> {
        let point = self.point().await?;
        let (documents, mut room) = (self.at(&point, query, None).await?.total()?, query.max_bytes);
        let mut fields = Vec::with_capacity(query.fields.len());
        for field in &query.fields {
            fields.push(self.facet(&point, query, field, &mut room).await?);
        }
        Ok(Facets { documents, fields })
    }

    async fn facet(
        &self,
        point: &Point,
        query: &FacetQuery,
        field: &FacetField,
        room: &mut usize,
    ) -> Result<Facet, Error> {
        let mut tally = Tally::new(field.limit, *room);
        let mut readings = Vec::new();
        for path in &field.by {
            let reading = Reading { path: path.clone(), field: of_field(path), documents: 0, values: BTreeMap::new() };
            let reading = self.count_present(point, query, reading).await?;
            if reading.documents > 0 {
                readings.push(reading);
            }
        }
        let documents = match &mut *readings {
            [] => 0,
            [one] => {
                let mut add = |value: Scalar, documents| tally.add(&value, documents).map_err(failed);
                self.each_value(point, query, &one.field, &mut add).await?;
                one.documents
            }
            several => {
                let documents = self.count_any(point, query, several).await?;
                for (value, documents) in self.joined(point, query, several, *room).await? {
                    tally.add(&value, documents).map_err(failed)?;
                }
                documents
            }
        };
        *room -= tally.bytes();
        Ok(tally.facet(documents))
    }

    /// Counts the documents that have a field.
    async fn count_present(&self, point: &Point, query: &FacetQuery, reading: Reading) -> Result<Reading, Error> {
        let present = json!({ "filter": exists(&reading.path) });
        let answer = self.at(point, query, Some(("present", present))).await?;
        let documents = count_of(&answer.aggregations["present"])?;
        Ok(Reading { documents, ..reading })
    }

    /// Counts the documents that have the field by one of the readings.
    async fn count_any(&self, point: &Point, query: &FacetQuery, readings: &[Reading]) -> Result<u64, Error> {
        let any = one_of(readings.iter().map(|reading| exists(&reading.path)).collect());
        let present = json!({ "filter": any });
        let answer = self.at(point, query, Some(("present", present))).await?;
        count_of(&answer.aggregations["present"])
    }

    /// Calls `each` with each value of a field and the number of its documents, in order.
    async fn each_value(
        &self,
        point: &Point,
        query: &FacetQuery,
        field: &str,
        each: &mut (dyn FnMut(Scalar, u64) -> Result<(), Error> + Send),
    ) -> Result<(), Error> {
        let (mut after, mut size) = (field.to_owned(), PAGE);
        loop {
            let source = json!([{ "token": { "terms": { "field": TOKENS } } }]);
            let values = json!({ "composite": { "size": size, "sources": source, "after": { "token": after } } });
            let Some(mut answer) = self.at_if_it_fits(point, query, Some(("values", values))).await? else {
                size = halved(size)?;
                continue;
            };
            let buckets = answer.buckets("values")?;
            let n_buckets = buckets.len();
            for bucket in buckets {
                let documents = count_of(&bucket)?;
                let token = bucket["key"]["token"].as_str().unwrap_or_default();
                let Some(value) = token.strip_prefix(field) else { return Ok(()) };
                let value = value_of(value).ok_or_else(|| Error::Unsupported {
                    field: "fields",
                    reason: "has texts of more than 16,000 bytes, whose values are not counted: name another field"
                        .to_owned(),
                })?;
                each(value, documents)?;
                token.clone_into(&mut after);
            }
            if n_buckets < size {
                return Ok(());
            }
        }
    }

    /// The values of several readings of a name, in order, with the documents that have each by one of them.
    async fn joined(
        &self,
        point: &Point,
        query: &FacetQuery,
        readings: &mut [Reading],
        room: usize,
    ) -> Result<BTreeMap<Scalar, u64>, Error> {
        let mut all: BTreeMap<Scalar, u64> = BTreeMap::new();
        let mut shared: Vec<Scalar> = Vec::new();
        for reading in readings.iter_mut() {
            let (values, mut bytes) = (&mut reading.values, 0);
            let mut keep = |value: Scalar, documents| {
                // All values are kept here, not the most frequent alone.
                bytes += size_of::<(Scalar, u64)>() + if let Scalar::Text(text) = &value { text.len() } else { 0 };
                values.insert(value, documents);
                if bytes > room { Err(Error::TooLarge) } else { Ok(()) }
            };
            self.each_value(point, query, &reading.field, &mut keep).await?;
            for (value, documents) in &reading.values {
                if all.insert(value.clone(), *documents).is_some() {
                    shared.push(value.clone());
                }
            }
        }
        shared.sort_unstable();
        shared.dedup();
        for some in shared.chunks(SHARED_AT_ONCE) {
            let any = |value: &Scalar| {
                let token = |reading: &Reading| of_value(&reading.field, value);
                json!({ "terms": { TOKENS: readings.iter().map(token).collect::<Vec<_>>() } })
            };
            let filters: Vec<Value> = some.iter().map(any).collect();
            let shared = json!({ "filters": { "filters": filters } });
            let answer = self.at(point, query, Some(("shared", shared))).await?;
            for (at, value) in some.iter().enumerate() {
                all.insert(value.clone(), count_of(&answer.aggregations["shared"]["buckets"][at])?);
            }
        }
        Ok(all)
    }

    /// Asks for an aggregation among the documents that match, at a point in time.
    async fn at(
        &self,
        point: &Point,
        query: &FacetQuery,
        wanted: Option<(&str, Value)>,
    ) -> Result<SearchAnswer, Error> {
        let answer = self.at_if_it_fits(point, query, wanted).await?;
        answer.ok_or_else(|| Error::unexpected("the answer to a count is too large"))
    }

    /// Does the same; `None`: the answer is too large.
    async fn at_if_it_fits(
        &self,
        point: &Point,
        query: &FacetQuery,
        wanted: Option<(&str, Value)>,
    ) -> Result<Option<SearchAnswer>, Error> {
        let among = chosen(query.filter.as_ref());
        let mut body = json!({ "size": 0, "track_total_hits": true, "query": among, "pit": point.body() });
        if let Some((name, aggregation)) = wanted {
            body["aggs"] = json!({ name: aggregation });
        }
        let path = "/_search?allow_partial_search_results=false".to_owned();
        self.engine.ask_if_it_fits(&Request::new(Method::Post, path, &body)).await
    }
}

fn count_of(bucket: &Value) -> Result<u64, Error> {
    bucket["doc_count"].as_u64().ok_or_else(|| Error::unexpected("a bucket without a number"))
}

fn failed(error: FacetError) -> Error {
    match error {
        FacetError::TooLarge => Error::TooLarge,
        FacetError::Stopped(_) => Error::unexpected("a count was stopped"),
    }
}
