//! One hit for each document, however many of its passages are near, and a limit on the hits of each group.
//!
//! The parent searches for passages. The rounds here exclude what was found, until enough documents are there. Ranks
//! are among all documents, so a search by ranks excludes nothing at first: it begins again with longer lists.

use std::collections::{BTreeMap, HashSet};

use roaring::RoaringBitmap;

use super::super::filter::Scalar;
use super::super::groups::Groups;
use super::super::passages::{LocatedPassage, Span};
use super::fusion::{Fusion, Mode};
use super::hits::{Hit, LocatedHit, best_first};
use super::{Among, Attempt, Changed, Ranking, Round};
use crate::index::Vector;
use crate::kernel::dot;

/// The hits of a round up to which ranks are exact. Further down they hardly count, and go on from the documents that
/// earlier rounds have seen.
const EXACT_RANKS: usize = 4_096;

impl Ranking<'_> {
    /// Searches in rounds, and keeps one hit of each document, and of each group as many as it may have. Each round
    /// excludes the documents of earlier rounds, with all their passages, and all documents of full groups, even if
    /// these are most of the collection. Each round asks for twice as many as the one before; otherwise many groups
    /// that each fill a round would take as many rounds.
    pub(super) fn in_rounds(
        self,
        n: usize,
        groups: Option<&Groups>,
        among: Option<Among<'_>>,
    ) -> Attempt<Vec<LocatedHit>> {
        let mut left: Option<(RoaringBitmap, u64)> = among.map(|among| (among.positions.clone(), among.seen));
        let mut best: Vec<LocatedHit> = Vec::new();
        let mut members: BTreeMap<Scalar, usize> = BTreeMap::new();
        let (mut at_once, mut seen_before) = (n.saturating_mul(2), 0);
        loop {
            let among = left.as_ref().map(|(positions, seen)| Among { positions, seen: *seen });
            let Ok(Round { hits: round, is_last }) = self.round(at_once, among, seen_before)? else {
                return Ok(Err(Changed));
            };
            let n_found = round.len();
            let mut seen: Vec<u32> = Vec::with_capacity(n_found);
            let mut documents = HashSet::with_capacity(n_found);
            let mut full = Vec::new();
            for hit in round {
                if let Some(passages) = &hit.passages {
                    if !documents.insert(passages[0].slot) {
                        continue;
                    }
                    seen.extend(passages.iter().map(|passage| passage.slot.index()));
                } else {
                    seen.push(hit.slot.index());
                }
                let key = |groups: &Groups| groups.key(hit.hit.kept.metadata.as_ref());
                let Some((groups, key)) = groups.and_then(|groups| Some((groups, key(groups)?))) else {
                    best.push(hit);
                    continue;
                };
                let members = members.entry(key.clone()).or_default();
                *members += 1;
                if *members <= groups.size.get() {
                    best.push(hit);
                }
                if *members == groups.size.get() {
                    full.push(key);
                }
            }
            if is_last || best.len() >= n {
                return self.finish(best, n);
            }
            if at_once < EXACT_RANKS && matches!(self.search.mode, Mode::Hybrid(Fusion::ReciprocalRanks { .. })) {
                best.clear();
                members.clear();
                at_once = at_once.saturating_mul(2);
                continue;
            }
            seen_before += n_found;
            left = Some(self.with_documents(|here| {
                let (mut positions, moment) =
                    left.take().unwrap_or_else(|| (here.all().clone(), here.changes().total()));
                for position in seen {
                    positions.remove(position);
                }
                for (groups, key) in groups.iter().flat_map(|groups| full.iter().map(move |key| (groups, key))) {
                    positions -= here.in_group(groups, key);
                }
                (positions, moment)
            }));
            at_once = at_once.saturating_mul(2);
        }
    }

    /// The best `n` of the hits of all rounds, each with its best passage.
    pub(super) fn finish(self, mut best: Vec<LocatedHit>, n: usize) -> Attempt<Vec<LocatedHit>> {
        // A hit by both has its passages already: they decide its score.
        for hit in best.iter_mut().filter(|_| self.search.mode == Mode::Vector) {
            if let Some(passages) = hit.passages.clone() {
                self.stop.check()?;
                let Some(()) = self.score_passages(&mut hit.hit, &passages) else { return Ok(Err(Changed)) };
            }
        }
        // A graph may find in a later round what an earlier one missed.
        best.sort_by(|one, other| best_first(&one.hit, &other.hit));
        best.truncate(n);
        let unchanged = self.with_documents(|here| best.iter().all(|hit| hit.is_unchanged(here)));
        Ok(if unchanged { Ok(best) } else { Err(Changed) })
    }

    /// Compares all passages of a hit with the query: a graph may have found another than the nearest. `None` if the
    /// document was removed meanwhile.
    pub(super) fn score_passages(self, hit: &mut Hit, passages: &[LocatedPassage]) -> Option<()> {
        let scored = passages.iter().map(|passage| {
            let vector = self.collection.index.vector(passage.slot)?;
            Some((dot(self.query, &vector).clamp(-1.0, 1.0), passage.span, vector))
        });
        let mut scored = scored.collect::<Option<Vec<(f32, Span, Vector)>>>()?;
        // The sort is stable: of equal ones the earlier passage comes first.
        scored.sort_by(|one, other| other.0.total_cmp(&one.0));
        let least = self.search.min_score.filter(|_| self.search.mode == Mode::Vector);
        let mut scored = scored.into_iter();
        (hit.score, hit.passage, hit.vector) =
            scored.next().map(|(score, span, vector)| (score, Some(span), vector))?;
        let others = scored.take(self.search.passages.get() - 1);
        let others = others.take_while(|(score, ..)| least.is_none_or(|least| *score >= least));
        hit.others = others.map(|(score, span, _)| (span, score)).collect();
        Some(())
    }
}
