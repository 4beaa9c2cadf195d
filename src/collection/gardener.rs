//! The thread that tends the graphs of all collections of a store.
//!
//! It wakes with each commit, and once a second for work that became due meanwhile, and gives each
//! collection a short turn until none has work left. While documents come in it rests between turns: the cores are for
//! the model then, and what is not linked yet is found by comparing. Once a second it checks what a search found, of one
//! collection after the other. It ends with its store.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use super::single::Collection;
use crate::kernel::priority;

/// How often is looked for work that nobody announced: merges that are due when documents have stopped coming.
const REST: Duration = Duration::from_secs(1);

/// While documents come in, the graphs get one part in so many of what the machine can do. Linking a document takes
/// about a tenth of the time that embedding a short text takes (benches/upload.rs), and again when segments merge.
const SHARE: usize = 10;

/// The collections of a store, by name.
pub(super) type Collections = RwLock<BTreeMap<String, Arc<Collection>>>;

/// Wakes the thread.
#[derive(Clone)]
pub(super) struct Gardener(SyncSender<()>);

impl Gardener {
    /// Starts the thread. Without one, searches compare with all vectors: right, and slow.
    pub(super) fn start(collections: Weak<Collections>) -> Self {
        let (wake, woken) = sync_channel(1);
        let started = std::thread::Builder::new().name("index".to_owned()).spawn(move || tend(&collections, &woken));
        if let Err(error) = started {
            tracing::error!(%error, "cannot start the thread for the index: searches will compare with all documents");
        }
        Self(wake)
    }

    /// There is work.
    pub(super) fn wake(&self) {
        // Full: it is about to look anyway. Gone: there is nothing left to tend.
        let _ = self.0.try_send(());
    }
}

fn tend(collections: &Weak<Collections>, woken: &Receiver<()>) {
    priority::give_way(priority::BACKGROUND);
    let (mut checked, mut turn) = (Instant::now(), 0);
    // One thread that always works is one of so many.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rest_for_turn = (SHARE as f32 / cores as f32 - 1.0).max(0.0);
    while woken.recv_timeout(REST) != Err(RecvTimeoutError::Disconnected) {
        loop {
            let Some(collections) = collections.upgrade() else { return };
            let all: Vec<_> = collections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            drop(collections);
            let begun = Instant::now();
            if checked.elapsed() >= REST {
                checked = Instant::now();
                turn = audit_one(&all, turn);
            }
            if all.iter().filter(|collection| collection.maintain()).count() == 0 {
                break;
            }
            let far_behind = all.iter().any(|collection| collection.is_far_behind());
            drop(all);
            if woken.try_recv().is_ok() && !far_behind {
                std::thread::sleep(begun.elapsed().mul_f32(rest_for_turn));
            }
        }
    }
}

/// Checks a search of the first collection, from number `turn` on, where one waits; returns whose turn is next.
fn audit_one(all: &[Arc<Collection>], turn: usize) -> usize {
    let first = turn % all.len().max(1);
    let (before, after) = all.split_at(first);
    let passed_over = after.iter().chain(before).position(|collection| collection.audit());
    passed_over.map_or(first, |passed_over| first + passed_over + 1)
}
