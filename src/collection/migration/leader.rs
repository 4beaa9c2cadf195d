//! The operations of a collection that migrations need: its part in one, and its documents without vectors.

use std::sync::{MutexGuard, PoisonError};

use super::super::commit_queue::Operation;
use super::super::document::{DocId, Origin};
use super::super::documents::{Documents, Entry};
use super::super::single::{Changed, Collection};
use super::lag::{Noted, Role};

/// Documents that are looked through while the documents are locked.
const PAGE: usize = 4_096;

impl Collection {
    /// True if another collection leads under this name, or a migration that this one lost has ended: clients change
    /// nothing here, and get the collection by its name again.
    pub fn has_moved(&self) -> bool {
        matches!(*self.role_now(), Role::Follower)
    }

    /// Number of documents whose vectors came from a client.
    pub fn n_given(&self) -> usize {
        self.read().n_given()
    }

    /// Number of documents whose vectors came from a client, and the first ids.
    pub(super) fn given(&self, most: usize) -> (usize, Vec<DocId>) {
        self.first(most, |here, entry| here.origin(entry) == Origin::Client)
    }

    /// Number of documents without a text, and the first ids.
    pub(super) fn without_text(&self, most: usize) -> (usize, Vec<DocId>) {
        self.first(most, |_, entry| entry.kept.text_bytes() == 0)
    }

    /// True if a document has a text.
    pub fn has_text(&self, id: &DocId) -> bool {
        self.read().entry(id).is_some_and(|entry| entry.kept.text_bytes() > 0)
    }

    /// Number of the documents for which `is` is true, and the first ids.
    fn first(&self, most: usize, is: impl Fn(&Documents, &Entry) -> bool) -> (usize, Vec<DocId>) {
        let (mut count, mut first, mut after) = (0, Vec::new(), None::<DocId>);
        loop {
            let here = self.read();
            let mut seen = 0;
            let mut last = None;
            for (id, entry) in here.after(after.as_ref()).take(PAGE) {
                (seen, last) = (seen + 1, Some(id));
                if is(&here, entry) {
                    count += 1;
                    if first.len() < most {
                        first.push(id.clone());
                    }
                }
            }
            if seen < PAGE {
                return (count, first);
            }
            after = last.cloned();
        }
    }

    /// The first ids, starting after the id `after`.
    pub(super) fn ids_after(&self, after: Option<&DocId>, limit: usize) -> Vec<DocId> {
        self.read().after(after).take(limit).map(|(id, _)| id.clone()).collect()
    }

    /// True if the operation may change the collection: a follower is changed by its migration alone.
    pub(in super::super) fn admits(&self, operation: &Operation) -> bool {
        matches!(*self.role_now(), Role::Follower) == matches!(operation, Operation::Follow(_))
    }

    /// Notes changes for the follower, if there is one. The caller has the turn of commits.
    pub(in super::super) fn noted(&self, changed: &[Changed]) -> Option<Noted> {
        match &*self.role_now() {
            Role::Followed(lag) => Some(lag.noted(changed.iter().map(|changed| &changed.id))),
            Role::Alone | Role::Follower => None,
        }
    }

    /// Gives the collection another part. The caller has the turn of commits.
    pub(super) fn set_role(&self, role: Role) {
        *self.role_now() = role;
    }

    /// Waits for the commit in progress. None begins while the guard lives.
    pub(in super::super) fn turn(&self) -> MutexGuard<'_, u64> {
        self.group_commit.turn_of_reader()
    }

    fn role_now(&self) -> MutexGuard<'_, Role> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
