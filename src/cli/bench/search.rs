//! Builds an index and searches it at several `ef`: how many of the true neighbours are found, and how fast.
//!
//! The truth is the exact scan of the same index. Every `ef` is timed in several rounds, and the best counts, since
//! neighbours on the machine only ever slow it down; a round goes through all of them, so that whoever disturbs for
//! some seconds does not spoil all rounds of one.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use super::passes::percentiles;
use super::vectors::Vector;
use crate::compute::stop::Stop;
use crate::index::{Effort, Index, MAX_EF, Neighbour, Options};

/// Times that each effort is measured.
pub const ROUNDS: usize = 5;
/// Queries that the scan is timed with: it takes some milliseconds for each, and always the same.
const SCANNED: usize = 100;

/// How queries are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By a walk through the graph.
    Graph,
    /// By a scan, which the index takes to be cheaper than a walk at this `ef`.
    Scan,
    /// By a scan, since the true neighbours were asked for.
    Exact,
}

/// One effort, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub search: How,
    /// None for the exact scan.
    pub ef: Option<usize>,
    /// Of the true neighbours, 0 to 1.
    pub recall: f64,
    /// Of all threads together, in the best round.
    pub queries_per_second: f64,
    /// Of one query, in the same round.
    pub p50_us: f64,
    pub p99_us: f64,
}

/// An index to be measured.
pub struct Measure<'a> {
    pub index: &'a Index,
    pub queries: &'a [Vector],
    pub k: usize,
    /// That search at once.
    pub threads: usize,
    /// That find the true neighbours.
    pub cores: usize,
    pub bar: &'a ProgressBar,
}

/// Queries, answered.
struct Run {
    hits: Vec<Vec<Neighbour>>,
    /// Of each query.
    times: Vec<Duration>,
    whole: Duration,
}

/// An index of these vectors with all its graphs, and how long that took.
pub fn build(vectors: &[Vector], dimensions: usize, options: &Options) -> (Index, Duration) {
    let begun = Instant::now();
    let index = Index::new(dimensions, options.clone());
    index.insert(vectors);
    index.maintain();
    (index, begun.elapsed())
}

impl Measure<'_> {
    /// A row for each of `efs`, and the exact scan as the last.
    pub fn all(&self, efs: &[usize]) -> Vec<Row> {
        self.bar.set_message(format!("comparing {} queries with all vectors", self.queries.len()));
        let truth = self.run(Effort::Exact, self.queries, self.cores).hits;
        let mut rows: Vec<Option<Row>> = vec![None; efs.len() + 1];
        for round in 1..=ROUNDS {
            self.bar.set_message(format!("searching, round {round} of {ROUNDS}"));
            let efforts = efs.iter().map(|&ef| Some(ef)).chain([None]);
            for (best, ef) in rows.iter_mut().zip(efforts) {
                let row = self.row(ef, &truth);
                if best.as_ref().is_none_or(|best| row.queries_per_second > best.queries_per_second) {
                    *best = Some(row);
                }
            }
        }
        rows.into_iter().flatten().collect()
    }

    /// One round. `None`: the exact scan.
    fn row(&self, ef: Option<usize>, truth: &[Vec<Neighbour>]) -> Row {
        let (search, effort, most) = match ef {
            Some(ef) => (self.how(ef), Effort::Graph { ef: Some(ef) }, self.queries.len()),
            None => (How::Exact, Effort::Exact, SCANNED),
        };
        let queries = &self.queries[..most.min(self.queries.len())];
        let Run { hits, times, whole } = self.run(effort, queries, self.threads);
        let [p50, p99] = percentiles(times.iter().map(Duration::as_secs_f64).collect());
        Row {
            search,
            ef,
            recall: recall(&hits, &truth[..hits.len()]),
            queries_per_second: queries.len() as f64 / whole.as_secs_f64(),
            p50_us: 1e6 * p50,
            p99_us: 1e6 * p99,
        }
    }

    fn how(&self, ef: usize) -> How {
        if self.index.scans(ef.max(self.k)) { How::Scan } else { How::Graph }
    }

    /// Searches for all queries, shared out among threads.
    fn run(&self, effort: Effort, queries: &[Vector], threads: usize) -> Run {
        let search = |query: &Vector| {
            let begun = Instant::now();
            let hits = self.index.search(query, self.k, effort, &Stop::never()).expect("nobody stops it");
            (hits, begun.elapsed())
        };
        let begun = Instant::now();
        let shares = queries.chunks(queries.len().div_ceil(threads));
        let (hits, times) = std::thread::scope(|scope| {
            let running: Vec<_> = shares.map(|share| scope.spawn(|| share.iter().map(search).unzip())).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, (Vec<_>, Vec<_>)>| thread.join();
            let done = running.into_iter().map(|thread| join(thread).expect("a search of checked vectors is plain"));
            let (hits, times): (Vec<_>, Vec<_>) = done.unzip();
            (hits.concat(), times.concat())
        });
        Run { hits, times, whole: begun.elapsed() }
    }
}

/// The least `ef` of a walk whose recall is at least `wanted`.
pub fn smallest_ef(rows: &[Row], wanted: f64) -> Option<usize> {
    let reach = rows.iter().filter(|row| row.search == How::Graph && row.recall >= wanted);
    reach.filter_map(|row| row.ef).min()
}

/// Neighbours found among the true ones. One that is as near as the last of these counts too: of equal texts any may be
/// found.
fn recall(hits: &[Vec<Neighbour>], truth: &[Vec<Neighbour>]) -> f64 {
    let found = |(hits, truth): (&Vec<Neighbour>, &Vec<Neighbour>)| {
        let bar = truth.last().map_or(f32::INFINITY, |last| last.score);
        let is_true = |hit: &&Neighbour| hit.score >= bar || truth.iter().any(|t| t.slot == hit.slot);
        hits.iter().filter(is_true).count()
    };
    let wanted: usize = truth.iter().map(Vec::len).sum();
    hits.iter().zip(truth).map(found).sum::<usize>() as f64 / wanted.max(1) as f64
}

/// What `--ef` may be.
pub const EF: RangeInclusive<usize> = 1..=MAX_EF;

/// The `ef`s that are measured where none are named: six, each twice the one before, from the first that holds `k`.
pub fn usual_efs(k: usize) -> Vec<usize> {
    let first = k.next_power_of_two().max(16);
    (0..6).map(|doubled| first << doubled).filter(|ef| EF.contains(ef)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::vectors::Vectors;
    use super::*;

    #[test]
    fn a_longer_walk_finds_more_and_the_scan_finds_all() {
        let Vectors { stored, queries } = Vectors::drawn(2_000, 24, Some(50), 3);
        let options = Options { exact_below: 0, scan_rows_per_ef: 10, ..Options::default() };
        let (index, _) = build(&stored, 24, &options);
        assert_eq!(index.pending(), 0);
        for threads in [1, 3] {
            let bar = ProgressBar::hidden();
            let measure = Measure { index: &index, queries: &queries, k: 10, threads, cores: 2, bar: &bar };
            let rows = measure.all(&[10, 100, 200]);
            let of: Vec<_> = rows.iter().map(|row| (row.search, row.ef)).collect();
            let expected =
                [(How::Graph, Some(10)), (How::Graph, Some(100)), (How::Scan, Some(200)), (How::Exact, None)];
            assert_eq!(of, expected);
            assert!(rows[0].recall < rows[1].recall && rows[1].recall > 0.95, "{rows:?}");
            assert_eq!((rows[2].recall, rows[3].recall), (1.0, 1.0));
            assert!(rows.iter().all(|row| row.queries_per_second > 0.0 && row.p50_us <= row.p99_us), "{rows:?}");
            assert_eq!(smallest_ef(&rows, 0.95), Some(100));
            assert_eq!(smallest_ef(&rows[..1], 1.0), None);
        }
    }

    #[test]
    fn of_vectors_that_are_equally_near_any_counts() {
        let index = Index::new(2, Options::default());
        let slots = index.insert(&[[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0]].map(Vector::from));
        let at = |place: usize, score| Neighbour { slot: slots[place], score };
        let truth = [vec![at(0, 1.0), at(1, 0.6)]];
        assert_eq!(recall(&[vec![at(0, 1.0), at(2, 0.6)]], &truth), 1.0);
        assert_eq!(recall(&[vec![at(0, 1.0), at(3, 0.0)]], &truth), 0.5);
        assert_eq!(recall(&[vec![]], &truth), 0.0);
    }

    #[test]
    fn the_usual_walks_hold_k_candidates() {
        assert_eq!(usual_efs(10), [16, 32, 64, 128, 256, 512]);
        assert_eq!(usual_efs(100), [128, 256, 512, 1_024, 2_048, 4_096]);
        assert_eq!(usual_efs(4_096), [4_096]);
    }
}
