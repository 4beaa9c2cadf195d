//! The leader of a team: a thread that offers the parts of its steps.

use std::sync::Arc;

use super::precedence::Precedence;
use super::team::{MAX_PARTS, Team};

/// The right to offer parts to a team of its own. It is not `Clone`, and a team is made with its leader, so a team
/// never has two.
#[derive(Default)]
pub struct Leader {
    team: Arc<Team>,
    precedence: Arc<Precedence>,
}

impl Leader {
    /// Makes a team and its leader, who gives way to the team that has precedence.
    pub fn beside(precedence: &Arc<Precedence>) -> Self {
        Self { team: Arc::default(), precedence: Arc::clone(precedence) }
    }

    /// The team, for threads that help.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// Runs `task` for each part in `0..parts`, on this thread and on those that help, and returns when all are
    /// done. Parts must not depend on each other. At most [`MAX_PARTS`] parts. Between two parts this thread gives way
    /// to the team that has precedence.
    ///
    /// # Panics
    /// If a part did, when all are done.
    pub fn share(&mut self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        assert!(parts <= MAX_PARTS, "a round has at most {MAX_PARTS} parts");
        let (team, precedence) = (&self.team, &*self.precedence);
        if parts <= 1 || !team.is_helped() {
            for part in 0..parts {
                task(part);
                precedence.give_way(team);
            }
            return;
        }
        // SAFETY: the team is made with this leader, which is not `Clone` and is borrowed exclusively.
        unsafe { team.round(parts, task, || precedence.give_way(team)) }
    }
}
