//! Decides: the defaults of `ef_construction` and `ef_search`, up to which size an exact scan is as good as a graph,
//! and when a search with a filter walks the graph.
//!
//! Queries a second say little without the share of true neighbours found, so recall@10 is printed
//! beside each graph search. Vectors are drawn around centers of many sizes; the neighbours of real
//! texts are harder to find than these. COGNATE_VECTORS=FILE.npy, as `cognate embed -o` writes it, brings real ones
//! for all but the first part.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cognate::compute::stop::Stop;
use cognate::index::{Effort, Index, Neighbour, Options};
use cognate::kernel::normalize;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roaring::RoaringBitmap;

const DIMENSIONS: usize = 384;
const K: usize = 10;
const QUERIES: usize = 1_000;

/// A linear congruential generator (Knuth's MMIX); uniform in -0.5 to 0.5.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn near(&mut self, center: &[f32], spread: f32) -> Arc<[f32]> {
        let mut v: Vec<f32> = center.iter().map(|&x| x + spread * self.next()).collect();
        normalize(&mut v).expect("random components are not all zero");
        Arc::from(v)
    }
}

/// Topics, themes of a topic, texts of a theme: each nearer to the next.
fn vectors(n: usize) -> Vec<Arc<[f32]>> {
    let random = &mut Random(42);
    let topics: Vec<_> = (0..50).map(|_| random.near(&[0.0; DIMENSIONS], 1.0)).collect();
    let themes: Vec<_> = (0..n / 20).map(|i| random.near(&topics[i % topics.len()], 0.2)).collect();
    (0..n).map(|i| random.near(&themes[i * 7 % themes.len()], 0.15)).collect()
}

fn find(index: &Index, query: &[f32], effort: Effort) -> Vec<Neighbour> {
    index.search(query, K, effort, &Stop::never()).expect("nobody stops it")
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

/// The vectors of COGNATE_VECTORS, else drawn ones.
fn given() -> Vec<Arc<[f32]>> {
    let Some(path) = std::env::var_os("COGNATE_VECTORS") else { return vectors(20_000 + QUERIES) };
    let file = std::fs::read(&path).expect("COGNATE_VECTORS names a file");
    // Magic, version 1.0 and the length of the header come before the header.
    let header = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
    let values: Vec<f32> =
        file[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    values.chunks_exact(DIMENSIONS).map(Arc::from).collect()
}

/// Which documents match: any, those nearest to the query, or those farthest from it.
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
    println!("ef, recall@{K}, queries a second");
    let truth = exact(&index, queries);
    for ef in [16, 32, 48, 64, 80, 96, 128, 192, 256, 384] {
        let effort = Effort::Graph { ef: Some(ef) };
        let rate = |_| {
            let begin = Instant::now();
            queries.iter().for_each(|query| drop(black_box(find(&index, query, effort))));
            queries.len() as f64 / begin.elapsed().as_secs_f64()
        };
        let best = (0..5).map(rate).fold(0.0, f64::max);
        println!("{ef:>4} {:.4} {best:.0}", recall(&index, queries, &truth, effort));
    }
    let queries = &queries[..100];
    println!(
        "{}x{DIMENSIONS}, k {K}, {} queries: share, what matches, recall@{K}, ms planned, ms exact",
        stored.len(),
        queries.len()
    );
    let random = &mut Random(7);
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
                            _ => random.next(),
                        };
                        (key, slot.index())
                    })
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                let among: RoaringBitmap = keyed[..n].iter().map(|(_, place)| *place).collect();
                let begin = Instant::now();
                let hits = black_box(index.search_among(query, K, Effort::Graph { ef: None }, &among, &stop))
                    .expect("nobody stops it");
                planned += begin.elapsed();
                let begin = Instant::now();
                let truth =
                    black_box(index.search_among(query, K, Effort::Exact, &among, &stop)).expect("nobody stops it");
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
