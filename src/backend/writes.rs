//! Changes of documents: commits, removals, updates.
//!
//! Invariant: a change that has begun is finished when its caller leaves.

use std::sync::Arc;

use super::collection::Collection;
use super::error::{Error, NotStored};
use crate::collection::{DocId, Document, Filter, Patch, TooManyFields, Updated};
use crate::compute::stop::Stop;
use crate::compute::{Pool, SHORT, WhenFull};
use crate::opensearch;

/// The documents that an update is for.
#[derive(Debug)]
pub enum Chosen {
    /// Those with these ids, each of them once.
    Ids(Vec<DocId>),
    /// Those that match.
    Matching(Filter),
}

/// An update whose documents are found.
#[derive(Debug, Clone)]
pub struct Update {
    /// The ids of the documents, each of them once.
    pub ids: Arc<Vec<DocId>>,
    /// The filter that chose the ids: a document that it does not match any more stays as it is.
    pub only: Option<Arc<Filter>>,
    /// The change.
    pub patch: Arc<Patch>,
}

impl Collection {
    /// Stores documents and makes them searchable. Those that are not stored are returned, in the order of their
    /// positions. A failure means that none are known to be stored. If an id exists or comes twice, the later document
    /// replaces the earlier.
    pub async fn commit(&self, storage: &Pool, documents: Vec<Document>) -> Result<Vec<NotStored>, Error> {
        match self {
            Self::Local(local) => {
                let of_commit = Arc::clone(local);
                let stored = storage.run(WhenFull::Wait, SHORT, move |_| of_commit.commit(documents)).await?;
                let refused = stored.map_err(Error::of_commit(local.name()))?;
                let not_stored = |error: TooManyFields| NotStored { position: error.position, reason: error.into() };
                Ok(refused.into_iter().map(not_stored).collect())
            }
            Self::OpenSearch(remote) => {
                let of_engine = Error::of_engine(remote.name());
                let refused = Box::pin(remote.commit(documents)).await.map_err(&of_engine)?;
                let not_stored =
                    |opensearch::NotStored { position, reason }| NotStored { position, reason: of_engine(reason) };
                Ok(refused.into_iter().map(not_stored).collect())
            }
        }
    }

    /// Removes documents, and makes something of all ids and of those that existed, which are in order.
    pub async fn remove<T: Send + 'static>(
        &self,
        storage: &Pool,
        ids: Vec<DocId>,
        then: impl FnOnce(Vec<DocId>, Vec<DocId>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let remove = move |_: &Stop| {
                    let removed = local.remove(&ids).map_err(Error::of_commit(local.name()))?;
                    Ok(then(ids, removed))
                };
                storage.run(WhenFull::Wait, SHORT, remove).await?
            }
            Self::OpenSearch(remote) => {
                let removed = Box::pin(remote.remove(ids.clone())).await.map_err(Error::of_engine(remote.name()))?;
                Ok(storage.run(WhenFull::Wait, SHORT, move |_| then(ids, removed)).await?)
            }
        }
    }

    /// Removes the documents that match, and returns their number.
    pub async fn remove_matching(&self, storage: &Pool, filter: Filter) -> Result<usize, Error> {
        match self {
            Self::Local(local) => {
                let of_commit = Arc::clone(local);
                let remove = move |stop: &Stop| of_commit.remove_matching(filter, stop);
                let removed = storage.run(WhenFull::Wait, SHORT, remove).await?;
                Ok(removed.map_err(Error::of_commit(local.name()))?.len())
            }
            Self::OpenSearch(remote) => {
                Box::pin(remote.remove_matching(filter)).await.map_err(Error::of_engine(remote.name()))
            }
        }
    }

    /// Finds the documents of an update.
    pub async fn choose<E: From<Error> + Send + 'static>(
        &self,
        pool: &Pool,
        when_full: WhenFull,
        question: impl FnOnce() -> Result<(Chosen, Patch), E> + Send + 'static,
    ) -> Result<Update, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let choose = move |stop: &Stop| {
                    let (chosen, patch) = question()?;
                    let (ids, only) = match chosen {
                        Chosen::Ids(ids) => (ids, None),
                        Chosen::Matching(filter) => {
                            (local.matching_ids(&filter, stop).map_err(Error::Stopped)?, Some(Arc::new(filter)))
                        }
                    };
                    Ok(Update { ids: Arc::new(ids), only, patch: Arc::new(patch) })
                };
                pool.run(when_full, SHORT, choose).await.map_err(Error::Refused)?
            }
            Self::OpenSearch(remote) => {
                Box::pin(async move {
                    let (chosen, patch) =
                        pool.run(when_full, SHORT, move |_| question()).await.map_err(Error::Refused)??;
                    let (ids, only) = match chosen {
                        Chosen::Ids(ids) => (ids, None),
                        Chosen::Matching(filter) => {
                            let ids = remote.matching_ids(&filter).await.map_err(Error::of_engine(remote.name()))?;
                            (ids, Some(Arc::new(filter)))
                        }
                    };
                    Ok(Update { ids: Arc::new(ids), only, patch: Arc::new(patch) })
                })
                .await
            }
        }
    }

    /// Updates documents from the id at `first` on, as many as one commit takes, at least one.
    pub async fn update(&self, storage: &Pool, update: &Update, first: usize) -> Result<Updated, Error> {
        match self {
            Self::Local(local) => {
                let (of_commit, Update { ids, only, patch }) = (Arc::clone(local), update.clone());
                let commit = move |_: &Stop| of_commit.update(&ids[first..], &patch, only.as_ref());
                let updated = storage.run(WhenFull::Wait, SHORT, commit).await?;
                updated.map_err(Error::of_commit(local.name()))
            }
            Self::OpenSearch(remote) => {
                let updated = remote.update(&update.ids[first..], &update.patch, update.only.as_ref());
                Box::pin(updated).await.map_err(Error::of_engine(remote.name()))
            }
        }
    }
}
