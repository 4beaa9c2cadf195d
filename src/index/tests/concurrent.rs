//! Searches while other threads insert, remove and maintain.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[test]
fn a_search_sees_every_state_whole_while_four_threads_change_it() {
    let index = Index::new(16, Options { exact_below: 200, ..small_graph() });
    let stop = AtomicBool::new(false);
    let searches = AtomicUsize::new(0);
    // These stay all the time: they are always found.
    let kept = clustered(&mut Random(1), 400, 16, 8);
    let kept_slots = index.insert(&kept);
    std::thread::scope(|scope| {
        let background = scope.spawn(|| {
            let mut linked = 0;
            while !stop.load(Ordering::Relaxed) {
                linked += usize::from(index.maintain_for(Duration::from_millis(5)));
                std::thread::yield_now();
            }
            linked
        });
        for thread in 0..3 {
            let (index, stop, searches, kept, kept_slots) = (&index, &stop, &searches, &kept, &kept_slots);
            scope.spawn(move || {
                let random = &mut Random(100 + thread);
                while !stop.load(Ordering::Relaxed) {
                    let i = random.below(kept.len());
                    let effort = if random.below(10) == 0 { Effort::Exact } else { GRAPH };
                    let hits = index.search(&kept[i], 20, effort);
                    assert_eq!(hits.len(), 20, "{effort:?}");
                    assert_eq!(hits[0].slot, kept_slots[i], "{effort:?}");
                    assert!(hits.windows(2).all(|pair| scan::best_first(&pair[0], &pair[1]).is_lt()));
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let random = &mut Random(2);
        for _ in 0..30 {
            let slots = index.insert(&clustered(random, 60, 16, 8));
            let query = random.unit(16);
            // Seen at once when it was inserted, gone at once when it was removed.
            let mine = index.vector(slots[0]).unwrap();
            assert!(index.search(&mine, 1, GRAPH)[0].score > 0.9999);
            std::thread::sleep(Duration::from_millis(10));
            index.remove(&slots);
            assert!(index.search(&query, 300, GRAPH).iter().all(|hit| !slots.contains(&hit.slot)));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(background.join().unwrap() > 0, "maintenance was starved");
    });
    assert!(searches.load(Ordering::Relaxed) > 30, "searches were starved");
    index.maintain();
    assert_eq!(index.len(), 400);
}
