//! Hits of `TopK`: found first without copying documents, then measured, and copied only if all of them fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Limits;
use super::answer;
use super::size;
use super::status::{Failure, MAX_ITEM_BYTES};
use crate::collection::{Hit, Scores, Search, Span};
use crate::kernel::embedding::Embedding;
use crate::wire::metadata;
use crate::wire::{self, VectorFormat};

/// Bytes that an id, a score and shared content take until the answer is built.
pub const FOUND_BYTES: usize = 160;

/// Bytes that a further passage of a hit takes until then.
pub const PASSAGE_BYTES: usize = 16;

/// Bytes of the parts of a score, with that of a reranker.
const SCORES_BYTES: usize = 17;

/// The fields of hits that were asked for.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// The text.
    pub text: bool,
    /// The metadata.
    pub metadata: bool,
    /// The vector, in a format.
    pub vector: Option<VectorFormat>,
    /// The texts of passages.
    pub passage_text: bool,
}

/// The texts to rank instead of a collection, if any, with their vectors.
#[derive(Debug, Default)]
pub struct Candidates {
    /// The texts, if the hits include them.
    pub texts: Vec<String>,
    /// The vector of each.
    pub vectors: Vec<Embedding>,
}

/// The hits of one query, best first.
pub enum Hits {
    /// Documents of a collection.
    Documents(Vec<Hit>),
    /// Documents of a collection, with their scores by a reranker.
    Reranked(Vec<(Hit, f32)>),
    /// The positions of candidates, with their scores.
    Candidates(Vec<(usize, f32)>),
}

impl Hits {
    /// Bytes of the texts that were read for them.
    pub fn text_bytes(&self) -> usize {
        let Self::Documents(hits) = self else { return 0 };
        hits.iter().filter(|hit| !hit.text.is_empty()).map(|hit| hit.kept.text_bytes_elsewhere()).sum()
    }
}

/// Writes the hits of a call, and counts the bytes of its answer. Clones share the count.
#[derive(Clone)]
pub struct HitWriter {
    /// The fields of the hits.
    pub fields: Fields,
    /// The search.
    pub search: Arc<Search>,
    /// The candidates that are ranked instead of a collection.
    pub candidates: Arc<Candidates>,
    bytes: Arc<AtomicUsize>,
}

impl HitWriter {
    /// An answer without hits.
    pub fn new(fields: Fields, search: Arc<Search>, candidates: Arc<Candidates>) -> Self {
        Self { fields, search, candidates, bytes: Arc::default() }
    }

    /// Counts the hits of a query. Fails once the answer is too large for a message, in this query or another.
    pub fn count(&self, found: &Result<Hits, Failure>, limits: &Limits) -> Result<(), Failure> {
        let result = match found {
            Ok(Hits::Documents(found)) => found.iter().map(|found| size::field(self.document_bytes(found))).sum(),
            Ok(Hits::Reranked(found)) => {
                found.iter().map(|(found, _)| size::field(self.document_bytes(found) + SCORES_BYTES)).sum()
            }
            Ok(Hits::Candidates(ranked)) => {
                ranked.iter().map(|&(n, _)| size::field(self.candidate_bytes(n))).sum::<usize>()
            }
            Err(_) => MAX_ITEM_BYTES,
        };
        let bytes = size::field(result);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        answer::check(before.saturating_add(bytes), limits)
    }

    /// The most bytes that the answer takes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes the result of a query.
    pub fn write(&self, found: Result<Hits, Failure>) -> wire::TopKResult {
        let hits = match found {
            Ok(Hits::Documents(found)) => found.into_iter().map(|found| self.document(&found)).collect(),
            Ok(Hits::Reranked(found)) => found.into_iter().map(|(found, score)| self.reranked(&found, score)).collect(),
            Ok(Hits::Candidates(ranked)) => ranked.into_iter().map(|(n, score)| self.candidate(n, score)).collect(),
            Err(failure) => return wire::TopKResult { hits: vec![], error: Some(failure.to_item()) },
        };
        wire::TopKResult { hits, error: None }
    }

    fn document_bytes(&self, found: &Hit) -> usize {
        let metadata = if self.fields.metadata { found.kept.fields() } else { None };
        let group = self.search.groups.as_ref().and_then(|groups| groups.value(found.kept.metadata.as_ref()));
        let hit = size::Hit {
            id: found.id.as_str(),
            text: if self.fields.text { &found.text } else { "" },
            metadata: metadata.as_ref(),
            vector: self.fields.vector.map(|format| (found.vector.len(), format)),
            group: group.as_ref(),
            has_scores: found.scores != Scores::default(),
            passages: self.passages(found).map(|(span, _, text)| size::field(size::passage(span, text.len()))).sum(),
        };
        hit.bytes()
    }

    /// The passages that a hit tells of, the nearest first, with their scores and the texts that were asked for.
    fn passages<'h>(&self, found: &'h Hit) -> impl Iterator<Item = (Span, f32, &'h str)> {
        let Fields { passage_text, .. } = self.fields;
        let whole = || passage_text.then(|| Span::whole(&found.text));
        // With words alone no passage is compared with the query's vector.
        let score = match found.scores {
            Scores { vector: None, lexical: None } => found.score,
            Scores { vector, .. } => vector.unwrap_or_default(),
        };
        let nearest = found.passage.or_else(whole).map(|span| (span, score));
        nearest.into_iter().chain(found.others.iter().copied()).map(move |(span, score)| {
            let text = if passage_text { span.of(&found.text).unwrap_or_default() } else { "" };
            (span, score, text)
        })
    }

    fn document(&self, found: &Hit) -> wire::Hit {
        let Fields { text, metadata, vector, .. } = self.fields;
        let group = self.search.groups.as_ref().and_then(|groups| groups.value(found.kept.metadata.as_ref()));
        let mut passages = self.passages(found).map(|(Span { start, end }, score, text)| wire::Passage {
            start,
            end,
            score,
            text: text.to_owned(),
            vector: None,
        });
        wire::Hit {
            id: found.id.as_str().to_owned(),
            score: found.score,
            text: if text { found.text.to_string() } else { String::new() },
            metadata: if metadata { found.kept.fields().as_ref().map(metadata::from_json) } else { None },
            vector: vector.map(|format| wire::vector::write(&*found.vector, format)),
            candidate: None,
            group: group.as_ref().map(metadata::value_from_json),
            passage: passages.next(),
            passages: passages.collect(),
            scores: scores(found.scores),
        }
    }

    /// A document with the score of a reranker beside those by which it was found.
    fn reranked(&self, found: &Hit, score: f32) -> wire::Hit {
        let written = self.document(found);
        let parts = written.scores.unwrap_or(wire::Scores { vector: Some(found.score), ..Default::default() });
        wire::Hit { score, scores: Some(wire::Scores { rerank: Some(score), ..parts }), ..written }
    }

    fn candidate_bytes(&self, n: usize) -> usize {
        const POSITION: usize = 6;
        let hit = size::Hit {
            id: "",
            text: if self.fields.text { &self.candidates.texts[n] } else { "" },
            metadata: None,
            vector: self.fields.vector.map(|format| (self.candidates.vectors[n].values().len(), format)),
            group: None,
            has_scores: false,
            passages: 0,
        };
        hit.bytes() + POSITION
    }

    fn candidate(&self, n: usize, score: f32) -> wire::Hit {
        let vector = |format| wire::vector::write(self.candidates.vectors[n].values(), format);
        wire::Hit {
            score,
            text: if self.fields.text { self.candidates.texts[n].clone() } else { String::new() },
            vector: self.fields.vector.map(vector),
            candidate: Some(n as u32),
            ..wire::Hit::default()
        }
    }
}

/// The parts of a score, if there are some.
fn scores(Scores { vector, lexical }: Scores) -> Option<wire::Scores> {
    let written = wire::Scores { vector, lexical, rerank: None };
    (written != wire::Scores::default()).then_some(written)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::index::Effort;

    fn writer(text_bytes: usize) -> HitWriter {
        let search = Search::nearest(10, Effort::Graph { ef: None });
        let texts = vec!["t".repeat(text_bytes); 3];
        let vectors = (0..3).map(|_| Embedding::normalized(vec![1.0, 2.0]).unwrap()).collect();
        let fields = Fields { text: true, metadata: true, vector: Some(VectorFormat::Int8), passage_text: false };
        HitWriter::new(fields, Arc::new(search), Arc::new(Candidates { texts, vectors }))
    }

    #[test]
    fn an_answer_takes_the_counted_bytes_or_a_little_less() {
        let (writer, limits) = (writer(1000), Limits::default());
        let found = || [Ok(Hits::Candidates(vec![(0, 0.5), (2, 0.25)])), Err(Failure::Internal)];
        found().iter().for_each(|found| writer.count(found, &limits).unwrap());
        let results = found().map(|found| writer.write(found)).into();
        let written = wire::TopKResponse { results }.encoded_len();
        assert!(
            written <= writer.bytes() && writer.bytes() <= written + MAX_ITEM_BYTES,
            "{written} {}",
            writer.bytes()
        );
    }

    #[test]
    fn hits_too_large_for_a_message_are_refused_before_they_are_copied_for_any_query() {
        let (writer, limits) = (writer(1000), Limits { max_message_bytes: 5000, ..Limits::default() });
        let found = |n| Ok(Hits::Candidates(vec![(0, 0.5); n]));
        assert_eq!(writer.count(&found(3), &limits), Ok(()));
        let too_large = Err(Failure::AnswerTooLarge { limit: 5000 });
        assert_eq!(writer.clone().count(&found(2), &limits), too_large);
        assert_eq!(writer.count(&found(0), &limits), too_large);
    }
}
