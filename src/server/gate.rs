//! The gates that calls pass: how many of a kind at a time, how many of one connection, and whether the server still
//! takes any.
//!
//! Invariant: no more than `limit` calls of a kind are in progress, and a connection that has many of them leaves the
//! last places to those that have few, as soon as there is another one. A connection that is alone may have them all,
//! and is asked to give back some when another comes: those of calls that wait for their client, not those of work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::progress::Progress;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// How long a call must have waited for its client before it is asked to give its place to another. People and slow
/// networks pause for less.
const YIELDS_AFTER: Duration = Duration::from_secs(10);
/// How often calls are asked.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// The calls of the service proper, which `max_calls` bounds.
pub const CALLS: &str = "calls";

/// How many calls of a kind there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The calls, in the plural, for those who are refused.
    pub calls: &'static str,
    /// Of all connections.
    pub limit: usize,
    /// Of one connection at most; those of [`Gate::shared`] have no such bound.
    pub per_connection: usize,
}

/// Counts calls of a kind.
#[derive(Debug)]
pub struct Gate {
    bounds: Bounds,
    /// The last places, for connections that have few: see [`Gate::shared`].
    reserve: usize,
    few: usize,
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

/// A call in progress; dropping it makes room for another.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    connection: u64,
    call: u64,
    /// How the call gets on.
    pub progress: Arc<Progress>,
}

impl Gate {
    /// A gate for calls that a connection may have up to `per_connection` of.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, reserve: 0, few: 0, state: Mutex::default(), left: Notify::new() }
    }

    /// A gate for `limit` `calls`. A connection that has a sixteenth of them leaves the last quarter to others, if any
    /// other has a call in progress.
    pub fn shared(calls: &'static str, limit: usize) -> Self {
        let bounds = Bounds { calls, limit: limit.max(1), per_connection: usize::MAX };
        Self { reserve: limit / 4, few: (limit / 16).max(1), ..Self::new(bounds) }
    }

    /// Calls in progress.
    pub fn calls(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken
    }

    /// Lets no more in.
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

    /// Lets a call of `connection` in.
    pub fn enter(self: &Arc<Self>, connection: u64) -> Result<Place, Failure> {
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
        Ok(Place { gate: Arc::clone(self), connection, call, progress })
    }

    /// Asks calls of the connection that has most of them to end, those that have waited longest for their client: as
    /// many as are kept for connections with few.
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
        waiting.retain(|(waited, _)| *waited >= YIELDS_AFTER);
        waiting.sort_by_key(|(waited, _)| std::cmp::Reverse(*waited));
        for (_, call) in waiting.iter().take(self.reserve.max(1)) {
            call.ask_to_yield();
        }
    }

    fn full(&self) -> Failure {
        let Bounds { calls, limit, .. } = self.bounds;
        // Only the calls proper are bounded by a setting.
        if calls == CALLS {
            Failure::TooManyCalls(limit)
        } else {
            Failure::Transport(Refusal::TooMany { calls, limit })
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.taken -= 1;
        if let Some(calls) = state.by_connection.get_mut(&self.connection) {
            calls.remove(&self.call);
            if calls.is_empty() {
                state.by_connection.remove(&self.connection);
            }
        }
        if state.taken == 0 {
            self.gate.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn shared(limit: usize) -> Arc<Gate> {
        Arc::new(Gate::shared(CALLS, limit))
    }

    /// As many places as the connection gets.
    fn all_of(gate: &Arc<Gate>, connection: u64) -> Vec<Place> {
        std::iter::from_fn(|| gate.enter(connection).ok()).collect()
    }

    #[test]
    fn a_connection_that_is_alone_may_have_all_places() {
        let gate = shared(32);
        let places = all_of(&gate, 1);
        assert_eq!(places.len(), 32);
        assert_eq!(gate.enter(1).unwrap_err(), Failure::TooManyCalls(32));
        assert_eq!(gate.enter(2).unwrap_err(), Failure::TooManyCalls(32));
    }

    #[test]
    fn two_connections_that_take_all_they_can_do_not_lock_out_a_third() {
        let gate = shared(256);
        // HTTP/2 lets a connection have 128 streams.
        let first: Vec<_> = (0..128).map(|_| gate.enter(1).unwrap()).collect();
        let second = all_of(&gate, 2);
        assert_eq!((first.len(), second.len()), (128, 64));
        assert_eq!(all_of(&gate, 3).len(), 16);
        drop(first);
        assert_eq!(gate.calls(), 64);
    }

    #[test]
    fn a_connection_has_a_part_of_the_small_gates() {
        let gate = Arc::new(Gate::new(Bounds { calls: "health watches", limit: 10, per_connection: 4 }));
        let places = all_of(&gate, 1);
        assert_eq!(places.len(), 4);
        assert!(matches!(gate.enter(1), Err(Failure::Transport(Refusal::ConnectionHasMany { of_connection: 4, .. }))));
        let others: Vec<_> = (2..).map_while(|connection| gate.enter(connection).ok()).collect();
        assert_eq!(others.len(), 6);
        assert!(matches!(gate.enter(99), Err(Failure::Transport(Refusal::TooMany { limit: 10, .. }))));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_for_their_client_make_room_for_another_connection_and_those_at_work_do_not() {
        let gate = shared(8);
        let places = all_of(&gate, 1);
        places[..5].iter().for_each(|place| place.progress.waits());
        let asked = || places.iter().filter(|place| place.progress.asked_to_yield().now_or_never().is_some()).count();
        assert!(gate.enter(2).is_err());
        assert_eq!(asked(), 0, "at first");
        tokio::time::advance(YIELDS_AFTER).await;
        assert!(gate.enter(1).is_err());
        assert_eq!(asked(), 0, "for its own connection");
        assert!(gate.enter(2).is_err());
        assert_eq!(asked(), 2, "a quarter");
        assert!(places[5..].iter().all(|place| place.progress.waited().is_zero()));
    }

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_in_and_drains_when_the_last_has_left() {
        let gate = shared(2);
        let first = gate.enter(1).unwrap();
        let second = gate.enter(1).unwrap();
        drop(second);
        gate.close();
        assert_eq!(gate.enter(1).unwrap_err(), Failure::Transport(Refusal::Stopping));
        let mut drained = std::pin::pin!(gate.drained());
        assert!(futures::poll!(&mut drained).is_pending());
        drop(first);
        drained.await;
    }
}
