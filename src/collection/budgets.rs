//! The budgets that the documents of a collection count in: its own, that of its owner, and that of all collections.
//!
//! The owner is the caller who created the collection, if callers have names. All documents count for it, also
//! those that other callers store. Its name is stored with the collection, and its usage is counted anew at each start.
//!
//! Invariants: an exchange is in all budgets or in none. The usage of an owner is that of its collections, with
//! [`EMPTY`] for each. Documents that only open exports hold count for the owner and in all, and not in the
//! collection's own budget.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Exchange, Full, NOTHING, Quota, Usage};
use crate::compute::Allowances;

/// Usage of an empty collection, so that quotas bound the number of collections too.
pub(super) const EMPTY: Usage = Usage { documents: 0, bytes: 16 * 1024 };

/// The budgets of one collection.
pub(super) struct Budgets {
    own: Budget,
    pub shared: SharedBudgets,
}

/// The budgets that a collection shares with others.
#[derive(Clone)]
pub(super) struct SharedBudgets {
    pub of_all: Arc<Budget>,
    /// `None`: the collection has no owner.
    pub of_owner: Option<Arc<Budget>>,
}

impl Budgets {
    /// Makes the budgets of a collection with this quota of its own.
    pub fn new(quota: Quota, shared: SharedBudgets) -> Self {
        Self { own: Budget::of_one(quota), shared }
    }

    /// Exchanges usage in all budgets, or changes nothing.
    pub fn exchange(&self, exchange: Exchange) -> Result<(), Full> {
        let (freed, taken) = (exchange.freed, exchange.taken());
        self.own.exchange(freed, taken)?;
        self.shared.exchange(exchange.freed_of_all(), taken).inspect_err(|_| self.own.undo(freed, taken))
    }

    /// Reverts an exchange.
    pub fn undo(&self, exchange: Exchange) {
        self.own.undo(exchange.freed, exchange.taken());
        self.shared.undo(exchange.freed_of_all(), exchange.taken());
    }

    /// Takes documents that are read from the disk. They count for their owner whatever its limits are now, so that a
    /// lowered limit never keeps a server from starting.
    pub fn take_stored(&self, added: Usage) -> Result<(), Full> {
        self.own.exchange(NOTHING, added)?;
        self.shared.take_stored(added)
    }

    /// Counts `now` bytes instead of `before`, regardless of the limits.
    pub fn replace(&self, before: usize, now: usize) {
        self.own.replace(before, now);
        self.shared.replace(before, now);
    }
}

impl SharedBudgets {
    /// The owner's name.
    pub fn owner(&self) -> Option<&Arc<str>> {
        self.of_owner.as_ref()?.owner()
    }

    /// Exchanges usage in both budgets, or changes nothing.
    pub fn exchange(&self, freed: Usage, taken: Usage) -> Result<(), Full> {
        self.of_all.exchange(freed, taken)?;
        let of_owner = self.of_owner.as_ref().map_or(Ok(()), |owner| owner.exchange(freed, taken));
        of_owner.inspect_err(|_| self.of_all.undo(freed, taken))
    }

    fn undo(&self, freed: Usage, taken: Usage) {
        self.each().for_each(|budget| budget.undo(freed, taken));
    }

    /// Like [`Budgets::take_stored`], for what is no document.
    pub fn take_stored(&self, added: Usage) -> Result<(), Full> {
        self.of_all.exchange(NOTHING, added)?;
        self.of_owner.iter().for_each(|owner| owner.take(added));
        Ok(())
    }

    /// Counts `now` bytes instead of `before`, regardless of the limits.
    pub fn replace(&self, before: usize, now: usize) {
        self.each().for_each(|budget| budget.replace(before, now));
    }

    /// Gives usage back.
    pub fn release(&self, freed: Usage) {
        self.each().for_each(|budget| budget.release(freed));
    }

    fn each(&self) -> impl Iterator<Item = &Budget> {
        std::iter::once(&*self.of_all).chain(self.of_owner.as_deref())
    }
}

/// The budgets of all owners. An owner without collections has none.
pub(super) struct Owners {
    allowances: Allowances,
    budgets: Mutex<HashMap<Arc<str>, Arc<Budget>>>,
}

impl Owners {
    /// Owners with the limits that `allowances` has of them.
    pub fn new(allowances: Allowances) -> Self {
        Self { allowances, budgets: Mutex::default() }
    }

    /// The budget of an owner. Forgets those that no collection and no export refers to any more: nothing is in them.
    pub fn budget(&self, name: &str) -> Arc<Budget> {
        let mut budgets = self.lock();
        budgets.retain(|_, budget| Arc::strong_count(budget) > 1);
        if let Some(known) = budgets.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        let budget = Arc::new(Budget::of_owner(Arc::clone(&name), self.allowances.clone()));
        budgets.insert(name, Arc::clone(&budget));
        budget
    }

    /// The usage of each owner, in no order.
    pub fn used(&self) -> Vec<(Arc<str>, Usage)> {
        self.lock().iter().map(|(name, budget)| (Arc::clone(name), budget.used())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Budget>>> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
