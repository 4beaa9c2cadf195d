//! Precedence of one team over others: their leaders help it between two parts of their own.
//!
//! A long batch takes tens of milliseconds, and a part of one of its steps a fraction of one. So a leader looks between
//! two parts if another team has precedence. If so it helps that team, and goes on with its own batch afterwards
//! (cooperative preemption). The results stay the same, because parts do not depend on each other.
//!
//! Invariant: one team at a time has precedence. A leader that gives way has no part in progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::team::Team;

/// The most leaders that give way at one time. Two threads compute a short text almost twice as fast as one; each
/// further thread would leave its own batch for less.
const MOST_GIVING_WAY: usize = 1;

/// The place of the team that goes first, among teams that share the cores.
#[derive(Default)]
pub struct Precedence {
    /// Grows whenever a team takes precedence and whenever it ends. Odd: a team has it.
    turns: AtomicU64,
    team: Mutex<Option<Arc<Team>>>,
}

/// The precedence of a team, until this is dropped.
pub struct Taken<'p>(&'p Precedence);

impl Precedence {
    /// Gives a team precedence; `None`: another team has it.
    pub fn take(&self, team: &Arc<Team>) -> Option<Taken<'_>> {
        let mut first = self.lock();
        if first.is_some() {
            return None;
        }
        *first = Some(Arc::clone(team));
        self.turns.fetch_add(1, Ordering::Relaxed);
        Some(Taken(self))
    }

    /// Helps the team that has precedence until its precedence ends. Returns at once if no team has it, if `own` has
    /// it, or if enough threads help.
    #[inline]
    pub fn give_way(&self, own: &Arc<Team>) {
        let turn = self.turns.load(Ordering::Relaxed);
        if turn % 2 == 1 {
            self.help_first(own, turn);
        }
    }

    #[cold]
    fn help_first(&self, own: &Arc<Team>, turn: u64) {
        let first = self.lock().clone();
        if let Some(first) = first.filter(|first| !Arc::ptr_eq(first, own)) {
            first.help_as_one_of(MOST_GIVING_WAY, || self.turns.load(Ordering::Relaxed) != turn);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Team>>> {
        // Nothing panics while it holds the lock.
        self.team.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut first = self.0.lock();
        *first = None;
        self.0.turns.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread::{self, ThreadId};
    use std::time::{Duration, Instant};

    use super::super::leader::Leader;
    use super::super::raise_on_drop::RaiseOnDrop;
    use super::*;

    #[test]
    fn a_leader_helps_the_team_with_precedence_between_two_parts_of_its_own() {
        let precedence = Arc::new(Precedence::default());
        let (mut first, mut long) = (Leader::default(), Leader::beside(&precedence));
        let (has_begun, helped) = (AtomicBool::new(false), Mutex::new(Vec::<ThreadId>::new()));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let ending = RaiseOnDrop(&over);
            let giving_way = scope.spawn(|| {
                let parts = AtomicUsize::new(0);
                while !over.load(Ordering::Relaxed) {
                    long.share(2, &|_| {
                        parts.fetch_add(1, Ordering::Relaxed);
                        has_begun.store(true, Ordering::Relaxed);
                    });
                }
                parts.into_inner()
            });
            while !has_begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let taken = precedence.take(first.team()).expect("no team has precedence");
            assert!(precedence.take(&Arc::default()).is_none(), "one at a time");
            let ids = || helped.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = Instant::now();
            while !ids().contains(&giving_way.thread().id()) && begun.elapsed() < Duration::from_secs(20) {
                first.share(2, &|_| {
                    ids().push(thread::current().id());
                    thread::yield_now();
                });
            }
            drop(taken);
            drop(ending);
            let other = giving_way.thread().id();
            assert!(giving_way.join().unwrap() >= 2, "it goes on with its own parts");
            assert!(ids().contains(&other), "it helped");
        });
    }

    #[test]
    fn one_leader_gives_way_and_a_team_never_gives_way_to_itself() {
        let precedence = Arc::new(Precedence::default());
        let own = Leader::beside(&precedence);
        let taken = precedence.take(own.team()).expect("no team has precedence");
        precedence.give_way(own.team());
        own.team().help_as_one_of(1, || {
            precedence.give_way(&Arc::default());
            true
        });
        drop(taken);
        precedence.give_way(&Arc::default());
    }
}
