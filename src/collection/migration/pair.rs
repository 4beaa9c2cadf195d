//! A migration: the pair of collections, which of them leads, and the figures of the work.
//!
//! Invariant: locks that are held together are taken in this order: the steps, the turn of the leader's commits, the
//! turn of the follower's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::disk::{FirstPass, Follows};
use super::super::document::DocId;
use super::super::single::Collection;
use super::lag::{Figures, Lag, Role};

/// The treatment of documents whose vectors came from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientVectors {
    /// No migration begins while there are some. One that comes later is refused: it is pending until it comes without a
    /// vector or is removed.
    Refuse,
    /// Their vectors are taken over as they are. The two models need equal dimensions.
    Keep,
    /// Their texts are embedded like all others. Documents without a text are refused.
    Replace,
}

impl From<&Follows> for ClientVectors {
    fn from(follows: &Follows) -> Self {
        match follows {
            Follows { keeps_vectors: true, .. } => Self::Keep,
            Follows { replaces_vectors: true, .. } => Self::Replace,
            _ => Self::Refuse,
        }
    }
}

/// A collection on its way to another model.
pub struct Migration {
    pub(super) client_vectors: ClientVectors,
    pair: Mutex<Pair>,
    /// Number of the latest step. Held while a step is taken or applied, and while the two are exchanged.
    pub(super) steps: Mutex<u64>,
}

/// The two collections.
#[derive(Clone)]
pub(super) struct Pair {
    pub leader: Arc<Collection>,
    pub follower: Arc<Collection>,
    pub lag: Arc<Lag>,
    pub switched: bool,
    pub ended: bool,
}

/// The figures of a migration at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationState {
    /// Documents of the leader.
    pub documents: usize,
    /// Documents of the follower.
    pub copied: usize,
    /// True if the first pass over all documents is over.
    pub first_pass_over: bool,
    /// Documents that changed since they were copied, and are to be copied again or removed; refused ones included.
    pub pending: usize,
    /// Documents among `pending` that could not be embedded, or have vectors of a client that may not be kept.
    pub refused: usize,
    /// True if the collection of the new model leads: the end of the migration finishes it, a switch is a rollback.
    pub switched: bool,
    /// Documents of the leader whose vectors came from a client.
    pub given: usize,
    /// The treatment of these.
    pub client_vectors: ClientVectors,
}

impl Migration {
    /// Makes the migration of two collections. `pending`: the ids that the follower lacks beside those before the first
    /// pass, with the numbers of their changes. The leader's changes are noted from now on; the caller has the turn of
    /// its commits, or nobody else has the leader.
    pub(in super::super) fn new(
        leader: Arc<Collection>,
        follower: Arc<Collection>,
        follows: Follows,
        pending: Vec<(DocId, u64)>,
    ) -> Self {
        let client_vectors = ClientVectors::from(&follows);
        let lag = lag(&follower, follows.first_pass, pending);
        follower.set_role(Role::Follower);
        leader.set_role(Role::Followed(Arc::clone(&lag)));
        Self {
            client_vectors,
            pair: Mutex::new(Pair { leader, follower, lag, switched: follows.switched, ended: false }),
            steps: Mutex::default(),
        }
    }

    /// The collection that answers clients now.
    pub fn leader(&self) -> Arc<Collection> {
        self.pair().leader
    }

    /// The hidden collection. Its model, its dimensions and its sizes of passages say how to embed for it.
    pub fn follower(&self) -> Arc<Collection> {
        self.pair().follower
    }

    /// The figures of this moment.
    pub fn state(&self) -> MigrationState {
        let Pair { leader, follower, lag, switched, .. } = self.pair();
        let Figures { first_pass_over, pending, refused } = lag.figures();
        MigrationState {
            documents: leader.len(),
            copied: follower.len(),
            first_pass_over,
            pending,
            refused,
            switched,
            given: leader.n_given(),
            client_vectors: self.client_vectors,
        }
    }

    /// Puts the refused documents into steps again.
    pub fn retry(&self) {
        self.pair().lag.retry();
    }

    /// Ids of the first refused documents, in order.
    pub fn refused(&self, most: usize) -> Vec<DocId> {
        self.pair().lag.refused(most)
    }

    /// Makes the follower the leader. The caller holds the steps and the turns of both, and nothing is lacking.
    pub(super) fn exchange(&self) {
        let mut pair = self.locked();
        let Pair { leader, follower, switched, .. } = pair.clone();
        let lag = lag(&leader, FirstPass::Over, Vec::new());
        leader.set_role(Role::Follower);
        follower.set_role(Role::Followed(Arc::clone(&lag)));
        *pair = Pair { leader: follower, follower: leader, lag, switched: !switched, ended: false };
    }

    /// Ends the steps. The follower stays as one for those who hold it. The caller holds the steps and the leader's
    /// turn.
    pub(in super::super) fn end(&self) {
        let mut pair = self.locked();
        pair.ended = true;
        pair.lag.clear();
        pair.leader.set_role(Role::Alone);
    }

    pub(super) fn pair(&self) -> Pair {
        self.locked().clone()
    }

    pub(in super::super) fn steps(&self) -> MutexGuard<'_, u64> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, Pair> {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lag(follower: &Collection, first_pass: FirstPass, pending: Vec<(DocId, u64)>) -> Arc<Lag> {
    let number = follower.on_disk.as_ref().map(|on_disk| on_disk.number);
    Arc::new(Lag::new(number, follower.budgets.shared.clone(), first_pass, pending))
}
