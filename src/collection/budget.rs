//! Quotas: how many documents there may be, and how much memory they may take, in one collection, in those of one owner
//! and in all.

use std::fmt;
use std::iter::Sum;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Sub};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compute::{Allowances, Caller};

/// A number of documents, with the estimated memory of documents, vectors and graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of documents.
    pub documents: usize,
    /// Estimated bytes.
    pub bytes: usize,
}

/// Upper limits; `usize::MAX` is no limit.
pub type Quota = Usage;

/// A quota does not allow more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{limit}{}: {wanted} {} more would exceed the limit of {most}: {used} are in use{}",
    self.of_owner(), limit.unit(), self.advice())]
pub struct Full {
    /// The quota that is reached.
    pub limit: Limit,
    /// The caller whose quota it is; `None`: it is one of the server.
    pub owner: Option<Arc<str>>,
    /// Amount in use.
    pub used: usize,
    /// Amount that was to be added.
    pub wanted: usize,
    /// The limit.
    pub most: usize,
}

/// A quota, by the name of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Number of documents in all collections.
    Documents,
    /// Bytes of all collections.
    StoredBytes,
    /// Number of documents in one collection.
    CollectionDocuments,
    /// Bytes of one collection.
    CollectionBytes,
    /// Number of collections.
    Collections,
    /// Number of documents in the collections of one owner.
    OwnerDocuments,
    /// Bytes of the collections of one owner.
    OwnerBytes,
}

impl Full {
    fn of_owner(&self) -> String {
        self.owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default()
    }

    fn advice(&self) -> &'static str {
        match self.owner {
            Some(_) => " in the collections that it created: delete some, or raise its limit in the file of keys",
            None => "",
        }
    }
}

impl Limit {
    fn unit(self) -> &'static str {
        match self {
            Self::Documents | Self::CollectionDocuments | Self::OwnerDocuments => "documents",
            Self::StoredBytes | Self::CollectionBytes | Self::OwnerBytes => "bytes",
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
            Self::OwnerDocuments => "documents",
            Self::OwnerBytes => "stored_bytes",
        })
    }
}

impl Usage {
    /// No limits.
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

/// No documents, and no bytes.
pub(super) const NOTHING: Usage = Usage { documents: 0, bytes: 0 };

/// Documents that leave, and others that replace them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Exchange {
    pub freed: Usage,
    pub added: Usage,
    /// Bytes reserved for columns and words until their growth is known. An upper bound.
    pub reserved_bytes: usize,
    /// Bytes of `freed` that open exports keep alive. They stay in the budget of all collections.
    pub kept_bytes: usize,
}

impl Exchange {
    /// Usage taken at first, reservation included.
    pub(super) fn taken(self) -> Usage {
        Usage { bytes: self.added.bytes + self.reserved_bytes, ..self.added }
    }

    /// Usage that is given back to the budget of all collections.
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

/// Usage of one collection, of those of one owner or of all, and its limits.
pub(super) struct Budget {
    used: Mutex<Usage>,
    most: Most,
    limits: (Limit, Limit),
}

/// The source of the limits.
enum Most {
    Set {
        documents: usize,
        /// Follows the memory that the process has left, unless a setting fixes it.
        bytes: AtomicUsize,
    },
    /// The limits that the owner has now in the file of keys.
    OfOwner { name: Arc<str>, caller: Caller, allowances: Allowances },
}

impl Most {
    fn set(Quota { documents, bytes }: Quota) -> Self {
        Self::Set { documents, bytes: AtomicUsize::new(bytes) }
    }

    fn now(&self) -> Quota {
        let value = |limit: Option<NonZeroU64>| {
            limit.map_or(usize::MAX, |most| usize::try_from(most.get()).unwrap_or(usize::MAX))
        };
        match self {
            Self::Set { documents, bytes } => Quota { documents: *documents, bytes: bytes.load(Ordering::Relaxed) },
            Self::OfOwner { caller, allowances, .. } => {
                let limits = allowances.limits_of(*caller);
                Quota { documents: value(limits.documents), bytes: value(limits.stored_bytes) }
            }
        }
    }
}

impl Budget {
    /// Makes the budget of all collections together.
    pub(super) fn of_all(most: Quota) -> Self {
        Self::new(Most::set(most), (Limit::Documents, Limit::StoredBytes))
    }

    /// Makes the budget of one collection.
    pub(super) fn of_one(most: Quota) -> Self {
        Self::new(Most::set(most), (Limit::CollectionDocuments, Limit::CollectionBytes))
    }

    /// Makes the budget of the collections of one owner.
    pub(super) fn of_owner(name: Arc<str>, allowances: Allowances) -> Self {
        let caller = Caller::of_principal(&name);
        Self::new(Most::OfOwner { name, caller, allowances }, (Limit::OwnerDocuments, Limit::OwnerBytes))
    }

    fn new(most: Most, limits: (Limit, Limit)) -> Self {
        Self { used: Mutex::default(), most, limits }
    }

    /// The owner; `None`: it is no budget of an owner.
    pub(super) fn owner(&self) -> Option<&Arc<str>> {
        match &self.most {
            Most::Set { .. } => None,
            Most::OfOwner { name, .. } => Some(name),
        }
    }

    /// Sets the limit on bytes. Those of an owner are set in the file of keys alone.
    pub(super) fn set_most_bytes(&self, most: usize) {
        if let Most::Set { bytes, .. } = &self.most {
            bytes.store(most, Ordering::Relaxed);
        }
    }

    pub(super) fn used(&self) -> Usage {
        *self.lock()
    }

    /// Gives back `freed` and takes `added`, or changes nothing. An exchange that does not grow always succeeds:
    /// after a limit was lowered, documents can still be replaced and removed.
    pub(super) fn exchange(&self, freed: Usage, added: Usage) -> Result<(), Full> {
        let (most, mut used) = (self.most.now(), self.lock());
        let room = |limit, used: usize, freed: usize, added: usize, most: usize| {
            let fits = (used - freed).checked_add(added).is_some_and(|after| after <= most);
            if fits || added <= freed {
                return Ok(());
            }
            Err(Full { limit, owner: self.owner().cloned(), used, wanted: added - freed, most })
        };
        room(self.limits.0, used.documents, freed.documents, added.documents, most.documents)?;
        room(self.limits.1, used.bytes, freed.bytes, added.bytes, most.bytes)?;
        *used = *used - freed + added;
        Ok(())
    }

    /// Takes `added`, regardless of the limits: for what exists already.
    pub(super) fn take(&self, added: Usage) {
        *self.lock() += added;
    }

    /// Reverts an exchange.
    pub(super) fn undo(&self, freed: Usage, added: Usage) {
        let mut used = self.lock();
        *used = *used + freed - added;
    }

    /// Counts `now` bytes instead of `before`, regardless of the limit: for documents that exist already.
    pub(super) fn replace(&self, before: usize, now: usize) {
        let mut used = self.lock();
        used.bytes = used.bytes + now - before;
    }

    /// Gives back `freed`.
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
    use crate::compute::Limits;

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
    fn more_than_the_limit_is_refused_also_where_nothing_is_stored_yet() {
        let budget = Budget::of_one(usage(2, 100));
        assert!(budget.exchange(usage(0, 0), usage(3, 1)).is_err());
        assert!(budget.exchange(usage(0, 0), usage(1, 101)).is_err());
        budget.exchange(usage(0, 0), usage(2, 100)).unwrap();
    }

    #[test]
    fn usage_over_a_lowered_limit_can_be_replaced_and_removed() {
        let budget = Budget::of_all(usage(1, 10));
        *budget.lock() = usage(5, 50);
        budget.exchange(usage(1, 10), usage(1, 10)).unwrap();
        budget.exchange(usage(1, 10), usage(0, 0)).unwrap();
        assert!(budget.exchange(usage(0, 0), usage(1, 0)).is_err());
        assert_eq!(budget.used(), usage(4, 40));
    }

    #[test]
    fn an_owner_has_the_limits_that_the_file_of_keys_has_now_and_a_refusal_names_it() {
        let allowances = Allowances::default();
        let budget = Budget::of_owner("team-a".into(), allowances.clone());
        let documents = |most| Limits { documents: NonZeroU64::new(most), ..Limits::default() };
        budget.exchange(NOTHING, usage(9, 1_000)).expect("it is not in the file, so it has no limits");
        allowances.set([("team-a", documents(10))]);
        budget.exchange(NOTHING, usage(1, 1)).unwrap();
        let full = budget.exchange(NOTHING, usage(2, 1)).unwrap_err();
        let said = "documents of team-a: 2 documents more would exceed the limit of 10: 10 are in use in the";
        assert!(full.to_string().starts_with(said), "{full}");
        allowances.set([("team-a", documents(5))]);
        budget.exchange(usage(1, 10), usage(1, 10)).expect("a replacement does not grow");
        assert!(budget.exchange(NOTHING, usage(1, 1)).is_err());
        allowances.set([("team-a", Limits { stored_bytes: NonZeroU64::new(1_000), ..Limits::default() })]);
        let full = budget.exchange(NOTHING, usage(1, 1)).unwrap_err();
        assert_eq!((full.limit, full.used, full.most), (Limit::OwnerBytes, 1_001, 1_000));
        budget.take(usage(1, 1));
        assert_eq!(budget.used(), usage(11, 1_002), "what exists is counted in any case");
    }
}
