//! Searches in a collection: which documents are wanted, and in which order.
//!
//! The index answers "the nearest so many among these places". What it knows nothing of is added here: ids, which
//! decide between equal scores, groups, and hits that should differ from each other.
//!
//! Invariant: hits are as many as are wanted, or as there can be. The documents are held for reading while they are
//! ranked, so that slots, places and documents agree, and no longer: whoever commits waits for that.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::diversity::Diversity;
use super::document::{Content, DocId};
use super::filter::{Filter, Scalar};
use super::groups::Groups;
use super::single::{Collection, Documents};
use crate::compute::stop::Stop;
use crate::embedder::Embedding;
use crate::index::{Effort, Neighbour, Slot, Vector};

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

    /// Whether what it misses tells how well searches of the whole collection find that say nothing about it.
    fn is_typical(&self) -> bool {
        self.effort == Effort::Graph { ef: None } && self.filter.is_none() && self.groups.is_none()
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

impl Collection {
    /// The nearest documents: as many as `k` where so many match, score descending, then id ascending; with
    /// [`Search::diversity`] in the order in which they are chosen.
    pub fn search(&self, query: &Embedding, search: &Search) -> Vec<Found> {
        if search.is_typical() {
            self.index.sample(query.values());
        }
        let Some(diversity) = search.diversity else { return self.best(query, search, search.k) };
        let pool = self.best(query, search, diversity.pool(search.k));
        let candidates: Vec<(f32, &[f32])> = pool.iter().map(|found| (found.score, &*found.vector)).collect();
        diversity.choose(&candidates, search.k).into_iter().map(|place| pool[place].clone()).collect()
    }

    /// The best `n` by score of what was asked for. The documents are held for reading until they are found.
    fn best(&self, query: &Embedding, search: &Search, n: usize) -> Vec<Found> {
        let here = self.read();
        let hits = Ranking { collection: self, here: &here, query: query.values(), search }.best(n);
        hits.into_iter()
            .filter_map(|Hit { id, slot, score }| {
                let content = Arc::clone(&here.by_id.get(id)?.content);
                Some(Found { id: id.clone(), content, score, vector: self.row(slot) })
            })
            .collect()
    }
}

/// One search, while the documents are held.
struct Ranking<'s> {
    collection: &'s Collection,
    here: &'s Documents,
    query: &'s [f32],
    search: &'s Search,
}

/// A vector that was found, and whose it is.
#[derive(Clone, Copy)]
struct Hit<'s> {
    id: &'s DocId,
    slot: Slot,
    score: f32,
}

impl<'s> Ranking<'s> {
    /// The best `n` by score of what was asked for.
    fn best(&self, n: usize) -> Vec<Hit<'s>> {
        // A flag that nobody raises stops nothing.
        let stop = Stop::never();
        let among = self.search.filter.as_ref().map(|filter| self.here.places(filter, &stop).unwrap_or_default());
        match &self.search.groups {
            None => self.nearest(n, among.as_ref()),
            Some(groups) => self.best_of_groups(n, groups, among),
        }
    }

    /// Round by round: the nearest of what is left, of which each group keeps as many as it may have. What a round has
    /// seen is left out of the next, and so are all documents of the groups that are full, be they most of the
    /// collection. Each round asks for twice as many as the one before: many groups that each fill a
    /// round would make for as many rounds otherwise.
    fn best_of_groups(&self, n: usize, groups: &Groups, among: Option<RoaringBitmap>) -> Vec<Hit<'s>> {
        let mut best: Vec<Hit<'s>> = Vec::new();
        let mut members: BTreeMap<Scalar, usize> = BTreeMap::new();
        let mut among = among;
        let mut at_once = n.saturating_mul(2);
        loop {
            let round = self.nearest(at_once, among.as_ref());
            let was_last = round.len() < at_once;
            let mut full = Vec::new();
            for hit in &round {
                let key = self.here.by_id.get(hit.id).and_then(|entry| groups.key(&entry.content));
                let Some(key) = key else {
                    best.push(*hit);
                    continue;
                };
                let members = members.entry(key.clone()).or_default();
                *members += 1;
                if *members <= groups.size.get() {
                    best.push(*hit);
                }
                if *members == groups.size.get() {
                    full.push(key);
                }
            }
            if was_last || best.len() >= n {
                best.sort_by(Hit::best_first); // A graph may find in a later round what an earlier one missed.
                best.truncate(n);
                return best;
            }
            let mut left = among.unwrap_or_else(|| self.here.all().clone());
            for hit in &round {
                left.remove(hit.slot.place());
            }
            for key in &full {
                left -= self.here.in_group(groups, key);
            }
            among = Some(left);
            at_once = at_once.saturating_mul(2);
        }
    }

    /// The nearest `n`, of all or of those at some places, that score enough.
    fn nearest(&self, n: usize, among: Option<&RoaringBitmap>) -> Vec<Hit<'s>> {
        let (index, effort) = (&self.collection.index, self.search.effort);
        let stop = Stop::never();
        let find = |wanted| match among {
            Some(among) => index.search_among(self.query, wanted, effort, among, &stop),
            None => index.search(self.query, wanted, effort, &stop),
        };
        let found = with_ties(n, |wanted| find(wanted).expect("nobody stops it"));
        let mut hits: Vec<Hit<'s>> = found
            .into_iter()
            .filter(|near| self.search.min_score.is_none_or(|least| near.score >= least))
            .filter_map(|Neighbour { slot, score }| Some(Hit { id: self.here.at(slot)?, slot, score }))
            .collect();
        hits.sort_by(Hit::best_first);
        hits.truncate(n);
        hits
    }
}

impl Hit<'_> {
    fn best_first(&self, other: &Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.id.cmp(other.id))
    }
}

/// Searches for more than `k`, until the hit at `k` and the last differ in score: of documents
/// that score alike, those with the lowest ids are wanted, and the index does not know ids.
fn with_ties(k: usize, find: impl Fn(usize) -> Vec<Neighbour>) -> Vec<Neighbour> {
    let mut wanted = k + 8;
    loop {
        let hits = find(wanted);
        let settled = hits.len() < wanted || hits[k - 1].score > hits[wanted - 1].score;
        if settled {
            return hits;
        }
        wanted *= 4;
    }
}
