//! Exports: the documents of a collection as of one moment, in parts.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use super::collection::Collection;
use super::error::Error;
use crate::collection::{self, Filter, Listed};
use crate::compute::stop::Stop;
use crate::compute::{Pool, SHORT, WhenFull};
use crate::opensearch;

/// The documents of a collection as of one moment, in id order. Dropping it may take a while.
pub struct Export {
    total: u64,
    fetched: Peekable<Documents>,
    /// The documents that are not fetched yet, with the name of their collection; `None` at the end.
    rest: Option<(Box<opensearch::Export>, String)>,
}

/// Documents that are in this process.
enum Documents {
    Local(Box<collection::Export>),
    Page(vec::IntoIter<Listed>),
}

impl Iterator for Documents {
    type Item = Result<Listed, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Local(left) => left.next().map(|read| read.map_err(Error::from)),
            Self::Page(left) => left.next().map(Ok),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Local(left) => left.size_hint(),
            Self::Page(left) => left.size_hint(),
        }
    }
}

impl Export {
    fn new(total: usize, fetched: Documents) -> Self {
        Self { total: total as u64, fetched: fetched.peekable(), rest: None }
    }

    /// An export of these documents.
    #[cfg(test)]
    pub fn of(documents: Vec<Listed>) -> Self {
        Self::new(documents.len(), Documents::Page(documents.into_iter()))
    }

    /// Number of all documents, those that were returned included.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Fetches the next documents when all before them were read. An export that has none then is at its end.
    pub async fn fetch(&mut self) -> Result<(), Error> {
        if self.is_read()
            && let Some((rest, name)) = &mut self.rest
        {
            let page = Box::pin(rest.page()).await.map_err(Error::of_engine(name))?;
            if page.is_empty() {
                self.rest = None;
            }
            self.fetched = Documents::Page(page.into_iter()).peekable();
        }
        Ok(())
    }

    /// True if no document that was fetched is left.
    pub fn is_read(&self) -> bool {
        self.fetched.size_hint().0 == 0
    }

    /// The next document of those that were fetched. Blocks while its text is read.
    pub fn peek(&mut self) -> Result<Option<&Listed>, Error> {
        self.fetched.peek().map(|read| read.as_ref().map_err(Error::clone)).transpose()
    }

    /// Goes on to the document after it.
    pub fn pass(&mut self) {
        self.fetched.next();
    }
}

impl Collection {
    /// The documents that match the filter of the question, or all, as they are now.
    pub async fn export<E: From<Error> + Send + 'static>(
        &self,
        pool: &Pool,
        question: impl FnOnce() -> Result<Option<Filter>, E> + Send + 'static,
    ) -> Result<Export, E> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                let take = move |stop: &Stop| {
                    let filter = question()?;
                    let taken = local.export(filter.as_ref(), stop).map_err(Error::Export)?;
                    Ok(Export::new(taken.len(), Documents::Local(Box::new(taken))))
                };
                pool.run(WhenFull::Wait, SHORT, take).await.map_err(Error::Refused)?
            }
            Self::OpenSearch(remote) => {
                Box::pin(async move {
                    let filter =
                        pool.run(WhenFull::Wait, SHORT, move |_| question()).await.map_err(Error::Refused)??;
                    let rest = remote.export(filter.as_ref()).await.map_err(Error::of_engine(remote.name()))?;
                    let (total, fetched) = (rest.total(), Documents::Page(Vec::new().into_iter()).peekable());
                    Ok(Export { total, fetched, rest: Some((Box::new(rest), remote.name().to_owned())) })
                })
                .await
            }
        }
    }
}
