//! What documents may take: how many, and how much memory, in one collection and in all.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An amount of documents, with the memory that they, their vectors and their part of the graph take, as estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many.
    pub documents: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The most there may be; `usize::MAX` does not bind.
pub type Quota = Usage;

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit}: {wanted} {} more would exceed the limit of {most}: {used} are in use", limit.unit())]
pub struct Full {
    /// Which limit is reached.
    pub limit: Limit,
    /// What is in use.
    pub used: usize,
    /// What was to be added.
    pub wanted: usize,
    /// What may be in use.
    pub most: usize,
}

/// A limit, by the name of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Documents of all collections.
    Documents,
    /// Bytes of all collections.
    StoredBytes,
    /// Documents of one collection.
    CollectionDocuments,
    /// Bytes of one collection.
    CollectionBytes,
    /// Collections.
    Collections,
}

impl Limit {
    fn unit(self) -> &'static str {
        match self {
            Self::Documents | Self::CollectionDocuments => "documents",
            Self::StoredBytes | Self::CollectionBytes => "bytes",
            Self::Collections => "collections",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Documents => "max_documents",
            Self::StoredBytes => "max_stored_bytes",
            Self::CollectionDocuments => "max_collection_documents",
            Self::CollectionBytes => "max_collection_bytes",
            Self::Collections => "max_collections",
        })
    }
}

impl Usage {
    /// No limit.
    pub const UNLIMITED: Quota = Usage { documents: usize::MAX, bytes: usize::MAX };
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { documents: self.documents + other.documents, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { documents: self.documents - other.documents, bytes: self.bytes - other.bytes }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Documents that go, and others that come in their place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Exchange {
    pub freed: Usage,
    pub added: Usage,
    /// Bytes that are taken until it is known what the documents that come take in the columns. Never too few.
    pub reserved_bytes: usize,
    /// Of the bytes that are freed in the collection, those that open exports keep alive: in the budget of all they stay.
    pub kept_bytes: usize,
}

impl Exchange {
    /// What is taken at first.
    pub(super) fn taken(self) -> Usage {
        Usage { bytes: self.added.bytes + self.reserved_bytes, ..self.added }
    }

    /// What the budget of all collections gets back.
    pub(super) fn freed_of_all(self) -> Usage {
        Usage { bytes: self.freed.bytes - self.kept_bytes, ..self.freed }
    }
}

impl AddAssign for Exchange {
    fn add_assign(&mut self, other: Self) {
        self.freed += other.freed;
        self.added += other.added;
        self.reserved_bytes += other.reserved_bytes;
        self.kept_bytes += other.kept_bytes;
    }
}

/// What is in use, and the most there may be.
pub(super) struct Budget {
    used: Mutex<Usage>,
    most_documents: usize,
    /// Follows the memory that the process has left, where no setting says how much.
    most_bytes: AtomicUsize,
    limits: (Limit, Limit),
}

impl Budget {
    /// Of all collections together.
    pub(super) fn of_all(most: Quota) -> Self {
        Self::new(most, (Limit::Documents, Limit::StoredBytes))
    }

    /// Of one collection.
    pub(super) fn of_one(most: Quota) -> Self {
        Self::new(most, (Limit::CollectionDocuments, Limit::CollectionBytes))
    }

    fn new(most: Quota, limits: (Limit, Limit)) -> Self {
        let most_bytes = AtomicUsize::new(most.bytes);
        Self { used: Mutex::default(), most_documents: most.documents, most_bytes, limits }
    }

    /// From now on there may be so many bytes.
    pub(super) fn set_most_bytes(&self, bytes: usize) {
        self.most_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> Usage {
        *self.lock()
    }

    /// Gives back `freed` and takes `added`, or changes nothing. What does not grow always succeeds: a limit that was
    /// lowered must not keep documents from being replaced or removed.
    pub(super) fn exchange(&self, freed: Usage, added: Usage) -> Result<(), Full> {
        let mut used = self.lock();
        let room = |limit, used: usize, freed: usize, added: usize, most: usize| {
            let fits = used - freed <= most.saturating_sub(added);
            if fits || added <= freed { Ok(()) } else { Err(Full { limit, used, wanted: added - freed, most }) }
        };
        room(self.limits.0, used.documents, freed.documents, added.documents, self.most_documents)?;
        let most_bytes = self.most_bytes.load(Ordering::Relaxed);
        room(self.limits.1, used.bytes, freed.bytes, added.bytes, most_bytes)?;
        *used = *used - freed + added;
        Ok(())
    }

    /// Takes back an exchange.
    pub(super) fn undo(&self, freed: Usage, added: Usage) {
        let mut used = self.lock();
        *used = *used + freed - added;
    }

    /// Counts `now` bytes instead of `before`, whatever the limit: for what is there already.
    pub(super) fn replace(&self, before: usize, now: usize) {
        let mut used = self.lock();
        used.bytes = used.bytes + now - before;
    }

    pub(super) fn release(&self, freed: Usage) {
        let mut used = self.lock();
        *used = *used - freed;
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(documents: usize, bytes: usize) -> Usage {
        Usage { documents, bytes }
    }

    #[test]
    fn either_limit_refuses_by_its_name_and_changes_nothing() {
        let budget = Budget::of_one(usage(3, 100));
        budget.exchange(usage(0, 0), usage(2, 50)).unwrap();
        let full = budget.exchange(usage(0, 0), usage(2, 1)).unwrap_err();
        let said = "max_collection_documents: 2 documents more would exceed the limit of 3: 2 are in use";
        assert_eq!(full.to_string(), said);
        let full = budget.exchange(usage(0, 0), usage(1, 51)).unwrap_err();
        assert_eq!(
            full.to_string(),
            "max_collection_bytes: 51 bytes more would exceed the limit of 100: 50 are in use"
        );
        assert_eq!(budget.used(), usage(2, 50));
        budget.exchange(usage(1, 10), usage(2, 60)).unwrap();
        assert_eq!(budget.used(), usage(3, 100));
        budget.undo(usage(1, 10), usage(2, 60));
        assert_eq!(budget.used(), usage(2, 50));
    }

    #[test]
    fn what_is_over_a_lowered_limit_can_be_replaced_and_removed() {
        let budget = Budget::of_all(usage(1, 10));
        *budget.lock() = usage(5, 50);
        budget.exchange(usage(1, 10), usage(1, 10)).unwrap();
        budget.exchange(usage(1, 10), usage(0, 0)).unwrap();
        assert!(budget.exchange(usage(0, 0), usage(1, 0)).is_err());
        assert_eq!(budget.used(), usage(4, 40));
    }
}
