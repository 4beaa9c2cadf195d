//! Recall if the matching vectors do not lie evenly around the query: filters that exclude its neighbourhood, or all
//! but it, and removals there, in any order of insertion.

use super::*;

const VECTORS: usize = 12_000;
const DIMENSIONS: usize = 32;
const PER_CLUSTER: usize = 200;
const QUERIES: usize = 20;
const K: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    ClusterByCluster,
    Shuffled,
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    All,
    NotOwnCluster,
    OwnCluster,
    HalfOfAll,
    HalfOfOthers,
    /// The half nearer to the first centre: nearly all vectors near some queries, nearly none near others.
    OneSide,
}

const CHOICES: [Choice; 6] =
    [Choice::All, Choice::NotOwnCluster, Choice::OwnCluster, Choice::HalfOfAll, Choice::HalfOfOthers, Choice::OneSide];

/// Vectors of clusters in several segments, with the cluster of each.
struct Stored {
    index: Index,
    vectors: Vec<Arc<[f32]>>,
    slots: Vec<Slot>,
    /// The cluster of each vector.
    clusters: Vec<usize>,
}

impl Stored {
    fn new(order: Order, random: &mut Random) -> Stored {
        let clusters = VECTORS / PER_CLUSTER;
        let centres: Vec<_> = (0..clusters).map(|_| random.unit(DIMENSIONS)).collect();
        let mut of: Vec<usize> = (0..VECTORS).map(|n| n / PER_CLUSTER).collect();
        if order == Order::Shuffled {
            random.0.shuffle(&mut of);
        }
        let vectors: Vec<_> =
            of.iter().map(|&cluster| random.near(&centres[cluster], 0.6 / (DIMENSIONS as f32).sqrt())).collect();
        // This option makes scans costly, so that walks are tried, of at most a tenth of a segment.
        let options = Options { exact_below: 500, scan_rows_per_ef: 10, ..Options::default() };
        let index = Index::new(DIMENSIONS, options);
        let mut slots = Vec::new();
        for part in vectors.chunks(VECTORS / 3) {
            slots.extend(index.insert(part));
            while index.pending() > 0 {
                index.maintain_for(Duration::ZERO);
            }
        }
        assert!(index.rows().segments().len() > 1, "the query's cluster must lie in one of several segments");
        Stored { index, vectors, slots, clusters: of }
    }

    /// The slot indices that a choice leaves to a query like vector `n`.
    fn among(&self, choice: Choice, n: usize, centre: &[f32]) -> Option<RoaringBitmap> {
        let own = self.clusters[n];
        let counts = |other: usize| match choice {
            Choice::All => true,
            Choice::NotOwnCluster => self.clusters[other] != own,
            Choice::OwnCluster => self.clusters[other] == own,
            Choice::HalfOfAll => other.is_multiple_of(2),
            Choice::HalfOfOthers => self.clusters[other] != own && other.is_multiple_of(2),
            Choice::OneSide => dot_plain(&self.vectors[other], centre) > 0.0,
        };
        let indices = (0..VECTORS).filter(|&other| counts(other)).map(|other| self.slots[other].index());
        if let Choice::All = choice { None } else { Some(indices.collect()) }
    }

    /// The share of the true hits that queries like stored vectors find.
    fn recall(&self, choice: Choice, queries: &[usize], centre: &[f32], seed: u64) -> f64 {
        let (mut found, mut wanted) = (0, 0);
        for &n in queries {
            let among = self.among(choice, n, centre);
            let search = |effort| match &among {
                Some(among) => self.index.find_among(&self.vectors[n], K, effort, among),
                None => self.index.find(&self.vectors[n], K, effort),
            };
            let (hits, exact) = (search(GRAPH), search(Effort::Exact));
            assert_eq!(hits.len(), exact.len(), "{choice:?}, seed {seed}");
            wanted += exact.len();
            found += recall::true_hits(&hits, &exact);
        }
        found as f64 / wanted as f64
    }
}

#[test]
fn hits_are_found_in_any_cluster_after_any_order_of_loading_and_after_removals() {
    let seed = 41;
    let random = &mut Random::new(seed);
    for order in [Order::ClusterByCluster, Order::Shuffled] {
        let stored = Stored::new(order, random);
        let centre = random.unit(DIMENSIONS);
        let queries: Vec<usize> = (0..QUERIES).map(|_| random.below(VECTORS)).collect();
        for choice in CHOICES {
            let recall = stored.recall(choice, &queries, &centre, seed);
            println!("{order:?}, {choice:?}: recall {recall:.4}");
            assert!(recall >= 0.95, "recall@{K} {recall}, {order:?}, {choice:?}, seed {seed}");
        }
        // Each query's own cluster is removed except the vector itself, and no maintenance follows.
        let gone: Vec<Slot> = (0..VECTORS)
            .filter(|n| !queries.contains(n) && queries.iter().any(|q| stored.clusters[*q] == stored.clusters[*n]))
            .map(|n| stored.slots[n])
            .collect();
        stored.index.remove(&gone);
        for choice in [Choice::All, Choice::HalfOfAll, Choice::OneSide] {
            let recall = stored.recall(choice, &queries, &centre, seed);
            println!("{order:?}, {choice:?}, own clusters removed: recall {recall:.4}");
            assert!(recall >= 0.95, "recall@{K} {recall}, {order:?}, {choice:?}, after deletions, seed {seed}");
        }
    }
}

#[test]
fn queries_that_resemble_no_vector_find_the_nearest_in_one_search() {
    let seed = 43;
    let random = &mut Random::new(seed);
    let dimensions = 256;
    let vectors: Vec<_> = (0..8_000).map(|_| random.unit(dimensions)).collect();
    let index = Index::new(dimensions, Options { exact_below: 500, scan_rows_per_ef: 10, ..Options::default() });
    index.insert(&vectors);
    index.maintain();
    let queries: Vec<_> = (0..40).map(|_| random.unit(dimensions)).collect();
    let by_walk = Effort::Graph { ef: Some(index.width(false).ef) };
    let (mut found, mut walked) = (0, 0);
    let (mut nearer, mut short) = (0, 0);
    for query in &queries {
        let exact = index.find(query, K, Effort::Exact);
        found += recall::true_hits(&index.find(query, K, GRAPH), &exact);
        walked += recall::true_hits(&index.find(query, K, by_walk), &exact);
        let (few, many) = (index.find(query, 5, GRAPH), index.find(query, 100, GRAPH));
        nearer += usize::from(many[0].score > few[0].score);
        short += usize::from(many.len() < 100);
    }
    let share = |found: usize| found as f64 / (K * queries.len()) as f64;
    assert!(share(walked) < 0.9, "a walk alone finds {}: these queries are too easy, seed {seed}", share(walked));
    assert!(share(found) >= 0.95, "recall@{K} {}, seed {seed}", share(found));
    assert_eq!((nearer, short), (0, 0), "a larger k finds no nearer hit, seed {seed}");
}

#[test]
fn queries_far_from_all_clusters_find_the_nearest_and_a_larger_k_finds_nothing_nearer() {
    let seed = 59;
    let random = &mut Random::new(seed);
    let dimensions = 256;
    let centres: Vec<_> = (0..150).map(|_| random.unit(dimensions)).collect();
    let near_one = |random: &mut Random| {
        let centre = random.below(centres.len());
        random.near(&centres[centre], 0.4 / (dimensions as f32).sqrt())
    };
    let stored: Vec<_> = (0..12_000).map(|_| near_one(random)).collect();
    let index = Index::new(dimensions, Options { exact_below: 500, scan_rows_per_ef: 10, ..Options::default() });
    for part in stored.chunks(3_900) {
        index.insert(part);
        while index.pending() > 0 {
            index.maintain_for(Duration::ZERO);
        }
    }
    assert_eq!(index.rows().segments().len(), 3, "hits must lie in several segments");
    let near: Vec<_> = (0..40).map(|_| near_one(random)).collect();
    let far: Vec<_> = (0..40).map(|_| random.unit(dimensions)).collect();
    let (mut found, mut nearer) = (0, 0);
    for query in &far {
        found += recall::true_hits(&index.find(query, K, GRAPH), &index.find(query, K, Effort::Exact));
        let (few, many) = (index.find(query, 5, GRAPH), index.find(query, 100, GRAPH));
        nearer += usize::from(many[0].score > few[0].score);
    }
    let recall = found as f64 / (K * far.len()) as f64;
    println!("recall {recall:.4}, nearer with a larger k {nearer}");
    assert!(recall >= 0.99 && nearer == 0, "recall@{K} {recall}, nearer with a larger k {nearer}, seed {seed}");
    for query in near.iter().chain(&far) {
        let most = index.find(query, 32, GRAPH);
        for k in [1, 2, 5, 10, 31] {
            let few = index.find(query, k, GRAPH);
            let is_nearer = few.iter().zip(&most).any(|(few, most)| most.score > few.score);
            assert!(!is_nearer, "32 hits have nearer ones than {k}, seed {seed}");
        }
    }
}

#[test]
fn clusters_of_texts_are_not_a_crowd() {
    let seed = 47;
    let random = &mut Random::new(seed);
    let all = clustered(random, 12_100, 24, 60);
    let (stored, queries) = all.split_at(12000);
    let index = Index::new(24, Options { exact_below: 500, scan_rows_per_ef: 10, ..Options::default() });
    index.insert(stored);
    index.maintain();
    let in_crowd = |query: &&Arc<[f32]>| {
        let query = Query { vector: query, k: K, sure: K, effort: GRAPH, among: None };
        let answer = index.answer(&query, Some(index.width(false)), &Stop::never()).unwrap();
        answer.how == search::How::Walks { in_crowd: true }
    };
    let crowds = queries.iter().filter(in_crowd).count();
    assert!(crowds <= 5, "{crowds} of 100 searches would be repeated, seed {seed}");
}

#[test]
fn a_search_ends_when_its_caller_is_gone() {
    let random = &mut Random::new(53);
    let index = Index::new(16, small_graph());
    let slots = index.insert(&clustered(random, 2_000, 16, 10));
    index.maintain();
    let stop = Stop::never();
    stop.raise();
    let (query, all) = (random.unit(16), RoaringBitmap::from_iter(slots.iter().map(|slot| slot.index())));
    let few = RoaringBitmap::from_iter(0..20);
    for effort in [Effort::Exact, GRAPH] {
        assert!(index.search(&query, 5, effort, &stop).is_err(), "{effort:?}");
        assert!(index.search_among(&query, 5, effort, &few, &stop).is_err(), "{effort:?}");
    }
    assert!(index.search_among(&query, 5, Effort::Exact, &all, &stop).is_err());
}
