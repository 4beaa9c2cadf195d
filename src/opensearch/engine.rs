//! The engine as the other files ask it: requests in, values out, with large answers read in the pools.

use std::time::Duration;

use super::http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::error::{Error, StartError};
use super::http::{self, Answer, Http, Request, Sent};
use super::options::Options;
use crate::compute::{Pools, WhenFull};

/// A larger answer is read in a pool. Smaller ones take less time than waking a thread.
const LARGE: usize = 16 << 10;

/// The expected time to read or write JSON of a few documents; the pools correct it by measurement.
const JSON_COST: Duration = Duration::from_millis(1);

/// Times that items are asked for again because one of them may have an answer at another time.
const ATTEMPTS: usize = 4;

/// Requests in flight that store documents.
const MOST_WRITES: usize = 32;

/// A connection to the engine.
pub(super) struct Engine {
    pub http: Http,
    pub pools: Pools,
    pub options: Options,
    /// Permits of requests that store documents: they wait for a refresh, and must not hold up searches.
    pub writes: Semaphore,
}

impl Engine {
    pub fn new(options: Options, pools: Pools) -> Result<Self, StartError> {
        Ok(Self { http: Http::new(&options)?, pools, options, writes: Semaphore::new(MOST_WRITES) })
    }

    /// Asks for a value of bounded size.
    pub async fn ask<T>(&self, method: Method, path: String, body: Option<&Value>) -> Result<T, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let request = match body {
            Some(body) => Request::new(method, path, body),
            None => Request::bare(method, path),
        };
        match self.http.send(&request).await? {
            Sent::Answer(answer) => self.read(answer).await,
            Sent::TooLarge => Err(Error::unexpected(format!("the answer to {} is too large", request.path))),
        }
    }

    /// Asks for a value; `None`: the answer is too large.
    pub async fn ask_if_it_fits<T>(&self, request: &Request) -> Result<Option<T>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        match self.http.send(request).await? {
            Sent::Answer(answer) => self.read(answer).await.map(Some),
            Sent::TooLarge => Ok(None),
        }
    }

    /// Asks for items, each of which may fail alone. While one may succeed at another time, all are asked for again.
    /// `None`: the answer is too large.
    pub async fn ask_for_items<T, I>(
        &self,
        request: &Request,
        items: impl Fn(T) -> Result<Vec<I>, Error>,
    ) -> Result<Option<Vec<I>>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut attempt = 0;
        loop {
            let Some(answer) = self.ask_if_it_fits::<T>(request).await? else { return Ok(None) };
            match items(answer) {
                Err(Error::Unavailable(_)) if attempt < ATTEMPTS => {
                    tokio::time::sleep(http::pause(attempt)).await;
                    attempt += 1;
                }
                Err(Error::Unavailable(last)) => {
                    self.http.give_up(&last);
                    return Err(Error::Unavailable(last));
                }
                items => return items.map(Some),
            }
        }
    }

    async fn read<T: DeserializeOwned + Send + 'static>(&self, answer: Answer) -> Result<T, Error> {
        if answer.body.len() <= LARGE {
            return parse(&answer);
        }
        self.compute(move || parse(&answer)).await?
    }

    /// Computes in the pool for searches.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        Ok(self.pools.search.run(WhenFull::Wait, JSON_COST, move |_| work()).await?)
    }

    /// Computes in the pool for bulk work.
    pub async fn compute_bulk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        Ok(self.pools.bulk.run(WhenFull::Wait, JSON_COST, move |_| work()).await?)
    }
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body).map_err(|error| Error::unexpected(error.to_string()))
}
