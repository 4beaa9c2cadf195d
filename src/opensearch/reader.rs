//! Documents by their ids, in pages, and their number.
//!
//! Invariant: an answer that is too large to be read is asked for in parts, down to single documents.

use super::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{GetAnswer, RawHit, SearchAnswer};
use super::collection::Collection;
use super::document::{Source, Version};
use super::error::{Error, Unavailable};
use super::http::{self, Request};
use super::mapping::ID;
use super::query::chosen;
use crate::collection::{DocId, Filter, Listed};

/// Documents of one request.
pub(super) const PAGE: usize = 1_000;

/// Documents on a page without their content.
pub(super) const MATCHING_PAGE: usize = if cfg!(test) { 7 } else { 10_000 };

/// Times that a page is asked for again because documents are missing on it.
const ATTEMPTS: usize = 4;

/// The path of a search of an index.
const SEARCH: &str = "_search?allow_partial_search_results=false";

/// A page to ask for, in the order of the ids.
pub(super) struct Wanted<'w> {
    pub path: String,
    /// The query, and what else is to be known of a document.
    pub body: Value,
    /// The id before the page.
    pub after: Option<&'w DocId>,
    /// Documents at most. They are fewer if they are too large for an answer.
    pub size: usize,
    /// The number of documents that match behind `after`, if it is known.
    pub left: Option<u64>,
}

/// A page of documents, and how it was found.
pub(super) struct Page<T> {
    pub documents: Vec<T>,
    /// The size at which it fitted.
    pub size: usize,
    /// The number of documents that match; 0 on pages after the first, where it is not known.
    pub total: u64,
    /// The name of the point in time, which may change.
    pub point: Option<String>,
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
            let Some(hits) = self.engine.ask_for_items(&request, GetAnswer::checked).await? else {
                at_once = halved(some.len())?;
                continue;
            };
            if hits.len() != some.len() {
                return Err(Error::unexpected(format!("{} answers to {} ids", hits.len(), some.len())));
            }
            let dimensions = self.meta.dimensions;
            let read = move || hits.into_iter().map(|hit| versioned(hit, dimensions)).collect();
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
            let after = listed.last().map(|last: &Listed| &last.id).or(after);
            let (path, body) = (self.path(SEARCH), json!({ "query": chosen(filter) }));
            let wanted = size.min(limit - listed.len());
            let page = self.page(Wanted { path, body, after, size: wanted, left: None }).await?;
            let of_content = |one: &Listed| {
                one.text.len() + one.kept.metadata.as_ref().map_or(0, |metadata| metadata.as_json().len())
            };
            bytes += page.documents.iter().map(of_content).sum::<usize>();
            let is_last = page.documents.len() < page.size;
            listed.extend(page.documents);
            if is_last {
                break;
            }
            size = size.min(page.size);
        }
        Ok(listed)
    }

    /// Asks for a page, and for a smaller one if it is too large.
    pub(super) async fn page(&self, wanted: Wanted<'_>) -> Result<Page<Listed>, Error> {
        let Page { documents: hits, size, total, point } = self.page_of_hits(wanted).await?;
        let dimensions = self.meta.dimensions;
        let read = move || hits.into_iter().map(|hit| listed(hit, dimensions)).collect::<Result<Vec<_>, Error>>();
        Ok(Page { documents: self.engine.compute(read).await??, size, total, point })
    }

    /// Does so for hits as they come.
    ///
    /// A node that gives up a copy of a shard while it is asked may leave out documents that it has found. So a page
    /// with fewer documents than wanted is compared with their number, or asked for once more where this is not known.
    async fn page_of_hits(&self, wanted: Wanted<'_>) -> Result<Page<RawHit>, Error> {
        let Wanted { path, mut body, after, mut size, left } = wanted;
        body["sort"] = json!([{ ID: "asc" }]);
        if let Some(after) = after {
            body["search_after"] = json!([after.as_str()]);
        }
        let counts_all = body["track_total_hits"] == true;
        let (mut before, mut attempt) = (None, 0);
        loop {
            body["size"] = size.into();
            if !counts_all {
                body["track_total_hits"] = after.map_or_else(|| size.into(), |_| false.into());
            }
            let request = Request { method: Method::Post, path: path.clone(), body: Bytes::from(body.to_string()) };
            let Some(answer) = self.engine.ask_if_it_fits::<SearchAnswer>(&request).await? else {
                size = halved(size)?;
                continue;
            };
            let total = answer.total().unwrap_or_default();
            let (hits, point) = (answer.hits.hits, answer.pit_id);
            let is_whole = match left.or(after.is_none().then_some(total)) {
                Some(left) => hits.len() as u64 >= left.min(size as u64),
                None => hits.len() == size || before == Some(hits.len()),
            };
            if is_whole {
                return Ok(Page { documents: hits, size, total, point });
            }
            if attempt == ATTEMPTS {
                return Err(Error::Unavailable(left_out()));
            }
            if left.is_some() || before.is_some() {
                tokio::time::sleep(http::pause(attempt)).await;
            }
            (before, attempt) = (Some(hits.len()), attempt + 1);
        }
    }

    /// The number of documents that match, or of all.
    pub async fn count(&self, filter: Option<&Filter>) -> Result<u64, Error> {
        let body = json!({ "size": 0, "track_total_hits": true, "query": chosen(filter) });
        let answer: SearchAnswer = self.ask(SEARCH, &body).await?;
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
        let of_each = json!({ "query": chosen(Some(filter)), "_source": false, "seq_no_primary_term": true });
        let (path, size) = (self.path(SEARCH), MATCHING_PAGE);
        let page = self.page_of_hits(Wanted { path, body: of_each, after, size, left: None }).await?;
        let named = |hit: RawHit| {
            let version = hit.version().ok_or_else(|| Error::unexpected("a document without a version"))?;
            Ok((DocId::new(&hit.id).ok_or_else(|| Error::unexpected("a document without an id"))?, version))
        };
        page.documents.into_iter().map(named).collect()
    }
}

/// The failure of a node that does not give documents which it has found.
pub(super) fn left_out() -> Unavailable {
    Unavailable::new("a node left out documents that it had found", http::pause(3))
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
