//! A stored index: the vectors of the next process, and the handling of missing and damaged files.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::*;

/// Vectors by key, as their owner keeps them.
type Owner = BTreeMap<u64, Arc<[f32]>>;

/// Starts a process: opens the index and inserts the vectors of the owner.
fn start(directory: &Path, dimensions: usize, owner: &Owner) -> (Index, HashMap<u64, Slot>) {
    let storage = SegmentStorage { directory: directory.to_owned(), has_room: Box::new(|_| true) };
    start_with(storage, dimensions, owner)
}

fn start_with(storage: SegmentStorage, dimensions: usize, owner: &Owner) -> (Index, HashMap<u64, Slot>) {
    start_as(storage, dimensions, Options { exact_below: 40, ..small_graph() }, owner)
}

fn start_as(
    storage: SegmentStorage,
    dimensions: usize,
    options: Options,
    owner: &Owner,
) -> (Index, HashMap<u64, Slot>) {
    let index = Index::stored(dimensions, options, storage);
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
        model.check(&index.find(&query, k, effort), &query, k, effort);
    }
    for (slot, vector) in &model.0 {
        assert_eq!(index.vector(*slot).unwrap()[..], vector[..]);
        assert!(index.find(vector, 1, GRAPH)[0].score > 0.9999);
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// Inserts, removals, a little maintenance and restarts in any order leave exactly the owner's vectors.
    #[test]
    fn the_next_process_has_the_vectors_of_the_owner(
        steps in prop::collection::vec((0u8..6, 1usize..60), 1..40),
        dimensions in prop_oneof![Just(1usize), Just(2), Just(17), Just(384)],
        seed in any::<u64>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let random = &mut Random::new(seed);
        let (mut owner, mut next) = (Owner::new(), 0u64);
        let (mut index, mut slots) = start(directory.path(), dimensions, &owner);
        for (step, n) in steps {
            match step {
                0 | 1 => {
                    let new: Vec<(u64, Arc<[f32]>)> = (next..).zip(clustered(random, n, dimensions, 3)).collect();
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
    (0..).zip(clustered(&mut Random::new(seed), n, 24, 6)).collect()
}

#[test]
fn after_a_restart_nothing_is_built_again_and_rows_take_no_memory_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let owner = owner_of(900, 1);
    let (index, _) = start(directory.path(), 24, &owner);
    index.maintain();
    let query = Random::new(2).unit(24);
    let found = index.find(&query, 20, GRAPH);
    drop(index);
    let (index, slots) = start(directory.path(), 24, &owner);
    assert!(!index.needs_maintenance());
    assert_eq!(index.pending(), 0);
    assert_eq!(index.find(&query, 20, GRAPH), found, "the graph is the same");
    let in_memory = 900 * 24 * size_of::<f32>();
    assert!(index.bytes() < in_memory + 900 * 60 && index.mapped_bytes() > in_memory + 900 * DEGREE_BYTES);
    // A row outlives its slot, its segment and its file.
    let kept = index.vector(slots[&7]).unwrap();
    // Few vectors are left. They have no graph, and their rows are in memory. The last reader deletes the file.
    let (stay, go): (Vec<u64>, Vec<u64>) = owner.keys().copied().partition(|key| key % 90 == 0);
    index.remove(&go.iter().map(|key| slots[key]).collect::<Vec<_>>());
    index.maintain();
    assert_eq!((index.len(), index.mapped_bytes()), (stay.len(), 0));
    assert_eq!(kept[..], owner[&7][..]);
    assert_eq!(files(directory.path()).len(), 1, "the file stays while a row is in use");
    drop(kept);
    assert!(files(directory.path()).is_empty());
}

/// Bytes of a node's links.
const DEGREE_BYTES: usize = 128;

#[test]
fn each_process_decides_if_graphs_have_sketches_and_builds_nothing_again() {
    let directory = tempfile::tempdir().unwrap();
    let (owner, random) = (owner_of(900, 21), &mut Random::new(22));
    // A sketch of 24 dimensions is one block of 64 bytes.
    let sketches = 900 * 64;
    let at_start = |sketches: bool| {
        let storage = SegmentStorage { directory: directory.path().to_owned(), has_room: Box::new(|_| true) };
        start_as(storage, 24, Options { exact_below: 40, sketches, ..small_graph() }, &owner)
    };
    let (index, _) = at_start(false);
    index.maintain();
    let (without, small) = (index.bytes(), index.mapped_bytes());
    drop(index);
    let (index, slots) = at_start(true);
    assert!(!index.needs_maintenance(), "they are computed when the file is read");
    assert_eq!((index.bytes(), index.mapped_bytes()), (without + sketches, small));
    check(&index, &slots, &owner, random);
    // A segment that is built anew has them in its file.
    let gone: Vec<u64> = (0..300).collect();
    index.remove(&gone.iter().map(|key| slots[key]).collect::<Vec<_>>());
    index.maintain();
    let owner: Owner = owner.range(300..).map(|(key, vector)| (*key, Arc::clone(vector))).collect();
    let large = index.mapped_bytes();
    assert!(large > small * 2 / 3 + 600 * 64, "{large} bytes of 600 vectors, {small} of 900 without sketches");
    drop((index, slots));
    let storage = SegmentStorage { directory: directory.path().to_owned(), has_room: Box::new(|_| true) };
    let options = Options { exact_below: 40, sketches: false, ..small_graph() };
    let (index, slots) = start_as(storage, 24, options, &owner);
    assert!(!index.needs_maintenance() && index.rows().segments().len() == 1);
    check(&index, &slots, &owner, random);
}

#[cfg(unix)]
#[test]
fn directories_and_files_are_readable_by_their_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = tempfile::tempdir().unwrap();
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let directory = data.path().join("index").join("3");
    let (index, _) = start(&directory, 24, &owner_of(200, 15));
    index.maintain();
    let [file] = &files(&directory)[..] else { panic!("one segment, one file") };
    assert_eq!([&data.path().join("index"), &directory, file].map(|path| mode(path)), [0o700, 0o700, 0o600]);
}

/// The byte ranges that the checksum covers, in a file of this many vectors of 24 dimensions. They exclude the padding
/// to a multiple of 64, and the rows, which are compared with the owner's.
fn checked_bytes(file: &[u8], vectors: usize) -> Vec<Range<usize>> {
    let nodes = u64::from_ne_bytes(file[24..32].try_into().unwrap()) as usize;
    // Codes, sketches, their centre, links, scales, sums, starts, digests, keys.
    let sizes =
        [nodes * 64, nodes * 64, 24 * 4, nodes * 128, nodes * 4, nodes * 4, (nodes + 1) * 4, nodes * 8, vectors * 8];
    let mut end = 56; // six numbers and the checksum
    let header = 0..end;
    let sections = sizes.map(|bytes| {
        let from = usize::next_multiple_of(end, 64);
        end = from + bytes;
        from..end
    });
    std::iter::once(header).chain(sections).collect()
}

#[test]
fn damaged_files_are_built_again_and_no_vector_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (mut owner, random) = (owner_of(400, 3), &mut Random::new(4));
    let (index, _) = start(directory.path(), 24, &owner);
    index.maintain();
    drop(index);
    let [file] = &files(directory.path())[..] else { panic!("one segment, one file") };
    let whole = fs::read(file).unwrap();
    let damage: [(&str, &dyn Fn() -> Vec<u8>); 5] = [
        ("it is empty", &Vec::new),
        ("its last byte is missing", &|| whole[..whole.len() - 1].to_vec()),
        ("it is something else", &|| vec![7; whole.len()]),
        ("it has one byte more", &|| [&whole[..], &[0]].concat()),
        ("it is shorter than a header", &|| whole[..20].to_vec()),
    ];
    let rows_from = whole.len() - 400 * 24 * size_of::<f32>();
    let checked = checked_bytes(&whole, 400);
    let mut flips: Vec<usize> = (0..60).map(|_| random.below(whole.len())).collect();
    flips.extend(checked.iter().flat_map(|part| [part.start, part.end - 1]));
    let flipped = flips.into_iter().map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let refused = checked.iter().any(|part| part.contains(&at));
        (format!("byte {at} is changed"), bytes, refused, usize::from(at >= rows_from))
    });
    let all = damage.iter().map(|(what, bytes)| ((*what).to_owned(), bytes(), true, 0));
    for (what, bytes, refused, rows) in all.chain(flipped) {
        println!("{what}");
        files(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(file, bytes).unwrap();
        let (index, slots) = start(directory.path(), 24, &owner);
        // All vectors that are not read from the file are in the write buffer.
        let missing = if refused { 400 } else { rows };
        assert_eq!((index.mapped_bytes() == 0, index.rows().write_buffer().slots().len()), (refused, missing));
        check(&index, &slots, &owner, &mut Random::new(5));
        index.maintain();
        check(&index, &slots, &owner, &mut Random::new(6));
    }
    // With another model the owner's vectors differ, even if their keys are equal.
    owner = owner_of(400, 7);
    let (index, slots) = start(directory.path(), 24, &owner);
    check(&index, &slots, &owner, random);
    assert!(files(directory.path()).is_empty(), "files without an owner's vectors are deleted");
}

#[test]
fn files_that_a_crash_left_beside_their_successor_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let mut owner = owner_of(200, 8);
    let (index, _) = start(directory.path(), 24, &owner);
    index.maintain();
    let [old] = &files(directory.path())[..] else { panic!("one segment, one file") };
    let copy = fs::read(old).unwrap();
    let more: Vec<(u64, Arc<[f32]>)> = (200..).zip(clustered(&mut Random::new(9), 200, 24, 6)).collect();
    index.insert_keyed(&more);
    owner.extend(more);
    index.maintain();
    drop(index);
    fs::write(old, copy).unwrap();
    fs::write(directory.path().join("0000000009.new"), "half").unwrap();
    assert_eq!(files(directory.path()).len(), 3);
    let (index, slots) = start(directory.path(), 24, &owner);
    check(&index, &slots, &owner, &mut Random::new(10));
    assert_eq!((files(directory.path()).len(), index.rows().segments().len()), (1, 1));
}

#[test]
fn an_index_whose_directory_cannot_be_written_stays_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let owner = owner_of(200, 11);
    let (index, slots) = start(&file, 24, &owner);
    index.maintain();
    check(&index, &slots, &owner, &mut Random::new(12));
    // A directory without free space.
    let full = directory.path().join("full");
    let storage = SegmentStorage { directory: full.clone(), has_room: Box::new(|bytes| bytes < 1_000) };
    let (index, slots) = start_with(storage, 24, &owner);
    index.maintain();
    check(&index, &slots, &owner, &mut Random::new(14));
    assert!(files(&full).is_empty());
    // A directory that is deleted meanwhile.
    let gone = directory.path().join("gone");
    let (index, slots) = start(&gone, 24, &owner);
    index.discard();
    index.maintain();
    check(&index, &slots, &owner, &mut Random::new(13));
    assert!(!gone.exists());
}

#[test]
fn a_file_that_is_written_while_the_index_is_discarded_is_deleted() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("gone");
    let index = Arc::new(std::sync::OnceLock::<std::sync::Weak<Index>>::new());
    let has_room = {
        let (index, directory) = (Arc::clone(&index), directory.clone());
        move |_| {
            let index = index.get().and_then(std::sync::Weak::upgrade).unwrap();
            index.discard();
            // Simulates a file that is there when the directory is removed.
            fs::create_dir_all(&directory).unwrap();
            true
        }
    };
    let storage = SegmentStorage { directory: directory.clone(), has_room: Box::new(has_room) };
    let (made, slots) = start_with(storage, 24, &owner_of(200, 16));
    let made = Arc::new(made);
    index.set(Arc::downgrade(&made)).unwrap();
    made.maintain();
    assert!(!directory.exists());
    check(&made, &slots, &owner_of(200, 16), &mut Random::new(17));
}
