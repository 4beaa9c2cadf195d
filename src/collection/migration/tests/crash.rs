//! A test that kills a process in the middle of a migration, again and again on the same directory.
//!
//! The process writes, takes steps, switches and ends. It prints each change before it begins and after it is
//! acknowledged. The text of a document is the number of its latest change.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::machine::raise_on_drop::RaiseOnDrop;

const DIRECTORY: &str = "COGNATE_MIGRATION_CRASH_DIRECTORY";
/// The first number that the process may use.
const FROM: &str = "COGNATE_MIGRATION_CRASH_FROM";
/// Number of kills. 12 take some seconds.
const KILLS: &str = "COGNATE_MIGRATION_CRASH_KILLS";
const DOCUMENTS: u64 = 200;

/// The process that is killed. One thread changes documents, another takes steps.
#[test]
#[ignore = "is started by the test below"]
fn child() {
    let (Ok(directory), Ok(from)) = (std::env::var(DIRECTORY), std::env::var(FROM)) else { return };
    let from: u64 = from.parse().unwrap();
    let say = |what: &str, id: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what} {id} {number}").and_then(|()| out.flush()).unwrap();
    };
    let store = open(Path::new(&directory));
    let _ = store.create("c", OLD, Settings::default());
    // Writers wait while the two are exchanged, as the caller's gate makes them.
    let gate = std::sync::RwLock::new(());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = RaiseOnDrop(&ended);
        scope.spawn(|| {
            let _ending = RaiseOnDrop(&ended);
            while !ended.load(Ordering::Relaxed) {
                migrate(&store, &gate);
            }
        });
        let mut random = Rng::with_seed(from);
        for number in from.. {
            let _shared = gate.read().unwrap();
            let name = format!("{:03}", random.u64(..DOCUMENTS));
            let leader = store.get("c").unwrap();
            say("begin", &name, number);
            match after(number) {
                None => drop(leader.remove(&[id(&name)]).unwrap()),
                Some(number) => put(&leader, &name, &number.to_string()).unwrap(),
            }
            say("done", &name, number);
        }
        drop(ending);
    });
}

/// The text of a document after a change; `None`: it is removed.
fn after(number: u64) -> Option<u64> {
    (!number.is_multiple_of(10)).then_some(number)
}

/// One step of the migration, or its beginning, its switch or its end.
fn migrate(store: &Store, gate: &std::sync::RwLock<()>) {
    let leader = store.get("c").unwrap();
    let Some(migration) = store.migration("c") else {
        let model = if leader.fingerprint() == OLD.fingerprint { NEW } else { OLD };
        store.begin_migration("c", model, None, ClientVectors::Refuse).unwrap();
        return;
    };
    let step = migration.next(32, usize::MAX).unwrap();
    let few = step.documents().len() < 8;
    apply(&migration, step).unwrap();
    if few && fastrand::u64(..4) == 0 {
        let _alone = gate.write().unwrap();
        catch_up(&migration);
        store.switch("c").unwrap();
        if fastrand::bool() {
            store.end_migration("c").unwrap();
        }
    }
}

/// The states that each document may be in: that of the last acknowledged change, and those of changes that were begun
/// after it.
type Said = BTreeMap<String, Vec<Option<u64>>>;

#[test]
fn a_process_that_is_killed_in_a_migration_loses_nothing_acknowledged_and_the_migration_goes_on() {
    let kills = std::env::var(KILLS).map_or(12, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut said = Said::new();
    let (mut from, mut switches) = (0, 0);
    for kill in 0..kills {
        let delay = Duration::from_millis(300 + fastrand::u64(..700));
        from = kill_after(directory.path(), from, delay, &mut said);
        let store = open(directory.path());
        let Ok(leader) = store.get("c") else { continue };
        let texts: BTreeMap<_, _> = documents(&leader).into_iter().map(|(id, text, ..)| (id, text)).collect();
        for (name, states) in &mut said {
            let now = texts.get(name).map(|text| text.parse().unwrap());
            assert!(states.contains(&now), "kill {kill}, {name}: {now:?}, and it may be {states:?}");
            *states = vec![now];
        }
        if let Some(migration) = store.migration("c") {
            switches += usize::from(migration.state().switched);
            if kill % 3 == 0 {
                catch_up(&migration);
                assert_same(&migration);
            }
        }
        drop(leader);
        let report = store.disk.as_ref().unwrap().verify();
        assert!(report.map_or(true, |report| report.is_clean()), "kill {kill}");
    }
    println!("{kills} kills, {from} changes, {switches} times switched");
    assert!(from > 0, "nothing was stored");
}

/// Kills a process after some time. Returns the first unused number.
fn kill_after(directory: &Path, from: u64, delay: Duration, said: &mut Said) -> u64 {
    let child = module_path!().split_once("::").unwrap().1.to_owned() + "::child";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&child, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        let parse = |line: String| {
            let mut words = line.split(' ').map(str::to_owned);
            let (what, name, number) = (words.next()?, words.next()?, words.next()?.parse::<u64>().ok()?);
            Some((what, name, number)).filter(|(what, ..)| what == "begin" || what == "done")
        };
        lines.filter_map(parse).collect::<Vec<_>>()
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let mut next = from;
    for (what, name, number) in reader.join().unwrap() {
        next = next.max(number + 1);
        let states = said.entry(name).or_insert_with(|| vec![None]);
        if what == "done" {
            states.clear();
        }
        states.push(after(number));
    }
    next
}
