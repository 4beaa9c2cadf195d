//! Searches in a collection: which documents are wanted, and in which order.
//!
//! The index answers "the nearest `n` among these places". This module adds what the index does not know: ids, which
//! decide between equal scores, groups, and hits that should differ from each other.
//!
//! No lock is held while the index is searched, so no commit waits for a search. What the index found is then named
//! under a short lock. If a document that would be among the hits, or that the search chose among, has left its place
//! meanwhile, the search is repeated; after [`ATTEMPTS`] the documents are held throughout.
//!
//! Invariant: hits are as many as are wanted, or as there can be: a document that is replaced during a search is found
//! in its old or its new state.

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
use crate::embedder::Embedding;
use crate::index::{Effort, Nearest, Neighbour, Query, Slot, Vector};

/// What to find.
#[derive(Debug, Clone)]
pub struct Search {
    /// Hits wanted, at least 1.
    pub k: usize,
    /// How hard to look.
    pub effort: Effort,
    /// Only these documents.
    pub filter: Option<Filter>,
    /// Only hits that score as much.
    pub min_score: Option<f32>,
    /// Only so many of each group.
    pub groups: Option<Groups>,
    /// Hits that differ from each other; `None`: by score alone.
    pub diversity: Option<Diversity>,
}

impl Search {
    /// For the `k` nearest of all documents.
    pub fn nearest(k: usize, effort: Effort) -> Self {
        Self { k, effort, filter: None, min_score: None, groups: None, diversity: None }
    }
}

/// A document that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its id.
    pub id: DocId,
    /// Its content.
    pub content: Arc<Content>,
    /// Cosine similarity to the query.
    pub score: f32,
    /// Its unit vector, `[dimensions]`.
    pub vector: Vector,
}

/// What the queries of one call have in common: the documents that its filter chooses. The first query finds them, and
/// later ones bring them up to date.
#[derive(Debug, Default)]
pub struct Chosen(Mutex<Option<Arc<Matching>>>);

/// Places that are searched, as they were after so many changes of the documents.
#[derive(Clone, Copy)]
struct Among<'s> {
    places: &'s RoaringBitmap,
    seen: u64,
}

/// A search that met changes is repeated as often before it holds the documents throughout.
const ATTEMPTS: usize = 3;

impl Collection {
    /// The nearest documents: as many as `k` where so many match, score descending, then id ascending; with
    /// [`Search::diversity`] in the order in which they are chosen.
    pub fn search(&self, query: &Embedding, search: &Search) -> Vec<Found> {
        let found = self.search_in_call(query, search, &Chosen::default(), &Stop::never());
        found.expect("nobody raises the flag")
    }

    /// As [`Collection::search`], for one of the queries of a call, until `stop` is raised. `chosen` belongs to the call
    /// and to this `search`.
    pub fn search_in_call(
        &self,
        query: &Embedding,
        search: &Search,
        chosen: &Chosen,
        stop: &Stop,
    ) -> Result<Vec<Found>, Stopped> {
        let ranking = Ranking { collection: self, query: query.values(), search, chosen, stop, held: None };
        let Some(diversity) = search.diversity else { return ranking.best(search.k) };
        let pool = ranking.best(diversity.pool(search.k))?;
        let candidates: Vec<(f32, &[f32])> = pool.iter().map(|found| (found.score, &*found.vector)).collect();
        let places = diversity.choose(&candidates, search.k, stop)?;
        Ok(places.into_iter().map(|place| pool[place].clone()).collect())
    }
}

/// One search.
#[derive(Clone, Copy)]
struct Ranking<'s> {
    collection: &'s Collection,
    query: &'s [f32],
    search: &'s Search,
    chosen: &'s Chosen,
    stop: &'s Stop,
    /// The documents, where they are held throughout.
    held: Option<&'s Documents>,
}

/// A document that was found, and where.
struct Hit {
    slot: Slot,
    found: Found,
}

/// Documents that matter to the search were replaced or removed while it ran.
struct Changed;

/// What an attempt found, unless the documents changed meanwhile.
type Attempt<T> = Result<Result<T, Changed>, Stopped>;

impl Ranking<'_> {
    /// The best `n` by score of what was asked for.
    fn best(self, n: usize) -> Result<Vec<Found>, Stopped> {
        for _ in 0..ATTEMPTS {
            if let Ok(hits) = self.attempt(n)? {
                return Ok(found(hits));
            }
        }
        let here = self.collection.read();
        let attempt = Ranking { held: Some(&here), ..self }.attempt(n)?;
        Ok(found(attempt.unwrap_or_else(|Changed| unreachable!("nothing changes while the documents are held"))))
    }

    fn attempt(self, n: usize) -> Attempt<Vec<Hit>> {
        let chosen = self.chosen()?;
        let among = chosen.as_deref().map(|chosen| Among { places: chosen.places(), seen: chosen.seen() });
        match &self.search.groups {
            None => self.nearest(n, among),
            Some(groups) => self.best_of_groups(n, groups, among),
        }
    }

    /// The documents that the filter chooses.
    fn chosen(self) -> Result<Option<Arc<Matching>>, Stopped> {
        let Some(filter) = &self.search.filter else { return Ok(None) };
        if let Some(here) = self.held {
            // Without the lock of the others: they may hold it and wait for the documents.
            return Ok(Some(Arc::new(here.matching(filter, self.stop)?)));
        }
        let mut chosen = self.chosen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut matching = match chosen.take() {
            Some(matching) => matching,
            None => Arc::new(self.collection.matching(filter, self.stop)?),
        };
        self.with_documents(|here| {
            if matching.is_behind(here) { Arc::make_mut(&mut matching).catch_up(here, self.stop) } else { Ok(()) }
        })?;
        Ok(Some(Arc::clone(chosen.insert(matching))))
    }

    /// Round by round: the nearest of what is left, of which each group keeps as many as it may have. What a round has
    /// seen is left out of the next, and so are all documents of the groups that are full, be they most of the
    /// collection. Each round asks for twice as many as the one before: many groups that each fill a
    /// round would make for as many rounds otherwise.
    fn best_of_groups(self, n: usize, groups: &Groups, among: Option<Among<'_>>) -> Attempt<Vec<Hit>> {
        let mut left: Option<(RoaringBitmap, u64)> = among.map(|among| (among.places.clone(), among.seen));
        let mut best: Vec<Hit> = Vec::new();
        let mut members: BTreeMap<Scalar, usize> = BTreeMap::new();
        let mut at_once = n.saturating_mul(2);
        loop {
            let among = left.as_ref().map(|(places, seen)| Among { places, seen: *seen });
            let Ok(round) = self.nearest(at_once, among)? else { return Ok(Err(Changed)) };
            let was_last = round.len() < at_once;
            let seen: Vec<Slot> = round.iter().map(|hit| hit.slot).collect();
            let mut full = Vec::new();
            for hit in round {
                let Some(key) = groups.key(&hit.found.content) else {
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
                best.sort_by(Hit::best_first); // A graph may find in a later round what an earlier one missed.
                best.truncate(n);
                let all_are_there = self.with_documents(|here| best.iter().all(|hit| here.at(hit.slot).is_some()));
                return Ok(if all_are_there { Ok(best) } else { Err(Changed) });
            }
            left = Some(self.with_documents(|here| {
                let (mut places, moment) = left.take().unwrap_or_else(|| (here.all().clone(), here.changes().total()));
                for slot in seen {
                    places.remove(slot.place());
                }
                for key in &full {
                    places -= here.in_group(groups, key);
                }
                (places, moment)
            }));
            at_once = at_once.saturating_mul(2);
        }
    }

    /// The nearest `n`, of all or of those at some places, that score enough.
    fn nearest(self, n: usize, among: Option<Among<'_>>) -> Attempt<Vec<Hit>> {
        let (index, effort) = (&self.collection.index, self.search.effort);
        let places = among.map(|among| among.places);
        if effort == (Effort::Graph { ef: None }) {
            index.sample(self.query, places);
        }
        let mut near = index.nearest(&Query { vector: self.query, k: n, effort, among: places }, self.stop)?;
        if let Some(least) = self.search.min_score {
            let before = near.hits.len();
            near.hits.retain(|hit| hit.score >= least);
            // What ties with a hit that scores too little does so too.
            near.tied.retain(|_| near.hits.len() == before);
        }
        Ok(self.with_documents(|here| {
            let has_changed = among.is_some_and(|among| here.changes().touched(among.places, among.seen));
            let hits = if has_changed { None } else { self.name(here, &near) };
            hits.ok_or(Changed)
        }))
    }

    /// The documents of the nearest vectors, best first; of those that tie with the last, the lowest ids. `None`: one was
    /// removed since.
    fn name(self, here: &Documents, near: &Nearest) -> Option<Vec<Hit>> {
        let Some(last) = near.hits.last().map(|hit| hit.score) else { return Some(Vec::new()) };
        let (better, equal): (Vec<Neighbour>, Vec<Neighbour>) =
            near.hits.iter().copied().partition(|hit| hit.score > last);
        let places = equal.len();
        let equal = equal.iter().map(|hit| hit.slot).chain(near.tied.iter().copied());
        let mut equal = equal.map(|slot| Some((here.at(slot)?, slot))).collect::<Option<Vec<(&DocId, Slot)>>>()?;
        if equal.len() > places {
            equal.select_nth_unstable(places - 1);
            equal.truncate(places);
        }
        let better = better.iter().map(|hit| Some((here.at(hit.slot)?, hit.slot, hit.score)));
        let named = better.chain(equal.into_iter().map(|(id, slot)| Some((id, slot, last))));
        let hit = |named: Option<(&DocId, Slot, f32)>| {
            let (id, slot, score) = named?;
            let content = Arc::clone(&here.by_id.get(id)?.content);
            let found = Found { id: id.clone(), content, score, vector: self.collection.row(slot) };
            Some(Hit { slot, found })
        };
        let mut hits = named.map(hit).collect::<Option<Vec<Hit>>>()?;
        hits.sort_by(Hit::best_first);
        Some(hits)
    }

    /// Reads the documents, which are held for as long as `read` takes.
    fn with_documents<T>(self, read: impl FnOnce(&Documents) -> T) -> T {
        match self.held {
            Some(here) => read(here),
            None => read(&self.collection.read()),
        }
    }
}

fn found(hits: Vec<Hit>) -> Vec<Found> {
    hits.into_iter().map(|hit| hit.found).collect()
}

impl Hit {
    fn best_first(&self, other: &Self) -> Ordering {
        let (one, other) = (&self.found, &other.found);
        other.score.total_cmp(&one.score).then_with(|| one.id.cmp(&other.id))
    }
}
