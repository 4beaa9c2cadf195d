//! Searches by words and vectors together.
//!
//! The best by each are candidates. Both scores of every candidate count, so a document that only one of them found is
//! ranked by both. To look up the words of all is most of the work of a search, and it is hardly ever needed: a
//! document that words did not find has no greater BM25 than the last one that they found. So its fused score lies
//! between two bounds. Only candidates that may be among the best get their exact score and a name.
//!
//! Words are searched in one state of their index, which is taken while the documents are locked. A candidate that
//! changed after that moment is a reason to search again: the state does not have its words.
//!
//! The candidates by vectors reach through the whole collection, so there are k hits wherever there are k documents.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::fusion::{FLOOR_RANK, Frame, Fusion, Parts, Scores};
use super::hits::{LocatedHit, best_first};
use super::{Among, Attempt, Changed, Ranking, Round};
use crate::collection::documents::Documents;
use crate::collection::passages::LocatedPassage;
use crate::index::{Effort, Neighbour, Query, Slot};
use crate::kernel::dot;
use crate::lexical::{self, Scored};

/// Candidates by vectors, and by words, for each hit that is wanted.
const CANDIDATES_PER_HIT: usize = 2;

/// Least number of candidates by each: a document far down in one order may be first in the other.
const LEAST_CANDIDATES: usize = 128;

/// A document that vectors or words found.
struct Candidate {
    /// The slot of its first passage.
    slot: Slot,
    /// All its passages, if there are several.
    passages: Option<Arc<[LocatedPassage]>>,
    /// The parts of its score. Those of words are unknown if words did not find it.
    parts: Parts,
}

impl Ranking<'_> {
    /// The best `n` documents by words and vectors. `seen` documents were in earlier rounds.
    pub(super) fn by_both(self, fusion: Fusion, n: usize, among: Option<Among<'_>>, seen: usize) -> Attempt<Round> {
        let depth = n.saturating_mul(CANDIDATES_PER_HIT).max(LEAST_CANDIDATES);
        let (index, effort, positions) =
            (&self.collection.index, self.search.effort, among.map(|among| among.positions));
        if effort == (Effort::Graph { ef: None }) {
            index.sample(self.query, positions);
        }
        // A document that is far by its vector is among the best only by its words, and words find it too.
        let query = Query { vector: self.query, k: depth, sure: n, effort, among: positions };
        let near = index.nearest(&query, self.stop)?.hits;
        let by_words = match self.attempt {
            Some(words) => words.question.best(depth, positions, self.stop)?,
            None => Vec::new(),
        };
        let frame = self.attempt.map_or(Frame { total_idf: 0.0, floor: 0.0 }, |words| {
            let floor = || near.get(FLOOR_RANK - 1).or(near.last()).map_or(0.0, |hit| hit.score);
            Frame { total_idf: words.question.total_idf(), floor: *words.floor.get_or_init(floor) }
        });
        let Some(mut candidates) = self.with_documents(|here| Candidates::found(here, &near, &by_words, seen)) else {
            return Ok(Err(Changed));
        };
        if self.add_cosines(&mut candidates).is_none() {
            return Ok(Err(Changed));
        }
        let most =
            self.attempt.map_or(lexical::Scores::default(), |words| words.question.most_of_others(&by_words, depth));
        // One more than wanted, which tells if there are more.
        let (contenders, others) = divided(candidates, n.saturating_add(1), |parts| match parts.lexical_rank {
            Some(_) => [fusion.score(parts, frame); 2],
            None => [lexical::Scores::default(), most].map(|scores| fusion.score(&with_words(*parts, scores), frame)),
        });
        self.stop.check()?;
        let Some(mut hits) = self.scored(contenders, &others, among, |parts| fusion.score(parts, frame)) else {
            return Ok(Err(Changed));
        };
        // No document that is not a candidate has a greater score than this.
        let last = Parts {
            vector: near.last().map_or(1.0, |last| last.score),
            vector_rank: Some(seen + depth),
            lexical: most.bm25,
            lexical_rank: Some(seen + depth),
            codes: most.codes,
        };
        let too_low = self.search.min_score.is_some_and(|least| fusion.score(&last, frame) < least);
        hits.retain(|hit| self.search.min_score.is_none_or(|least| hit.hit.score >= least));
        hits.sort_by(|one, other| best_first(&one.hit, &other.hit));
        let is_last = (near.len() < depth || too_low) && hits.len() <= n;
        hits.truncate(n);
        Ok(Ok(Round { hits, is_last }))
    }

    /// Finds the cosines that the index did not report: those of documents that words found, and of documents of
    /// several passages, whose nearest one decides. `None` if a document was removed meanwhile.
    fn add_cosines(self, candidates: &mut [Candidate]) -> Option<()> {
        let cosine = |slot| Some(dot(self.query, &self.collection.index.vector(slot)?).clamp(-1.0, 1.0));
        for Candidate { slot, passages, parts } in candidates {
            if let Some(passages) = passages {
                let cosines = passages.iter().map(|passage| cosine(passage.slot)).collect::<Option<Vec<f32>>>()?;
                parts.vector = cosines.into_iter().max_by(f32::total_cmp)?;
            } else if parts.vector_rank.is_none() {
                parts.vector = cosine(*slot)?;
            }
        }
        Some(())
    }

    /// Names the contenders, adds the words that they lack, and scores them. `None` if one of all candidates changed
    /// since the state of the words, or a document that the search may find since its filter was evaluated.
    fn scored(
        self,
        contenders: Vec<Candidate>,
        others: &[Candidate],
        among: Option<Among<'_>>,
        score: impl Fn(&Parts) -> f32,
    ) -> Option<Vec<LocatedHit>> {
        let (mut hits, rows) = self.with_documents(|here| {
            self.is_untouched(here, among)?;
            let changed = self.changed_since_words(here)?;
            if contenders.iter().chain(others).any(|candidate| changed.contains(&candidate.slot.index())) {
                return None;
            }
            let named = contenders.iter().map(|candidate| {
                let (id, entry) = here.at_position(candidate.slot.index())?;
                Some((self.located(here, (id, entry), candidate.slot), entry.row))
            });
            named.collect::<Option<(Vec<LocatedHit>, Vec<u64>)>>()
        })?;
        let mut parts: Vec<Parts> = contenders.iter().map(|contender| contender.parts).collect();
        if let Some(words) = self.attempt {
            let unknown: Vec<usize> = (0..parts.len()).filter(|&at| parts[at].lexical_rank.is_none()).collect();
            let rows: Vec<u64> = unknown.iter().map(|&at| rows[at]).collect();
            for (at, scores) in unknown.into_iter().zip(words.question.scores(&rows)) {
                parts[at] = with_words(parts[at], scores);
            }
        }
        for (LocatedHit { passages, hit, .. }, parts) in hits.iter_mut().zip(&parts) {
            if let Some(passages) = passages {
                self.score_passages(hit, passages)?;
            }
            hit.score = score(parts);
            hit.scores = Scores { vector: Some(parts.vector), lexical: Some(parts.lexical) };
        }
        Some(hits)
    }

    /// The positions that changed after the state of the words; `None` if they are no longer remembered.
    fn changed_since_words(self, here: &Documents) -> Option<HashSet<u32>> {
        let moment = self.attempt.map_or(here.changes().total(), |words| words.moment);
        Some(here.changes().since(moment)?.collect())
    }
}

/// Candidates in the order in which they were found, each document once.
#[derive(Default)]
struct Candidates {
    all: Vec<Candidate>,
    /// The place of each in `all`, by the position of its first passage.
    places: HashMap<u32, usize>,
}

impl Candidates {
    /// `None` if a document was removed meanwhile.
    fn found(here: &Documents, near: &[Neighbour], by_words: &[Scored], seen: usize) -> Option<Vec<Candidate>> {
        let mut candidates = Self::default();
        for neighbour in near {
            let (_, entry) = here.at(neighbour.slot)?;
            let rank = seen + candidates.all.len() + 1;
            let parts = candidates.of(here, entry.slot);
            if parts.vector_rank.is_none() {
                (parts.vector, parts.vector_rank) = (neighbour.score, Some(rank));
            }
        }
        for (rank, scored) in (seen + 1..).zip(by_words) {
            let parts = candidates.of(here, here.first_slot(scored.position)?);
            *parts = Parts { lexical_rank: Some(rank), ..with_words(*parts, scored.scores) };
        }
        Some(candidates.all)
    }

    /// The parts of a document's score. It is added if it is new.
    fn of(&mut self, here: &Documents, first: Slot) -> &mut Parts {
        let place = *self.places.entry(first.index()).or_insert(self.all.len());
        if place == self.all.len() {
            let passages = here.passages(first).cloned();
            self.all.push(Candidate { slot: first, passages, parts: Parts::default() });
        }
        &mut self.all[place].parts
    }
}

/// The same parts with the scores of words.
fn with_words(parts: Parts, scores: lexical::Scores) -> Parts {
    Parts { lexical: scores.bm25, codes: scores.codes, ..parts }
}

/// Divides candidates into those that may be among the best `n`, and the others. `bounds` are the least and the
/// greatest score that a candidate may have.
fn divided(
    candidates: Vec<Candidate>,
    n: usize,
    bounds: impl Fn(&Parts) -> [f32; 2],
) -> (Vec<Candidate>, Vec<Candidate>) {
    if candidates.len() <= n {
        return (candidates, Vec::new());
    }
    let mut least: Vec<f32> = candidates.iter().map(|candidate| bounds(&candidate.parts)[0]).collect();
    let (_, &mut bar, _) = least.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
    candidates.into_iter().partition(|candidate| bounds(&candidate.parts)[1] >= bar)
}
