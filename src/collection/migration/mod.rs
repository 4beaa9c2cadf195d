//! MIGRATION: a collection moves to another model while it answers.
//!
//! ```text
//! commit ──► leader: documents, and the ids that the follower lacks, in one transaction
//!               │ next: documents as they are now
//!               ▼
//!            the caller embeds their texts by the follower's model
//!               │ apply
//!               ▼
//!            follower: documents, and the ids that it lacks no more, in one transaction
//! ```
//!
//! A migration is a pair of collections under one name. The *leader* answers every call. The *follower* is hidden, has
//! the same settings and another model, and is brought to the leader's documents in steps. A switch exchanges the two,
//! and so does a rollback: then the former leader follows, and misses nothing that is acknowledged meanwhile. The end
//! of a migration deletes the follower.
//!
//! Invariants: a change of the leader is stored with the note that the follower lacks it, or with neither. So a kill at
//! any moment loses no change, and repeats one step at most. The two are exchanged only when nothing is lacking. A
//! handle of a follower, or of a former leader, changes nothing for a client: it answers `CommitError::Moved`.
//!
//! The caller embeds, and decides when to take a step; nothing here knows a model. `lag` has the ids that the follower
//! lacks, `step` the work, `pair` the state, `of_store` the beginning, the exchange and the end.

mod error;
mod lag;
mod leader;
mod of_store;
mod pair;
mod step;

#[cfg(test)]
mod tests;

pub use error::MigrationError;
pub(super) use lag::{Noted, Role};
pub use pair::{ClientVectors, Migration, MigrationState};
pub use step::{Step, ToEmbed};
