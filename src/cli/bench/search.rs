//! Builds an index, searches it with several `ef`, and measures recall and speed.
//!
//! The true neighbours come from the exact scan of the same index. Every `ef` is timed in several rounds, and the best
//! round counts, because other processes can only slow a search down. A round goes through all `ef`. So a disturbance
//! of some seconds does not affect all rounds of one `ef`.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use super::passes::percentiles;
use super::vectors::Vector;
use crate::compute::stop::Stop;
use crate::index::{Effort, Index, MAX_EF, Neighbour, Options};
use crate::machine::process::thread_time;

/// The number of rounds.
pub const ROUNDS: usize = 5;
/// The number of queries that time the exact scan. A scan takes some milliseconds, and all scans take the same time.
const SCANNED: usize = 100;

/// The method that answers a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// A walk through the graph.
    Graph,
    /// A scan, because the index estimates that it is cheaper than a walk with this `ef`.
    Scan,
    /// A scan that computes the true neighbours.
    Exact,
}

/// The results of one `ef`, or of the exact scan.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub search: How,
    /// The `ef`. `None` for the exact scan.
    pub ef: Option<usize>,
    /// The share of the true neighbours that were found, 0 to 1.
    pub recall: f64,
    /// The rate of all threads together, in the best round.
    pub queries_per_second: f64,
    /// The queries in a second of processor time, in the best round for that; `None`: the system does not tell it.
    pub queries_per_cpu_second: Option<f64>,
    /// The median time of a query, in the same round.
    pub p50_us: f64,
    pub p99_us: f64,
}

/// A measurement of an index.
pub struct Measure<'a> {
    pub index: &'a Index,
    pub queries: &'a [Vector],
    pub k: usize,
    /// The number of threads that search at the same time.
    pub threads: usize,
    /// The number of threads that find the true neighbours.
    pub cores: usize,
    pub bar: &'a ProgressBar,
}

/// The answers to some queries, with their times.
struct Run {
    hits: Vec<Vec<Neighbour>>,
    /// The time of each query.
    times: Vec<Duration>,
    whole: Duration,
    /// The processor time of all threads.
    cpu: Option<Duration>,
}

/// Builds an index of these vectors with all its graphs, and returns the time that it took.
pub fn build(vectors: &[Vector], dimensions: usize, options: &Options) -> (Index, Duration) {
    let begun = Instant::now();
    let index = Index::new(dimensions, options.clone());
    index.insert(vectors);
    index.maintain();
    (index, begun.elapsed())
}

impl Measure<'_> {
    /// Measures each of `efs`, and the exact scan as the last row.
    pub fn all(&self, efs: &[usize]) -> Vec<Row> {
        self.bar.set_message(format!("comparing {} queries with all vectors", self.queries.len()));
        let truth = self.run(Effort::Exact, self.queries, self.cores).hits;
        let mut rows: Vec<Option<Row>> = vec![None; efs.len() + 1];
        for round in 1..=ROUNDS {
            self.bar.set_message(format!("searching, round {round} of {ROUNDS}"));
            let efforts = efs.iter().map(|&ef| Some(ef)).chain([None]);
            for (best, ef) in rows.iter_mut().zip(efforts) {
                let mut row = self.row(ef, &truth);
                if let Some(before) = best.take() {
                    let cpu = before.queries_per_cpu_second.into_iter().chain(row.queries_per_cpu_second);
                    let cpu = cpu.reduce(f64::max);
                    row = if row.queries_per_second > before.queries_per_second { row } else { before };
                    row.queries_per_cpu_second = cpu;
                }
                *best = Some(row);
            }
        }
        rows.into_iter().flatten().collect()
    }

    /// Measures one `ef` in one round. `None`: the exact scan.
    fn row(&self, ef: Option<usize>, truth: &[Vec<Neighbour>]) -> Row {
        let (search, effort, most) = match ef {
            Some(ef) => (self.how(ef), Effort::Graph { ef: Some(ef) }, self.queries.len()),
            None => (How::Exact, Effort::Exact, SCANNED),
        };
        let queries = &self.queries[..most.min(self.queries.len())];
        let Run { hits, times, whole, cpu } = self.run(effort, queries, self.threads);
        let [p50, p99] = percentiles(times.iter().map(Duration::as_secs_f64).collect());
        Row {
            search,
            ef,
            recall: recall(&hits, &truth[..hits.len()]),
            queries_per_second: queries.len() as f64 / whole.as_secs_f64(),
            queries_per_cpu_second: cpu.map(|cpu| queries.len() as f64 / cpu.as_secs_f64()),
            p50_us: 1e6 * p50,
            p99_us: 1e6 * p99,
        }
    }

    fn how(&self, ef: usize) -> How {
        if self.index.scans(ef.max(self.k)) { How::Scan } else { How::Graph }
    }

    /// Answers all queries, divided between threads.
    fn run(&self, effort: Effort, queries: &[Vector], threads: usize) -> Run {
        let search = |query: &Vector| {
            let begun = Instant::now();
            let hits = self.index.search(query, self.k, effort, &Stop::never()).expect("the search is never stopped");
            (hits, begun.elapsed())
        };
        let answer = |share: &[Vector]| {
            let begun = thread_time();
            let (hits, times): (Vec<_>, Vec<_>) = share.iter().map(search).unzip();
            (hits, times, thread_time().zip(begun).map(|(ended, begun)| ended.saturating_sub(begun)))
        };
        let begun = Instant::now();
        let shares = queries.chunks(queries.len().div_ceil(threads));
        let done: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = shares.map(|share| scope.spawn(|| answer(share))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
            running
                .into_iter()
                .map(|thread| join(thread).expect("a search of checked vectors does not panic"))
                .collect()
        });
        let mut run = Run { hits: Vec::new(), times: Vec::new(), whole: begun.elapsed(), cpu: Some(Duration::ZERO) };
        for (hits, times, cpu) in done {
            run.hits.extend(hits);
            run.times.extend(times);
            run.cpu = run.cpu.zip(cpu).map(|(all, one)| all + one);
        }
        run
    }
}

/// Returns the smallest `ef` of a walk whose recall is at least `wanted`.
pub fn smallest_ef(rows: &[Row], wanted: f64) -> Option<usize> {
    let reach = rows.iter().filter(|row| row.search == How::Graph && row.recall >= wanted);
    reach.filter_map(|row| row.ef).min()
}

/// Computes the share of the true neighbours that were found. A hit as near as the last true neighbour counts too: the
/// index may return any of several equal texts.
fn recall(hits: &[Vec<Neighbour>], truth: &[Vec<Neighbour>]) -> f64 {
    let found = |(hits, truth): (&Vec<Neighbour>, &Vec<Neighbour>)| {
        let bar = truth.last().map_or(f32::INFINITY, |last| last.score);
        let is_true = |hit: &&Neighbour| hit.score >= bar || truth.iter().any(|t| t.slot == hit.slot);
        hits.iter().filter(is_true).count()
    };
    let wanted: usize = truth.iter().map(Vec::len).sum();
    hits.iter().zip(truth).map(found).sum::<usize>() as f64 / wanted.max(1) as f64
}

/// The range of valid values of `--ef`.
pub const EF: RangeInclusive<usize> = 1..=MAX_EF;

/// Returns the default values of `--ef`: up to six powers of two, from the first that is at least `k`.
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
    fn any_of_several_equally_near_vectors_counts_as_found() {
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
