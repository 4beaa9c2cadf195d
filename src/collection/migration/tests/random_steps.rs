//! Random operations on a collection that is migrated, against a plain map.
//!
//! Clients put, patch and remove documents; the follower takes steps, some of which are thrown away; leader and
//! follower are exchanged; the store is opened anew; the migration ends and begins again.

use std::collections::BTreeMap;

use super::super::super::filter::text;
use super::*;

/// The documents of the leader: text and metadata.
type Expected = BTreeMap<String, (String, serde_json::Value)>;

struct Walk {
    random: Rng,
    directory: Option<tempfile::TempDir>,
    store: Option<Store>,
    expected: Expected,
    /// A step that is not applied yet, with its migration.
    step: Option<(Arc<Migration>, Step)>,
    counts: BTreeMap<&'static str, usize>,
}

impl Walk {
    fn new(seed: u64, on_disk: bool) -> Self {
        let directory = on_disk.then(|| tempfile::tempdir().unwrap());
        let mut walk = Self {
            random: Rng::with_seed(seed),
            store: None,
            directory,
            expected: Expected::new(),
            step: None,
            counts: BTreeMap::new(),
        };
        walk.reopen();
        walk.store().create("c", OLD, Settings::default()).unwrap();
        walk
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.step = None;
        self.store = None;
        self.store = Some(match &self.directory {
            Some(directory) => open(directory.path()),
            None => Store::open(Options::default()).unwrap(),
        });
    }

    fn step(&mut self) {
        let leader = self.store().get("c").unwrap();
        let migration = self.store().migration("c");
        let name = format!("{:02}", self.random.u64(..40));
        let done = match (self.random.u64(..100), migration) {
            (0..30, _) => {
                let text = format!("text {}", self.random.u64(..1_000));
                put(&leader, &name, &text).unwrap();
                self.expected.insert(name, (text.clone(), json!({ "length": text.len() })));
                "put"
            }
            (30..40, _) => {
                leader.remove(&[id(&name)]).unwrap();
                self.expected.remove(&name);
                "remove"
            }
            (40..43, _) => {
                let filter = text::parse("length = 6").unwrap();
                leader.remove_matching(filter, &Stop::never()).unwrap();
                self.expected.retain(|_, (_, metadata)| metadata["length"] != 6);
                "remove matching"
            }
            (43..53, _) => {
                let fields = json!({ "patched": self.random.u64(..9) });
                let patch = Patch { fields: fields.as_object().unwrap().clone(), max_bytes: 1_000 };
                leader.update(&[id(&name)], &Arc::new(patch), None).unwrap();
                if let Some((_, metadata)) = self.expected.get_mut(&name) {
                    metadata["patched"] = fields["patched"].clone();
                }
                "patch"
            }
            (53..55, None) => {
                let model = if leader.fingerprint() == OLD.fingerprint { NEW } else { OLD };
                self.store().begin_migration("c", model, None, ClientVectors::Refuse).unwrap();
                "begin"
            }
            (53..75, Some(migration)) => {
                let most = 1 + self.random.usize(..9);
                let step = migration.next(most, usize::MAX).unwrap();
                self.step = Some((migration, step));
                "take"
            }
            (75..90, Some(_)) => match self.step.take() {
                Some((migration, step)) => match apply(&migration, step) {
                    Ok(()) => "apply",
                    Err(MigrationError::Stale | MigrationError::NoMigration) => "stale",
                    Err(error) => panic!("{error}"),
                },
                None => "nothing",
            },
            (90..93, Some(migration)) => match self.store().switch("c") {
                Ok(()) => "switch",
                Err(MigrationError::NotReady { first_pass_over, pending, .. }) => {
                    let state = migration.state();
                    assert_eq!((state.first_pass_over, state.pending), (first_pass_over, pending));
                    catch_up(&migration);
                    assert_same(&migration);
                    if self.random.bool() {
                        self.store().switch("c").unwrap();
                    }
                    "catch up"
                }
                Err(error) => panic!("{error}"),
            },
            (93..95, Some(_)) => {
                self.store().end_migration("c").unwrap();
                "end"
            }
            (95..97, migration) if self.directory.is_some() => {
                drop((leader, migration));
                self.reopen();
                "reopen"
            }
            _ => "nothing",
        };
        *self.counts.entry(done).or_default() += 1;
    }

    fn check(&self) {
        let leader = self.store().get("c").unwrap();
        let metadata = |json: Option<String>| json.map(|json| serde_json::from_str(&json).unwrap()).unwrap();
        let found: Expected =
            documents(&leader).into_iter().map(|(id, text, json, _)| (id, (text, metadata(json)))).collect();
        assert_eq!(found, self.expected);
        if let Some(migration) = self.store().migration("c") {
            let state = migration.state();
            if state.pending == 0 && state.first_pass_over {
                assert_same(&migration);
            }
        }
    }
}

fn walk(on_disk: bool, steps: usize) {
    let seed = std::env::var("COGNATE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("COGNATE_SEED={seed}");
    let mut walk = Walk::new(seed, on_disk);
    for n in 0..steps {
        walk.step();
        if n % 10 == 0 {
            walk.check();
        }
    }
    walk.check();
    println!("{:?}", walk.counts);
    for done in ["put", "remove", "patch", "begin", "apply", "catch up", "end"] {
        assert!(walk.counts.contains_key(done), "no {done}");
    }
}

#[test]
fn a_follower_in_memory_has_what_its_leader_has_when_nothing_is_pending() {
    walk(false, 4_000);
}

#[test]
fn a_follower_on_disk_has_what_its_leader_has_when_nothing_is_pending_across_restarts() {
    walk(true, 1_200);
}
