//! Tests of failing disks and power cuts: what was acknowledged is there, and every batch is whole or absent.

use std::path::Path;

use fastrand::Rng;
use proptest::prelude::*;
use redb::Builder;

use super::super::open::Directory;
use super::super::{CommitError, schema};
use super::medium::{Fault, Medium};
use super::model::{Model, assert_whole_batches};
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A disk on a medium; `None` if it cannot be opened.
fn disk(medium: &Medium) -> Option<Disk> {
    let database = Builder::new().set_cache_size(1 << 20).create_with_backend(medium.clone()).ok()?;
    if schema::found(&database).ok()?.is_none() {
        schema::create(&database).ok()?;
    }
    Disk::start(Directory::unlocked(Path::new(".")), database, options()).ok()
}

/// Submits batches, some at a time, until one is refused. Returns the number of acknowledged ones.
fn run(disk: &Disk, model: &mut Model, batches: u64, random: &mut Rng) -> (u64, Option<CommitError>) {
    let mut acknowledged = model.batches;
    while model.batches < batches {
        let together = 1 + random.u64(..5);
        let pending: Vec<_> = (0..together).map(|_| disk.submit(model.step())).collect();
        for pending in pending {
            match pending.wait() {
                Ok(()) => acknowledged += 1,
                Err(error) => return (acknowledged, Some(error)),
            }
        }
    }
    (acknowledged, None)
}

/// Opens what is left, and compares it with the model.
fn assert_intact(seed: u64, medium: &Medium, acknowledged: u64, submitted: u64) {
    let disk = disk(medium).expect("it opens after a crash");
    let stored = assert_whole_batches(seed, &contents(&disk.snapshot().unwrap()).unwrap());
    assert!(stored >= acknowledged, "{acknowledged} were acknowledged, {stored} are there");
    assert!(stored <= submitted, "{submitted} were submitted, {stored} are there");
    let report = disk.verify().unwrap();
    assert!(report.is_clean(), "{report:?}");
    disk.commit(Model::after(seed, stored).step()).expect("it goes on");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_at_any_moment_loses_nothing_acknowledged(seed: u64, cut in 0u64..420, second_cut in 0u64..80) {
        let mut random = Rng::with_seed(seed);
        let medium = Medium::default();
        let first = disk(&medium).unwrap();
        medium.fail(Fault { at: cut, error: EIO, lasts: true });
        let mut model = Model::new(seed);
        let (acknowledged, _) = run(&first, &mut model, 60, &mut random);
        drop(first);

        // Recovery is cut off too.
        let medium = Medium::with(medium.after_power_cut(&mut random));
        medium.fail(Fault { at: second_cut, error: EIO, lasts: true });
        drop(disk(&medium));
        let medium = Medium::with(medium.after_power_cut(&mut random));
        assert_intact(seed, &medium, acknowledged, model.batches);
    }

    #[test]
    fn a_failing_operation_stops_the_writes_and_loses_nothing(seed: u64, at in 0u64..420, full: bool, lasts: bool) {
        let mut random = Rng::with_seed(seed);
        let medium = Medium::default();
        let first = disk(&medium).unwrap();
        prop_assert!(first.has_room(1));
        medium.fail(Fault { at, error: if full { ENOSPC } else { EIO }, lasts });
        let mut model = Model::new(seed);
        let (acknowledged, error) = run(&first, &mut model, 60, &mut random);
        if let Some(error) = error {
            // The refusal is final and comes without a wait.
            prop_assert!(matches!(&error, CommitError::Stopped { .. }), "{}", error);
            let ops = medium.ops();
            let again = first.commit(vec![create(1000, "x")]);
            prop_assert_eq!(again, Err(error.clone()));
            prop_assert_eq!(medium.ops(), ops);
            prop_assert_eq!(first.stopped(), Some(error));
            prop_assert!(!first.has_room(0), "no other file is written there either");
            // Committed documents can still be read.
            let stored = assert_whole_batches(seed, &contents(&first.snapshot().unwrap()).unwrap());
            prop_assert!(stored <= model.batches);
        }
        drop(first);
        let medium = Medium::with(medium.after_power_cut(&mut random));
        assert_intact(seed, &medium, acknowledged, model.batches);
    }
}
