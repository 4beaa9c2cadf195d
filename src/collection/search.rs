//! Searches in a collection: filters, groups, diversity, and the order of hits.
//!
//! The index answers "the nearest `n` among these positions". This module adds ids (which decide between equal
//! scores), groups, and diverse hits.
//!
//! The index is searched without a lock, so commits do not wait for a search. A short lock then names the hits. If
//! a document among the hits or the candidates has left its position meanwhile, the search is repeated. After
//! [`ATTEMPTS`] the documents stay locked for the whole search.
//!
//! Invariant: there are as many hits as are wanted or possible. A document that is replaced during a search is
//! found in its old or its new state.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;

use super::diversity::Diversity;
use super::document::{Content, DocId};
use super::documents::Documents;
use super::filter::{Filter, Scalar};
use super::groups::Groups;
use super::matching::Matching;
use super::single::Collection;
use crate::compute::stop::{Stop, Stopped};
use crate::index::{Effort, Nearest, Neighbour, Query, Slot, Vector};
use crate::kernel::embedding::Embedding;

/// Parameters of a search.
#[derive(Debug, Clone)]
pub struct Search {
    /// Hits wanted; at least 1.
    pub k: usize,
    /// Exact comparison, or a graph walk with its `ef`.
    pub effort: Effort,
    /// Condition on the documents.
    pub filter: Option<Filter>,
    /// Least score of a hit.
    pub min_score: Option<f32>,
    /// Limit on the hits of each group.
    pub groups: Option<Groups>,
    /// Demand for hits that differ from each other; `None`: order by score alone.
    pub diversity: Option<Diversity>,
}

impl Search {
    /// A search for the `k` nearest of all documents.
    pub fn nearest(k: usize, effort: Effort) -> Self {
        Self { k, effort, filter: None, min_score: None, groups: None, diversity: None }
    }
}

/// A document that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The id.
    pub id: DocId,
    /// The content.
    pub content: Arc<Content>,
    /// Cosine similarity to the query.
    pub score: f32,
    /// The unit vector, `[dimensions]`.
    pub vector: Vector,
}

/// State that the queries of one call share: the documents that match its filter. The first query evaluates the
/// filter, later ones catch up with changes.
#[derive(Debug, Default)]
pub struct Chosen(Mutex<Option<Arc<Matching>>>);

/// Positions to search among, as of a number of changes.
#[derive(Clone, Copy)]
struct Among<'s> {
    positions: &'s RoaringBitmap,
    seen: u64,
}

/// Attempts that changes may spoil before the documents stay locked for the whole search.
const ATTEMPTS: usize = 3;

impl Collection {
    /// The nearest documents: `k`, or all that match if they are fewer. Ordered by descending score, then ascending
    /// id; with [`Search::diversity`], in the order in which they are chosen.
    pub fn search(&self, query: &Embedding, search: &Search) -> Vec<Hit> {
        let found = self.search_in_call(query, search, &Chosen::default(), &Stop::never());
        found.expect("this flag is never raised")
    }

    /// Does the same as [`Collection::search`] for one of the queries of a call, until `stop` is raised. `chosen`
    /// belongs to the call and to this `search`.
    pub fn search_in_call(
        &self,
        query: &Embedding,
        search: &Search,
        chosen: &Chosen,
        stop: &Stop,
    ) -> Result<Vec<Hit>, Stopped> {
        let ranking = Ranking { collection: self, query: query.values(), search, chosen, stop, held: None };
        let Some(diversity) = search.diversity else { return ranking.best(search.k) };
        let pool = ranking.best(diversity.pool(search.k))?;
        let candidates: Vec<(f32, &[f32])> = pool.iter().map(|found| (found.score, &*found.vector)).collect();
        let order = diversity.choose(&candidates, search.k, stop)?;
        Ok(order.into_iter().map(|index| pool[index].clone()).collect())
    }
}

/// One running search.
#[derive(Clone, Copy)]
struct Ranking<'s> {
    collection: &'s Collection,
    query: &'s [f32],
    search: &'s Search,
    chosen: &'s Chosen,
    stop: &'s Stop,
    /// The documents, if they are locked for the whole search.
    held: Option<&'s Documents>,
}

/// A hit with its slot.
struct LocatedHit {
    slot: Slot,
    hit: Hit,
}

/// Reports that documents relevant to the search changed while it ran.
struct Changed;

/// Result of an attempt: hits, unless documents changed meanwhile.
type Attempt<T> = Result<Result<T, Changed>, Stopped>;

impl Ranking<'_> {
    /// The best `n` hits by score.
    fn best(self, n: usize) -> Result<Vec<Hit>, Stopped> {
        for _ in 0..ATTEMPTS {
            if let Ok(hits) = self.attempt(n)? {
                return Ok(found(hits));
            }
        }
        let here = self.collection.read();
        let attempt = Ranking { held: Some(&here), ..self }.attempt(n)?;
        Ok(found(attempt.unwrap_or_else(|Changed| unreachable!("nothing changes while the documents are locked"))))
    }

    fn attempt(self, n: usize) -> Attempt<Vec<LocatedHit>> {
        let chosen = self.chosen()?;
        let among = chosen.as_deref().map(|chosen| Among { positions: chosen.positions(), seen: chosen.seen() });
        match &self.search.groups {
            None => self.nearest(n, among),
            Some(groups) => self.best_of_groups(n, groups, among),
        }
    }

    /// The documents that match the filter.
    fn chosen(self) -> Result<Option<Arc<Matching>>, Stopped> {
        let Some(filter) = &self.search.filter else { return Ok(None) };
        if let Some(here) = self.held {
            // Does not lock `chosen`: another query may hold it and wait for the documents.
            return Ok(Some(Arc::new(here.matching(filter, self.stop)?)));
        }
        let mut chosen = self.chosen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut matching = self.collection.matching_again(chosen.take(), filter, self.stop)?;
        self.with_documents(|here| {
            if matching.is_behind(here) { Arc::make_mut(&mut matching).catch_up(here, self.stop) } else { Ok(()) }
        })?;
        Ok(Some(Arc::clone(chosen.insert(matching))))
    }

    /// Searches in rounds, and keeps of each group as many hits as it may have. Each round excludes the hits of
    /// earlier rounds and all documents of full groups, even if these are most of the collection. Each round asks
    /// for twice as many as the one before; otherwise many groups that each fill a round would take as many rounds.
    fn best_of_groups(self, n: usize, groups: &Groups, among: Option<Among<'_>>) -> Attempt<Vec<LocatedHit>> {
        let mut left: Option<(RoaringBitmap, u64)> = among.map(|among| (among.positions.clone(), among.seen));
        let mut best: Vec<LocatedHit> = Vec::new();
        let mut members: BTreeMap<Scalar, usize> = BTreeMap::new();
        let mut at_once = n.saturating_mul(2);
        loop {
            let among = left.as_ref().map(|(positions, seen)| Among { positions, seen: *seen });
            let Ok(round) = self.nearest(at_once, among)? else { return Ok(Err(Changed)) };
            let was_last = round.len() < at_once;
            let seen: Vec<Slot> = round.iter().map(|hit| hit.slot).collect();
            let mut full = Vec::new();
            for hit in round {
                let Some(key) = groups.key(&hit.hit.content) else {
                    best.push(hit);
                    continue;
                };
                let members = members.entry(key.clone()).or_default();
                *members += 1;
                if *members <= groups.size.get() {
                    best.push(hit);
                }
                if *members == groups.size.get() {
                    full.push(key);
                }
            }
            if was_last || best.len() >= n {
                best.sort_by(LocatedHit::best_first); // A graph may find in a later round what an earlier one missed.
                best.truncate(n);
                let unchanged = self.with_documents(|here| best.iter().all(|hit| hit.is_unchanged(here)));
                return Ok(if unchanged { Ok(best) } else { Err(Changed) });
            }
            left = Some(self.with_documents(|here| {
                let (mut positions, moment) =
                    left.take().unwrap_or_else(|| (here.all().clone(), here.changes().total()));
                for slot in seen {
                    positions.remove(slot.index());
                }
                for key in &full {
                    positions -= here.in_group(groups, key);
                }
                (positions, moment)
            }));
            at_once = at_once.saturating_mul(2);
        }
    }

    /// The nearest `n` hits with enough score, of all documents or of those at some positions.
    fn nearest(self, n: usize, among: Option<Among<'_>>) -> Attempt<Vec<LocatedHit>> {
        let (index, effort) = (&self.collection.index, self.search.effort);
        let positions = among.map(|among| among.positions);
        if effort == (Effort::Graph { ef: None }) {
            index.sample(self.query, positions);
        }
        let mut near = index.nearest(&Query { vector: self.query, k: n, effort, among: positions }, self.stop)?;
        if let Some(least) = self.search.min_score {
            let before = near.hits.len();
            near.hits.retain(|hit| hit.score >= least);
            // Ties of a hit with too low a score have too low a score as well.
            near.tied.retain(|_| near.hits.len() == before);
        }
        Ok(self.with_documents(|here| {
            let has_changed = among.is_some_and(|among| here.changes().touched(among.positions, among.seen));
            let hits = if has_changed { None } else { self.name(here, &near) };
            hits.ok_or(Changed)
        }))
    }

    /// Turns neighbours into hits, best first. Of those that tie with the last one, the lowest ids are taken.
    /// `None` if a document was removed meanwhile.
    fn name(self, here: &Documents, near: &Nearest) -> Option<Vec<LocatedHit>> {
        let Some(last) = near.hits.last().map(|hit| hit.score) else { return Some(Vec::new()) };
        let (better, equal): (Vec<Neighbour>, Vec<Neighbour>) =
            near.hits.iter().copied().partition(|hit| hit.score > last);
        let wanted = equal.len();
        let equal = equal.iter().map(|hit| hit.slot).chain(near.tied.iter().copied());
        let mut equal = equal.map(|slot| Some((here.at(slot)?, slot))).collect::<Option<Vec<(&DocId, Slot)>>>()?;
        if equal.len() > wanted {
            equal.select_nth_unstable(wanted - 1);
            equal.truncate(wanted);
        }
        let better = better.iter().map(|hit| Some((here.at(hit.slot)?, hit.slot, hit.score)));
        let named = better.chain(equal.into_iter().map(|(id, slot)| Some((id, slot, last))));
        let hit = |named: Option<(&DocId, Slot, f32)>| {
            let (id, slot, score) = named?;
            let content = Arc::clone(&here.by_id.get(id)?.content);
            let hit = Hit { id: id.clone(), content, score, vector: self.collection.row(slot) };
            Some(LocatedHit { slot, hit })
        };
        let mut hits = named.map(hit).collect::<Option<Vec<LocatedHit>>>()?;
        hits.sort_by(LocatedHit::best_first);
        Some(hits)
    }

    /// Reads the documents under the lock.
    fn with_documents<T>(self, read: impl FnOnce(&Documents) -> T) -> T {
        match self.held {
            Some(here) => read(here),
            None => read(&self.collection.read()),
        }
    }
}

fn found(hits: Vec<LocatedHit>) -> Vec<Hit> {
    hits.into_iter().map(|located| located.hit).collect()
}

impl LocatedHit {
    /// True if the document was neither removed nor updated since it was named.
    fn is_unchanged(&self, here: &Documents) -> bool {
        let entry = here.at(self.slot).and_then(|id| here.by_id.get(id));
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.content, &self.hit.content))
    }

    fn best_first(&self, other: &Self) -> Ordering {
        let (one, other) = (&self.hit, &other.hit);
        other.score.total_cmp(&one.score).then_with(|| one.id.cmp(&other.id))
    }
}
