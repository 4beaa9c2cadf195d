//! The texts that wait in one lane: in the order of their turns, with the clock of the lane.
//!
//! Invariants: entries are read from the front only, at most [`WINDOW`] for a batch. The tokens of an entry that leaves
//! are counted once, until the clocks are moved for them. The choice of the lane is left to the batch queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::super::flight::{Flight, Job, Stage};
use super::super::shares::{Limits, Shares, Turn};

/// The number of entries from the front of a lane that are candidates for a batch.
const WINDOW: usize = 512;

/// The least entries of a lane that is swept. Fewer take a few tens of kilobytes at most.
const LEAST_SWEEP: usize = 1024;

/// The entries of one lane, by turn. Those of one turn have the order of arrival.
pub(super) struct LaneQueue {
    pub(super) entries: BTreeMap<(Turn, u64), Entry>,
    pub(super) shares: Shares,
    /// Tokens that left the lane since its clock was moved.
    pub(super) gone: Gone,
    /// Tokens of all entries. An entry whose callers left, or whose text went with another lane, counts until it is
    /// read. So a batch may be larger than an even share, and never larger than `batch_tokens` allows.
    pub(super) tokens: usize,
    /// The number of entries at which those without a caller are dropped. It is twice the number left by the last
    /// sweep, so a sweep costs a constant for each entry. Memory stays within twice what the token budget admits, even
    /// if calls come and leave faster than batches are formed.
    sweep_at: usize,
}

#[derive(Default)]
pub(super) struct Gone {
    pub(super) tokens: usize,
    /// Those of them by which a caller was ahead of its share.
    pub(super) ahead: f64,
}

pub(super) struct Entry {
    pub(super) flight: Weak<Flight>,
    /// The turn and the number of the call, if that call is finished before the next one begins.
    pub(super) call: Option<(Turn, u64)>,
    /// Tokens of the text. The entry has them too, because the flight may be gone.
    pub(super) tokens: usize,
    /// Those of them by which the caller was ahead of its share.
    pub(super) ahead: f64,
    pub(super) arrived: Instant,
}

impl Entry {
    /// Returns the flight, if a caller waits for it and no worker has it.
    pub(super) fn waiting(&self) -> Option<Arc<Flight>> {
        self.flight.upgrade().filter(|flight| !flight.is_taken())
    }
}

impl LaneQueue {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            shares: Shares::new(Limits { lag: 0.0, lead: f64::INFINITY }),
            tokens: 0,
            gone: Gone::default(),
            sweep_at: 0,
        }
    }

    pub(super) fn push(&mut self, turn: (Turn, u64), entry: Entry) {
        if self.entries.len() >= self.sweep_at.max(LEAST_SWEEP) {
            let gone: Vec<_> = self.entries.extract_if(.., |_, entry| entry.waiting().is_none()).collect();
            gone.iter().for_each(|(_, entry)| self.leaves(entry));
            self.sweep_at = 2 * self.entries.len();
        }
        self.tokens += entry.tokens;
        self.entries.insert(turn, entry);
    }

    pub(super) fn pop(&mut self) -> Option<((Turn, u64), Entry)> {
        let (turn, entry) = self.entries.pop_first()?;
        self.leaves(&entry);
        Some((turn, entry))
    }

    fn leaves(&mut self, entry: &Entry) {
        self.tokens -= entry.tokens;
        self.gone.tokens += entry.tokens;
        self.gone.ahead += entry.ahead;
    }

    fn put_back(&mut self, turn: (Turn, u64), entry: Entry) {
        self.tokens += entry.tokens;
        self.gone.tokens -= entry.tokens;
        self.gone.ahead -= entry.ahead;
        self.entries.insert(turn, entry);
    }

    /// Returns the arrival of the first text that a caller waits for.
    pub(super) fn oldest(&mut self) -> Option<Instant> {
        while let Some((_, entry)) = self.entries.first_key_value() {
            if entry.waiting().is_some() {
                return Some(entry.arrived);
            }
            self.pop();
        }
        None
    }

    /// Takes the first text and those nearest to it in length, while the padded batch (its longest length times its
    /// size) fits `budget`. Calls that are finished one after another are taken call by call. The first text goes even
    /// if it alone exceeds the budget.
    pub(super) fn take_batch(&mut self, budget: usize) -> Vec<Job> {
        let mut window: Vec<((Turn, u64), Entry, Arc<Flight>)> = Vec::new();
        while window.len() < WINDOW
            && let Some((turn, entry)) = self.pop()
        {
            if let Some(flight) = entry.waiting() {
                window.push((turn, entry, flight));
            }
        }
        let candidates: Vec<_> = window.iter().map(|(_, entry, _)| (entry.call, entry.tokens)).collect();
        let chosen = choose_batch(&candidates, budget);
        let mut batch = Vec::new();
        for ((turn, entry, flight), chosen) in window.into_iter().zip(chosen) {
            if chosen {
                flight.advance(Stage::Taken);
                batch.push(Job::new(flight));
            } else {
                self.put_back(turn, entry);
            }
        }
        batch
    }
}

/// Marks the members of a batch among `candidates` (calls and tokens): the first, and those nearest to it in length
/// that fit with it. If the call of the first is to be finished first, its texts come before those of the next call,
/// and so on.
pub(super) fn choose_batch(candidates: &[(Option<(Turn, u64)>, usize)], budget: usize) -> Vec<bool> {
    let mut chosen = vec![false; candidates.len()];
    let Some(&(first_call, first_tokens)) = candidates.first() else { return chosen };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&at| {
        let (call, tokens) = candidates[at];
        // Texts of calls that need not be finished come last. The sort is stable: the first text stays first.
        (first_call.map(|_| (call.is_none(), call)), tokens.abs_diff(first_tokens))
    });
    let mut longest = 0;
    for (size, at) in order.into_iter().enumerate() {
        longest = longest.max(candidates[at].1);
        if size > 0 && longest * (size + 1) > budget {
            break;
        }
        chosen[at] = true;
    }
    chosen
}
