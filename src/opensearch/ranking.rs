//! The scores of candidates, by the rules of the local store (`collection::search`): cosines of the exact vectors, BM25
//! of the exact texts, and both fused.

use std::collections::HashMap;

use crate::collection::{
    DocId, FLOOR_RANK, Frame, Fusion, Hit, Listed, Mode, Parts, Scores, Search, Span, StoredVectors, best_first,
};
use crate::index::Vector;
use crate::kernel::dot;
use crate::lexical::{self, TermReader, TermWeights};

/// The greatest difference of the engine's cosines from ours.
const ROUNDING: f32 = 2e-6;

/// The greatest difference of sums of scores in another order.
const ROUNDING_OF_WORDS: f32 = 1.0 - 1e-5;

/// A document that the engine found.
pub(super) struct Found {
    /// The engine's score.
    pub score: f32,
    pub listed: Listed,
}

/// A hit, with all vectors of its document.
pub(super) struct Ranked {
    pub hit: Hit,
    pub vectors: StoredVectors,
}

/// The hits of a round, best first.
pub(super) struct Round {
    pub hits: Vec<Ranked>,
    /// True if a further round would find nothing else.
    pub is_last: bool,
}

/// The ranking of a round.
pub(super) struct Ranking<'r> {
    pub search: &'r Search,
    pub query: &'r [f32],
    pub weights: Option<&'r TermWeights>,
    /// Reads the terms of texts; `None`: the collection has no words.
    pub reader: Option<&'r mut TermReader>,
    /// Documents of earlier rounds.
    pub seen: usize,
    /// The cosine that others are compared with when scores are fused; set by the first round.
    pub floor: &'r mut Option<f32>,
}

/// A vector of a document with its cosine.
type Scored = (f32, Option<Span>, Vector);

impl Ranking<'_> {
    /// The best `n` by vectors. True: the last of all candidates may tie with the last of these.
    pub fn near(self, found: Vec<Found>, n: usize) -> (Round, bool) {
        // The engine's score is (1 + cosine) / 2 by the graph, and 1 + cosine by comparison with all.
        let last = found.last().map(|found| found.score);
        let nth = found.get(n.wrapping_sub(1)).map(|found| found.score);
        let ties = last.zip(nth).is_some_and(|(last, nth)| nth - last <= ROUNDING);
        let mut hits: Vec<Ranked> = found.into_iter().map(|found| self.near_one(found.listed)).collect();
        hits.retain(|ranked| self.search.min_score.is_none_or(|least| ranked.hit.score >= least));
        hits.sort_by(|one, other| best_first(&one.hit, &other.hit));
        hits.truncate(n);
        (Round { is_last: hits.len() < n, hits }, ties)
    }

    /// The best `n` by words.
    pub fn by_words(self, found: Vec<Found>, n: usize) -> Round {
        let (Some(weights), Some(reader)) = (self.weights, self.reader) else {
            return Round { hits: Vec::new(), is_last: true };
        };
        let ranked = |Found { listed, .. }: Found| {
            let score = weights.matched(reader, &listed.text).scores.bm25;
            let mut ranked = named(listed);
            ranked.hit.score = score;
            ranked.hit.scores = Scores { vector: None, lexical: Some(score) };
            ranked
        };
        let mut hits: Vec<Ranked> = found.into_iter().map(ranked).collect();
        hits.sort_by(|one, other| best_first(&one.hit, &other.hit));
        hits.truncate(n);
        hits.retain(|ranked| self.search.min_score.is_none_or(|least| ranked.hit.score >= least));
        Round { is_last: hits.len() < n, hits }
    }

    /// The best `n` by both, of `depth` candidates by each.
    pub fn by_both(
        mut self,
        fusion: Fusion,
        near: Vec<Found>,
        by_words: Vec<Found>,
        (n, depth): (usize, usize),
    ) -> Round {
        let mut candidates = Candidates::default();
        let cosines = self.candidates_by_vectors(&mut candidates, near, depth);
        let n_by_words = self.candidates_by_words(&mut candidates, by_words, depth);
        let floor = || cosines.get(FLOOR_RANK - 1).or(cosines.last()).copied().unwrap_or_default();
        let total_idf = self.weights.map_or(0.0, TermWeights::total_idf);
        let frame = match self.weights {
            Some(_) => Frame { total_idf, floor: *self.floor.get_or_insert_with(floor) },
            None => Frame { total_idf: 0.0, floor: 0.0 },
        };
        let most = match (n_by_words, self.weights) {
            (Some((n, least)), Some(weights)) if n == depth => {
                lexical::Scores { bm25: least / ROUNDING_OF_WORDS, codes: weights.codes_idf() }
            }
            _ => lexical::Scores::default(),
        };
        // No document that is not a candidate has a greater score than this.
        let last = Parts {
            vector: cosines.last().copied().unwrap_or(1.0),
            vector_rank: Some(self.seen + depth),
            lexical: most.bm25,
            lexical_rank: Some(self.seen + depth),
            codes: most.codes,
        };
        let too_low = self.search.min_score.is_some_and(|least| fusion.score(&last, frame) < least);
        let fused = |Candidate { listed, parts }: Candidate| {
            let mut ranked = self.near_one(listed);
            ranked.hit.score = fusion.score(&parts, frame);
            ranked.hit.scores = Scores { vector: Some(parts.vector), lexical: Some(parts.lexical) };
            ranked
        };
        let mut hits: Vec<Ranked> = candidates.all.into_iter().map(fused).collect();
        hits.retain(|ranked| self.search.min_score.is_none_or(|least| ranked.hit.score >= least));
        hits.sort_by(|one, other| best_first(&one.hit, &other.hit));
        let is_last = (cosines.len() < depth || too_low) && hits.len() <= n;
        hits.truncate(n);
        Round { hits, is_last }
    }

    /// Adds the documents of the nearest `depth` passages. Returns the cosines of these, best first.
    fn candidates_by_vectors(&mut self, candidates: &mut Candidates, near: Vec<Found>, depth: usize) -> Vec<f32> {
        let mut scored: Vec<(Vec<f32>, Listed)> = near
            .into_iter()
            .map(|found| (self.scored(&found.listed.vectors).iter().map(|one| one.0).collect(), found.listed))
            .collect();
        let best = |cosines: &[f32]| cosines.first().copied().unwrap_or(-1.0);
        scored.sort_by(|(a, one), (b, other)| best(b).total_cmp(&best(a)).then_with(|| one.id.cmp(&other.id)));
        let mut cosines: Vec<f32> = scored.iter().flat_map(|(cosines, _)| cosines).copied().collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        cosines.truncate(depth);
        let least = cosines.last().copied().unwrap_or(-1.0);
        for (of_document, listed) in scored.into_iter().take(depth) {
            if best(&of_document) < least {
                break;
            }
            let rank = self.seen + candidates.all.len() + 1;
            let words = self.words_of(&listed);
            let parts = Parts { vector: best(&of_document), vector_rank: Some(rank), ..words };
            candidates.add(listed, parts);
        }
        cosines
    }

    /// Adds the best `depth` documents by words. Returns their number with the least score, if there are any.
    fn candidates_by_words(
        &mut self,
        candidates: &mut Candidates,
        by_words: Vec<Found>,
        depth: usize,
    ) -> Option<(usize, f32)> {
        let mut scored: Vec<(Parts, Listed)> =
            by_words.into_iter().map(|found| (self.words_of(&found.listed), found.listed)).collect();
        let order = |(a, one): &(Parts, Listed), (b, other): &(Parts, Listed)| {
            b.lexical.total_cmp(&a.lexical).then_with(|| one.id.cmp(&other.id))
        };
        scored.sort_by(order);
        scored.truncate(depth);
        let last = scored.last().map(|(parts, _)| (scored.len(), parts.lexical));
        for (rank, (parts, listed)) in (self.seen + 1..).zip(scored) {
            match candidates.places.get(&listed.id) {
                Some(&place) => candidates.all[place].parts.lexical_rank = Some(rank),
                None => {
                    let vector = self.scored(&listed.vectors).first().map_or(-1.0, |best| best.0);
                    candidates.add(listed, Parts { vector, lexical_rank: Some(rank), ..parts });
                }
            }
        }
        last
    }

    /// The parts of a score that come from words.
    fn words_of(&mut self, listed: &Listed) -> Parts {
        let (Some(weights), Some(reader)) = (self.weights, self.reader.as_deref_mut()) else { return Parts::default() };
        let scores = weights.matched(reader, &listed.text).scores;
        Parts { lexical: scores.bm25, codes: scores.codes, ..Parts::default() }
    }

    /// A document with the cosine of its nearest passage, and its next nearest passages.
    fn near_one(&self, listed: Listed) -> Ranked {
        let mut scored = self.scored(&listed.vectors).into_iter();
        let mut ranked = named(listed);
        if let Some((score, span, vector)) = scored.next() {
            (ranked.hit.score, ranked.hit.passage, ranked.hit.vector) = (score, span, vector);
        }
        let least = self.search.min_score.filter(|_| self.search.mode == Mode::Vector);
        let others = scored.take(self.search.passages.get() - 1);
        let others = others.take_while(|(score, ..)| least.is_none_or(|least| *score >= least));
        ranked.hit.others = others.filter_map(|(score, span, _)| Some((span?, score))).collect();
        ranked
    }

    /// The vectors of a document with their cosines, best first; of equal ones the earlier passage first.
    fn scored(&self, vectors: &StoredVectors) -> Vec<Scored> {
        let cosine = |row: &[f32]| dot(self.query, row).clamp(-1.0, 1.0);
        let mut scored: Vec<Scored> = vectors
            .rows()
            .zip(vectors.iter())
            .map(|((span, row), vector)| (cosine(row), span, vector.clone()))
            .collect();
        scored.sort_by(|one, other| other.0.total_cmp(&one.0));
        scored
    }
}

/// A document before fusion.
struct Candidate {
    listed: Listed,
    parts: Parts,
}

/// Candidates in the order in which they were found, each document once.
#[derive(Default)]
struct Candidates {
    all: Vec<Candidate>,
    /// The place of each in `all`.
    places: HashMap<DocId, usize>,
}

impl Candidates {
    fn add(&mut self, listed: Listed, parts: Parts) {
        self.places.insert(listed.id.clone(), self.all.len());
        self.all.push(Candidate { listed, parts });
    }
}

impl Ranked {
    /// Tells of the passage with the most words of the query, the first of them.
    pub fn choose_passage(&mut self, weights: &TermWeights, reader: &mut TermReader) {
        let StoredVectors::Passages(passages) = &self.vectors else { return };
        let text = |span: Span| span.of(&self.hit.text).unwrap_or_default();
        let count = |(span, _): &&(Span, Vector)| weights.matched(&mut *reader, text(*span)).different;
        // The last of the greatest in reverse order is the first.
        if let Some((span, vector)) = passages.iter().rev().max_by_key(count) {
            (self.hit.passage, self.hit.vector) = (Some(*span), vector.clone());
        }
    }
}

/// A hit without a score, with the first of its vectors.
fn named(Listed { id, text, kept, vectors }: Listed) -> Ranked {
    let vector = vectors.iter().next().cloned().unwrap_or_else(|| Vector::from(std::sync::Arc::from([])));
    let (scores, others) = (Scores::default(), Vec::new());
    let hit = Hit { id, text, kept, score: 0.0, scores, vector, passage: None, others };
    Ranked { hit, vectors }
}
