//! Documents by their ids, in pages, and their number.
//!
//! Invariant: an answer that is too large to be read is asked for in parts, down to single documents.

use super::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{GetAnswer, RawHit, SearchAnswer};
use super::collection::Collection;
use super::document::{Source, Version};
use super::error::Error;
use super::http::Request;
use super::mapping::ID;
use super::query::chosen;
use crate::collection::{DocId, Filter, Listed};

/// Documents of one request.
pub(super) const PAGE: usize = 1_000;

/// Documents on a page without their content.
const MATCHING_PAGE: usize = if cfg!(test) { 7 } else { 10_000 };

/// A page of documents, and how it was found.
pub(super) struct Page {
    pub documents: Vec<Listed>,
    /// The number of documents that match; if the request asked for it.
    pub total: u64,
    /// The name of the point in time, which may change.
    pub point: Option<String>,
    /// True if the documents are all that are left.
    pub is_last: bool,
}

impl Collection {
    /// The documents with these ids, in their order; `None` where an id has no document.
    pub async fn get(&self, ids: &[DocId]) -> Result<Vec<Option<Listed>>, Error> {
        let found = self.get_versions(ids).await?;
        Ok(found.into_iter().map(|found| found.map(|(listed, _)| listed)).collect())
    }

    /// Does the same, with the version of each.
    pub(super) async fn get_versions(&self, ids: &[DocId]) -> Result<Vec<Option<(Listed, Version)>>, Error> {
        let (mut found, mut left, mut at_once) = (Vec::with_capacity(ids.len()), ids, PAGE);
        while !left.is_empty() {
            let some = &left[..left.len().min(at_once)];
            let names: Vec<&str> = some.iter().map(DocId::as_str).collect();
            let request = Request::new(Method::Post, self.path("_mget"), &json!({ "ids": names }));
            let Some(GetAnswer { docs }) = self.engine.ask_if_it_fits(&request).await? else {
                at_once = halved(some.len())?;
                continue;
            };
            if docs.len() != some.len() {
                return Err(Error::unexpected(format!("{} answers to {} ids", docs.len(), some.len())));
            }
            let dimensions = self.meta.dimensions;
            let read = move || docs.into_iter().map(|got| versioned(got.checked()?, dimensions)).collect();
            let read: Result<Vec<_>, Error> = self.engine.compute(read).await?;
            found.extend(read?);
            left = &left[some.len()..];
        }
        Ok(found)
    }

    /// The first `limit` documents that match, in the order of their ids, after the id `after`. They may be fewer if
    /// their texts and metadata have more than `most_bytes`.
    pub async fn list(
        &self,
        filter: Option<&Filter>,
        after: Option<&DocId>,
        limit: usize,
        most_bytes: usize,
    ) -> Result<Vec<Listed>, Error> {
        let (mut listed, mut bytes, mut size) = (Vec::new(), 0, PAGE);
        while listed.len() < limit && bytes <= most_bytes {
            let last = listed.last().map(|last: &Listed| &last.id).or(after);
            let wanted = size.min(limit - listed.len());
            let mut body = json!({ "query": chosen(filter), "track_total_hits": false });
            let page = self.page("_search?allow_partial_search_results=false", &mut body, last, wanted, &mut size);
            let page = page.await?;
            let of_content = |one: &Listed| {
                one.content.text.len() + one.content.metadata.as_ref().map_or(0, |metadata| metadata.as_json().len())
            };
            bytes += page.documents.iter().map(of_content).sum::<usize>();
            listed.extend(page.documents);
            if page.is_last {
                break;
            }
        }
        Ok(listed)
    }

    /// Asks for a page of at most `wanted` documents, and for smaller ones if it is too large; `size` then follows.
    pub(super) async fn page(
        &self,
        operation: &str,
        body: &mut Value,
        after: Option<&DocId>,
        mut wanted: usize,
        size: &mut usize,
    ) -> Result<Page, Error> {
        body["sort"] = json!([{ ID: "asc" }]);
        if let Some(after) = after {
            body["search_after"] = json!([after.as_str()]);
        }
        let path = match operation.starts_with('/') {
            true => operation.to_owned(),
            false => self.path(operation),
        };
        loop {
            body["size"] = wanted.into();
            let request = Request { method: Method::Post, path: path.clone(), body: Bytes::from(body.to_string()) };
            let Some(answer) = self.engine.ask_if_it_fits::<SearchAnswer>(&request).await? else {
                wanted = halved(wanted)?;
                *size = wanted;
                continue;
            };
            let (total, point) = (answer.total().unwrap_or_default(), answer.pit_id.clone());
            let is_last = answer.hits.hits.len() < wanted;
            let (hits, dimensions) = (answer.hits.hits, self.meta.dimensions);
            let read = move || hits.into_iter().map(|hit| listed(hit, dimensions)).collect::<Result<Vec<_>, Error>>();
            return Ok(Page { documents: self.engine.compute(read).await??, total, point, is_last });
        }
    }

    /// The number of documents that match, or of all.
    pub async fn count(&self, filter: Option<&Filter>) -> Result<u64, Error> {
        let body = json!({ "size": 0, "track_total_hits": true, "query": chosen(filter) });
        let answer: SearchAnswer = self.ask("_search?allow_partial_search_results=false", &body).await?;
        answer.total()
    }

    /// The ids of the documents that match now, in order.
    pub async fn matching_ids(&self, filter: &Filter) -> Result<Vec<DocId>, Error> {
        let mut ids: Vec<DocId> = Vec::new();
        loop {
            let page = self.matching_versions(filter, ids.last()).await?;
            let is_last = page.len() < MATCHING_PAGE;
            ids.extend(page.into_iter().map(|(id, _)| id));
            if is_last {
                return Ok(ids);
            }
        }
    }

    /// A page of the documents that match, with their versions, in the order of their ids.
    pub(super) async fn matching_versions(
        &self,
        filter: &Filter,
        after: Option<&DocId>,
    ) -> Result<Vec<(DocId, Version)>, Error> {
        let mut body = json!({
            "query": chosen(Some(filter)), "size": MATCHING_PAGE, "sort": [{ ID: "asc" }],
            "_source": false, "seq_no_primary_term": true, "track_total_hits": false,
        });
        if let Some(after) = after {
            body["search_after"] = json!([after.as_str()]);
        }
        let answer: SearchAnswer = self.ask("_search?allow_partial_search_results=false", &body).await?;
        let named = |hit: RawHit| {
            let version = hit.version().ok_or_else(|| Error::unexpected("a document without a version"))?;
            Ok((DocId::new(&hit.id).ok_or_else(|| Error::unexpected("a document without an id"))?, version))
        };
        answer.hits.hits.into_iter().map(named).collect()
    }
}

/// Half as many documents or values; an error if one alone is too large.
pub(super) fn halved(documents: usize) -> Result<usize, Error> {
    match documents / 2 {
        0 => Err(Error::unexpected("a document is too large to be read")),
        half => Ok(half),
    }
}

/// The document of a hit.
pub(super) fn listed(hit: RawHit, dimensions: usize) -> Result<Listed, Error> {
    let source: Source = hit.source.ok_or_else(|| Error::unexpected("a document without content"))?;
    source.into_listed(dimensions)
}

fn versioned(hit: RawHit, dimensions: usize) -> Result<Option<(Listed, Version)>, Error> {
    let Some(version) = hit.version().filter(|_| hit.source.is_some()) else { return Ok(None) };
    Ok(Some((listed(hit, dimensions)?, version)))
}
