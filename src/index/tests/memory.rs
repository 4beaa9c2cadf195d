//! Memory of removed vectors: some maintenance frees all of it.

use super::*;

#[test]
fn a_new_graph_frees_the_memory_of_removed_vectors() {
    let random = &mut Random::new(3);
    let vectors = clustered(random, 600, 24, 5);
    let weak: Vec<_> = vectors.iter().map(Arc::downgrade).collect();
    let index = Index::new(24, small_graph());
    let slots = index.insert(&vectors);
    drop(vectors);
    index.maintain();
    let full = index.bytes();
    index.remove(&slots[..119]);
    assert!(!index.needs_maintenance(), "less than a fifth is dead");
    assert!(weak[..119].iter().all(|row| row.upgrade().is_none()), "removed rows are freed at once");
    index.remove(&slots[119..200]);
    assert!(index.needs_maintenance());
    index.maintain();
    assert!(weak[200..].iter().all(|row| row.upgrade().is_some()));
    assert!(index.bytes() < full * 4 / 5, "{} of {full} bytes", index.bytes());
    let fresh = index.insert(&clustered(random, 200, 24, 5));
    assert!(fresh.iter().all(|slot| slot.index() < 600), "slot indices are reused");
}

#[test]
fn replacing_everything_again_and_again_keeps_memory_bounded() {
    let random = &mut Random::new(4);
    let index = Index::new(8, small_graph());
    let mut slots = index.insert(&clustered(random, 300, 8, 4));
    index.maintain();
    let bytes = index.bytes();
    for _ in 0..10 {
        let fresh = index.insert(&clustered(random, 300, 8, 4));
        index.remove(&slots);
        slots = fresh;
        index.maintain();
    }
    assert!(index.bytes() < bytes * 3 / 2, "{} bytes, {bytes} at first", index.bytes());
    assert_eq!(index.len(), 300);
}

#[test]
fn a_small_index_makes_no_graph_and_a_shrunken_one_gives_it_up() {
    let random = &mut Random::new(9);
    let index = Index::new(8, Options { exact_below: 100, ..small_graph() });
    let slots = index.insert(&clustered(random, 100, 8, 4));
    assert!(!index.needs_maintenance());
    assert_eq!(index.pending(), 0);
    let more = index.insert(&clustered(random, 50, 8, 4));
    assert!(index.needs_maintenance());
    assert_eq!(index.pending(), 150, "the first graph has all of them to link");
    index.maintain();
    assert_eq!(index.pending(), 0);
    index.remove(&slots);
    index.maintain();
    assert!(index.rows().segments().is_empty());
    assert_eq!(index.find(&random.unit(8), 1_000, GRAPH).len(), more.len());
}

#[test]
fn a_write_buffer_of_removed_vectors_does_not_cause_endless_work() {
    let random = &mut Random::new(24);
    let index = Index::new(8, Options { exact_below: 50, ..small_graph() });
    index.insert(&clustered(random, 60, 8, 2));
    index.maintain();
    let gone = index.insert(&clustered(random, 60, 8, 2));
    index.remove(&gone);
    index.maintain();
    assert!(!index.needs_maintenance());
    assert_eq!(index.len(), 60);
}
