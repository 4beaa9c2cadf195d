//! Compares the dot products of all instruction levels, and the cost of a similarity matrix by dot products with its
//! cost by a matrix product.

use std::hint::black_box;

use cognate::kernel::dot::{dot, dot_at};
use cognate::machine::cpu::Level;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn row(seed: usize, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|i| ((seed * 7919 + i * 31) as f32 * 0.013).sin()).collect()
}

fn dot_384(c: &mut Criterion) {
    let mut group = c.benchmark_group("dot_384");
    // Each component needs one multiplication and one addition.
    group.throughput(Throughput::Elements(2 * 384));
    let (a, b) = (row(1, 384), row(2, 384));
    for level in Level::supported() {
        group.bench_function(level.name(), |bench| bench.iter(|| dot_at(level, black_box(&a), black_box(&b))));
    }
    group.bench_function("dispatched", |bench| bench.iter(|| dot(black_box(&a), black_box(&b))));
    group.finish();
}

fn similarity_256x256x384(c: &mut Criterion) {
    let mut group = c.benchmark_group("similarity_256x256x384");
    group.throughput(Throughput::Elements(2 * 256 * 256 * 384));
    let a: Vec<_> = (0..256).map(|i| row(i, 384)).collect();
    let b: Vec<_> = (0..256).map(|i| row(1000 + i, 384)).collect();
    let mut out = vec![0f32; 256 * 256];
    for level in Level::supported() {
        group.bench_function(level.name(), |bench| {
            bench.iter(|| {
                for (x, line) in a.iter().zip(out.chunks_exact_mut(256)) {
                    for (y, score) in b.iter().zip(line) {
                        *score = dot_at(level, x, y);
                    }
                }
                black_box(&mut out);
            })
        });
    }
    group.finish();
}

criterion_group!(benches, dot_384, similarity_256x256x384);
criterion_main!(benches);
