//! Earlier findings of fuzzers, and a few thousand mutations of valid input. `tests/fuzz/run` goes further.

use std::fs;
use std::path::Path;

use cognate::fuzz::TARGETS;
use fastrand::Rng;

/// The number of mutated copies of each seed.
const COPIES: usize = 300;

#[test]
fn earlier_findings_of_fuzzers_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions");
    for target in TARGETS {
        for entry in fs::read_dir(root.join(target.name)).into_iter().flatten() {
            (target.read)(&fs::read(entry.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn seeds_and_bytes_that_are_almost_seeds_are_read() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        let mut random = Rng::with_seed(7);
        for seed in &seeds {
            (target.read)(seed);
            for _ in 0..COPIES {
                (target.read)(&changed(seed, &seeds, &mut random));
            }
        }
    }
}

#[test]
fn each_target_has_a_file_for_the_fuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let file = fs::read_to_string(root.join(format!("targets/{}.rs", target.name))).unwrap();
        assert!(file.contains(&format!("\"{}\"", target.name)), "{file}");
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}

/// Writes the seeds into the directory `COGNATE_FUZZ_SEEDS`. This is not a test.
#[test]
#[ignore = "writes files for tests/fuzz/run"]
fn seeds_are_written() {
    let root = std::env::var("COGNATE_FUZZ_SEEDS").expect("COGNATE_FUZZ_SEEDS is set");
    for target in TARGETS {
        let directory = Path::new(&root).join(target.name);
        fs::create_dir_all(&directory).unwrap();
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(directory.join(format!("seed-{n}")), seed).unwrap();
        }
    }
}

/// Returns a copy with some bytes changed, removed, repeated, or taken from another seed.
fn changed(seed: &[u8], seeds: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.usize(..4) {
        let at = random.usize(..=bytes.len());
        let end = at + random.usize(..=bytes.len() - at).min(16);
        match random.usize(..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.usize(..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'.'][random.usize(..7)],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let other = &seeds[random.usize(..seeds.len())];
                bytes.truncate(at);
                bytes.extend(&other[random.usize(..=other.len())..]);
            }
        }
    }
    bytes
}
