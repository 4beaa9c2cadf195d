//! Which documents match a filter, while documents come and go.
//!
//! A filter is evaluated once and used for all queries of a call. Commits go on meanwhile. What they change is written
//! down in [`Changes`], and the documents that changed are looked at again, one by one, before the result is used.
//!
//! Invariant: after [`Matching::catch_up`] the places are those of the documents that match at that moment, as long as
//! the same lock is held.

use std::collections::VecDeque;

use roaring::RoaringBitmap;

use super::filter::Filter;
use super::single::{Collection, Documents};
use crate::compute::stop::{Stop, Stopped};

/// Changes that are remembered. Each one costs a search that catches up with it up to 4 µs.
const REMEMBERED: usize = 4_096;

/// Evaluations that may be overtaken by changes before one keeps the documents locked.
const ATTEMPTS: usize = 3;

/// The latest changes of a collection's documents.
#[derive(Default)]
pub(super) struct Changes {
    /// All that ever happened.
    total: u64,
    /// The places that the latest of them touched, oldest first.
    latest: VecDeque<u32>,
}

/// The places of the documents that match a filter.
#[derive(Debug, Clone)]
pub struct Matching {
    filter: Filter,
    places: RoaringBitmap,
    /// Changes that it knows of.
    seen: u64,
}

impl Changes {
    /// Notes that another document is at this place, or none.
    pub(super) fn note(&mut self, place: u32) {
        self.total += 1;
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(place);
    }

    /// The places that changed after the first `seen` changes; `None` if they are no longer remembered.
    fn since(&self, seen: u64) -> Option<impl Iterator<Item = u32>> {
        let new = usize::try_from(self.total.checked_sub(seen)?).ok()?;
        let known = self.latest.len().checked_sub(new)?;
        Some(self.latest.iter().skip(known).copied())
    }
}

impl Matching {
    /// The places of the documents that match, as of the last [`Matching::catch_up`].
    pub fn places(&self) -> &RoaringBitmap {
        &self.places
    }

    /// Brings the places up to date with the documents, which the caller holds.
    pub(super) fn catch_up(&mut self, here: &Documents, stop: &Stop) -> Result<(), Stopped> {
        if here.deleted {
            self.places.clear();
        } else if let Some(changed) = here.changes().since(self.seen) {
            for place in changed {
                if here.holds(place, &self.filter) {
                    self.places.insert(place);
                } else {
                    self.places.remove(place);
                }
            }
        } else {
            self.places = here.places(&self.filter, stop)?;
        }
        self.seen = here.changes().total;
        Ok(())
    }

    fn is_outrun(&self, here: &Documents) -> bool {
        !here.deleted && here.changes().since(self.seen).is_none()
    }
}

impl Collection {
    /// The documents that match a filter. Evaluate once for a call; [`Matching::catch_up`] before each use.
    pub fn matching(&self, filter: &Filter, stop: &Stop) -> Result<Matching, Stopped> {
        for _ in 0..ATTEMPTS {
            let seen = self.read().changes().total;
            let places = self.read().places(filter, stop)?;
            let matching = Matching { filter: filter.clone(), places, seen };
            if !matching.is_outrun(&self.read()) {
                return Ok(matching);
            }
        }
        let here = self.read();
        let places = here.places(filter, stop)?;
        Ok(Matching { filter: filter.clone(), places, seen: here.changes().total })
    }
}
