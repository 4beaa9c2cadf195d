//! Documents that match a filter, kept up to date while documents change.
//!
//! A filter is evaluated once and used for all queries of a call. Commits go on meanwhile.
//! [`Changes`](super::changes::Changes) notes the positions that they change, and the documents there are checked
//! again, one by one, before the result is used.
//!
//! So a filter delays no commit, with one exception: it is evaluated under the lock if more than
//! [`REMEMBERED`](super::changes::REMEMBERED) changes overtook its evaluation [`ATTEMPTS`] times. If as many came
//! between two queries of one call, it is evaluated anew as for the first one.
//!
//! Invariant: after `Matching::catch_up` the result is that of the present documents, as long as the same lock is
//! held.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::columns::evaluate::{self, Corpus};
use super::documents::Documents;
use super::filter::Filter;
use super::single::Collection;
use crate::compute::stop::{Stop, Stopped};

/// Number of evaluations that changes may overtake. After them, one evaluation keeps the documents locked.
const ATTEMPTS: usize = 3;

/// The positions of the documents that match a filter.
#[derive(Debug, Clone)]
pub struct Matching {
    filter: Filter,
    positions: RoaringBitmap,
    /// Number of changes that the result includes.
    seen: u64,
}

impl Matching {
    /// The positions of the documents that match, as of the last `Matching::catch_up`.
    pub fn positions(&self) -> &RoaringBitmap {
        &self.positions
    }

    /// Number of changes that the result includes.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// True if documents changed since.
    pub(super) fn is_behind(&self, here: &Documents) -> bool {
        self.seen != here.changes().total()
    }

    /// Brings the positions up to date with the documents, which the caller has locked.
    pub(super) fn catch_up(&mut self, here: &Documents, stop: &Stop) -> Result<(), Stopped> {
        if here.deleted {
            self.positions.clear();
        } else if let Some(changed) = here.changes().since(self.seen) {
            for position in changed {
                if here.holds(position, &self.filter) {
                    self.positions.insert(position);
                } else {
                    self.positions.remove(position);
                }
            }
        } else {
            self.positions = here.positions(&self.filter, stop)?;
        }
        self.seen = here.changes().total();
        Ok(())
    }

    fn is_outrun(&self, here: &Documents) -> bool {
        !here.deleted && here.changes().since(self.seen).is_none()
    }
}

impl Collection {
    /// Evaluates a filter. A call evaluates it once, and runs `Matching::catch_up` before each use.
    pub fn matching(&self, filter: &Filter, stop: &Stop) -> Result<Matching, Stopped> {
        for _ in 0..ATTEMPTS {
            let seen = self.read().changes().total();
            let positions = evaluate::matching(filter, &|| self.read(), stop)?;
            let matching = Matching { filter: filter.clone(), positions, seen };
            if !matching.is_outrun(&self.read()) {
                return Ok(matching);
            }
        }
        self.read().matching(filter, stop)
    }

    /// Returns the result of the call's earlier query, or evaluates the filter if no earlier result can catch up.
    pub(super) fn matching_again(
        &self,
        earlier: Option<Arc<Matching>>,
        filter: &Filter,
        stop: &Stop,
    ) -> Result<Arc<Matching>, Stopped> {
        match earlier.filter(|earlier| !earlier.is_outrun(&self.read())) {
            Some(earlier) => Ok(earlier),
            None => Ok(Arc::new(self.matching(filter, stop)?)),
        }
    }
}

impl Documents {
    /// Evaluates a filter while the documents are locked.
    pub(super) fn matching(&self, filter: &Filter, stop: &Stop) -> Result<Matching, Stopped> {
        Ok(Matching { filter: filter.clone(), positions: self.positions(filter, stop)?, seen: self.changes().total() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::changes::REMEMBERED;
    use super::super::filter::text;
    use super::super::{Content, DocId, Document, Model, Options, Settings, Store};
    use super::*;
    use crate::kernel::embedding::Embedding;

    fn collection() -> Arc<Collection> {
        let model = Model { name: "m", fingerprint: "f", dimensions: 2 };
        Store::open(Options::default()).unwrap().create("c", model, Settings::default()).unwrap()
    }

    fn put(collection: &Collection, changes: &[(u8, u8)]) {
        let document = |&(id, year): &(u8, u8)| {
            let metadata = json!({ "year": year }).as_object().cloned();
            let embedding = Embedding::normalized(vec![1.0, f32::from(id)]).unwrap();
            let content = Arc::new(Content::new("", metadata.as_ref()));
            Document {
                id: DocId::new(&id.to_string()).unwrap(),
                content,
                vectors: embedding.into(),
                origin: Default::default(),
            }
        };
        collection.commit(changes.iter().map(document).collect()).unwrap();
    }

    /// The positions after catching up, and those of a new evaluation.
    fn both(matching: &mut Matching, collection: &Collection, filter: &Filter) -> (RoaringBitmap, RoaringBitmap) {
        let (here, stop) = (collection.read(), Stop::never());
        matching.catch_up(&here, &stop).unwrap();
        (matching.positions().clone(), here.positions(filter, &stop).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn an_updated_result_equals_a_fresh_one(
            steps in prop::collection::vec(prop::collection::vec((0..20u8, 0..4u8), 0..20), 1..6),
            gone in prop::collection::vec(0..20u8, 0..4),
        ) {
            let (collection, filter) = (collection(), text::parse("year >= 2 or not year = 0").unwrap());
            let mut matching = collection.matching(&filter, &Stop::never()).unwrap();
            for changes in steps {
                put(&collection, &changes);
                let (updated, fresh) = both(&mut matching, &collection, &filter);
                prop_assert_eq!(updated, fresh);
            }
            collection.remove(&gone.iter().map(|id| DocId::new(&id.to_string()).unwrap()).collect::<Vec<_>>()).unwrap();
            let (updated, fresh) = both(&mut matching, &collection, &filter);
            prop_assert_eq!(updated, fresh);
        }
    }

    #[test]
    fn more_changes_than_are_remembered_are_an_evaluation_anew() {
        let (collection, filter) = (collection(), text::parse("year = 1").unwrap());
        let mut matching = collection.matching(&filter, &Stop::never()).unwrap();
        for n in 0..=REMEMBERED {
            put(&collection, &[((n % 7) as u8, (n % 2) as u8)]);
        }
        let again = collection.matching_again(Some(Arc::new(matching.clone())), &filter, &Stop::never()).unwrap();
        assert!(!again.is_behind(&collection.read()), "the next query finds it evaluated, before the lock");
        let (updated, fresh) = both(&mut matching, &collection, &filter);
        assert_eq!(updated, fresh);
        assert_eq!(again.positions(), &fresh);
        collection.delete();
        matching.catch_up(&collection.read(), &Stop::never()).unwrap();
        assert!(matching.positions().is_empty());
    }
}
