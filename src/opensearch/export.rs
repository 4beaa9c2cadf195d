//! Exports: the state of a collection at one moment, which the engine keeps as a point in time.

use std::sync::Arc;
use std::time::Duration;

use super::http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::collection::Collection;
use super::engine::Engine;
use super::error::Error;
use super::query::chosen;
use super::reader::{PAGE, Page, Wanted};
use crate::collection::{DocId, Filter, Listed};

/// Points in time that are open at one time. A node of the engine has 300, which other servers use too.
pub(super) const MOST_OPEN: usize = 64;

/// Time for which the engine keeps a point in time after a page.
const KEEP_ALIVE: &str = "5m";

/// The most time to close a point in time.
const CLOSING: Duration = Duration::from_secs(5);

/// A point in time. Dropping it tells the engine to forget it.
pub(super) struct Point {
    engine: Arc<Engine>,
    pub id: String,
    _permit: OwnedSemaphorePermit,
}

#[derive(Deserialize)]
struct Opened {
    pit_id: String,
}

impl Collection {
    /// Takes a point in time.
    pub(super) async fn point(&self) -> Result<Point, Error> {
        let permit = Arc::clone(&self.shared.exports).try_acquire_owned();
        let permit = permit.map_err(|_| Error::TooManyExports { most: MOST_OPEN })?;
        let path = self.path(&format!("_search/point_in_time?keep_alive={KEEP_ALIVE}"));
        let Opened { pit_id } = self.engine.ask(Method::Post, path, None).await?;
        Ok(Point { engine: Arc::clone(&self.engine), id: pit_id, _permit: permit })
    }

    /// The documents that match, or all of them, as they are now.
    pub async fn export(self: &Arc<Self>, filter: Option<&Filter>) -> Result<Export, Error> {
        let point = self.point().await?;
        let query = chosen(filter);
        let collection = Arc::clone(self);
        let mut export = Export { collection, point, query, last: None, size: PAGE, total: 0, left: 0, first: None };
        let first = export.next().await?;
        (export.total, export.left) = (first.total, first.total);
        export.first = Some(first);
        Ok(export)
    }
}

impl Point {
    /// The point in a request.
    pub fn body(&self) -> serde_json::Value {
        json!({ "id": self.id, "keep_alive": KEEP_ALIVE })
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (engine, id) = (Arc::clone(&self.engine), std::mem::take(&mut self.id));
        runtime.spawn(async move {
            let body = json!({ "pit_id": [id] });
            let path = "/_search/point_in_time".to_owned();
            let closing = engine.ask::<serde_json::Value>(Method::Delete, path, Some(&body));
            // One that is not closed ends by itself.
            let _ = tokio::time::timeout(CLOSING, closing).await;
        });
    }
}

/// The documents of a collection at one moment, page by page.
pub struct Export {
    collection: Arc<Collection>,
    point: Point,
    query: serde_json::Value,
    last: Option<DocId>,
    /// Documents of the next page.
    size: usize,
    total: u64,
    /// Documents that no page had yet.
    left: u64,
    /// The first page, until it is asked for.
    first: Option<Page<Listed>>,
}

impl Export {
    /// The number of documents of all pages.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next documents in the order of their ids; none at the end.
    pub async fn page(&mut self) -> Result<Vec<Listed>, Error> {
        let page = match self.first.take() {
            Some(first) => first,
            None if self.left == 0 => return Ok(Vec::new()),
            None => self.next().await?,
        };
        self.left = self.left.saturating_sub(page.documents.len() as u64);
        if let Some(last) = page.documents.last() {
            self.last = Some(last.id.clone());
        }
        Ok(page.documents)
    }

    async fn next(&mut self) -> Result<Page<Listed>, Error> {
        let (after, size) = (self.last.as_ref(), self.size);
        let body = json!({ "query": self.query, "pit": self.point.body(), "track_total_hits": after.is_none() });
        let path = "/_search?allow_partial_search_results=false".to_owned();
        let left = after.map(|_| self.left);
        let page = self.collection.page(Wanted { path, body, after, size, left }).await?;
        self.size = page.size;
        if let Some(id) = &page.point {
            self.point.id.clone_from(id);
        }
        Ok(page)
    }
}
