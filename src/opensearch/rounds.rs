//! The rounds of a search for one vector, or for words alone.
//!
//! Without groups there is one round. With groups, each round excludes the documents that were taken, and the groups
//! that are full, as the rounds of the local store do. Each round asks for twice as many as the one before.
//!
//! Invariant: a round gives the best documents among those that are not excluded, or all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::error::Error;
use super::mapping::{ID, SINGLE};
use super::query;
use super::ranking::{Found, Ranked, Ranking, Round};
use super::tokens::{of_field, of_value};
use crate::collection::filter::{Path, Scalar};
use crate::collection::{Fusion, Groups, Hit, Mode, Search, best_first};
use crate::index::Effort;
use crate::lexical::{TermReader, TermWeights};

/// The most hits of one search (the engine's `max_result_window`), and the greatest `k` of its graphs.
const WINDOW: usize = 10_000;

/// Candidates beyond those that are wanted: the engine's scores differ in the last bits, and those of words by
/// documents that were removed a while ago.
const MARGIN: usize = 16;

/// The least number of candidates of a walk through a graph. With fewer, half of the vectors did not find themselves.
const LEAST_EF: usize = 64;

/// Candidates by vectors, and by words, for each hit that is wanted by both; and the least number. As in the local
/// store.
const CANDIDATES_PER_HIT: usize = 2;
const LEAST_CANDIDATES: usize = 128;

/// Hits of a round beyond which rounds do not grow, if fewer are wanted. Found documents take memory here.
const LARGE_ROUND: usize = 2_048;

/// The hits up to which ranks are exact. As in the local store.
const EXACT_RANKS: usize = 4_096;

/// The parts that the searches of a call share.
pub(super) struct Plan {
    search: Search,
    /// The documents that match the filter.
    among: Option<Value>,
    /// Hits wanted for each vector.
    n: usize,
    /// The most hits of a round.
    most: usize,
    has_passages: bool,
}

/// A search of the engine.
pub(super) struct Body {
    pub query: Value,
    pub size: usize,
    pub by_words: bool,
}

/// The rounds of one vector.
pub(super) struct Rounds {
    plan: Arc<Plan>,
    vector: Arc<[f32]>,
    weights: Option<Arc<TermWeights>>,
    best: Vec<Ranked>,
    members: BTreeMap<Scalar, usize>,
    full: Vec<Scalar>,
    /// Hits of the next round.
    at_once: usize,
    /// Documents of earlier rounds.
    seen: usize,
    /// The cosine that others are compared with when scores are fused, once it is known.
    floor: Option<f32>,
    /// True if the graph's candidates tie with the last one.
    exactly: bool,
    is_done: bool,
}

impl Plan {
    /// Checks that the engine can find as many hits.
    pub fn new(search: &Search, among: Option<Value>, has_passages: bool) -> Result<Self, Error> {
        let n = search.diversity.map_or(search.k, |diversity| diversity.pool(search.k));
        let per_hit = if matches!(search.mode, Mode::Hybrid(_)) { CANDIDATES_PER_HIT } else { 1 };
        let window = (WINDOW - MARGIN) / per_hit;
        let at_first = if search.groups.is_some() || has_passages { n.saturating_mul(2) } else { n };
        if at_first > window {
            let reason = format!(
                "{} needs {at_first} candidates, and the search engine finds at most {window}: ask for a lower k, or \
                 leave diversity and group_by out",
                search.k
            );
            return Err(Error::Unsupported { field: "k", reason });
        }
        Ok(Self { search: search.clone(), among, n, most: window.min(at_first.max(LARGE_ROUND)), has_passages })
    }

    fn is_by_ranks(&self) -> bool {
        matches!(self.search.mode, Mode::Hybrid(Fusion::ReciprocalRanks { .. }))
    }
}

impl Rounds {
    pub fn new(plan: Arc<Plan>, vector: Arc<[f32]>, weights: Option<Arc<TermWeights>>) -> Self {
        let by_both = matches!(plan.search.mode, Mode::Hybrid(_));
        let in_rounds = plan.search.groups.is_some() || (by_both && plan.has_passages);
        Self {
            at_once: if in_rounds { plan.n * 2 } else { plan.n },
            plan,
            vector,
            weights,
            best: Vec::new(),
            members: BTreeMap::new(),
            full: Vec::new(),
            seen: 0,
            floor: None,
            exactly: false,
            is_done: false,
        }
    }

    /// The searches of the next round; none if all are done.
    pub fn bodies(&mut self) -> Vec<Body> {
        if self.is_done {
            return Vec::new();
        }
        let among = self.among();
        let words = self.weights.as_ref().filter(|weights| weights.terms().next().is_some());
        let by_words = |size| {
            let query = query::by_words(words?, among.as_ref());
            Some(Body { query, size, by_words: true })
        };
        let bodies: Vec<Body> = match self.plan.search.mode {
            Mode::Vector => vec![self.near(self.at_once + MARGIN, among.as_ref())],
            Mode::Lexical => by_words(self.at_once + MARGIN).into_iter().collect(),
            Mode::Hybrid(_) => {
                let size = self.depth() + MARGIN;
                let size = size.min(WINDOW);
                std::iter::once(self.near(size, among.as_ref())).chain(by_words(size)).collect()
            }
        };
        self.is_done = bodies.is_empty();
        bodies
    }

    /// Takes the hits of a round: a list for each of its searches.
    pub fn advance(&mut self, lists: Vec<Vec<Found>>, reader: Option<&mut TermReader>) {
        let plan = Arc::clone(&self.plan);
        let is_full = lists.first().is_some_and(|list| list.len() >= self.at_once + MARGIN);
        let ranking = Ranking {
            search: &plan.search,
            query: &self.vector,
            weights: self.weights.as_deref(),
            reader,
            seen: self.seen,
            floor: &mut self.floor,
        };
        let mut lists = lists.into_iter();
        let (first, second) = (lists.next().unwrap_or_default(), lists.next().unwrap_or_default());
        let round = match plan.search.mode {
            Mode::Vector => {
                let (round, ties) = ranking.near(first, self.at_once);
                if ties && is_full && !self.exactly && plan.search.effort != Effort::Exact {
                    self.exactly = true;
                    return;
                }
                round
            }
            Mode::Lexical => ranking.by_words(first, self.at_once),
            Mode::Hybrid(fusion) => {
                let depth = self.at_once.saturating_mul(CANDIDATES_PER_HIT).max(LEAST_CANDIDATES);
                ranking.by_both(fusion, first, second, (self.at_once, depth))
            }
        };
        self.take(round);
    }

    /// The best hits, in order.
    pub fn finish(mut self, mut reader: Option<&mut TermReader>) -> Vec<Hit> {
        self.best.sort_by(|one, other| best_first(&one.hit, &other.hit));
        self.best.truncate(self.plan.n);
        let weights = self.weights.as_deref().filter(|_| self.plan.search.mode == Mode::Lexical);
        let chosen = |mut ranked: Ranked| {
            if let (Some(weights), Some(reader)) = (weights, reader.as_deref_mut()) {
                ranked.choose_passage(weights, reader);
            }
            ranked.hit
        };
        self.best.into_iter().map(chosen).collect()
    }

    fn take(&mut self, Round { hits, is_last }: Round) {
        let plan = Arc::clone(&self.plan);
        self.seen += hits.len();
        let Some(groups) = &plan.search.groups else {
            self.best = hits;
            self.is_done = true;
            return;
        };
        for ranked in hits {
            let Some(key) = groups.key(ranked.hit.kept.metadata.as_ref()) else {
                self.best.push(ranked);
                continue;
            };
            let members = self.members.entry(key.clone()).or_default();
            *members += 1;
            if *members <= groups.size.get() {
                self.best.push(ranked);
            }
            if *members == groups.size.get() {
                self.full.push(key);
            }
        }
        self.is_done = is_last || self.best.len() >= plan.n;
        if !self.is_done && plan.is_by_ranks() && self.at_once < EXACT_RANKS.min(plan.most) {
            // Ranks are among all documents: the search begins again with longer lists.
            (self.best, self.members, self.full, self.seen) = Default::default();
        }
        self.at_once = self.at_once.saturating_mul(2).min(plan.most);
    }

    fn depth(&self) -> usize {
        self.at_once.saturating_mul(CANDIDATES_PER_HIT).max(LEAST_CANDIDATES)
    }

    fn near(&self, size: usize, among: Option<&Value>) -> Body {
        let query = match self.plan.search.effort {
            Effort::Graph { ef } if !self.exactly => {
                let ef = ef.unwrap_or(LEAST_EF.max(2 * self.at_once)).max(size).max(LEAST_EF);
                query::near(&self.vector, size, ef, among)
            }
            _ => query::exactly_near(&self.vector, among),
        };
        Body { query, size, by_words: false }
    }

    /// The documents that the next round may find; `None`: all.
    fn among(&self) -> Option<Value> {
        let taken: Vec<String> = self.best.iter().map(|ranked| ranked.hit.id.as_str().to_owned()).collect();
        let groups = self.plan.search.groups.as_ref();
        let full = groups.filter(|_| !self.full.is_empty()).map(|groups| in_groups(groups, &self.full));
        if taken.is_empty() && full.is_none() {
            return self.plan.among.clone();
        }
        let excluded: Vec<Value> = std::iter::once(query::terms(ID, taken)).chain(full).collect();
        let filter: Vec<&Value> = self.plan.among.iter().collect();
        Some(json!({ "bool": { "filter": filter, "must_not": excluded } }))
    }
}

/// The documents of some groups: by the first reading of the field's name that a document has.
fn in_groups(groups: &Groups, keys: &[Scalar]) -> Value {
    let mut before: Vec<Value> = Vec::new();
    let of_reading = |path: &Path| {
        let field = of_field(path);
        let values = query::terms(SINGLE, keys.iter().map(|key| of_value(&field, key)).collect());
        let query = json!({ "bool": { "filter": [values], "must_not": before } });
        before.push(query::exists(path));
        query
    };
    query::one_of(groups.by.iter().map(of_reading).collect())
}
