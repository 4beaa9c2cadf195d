//! Searches in a collection: filters, groups, diversity, and the order of hits.
//!
//! Texts are not needed to rank, but for the choice of a passage by words: those of the final hits are read at the end,
//! if the search asks for texts (`texts`).
//!
//! The index answers "the nearest `n` among these positions"; `words` adds searches by words, `both` those by words and
//! vectors; `rounds` keeps one hit for each document and few for each group. This module adds ids (which decide between
//! equal scores), groups, and diverse hits. A hit is a document: of several passages the nearest one decides, and if
//! some of a document were found, all of them are compared.
//!
//! The index is searched without a lock, so commits do not wait for a search. A short lock then names the hits. If
//! a document among the hits or the candidates has left its position meanwhile, the search is repeated. After
//! [`ATTEMPTS`] the documents stay locked for the whole search.
//!
//! Invariant: there are as many hits as are wanted or possible. A document that is replaced during a search is
//! found in its old or its new state.

#[cfg(test)]
mod tests;

mod both;
pub(super) mod fusion;
mod hits;
mod parameters;
mod rounds;
mod words;

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;

use super::document::DocId;
use super::documents::{Documents, Entry};
use super::matching::Matching;
use super::single::Collection;
use super::texts::{FetchError, Texts};
use crate::compute::stop::{Stop, Stopped};
use crate::index::{Effort, Nearest, Neighbour, Query, Slot};
use crate::kernel::embedding::Embedding;
use crate::lexical::Question;
use fusion::{Mode, Scores};
pub use hits::Hit;
use hits::LocatedHit;
pub(crate) use hits::{best_first, diverse, merged};
pub use parameters::Search;

/// A query.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'q> {
    /// Its vectors; none are needed for [`Mode::Lexical`].
    pub vectors: &'q [Embedding],
    /// Its words, for [`Mode::Lexical`] and [`Mode::Hybrid`].
    pub words: &'q str,
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
        let asked = Asked { vectors: std::slice::from_ref(query), words: "" };
        let found = self.search_in_call(asked, search, &Chosen::default(), &Stop::never());
        found.expect("this flag is never raised")
    }

    /// Does the same as [`Collection::search`] for one of the queries of a call, until `stop` is raised. `chosen`
    /// belongs to the call and to this `search`. A query of several vectors finds what is near to one of them. Blocks
    /// while texts are read.
    pub fn search_in_call(
        &self,
        Asked { vectors, words }: Asked<'_>,
        search: &Search,
        chosen: &Chosen,
        stop: &Stop,
    ) -> Result<Vec<Hit>, FetchError> {
        self.searches.count(search.mode);
        let n = search.diversity.map_or(search.k, |diversity| diversity.pool(search.k));
        self.with_texts(|texts| {
            let mut best = |query: &[f32]| {
                let ranking =
                    Ranking { collection: self, query, words, attempt: None, search, chosen, stop, held: None };
                let mut best = ranking.best(n)?;
                if search.mode == Mode::Lexical {
                    ranking.choose_passages(&mut best, texts)?;
                }
                Ok::<_, FetchError>(best)
            };
            let pool = match vectors {
                [] => best(&[])?,
                [one] => best(one.values())?,
                several => {
                    let lists = several.iter().map(|one| best(one.values())).collect::<Result<_, _>>()?;
                    merged(lists, n, search.groups.as_ref())
                }
            };
            with_texts(diverse(pool, search, stop)?, search, texts)
        })
    }
}

/// Reads the texts of hits, if the search asks for them.
fn with_texts(mut hits: Vec<LocatedHit>, search: &Search, texts: &mut Texts<'_>) -> Result<Vec<Hit>, FetchError> {
    if let Some(most) = search.text_bytes {
        let bytes: usize = hits.iter().map(|located| located.hit.kept.text_bytes_elsewhere()).sum();
        if bytes > most {
            return Err(FetchError::TooLarge { most });
        }
        for LocatedHit { hit, row, .. } in &mut hits {
            hit.text = texts.read(&hit.kept, *row)?;
        }
    }
    Ok(hits.into_iter().map(|located| located.hit).collect())
}

/// One running search.
#[derive(Clone, Copy)]
struct Ranking<'s> {
    collection: &'s Collection,
    query: &'s [f32],
    words: &'s str,
    /// The state in which words are searched; `None`: no words are, or no attempt has begun.
    attempt: Option<&'s WordsOfAttempt>,
    search: &'s Search,
    chosen: &'s Chosen,
    stop: &'s Stop,
    /// The documents, if they are locked for the whole search.
    held: Option<&'s Documents>,
}

/// The words of a query, in one state of their index.
struct WordsOfAttempt {
    question: Question,
    /// The number of changes of the documents when the state was taken.
    moment: u64,
    /// The cosine that others are compared with when scores are fused, once it is known.
    floor: OnceCell<f32>,
}

/// The hits of a round, best first.
struct Round {
    hits: Vec<LocatedHit>,
    /// True if a further round would find nothing else.
    is_last: bool,
}

/// Reports that documents relevant to the search changed while it ran.
struct Changed;

/// Result of an attempt: hits, unless documents changed meanwhile.
type Attempt<T> = Result<Result<T, Changed>, Stopped>;

impl Ranking<'_> {
    /// The best `n` hits by score.
    fn best(self, n: usize) -> Result<Vec<LocatedHit>, Stopped> {
        for _ in 0..ATTEMPTS {
            if let Ok(hits) = self.attempt(n)? {
                return Ok(hits);
            }
        }
        let here = self.collection.read();
        let attempt = Ranking { held: Some(&here), ..self }.attempt(n)?;
        Ok(attempt.unwrap_or_else(|Changed| unreachable!("nothing changes while the documents are locked")))
    }

    fn attempt(self, n: usize) -> Attempt<Vec<LocatedHit>> {
        let words = self.words_of_attempt();
        Ranking { attempt: words.as_ref(), ..self }.attempt_in_state(n)
    }

    fn attempt_in_state(self, n: usize) -> Attempt<Vec<LocatedHit>> {
        let chosen = self.chosen()?;
        let among = chosen.as_deref().map(|chosen| Among { positions: chosen.positions(), seen: chosen.seen() });
        match &self.search.groups {
            // Words find a document once.
            None if self.search.mode == Mode::Lexical => {
                let Ok(Round { hits, .. }) = self.round(n, among, 0)? else { return Ok(Err(Changed)) };
                self.finish(hits, n)
            }
            None if self.collection.is_of_whole_texts() => {
                let Ok(Round { hits, .. }) = self.round(n, among, 0)? else { return Ok(Err(Changed)) };
                // A document of several passages came meanwhile.
                let as_before = hits.iter().all(|hit| hit.passages.is_none());
                Ok(if as_before { Ok(hits) } else { Err(Changed) })
            }
            groups => self.in_rounds(n, groups.as_ref(), among),
        }
    }

    /// The best `n` hits by the mode of the search. `seen`: documents that were in earlier rounds.
    fn round(self, n: usize, among: Option<Among<'_>>, seen: usize) -> Attempt<Round> {
        match self.search.mode {
            Mode::Vector => {
                let hits = self.nearest(n, among)?;
                Ok(hits.map(|hits| Round { is_last: hits.len() < n, hits }))
            }
            Mode::Lexical => self.by_words(n, among),
            Mode::Hybrid(fusion) => self.by_both(fusion, n, among, seen),
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

    /// The nearest `n` hits with enough score, of all documents or of those at some positions.
    fn nearest(self, n: usize, among: Option<Among<'_>>) -> Attempt<Vec<LocatedHit>> {
        let (index, effort) = (&self.collection.index, self.search.effort);
        let positions = among.map(|among| among.positions);
        if effort == (Effort::Graph { ef: None }) {
            index.sample(self.query, positions);
        }
        let mut near =
            index.nearest(&Query { vector: self.query, k: n, sure: n, effort, among: positions }, self.stop)?;
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

    /// Turns neighbours into hits, best first. Among those that tie with the last one, the lowest ids are taken.
    /// `None` if a document was removed meanwhile.
    fn name(self, here: &Documents, near: &Nearest) -> Option<Vec<LocatedHit>> {
        let Some(last) = near.hits.last().map(|hit| hit.score) else { return Some(Vec::new()) };
        let (better, equal): (Vec<Neighbour>, Vec<Neighbour>) =
            near.hits.iter().copied().partition(|hit| hit.score > last);
        let wanted = equal.len();
        let equal = equal.iter().map(|hit| hit.slot).chain(near.tied.iter().copied());
        let mut equal = equal.map(|slot| Some((here.at(slot)?.0, slot))).collect::<Option<Vec<(&DocId, Slot)>>>()?;
        if equal.len() > wanted {
            equal.select_nth_unstable(wanted - 1);
            equal.truncate(wanted);
        }
        let better = better.iter().map(|hit| (hit.slot, hit.score));
        let named = better.chain(equal.into_iter().map(|(_, slot)| (slot, last)));
        let hit = |(slot, score)| {
            let mut located = self.located(here, here.at(slot)?, slot);
            located.hit.score = score;
            Some(located)
        };
        let mut hits = named.map(hit).collect::<Option<Vec<LocatedHit>>>()?;
        hits.sort_by(|one, other| best_first(&one.hit, &other.hit));
        Some(hits)
    }

    /// A hit without a score.
    fn located(self, here: &Documents, (id, entry): (&DocId, &Entry), slot: Slot) -> LocatedHit {
        let (text, kept, passages) = (Arc::default(), Arc::clone(&entry.kept), here.passages(entry.slot).cloned());
        let (vector, scores) = (self.collection.row(slot), Scores::default());
        let hit = Hit { id: id.clone(), text, kept, score: 0.0, scores, vector, passage: None, others: Vec::new() };
        LocatedHit { slot, row: entry.row, passages, hit }
    }

    /// Reads the documents under the lock.
    fn with_documents<T>(self, read: impl FnOnce(&Documents) -> T) -> T {
        match self.held {
            Some(here) => read(here),
            None => read(&self.collection.read()),
        }
    }
}
