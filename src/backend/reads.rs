//! Documents by id, in pages, counted, and by the values of their fields.

use std::sync::Arc;

use super::collection::Collection;
use super::error::Error;
use crate::collection::{DocId, FacetError, FacetQuery, Facets, Filter, Listed, PageSize, StoredVectors};
use crate::compute::stop::Stop;
use crate::compute::{Place, Pool, SHORT, WhenFull};
use crate::opensearch;

/// A page of documents to be listed.
#[derive(Debug, Clone)]
pub struct Page {
    /// Condition on the documents; `None`: all.
    pub filter: Option<Filter>,
    /// The id after which the page begins; `None`: at the first.
    pub after: Option<DocId>,
    /// Documents on it at most.
    pub limit: usize,
    /// Bytes of their contents from which on a store may end the page early, if it has to fetch them.
    pub most_bytes: usize,
}

impl Collection {
    /// True if to return documents may block, so that a pool has to do it.
    pub fn reads_texts(&self) -> bool {
        matches!(self, Self::Local(local) if local.reads_texts())
    }

    /// Finds the documents with the ids of the question, and makes something of them: they are in the order of the ids.
    /// Texts that have to be read may have `most_bytes` together.
    pub async fn get<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        (place, most_bytes): (Place<'_>, usize),
        question: impl FnOnce() -> Result<Vec<DocId>, E> + Send + 'static,
        then: impl FnOnce(Vec<DocId>, Vec<Option<Listed>>) -> T + Send + 'static,
    ) -> Result<T, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let find = move || {
                    let ids = question()?;
                    let found = local.get_all(&ids, most_bytes).map_err(Error::from)?;
                    Ok(then(ids, found))
                };
                place.run(find).await.map_err(Error::Refused)?
            }
            Self::OpenSearch(remote) => {
                Box::pin(async move {
                    let ids = place.run(question).await.map_err(Error::Refused)??;
                    let found = remote.get(&ids).await.map_err(Error::of_engine(remote.name()))?;
                    Ok(place.run(move || then(ids, found)).await.map_err(Error::Refused)?)
                })
                .await
            }
        }
    }

    /// Finds the vectors of a few documents, in the order of their ids.
    pub async fn vectors(&self, ids: &[DocId]) -> Result<Vec<Option<StoredVectors>>, Error> {
        match self {
            Self::Local(local) => Ok(ids.iter().map(|id| local.vectors(id)).collect()),
            Self::OpenSearch(remote) => {
                let found = Box::pin(remote.get(ids)).await.map_err(Error::of_engine(remote.name()))?;
                Ok(found.into_iter().map(|listed| Some(listed?.vectors)).collect())
            }
        }
    }

    /// Finds the text of a document.
    pub async fn text(&self, pool: &Pool, when_full: WhenFull, id: DocId) -> Result<Option<Arc<str>>, Error> {
        let text = |listed: Listed| listed.text;
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let found = pool.run(when_full, SHORT, move |_| local.get(&id)).await?;
                Ok(found?.map(text))
            }
            Self::OpenSearch(remote) => {
                let found = Box::pin(remote.get(&[id])).await.map_err(Error::of_engine(remote.name()))?;
                Ok(found.into_iter().flatten().next().map(text))
            }
        }
    }

    /// Lists a page of documents in id order, and makes something of them.
    pub async fn list<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        pool: &Pool,
        when_full: WhenFull,
        page: Page,
        then: impl FnOnce(Vec<Listed>) -> T + Send + 'static,
    ) -> Result<T, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let list = move |stop: &Stop| {
                    let Page { filter, after, limit, most_bytes } = page;
                    let size = PageSize { documents: limit, text_bytes: most_bytes };
                    let listed = local.list(filter.as_ref(), after.as_ref(), size, stop);
                    Ok(then(listed.map_err(Error::from)?))
                };
                pool.run(when_full, SHORT, list).await.map_err(Error::Refused)?
            }
            Self::OpenSearch(remote) => {
                Box::pin(async move {
                    let Page { filter, after, limit, most_bytes } = page;
                    let listed = remote.list(filter.as_ref(), after.as_ref(), limit, most_bytes).await;
                    let listed = listed.map_err(Error::of_engine(remote.name()))?;
                    Ok(pool.run(when_full, SHORT, move |_| then(listed)).await.map_err(Error::Refused)?)
                })
                .await
            }
        }
    }

    /// Counts the documents that match the filter of the question, or all.
    pub async fn count<E: From<Error> + Send + 'static>(
        &self,
        pool: &Pool,
        when_full: WhenFull,
        question: impl FnOnce() -> Result<Option<Filter>, E> + Send + 'static,
    ) -> Result<u64, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let count = move |stop: &Stop| {
                    let filter = question()?;
                    Ok(local.count(filter.as_ref(), stop).map_err(Error::Stopped)?)
                };
                pool.run(when_full, SHORT, count).await.map_err(Error::Refused)?
            }
            Self::OpenSearch(remote) => {
                Box::pin(async move {
                    let filter = pool.run(when_full, SHORT, move |_| question()).await.map_err(Error::Refused)??;
                    Ok(remote.count(filter.as_ref()).await.map_err(Error::of_engine(remote.name()))?)
                })
                .await
            }
        }
    }

    /// Counts the values of the fields of the question, and makes something of them with what came with the question.
    pub async fn facets<Q: Send + 'static, T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        pool: &Pool,
        when_full: WhenFull,
        question: impl FnOnce() -> Result<(Q, FacetQuery), E> + Send + 'static,
        then: impl FnOnce(Q, Facets) -> T + Send + 'static,
    ) -> Result<T, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let count = move |stop: &Stop| {
                    let (with, query) = question()?;
                    let facets = local.facets(&query, stop).map_err(|error| match error {
                        FacetError::TooLarge => Error::TooLarge { limit: query.max_bytes },
                        FacetError::Stopped(stopped) => stopped.into(),
                    })?;
                    Ok(then(with, facets))
                };
                pool.run(when_full, SHORT, count).await.map_err(Error::Refused)?
            }
            Self::OpenSearch(remote) => {
                Box::pin(async move {
                    let (with, query) =
                        pool.run(when_full, SHORT, move |_| question()).await.map_err(Error::Refused)??;
                    let facets = remote.facets(&query).await.map_err(|error| match error {
                        opensearch::Error::TooLarge => Error::TooLarge { limit: query.max_bytes },
                        error => Error::of_engine(remote.name())(error),
                    })?;
                    Ok(pool.run(when_full, SHORT, move |_| then(with, facets)).await.map_err(Error::Refused)?)
                })
                .await
            }
        }
    }
}
