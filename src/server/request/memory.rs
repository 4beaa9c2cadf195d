//! The memory that requests hold while they arrive.
//!
//! A message is held in pieces until it is whole. Then tonic reserves memory for the whole message, and keeps it for
//! the rest of the stream. Budgets that all requests share pay for both.
//!
//! Invariants: no part of a message above [`FREE`] bytes is kept before the budgets have granted its bytes. No request
//! waits for a budget longer than [`WAIT_LIMIT`]. Decoded messages and answers hold their memory elsewhere
//! ([`crate::rpc`]).

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::budget::{ByteBudget, Held};
use crate::rpc::refusal::Refusal;

/// Messages up to this size take none of the budget. The 4,096 requests that may arrive at a time take at most 64 MiB
/// of them.
pub const FREE: usize = 16 * 1024;
/// Time that a message waits for memory.
const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// The memory that all requests may hold while they arrive. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory {
    all: ByteBudget,
    /// The part of `all` that requests may hold, so that incomplete messages never block answers.
    requests: ByteBudget,
    /// One permit for each message that may be unpacked at a time; each takes a thread of its own.
    pub unpacking: Arc<Semaphore>,
}

impl Memory {
    /// Gives requests half of `budget`. They get more of a small one, so that a stream can have one compressed message
    /// after another.
    pub fn new(budget: &ByteBudget, max_message_bytes: usize) -> Self {
        let least = max_message_bytes.saturating_mul(3).min(budget.total());
        let requests = ByteBudget::new((budget.total() / 2).max(least));
        Self { all: budget.clone(), requests, unpacking: Arc::new(Semaphore::new(2)) }
    }

    /// The memory for answers: all of it, because incomplete messages never hold more than their part.
    pub fn of_answers(&self) -> ByteBudget {
        self.all.clone()
    }

    /// The part that one connection may hold: an eighth of the memory for requests, and at least two messages.
    pub fn of_connection(&self, max_message_bytes: usize) -> ByteBudget {
        ByteBudget::new((self.requests.total() / 8).max(max_message_bytes.saturating_mul(2)))
    }

    /// Holds `bytes` of each budget. `None` if they are not free within [`WAIT_LIMIT`], or if a budget is smaller.
    pub fn hold(&self, connection: Option<&ByteBudget>, bytes: usize) -> BoxFuture<'static, Option<Share>> {
        let (requests, all, connection) = (self.requests.clone(), self.all.clone(), connection.cloned());
        let share = async move {
            // The smallest budget comes first: a request that waits for it holds nothing of a larger one that others
            // need.
            let connection = match connection {
                Some(connection) => Some(connection.hold(bytes).await?),
                None => None,
            };
            Some(Share { connection, requests: requests.hold(bytes).await?, all: all.hold(bytes).await? })
        };
        Box::pin(async move { tokio::time::timeout(WAIT_LIMIT, share).await.ok().flatten() })
    }
}

/// Bytes that are held in each budget, in all the same number. Dropping it returns them.
#[derive(Debug)]
pub struct Share {
    connection: Option<Held>,
    requests: Held,
    all: Held,
}

impl Share {
    fn bytes(&self) -> usize {
        self.all.bytes()
    }

    fn merge(&mut self, other: Share) {
        match (&mut self.connection, other.connection) {
            (Some(mine), Some(more)) => mine.merge(more),
            (mine @ None, more) => *mine = more,
            (Some(_), None) => {}
        }
        self.requests.merge(other.requests);
        self.all.merge(other.all);
    }

    /// Gives back all except `bytes` of each budget.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(connection) = &mut self.connection {
            connection.shrink_to(bytes);
        }
        self.requests.shrink_to(bytes);
        self.all.shrink_to(bytes);
    }
}

/// The memory that one request holds.
pub struct Account {
    memory: Memory,
    of_connection: ByteBudget,
    /// Bytes of the largest message so far, for which tonic keeps memory.
    kept: usize,
    share: Option<Share>,
    waiting: Option<BoxFuture<'static, Option<Share>>>,
}

impl Account {
    /// The account of a request that holds nothing yet, on a connection that may hold `of_connection`.
    pub fn new(memory: Memory, of_connection: ByteBudget) -> Self {
        Self { memory, of_connection, kept: 0, share: None, waiting: None }
    }

    /// The memory of all requests.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Ready when the budget pays for the first `arrived` bytes of a message of `length` bytes, in addition to the
    /// memory that tonic keeps. Takes more than needed, up to the whole message, so that it asks rarely.
    pub fn poll_hold(&mut self, cx: &mut Context<'_>, arrived: usize, length: usize) -> Poll<Result<(), Refusal>> {
        if length <= FREE {
            return Poll::Ready(Ok(()));
        }
        let (needed, most) = (self.kept + arrived, self.kept + length);
        let held = self.share.as_ref().map_or(0, Share::bytes);
        if held >= needed {
            return Poll::Ready(Ok(()));
        }
        let (memory, of_connection) = (&self.memory, &self.of_connection);
        let waiting =
            self.waiting.get_or_insert_with(|| memory.hold(Some(of_connection), (held * 2).clamp(needed, most) - held));
        let share = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        let Some(share) = share else {
            return Poll::Ready(Err(Refusal::NoMemory { bytes: most }));
        };
        self.add(share);
        Poll::Ready(Ok(()))
    }

    /// Adds memory that is already held for a message of this request.
    pub fn add(&mut self, more: Share) {
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
    }

    /// Ends a message of `length` bytes: gives back all except the memory that tonic keeps.
    pub fn settle(&mut self, length: usize) {
        if length > FREE {
            self.kept = self.kept.max(length);
        }
        if let Some(share) = &mut self.share {
            share.shrink_to(self.kept);
        }
    }
}
