//! Comparison of the index with a plain reference, through its public functions.

mod among;
mod concurrent;
mod correlated;
mod floor;
mod memory;
mod stored;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::kernel::dot::dot_plain;
use crate::kernel::normalize;

impl Index {
    /// Like [`Index::search`], for a caller that does not stop it.
    fn find(&self, query: &[f32], k: usize, effort: Effort) -> Vec<Neighbour> {
        self.search(query, k, effort, &Stop::never()).expect("the search is not stopped")
    }

    /// Like [`Index::search_among`], for a caller that does not stop it.
    fn find_among(&self, query: &[f32], k: usize, effort: Effort, among: &RoaringBitmap) -> Vec<Neighbour> {
        self.search_among(query, k, effort, among, &Stop::never()).expect("the search is not stopped")
    }
}

/// Random vectors and choices of a seed.
struct Random(Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    fn below(&mut self, n: usize) -> usize {
        self.0.usize(..n)
    }

    /// A roughly normal number: the sum of four uniform ones.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.0.f32() - 0.5).sum()
    }

    fn unit(&mut self, dimensions: usize) -> Arc<[f32]> {
        self.near(&vec![0.0; dimensions], 1.0)
    }

    fn near(&mut self, center: &[f32], spread: f32) -> Arc<[f32]> {
        loop {
            let mut v: Vec<f32> = center.iter().map(|&x| x + spread * self.normal()).collect();
            if normalize(&mut v).is_ok() {
                return Arc::from(v);
            }
        }
    }
}

/// Vectors around a few centres, as texts lie.
fn clustered(random: &mut Random, n: usize, dimensions: usize, clusters: usize) -> Vec<Arc<[f32]>> {
    let centers: Vec<_> = (0..clusters).map(|_| random.unit(dimensions)).collect();
    let spread = 1.5 / (dimensions as f32).sqrt();
    let mut draw = || {
        let center = random.below(clusters);
        random.near(&centers[center], spread)
    };
    (0..n).map(|_| draw()).collect()
}

fn small_graph() -> Options {
    Options { ef_construction: 60, ef_search: Some(32), exact_below: 8, scan_rows_per_ef: 0, ..Options::default() }
}

const GRAPH: Effort = Effort::Graph { ef: None };

/// The vectors that the index should hold.
#[derive(Default)]
struct Model(HashMap<Slot, Arc<[f32]>>);

impl Model {
    fn scores(&self, query: &[f32]) -> Vec<f64> {
        let mut scores: Vec<f64> = self.0.values().map(|row| dot_plain(row, query).clamp(-1.0, 1.0)).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores
    }

    fn check(&self, hits: &[Neighbour], query: &[f32], k: usize, effort: Effort) {
        assert_eq!(hits.len(), k.min(self.0.len()), "hits for k = {k} of {} live, {effort:?}", self.0.len());
        for pair in hits.windows(2) {
            assert!(scan::best_first(&pair[0], &pair[1]).is_lt(), "{pair:?} out of order");
        }
        for hit in hits {
            let row = self.0.get(&hit.slot).unwrap_or_else(|| panic!("{hit:?} is not live"));
            assert!((f64::from(hit.score) - dot_plain(row, query)).abs() < 1e-5, "score of {hit:?}");
            assert!((-1.0..=1.0).contains(&hit.score));
        }
        if effort == Effort::Exact {
            for (hit, best) in hits.iter().zip(self.scores(query)) {
                assert!((f64::from(hit.score) - best).abs() < 1e-5, "{hit:?}, expected a score of {best}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(usize),
    Duplicate(usize),
    Remove(usize),
    Replace(usize),
    MaintainABit(usize),
    Maintain,
    Search(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..40).prop_map(Step::Insert),
        1 => (1usize..30).prop_map(Step::Duplicate),
        2 => (1usize..30).prop_map(Step::Remove),
        2 => (1usize..10).prop_map(Step::Replace),
        2 => (1usize..30).prop_map(Step::MaintainABit),
        1 => Just(Step::Maintain),
        3 => prop_oneof![Just(0usize), Just(1), 2usize..20, Just(10_000)].prop_map(Step::Search),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_agrees_with_a_plain_map(
        steps in prop::collection::vec(step(), 1..60),
        dimensions in prop_oneof![Just(1usize), Just(2), 3usize..64, Just(384)],
        exact_below in prop_oneof![Just(0usize), 1usize..60],
        seed in any::<u64>(),
    ) {
        let random = &mut Random::new(seed);
        let index = Index::new(dimensions, Options { exact_below, ..small_graph() });
        let mut model = Model::default();
        let mut order: Vec<Slot> = Vec::new();
        let insert = |vectors: Vec<Arc<[f32]>>, model: &mut Model, order: &mut Vec<Slot>| {
            let slots = index.insert(&vectors);
            for (slot, vector) in slots.into_iter().zip(vectors) {
                assert!(model.0.insert(slot, vector).is_none(), "{slot:?} was given out twice");
                order.push(slot);
            }
        };
        for step in steps {
            match step {
                Step::Insert(n) => insert(clustered(random, n, dimensions, 3), &mut model, &mut order),
                Step::Duplicate(n) => {
                    let Some(slot) = order.last() else { continue };
                    let copy = Arc::clone(&model.0[slot]);
                    insert(vec![copy; n], &mut model, &mut order);
                }
                Step::Remove(n) | Step::Replace(n) => {
                    let mut gone = Vec::new();
                    for _ in 0..n.min(order.len()) {
                        gone.push(order.swap_remove(random.below(order.len())));
                    }
                    index.remove(&gone);
                    gone.iter().for_each(|slot| { model.0.remove(slot); });
                    index.remove(&gone);
                    if let Step::Replace(_) = step {
                        insert(clustered(random, gone.len(), dimensions, 2), &mut model, &mut order);
                    }
                    prop_assert!(gone.iter().all(|&slot| index.vector(slot).is_none()));
                }
                Step::MaintainABit(n) => for _ in 0..n {
                    index.maintain_for(Duration::ZERO);
                },
                Step::Maintain => {
                    index.maintain();
                    prop_assert!(!index.needs_maintenance());
                    prop_assert_eq!(index.pending(), 0);
                }
                Step::Search(k) => {
                    let known = order.last().filter(|_| random.below(2) == 0).map(|slot| Arc::clone(&model.0[slot]));
                    let query = known.unwrap_or_else(|| random.unit(dimensions));
                    for effort in [Effort::Exact, GRAPH, Effort::Graph { ef: Some(1) }] {
                        model.check(&index.find(&query, k, effort), &query, k, effort);
                    }
                    let half: Vec<Slot> = order.iter().copied().step_by(2).collect();
                    let some = Model(half.iter().map(|slot| (*slot, Arc::clone(&model.0[slot]))).collect());
                    let among: RoaringBitmap = some.0.keys().map(|slot| slot.index()).collect();
                    for effort in [Effort::Exact, GRAPH, Effort::Graph { ef: Some(1) }] {
                        some.check(&index.find_among(&query, k, effort, &among), &query, k, effort);
                    }
                }
            }
            prop_assert_eq!(index.len(), model.0.len());
            assert_sound(&index);
        }
        for (slot, vector) in &model.0 {
            prop_assert_eq!(&index.vector(*slot).unwrap()[..], &vector[..]);
        }
    }
}

#[test]
fn an_index_of_zero_one_or_two_vectors_answers() {
    for exact_below in [0, 100] {
        let index = Index::new(3, Options { exact_below, ..small_graph() });
        let (x, y): (Arc<[f32]>, Arc<[f32]>) = (Arc::from([1.0, 0.0, 0.0]), Arc::from([0.0, 1.0, 0.0]));
        index.maintain();
        assert!(index.find(&x, 3, GRAPH).is_empty() && index.is_empty());
        let first = index.insert(&[Arc::clone(&x)])[0];
        index.maintain();
        assert_eq!(index.find(&y, 3, GRAPH), [Neighbour { slot: first, score: 0.0 }]);
        let second = index.insert(&[Arc::clone(&y)])[0];
        index.maintain();
        let found = index.find(&y, 3, GRAPH);
        assert_eq!(found, [Neighbour { slot: second, score: 1.0 }, Neighbour { slot: first, score: 0.0 }]);
        index.remove(&[first, second]);
        assert!(index.find(&y, 3, GRAPH).is_empty());
        index.maintain();
        assert!(index.find(&y, 3, GRAPH).is_empty());
    }
}

/// Asserts that each segment is sound, and that each live slot is in exactly one segment or in the write buffer.
fn assert_sound(index: &Index) {
    let rows = index.rows();
    let mut named: Vec<Slot> = rows.write_buffer().slots().to_vec();
    for segment in rows.segments().iter() {
        segment.assert_sound();
        assert_eq!(segment.live(), segment.slots().iter().filter(|&&slot| rows.is_live(slot)).count());
        named.extend_from_slice(segment.slots());
    }
    named.retain(|&slot| rows.is_live(slot));
    named.sort_unstable();
    assert!(named.windows(2).all(|pair| pair[0] != pair[1]) && named.len() == rows.live());
}

#[test]
fn a_thousand_identical_vectors_hide_no_other() {
    let random = &mut Random::new(5);
    let same = random.unit(16);
    let mut vectors = clustered(random, 1_500, 16, 10);
    for i in 0..1_000 {
        vectors.insert(i * 2, Arc::clone(&same));
    }
    let index = Index::new(16, small_graph());
    let slots = index.insert(&vectors);
    index.maintain();
    let firsts: Vec<Slot> = slots.iter().copied().step_by(2).take(40).collect();
    let found: Vec<Slot> = index.find(&same, 40, GRAPH).iter().map(|hit| hit.slot).collect();
    assert_eq!(found, firsts, "equal scores are in the order of slots");
    for (vector, slot) in vectors.iter().zip(&slots).filter(|(vector, _)| **vector != same) {
        assert_eq!(index.find(vector, 1, GRAPH)[0].slot, *slot);
    }
    // Each identical vector can still be found after others of them are removed.
    index.remove(&firsts);
    assert_eq!(index.find(&same, 1, GRAPH)[0].slot, slots[80]);
    assert_eq!(index.find(&same, 960, GRAPH).iter().filter(|hit| hit.score > 0.9999).count(), 960);
}

#[test]
fn one_thread_makes_the_same_graph_each_time() {
    let vectors = clustered(&mut Random::new(21), 1_500, 16, 8);
    let queries = clustered(&mut Random::new(22), 50, 16, 8);
    let answers = || {
        let index = Index::new(16, Options { ef_construction: 20, ..small_graph() });
        index.insert(&vectors);
        index.maintain();
        let hits: Vec<_> = queries.iter().map(|query| index.find(query, 5, Effort::Graph { ef: Some(5) })).collect();
        (hits, index.bytes())
    };
    assert_eq!(answers(), answers());
}

#[test]
fn a_crowd_of_nearly_identical_vectors_hides_no_other() {
    let random = &mut Random::new(6);
    let same = random.unit(16);
    let mut vectors = clustered(random, 1_000, 16, 10);
    for i in 0..600 {
        vectors.insert(i * 2, random.near(&same, 1e-6));
    }
    let index = Index::new(16, Options { exact_below: 8, scan_rows_per_ef: 0, ..Options::default() });
    let slots = index.insert(&vectors);
    index.maintain();
    for (vector, slot) in vectors.iter().zip(&slots) {
        let hit = index.find(vector, 1, GRAPH)[0];
        assert!(hit.slot == *slot || hit.score > 0.99999, "{slot:?} found {hit:?}");
    }
}
