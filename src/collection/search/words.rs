//! Searches by words, and by words and vectors together.
//!
//! A search by both takes the best candidates by each. Every candidate then gets both of its scores, so a document
//! that only one of them found is ranked by both. Words are searched in one state of their index, which is taken while
//! the documents are locked. A candidate by vectors that changed after that moment is a reason to search again: the
//! state does not have its words.
//!
//! The candidates by vectors reach through the whole collection, so there are k hits wherever there are k documents.

use std::collections::{HashMap, HashSet};

use super::fusion::{FLOOR_RANK, Frame, Fusion, Mode, Parts, Scores};
use super::{Among, Attempt, Changed, LocatedHit, LocatedPassage, Ranking, Round, Span, WordsOfAttempt, best_first};
use crate::collection::document::DocId;
use crate::collection::documents::{Documents, Entry};
use crate::index::{Effort, Query};
use crate::kernel::dot;
use crate::lexical::Scored;

/// Candidates by vectors, and by words, for each hit that is wanted.
const CANDIDATES_PER_HIT: usize = 2;

/// Least number of candidates by each: a document far down in one order may be first in the other.
const LEAST_CANDIDATES: usize = 128;

/// A candidate, by the first row of its document.
struct Candidate {
    hit: LocatedHit,
    row: u64,
    parts: Parts,
}

impl Ranking<'_> {
    /// The state of the words for an attempt; `None`: the search needs none, or the collection has none.
    pub(super) fn words_of_attempt(self) -> Option<WordsOfAttempt> {
        let lexical = self.collection.lexical.as_ref().filter(|_| self.search.mode != Mode::Vector)?;
        let (snapshot, moment) = self.with_documents(|here| (lexical.snapshot(), here.changes().total()));
        Some(WordsOfAttempt { question: lexical.question(snapshot, self.words), moment, floor: Default::default() })
    }

    /// The best `n` documents by their words.
    pub(super) fn by_words(self, n: usize, among: Option<Among<'_>>) -> Attempt<Round> {
        let Some(words) = self.attempt else { return Ok(Ok(Round { hits: Vec::new(), is_last: true })) };
        let mut found = words.question.best(n, among.map(|among| among.positions), self.stop)?;
        if let Some(least) = self.search.min_score {
            found.retain(|scored| scored.score >= least);
        }
        let is_last = found.len() < n;
        let hits = self.with_documents(|here| {
            self.is_untouched(here, among)?;
            found.iter().map(|scored| self.of_words(here, scored)).collect::<Option<Vec<LocatedHit>>>()
        });
        Ok(hits.map(|hits| Round { hits, is_last }).ok_or(Changed))
    }

    /// The best `n` documents by words and vectors. `seen` documents were in earlier rounds.
    pub(super) fn by_both(self, fusion: Fusion, n: usize, among: Option<Among<'_>>, seen: usize) -> Attempt<Round> {
        let depth = n.saturating_mul(CANDIDATES_PER_HIT).max(LEAST_CANDIDATES);
        let (index, effort, positions) =
            (&self.collection.index, self.search.effort, among.map(|among| among.positions));
        if effort == (Effort::Graph { ef: None }) {
            index.sample(self.query, positions);
        }
        let near = index.nearest(&Query { vector: self.query, k: depth, effort, among: positions }, self.stop)?;
        let by_words = match self.attempt {
            Some(words) => words.question.best(depth, positions, self.stop)?,
            None => Vec::new(),
        };
        let named = self.with_documents(|here| {
            self.is_untouched(here, among)?;
            let changed = self.changed_since_words(here)?;
            let mut candidates = Candidates { by_row: HashMap::new(), all: Vec::new() };
            for neighbour in &near.hits {
                if changed.contains(&neighbour.slot.index()) {
                    return None;
                }
                let (id, entry) = here.by_id.get_key_value(here.at(neighbour.slot)?)?;
                let rank = seen + candidates.all.len() + 1;
                let parts = candidates.of(self, here, (id, entry));
                parts.vector_rank.get_or_insert(rank);
            }
            for (rank, scored) in (seen + 1..).zip(&by_words) {
                let (id, entry) = here.at_position(scored.position).filter(|(_, entry)| entry.row == scored.key)?;
                let parts = candidates.of(self, here, (id, entry));
                (parts.lexical, parts.lexical_rank) = (scored.score, Some(rank));
            }
            Some(candidates.all)
        });
        let Some(mut candidates) = named else { return Ok(Err(Changed)) };
        self.add_lexical_scores(&mut candidates);
        let frame = self.attempt.map_or(Frame { total_idf: 0.0, floor: 0.0 }, |words| {
            let floor = || near.hits.get(FLOOR_RANK - 1).or(near.hits.last()).map_or(0.0, |hit| hit.score);
            Frame { total_idf: words.question.total_idf(), floor: *words.floor.get_or_init(floor) }
        });
        let mut hits = Vec::with_capacity(candidates.len());
        for Candidate { mut hit, mut parts, .. } in candidates {
            self.stop.check()?;
            parts.vector = match hit.passages.clone() {
                None => dot(self.query, &hit.hit.vector).clamp(-1.0, 1.0),
                Some(passages) => match self.score_passages(&mut hit.hit, &passages) {
                    Some(()) => hit.hit.score,
                    None => return Ok(Err(Changed)),
                },
            };
            hit.hit.score = fusion.score(&parts, frame);
            hit.hit.scores = Scores { vector: Some(parts.vector), lexical: Some(parts.lexical) };
            hits.push(hit);
        }
        // No document that is not a candidate has a greater score than this.
        let of_words = by_words.last().filter(|_| by_words.len() == depth).map_or(0.0, |last| last.score);
        let last = Parts {
            vector: near.hits.last().map_or(1.0, |last| last.score),
            vector_rank: Some(seen + depth),
            lexical: of_words,
            lexical_rank: Some(seen + depth),
            codes: if of_words > 0.0 { self.attempt.map_or(0.0, |words| words.question.codes_idf()) } else { 0.0 },
        };
        let too_low = self.search.min_score.is_some_and(|least| fusion.score(&last, frame) < least);
        hits.retain(|hit| self.search.min_score.is_none_or(|least| hit.hit.score >= least));
        hits.sort_by(|one, other| best_first(&one.hit, &other.hit));
        let is_last = (near.hits.len() < depth || too_low) && hits.len() <= n;
        hits.truncate(n);
        Ok(Ok(Round { hits, is_last }))
    }

    /// Finds the scores of the candidates that words did not find among their best, and the codes of all.
    fn add_lexical_scores(self, candidates: &mut [Candidate]) {
        let Some(words) = self.attempt else { return };
        let (mut places, mut rows) = (Vec::new(), Vec::new());
        for (place, candidate) in candidates.iter().enumerate() {
            if candidate.parts.lexical_rank.is_none() {
                places.push(place);
                rows.push(candidate.row);
            }
        }
        for (place, score) in places.into_iter().zip(words.question.scores(&rows)) {
            candidates[place].parts.lexical = score;
        }
        let rows: Vec<u64> = candidates.iter().map(|candidate| candidate.row).collect();
        for (candidate, codes) in candidates.iter_mut().zip(words.question.codes(&rows)) {
            candidate.parts.codes = codes;
        }
    }

    /// `None` if a document that the search may find changed since its filter was evaluated.
    fn is_untouched(self, here: &Documents, among: Option<Among<'_>>) -> Option<()> {
        let touched = among.is_some_and(|among| here.changes().touched(among.positions, among.seen));
        (!touched).then_some(())
    }

    /// The positions that changed after the state of the words; `None` if they are no longer remembered.
    fn changed_since_words(self, here: &Documents) -> Option<HashSet<u32>> {
        let moment = self.attempt.map_or(here.changes().total(), |words| words.moment);
        Some(here.changes().since(moment)?.collect())
    }

    /// The hit of a document that was found by its words. `None` if it was removed meanwhile.
    fn of_words(self, here: &Documents, scored: &Scored) -> Option<LocatedHit> {
        let (id, entry) = here.at_position(scored.position).filter(|(_, entry)| entry.row == scored.key)?;
        let mut hit = self.located(here, id, entry, entry.slot);
        hit.hit.score = scored.score;
        hit.hit.scores = Scores { vector: None, lexical: Some(scored.score) };
        Some(hit)
    }

    /// Tells of the passage with the most words of the query, the first of them; for hits that were found by words.
    pub(super) fn choose_passages(self, hits: &mut [LocatedHit]) {
        let (Some(words), Some(lexical)) = (self.attempt, &self.collection.lexical) else { return };
        for located in hits {
            let Some(passages) = &located.passages else { continue };
            let text = |span: Span| span.of(&located.hit.content.text).unwrap_or_default();
            let count = |passage: &&LocatedPassage| lexical.terms_in(&words.question, text(passage.span));
            // The last of the greatest in reverse order is the first.
            let Some(best) = passages.iter().rev().max_by_key(count) else { continue };
            located.hit.passage = Some(best.span);
            if let Some(vector) = self.collection.index.vector(best.slot) {
                located.hit.vector = vector;
            }
        }
    }
}

/// Candidates in the order in which they were found, each document once.
struct Candidates {
    by_row: HashMap<u64, usize>,
    all: Vec<Candidate>,
}

impl Candidates {
    /// The parts of a document's score, which is added if it is new.
    fn of(&mut self, ranking: Ranking<'_>, here: &Documents, (id, entry): (&DocId, &Entry)) -> &mut Parts {
        let place = *self.by_row.entry(entry.row).or_insert_with(|| {
            let hit = ranking.located(here, id, entry, entry.slot);
            self.all.push(Candidate { hit, row: entry.row, parts: Parts::default() });
            self.all.len() - 1
        });
        &mut self.all[place].parts
    }
}
