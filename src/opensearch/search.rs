//! Searches: the engine finds candidates, and they are ranked here as the local store ranks them.
//!
//! ```text
//! queries ──► rounds of each vector ──► one request for all that are not done ──► ranked, grouped ──► the next round
//! ```
//! `rounds` has those of one vector, `ranking` the scores. A search by a graph asks for somewhat more than is wanted,
//! because the engine rounds scores in another way. If candidates tie with the last one, it asks again, exactly.
//!
//! Invariants: a score is that of the exact vectors and texts, to the last bit. Ties are ordered by id. The
//! documents that the searches of all calls have found take at most [`FOUND_BYTES`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{RawHit, SearchAnswer, SearchAnswers};
use super::collection::Collection;
use super::error::{Error, Unavailable};
use super::http::{self, Request};
use super::mapping::ID;
use super::query::chosen;
use super::ranking::Found;
use super::reader::{left_out, listed};
use super::rounds::{Body, Plan, Rounds};
use crate::budget::Held;
use crate::collection::{Asked, Hit, Mode, Search, diverse, merged};
use crate::compute::stop::Stop;
use crate::lexical::TermReader;

/// Memory of what the searches of all calls have found.
pub(super) const FOUND_BYTES: usize = 512 << 20;

/// Searches of one request. The engine runs a few of them at a time.
const SEARCHES: usize = 64;

impl Collection {
    /// The documents that each query finds, at most [`Search::k`], in the order of the local store.
    pub async fn search(&self, queries: &[Asked<'_>], search: &Search) -> Result<Vec<Vec<Hit>>, Error> {
        let weights = if search.mode == Mode::Vector { None } else { self.weights(queries).await? };
        let among = search.filter.as_ref().map(|filter| chosen(Some(filter)));
        let plan = Arc::new(Plan::new(search, among, self.meta.passages.is_some())?);
        let of_query = |(at, query): (usize, &Asked<'_>)| -> Vec<Rounds> {
            let weights = weights.as_ref().map(|weights| Arc::clone(&weights[at]));
            let rounds = |vector: &[f32]| Rounds::new(Arc::clone(&plan), vector.into(), weights.clone());
            match query.vectors {
                [] => vec![rounds(&[])],
                vectors => vectors.iter().map(|vector| rounds(vector.values())).collect(),
            }
        };
        let mut searches: Vec<Vec<Rounds>> = queries.iter().enumerate().map(of_query).collect();
        let mut held: Option<Held> = None;
        loop {
            let bodies: Vec<Vec<Body>> = searches.iter_mut().flatten().map(Rounds::bodies).collect();
            if bodies.iter().all(Vec::is_empty) {
                break;
            }
            let counts: Vec<usize> = bodies.iter().map(Vec::len).collect();
            let found = self.found(bodies.into_iter().flatten().collect(), &mut held).await?;
            let (dimensions, reader) = (self.meta.dimensions, self.reader.clone());
            let advance = move || advanced(searches, &counts, found, dimensions, reader);
            searches = self.engine.compute(advance).await??;
        }
        let (search, reader) = (search.clone(), self.reader.clone());
        self.engine.compute(move || finished(searches, &search, reader)).await
    }

    /// Asks for the hits of each body, in as few requests as their answers allow.
    async fn found(&self, bodies: Vec<Body>, held: &mut Option<Held>) -> Result<Vec<Vec<RawHit>>, Error> {
        let mut found: Vec<Vec<RawHit>> = bodies.iter().map(|_| Vec::new()).collect();
        let mut left: VecDeque<Window> =
            bodies.iter().enumerate().map(|(at, body)| Window { at, from: 0, size: body.size }).collect();
        let mut at_once = SEARCHES;
        while !left.is_empty() {
            let some: Vec<Window> = left.iter().take(at_once).copied().collect();
            let lines: String = some.iter().map(|window| window.lines(&bodies[window.at])).collect();
            let request = Request { method: Method::Post, path: self.path("_msearch"), body: Bytes::from(lines) };
            let answers = |answers: SearchAnswers| whole(answers.checked()?, &some);
            match (self.engine.ask_for_items(&request, answers).await?, &*some) {
                (Some(answers), _) => {
                    for (window, hits) in some.iter().zip(answers) {
                        let sources = hits.iter().filter_map(|hit| hit.source.as_ref());
                        self.keep(held, sources.map(|source| source.bytes()).sum())?;
                        found[window.at].extend(hits);
                    }
                    left.drain(..some.len());
                }
                (None, [window]) => {
                    let Some((first, second)) = window.halves() else {
                        return Err(Error::unexpected("a document is too large to be read"));
                    };
                    left.pop_front();
                    left.push_front(second);
                    left.push_front(first);
                }
                (None, some) => at_once = some.len() / 2,
            }
        }
        Ok(found)
    }

    /// Counts bytes that a call holds until it ends.
    fn keep(&self, held: &mut Option<Held>, bytes: usize) -> Result<(), Error> {
        let more = self.shared.found.try_hold(bytes).ok_or_else(|| {
            let most = FOUND_BYTES >> 20;
            let reason = format!("searches hold {most} MiB of documents, which is the most: ask for a lower k");
            Error::Unavailable(Unavailable::new(reason, http::pause(3)))
        })?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// A part of the hits of a body.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// The index of the body.
    at: usize,
    from: usize,
    size: usize,
}

impl Window {
    /// The search as two lines of a request.
    fn lines(&self, body: &Body) -> String {
        let mut header = json!({ "allow_partial_search_results": false });
        if body.by_words {
            // Figures of all shards together.
            header["search_type"] = "dfs_query_then_fetch".into();
        }
        let search: Value = json!({
            "query": body.query, "from": self.from, "size": self.size, "track_total_hits": self.from + self.size,
            "sort": [{ "_score": "desc" }, { ID: "asc" }],
        });
        format!("{header}\n{search}\n")
    }

    fn halves(self) -> Option<(Self, Self)> {
        let half = self.size / 2;
        let second = Self { from: self.from + half, size: self.size - half, ..self };
        (half > 0).then_some((Self { size: half, ..self }, second))
    }
}

/// The hits of each window, if none is left out.
fn whole(answers: Vec<SearchAnswer>, windows: &[Window]) -> Result<Vec<Vec<RawHit>>, Error> {
    if answers.len() != windows.len() {
        return Err(Error::unexpected(format!("{} answers to {} searches", answers.len(), windows.len())));
    }
    let hits = |(answer, window): (SearchAnswer, &Window)| {
        if !answer.is_whole(window.from, window.size) {
            return Err(Error::Unavailable(left_out()));
        }
        Ok(answer.hits.hits)
    };
    answers.into_iter().zip(windows).map(hits).collect()
}

/// Gives each of the rounds what was found for it: as many lists as it has searches.
fn advanced(
    mut searches: Vec<Vec<Rounds>>,
    counts: &[usize],
    found: Vec<Vec<RawHit>>,
    dimensions: usize,
    mut reader: Option<TermReader>,
) -> Result<Vec<Vec<Rounds>>, Error> {
    let mut found = found.into_iter();
    for (rounds, &n) in searches.iter_mut().flatten().zip(counts) {
        let lists = found.by_ref().take(n).map(|list| read(list, dimensions)).collect::<Result<Vec<_>, Error>>()?;
        if n > 0 {
            rounds.advance(lists, reader.as_mut());
        }
    }
    Ok(searches)
}

/// The hits of each query.
fn finished(searches: Vec<Vec<Rounds>>, search: &Search, mut reader: Option<TermReader>) -> Vec<Vec<Hit>> {
    let n = search.diversity.map_or(search.k, |diversity| diversity.pool(search.k));
    let hits = |rounds: Vec<Rounds>| {
        let mut lists: Vec<Vec<Hit>> = rounds.into_iter().map(|rounds| rounds.finish(reader.as_mut())).collect();
        let pool = match lists.len() {
            1 => lists.remove(0),
            _ => merged(lists, n, search.groups.as_ref()),
        };
        diverse(pool, search, &Stop::never()).expect("this flag is never raised")
    };
    searches.into_iter().map(hits).collect()
}

fn read(list: Vec<RawHit>, dimensions: usize) -> Result<Vec<Found>, Error> {
    let found = |hit: RawHit| {
        let score = hit.score.unwrap_or_default();
        Ok(Found { score, listed: listed(hit, dimensions)? })
    };
    list.into_iter().map(found).collect()
}
