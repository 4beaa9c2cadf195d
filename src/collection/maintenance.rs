//! The maintenance thread: keeps the graphs of all collections of a store up to date, and the segments of their words.
//!
//! It wakes with each commit, and once a second for work that became due meanwhile. It gives each collection a
//! short turn until no work is left. While documents come in it rests between turns, because the model needs the
//! cores then; vectors that are not linked yet are found by exact comparison. Once a second it checks the result of
//! one search, of one collection after the other.
//!
//! The thread ends with its store. A panic does not end it: the segment that was being built is lost, and begun
//! again at the next wake-up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::collections::Collections;
use super::maintenance_thread::MaintenanceThread;
use super::single::Collection;
use crate::lexical::LexicalIndex;
use crate::machine::priority;

/// Interval of checks for unannounced work: merges that become due when no more documents come.
const REST: Duration = Duration::from_secs(1);

/// Time per second for checking searches of collections that still learn how many candidates their searches need.
/// One search among a hundred thousand vectors takes about 5 ms to check.
const LEARNING: Duration = Duration::from_millis(50);

/// While documents come in, graphs get one part in `SHARE` of the machine's CPU time. Linking a document takes
/// about a tenth of the time of embedding a short text (benches/upload.rs), and again when segments merge.
const SHARE: usize = 10;

/// Longest rest, however long the turn was. A turn is short, but an indivisible step (writing a file, laying out a
/// graph) may take seconds, and vectors that come meanwhile are compared with each query.
const MOST_REST: Duration = Duration::from_millis(500);

/// Time that one thread works on a graph before another may.
const MAINTENANCE_TURN: Duration = Duration::from_millis(50);

/// Number of vectors missing from the graph at which commits begin to wait for it. A search compares with all of
/// them: 50,000 cost it about a millisecond.
const FAR_BEHIND: usize = 50_000;

/// Bytes of words that are in no segment yet at which commits begin to wait. A search reads all of them.
const MOST_UNSEALED_BYTES: usize = 64 << 20;

/// Starts the thread. If that fails, searches compare with all vectors: correct, and slow.
pub(super) fn start(collections: Weak<Collections>, cores: usize) -> MaintenanceThread {
    let (thread, woken) = MaintenanceThread::new();
    let started = std::thread::Builder::new().name("index".to_owned()).spawn(move || run(&collections, &woken, cores));
    if let Err(error) = started {
        tracing::error!(%error, "cannot start the maintenance thread: searches will compare with all documents");
    }
    thread
}

fn run(collections: &Weak<Collections>, woken: &Receiver<()>, cores: usize) {
    priority::lower(priority::BACKGROUND);
    let (mut checked, mut turn) = (Instant::now(), 0);
    while woken.recv_timeout(REST) != Err(RecvTimeoutError::Disconnected) {
        loop {
            let Some(collections) = collections.upgrade() else { return };
            let all = collections.all();
            drop(collections);
            let begun = Instant::now();
            if checked.elapsed() >= REST {
                checked = Instant::now();
                turn = audit_one(&all, turn);
                learn(&all, turn, LEARNING);
            }
            if all.iter().filter(|collection| unless_it_panics(collection, Collection::maintain)).count() == 0 {
                break;
            }
            let far_behind = all.iter().any(|collection| collection.is_far_behind());
            drop(all);
            if woken.try_recv().is_ok() && !far_behind {
                std::thread::sleep(rest_after(begun.elapsed(), cores));
            }
        }
    }
}

impl Collection {
    /// Works on the graph and on the segments of words, for one turn each; true if more is left.
    pub(super) fn maintain(&self) -> bool {
        if self.read().deleted {
            return false;
        }
        let words_are_left = self.lexical.as_ref().is_some_and(|lexical| lexical.maintain_for(MAINTENANCE_TURN));
        let rows_are_left = self.index.maintain_for(MAINTENANCE_TURN);
        self.recount_varying();
        rows_are_left || words_are_left
    }

    /// Checks one of the latest searches, for [`Collection::quality`]; false if none waits.
    pub(super) fn audit(&self) -> bool {
        !self.read().deleted && self.index.audit()
    }

    /// Checks one of the latest searches if recall is little known or too low.
    pub(super) fn learn(&self) -> bool {
        self.index.is_learning() && self.audit()
    }

    /// Does all graph work. Blocks until it is done.
    pub(super) fn finish_graph(&self) {
        self.index.maintain();
    }

    /// Wakes the maintenance thread. If the graph is far behind, sleeps for a turn: in that time the thread links
    /// more vectors than a commit usually brings.
    pub(super) fn wake_maintenance(&self) {
        self.maintenance.wake();
        if self.is_far_behind() {
            std::thread::sleep(MAINTENANCE_TURN);
        }
    }

    /// True if the graph lacks too many vectors, or the segments too many words: then commits must wait.
    pub(super) fn is_far_behind(&self) -> bool {
        let unsealed = self.lexical.as_ref().map_or(0, LexicalIndex::pending_bytes);
        self.index.pending() > FAR_BEHIND || unsealed > MOST_UNSEALED_BYTES
    }
}

/// Runs a turn of a collection and returns its answer; false if it panics. Unwind safe: an index takes its work out
/// before it works on it, and few assignments change the state that searches see (`index/row_table.rs`).
fn unless_it_panics(collection: &Collection, turn: impl Fn(&Collection) -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(|| turn(collection))).unwrap_or_else(|_| {
        tracing::error!(collection = collection.name(), "maintenance of the index panicked; it is tried again");
        false
    })
}

/// Time to rest after work while documents come in.
fn rest_after(work: Duration, cores: usize) -> Duration {
    // A thread that always works takes `1 / cores` of the machine.
    let rest_for_work = (SHARE as f32 / cores as f32 - 1.0).max(0.0);
    work.mul_f32(rest_for_work).min(MOST_REST)
}

/// Checks searches of collections that must learn, round-robin from number `turn` on, for about `budget`.
fn learn(all: &[Arc<Collection>], turn: usize, budget: Duration) {
    let begun = Instant::now();
    let (before, after) = all.split_at(turn % all.len().max(1));
    loop {
        let mut learned = 0;
        for collection in after.iter().chain(before) {
            if begun.elapsed() >= budget {
                return;
            }
            learned += usize::from(unless_it_panics(collection, Collection::learn));
        }
        if learned == 0 {
            return;
        }
    }
}

/// Checks a waiting search of the first collection that has one, from number `turn` on. Returns the next turn.
fn audit_one(all: &[Arc<Collection>], turn: usize) -> usize {
    let first = turn % all.len().max(1);
    let (before, after) = all.split_at(first);
    let passed_over = after.iter().chain(before).position(|collection| unless_it_panics(collection, Collection::audit));
    passed_over.map_or(first, |passed_over| first + passed_over + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Model, Options, Settings, Store};
    use super::*;

    #[test]
    fn a_panic_ends_a_turn_and_neither_the_thread_nor_the_collection() {
        let store = Store::open(Options::default()).unwrap();
        let collection =
            store.create("c", Model { name: "m", fingerprint: "f", dimensions: 2 }, Settings::default()).unwrap();
        let panics = |collection: &Collection| {
            let _held = collection.write();
            panic!("as a mistake would have it")
        };
        assert!(!unless_it_panics(&collection, panics));
        assert!(unless_it_panics(&collection, Collection::is_empty));
    }

    #[test]
    fn rests_leave_a_tenth_of_the_machine_and_have_an_end() {
        let rest = |milliseconds, cores| rest_after(Duration::from_millis(milliseconds), cores).as_millis();
        assert_eq!([1, 2, 4, 10, 64].map(|cores| rest(50, cores)), [450, 200, 75, 0, 0]);
        assert_eq!([1, 2, 10].map(|cores| rest(30_000, cores)), [500, 500, 0]);
    }
}
