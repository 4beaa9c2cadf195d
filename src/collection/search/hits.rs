//! Hits: what is known of one, and which of several are taken, in which order.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::super::document::{DocId, Kept};
use super::super::documents::Documents;
use super::super::filter::Scalar;
use super::super::groups::Groups;
use super::super::passages::{LocatedPassage, Span};
use super::fusion::Scores;
use super::parameters::Search;
use crate::compute::stop::{Stop, Stopped};
use crate::index::{Slot, Vector};

/// A document that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The id.
    pub id: DocId,
    /// The text; empty if [`Search::text_bytes`] asks for none.
    pub text: Arc<str>,
    /// The rest of its content.
    pub kept: Arc<Kept>,
    /// The score that [`Search::mode`] ranks by: cosine similarity to the query, of the nearest passage; or BM25; or
    /// both, fused.
    pub score: f32,
    /// The parts of that score, if words have a share of it.
    pub scores: Scores,
    /// The unit vector of that passage, `[dimensions]`.
    pub vector: Vector,
    /// The nearest passage; `None`: the document is one passage.
    pub passage: Option<Span>,
    /// The next nearest passages with their scores, at most [`Search::passages`] less one.
    pub others: Vec<(Span, f32)>,
}

/// A hit with the slot of the passage that was found. It has no text yet.
#[derive(Clone)]
pub(super) struct LocatedHit {
    pub slot: Slot,
    /// The row of its document.
    pub row: u64,
    /// All passages of the document, if there are several.
    pub passages: Option<Arc<[LocatedPassage]>>,
    pub hit: Hit,
}

impl LocatedHit {
    /// True if the document was neither removed nor updated since it was named.
    pub(super) fn is_unchanged(&self, here: &Documents) -> bool {
        here.at(self.slot).is_some_and(|(_, entry)| Arc::ptr_eq(&entry.kept, &self.hit.kept))
    }
}

impl Borrow<Hit> for LocatedHit {
    fn borrow(&self) -> &Hit {
        &self.hit
    }
}

fn hit<H: Borrow<Hit>>(of: &H) -> &Hit {
    of.borrow()
}

/// The hits that a search takes of its best ones: all, or some that differ from each other.
pub(crate) fn diverse<H: Borrow<Hit> + Clone>(pool: Vec<H>, search: &Search, stop: &Stop) -> Result<Vec<H>, Stopped> {
    let Some(diversity) = search.diversity else { return Ok(pool) };
    let scale = search.mode.scale(pool.first().map_or(0.0, |best| hit(best).score));
    let found = pool.iter().map(hit);
    let candidates: Vec<(f32, &[f32])> = found.map(|found| (found.score / scale, &*found.vector)).collect();
    let order = diversity.choose(&candidates, search.k, stop)?;
    Ok(order.into_iter().map(|index| pool[index].clone()).collect())
}

/// The best `n` hits of several lists, each document once, and of each group as many as it may have. Each list has the
/// best `n` for one of the vectors of a query, by the same rules.
pub(crate) fn merged<H: Borrow<Hit>>(lists: Vec<Vec<H>>, n: usize, groups: Option<&Groups>) -> Vec<H> {
    let mut all: Vec<H> = lists.into_iter().flatten().collect();
    all.sort_by(|one, other| best_first(hit(one), hit(other)));
    let mut documents = HashSet::new();
    let mut members: BTreeMap<Scalar, usize> = BTreeMap::new();
    all.retain(|found| {
        let hit = hit(found);
        if !documents.insert(hit.id.clone()) {
            return false;
        }
        let key = |groups: &Groups| groups.key(hit.kept.metadata.as_ref());
        let Some((groups, key)) = groups.and_then(|groups| Some((groups, key(groups)?))) else {
            return true;
        };
        let members = members.entry(key).or_default();
        *members += 1;
        *members <= groups.size.get()
    });
    all.truncate(n);
    all
}

/// The order of hits: descending score, then ascending id.
pub(crate) fn best_first(one: &Hit, other: &Hit) -> Ordering {
    other.score.total_cmp(&one.score).then_with(|| one.id.cmp(&other.id))
}
