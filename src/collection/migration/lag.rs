//! The documents of its leader that a follower lacks.
//!
//! The first pass copies all documents in the order of their ids. A change of a document that it has read already is
//! *pending* until a later step has copied it again, under a number that grows with each change.
//!
//! Invariant: a document of the leader that the follower does not have as it is now is pending, or the first pass has
//! it before itself. A change is pending here only when readers of the leader find it: so a step that reads the number
//! first and the document afterwards never settles a change that it has not seen. On disk the same ids are pending, in
//! the transactions of the two collections.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::budgets::SharedBudgets;
use super::super::disk::{Change, FirstPass, Pending};
use super::super::document::DocId;

/// Bytes of a pending id beside its text: its entry in a map whose nodes are about two thirds full.
const PENDING_BYTES: usize = 64;

/// The part of a collection in a migration. It changes only while its holder has the turn of the collection's commits.
#[derive(Clone, Default)]
pub(in super::super) enum Role {
    /// It is in none.
    #[default]
    Alone,
    /// Its changes are noted for a follower.
    Followed(Arc<Lag>),
    /// It follows another, or followed one until the migration ended: clients change nothing here.
    Follower,
}

/// The ids that a follower lacks.
pub(in super::super) struct Lag {
    /// Number of the follower on disk; `None`: it is in memory alone.
    follower: Option<u32>,
    budgets: SharedBudgets,
    state: Mutex<State>,
}

struct State {
    /// The documents that the first pass has copied.
    copied: FirstPass,
    /// The documents that it has read, at least. Changes of these are noted.
    read: FirstPass,
    pending: BTreeMap<DocId, Entry>,
    /// Number of refused ones.
    refused: usize,
    /// The next change gets this number.
    next_number: u64,
    /// The last pending id of the latest step: the next one begins behind it.
    last: Option<DocId>,
    /// Bytes of the pending ids in the budgets.
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    /// True if this state of the document could not be embedded. It is in no step until it changes.
    refused: bool,
}

/// A document of a step that could not be embedded.
pub(super) struct Refused {
    pub id: DocId,
    /// The number of the change that the step read.
    pub number: u64,
    /// True if the first pass read it, and it was not pending.
    pub new: bool,
}

/// Figures of a lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub first_pass_over: bool,
    pub pending: usize,
    pub refused: usize,
}

/// Changes of one commit of the leader that the follower lacks from now on.
pub(in super::super) struct Noted {
    lag: Arc<Lag>,
    ids: Vec<DocId>,
    number: u64,
}

impl Lag {
    /// A follower that lacks what `pending` says, and what the first pass has before itself.
    pub fn new(follower: Option<u32>, budgets: SharedBudgets, copied: FirstPass, pending: Vec<(DocId, u64)>) -> Self {
        let next_number = pending.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
        let state = State {
            read: copied.clone(),
            copied,
            pending: BTreeMap::new(),
            refused: 0,
            next_number,
            last: None,
            bytes: 0,
        };
        let lag = Self { follower, budgets, state: Mutex::new(state) };
        lag.change(|state| {
            for (id, number) in pending {
                state.insert(id, Entry { number, refused: false });
            }
        });
        lag
    }

    /// Notes changes of the leader: those of documents that the first pass has read.
    pub fn noted<'i>(self: &Arc<Self>, ids: impl Iterator<Item = &'i DocId>) -> Noted {
        let mut state = self.state();
        let number = state.next_number;
        state.next_number += 1;
        let ids = ids.filter(|id| state.read.is_past(id.as_str())).cloned().collect();
        Noted { lag: Arc::clone(self), ids, number }
    }

    /// Some pending ids that are not refused, with their numbers, in turn.
    pub(super) fn some(&self, most: usize) -> Vec<(DocId, u64)> {
        let state = self.state();
        let after = state.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let behind = state.pending.range((after, Bound::Unbounded));
        let before = state.last.iter().flat_map(|last| state.pending.range(..=last));
        let ready = behind.chain(before).filter(|(_, entry)| !entry.refused);
        ready.map(|(id, entry)| (id.clone(), entry.number)).take(most).collect()
    }

    /// Notes the last pending id of a step.
    pub(super) fn took(&self, last: &DocId) {
        self.state().last = Some(last.clone());
    }

    /// The documents that the first pass has copied.
    pub(super) fn copied(&self) -> FirstPass {
        self.state().copied.clone()
    }

    /// Notes changes of documents up to here from now on. The caller has the turn of the leader's commits.
    pub(super) fn reads(&self, up_to: &FirstPass) {
        let mut state = self.state();
        let is_further = match (&state.read, up_to) {
            (FirstPass::UpTo(read), FirstPass::UpTo(now)) => now > read,
            (read, now) => *read != FirstPass::Over && *now == FirstPass::Over,
        };
        if is_further {
            state.read = up_to.clone();
        }
    }

    /// A number for a document that is refused in the first pass.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.state();
        let number = state.next_number;
        state.next_number += 1;
        number
    }

    /// Forgets changes that the follower has now, those of these numbers, and notes the progress of the first pass.
    pub(super) fn settle(&self, settled: &[(DocId, u64)], copied: Option<&FirstPass>) {
        self.change(|state| {
            for (id, number) in settled {
                if state.pending.get(id).is_some_and(|entry| entry.number == *number) {
                    state.remove(id);
                }
            }
            if let Some(copied) = copied {
                state.copied = copied.clone();
            }
        });
    }

    /// Notes that documents could not be embedded as they were. One that has changed since is in a step again.
    pub(super) fn refuse(&self, refused: Vec<Refused>) {
        self.change(|state| {
            for Refused { id, number, new } in refused {
                match state.pending.get(&id).copied() {
                    Some(now) if new => state.insert(id, Entry { number: now.number.max(number), ..now }),
                    Some(now) if now.number == number => state.insert(id, Entry { refused: true, ..now }),
                    None if new => state.insert(id, Entry { number, refused: true }),
                    _ => {}
                }
            }
        });
    }

    /// Puts refused documents into steps again.
    pub(super) fn retry(&self) {
        let mut state = self.state();
        state.refused = 0;
        state.pending.values_mut().for_each(|entry| entry.refused = false);
    }

    /// Ids of the first refused documents.
    pub(super) fn refused(&self, most: usize) -> Vec<DocId> {
        let state = self.state();
        state.pending.iter().filter(|(_, entry)| entry.refused).map(|(id, _)| id.clone()).take(most).collect()
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.state();
        let first_pass_over = state.copied == FirstPass::Over;
        Figures { first_pass_over, pending: state.pending.len(), refused: state.refused }
    }

    /// Forgets all that is pending, and gives its budget back.
    pub(super) fn clear(&self) {
        self.change(|state| {
            state.pending.clear();
            (state.bytes, state.refused) = (0, 0);
        });
    }

    /// A change as the disk notes it; `None`: the follower is in memory alone.
    pub(super) fn on_disk(&self, id: &DocId, number: u64) -> Option<Pending> {
        Some(Pending { follower: self.follower?, id: id.as_str().into(), number })
    }

    /// Number of the follower on disk.
    pub(super) fn follower(&self) -> Option<u32> {
        self.follower
    }

    /// Changes the pending ids, and brings the budgets to them.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let before = state.bytes;
        change(&mut state);
        self.budgets.replace(before, state.bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, id: DocId, entry: Entry) {
        let bytes = id.bytes() + PENDING_BYTES;
        match self.pending.insert(id, entry) {
            Some(before) => self.refused -= usize::from(before.refused),
            None => self.bytes += bytes,
        }
        self.refused += usize::from(entry.refused);
    }

    fn remove(&mut self, id: &DocId) {
        if let Some(before) = self.pending.remove(id) {
            self.refused -= usize::from(before.refused);
            self.bytes -= id.bytes() + PENDING_BYTES;
        }
    }
}

impl Noted {
    /// The notes on disk, for the transaction of the leader's documents.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        self.ids.iter().filter_map(|id| self.lag.on_disk(id, self.number)).map(Change::Note)
    }

    /// Makes the changes pending. The documents are on disk, and readers find them.
    pub fn done(self) {
        let Self { lag, ids, number } = self;
        lag.change(|state| {
            for id in ids {
                let number = state.pending.get(&id).map_or(number, |now| now.number.max(number));
                state.insert(id, Entry { number, refused: false });
            }
        });
    }
}
