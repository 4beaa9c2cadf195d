//! The words of a query, and the documents that they find.
//!
//! The score is BM25 (Robertson and Zaragoza, 2009) with k1 = 1.2 and b = 0.75:
//! ```text
//! Σ over terms of the query: idf · f · (k1 + 1) / (f + k1 · (1 − b + b · length / average length))
//! idf = ln(1 + (N − n + 0.5) / (n + 0.5))
//! ```
//! N, n and the average length count the documents that are not removed, in all parts together. A length above 40 is
//! rounded down to one of 216 values, so that it takes one byte (tantivy's `fieldnorm`).
//!
//! tantivy finds the best documents of a segment by block-max WAND: it skips blocks of postings whose greatest score is
//! too low. That score is exact for the average length in the segment; the threshold is lowered by as much as the
//! average of all parts may change it. The scores of the documents that are found are then computed anew, in the order
//! of the terms, so that they have the same bits whatever the division into parts.

mod best;

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use tantivy::Term;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::TermInfo;
use tantivy::query::{
    Bm25StatisticsProvider, Bm25Weight, BooleanWeight, BoostQuery, EnableScoring, Occur, Query, SumCombiner, TermQuery,
    Weight,
};
use tantivy::schema::{Field, IndexRecordOption};

use best::Best;

use super::batch::{Batch, Posting};
use super::schema;
use super::segment::Segment;
use super::state::{LivePart, Part, State};
use crate::compute::stop::{Stop, Stopped};

/// Most terms of a query that are searched: the rarest. The cost of a search grows with each.
pub const MOST_TERMS: usize = 64;

/// Most terms of a query among which the rarest are chosen: the first ones.
const MOST_LOOKED_UP: usize = 1_024;

/// Documents that are scored between two checks of the stop flag.
const SCORED_PER_CHECK: u32 = 1_024;

/// The greatest length that is not rounded.
const EXACT_LENGTHS: u32 = 40;

/// Rounding errors of a sum of scores.
const ROUNDING: f32 = 1.0 - 1e-5;

/// A document that has a term of the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The document's key.
    pub key: u64,
    /// Its position.
    pub position: u32,
    /// Its scores.
    pub scores: Scores,
}

/// The scores of the terms of a query in one document.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// BM25; 0: the document has no term of the query.
    pub bm25: f32,
    /// The sum of the idf of the codes that the document has. A code is a term of at least three characters with a
    /// digit: a model hardly reads it. It is in a document or not, and the length of the document does not matter.
    pub codes: f32,
}

/// A query, and the state of the index that it searches.
pub struct Question {
    state: Arc<State>,
    terms: Vec<WeightedTerm>,
    average_length: f32,
    weight: Option<Box<dyn Weight>>,
    total_idf: f32,
}

struct WeightedTerm {
    text: String,
    weight: Bm25Weight,
    /// Its idf as often as the query has it, if it is a code; otherwise 0.
    code_idf: f32,
    /// Its place in each part of the state; `None`: the part is a batch, or does not have it.
    places: Vec<Option<TermInfo>>,
}

/// A term with its places in all parts.
struct KnownTerm<'t> {
    with_term: u64,
    text: &'t str,
    count: u32,
    places: Vec<Option<TermInfo>>,
}

/// The statistics of one term.
struct Statistics {
    documents: u64,
    terms: u64,
    with_term: u64,
}

impl Bm25StatisticsProvider for Statistics {
    fn total_num_tokens(&self, _: Field) -> tantivy::Result<u64> {
        Ok(self.terms)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.documents)
    }

    fn doc_freq(&self, _: &Term) -> tantivy::Result<u64> {
        Ok(self.with_term)
    }
}

impl Question {
    /// Prepares a search for these terms, which may repeat.
    pub(super) fn new(state: Arc<State>, terms: &[String]) -> Self {
        let (_, fields) = schema::schema();
        let counts = counted(terms);
        let (documents, total_length) = state.totals();
        let mut known: Vec<KnownTerm<'_>> = Vec::new();
        let mut total_idf = 0.0;
        for (text, count) in counts {
            let term = Term::from_field_text(fields.terms, text);
            let mut with_term = 0;
            let places = state.parts.iter().map(|live| {
                let (n, place) = find(live, text, &term);
                with_term += n;
                place
            });
            let places = places.collect();
            match with_term {
                0 => total_idf += count as f32 * idf(0, documents),
                with_term => known.push(KnownTerm { with_term, text, count, places }),
            }
        }
        known.sort_unstable_by_key(|known| (known.with_term, known.text));
        known.truncate(MOST_TERMS);
        total_idf += known.iter().map(|known| known.count as f32 * idf(known.with_term, documents)).sum::<f32>();
        let average_length = total_length as f32 / documents as f32;
        let searcher = state.parts.iter().find_map(|live| live.part.as_segment()).map(Segment::searcher);
        let mut weights: Vec<(Occur, Box<dyn Weight>)> = Vec::new();
        let mut weighted = Vec::with_capacity(known.len());
        for KnownTerm { with_term, text, count, places } in known {
            if let Some(searcher) = searcher {
                let statistics = Statistics { documents, terms: total_length, with_term };
                let scoring = EnableScoring::enabled_from_statistics_provider(&statistics, searcher);
                let query = TermQuery::new(Term::from_field_text(fields.terms, text), IndexRecordOption::WithFreqs);
                let weight = BoostQuery::new(Box::new(query), count as f32).weight(scoring);
                weights.push((Occur::Should, weight.expect("the field of terms is indexed")));
            }
            let weight = Bm25Weight::for_one_term_without_explain(with_term, documents, average_length);
            let code_idf = if is_code(text) { count as f32 * idf(with_term, documents) } else { 0.0 };
            weighted.push(WeightedTerm {
                text: text.to_owned(),
                weight: weight.boost_by(count as f32),
                code_idf,
                places,
            });
        }
        let weight = (!weights.is_empty()).then(|| any_of(weights));
        Self { state, terms: weighted, average_length, weight, total_idf }
    }

    /// True if no document has a term of the query.
    pub fn finds_nothing(&self) -> bool {
        self.terms.is_empty()
    }

    /// The sum of the idf of its terms, each as often as it occurs, also of those that no document has, and of its
    /// codes once more. Without codes it is about the score of a document of average length that has each term once.
    pub fn total_idf(&self) -> f32 {
        self.total_idf + self.codes_idf()
    }

    /// The sum of the idf of the codes that documents have: no document has more.
    fn codes_idf(&self) -> f32 {
        self.terms.iter().map(|term| term.code_idf).sum()
    }

    /// True if this is one of its terms.
    pub(super) fn has(&self, term: &str) -> bool {
        self.terms.iter().any(|weighted| weighted.text == term)
    }

    /// The `n` best documents, or all with a term of the query if they are fewer, of those at some positions: by
    /// descending score, then ascending key. At the end of the list, the lowest keys of equal scores are there.
    pub fn best(&self, n: usize, among: Option<&RoaringBitmap>, stop: &Stop) -> Result<Vec<Scored>, Stopped> {
        let mut best = Best::new(n);
        for (at, live) in self.state.parts.iter().enumerate() {
            stop.check()?;
            let members = live.part.members();
            let is_wanted = |document: u32| {
                !live.removed.contains(document) && among.is_none_or(|among| among.contains(members.position(document)))
            };
            best.part = at;
            match &*live.part {
                Part::Batch(batch) => self.best_of_batch(batch, &mut best, &is_wanted),
                Part::Segment(segment) => self.best_of_segment(segment, &mut best, &is_wanted, stop),
            }
        }
        stop.check()?;
        let mut found = best.into_candidates();
        found.sort_unstable_by_key(|candidate| (candidate.part, candidate.document));
        let mut scored = Vec::with_capacity(found.len());
        for of_part in found.chunk_by(|a, b| a.part == b.part) {
            let at = of_part[0].part;
            let documents: Vec<u32> = of_part.iter().map(|candidate| candidate.document).collect();
            let members = self.state.parts[at].part.members();
            let scores = self.scores_in(at, &documents);
            scored.extend(documents.iter().zip(scores).map(|(&document, scores)| Scored {
                key: members.key(document),
                position: members.position(document),
                scores,
            }));
        }
        scored.sort_unstable_by(|a, b| b.scores.bm25.total_cmp(&a.scores.bm25).then(a.key.cmp(&b.key)));
        Ok(scored)
    }

    /// The scores of documents by their keys; 0: the document has no term of the query, or was removed.
    pub fn scores(&self, keys: &[u64]) -> Vec<Scores> {
        let mut found: Vec<(usize, u32, usize)> = Vec::with_capacity(keys.len());
        for (index, &key) in keys.iter().enumerate() {
            found.extend(self.state.find(key).map(|(part, document)| (part, document, index)));
        }
        found.sort_unstable();
        found.dedup_by_key(|(part, document, _)| (*part, *document));
        let mut scores = vec![Scores::default(); keys.len()];
        for of_part in found.chunk_by(|a, b| a.0 == b.0) {
            let documents: Vec<u32> = of_part.iter().map(|(_, document, _)| *document).collect();
            let of_documents = self.scores_in(of_part[0].0, &documents);
            of_part.iter().zip(of_documents).for_each(|((.., index), of_document)| scores[*index] = of_document);
        }
        scores
    }

    /// The greatest scores that a document may have that is not among the `n` best, of which these are the scores.
    pub fn most_of_others(&self, best: &[Scored], n: usize) -> Scores {
        match best.last() {
            Some(last) if best.len() == n => Scores {
                // The best were chosen by sums in another order.
                bm25: last.scores.bm25 / ROUNDING,
                codes: self.codes_idf(),
            },
            _ => Scores::default(),
        }
    }

    fn best_of_batch(&self, batch: &Batch, best: &mut Best, is_wanted: &dyn Fn(u32) -> bool) {
        let mut scores = Vec::new();
        for term in &self.terms {
            let postings = batch.postings(&term.text);
            if scores.is_empty() && !postings.is_empty() {
                scores = vec![0.0; batch.members.len()];
            }
            for posting in postings {
                let code = length_code(batch.members.length(posting.document));
                scores[posting.document as usize] += term.weight.score(code, posting.frequency);
            }
        }
        for (document, score) in scores.into_iter().enumerate() {
            best.offer(document as u32, score, is_wanted);
        }
    }

    fn best_of_segment(&self, segment: &Segment, best: &mut Best, is_wanted: &dyn Fn(u32) -> bool, stop: &Stop) {
        let Some(weight) = &self.weight else { return };
        // If the average length is r times another, the score of a document differs by at most r times, and so may the
        // greatest score of a block.
        let ratio = self.average_length / segment.average_length();
        let rounding = if self.terms.len() > 1 { ROUNDING } else { 1.0 };
        let lowered = ratio.min(1.0 / ratio) * rounding;
        let mut scored = 0;
        segment.above(&**weight, best.bar() * lowered, &mut |document, score| {
            scored += 1;
            if scored % SCORED_PER_CHECK == 0 && stop.is_raised() {
                return f32::INFINITY; // Nothing is above it.
            }
            best.offer(document, score, is_wanted);
            best.bar() * lowered
        });
    }

    /// The scores of documents of the part at `at`, in order of their numbers.
    fn scores_in(&self, at: usize, documents: &[u32]) -> Vec<Scores> {
        let mut scores = vec![Scores::default(); documents.len()];
        for term in &self.terms {
            match &*self.state.parts[at].part {
                Part::Batch(batch) => {
                    let postings = batch.postings(&term.text);
                    for (scores, &document) in scores.iter_mut().zip(documents) {
                        if let Ok(at) = postings.binary_search_by_key(&document, |posting| posting.document) {
                            let code = length_code(batch.members.length(document));
                            scores.add(term, code, postings[at].frequency);
                        }
                    }
                }
                Part::Segment(segment) => {
                    let Some(place) = &term.places[at] else { continue };
                    segment.frequencies(place, documents, |at, frequency| {
                        scores[at].add(term, segment.length_code(documents[at]), frequency);
                    });
                }
            }
        }
        scores
    }
}

impl Scores {
    /// Adds a term that the document has, by the code of the document's length.
    fn add(&mut self, term: &WeightedTerm, length_code: u8, frequency: u32) {
        self.bm25 += term.weight.score(length_code, frequency);
        self.codes += term.code_idf;
    }
}

/// The terms that are looked up, each with how often the query has it.
pub(super) fn counted(terms: &[String]) -> BTreeMap<&str, u32> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for term in terms {
        if counts.len() < MOST_LOOKED_UP || counts.contains_key(term.as_str()) {
            *counts.entry(term).or_default() += 1;
        }
    }
    counts
}

/// The code of a length, by which a document is scored.
pub(super) fn length_code(length: u32) -> u8 {
    // Codes are looked up by a binary search; that of a small length is the length itself.
    if length <= EXACT_LENGTHS { length as u8 } else { FieldNormReader::fieldnorm_to_id(length) }
}

/// True for a term of at least three characters with a digit.
pub(super) fn is_code(term: &str) -> bool {
    term.chars().count() >= 3 && term.chars().any(char::is_numeric)
}

/// The weight of a term (idf), from the number of documents that have it and the number of all.
pub(super) fn idf(with_term: u64, documents: u64) -> f32 {
    let without = (documents - with_term) as f32;
    (1.0 + (without + 0.5) / (with_term as f32 + 0.5)).ln()
}

/// The number of documents of a part that have a term, and the term's place in a segment.
fn find(live: &LivePart, text: &str, term: &Term) -> (u64, Option<TermInfo>) {
    match &*live.part {
        Part::Batch(batch) => {
            let postings = batch.postings(text);
            let is_there = |posting: &&Posting| !live.removed.contains(posting.document);
            let all_are = live.removed.is_empty();
            (if all_are { postings.len() } else { postings.iter().filter(is_there).count() } as u64, None)
        }
        Part::Segment(segment) => {
            let place = segment.find(term);
            (place.as_ref().map_or(0, |place| segment.frequency(place, &live.removed)), place)
        }
    }
}

/// A document has one of the terms, or several. Also for a single term: its own weight reads all of its documents,
/// because of the boost around it.
fn any_of(weights: Vec<(Occur, Box<dyn Weight>)>) -> Box<dyn Weight> {
    let sum = Box::new(SumCombiner::default);
    Box::new(BooleanWeight::with_minimum_number_should_match(weights, 1, true, sum))
}
