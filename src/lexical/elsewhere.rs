//! The terms of texts and their scores, for words that another engine stores.
//!
//! That engine finds candidates, and counts the documents that have a term. The scores are computed here, from the
//! texts of the candidates.
//!
//! Invariant: from the same documents, a text has the same score here as by a [`Question`](super::Question), in every
//! bit.

use std::collections::{BTreeMap, HashMap};

use tantivy::query::Bm25Weight;

use super::analyzer::Analyzer;
use super::options::Options;
use super::query::{MOST_TERMS, Scores, counted, idf, is_code, length_code};

/// Turns texts into terms.
#[derive(Clone)]
pub struct TermReader(Analyzer);

/// Figures about all documents of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of documents that have terms.
    pub documents: u64,
    /// The number of their terms.
    pub terms: u64,
}

/// The terms of a query with their weights: the rarest of those that a document has, at most [`MOST_TERMS`].
pub struct TermWeights {
    terms: Vec<Weighted>,
    /// The place of each in `terms`.
    places: HashMap<String, usize>,
    total_idf: f32,
}

/// The terms of a query that a text has.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Matched {
    /// Their scores.
    pub scores: Scores,
    /// The number of different ones.
    pub different: usize,
}

struct Weighted {
    text: String,
    count: u32,
    weight: Bm25Weight,
    /// Its idf as often as the query has it, if it is a code; otherwise 0.
    code_idf: f32,
}

impl TermReader {
    /// A reader for texts of an index with these options.
    pub fn new(options: Options) -> Self {
        Self(Analyzer::new(options.language))
    }

    /// The terms of a text, in order, as often as it has them.
    pub fn terms(&mut self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.0.terms(text, |term| found.push(term.to_owned()));
        found
    }
}

/// The different terms of a query whose documents are to be counted, with how often it has each.
pub fn looked_up(terms: &[String]) -> BTreeMap<&str, u32> {
    counted(terms)
}

impl TermWeights {
    /// Weighs the terms of a query. `with_term` is the number of documents that have a term.
    pub fn new(counts: &BTreeMap<&str, u32>, totals: Totals, with_term: impl Fn(&str) -> u64) -> Self {
        let mut known: Vec<(u64, &str, u32)> = Vec::new();
        let mut total_idf = 0.0;
        for (&text, &count) in counts {
            match with_term(text).min(totals.documents) {
                0 => total_idf += count as f32 * idf(0, totals.documents),
                with_term => known.push((with_term, text, count)),
            }
        }
        known.sort_unstable();
        known.truncate(MOST_TERMS);
        let idf = |with_term, count: u32| count as f32 * idf(with_term, totals.documents);
        total_idf += known.iter().map(|&(with_term, _, count)| idf(with_term, count)).sum::<f32>();
        let average = totals.terms as f32 / totals.documents as f32;
        let terms = known.into_iter().map(|(with_term, text, count)| Weighted {
            weight: Bm25Weight::for_one_term_without_explain(with_term, totals.documents, average)
                .boost_by(count as f32),
            code_idf: if is_code(text) { idf(with_term, count) } else { 0.0 },
            text: text.to_owned(),
            count,
        });
        let terms: Vec<Weighted> = terms.collect();
        let places = terms.iter().enumerate().map(|(at, term)| (term.text.clone(), at)).collect();
        Self { terms, places, total_idf }
    }

    /// The terms, rarest first, with how often the query has each.
    pub fn terms(&self) -> impl Iterator<Item = (&str, u32)> {
        self.terms.iter().map(|term| (term.text.as_str(), term.count))
    }

    /// Like [`Question::total_idf`](super::Question::total_idf).
    pub fn total_idf(&self) -> f32 {
        self.total_idf + self.codes_idf()
    }

    /// The sum of the idf of the codes that documents have.
    pub fn codes_idf(&self) -> f32 {
        self.terms.iter().map(|term| term.code_idf).sum()
    }

    /// Compares a text with the query.
    pub fn matched(&self, reader: &mut TermReader, text: &str) -> Matched {
        let (mut frequencies, mut length) = (vec![0u32; self.terms.len()], 0u32);
        reader.0.terms(text, |term| {
            length = length.saturating_add(1);
            if let Some(&at) = self.places.get(term) {
                frequencies[at] += 1;
            }
        });
        let (code, mut matched) = (length_code(length), Matched::default());
        for (term, frequency) in self.terms.iter().zip(frequencies).filter(|(_, frequency)| *frequency > 0) {
            matched.scores.bm25 += term.weight.score(code, frequency);
            matched.scores.codes += term.code_idf;
            matched.different += 1;
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::super::LexicalIndex;
    use super::*;

    proptest! {
        #[test]
        fn scores_are_those_of_an_index_with_the_same_documents(
            texts in prop::collection::vec(prop::collection::vec(0u8..40, 0..60), 1..30),
            query in prop::collection::vec(0u8..44, 0..9),
        ) {
            let text = |words: &Vec<u8>| words.iter().map(|n| format!("w{n}{}", ["", "ab-c"][*n as usize % 2]))
                .collect::<Vec<_>>().join(" ");
            let texts: Vec<String> = texts.iter().map(text).collect();
            let index = LexicalIndex::new(None);
            let keyed = || texts.iter().enumerate().map(|(n, text)| (n as u64, text.as_str()));
            index.apply(index.prepare(keyed()), |row| row as u32, &[]);
            let question = index.question(index.snapshot(), &text(&query));

            let mut reader = TermReader::new(Options::default());
            let of_texts: Vec<Vec<String>> = texts.iter().map(|text| reader.terms(text)).collect();
            let mut with_term: HashMap<String, u64> = HashMap::new();
            for terms in &of_texts {
                let different: BTreeSet<&String> = terms.iter().collect();
                different.into_iter().for_each(|term| *with_term.entry(term.clone()).or_default() += 1);
            }
            let terms = of_texts.iter().map(|terms| terms.len() as u64).sum();
            let of_query = reader.terms(&text(&query));
            let documents = of_texts.iter().filter(|terms| !terms.is_empty()).count() as u64;
            let totals = Totals { documents, terms };
            let documents_with = |term: &str| with_term.get(term).copied().unwrap_or(0);
            let weights = TermWeights::new(&looked_up(&of_query), totals, documents_with);
            let expected = question.scores(&(0..texts.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(question.total_idf(), weights.total_idf());
            for (text, expected) in texts.iter().zip(expected) {
                prop_assert_eq!(weights.matched(&mut reader, text).scores, expected);
            }
        }
    }
}
