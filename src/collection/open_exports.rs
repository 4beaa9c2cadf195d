//! The open exports of one collection, and the bytes that only they keep alive.
//!
//! Invariant: a document that left while exports were open is counted until the last export that was open at that
//! moment ends. That may be a little too long: an export that is past the document does not hold it any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budgets::SharedBudgets;
use super::disk::ReadError;
use crate::compute::stop::Stopped;

/// Most open exports of one collection. Each holds a list of all documents.
pub(super) const MOST_OPEN: usize = 8;

/// Reasons why an export does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The collection has the most exports that are allowed.
    #[error("{MOST_OPEN} exports of this collection are in progress, which is the limit: wait for one to end")]
    TooMany,
    /// The caller has gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The disk cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The open exports of one collection, and the bytes that only they keep alive.
pub(super) struct Exports {
    budgets: SharedBudgets,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// By export number, in the order in which they began: bytes of documents that left while this export was the
    /// latest.
    kept: BTreeMap<u64, usize>,
}

/// Guard: the export is open as long as this lives.
pub(super) struct Kept {
    exports: Arc<Exports>,
    number: u64,
    /// Bytes of the export's list.
    list_bytes: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut open = self.exports.lock();
        let bytes = open.kept.remove(&self.number).unwrap_or(0);
        // Exports that began earlier hold the same documents.
        let earlier = open.kept.range_mut(..self.number).next_back();
        let freed = match earlier {
            Some((_, kept)) => {
                *kept += bytes;
                0
            }
            None => bytes,
        };
        self.exports.budgets.replace(freed + self.list_bytes, 0);
    }
}

impl Exports {
    pub(super) fn new(budgets: SharedBudgets) -> Self {
        Self { budgets, open: Mutex::default() }
    }

    /// Bytes to keep counted if documents of this size leave now: all of them if an export is open, else 0.
    pub(super) fn would_keep(&self, bytes: usize) -> usize {
        if self.lock().kept.is_empty() { 0 } else { bytes }
    }

    /// Notes that documents of `bytes` left, of which `counted` are still in the budgets of all collections
    /// and of the owner. The caller ensures that no search or export begins meanwhile.
    pub(super) fn keep(&self, bytes: usize, counted: usize) {
        let mut open = self.lock();
        let kept = match open.kept.last_entry() {
            Some(mut latest) => {
                *latest.get_mut() += bytes;
                bytes
            }
            None => 0,
        };
        self.budgets.replace(counted, kept);
    }

    /// Opens an export whose list takes `list_bytes`.
    pub(super) fn open(self: &Arc<Self>, list_bytes: usize) -> Result<Kept, ExportError> {
        let mut open = self.lock();
        if open.kept.len() >= MOST_OPEN {
            return Err(ExportError::TooMany);
        }
        let number = open.next;
        open.next += 1;
        open.kept.insert(number, 0);
        self.budgets.replace(0, list_bytes);
        Ok(Kept { exports: Arc::clone(self), number, list_bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
