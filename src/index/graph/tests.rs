//! Properties of the whole graph, for any data.

use std::sync::{Arc, LazyLock};

use fastrand::Rng;
use proptest::prelude::*;

use super::bounds::Bounds;
use super::build::Builder;
use super::codes::Codes;
use super::connect::unreachable;
use super::crowd::least_cosine;
use super::duplicates::Distinct;
use super::layout::breadth_first;
use super::links::Links;
use super::query::OwnQuery;
use super::repair::Repair;
use super::searchable::{Graph, Scratch};
use super::sketches::Sketches;
use crate::compute::stop::Stop;
use crate::kernel::{dot, normalize};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Even,
    /// Few clusters, far from each other, of nearly equal vectors.
    Clustered,
    /// Few vectors, many times each.
    Repeated,
    /// Each vector with its opposite.
    Opposed,
}

fn vectors(shape: Shape, n: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Rng::with_seed(seed);
    // About normal: the sum of a few.
    let mut component = || (0..4).map(|_| 2.0 * random.f32() - 1.0).sum::<f32>();
    let mut fresh = |around: Option<&[f32]>, spread: f32| {
        let mut v: Vec<f32> = (0..dimensions).map(|i| component() * spread + around.map_or(0.0, |c| c[i])).collect();
        if normalize(&mut v).is_err() {
            v[0] = 1.0;
        }
        v
    };
    let centres: Vec<Vec<f32>> = (0..5).map(|_| fresh(None, 1.0)).collect();
    let mut out: Vec<Vec<f32>> = Vec::with_capacity(n);
    for i in 0..n {
        let v = match shape {
            Shape::Even => fresh(None, 1.0),
            Shape::Clustered => fresh(Some(&centres[i * 5 / n]), 0.01),
            Shape::Repeated => centres[i % 5].clone(),
            Shape::Opposed if i % 2 == 1 => out[i - 1].iter().map(|x| -x).collect(),
            Shape::Opposed => fresh(None, 1.0),
        };
        out.push(v);
    }
    out
}

/// A graph, and the vectors of each of its nodes.
fn made_of(vectors: &[Vec<f32>], dimensions: usize, repair_ef: usize, threads: usize) -> (Graph, Vec<Vec<u32>>) {
    let mut distinct = Distinct::new(dimensions);
    vectors.iter().for_each(|v| {
        distinct.push(v);
    });
    let (codes, members) = distinct.into_parts();
    let codes = Arc::new(codes);
    let mut builder = Builder::new(Arc::clone(&codes), 4, 16);
    while builder.insert_some(10) {}
    let coarse = builder.finish(32);
    let points = breadth_first(&coarse.links, &coarse.tops);
    let mut graph = Graph::new(&codes, &coarse.links, &points, coarse.tops.len());
    let mut vectors: Vec<Vec<u32>> = points.iter().map(|&point| members.of(point).collect()).collect();
    for _ in 0..2 {
        let mut repair = Repair::new(graph.len(), repair_ef);
        while repair.step(&graph, threads) {}
        let (links, _) = repair.finish(&graph);
        let first: Vec<u32> = (0..graph.entries() as u32).collect();
        let order = breadth_first(&links, &first);
        vectors = order.iter().map(|&node| std::mem::take(&mut vectors[node as usize])).collect();
        graph = graph.relinked(&links, &order);
    }
    let sketches = Sketches::of(graph.codes());
    (graph.with_sketches(sketches), vectors)
}

fn bounds(ef: usize, hits: usize, wanted: usize) -> Bounds<'static> {
    static STOP: LazyLock<Stop> = LazyLock::new(Stop::never);
    Bounds { ef, hits, sure: hits, wanted, max_expansions: usize::MAX, stop: &STOP }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_vector_of_any_data_can_be_reached_and_is_found(
        shape in prop::sample::select(vec![Shape::Even, Shape::Clustered, Shape::Repeated, Shape::Opposed]),
        n in prop_oneof![0usize..5, 5usize..700],
        dimensions in prop::sample::select(vec![2usize, 3, 63, 64, 65, 384, 1536]),
        seed in any::<u64>(),
    ) {
        let vectors = vectors(shape, n, dimensions, seed);
        let (graph, members) = made_of(&vectors, dimensions, 24, 1);
        graph.assert_sound();
        prop_assert_eq!(members.len(), graph.len());
        let mut stood_for: Vec<u32> = members.concat();
        stood_for.sort_unstable();
        prop_assert!(stood_for.iter().copied().eq(0..n as u32), "every vector has one node");
        // A walk with the graph's size as `ef` visits all of it.
        let mut scratch = Scratch::default();
        if let Some(query) = vectors.first() {
            graph.search(&OwnQuery::new(query), bounds(n, n, n), &mut scratch);
            prop_assert_eq!(scratch.kept().count(), graph.len());
        }
    }
}

#[test]
fn the_number_of_repair_threads_does_not_change_the_graph() {
    let vectors = vectors(Shape::Even, 900, 48, 7);
    let (one, of_one) = made_of(&vectors, 48, 32, 1);
    let (three, of_three) = made_of(&vectors, 48, 32, 3);
    assert_eq!(of_one, of_three);
    assert!((0..one.len() as u32).all(|node| one.links().places(node) == three.links().places(node)));
}

#[test]
fn a_walk_finds_nearly_all_of_the_nearest() {
    // Cosines in a cluster differ by less than the error of codes (about 0.001), so a hit counts if it is as good
    // within that error.
    for (shape, error, least) in [(Shape::Even, 0.0, 0.95), (Shape::Clustered, 2e-3, 0.95), (Shape::Opposed, 0.0, 0.95)]
    {
        let (n, dimensions, seed) = (3_000, 24, 11);
        let vectors = vectors(shape, n, dimensions, seed);
        let (stored, queries) = vectors.split_at(n - 100);
        let (graph, members) = made_of(stored, dimensions, 64, 2);
        let mut scratch = Scratch::default();
        let mut hits = 0;
        for query in queries {
            let mut exact: Vec<f32> = stored.iter().map(|v| dot(query, v)).collect();
            exact.sort_unstable_by(|a, b| b.total_cmp(a));
            graph.search(&OwnQuery::new(query), bounds(128, 10, 40), &mut scratch);
            let found = scratch.kept().take(40).flat_map(|(node, _)| &members[node as usize]);
            let mut found: Vec<f32> = found.map(|&i| dot(query, &stored[i as usize])).collect();
            found.sort_unstable_by(|a, b| b.total_cmp(a));
            hits += found.iter().take(10).filter(|&&score| score >= exact[9] - error).count();
        }
        let recall = hits as f64 / (10 * queries.len()) as f64;
        assert!(recall >= least, "{shape:?}, seed {seed}: recall {recall}");
    }
}

#[test]
fn nodes_among_near_copies_have_links_beyond_them() {
    const COPIES: usize = 20;
    let (directions, noise) = (vectors(Shape::Even, 100, 24, 19), vectors(Shape::Even, 100 * COPIES, 24, 23));
    let copy = |(i, noise): (usize, &Vec<f32>)| {
        let mut copy: Vec<f32> = directions[i / COPIES].iter().zip(noise).map(|(x, n)| x + 0.2 * n).collect();
        normalize(&mut copy).unwrap();
        copy
    };
    let copies: Vec<Vec<f32>> = noise.iter().enumerate().map(copy).collect();
    let (graph, members) = made_of(&copies, 24, 64, 2);
    let origin = |node: u32| members[node as usize][0] as usize / COPIES;
    let beyond = |node: u32| graph.links().of(node).iter().filter(|&&other| origin(other) != origin(node)).count();
    let few = (0..graph.len() as u32).filter(|&node| beyond(node) < 4).count();
    assert!(few < 20, "{few} of {} nodes have fewer than 4 links to copies of other vectors", graph.len());
}

#[test]
fn islands_are_linked_and_full_nodes_give_up_only_links_that_no_path_needs() {
    let mut codes = Codes::new(8);
    vectors(Shape::Even, 200, 8, 3).iter().for_each(|v| {
        codes.push(v);
    });
    let mut links = Links::new(200);
    // A full clique, and nodes without links to them.
    for node in 0..33u32 {
        let others: Vec<u32> = (0..33).filter(|&other| other != node).collect();
        others.iter().for_each(|&other| {
            links.push(node, other);
        });
    }
    assert_eq!(unreachable(&links), 167);
    assert_eq!(super::connect::connect(&codes, &mut links, 0, 0..200), 167);
    assert_eq!(unreachable(&links), 0);
}

#[test]
fn one_scratch_serves_more_walks_than_its_marks_count() {
    let vectors = vectors(Shape::Even, 300, 16, 5);
    let (graph, _) = made_of(&vectors, 16, 24, 1);
    let mut scratch = Scratch::default();
    graph.search(&OwnQuery::new(&vectors[9]), bounds(20, 10, 10), &mut scratch);
    let first: Vec<_> = scratch.kept().collect();
    for _ in 0..600 {
        graph.search(&OwnQuery::new(&vectors[9]), bounds(20, 10, 10), &mut scratch);
        assert!(scratch.kept().eq(first.iter().copied()));
    }
}

#[test]
fn where_sketches_cannot_tell_vectors_apart_a_walk_is_that_by_codes() {
    let vectors = vectors(Shape::Clustered, 2_000, 48, 13);
    let (graph, _) = made_of(&vectors, 48, 32, 1);
    let order: Vec<u32> = (0..graph.len() as u32).collect();
    let by_codes = graph.relinked(graph.links(), &order);
    let (mut one, mut other) = (Scratch::default(), Scratch::default());
    for query in vectors.iter().step_by(100).map(|v| OwnQuery::new(v)) {
        graph.search(&query, bounds(40, 10, 10), &mut one);
        by_codes.search(&query, bounds(40, 10, 10), &mut other);
        assert!(one.kept().eq(other.kept()));
    }
}

#[test]
fn the_entry_points_near_the_hits_are_those_by_codes() {
    let vectors = vectors(Shape::Even, 2_000, 48, 17);
    let (stored, queries) = vectors.split_at(1_900);
    let (graph, _) = made_of(stored, 48, 32, 2);
    let entries: Vec<u32> = (0..graph.entries() as u32).collect();
    let (mut scratch, mut near) = (Scratch::default(), 0);
    for query in queries.iter().map(|query| OwnQuery::new(query)) {
        graph.search(&query, bounds(48, 10, 32), &mut scratch);
        let mut scores = vec![0.0; entries.len()];
        graph.codes().score(query.query(), &entries, &mut scores);
        let around = graph.surroundings(&query, 32, &scratch).unwrap();
        let last = scratch.kept().nth(31).unwrap().1;
        for cosine in [last, (1.0 + last) / 2.0] {
            let least = least_cosine(cosine);
            assert_eq!(around.near(least), scores.iter().filter(|&&score| score >= least).count());
            near += around.near(least);
        }
    }
    assert!(near > 100, "{near} are too few for a test");
}
