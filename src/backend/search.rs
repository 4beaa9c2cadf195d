//! Searches: all queries of a call.

use std::sync::Arc;
use std::time::Duration;

use super::collection::Collection;
use super::error::Error;
use crate::collection::{Asked, Chosen, Hit, Search};
use crate::compute::stop::Stop;
use crate::compute::{Pools, SHORT, WhenFull};
use crate::kernel::embedding::Embedding;
use crate::opensearch;

/// A query.
#[derive(Debug, Clone)]
pub struct Query {
    /// Its vectors: one, or one for each passage of a document; none if words are searched alone.
    pub vectors: Vec<Embedding>,
    /// Its words, if the mode searches words.
    pub words: String,
}

impl Query {
    fn asked(&self) -> Asked<'_> {
        Asked { vectors: &self.vectors, words: &self.words }
    }
}

/// The queries of a call.
pub struct Searches<E> {
    /// Each query, or the reason why it is wrong.
    pub queries: Vec<Result<Query, E>>,
    /// The parameters of all of them.
    pub search: Arc<Search>,
    /// The expected time of one query, in this process.
    pub cost: Duration,
    /// The choice when the pool is full.
    pub when_full: WhenFull,
}

impl Collection {
    /// Searches for each query, and makes something of its hits, or of its failure, with `each`, at once and not on an
    /// async thread. The results are in the order of the queries. The first failure of `each` fails the call.
    pub async fn search<T, E>(
        &self,
        pools: &Pools,
        searches: Searches<E>,
        each: impl Fn(Result<Vec<Hit>, E>) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Vec<T>, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match self {
            Self::Local(local) => {
                let Searches { queries, search, cost, when_full } = searches;
                let (local, chosen) = (Arc::clone(local), Chosen::default());
                let find = move |query: Result<Query, E>, stop: &Stop| {
                    each(match query {
                        Ok(query) => {
                            let found = local.search_in_call(query.asked(), &search, &chosen, stop);
                            Ok(found.map_err(Error::from)?)
                        }
                        Err(wrong) => Err(wrong),
                    })
                };
                let found = pools.search.run_each(when_full, cost, queries, find).await.map_err(Error::Refused)?;
                found.into_iter().collect()
            }
            // Boxed, as all that waits for an engine: calls of the local store carry a pointer.
            Self::OpenSearch(remote) => Box::pin(ask(remote, pools, searches, each)).await,
        }
    }
}

/// Asks the engine for the hits of all queries that are not wrong.
async fn ask<T, E>(
    remote: &Arc<opensearch::Collection>,
    pools: &Pools,
    Searches { queries, search, when_full, .. }: Searches<E>,
    each: impl Fn(Result<Vec<Hit>, E>) -> Result<T, E> + Send + Sync + 'static,
) -> Result<Vec<T>, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let asked: Vec<Asked<'_>> = queries.iter().flatten().map(Query::asked).collect();
    let found = match asked.is_empty() {
        true => Vec::new(),
        false => remote.search(&asked, &search).await.map_err(Error::of_engine(remote.name()))?,
    };
    let mut found = found.into_iter();
    let results: Vec<Result<Vec<Hit>, E>> =
        queries.into_iter().map(|query| query.map(|_| found.next().unwrap_or_default())).collect();
    let done = move |_: &Stop| results.into_iter().map(each).collect();
    pools.search.run(when_full, SHORT, done).await.map_err(Error::Refused)?
}
