//! Searches by words.
//!
//! Words are searched in one state of their index, which is taken while the documents are locked.

use super::fusion::{Mode, Scores};
use super::hits::LocatedHit;
use super::{Among, Attempt, Changed, Ranking, Round, WordsOfAttempt};
use crate::collection::documents::Documents;
use crate::collection::passages::{LocatedPassage, Span};
use crate::collection::texts::{FetchError, Texts};
use crate::lexical::Scored;

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
            found.retain(|scored| scored.scores.bm25 >= least);
        }
        let is_last = found.len() < n;
        let hits = self.with_documents(|here| {
            self.is_untouched(here, among)?;
            found.iter().map(|scored| self.of_words(here, scored)).collect::<Option<Vec<LocatedHit>>>()
        });
        Ok(hits.map(|hits| Round { hits, is_last }).ok_or(Changed))
    }

    /// `None` if a document that the search may find changed since its filter was evaluated.
    pub(super) fn is_untouched(self, here: &Documents, among: Option<Among<'_>>) -> Option<()> {
        let touched = among.is_some_and(|among| here.changes().touched(among.positions, among.seen));
        (!touched).then_some(())
    }

    /// The hit of a document that was found by its words. `None` if it was removed meanwhile.
    fn of_words(self, here: &Documents, scored: &Scored) -> Option<LocatedHit> {
        let (id, entry) = here.at_position(scored.position).filter(|(_, entry)| entry.row == scored.key)?;
        let mut hit = self.located(here, (id, entry), entry.slot);
        hit.hit.score = scored.scores.bm25;
        hit.hit.scores = Scores { vector: None, lexical: Some(scored.scores.bm25) };
        Some(hit)
    }

    /// Tells of the passage with the most words of the query, the first of them; for hits that were found by words.
    pub(super) fn choose_passages(self, hits: &mut [LocatedHit], texts: &mut Texts<'_>) -> Result<(), FetchError> {
        let has_several = hits.iter().any(|located| located.passages.is_some());
        let Some(lexical) = self.collection.lexical.as_ref().filter(|_| has_several) else { return Ok(()) };
        let question = lexical.question(lexical.snapshot(), self.words);
        for LocatedHit { row, passages, hit, .. } in hits {
            let Some(passages) = passages else { continue };
            self.stop.check()?;
            let text = texts.read(&hit.kept, *row)?;
            let text = |span: Span| span.of(&text).unwrap_or_default();
            let count = |passage: &&LocatedPassage| lexical.terms_in(&question, text(passage.span));
            // The last of the greatest in reverse order is the first.
            let Some(best) = passages.iter().rev().max_by_key(count) else { continue };
            hit.passage = Some(best.span);
            if let Some(vector) = self.collection.index.vector(best.slot) {
                hit.vector = vector;
            }
        }
        Ok(())
    }
}
