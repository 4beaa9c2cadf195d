//! Searches of the vectors that pass a filter: recall is as good at every share, and at any distance from the query.

use super::*;

/// The vectors that pass a filter.
#[derive(Debug, Clone, Copy)]
enum Choice {
    /// Random vectors.
    Uncorrelated,
    /// The vectors nearest to the query.
    Near,
    /// The vectors farthest from the query.
    Far,
}

#[test]
fn a_filtered_search_finds_the_nearest_matches_at_every_share_and_distance() {
    const VECTORS: usize = 10_000;
    const K: usize = 10;
    let random = &mut Random::new(31);
    let all = clustered(random, VECTORS + 20, 24, 40);
    let (stored, queries) = all.split_at(VECTORS);
    // This option avoids scans, so that walks are tested at small shares too.
    let index = Index::new(24, Options { exact_below: 100, scan_rows_per_ef: 1, ..Options::default() });
    let slots = index.insert(stored);
    index.maintain();
    for share in [0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9] {
        for choice in [Choice::Uncorrelated, Choice::Near, Choice::Far] {
            let (mut found, mut wanted) = (0, 0);
            for query in queries {
                let n = (VECTORS as f64 * share).ceil() as usize;
                let mut order: Vec<usize> = (0..VECTORS).collect();
                let similarity = |&i: &usize| dot_plain(&stored[i], query);
                match choice {
                    Choice::Uncorrelated => order.sort_by_cached_key(|_| random.0.u64(..)),
                    Choice::Near => order.sort_by(|a, b| similarity(b).total_cmp(&similarity(a))),
                    Choice::Far => order.sort_by(|a, b| similarity(a).total_cmp(&similarity(b))),
                }
                let among: RoaringBitmap = order[..n].iter().map(|&i| slots[i].index()).collect();
                let truth = index.find_among(query, K, Effort::Exact, &among);
                let hits = index.find_among(query, K, GRAPH, &among);
                assert_eq!(hits.len(), K.min(n), "{choice:?} {share}");
                assert!(hits.iter().all(|hit| among.contains(hit.slot.index())));
                wanted += truth.len();
                found += truth.iter().filter(|hit| hits.contains(hit)).count();
            }
            let recall = found as f64 / wanted as f64;
            println!("{choice:?} {share}: recall {recall:.4}");
            assert!(recall >= 0.95, "recall@{K} of {recall} among a share of {share}, {choice:?}");
        }
    }
}
