//! A budget of bytes: the memory that requests and answers in transit may take together.
//!
//! Invariant: the bytes held never exceed the total. A holder gives its bytes back when it is dropped.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of the permits. A semaphore takes `u32` permits at a time; units of 64 bytes reach 256 GiB in one part.
const UNIT: usize = 64;

/// A number of bytes that can be held in parts. Clones share it.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    units: usize,
}

/// A part of a budget. Dropping it gives the bytes back.
#[derive(Debug)]
pub struct Held {
    permit: OwnedSemaphorePermit,
}

impl ByteBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// All bytes of the budget.
    pub fn total(&self) -> usize {
        self.units * UNIT
    }

    /// Bytes that are held now.
    pub fn in_use(&self) -> usize {
        (self.units - self.free.available_permits()) * UNIT
    }

    /// Holds `bytes` if they are free.
    pub fn try_hold(&self, bytes: usize) -> Option<Held> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.units_of(bytes)?).ok()?;
        Some(Held { permit })
    }

    /// Waits until `bytes` are free and holds them; first come, first served. `None` if the whole budget is smaller.
    pub async fn hold(&self, bytes: usize) -> Option<Held> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.units_of(bytes)?).await;
        permit.ok().map(|permit| Held { permit })
    }

    /// The permits for `bytes`; `None` if the whole budget has fewer.
    fn units_of(&self, bytes: usize) -> Option<u32> {
        let units = bytes.div_ceil(UNIT);
        u32::try_from(units).ok().filter(|_| units <= self.units)
    }
}

impl Held {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * UNIT
    }

    /// Adds another part of the same budget to this one.
    ///
    /// # Panics
    /// If `other` is a part of another budget.
    pub fn merge(&mut self, other: Held) {
        self.permit.merge(other.permit);
    }

    /// Gives back all except `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let kept = bytes.div_ceil(UNIT);
        let spare = self.permit.num_permits().saturating_sub(kept);
        drop(self.permit.split(spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_are_given_back_when_dropped() {
        let budget = ByteBudget::new(1_000 * UNIT);
        let mut part = budget.try_hold(600 * UNIT).unwrap();
        assert!(budget.try_hold(401 * UNIT).is_none());
        part.merge(budget.try_hold(400 * UNIT).unwrap());
        assert_eq!((part.bytes(), budget.in_use()), (1_000 * UNIT, 1_000 * UNIT));
        part.shrink_to(UNIT + 1);
        assert_eq!(budget.in_use(), 2 * UNIT);
        drop(part);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn more_than_the_total_is_never_held() {
        let budget = ByteBudget::new(10 * UNIT);
        assert!(budget.hold(11 * UNIT).await.is_none());
        assert_eq!(budget.hold(10 * UNIT).await.unwrap().bytes(), budget.total());
    }
}
