//! Several threads for one small product: a leader offers the parts of each step, and helpers take them.
//!
//! A short text is too little work to divide by tokens. A step of it (the columns of one product, the heads of one
//! attention) takes tens of microseconds, and a queue between threads would cost more than they gain. So helpers spin
//! on one word while the text is computed. No part is assigned to a thread: the leader takes parts too, and waits only
//! for parts that a helper has started. A helper that comes late, leaves or is not scheduled costs nothing.
//!
//! ```text
//! word = round (32 bits) | end (16) | start (16)     parts start..end are left; one compare-and-swap takes one
//! ```
//! The leader takes the first remaining part, and helpers take the last. So from step to step each thread gets mostly
//! the same columns, which are in its cache, and mostly continues with a part next to its last one.
//!
//! Invariant: a team has one round at a time, because a round borrows the team's only
//! [`Leader`](super::leader::Leader) exclusively. A part
//! that was taken is finished before its round ends, and the task outlives the round. The `unsafe` code below relies on
//! it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// Turns of an empty loop before a waiting thread yields its core: about ten microseconds.
const SPINS: u32 = 2_000;

/// The meeting point of one [`Leader`](super::leader::Leader) and any number of helpers.
#[derive(Default)]
pub struct Team {
    word: AtomicU64,
    /// The number of finished parts in the round.
    done: AtomicUsize,
    /// The task of the round: points to a `Task`.
    task: AtomicPtr<Task<'static>>,
    helpers: AtomicUsize,
    panicked: AtomicBool,
}

/// The end of the remaining parts from which a part is taken.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

struct Task<'a>(&'a (dyn Fn(usize) + Sync));

const END_SHIFT: u32 = 16;
const ROUND_SHIFT: u32 = 32;

/// The most parts of one round.
pub const MAX_PARTS: usize = u16::MAX as usize;

impl Team {
    /// Returns whether a thread helps.
    pub(super) fn is_helped(&self) -> bool {
        self.helpers.load(Ordering::Relaxed) > 0
    }

    /// Runs `task` for each part in `0..parts`, on this thread and on those that help, and returns when all are done.
    /// Calls `between` after each part of this thread.
    ///
    /// # Safety
    /// No other round of this team runs.
    ///
    /// # Panics
    /// If a part did, when all are done.
    pub(super) unsafe fn round(&self, parts: usize, task: &(dyn Fn(usize) + Sync), between: impl Fn()) {
        let task = Task(task);
        self.task.store((&raw const task).cast_mut().cast(), Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        let round = (self.word.load(Ordering::Relaxed) >> ROUND_SHIFT).wrapping_add(1);
        // Release: who takes a part sees the task and the count.
        self.word.store(round << ROUND_SHIFT | (parts as u64) << END_SHIFT, Ordering::Release);
        while self.take_part(End::First) {
            between();
        }
        let mut spins = 0;
        while self.done.load(Ordering::Acquire) < parts {
            pause(&mut spins);
        }
        if self.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a part of a shared product panicked"));
        }
    }

    /// Takes parts of each round until `leave` returns true; it is called whenever no part is left.
    pub fn help(&self, leave: impl Fn() -> bool) {
        self.help_as_one_of(usize::MAX, leave);
    }

    /// Helps, unless as many threads as `most` do.
    pub fn help_as_one_of(&self, most: usize, leave: impl Fn() -> bool) {
        if self.helpers.fetch_add(1, Ordering::Relaxed) < most {
            self.take_parts(leave);
        }
        self.helpers.fetch_sub(1, Ordering::Relaxed);
    }

    fn take_parts(&self, leave: impl Fn() -> bool) {
        let mut spins = 0;
        loop {
            if self.take_part(End::Last) {
                spins = 0;
            } else if leave() {
                break;
            } else {
                pause(&mut spins);
            }
        }
    }

    /// Takes one part and runs it; false if none is left.
    fn take_part(&self, which: End) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        let part = loop {
            let (end, start) = ((word >> END_SHIFT) as u16, word as u16);
            if start >= end {
                return false;
            }
            let (part, after) = match which {
                End::First => (start, word + 1),
                End::Last => (end - 1, word - (1 << END_SHIFT)),
            };
            match self.word.compare_exchange_weak(word, after, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break usize::from(part),
                Err(now) => word = now,
            }
        };
        // SAFETY: the exchange succeeded on the word of this round (rounds differ in their number; one thread would
        // have to sleep through 2^32 of them to mistake it), so its part is not done and a thread is in `round`,
        // where the task lives until `done` reaches `parts`. No other round replaces the task: the caller of `round`
        // guarantees it.
        let task = unsafe { &*self.task.load(Ordering::Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| task.0(part))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        // Release: the leader sees what the part wrote.
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

/// One turn of waiting.
fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::super::leader::Leader;
    use super::super::raise_on_drop::RaiseOnDrop;
    use super::*;

    /// Leads `rounds` of `parts` with some helpers, and checks that each part ran once in each round.
    fn every_part_runs_once(helpers: usize, rounds: usize, parts: usize) {
        let (mut leader, over) = (Leader::default(), AtomicBool::new(false));
        let team = Arc::clone(leader.team());
        thread::scope(|scope| {
            let _ending = RaiseOnDrop(&over);
            for _ in 0..helpers {
                scope.spawn(|| team.help(|| over.load(Ordering::Relaxed)));
            }
            while team.helpers.load(Ordering::Relaxed) < helpers {
                thread::yield_now();
            }
            for round in 0..rounds {
                let runs: Vec<AtomicU32> = (0..parts).map(|_| AtomicU32::new(0)).collect();
                leader.share(parts, &|part| {
                    runs[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|n| n.load(Ordering::Relaxed) == 1), "round {round} of {parts} parts");
            }
        });
    }

    #[test]
    fn every_part_runs_once_with_any_number_of_helpers() {
        let rounds = if cfg!(miri) { 5 } else { 2_000 };
        for helpers in [0, 1, 3] {
            for parts in [0, 1, 2, 17] {
                every_part_runs_once(helpers, rounds, parts);
            }
        }
    }

    #[test]
    fn helpers_may_come_and_go_between_any_two_parts() {
        let (mut leader, over) = (Leader::default(), AtomicBool::new(false));
        let team = Arc::clone(leader.team());
        let sum = AtomicUsize::new(0);
        let rounds = if cfg!(miri) { 3 } else { 3_000 };
        thread::scope(|scope| {
            let _ending = RaiseOnDrop(&over);
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    team.help(|| true);
                }
            });
            for _ in 0..rounds {
                leader.share(5, &|part| {
                    sum.fetch_add(part, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(sum.into_inner(), 10 * rounds);
    }

    #[test]
    fn a_leader_cannot_be_copied() {
        // `copies` has one meaning for a type that is not `Clone`, and two for one that is: then this does not compile.
        trait Copies<Meaning> {
            fn copies() {}
        }
        impl<T> Copies<()> for T {}
        impl<T: Clone> Copies<u8> for T {}
        <Leader as Copies<_>>::copies();
    }

    #[test]
    fn a_round_within_a_part_belongs_to_another_team() {
        let (mut leader, over) = (Leader::default(), AtomicBool::new(false));
        let team = Arc::clone(leader.team());
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            let _ending = RaiseOnDrop(&over);
            scope.spawn(|| team.help(|| over.load(Ordering::Relaxed)));
            for _ in 0..20 {
                leader.share(4, &|part| {
                    Leader::default().share(3, &|within| {
                        sum.fetch_add(10 * part + within, Ordering::Relaxed);
                    });
                });
            }
        });
        assert_eq!(sum.into_inner(), 20 * (10 * 6 * 3 + 3 * 4));
    }

    #[test]
    fn a_panicking_part_fails_the_round_after_all_others_and_the_team_stays_usable() {
        let (mut leader, over) = (Leader::default(), AtomicBool::new(false));
        let team = Arc::clone(leader.team());
        thread::scope(|scope| {
            let _ending = RaiseOnDrop(&over);
            scope.spawn(|| team.help(|| over.load(Ordering::Relaxed)));
            while team.helpers.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            let done = AtomicUsize::new(0);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                leader.share(9, &|part| {
                    assert_ne!(part, 4, "the part that fails");
                    done.fetch_add(1, Ordering::Relaxed);
                })
            }));
            assert!(panicked.is_err());
            assert_eq!(done.load(Ordering::Relaxed), 8);
            leader.share(3, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 11);
        });
    }
}
