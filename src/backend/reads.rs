//! Documents by id, in pages, counted, and by the values of their fields.

use std::sync::Arc;

use super::collection::Collection;
use super::error::Error;
use crate::collection::{DocId, FacetError, FacetQuery, Facets, Filter, Listed};
use crate::compute::stop::Stop;
use crate::compute::{Place, Pool, SHORT, WhenFull};

/// A page of documents to be listed.
#[derive(Debug, Clone)]
pub struct Page {
    /// Condition on the documents; `None`: all.
    pub filter: Option<Filter>,
    /// The id after which the page begins; `None`: at the first.
    pub after: Option<DocId>,
    /// Documents on it at most.
    pub limit: usize,
}

impl Collection {
    /// Finds the documents with the ids of the question, and makes something of them: they are in the order of the ids.
    pub async fn get<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        place: Place<'_>,
        question: impl FnOnce() -> Result<Vec<DocId>, E> + Send + 'static,
        then: impl FnOnce(Vec<DocId>, Vec<Option<Listed>>) -> T + Send + 'static,
    ) -> Result<T, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let find = move || {
                    let ids = question()?;
                    let found = ids.iter().map(|id| local.get(id)).collect();
                    Ok(then(ids, found))
                };
                place.run(find).await.map_err(Error::Refused)?
            }
        }
    }

    /// Finds a few documents, in the order of their ids.
    pub async fn get_few(&self, ids: &[DocId]) -> Result<Vec<Option<Listed>>, Error> {
        match self {
            Self::Local(local) => Ok(ids.iter().map(|id| local.get(id)).collect()),
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
                    let Page { filter, after, limit } = page;
                    let listed = local.list(filter.as_ref(), after.as_ref(), limit, stop);
                    Ok(then(listed.map_err(Error::Stopped)?))
                };
                pool.run(when_full, SHORT, list).await.map_err(Error::Refused)?
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
        }
    }
}
