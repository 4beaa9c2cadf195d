//! A small part in memory: the documents of one commit, or of a few that were put together.
//!
//! A commit cannot wait for a file, and a segment for every commit would make searches slow. So the documents that no
//! segment has yet stand in batches: sorted terms, and the postings of each term. They take about as much memory as
//! their texts. The number of batches stays small because each is put together with those of its size (`index`).
//!
//! Invariant: a batch does not change, except for the positions of its documents before anybody searches it.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::analyzer::Analyzer;
use super::members::{Members, NOWHERE};
use crate::machine::allocator::allocated;

/// A document that has a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    /// The number of the document in its part.
    pub(super) document: u32,
    /// The number of times that the term stands in it.
    pub(super) frequency: u32,
}

/// Documents with their terms.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) members: Members,
    /// A digest of each document's text.
    digests: Vec<u32>,
    /// All terms, in the order of their bytes, one behind the other.
    terms: String,
    /// The end of each term in `terms`.
    ends: Vec<u32>,
    /// The end of each term's postings.
    postings_ends: Vec<u32>,
    /// The postings of one term behind those of the other. Documents ascend.
    postings: Vec<Posting>,
}

/// A batch in the making.
#[derive(Default)]
pub(super) struct Builder {
    members: Members,
    digests: Vec<u32>,
    postings: HashMap<Box<str>, Vec<Posting>>,
}

impl Builder {
    /// Adds a text. A text without terms is not added: no query finds it.
    pub(super) fn add(&mut self, key: u64, digest: u32, text: &str, analyzer: &mut Analyzer) {
        let document = self.members.len() as u32;
        let mut length = 0u32;
        analyzer.terms(text, |term| {
            length += 1;
            let postings = match self.postings.get_mut(term) {
                Some(postings) => postings,
                None => self.postings.entry(term.into()).or_default(),
            };
            match postings.last_mut().filter(|last| last.document == document) {
                Some(last) => last.frequency += 1,
                None => postings.push(Posting { document, frequency: 1 }),
            }
        });
        if length > 0 {
            self.members.push(key, NOWHERE, length);
            self.digests.push(digest);
        }
    }

    pub(super) fn build(mut self) -> Batch {
        let mut sorted: Vec<(Box<str>, Vec<Posting>)> = self.postings.into_iter().collect();
        sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.members.shrink();
        let mut batch = Batch { members: self.members, digests: self.digests, ..Batch::default() };
        for (term, postings) in sorted {
            batch.push(&term, postings);
        }
        batch.shrink();
        batch
    }
}

impl Batch {
    /// Adds a term, which must be greater than all others.
    fn push(&mut self, term: &str, postings: impl IntoIterator<Item = Posting>) {
        self.terms.push_str(term);
        self.ends.push(self.terms.len() as u32);
        self.postings.extend(postings);
        self.postings_ends.push(self.postings.len() as u32);
    }

    fn shrink(&mut self) {
        self.terms.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.postings.shrink_to_fit();
        self.postings_ends.shrink_to_fit();
    }

    fn term(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.terms[start as usize..self.ends[number] as usize]
    }

    fn postings_of(&self, number: usize) -> &[Posting] {
        let start = number.checked_sub(1).map_or(0, |before| self.postings_ends[before]);
        &self.postings[start as usize..self.postings_ends[number] as usize]
    }

    fn n_terms(&self) -> usize {
        self.ends.len()
    }

    /// The documents that have a term, in order.
    pub(super) fn postings(&self, term: &str) -> &[Posting] {
        let (mut from, mut to) = (0, self.n_terms());
        while from < to {
            let middle = from.midpoint(to);
            match self.term(middle).cmp(term) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return self.postings_of(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        &[]
    }

    pub(super) fn digest(&self, document: u32) -> u32 {
        self.digests[document as usize]
    }

    /// Calls `each` with each document and its terms: number, term, frequency.
    pub(super) fn each_document(&self, mut each: impl FnMut(u32, &mut dyn Iterator<Item = (&str, u32)>)) {
        let mut terms_of: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.members.len()];
        for term in 0..self.n_terms() {
            for posting in self.postings_of(term) {
                terms_of[posting.document as usize].push((term as u32, posting.frequency));
            }
        }
        for (document, terms) in terms_of.into_iter().enumerate() {
            let mut terms = terms.iter().map(|&(term, frequency)| (self.term(term as usize), frequency));
            each(document as u32, &mut terms);
        }
    }

    /// Puts batches together, in order, without their removed documents.
    pub(super) fn joined(batches: &[(&Batch, &RoaringBitmap)]) -> Batch {
        let mut joined = Batch::default();
        let mut numbers: Vec<Vec<Option<u32>>> = Vec::with_capacity(batches.len());
        let mut terms: Vec<(&str, usize, usize)> = Vec::new();
        for (of, (batch, removed)) in batches.iter().enumerate() {
            let new_number = |document: u32| {
                (!removed.contains(document)).then(|| {
                    joined.members.take(&batch.members, document);
                    joined.digests.push(batch.digest(document));
                    joined.members.len() as u32 - 1
                })
            };
            numbers.push((0..batch.members.len() as u32).map(new_number).collect());
            terms.extend((0..batch.n_terms()).map(|number| (batch.term(number), of, number)));
        }
        terms.sort_unstable();
        for same in terms.chunk_by(|(a, ..), (b, ..)| a == b) {
            let postings = same.iter().flat_map(|&(_, of, number)| {
                let moved =
                    |posting: &Posting| Some(Posting { document: numbers[of][posting.document as usize]?, ..*posting });
                batches[of].0.postings_of(number).iter().filter_map(moved).collect::<Vec<_>>()
            });
            let postings: Vec<Posting> = postings.collect();
            if !postings.is_empty() {
                joined.push(same[0].0, postings);
            }
        }
        joined.members.shrink();
        joined.digests.shrink_to_fit();
        joined.shrink();
        joined
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let words = self.digests.capacity() + self.ends.capacity() + self.postings_ends.capacity();
        self.members.bytes()
            + allocated(words * size_of::<u32>())
            + allocated(self.terms.capacity())
            + allocated(self.postings.capacity() * size_of::<Posting>())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Terms = BTreeMap<u64, BTreeMap<String, u32>>;

    fn batch(texts: &BTreeMap<u64, String>) -> Batch {
        let mut builder = Builder::default();
        let mut analyzer = Analyzer::new(None);
        texts.iter().for_each(|(&key, text)| builder.add(key, key as u32, text, &mut analyzer));
        builder.build()
    }

    fn terms(batch: &Batch) -> Terms {
        let mut found = Terms::new();
        batch.each_document(|document, terms| {
            let terms = terms.map(|(term, frequency)| (term.to_owned(), frequency)).collect();
            found.insert(batch.members.key(document), terms);
        });
        found
    }

    fn expected(texts: &BTreeMap<u64, String>) -> Terms {
        let mut found = Terms::new();
        for (&key, text) in texts {
            for word in text.split_whitespace() {
                *found.entry(key).or_default().entry(word.to_owned()).or_default() += 1;
            }
        }
        found
    }

    proptest! {
        #[test]
        fn batches_keep_the_terms_of_their_documents_when_they_are_joined(
            texts in prop::collection::btree_map(0u64..99, "([abc]{1,2} ){0,6}", 0..20),
            cut in 0u64..99,
            gone in prop::collection::btree_set(0u64..99, 0..5),
        ) {
            let (low, high): (BTreeMap<_, _>, _) = texts.clone().into_iter().partition(|(key, _)| *key < cut);
            let parts = [batch(&low), batch(&high)];
            let removed = parts.each_ref().map(|part| {
                gone.iter().filter_map(|&key| part.members.find(key)).collect::<RoaringBitmap>()
            });
            let joined = Batch::joined(&[(&parts[0], &removed[0]), (&parts[1], &removed[1])]);
            let left = texts.into_iter().filter(|(key, _)| !gone.contains(key)).collect();
            prop_assert_eq!(terms(&joined), expected(&left));
            for document in 0..joined.members.len() as u32 {
                prop_assert_eq!(joined.digest(document), joined.members.key(document) as u32);
            }
            for term in ["a", "bc", "zz"] {
                let with_term = expected(&left).values().filter(|terms| terms.contains_key(term)).count();
                prop_assert_eq!(joined.postings(term).len(), with_term);
            }
        }
    }
}
