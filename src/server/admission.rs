//! Admission control: limits the concurrent calls of a kind, in total and from one connection. A stopping server admits
//! no more.
//!
//! Invariant: at most `limit` calls of a kind are in progress. A connection with many calls leaves the last permits to
//! connections with few, if there are others. A connection that is alone may take all permits. When another one comes,
//! some of its calls are asked to end: only calls that wait for their client, never calls that compute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::progress::Progress;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// Time that a call must have waited for its client before it is asked to give up its permit. People and slow networks
/// pause for less.
const YIELD_AFTER: Duration = Duration::from_secs(10);
/// Shortest interval between two such requests.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// The name of the service's own calls, which `max_calls` limits.
pub const CALLS: &str = "calls";

/// The limits of concurrent calls of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The name of the calls, in the plural, for messages.
    pub calls: &'static str,
    /// Calls of all connections.
    pub limit: usize,
    /// Calls of one connection at most. A limiter from [`CallLimiter::shared`] has no fixed limit here.
    pub per_connection: usize,
}

/// Limits the concurrent calls of a kind.
#[derive(Debug)]
pub struct CallLimiter {
    bounds: Bounds,
    /// The last permits, which are reserved for connections with few calls: see [`CallLimiter::shared`].
    reserve: usize,
    few: usize,
    /// See [`YIELD_AFTER`].
    yield_after: Duration,
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    taken: usize,
    next_call: u64,
    by_connection: HashMap<u64, HashMap<u64, Arc<Progress>>>,
    last_asked: Option<Instant>,
}

/// The permit of a call in progress. Dropping it frees the permit.
#[derive(Debug)]
pub struct CallPermit {
    limiter: Arc<CallLimiter>,
    connection: u64,
    call: u64,
    /// The progress of the call.
    pub progress: Arc<Progress>,
}

impl CallLimiter {
    /// A limiter with a fixed limit for each connection.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, reserve: 0, few: 0, yield_after: YIELD_AFTER, state: Mutex::default(), left: Notify::new() }
    }

    /// A limiter for `limit` `calls`. A connection that has a sixteenth of them leaves the last quarter to others, if
    /// another connection has a call in progress.
    pub fn shared(calls: &'static str, limit: usize) -> Self {
        let bounds = Bounds { calls, limit: limit.max(1), per_connection: usize::MAX };
        Self { reserve: limit / 4, few: (limit / 16).max(1), ..Self::new(bounds) }
    }

    /// Calls in progress.
    pub fn calls(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken
    }

    /// Admits no more calls.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Waits for the last call to end.
    pub async fn drained(&self) {
        loop {
            let left = self.left.notified();
            if self.calls() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Admits a call of `connection`.
    pub fn admit(self: &Arc<Self>, connection: u64) -> Result<CallPermit, Failure> {
        let Bounds { calls, limit, per_connection } = self.bounds;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Failure::Transport(Refusal::Stopping));
        }
        let free = limit - state.taken;
        let of_connection = state.by_connection.get(&connection).map_or(0, HashMap::len);
        if free == 0 {
            if of_connection < self.few {
                self.ask_to_yield(&mut state);
            }
            return Err(self.full());
        }
        let others = state.by_connection.len() > usize::from(of_connection > 0);
        let at_its_share = others && of_connection >= self.few && free <= self.reserve;
        if at_its_share || of_connection >= per_connection {
            let in_progress = state.taken;
            return Err(Failure::Transport(Refusal::ConnectionHasMany { calls, of_connection, in_progress, limit }));
        }
        state.taken += 1;
        state.next_call += 1;
        let (call, progress) = (state.next_call, Arc::new(Progress::new()));
        state.by_connection.entry(connection).or_default().insert(call, Arc::clone(&progress));
        Ok(CallPermit { limiter: Arc::clone(self), connection, call, progress })
    }

    /// Asks calls of the connection that has the most to end: those that have waited longest for their client. Asks as
    /// many as are reserved for connections with few.
    fn ask_to_yield(&self, state: &mut State) {
        if state.last_asked.is_some_and(|last| last.elapsed() < ASK_INTERVAL) {
            return;
        }
        state.last_asked = Some(Instant::now());
        let Some(calls) = state.by_connection.values().max_by_key(|calls| calls.len()) else { return };
        if calls.len() <= self.few {
            return;
        }
        let mut waiting: Vec<_> = calls.values().map(|call| (call.waited(), call)).collect();
        waiting.retain(|(waited, _)| *waited >= self.yield_after);
        waiting.sort_by_key(|(waited, _)| std::cmp::Reverse(*waited));
        for (_, call) in waiting.iter().take(self.reserve.max(1)) {
            call.ask_to_yield();
        }
    }

    fn full(&self) -> Failure {
        let Bounds { calls, limit, .. } = self.bounds;
        // Only the service's own calls are limited by a setting.
        if calls == CALLS {
            Failure::TooManyCalls(limit)
        } else {
            Failure::Transport(Refusal::TooMany { calls, limit })
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.taken -= 1;
        if let Some(calls) = state.by_connection.get_mut(&self.connection) {
            calls.remove(&self.call);
            if calls.is_empty() {
                state.by_connection.remove(&self.connection);
            }
        }
        if state.taken == 0 {
            self.limiter.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn shared(limit: usize) -> Arc<CallLimiter> {
        Arc::new(CallLimiter::shared(CALLS, limit))
    }

    /// All permits that the connection gets.
    fn all_of(limiter: &Arc<CallLimiter>, connection: u64) -> Vec<CallPermit> {
        std::iter::from_fn(|| limiter.admit(connection).ok()).collect()
    }

    #[test]
    fn a_connection_that_is_alone_may_take_all_permits() {
        let limiter = shared(32);
        let permits = all_of(&limiter, 1);
        assert_eq!(permits.len(), 32);
        assert_eq!(limiter.admit(1).unwrap_err(), Failure::TooManyCalls(32));
        assert_eq!(limiter.admit(2).unwrap_err(), Failure::TooManyCalls(32));
    }

    #[test]
    fn two_connections_that_take_all_they_can_do_not_lock_out_a_third() {
        let limiter = shared(256);
        // HTTP/2 lets a connection have 128 streams.
        let first: Vec<_> = (0..128).map(|_| limiter.admit(1).unwrap()).collect();
        let second = all_of(&limiter, 2);
        assert_eq!((first.len(), second.len()), (128, 64));
        assert_eq!(all_of(&limiter, 3).len(), 16);
        drop(first);
        assert_eq!(limiter.calls(), 64);
    }

    #[test]
    fn a_connection_gets_a_part_of_a_small_limit() {
        let limiter = Arc::new(CallLimiter::new(Bounds { calls: "health watches", limit: 10, per_connection: 4 }));
        let permits = all_of(&limiter, 1);
        assert_eq!(permits.len(), 4);
        assert!(matches!(
            limiter.admit(1),
            Err(Failure::Transport(Refusal::ConnectionHasMany { of_connection: 4, .. }))
        ));
        let others: Vec<_> = (2..).map_while(|connection| limiter.admit(connection).ok()).collect();
        assert_eq!(others.len(), 6);
        assert!(matches!(limiter.admit(99), Err(Failure::Transport(Refusal::TooMany { limit: 10, .. }))));
    }

    #[test]
    fn calls_that_wait_for_their_client_yield_to_another_connection_and_computing_calls_do_not() {
        let yield_after = ASK_INTERVAL * 2;
        let limiter = Arc::new(CallLimiter { yield_after, ..CallLimiter::shared(CALLS, 8) });
        let permits = all_of(&limiter, 1);
        let asked =
            || permits.iter().filter(|permit| permit.progress.asked_to_yield().now_or_never().is_some()).count();
        assert!(limiter.admit(2).is_err());
        assert_eq!(asked(), 0, "as long as all compute");
        permits[..5].iter().for_each(|permit| permit.progress.waits());
        std::thread::sleep(yield_after);
        assert!(limiter.admit(1).is_err());
        assert_eq!(asked(), 0, "for its own connection");
        assert!(limiter.admit(2).is_err());
        assert_eq!(asked(), 2, "a quarter");
        assert!(permits[5..].iter().all(|permit| permit.progress.waited().is_zero()));
    }

    #[tokio::test]
    async fn a_closed_limiter_admits_no_call_and_drains_when_the_last_has_ended() {
        let limiter = shared(2);
        let first = limiter.admit(1).unwrap();
        let second = limiter.admit(1).unwrap();
        drop(second);
        limiter.close();
        assert_eq!(limiter.admit(1).unwrap_err(), Failure::Transport(Refusal::Stopping));
        let mut drained = std::pin::pin!(limiter.drained());
        assert!(futures::poll!(&mut drained).is_pending());
        drop(first);
        drained.await;
    }
}
