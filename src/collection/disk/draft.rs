//! The check that a batch fits the stored state, before any of it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::change::{Change, Put};
use super::failure::Rejected;
use super::follows::FirstPass;

/// Collection and row number.
pub(super) type RowId = (u32, u64);

/// The state after some changes of a batch, as a difference to the stored state.
#[derive(Default)]
pub(super) struct Draft<'b> {
    /// Names and dimensions of collections that the batch creates.
    created: BTreeMap<u32, (&'b str, usize)>,
    deleted: BTreeSet<u32>,
    put: BTreeSet<RowId>,
    removed: BTreeSet<RowId>,
}

impl<'b> Draft<'b> {
    /// Adds a change, or returns why it does not fit. `stored` is true if the row that it names is on disk, or ids that
    /// its follower lacks.
    pub(super) fn add(&mut self, catalog: &Catalog, change: &'b Change, stored: bool) -> Result<(), Rejected> {
        match change {
            Change::CreateCollection(new) => {
                if catalog.knows(new.number) || self.created.contains_key(&new.number) {
                    return Err(Rejected::NumberTaken(new.number));
                }
                let here = self.created.values().any(|(name, _)| *name == new.name);
                let there = catalog.named(&new.name).is_some_and(|number| !self.deleted.contains(&number));
                if here || there {
                    return Err(Rejected::NameTaken(new.name.clone()));
                }
                self.created.insert(new.number, (&new.name, new.dimensions));
            }
            Change::CreateFollower(new, follows) => {
                if catalog.knows(new.number) || self.created.contains_key(&new.number) {
                    return Err(Rejected::NumberTaken(new.number));
                }
                let leader = catalog.get(follows.leader).filter(|_| !self.deleted.contains(&follows.leader));
                let leader = leader.ok_or(Rejected::NoCollection(follows.leader))?;
                if leader.follows.is_some() || catalog.follower_of(follows.leader).is_some() {
                    return Err(Rejected::InMigration(follows.leader));
                }
                // It has no name of its own.
                self.created.insert(new.number, ("", new.dimensions));
            }
            Change::Note(pending) | Change::Settle(pending) => drop(self.follower(catalog, pending.follower)?),
            Change::FirstPass { follower, .. } => drop(self.follower(catalog, *follower)?),
            Change::Exchange { follower } => {
                let first_pass = self.follower(catalog, *follower)?;
                if stored || first_pass != FirstPass::Over {
                    return Err(Rejected::Lacking(*follower));
                }
            }
            Change::DeleteCollection { collection } => {
                self.dimensions(catalog, *collection)?;
                if catalog.follower_of(*collection).is_some_and(|follower| !self.deleted.contains(&follower)) {
                    return Err(Rejected::InMigration(*collection));
                }
                self.deleted.insert(*collection);
                // The number stays taken; the name does not.
                if let Some((name, _)) = self.created.get_mut(collection) {
                    *name = "";
                }
            }
            Change::Put(put) => {
                let row_id @ (collection, row) = self.fitting(catalog, put)?;
                if stored || self.removed.contains(&row_id) || !self.put.insert(row_id) {
                    return Err(Rejected::RowTaken { collection, row });
                }
            }
            Change::Replace(put) => {
                let row_id @ (collection, row) = self.fitting(catalog, put)?;
                if !self.put.contains(&row_id) && (!stored || self.removed.contains(&row_id)) {
                    return Err(Rejected::NoRow { collection, row });
                }
            }
            Change::Remove { collection, row } => {
                let row_id = (*collection, *row);
                self.dimensions(catalog, *collection)?;
                let there = self.put.remove(&row_id) || (stored && !self.removed.contains(&row_id));
                if !there {
                    return Err(Rejected::NoRow { collection: *collection, row: *row });
                }
                self.removed.insert(row_id);
            }
        }
        Ok(())
    }

    /// The row of a record whose vector has the length of its collection's.
    fn fitting(&self, catalog: &Catalog, put: &Put) -> Result<RowId, Rejected> {
        let (collection, found) = (put.collection, put.dimensions);
        let expected = self.dimensions(catalog, collection)?;
        if found == expected {
            Ok((collection, put.row))
        } else {
            Err(Rejected::Dimensions { collection, expected, found })
        }
    }

    /// The progress of an existing follower.
    fn follower(&self, catalog: &Catalog, number: u32) -> Result<FirstPass, Rejected> {
        let entry = catalog.get(number).filter(|_| !self.deleted.contains(&number));
        let follows = entry.ok_or(Rejected::NoCollection(number))?.follows.as_ref();
        follows.map(|follows| follows.first_pass.clone()).ok_or(Rejected::NotFollower(number))
    }

    /// Dimensions of an existing collection.
    fn dimensions(&self, catalog: &Catalog, collection: u32) -> Result<usize, Rejected> {
        let created = self.created.get(&collection).map(|(_, dimensions)| *dimensions);
        let found = created.or_else(|| Some(catalog.get(collection)?.dimensions));
        found.filter(|_| !self.deleted.contains(&collection)).ok_or(Rejected::NoCollection(collection))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::tests::plain;
    use super::*;

    fn create(number: u32, name: &str) -> Change {
        Change::CreateCollection(plain(number, name, 2))
    }

    fn put(collection: u32, row: u64, vector: &[f32]) -> Change {
        let record =
            Record { id: "a", text: "", metadata: None, vectors: vector, spans: &[], origin: Default::default() };
        Change::Put(Put::new(collection, row, &record))
    }

    fn replace(collection: u32, row: u64, vector: &[f32]) -> Change {
        let Change::Put(put) = put(collection, row, vector) else { unreachable!() };
        Change::Replace(put)
    }

    fn remove(collection: u32, row: u64) -> Change {
        Change::Remove { collection, row }
    }

    /// Checks a batch against a collection 0, named "old", with rows 0 to 4.
    fn check(batch: &[Change]) -> Result<(), Rejected> {
        let mut catalog = Catalog::default();
        catalog.create(&plain(0, "old", 2));
        let mut draft = Draft::default();
        batch.iter().try_for_each(|change| {
            let stored = match change {
                Change::Put(put) | Change::Replace(put) => put.collection == 0 && put.row < 5,
                Change::Remove { collection, row } => *collection == 0 && *row < 5,
                _ => false,
            };
            draft.add(&catalog, change, stored)
        })
    }

    #[test]
    fn a_batch_may_build_on_itself() {
        let delete = Change::DeleteCollection { collection: 0 };
        let pair = [1.0, 0.0];
        assert_eq!(check(&[create(1, "new"), put(1, 0, &pair), remove(1, 0), put(1, 1, &pair)]), Ok(()));
        assert_eq!(check(&[remove(0, 3), put(0, 5, &pair)]), Ok(()));
        let replaced = [replace(0, 3, &pair), replace(0, 3, &pair), put(0, 5, &pair), replace(0, 5, &pair)];
        assert_eq!(check(&replaced), Ok(()));
        assert_eq!(check(&[delete.clone(), create(1, "old"), put(1, 0, &pair)]), Ok(()));
        assert_eq!(check(&[create(1, "new"), Change::DeleteCollection { collection: 1 }, create(2, "new")]), Ok(()));
    }

    #[test]
    fn a_change_that_does_not_fit_is_rejected_by_name() {
        let delete = Change::DeleteCollection { collection: 0 };
        let pair = [1.0, 0.0];
        let no = |collection, row| Err(Rejected::NoRow { collection, row });
        let taken = |collection, row| Err(Rejected::RowTaken { collection, row });
        assert_eq!(check(&[create(0, "x")]), Err(Rejected::NumberTaken(0)));
        assert_eq!(check(&[create(1, "old")]), Err(Rejected::NameTaken("old".into())));
        assert_eq!(check(&[create(1, "x"), create(2, "x")]), Err(Rejected::NameTaken("x".into())));
        assert_eq!(check(&[put(7, 0, &pair)]), Err(Rejected::NoCollection(7)));
        assert_eq!(check(&[delete, remove(0, 1)]), Err(Rejected::NoCollection(0)));
        assert_eq!(check(&[remove(0, 5)]), no(0, 5));
        assert_eq!(check(&[remove(0, 4), remove(0, 4)]), no(0, 4));
        assert_eq!(check(&[put(0, 4, &pair)]), taken(0, 4));
        assert_eq!(check(&[put(0, 9, &pair), put(0, 9, &pair)]), taken(0, 9));
        assert_eq!(check(&[remove(0, 4), put(0, 4, &pair)]), taken(0, 4));
        assert_eq!(check(&[replace(0, 5, &pair)]), no(0, 5));
        assert_eq!(check(&[remove(0, 4), replace(0, 4, &pair)]), no(0, 4));
        let short = Err(Rejected::Dimensions { collection: 0, expected: 2, found: 1 });
        assert_eq!(check(&[put(0, 9, &[1.0])]), short);
        assert_eq!(check(&[replace(0, 4, &[1.0])]), short);
    }
}
