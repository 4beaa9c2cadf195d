//! Finds the size up to which an exact scan is as fast as a graph, and the share of matches from which a search with a
//! filter should walk the graph.
//!
//! Queries per second are meaningless without recall, so recall@10 is printed beside each graph search. The vectors are
//! generated; the neighbours of real texts are harder to find. For searches with a filter, COGNATE_VECTORS=FILE.npy
//! replaces them by real vectors of `cognate embed -o`. `cognate bench top-k` measures searches without a filter.

#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cognate::compute::stop::Stop;
use cognate::index::{Effort, Index, Neighbour, Options};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roaring::RoaringBitmap;
use workload::Random;

const DIMENSIONS: usize = 384;
const K: usize = 10;
const QUERIES: usize = 1_000;

/// Returns generated vectors.
fn vectors(n: usize) -> Vec<Arc<[f32]>> {
    workload::vectors(n, DIMENSIONS, &mut Random::new(42))
}

fn find(index: &Index, query: &[f32], effort: Effort) -> Vec<Neighbour> {
    index.search(query, K, effort, &Stop::never()).expect("the search is not stopped")
}

fn exact(index: &Index, queries: &[Arc<[f32]>]) -> Vec<Vec<Neighbour>> {
    queries.iter().map(|query| find(index, query, Effort::Exact)).collect()
}

fn recall(index: &Index, queries: &[Arc<[f32]>], exact: &[Vec<Neighbour>], effort: Effort) -> f64 {
    let found = |(query, truth): (&Arc<[f32]>, &Vec<Neighbour>)| {
        find(index, query, effort).iter().filter(|hit| truth.iter().any(|t| t.slot == hit.slot)).count()
    };
    queries.iter().zip(exact).map(found).sum::<usize>() as f64 / (K * queries.len()) as f64
}

fn search(c: &mut Criterion) {
    for n in [5_000usize, 20_000] {
        let all = vectors(n + QUERIES);
        let (stored, queries) = all.split_at(n);
        let index = Index::new(DIMENSIONS, Options { exact_below: 0, scan_rows_per_ef: 0, ..Options::default() });
        index.insert(stored);
        let begin = Instant::now();
        index.maintain();
        let seconds = begin.elapsed().as_secs_f64();
        println!("{n}x{DIMENSIONS}: linked in {seconds:.1} s, {} bytes a vector", index.bytes() / n);

        let truth = exact(&index, queries);
        let mut group = c.benchmark_group(format!("index_{n}x{DIMENSIONS}_top{K}"));
        group.throughput(Throughput::Elements(1));
        let efforts = [32, 64, 128, 256].map(|ef| (format!("ef{ef}"), Effort::Graph { ef: Some(ef) }));
        for (name, effort) in [("exact".to_owned(), Effort::Exact)].into_iter().chain(efforts) {
            if effort != Effort::Exact {
                println!("{n}x{DIMENSIONS} {name}: recall@{K} {:.4}", recall(&index, queries, &truth, effort));
            }
            let next = Cell::new(0);
            group.bench_function(name, |bench| {
                bench.iter(|| {
                    next.set((next.get() + 1) % QUERIES);
                    black_box(find(&index, &queries[next.get()], effort))
                })
            });
        }
        group.finish();
    }
}

/// Returns the vectors of COGNATE_VECTORS, or random vectors.
fn given() -> Vec<Arc<[f32]>> {
    let Some(path) = std::env::var_os("COGNATE_VECTORS") else { return vectors(20_000 + QUERIES) };
    let file = std::fs::read(&path).expect("COGNATE_VECTORS names a file");
    // The magic number, version 1.0 and the length of the header precede the header.
    let header = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
    let values: Vec<f32> =
        file[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    values.chunks_exact(DIMENSIONS).map(Arc::from).collect()
}

/// The documents that match: random documents, those nearest to the query, or those farthest from it.
const CHOICES: [&str; 3] = ["any", "near", "far"];

fn filtered(_: &mut Criterion) {
    let all = given();
    let (stored, queries) = all.split_at(all.len() - QUERIES);
    let index = Index::new(DIMENSIONS, Options::default());
    let slots = index.insert(stored);
    let begin = Instant::now();
    index.maintain();
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = index.bytes() / stored.len();
    println!("{}x{DIMENSIONS}: sealed in {seconds:.1} s, {bytes} bytes a vector", stored.len());
    let queries = &queries[..100];
    println!(
        "{}x{DIMENSIONS}, k {K}, {} queries: share, matches, recall@{K}, ms planned, ms exact",
        stored.len(),
        queries.len()
    );
    let random = &mut Random::new(7);
    let stop = Stop::never();
    for share in [0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 0.5, 0.9] {
        let n = (stored.len() as f64 * share).ceil() as usize;
        for choice in CHOICES {
            let (mut found, mut wanted) = (0, 0);
            let (mut planned, mut exact) = (Duration::ZERO, Duration::ZERO);
            for query in queries {
                let mut keyed: Vec<(f32, u32)> = stored
                    .iter()
                    .zip(&slots)
                    .map(|(row, slot)| {
                        let similarity = cognate::kernel::dot(row, query);
                        let key = match choice {
                            "near" => -similarity,
                            "far" => similarity,
                            _ => random.noise(),
                        };
                        (key, slot.index())
                    })
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                let among: RoaringBitmap = keyed[..n].iter().map(|(_, index)| *index).collect();
                let begin = Instant::now();
                let hits = black_box(index.search_among(query, K, Effort::Graph { ef: None }, &among, &stop))
                    .expect("the search is not stopped");
                planned += begin.elapsed();
                let begin = Instant::now();
                let truth = black_box(index.search_among(query, K, Effort::Exact, &among, &stop))
                    .expect("the search is not stopped");
                exact += begin.elapsed();
                wanted += truth.len();
                found += truth.iter().filter(|hit| hits.contains(hit)).count();
            }
            let ms = |time: Duration| time.as_secs_f64() * 1e3 / queries.len() as f64;
            let recall = found as f64 / wanted as f64;
            println!("{share:>7} {choice:>5} {recall:.4} {:.3} {:.3}", ms(planned), ms(exact));
        }
    }
}

criterion_group!(benches, search, filtered);
criterion_main!(benches);
