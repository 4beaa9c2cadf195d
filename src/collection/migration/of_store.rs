//! The beginning, the exchange and the end of migrations, each one commit.

use std::sync::{Arc, PoisonError};

use super::super::budget::NOTHING;
use super::super::budgets::EMPTY;
use super::super::disk::{Change, FirstPass, Follows};
use super::super::passages::PassageSizes;
use super::super::single::Collection;
use super::super::store::{Model, Settings, Store};
use super::error::MigrationError;
use super::pair::{ClientVectors, Migration, MigrationState, Pair};

/// Most ids that an error names.
const NAMED: usize = 8;

impl Store {
    /// Makes an empty follower of a collection, with another model, these sizes of passages, and its other settings.
    /// Blocks until it is on disk.
    pub fn begin_migration(
        &self,
        name: &str,
        model: Model<'_>,
        passages: Option<PassageSizes>,
        client_vectors: ClientVectors,
    ) -> Result<Arc<Migration>, MigrationError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let leader = self.collections.find(name).ok_or(MigrationError::Unknown)?;
        if let Some(migration) = self.migration(name) {
            return Err(MigrationError::InProgress { model: migration.follower().model().to_owned() });
        }
        if leader.fingerprint() == model.fingerprint {
            return Err(MigrationError::SameModel);
        }
        check(&leader, model.dimensions, client_vectors)?;
        let budgets = self.budgets(leader.owner());
        budgets.exchange(NOTHING, EMPTY)?;
        let settings = Settings { passages, lexical: leader.lexical() };
        let mut follows = Follows {
            leader: 0,
            first_pass: FirstPass::start(),
            keeps_vectors: client_vectors == ClientVectors::Keep,
            replaces_vectors: client_vectors == ClientVectors::Replace,
            switched: false,
        };
        let mut number = None;
        if let Some(on_disk) = &leader.on_disk {
            let new =
                self.new_collection((name, leader.owner()), model, settings, on_disk.disk.new_collection_number());
            number = Some(new.number);
            follows.leader = on_disk.number;
            let created = on_disk.disk.commit(vec![Change::CreateFollower(new, follows.clone())]);
            created.inspect_err(|_| budgets.release(EMPTY))?;
        }
        let follower = self.collection((name, budgets), model, settings, number.map(|number| (number, 0)));
        follower.loaded();
        let _turn = leader.turn();
        let migration = Arc::new(Migration::new(Arc::clone(&leader), Arc::new(follower), follows, Vec::new()));
        self.collections.begin(Arc::clone(&migration));
        Ok(migration)
    }

    /// The migration of the collection of this name; `None`: it has none.
    pub fn migration(&self, name: &str) -> Option<Arc<Migration>> {
        self.collections.migration(name)
    }

    /// All migrations, in name order. Those of an earlier process are among them from the start.
    pub fn migrations(&self) -> Vec<Arc<Migration>> {
        self.collections.migrations()
    }

    /// Exchanges leader and follower: a switch, or a rollback after one. Waits for the commits in progress and blocks
    /// until it is on disk. Commits that wait meanwhile answer
    /// [`CommitError::Moved`](super::super::CommitError::Moved).
    pub fn switch(&self, name: &str) -> Result<(), MigrationError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let migration = self.of(name)?;
        let mut steps = migration.steps();
        let Pair { leader, follower, .. } = migration.pair();
        let (_of_leader, _of_follower) = (leader.turn(), follower.turn());
        let MigrationState { first_pass_over, pending, refused, .. } = migration.state();
        if pending > 0 || !first_pass_over {
            return Err(MigrationError::NotReady { first_pass_over, pending, refused });
        }
        if let Some(on_disk) = &follower.on_disk {
            on_disk.disk.commit(vec![Change::Exchange { follower: on_disk.number }])?;
        }
        *steps += 1;
        migration.exchange();
        self.collections.insert(Arc::clone(&follower));
        Ok(())
    }

    /// Ends a migration and deletes the follower: before a switch this cancels it, after one it finishes it. Blocks
    /// until the follower is gone from disk.
    pub fn end_migration(&self, name: &str) -> Result<(), MigrationError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let migration = self.of(name)?;
        let _steps = migration.steps();
        let Pair { leader, follower, .. } = migration.pair();
        // No commit of the leader has notes for the follower on their way.
        let (_of_leader, _of_follower) = (leader.turn(), follower.turn());
        if let Some(on_disk) = &follower.on_disk {
            on_disk.disk.commit(vec![Change::DeleteCollection { collection: on_disk.number }])?;
        }
        migration.end();
        self.collections.end(name);
        follower.delete();
        follower.budgets.shared.release(EMPTY);
        Ok(())
    }

    fn of(&self, name: &str) -> Result<Arc<Migration>, MigrationError> {
        self.collections.find(name).ok_or(MigrationError::Unknown)?;
        self.migration(name).ok_or(MigrationError::NoMigration)
    }
}

/// Checks that the follower, whose vectors have this length, may take what the leader has.
fn check(leader: &Collection, follower: usize, client_vectors: ClientVectors) -> Result<(), MigrationError> {
    let of_leader = leader.dimensions();
    let (count, first) = match client_vectors {
        ClientVectors::Keep if of_leader == follower => return Ok(()),
        ClientVectors::Keep | ClientVectors::Refuse => leader.given(NAMED),
        ClientVectors::Replace => leader.without_text(NAMED),
    };
    match client_vectors {
        _ if count == 0 => Ok(()),
        ClientVectors::Keep => Err(MigrationError::OtherDimensions { count, first, leader: of_leader, follower }),
        ClientVectors::Refuse => Err(MigrationError::ClientVectors { count, first }),
        ClientVectors::Replace => Err(MigrationError::WithoutText { count, first }),
    }
}
