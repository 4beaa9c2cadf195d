//! Lower limits of recall, for any data.

use super::*;

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Clusters, as texts lie.
    Clustered,
    /// Few vectors, many times each, among others.
    Repeated,
    /// Each vector with its opposite.
    Opposed,
    /// Fewer vectors than a walk keeps.
    Tiny,
}

fn vectors(shape: Shape, dimensions: usize, random: &mut Random) -> Vec<Arc<[f32]>> {
    match shape {
        Shape::Clustered => clustered(random, 1_200, dimensions, 30),
        Shape::Repeated => {
            let some = clustered(random, 300, dimensions, 10);
            (0..1_200).map(|n| Arc::clone(&some[if n % 2 == 0 { n % 8 } else { n % 300 }])).collect()
        }
        Shape::Opposed => {
            let half = clustered(random, 600, dimensions, 15);
            let opposite = half.iter().map(|row| row.iter().map(|x| -x).collect());
            half.iter().cloned().chain(opposite).collect()
        }
        Shape::Tiny => clustered(random, 12, dimensions, 3),
    }
}

fn recall_at_10(index: &Index, queries: &[Arc<[f32]>], effort: Effort) -> f64 {
    let mut found = 0;
    for query in queries {
        let worst = index.find(query, 10, Effort::Exact).last().unwrap().score;
        found += index.find(query, 10, effort).iter().filter(|hit| hit.score >= worst).count();
    }
    found as f64 / (10 * queries.len()) as f64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn walks_find_nearly_all_hits_of_a_scan(
        shape in prop::sample::select(vec![Shape::Clustered, Shape::Repeated, Shape::Opposed, Shape::Tiny]),
        dimensions in prop::sample::select(vec![2usize, 3, 16, 100, 384, 768, 1_536]),
        seed in any::<u64>(),
    ) {
        let random = &mut Random::new(seed);
        let vectors = vectors(shape, dimensions, random);
        // Two segments and a write buffer; segments are walked and never scanned.
        let index = Index::new(dimensions, Options { exact_below: 2, scan_rows_per_ef: 0, ..Options::default() });
        let parts: Vec<_> = vectors.chunks(vectors.len().div_ceil(3)).collect();
        for part in &parts[..2] {
            index.insert(part);
            while index.pending() > 0 {
                index.maintain_for(Duration::ZERO);
            }
        }
        index.insert(parts[2]);
        prop_assert_eq!(index.rows().segments().len(), 2);
        prop_assert_eq!(index.rows().write_buffer().slots().len(), parts[2].len());
        let ef = if let Shape::Tiny = shape { 10 } else { index.width(false).ef };
        prop_assert!(!index.scans(ef));
        let effort = Effort::Graph { ef: Some(ef) };
        assert_sound(&index);
        let mut queries: Vec<_> = (0..30).map(|_| {
            let near = Arc::clone(&vectors[random.below(vectors.len())]);
            random.near(&near, 0.5 / (dimensions as f32).sqrt())
        }).collect();
        queries.extend((0..10).map(|_| random.unit(dimensions)));
        let recall = recall_at_10(&index, &queries, effort);
        prop_assert!(recall >= 0.97, "recall@10 {recall} of {shape:?} in {dimensions} dimensions, seed {seed}");
        for vector in vectors.iter().step_by(7) {
            let hit = index.find(vector, 1, effort)[0];
            prop_assert!(hit.score > 0.99999, "{hit:?}, seed {seed}");
        }
    }
}

#[test]
fn the_graph_finds_nearly_all_neighbours_and_each_vector_finds_itself() {
    let seed = 11;
    let random = &mut Random::new(seed);
    let vectors = clustered(random, 3_200, 48, 40);
    let (vectors, queries) = vectors.split_at(3_000);
    let index = Index::new(48, Options { exact_below: 500, scan_rows_per_ef: 0, ..Options::default() });
    let slots = index.insert(vectors);
    index.maintain();
    for (vector, slot) in vectors.iter().zip(&slots) {
        assert_eq!(index.find(vector, 1, GRAPH)[0].slot, *slot, "seed {seed}");
    }
    let recall = recall_at_10(&index, queries, GRAPH);
    assert!(recall > 0.97, "recall@10 {recall}, seed {seed}");
    // A smaller ef finds less: the measurement was of a walk.
    let poor = recall_at_10(&index, queries, Effort::Graph { ef: Some(10) });
    assert!(poor < recall, "recall@10 {poor} at ef 10, {recall} at the default, seed {seed}");
}

/// Answers this many random queries, as a minute of traffic brings.
fn ask(index: &Index, queries: usize, random: &mut Random) {
    for _ in 0..queries {
        index.sample(&random.unit(index.dimensions()), None);
        assert!(index.audit());
    }
}

#[test]
fn an_index_that_finds_too_little_raises_ef_after_a_few_queries_and_remembers_it() {
    // Random vectors are the hardest to find.
    let random = &mut Random::new(23);
    let vectors: Vec<_> = (0..6_000).map(|n| (n, random.unit(48))).collect();
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let storage = SegmentStorage { directory: directory.path().to_owned(), has_room: Box::new(|_| true) };
        // Walks by sketches expand twice as many nodes for such vectors, and find enough.
        let options = Options { ef_search: None, sketches: false, ..small_graph() };
        let index = Index::stored(48, options, storage);
        index.insert_keyed(&vectors);
        index.restored();
        index.maintain();
        index
    };
    let index = start();
    let at_first = index.quality();
    assert_eq!((at_first.recall, at_first.checked), (None, 0));
    assert!(!index.audit() && index.is_learning(), "no query was recorded");
    ask(&index, 60, random);
    let learned = index.quality();
    assert!(learned.ef_search > at_first.ef_search && learned.recall.unwrap() >= 0.95, "{learned:?}");
    drop(index);
    let index = start();
    assert_eq!(index.quality(), Quality { recall: None, checked: 0, ..learned }, "kept over a restart");
    ask(&index, 60, random);
    assert!(index.quality().recall.unwrap() >= 0.95, "{:?}", index.quality());
    drop(index);
    std::fs::write(directory.path().join("recall"), b"not what was written").unwrap();
    assert_eq!(start().quality(), at_first, "a damaged file is ignored");
}

#[test]
fn searches_with_a_filter_are_checked_too() {
    let random = &mut Random::new(27);
    let vectors: Vec<_> = (0..6_000).map(|_| random.unit(48)).collect();
    let index = Index::new(48, Options { ef_search: None, ..small_graph() });
    let slots = index.insert(&vectors);
    index.maintain();
    let half: RoaringBitmap = slots.iter().step_by(2).map(|slot| slot.index()).collect();
    let plain = index.width(false);
    for _ in 0..80 {
        index.sample(&random.unit(48), Some(&half));
        assert!(index.audit());
    }
    let quality = index.quality();
    assert!(quality.checked == 80 && quality.recall.unwrap() >= 0.95, "{quality:?}");
    assert_eq!(index.width(false), plain, "filtered searches do not change searches without a filter");
}

#[test]
fn an_index_with_a_fixed_ef_reports_its_recall_and_keeps_the_ef() {
    let random = &mut Random::new(29);
    let vectors: Vec<_> = (0..2_000).map(|_| random.unit(48)).collect();
    let index = Index::new(48, Options { ef_search: Some(10), ..small_graph() });
    index.insert(&vectors);
    index.maintain();
    for _ in 0..300 {
        index.sample(&random.unit(48), None);
        assert!(index.audit());
    }
    let Quality { ef_search, recall, checked } = index.quality();
    assert!(recall.unwrap() < 0.98, "{recall:?}");
    assert_eq!((ef_search, checked), (10, 256));
}
