//! Searches while other threads insert, remove and maintain.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::machine::raise_on_drop::RaiseOnDrop;

/// Rounds in which vectors are inserted and removed.
const ROUNDS: usize = 30;
/// The round of vectors that are never removed.
const STAYS: usize = usize::MAX;

#[test]
fn a_search_sees_only_whole_states_while_four_threads_change_them() {
    hammer(&Index::new(16, options()));
}

#[test]
fn a_search_sees_only_whole_states_while_rows_move_into_files() {
    let directory = tempfile::tempdir().unwrap();
    let storage = SegmentStorage { directory: directory.path().to_owned(), has_room: Box::new(|_| true) };
    let index = Index::stored(16, options(), storage);
    index.restored();
    hammer(&index);
    assert!(index.mapped_bytes() > 400 * 16 * size_of::<f32>());
}

fn options() -> Options {
    Options { exact_below: 200, ..small_graph() }
}

/// A vector, and the round that removes it.
type Known = (Arc<[f32]>, usize);

/// All vectors that were ever inserted, and the number of finished rounds.
#[derive(Default)]
struct History {
    vectors: RwLock<HashMap<Slot, Known>>,
    over: AtomicUsize,
}

impl History {
    fn insert(&self, index: &Index, vectors: &[Arc<[f32]>], round: usize) -> Vec<Slot> {
        // Locked before the insert: a thread that finds one of them must know it.
        let mut known = self.vectors.write().unwrap();
        let slots = index.insert(vectors);
        known.extend(slots.iter().copied().zip(vectors.iter().map(|vector| (Arc::clone(vector), round))));
        slots
    }

    /// Searches, and checks each hit: its score, its order, and that it was not removed before the search began.
    fn search(&self, index: &Index, query: &[f32], k: usize, effort: Effort) -> Vec<Neighbour> {
        let over = self.over.load(Ordering::Acquire);
        let hits = index.find(query, k, effort);
        let known = self.vectors.read().unwrap();
        for hit in &hits {
            let (vector, round) = &known[&hit.slot];
            assert!((f64::from(hit.score) - dot_plain(vector, query)).abs() < 1e-5, "score of {hit:?}, {effort:?}");
            assert!(*round >= over, "{hit:?} was removed before, {effort:?}");
            assert!(index.vector(hit.slot).is_none_or(|row| row[..] == vector[..]), "row of {hit:?}");
        }
        assert!(hits.windows(2).all(|pair| scan::best_first(&pair[0], &pair[1]).is_lt()));
        hits
    }
}

fn hammer(index: &Index) {
    let (stop, searches, history) = (AtomicBool::new(false), AtomicUsize::new(0), History::default());
    // These are never removed and must always be found.
    let kept = clustered(&mut Random::new(1), 400, 16, 8);
    let kept_slots = history.insert(index, &kept, STAYS);
    std::thread::scope(|scope| {
        let stopping = RaiseOnDrop(&stop);
        let background = scope.spawn(|| {
            let mut linked = 0;
            while !stop.load(Ordering::Relaxed) {
                linked += usize::from(index.maintain_for(Duration::from_millis(5)));
                std::thread::yield_now();
            }
            linked
        });
        for thread in 0..3 {
            let (stop, searches, history, kept, kept_slots) = (&stop, &searches, &history, &kept, &kept_slots);
            scope.spawn(move || {
                let random = &mut Random::new(100 + thread);
                while !stop.load(Ordering::Relaxed) {
                    let i = random.below(kept.len());
                    let effort = if random.below(10) == 0 { Effort::Exact } else { GRAPH };
                    let hits = history.search(index, &kept[i], 20, effort);
                    assert_eq!(hits.len(), 20, "{effort:?}");
                    assert_eq!(hits[0].slot, kept_slots[i], "{effort:?}");
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let random = &mut Random::new(2);
        for round in 0..ROUNDS {
            let vectors = clustered(random, 60, 16, 8);
            let slots = history.insert(index, &vectors, round);
            let query = random.unit(16);
            // A vector is found at once after it is inserted, and no more after it is removed.
            assert!(history.search(index, &vectors[0], 1, GRAPH)[0].score > 0.9999);
            std::thread::sleep(Duration::from_millis(10));
            index.remove(&slots);
            history.over.store(round + 1, Ordering::Release);
            history.search(index, &query, 300, GRAPH);
        }
        drop(stopping);
        assert!(background.join().unwrap() > 0, "maintenance was starved");
    });
    assert!(searches.load(Ordering::Relaxed) > 30, "searches were starved");
    index.maintain();
    assert_eq!(index.len(), 400);
}
