//! An index that keeps its segments: what the next process has, and what it makes of files that are missing or damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Vectors by key, as their owner keeps them.
type Owner = BTreeMap<u64, Arc<[f32]>>;

/// The index that a process starts with.
fn start(directory: &Path, dimensions: usize, owner: &Owner) -> (Index, HashMap<u64, Slot>) {
    let keep = Keep { directory: directory.to_owned(), has_room: Box::new(|_| true) };
    start_with(keep, dimensions, owner)
}

fn start_with(keep: Keep, dimensions: usize, owner: &Owner) -> (Index, HashMap<u64, Slot>) {
    let index = Index::stored(dimensions, Options { exact_below: 40, ..small_graph() }, keep);
    let vectors: Vec<_> = owner.iter().map(|(key, vector)| (*key, Arc::clone(vector))).collect();
    let slots = vectors.chunks(100).flat_map(|some| index.insert_keyed(some));
    let slots = owner.keys().copied().zip(slots).collect();
    index.restored();
    (index, slots)
}

fn check(index: &Index, slots: &HashMap<u64, Slot>, owner: &Owner, random: &mut Random) {
    let model = Model(slots.iter().map(|(key, slot)| (*slot, Arc::clone(&owner[key]))).collect());
    assert_eq!(index.len(), owner.len());
    let query = random.unit(index.dimensions());
    for (k, effort) in [(7, Effort::Exact), (7, GRAPH), (1_000, GRAPH)] {
        model.check(&index.search(&query, k, effort), &query, k, effort);
    }
    for (slot, vector) in &model.0 {
        assert_eq!(index.vector(*slot).unwrap()[..], vector[..]);
        assert!(index.search(vector, 1, GRAPH)[0].score > 0.9999);
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// Inserts, removals, a little maintenance and restarts in any order; the owner's vectors are what there is.
    #[test]
    fn the_next_process_has_what_the_owner_has(
        steps in prop::collection::vec((0u8..6, 1usize..60), 1..40),
        dimensions in prop_oneof![Just(1usize), Just(2), Just(17), Just(384)],
        seed in any::<u64>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let random = &mut Random(seed);
        let (mut owner, mut next) = (Owner::new(), 0u64);
        let (mut index, mut slots) = start(directory.path(), dimensions, &owner);
        for (step, n) in steps {
            match step {
                0 | 1 => {
                    let new: Vec<(u64, Arc<[f32]>)> = clustered(random, n, dimensions, 3).into_iter().zip(next..).map(|(v, key)| (key, v)).collect();
                    next += n as u64;
                    slots.extend(new.iter().map(|(key, _)| *key).zip(index.insert_keyed(&new)));
                    owner.extend(new);
                }
                2 => for _ in 0..n.min(owner.len()) {
                    let key = *owner.keys().nth(random.below(owner.len())).unwrap();
                    owner.remove(&key);
                    index.remove(&[slots.remove(&key).unwrap()]);
                },
                3 => for _ in 0..n { index.maintain_for(Duration::ZERO); },
                4 => index.maintain(),
                _ => {
                    drop(index);
                    (index, slots) = start(directory.path(), dimensions, &owner);
                }
            }
            check(&index, &slots, &owner, random);
        }
        index.maintain();
        check(&index, &slots, &owner, random);
        let segments = index.rows().segments().len();
        prop_assert_eq!(files(directory.path()).len(), segments, "a file for each segment and no other");
    }
}

fn owner_of(n: usize, seed: u64) -> Owner {
    (0..).zip(clustered(&mut Random(seed), n, 24, 6)).collect()
}

#[test]
fn a_restart_builds_nothing_again_and_its_rows_have_no_memory_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let owner = owner_of(900, 1);
    let (index, _) = start(directory.path(), 24, &owner);
    index.maintain();
    let query = Random(2).unit(24);
    let found = index.search(&query, 20, GRAPH);
    drop(index);
    let (index, slots) = start(directory.path(), 24, &owner);
    assert!(!index.needs_maintenance());
    assert_eq!(index.pending(), 0);
    assert_eq!(index.search(&query, 20, GRAPH), found, "the graph is the same");
    let in_memory = 900 * 24 * size_of::<f32>();
    assert!(index.bytes() < in_memory + 900 * 60 && index.mapped_bytes() > in_memory + 900 * DEGREE_BYTES);
    // A row outlives its slot, its segment and its file.
    let kept = index.vector(slots[&7]).unwrap();
    // Few are left: they have no graph, and none is read from the file, which goes with the last who reads it.
    let (stay, go): (Vec<u64>, Vec<u64>) = owner.keys().copied().partition(|key| key % 90 == 0);
    index.remove(&go.iter().map(|key| slots[key]).collect::<Vec<_>>());
    index.maintain();
    assert_eq!((index.len(), index.mapped_bytes()), (stay.len(), 0));
    assert_eq!(kept[..], owner[&7][..]);
    assert_eq!(files(directory.path()).len(), 1, "as long as somebody reads from it");
    drop(kept);
    assert!(files(directory.path()).is_empty());
}

/// Of a node's links.
const DEGREE_BYTES: usize = 128;

#[test]
fn damaged_files_are_built_again_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (mut owner, random) = (owner_of(400, 3), &mut Random(4));
    let (index, _) = start(directory.path(), 24, &owner);
    index.maintain();
    drop(index);
    let [file] = &files(directory.path())[..] else { panic!("one segment, one file") };
    let whole = fs::read(file).unwrap();
    let damage: [(&str, &dyn Fn() -> Vec<u8>); 5] = [
        ("nothing is left", &Vec::new),
        ("its end is missing", &|| whole[..whole.len() - 1].to_vec()),
        ("it is something else", &|| vec![7; whole.len()]),
        ("something follows", &|| [&whole[..], &[0]].concat()),
        ("it is shorter than its header", &|| whole[..20].to_vec()),
    ];
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    };
    let flips = (0..40).map(|_| random.below(whole.len())).collect::<Vec<_>>();
    let all = damage.iter().map(|(what, bytes)| ((*what).to_owned(), bytes()));
    for (what, bytes) in all.chain(flips.into_iter().map(|at| (format!("byte {at} is another"), flipped(at)))) {
        files(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(file, bytes).unwrap();
        let (index, slots) = start(directory.path(), 24, &owner);
        println!("{what}");
        check(&index, &slots, &owner, &mut Random(5));
        index.maintain();
        check(&index, &slots, &owner, &mut Random(6));
    }
    // Of another model: the owner's vectors differ, whatever their keys.
    owner = owner_of(400, 7);
    let (index, slots) = start(directory.path(), 24, &owner);
    check(&index, &slots, &owner, random);
    assert!(files(directory.path()).is_empty(), "nobody's vectors are forgotten");
}

#[test]
fn what_a_crash_left_beside_its_successor_is_of_no_use_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let mut owner = owner_of(200, 8);
    let (index, _) = start(directory.path(), 24, &owner);
    index.maintain();
    let [old] = &files(directory.path())[..] else { panic!("one segment, one file") };
    let copy = fs::read(old).unwrap();
    let more: Vec<(u64, Arc<[f32]>)> = (200..).zip(clustered(&mut Random(9), 200, 24, 6)).collect();
    index.insert_keyed(&more);
    owner.extend(more);
    index.maintain();
    drop(index);
    fs::write(old, copy).unwrap();
    fs::write(directory.path().join("0000000009.new"), "half").unwrap();
    assert_eq!(files(directory.path()).len(), 3);
    let (index, slots) = start(directory.path(), 24, &owner);
    check(&index, &slots, &owner, &mut Random(10));
    assert_eq!((files(directory.path()).len(), index.rows().segments().len()), (1, 1));
}

#[test]
fn an_index_whose_directory_cannot_be_written_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let owner = owner_of(200, 11);
    let (index, slots) = start(&file, 24, &owner);
    index.maintain();
    check(&index, &slots, &owner, &mut Random(12));
    // One where there is no room.
    let full = directory.path().join("full");
    let keep = Keep { directory: full.clone(), has_room: Box::new(|bytes| bytes < 1_000) };
    let (index, slots) = start_with(keep, 24, &owner);
    index.maintain();
    check(&index, &slots, &owner, &mut Random(14));
    assert!(files(&full).is_empty());
    // One that goes away meanwhile.
    let gone = directory.path().join("gone");
    let (index, slots) = start(&gone, 24, &owner);
    index.discard();
    index.maintain();
    check(&index, &slots, &owner, &mut Random(13));
    assert!(!gone.exists());
}
