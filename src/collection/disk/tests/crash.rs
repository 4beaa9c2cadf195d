//! A test that kills a process while it commits, again and again on the same directory.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fastrand::Rng;

use super::model::{Model, assert_whole_batches};
use super::*;

const DIRECTORY: &str = "COGNATE_DISK_CRASH_DIRECTORY";
const SEED: &str = "COGNATE_DISK_CRASH_SEED";
/// Number of kills. 25 take some seconds.
const KILLS: &str = "COGNATE_DISK_CRASH_KILLS";
const IN_FLIGHT: usize = 6;

fn compacting() -> Options {
    Options { compact_above_bytes: 0, ..options() }
}

/// The process that is killed. Prints each batch that it submits, and each that is acknowledged.
#[test]
#[ignore = "is started by the test below"]
fn child() {
    let (Ok(directory), Ok(seed)) = (std::env::var(DIRECTORY), std::env::var(SEED)) else { return };
    let seed = seed.parse().unwrap();
    let say = |what: &str, batch: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what} {batch}").and_then(|()| out.flush()).unwrap();
    };
    let disk = Disk::open(Path::new(&directory), compacting()).unwrap();
    let mut model = Model::after(seed, assert_whole_batches(seed, &contents(&disk.snapshot().unwrap()).unwrap()));
    let mut pending = std::collections::VecDeque::new();
    loop {
        say("submit", model.batches + 1);
        let batch = model.step();
        pending.push_back((model.batches, disk.submit(batch)));
        if pending.len() > IN_FLIGHT {
            let (batch, pending) = pending.pop_front().unwrap();
            pending.wait().unwrap();
            say("stored", batch);
            say("compacted", disk.stats().compactions);
        }
    }
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_nothing_acknowledged() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let kills = std::env::var(KILLS).map_or(25, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut random = Rng::with_seed(seed);
    let (mut stored, mut compactions) = (0, 0);
    for kill in 0..kills {
        let Said { submitted, acknowledged, compacted } =
            kill_after(directory.path(), seed, Duration::from_millis(random.u64(..300)));
        let disk = Disk::open(directory.path(), compacting()).unwrap();
        let here = assert_whole_batches(seed, &contents(&disk.snapshot().unwrap()).unwrap());
        assert!(
            here >= stored.max(acknowledged),
            "seed {seed}, kill {kill}: {acknowledged} acknowledged, {here} there"
        );
        assert!(here <= stored.max(submitted), "seed {seed}, kill {kill}: {submitted} submitted, {here} there");
        stored = here;
        if kill % 5 == 0 {
            assert!(disk.verify().map_or(true, |report| report.is_clean()), "seed {seed}, kill {kill}");
        }
        compactions += compacted;
    }
    println!("{kills} kills, {stored} batches, {compactions} compactions");
    assert!(stored > 0, "no batch was stored");
}

/// The last lines of a child before it was killed: the batch that it was about to submit, the last acknowledged
/// one, and the number of compactions.
#[derive(Default)]
struct Said {
    submitted: u64,
    acknowledged: u64,
    compacted: u64,
}

fn kill_after(directory: &Path, seed: u64, delay: Duration) -> Said {
    let child = module_path!().split_once("::").unwrap().1.to_owned() + "::child";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&child, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut said = Said::default();
        for line in output.lines().map_while(Result::ok) {
            match line.split_once(' ').map(|(what, n)| (what, n.parse::<u64>())) {
                // Values never decrease: a line may be cut off.
                Some(("submit", Ok(n))) => said.submitted = n.max(said.submitted),
                Some(("stored", Ok(n))) => said.acknowledged = n.max(said.acknowledged),
                Some(("compacted", Ok(n))) => said.compacted = n.max(said.compacted),
                _ => {}
            }
        }
        said
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    reader.join().unwrap()
}
