//! Turns the errors of collections, the disk, the model and the pools into failures.
//!
//! The client gets the text of an error if it can do something about it.
//!
//! Invariant: an error that is the server's own fault becomes [`Failure::Internal`], which tells the client nothing.
//! Its cause is logged here, or where it happened. Codes and messages are left to [`super`].

use super::{Failure, Resource, shown};
use crate::backend;
use crate::collection::{BackupError, CollectionError, CommitError, DocId, ExportError, MigrationError, disk};
use crate::compute::Refused;
use crate::compute::stop::Stopped;
use crate::inference::{Overloaded, TextError, TokenizerError};
use crate::kernel::embedding::NotAnEmbedding;
use crate::rpc::refusal::Refusal;

/// The field of a query that leaves no room for a text beside it.
pub const QUERY: &str = "query";

impl Failure {
    /// The failure of a call that asked the store for the collection `name`.
    fn collection(name: String, error: CollectionError) -> Self {
        match error {
            CollectionError::Unknown => Self::NotFound(Resource::Collection(name)),
            CollectionError::Exists => Self::Exists(Resource::Collection(name)),
            CollectionError::Full(full) => Self::Full(full),
            CollectionError::Disk(error) => Self::disk(error),
        }
    }

    /// The failure of a commit to the collection `name`.
    fn commit(name: String, error: CommitError) -> Self {
        match error {
            CommitError::Deleted => Self::NotFound(Resource::Collection(name)),
            CommitError::Moved => Self::Moved,
            CommitError::Full(full) => Self::Full(full),
            CommitError::Stopped(stopped) => stopped.into(),
            CommitError::Disk(error) => Self::disk(error),
            CommitError::Read(error) => Self::read(&error),
        }
    }

    /// The failure of a call whose documents cannot be read.
    fn read(error: &disk::ReadError) -> Self {
        tracing::error!(%error, "cannot read a document");
        Self::Internal
    }

    /// The failure of a migration of the collection `name`.
    pub fn migration(name: &str, error: MigrationError) -> Self {
        let reason = match error {
            MigrationError::Unknown => return Self::NotFound(Resource::Collection(name.to_owned())),
            MigrationError::Full(full) => return Self::Full(full),
            MigrationError::Commit(error) => return Self::commit(name.to_owned(), error),
            MigrationError::Read(error) => return backend::Error::from(error).into(),
            MigrationError::SameModel => {
                return Self::invalid("model", "is the model of the collection already: name another one");
            }
            MigrationError::Stale => {
                tracing::error!(collection = name, "two steps of a migration were taken at once");
                return Self::Internal;
            }
            MigrationError::NoMigration => "is not being migrated: start a migration with `model`".to_owned(),
            MigrationError::InProgress { model } => format!(
                "is being migrated already, and the other model is {}: finish or cancel that first",
                shown(&model)
            ),
            MigrationError::ClientVectors { count, first } => format!(
                "has {count} documents that came with vectors of a client's own: {}; set client_vectors: KEEP takes \
                 their vectors over, REPLACE embeds their texts",
                ids(&first)
            ),
            MigrationError::WithoutText { count, first } => format!(
                "has {count} documents without a text, which another model cannot embed: {}; delete them, upload them \
                 with a text, or set client_vectors to KEEP if both models have the same dimensions",
                ids(&first)
            ),
            MigrationError::OtherDimensions { count, first, leader, follower } => format!(
                "has {count} documents that came with vectors of a client's own, whose {leader} dimensions cannot be \
                 kept beside those of a model with {follower}: {}; set client_vectors to REPLACE to embed their texts, or \
                 delete them",
                ids(&first)
            ),
            MigrationError::NotReady { refused: 1.., pending, .. } => format!(
                "is not ready: {pending} documents are not embedded by the other model, and `errors` of its migration \
                 names those that cannot be; delete them, upload them with another text, or cancel the migration"
            ),
            MigrationError::NotReady { first_pass_over: false, .. } => {
                "is not ready: its documents are still being embedded by the other model; watch the migration, or \
                 start it with switch_when_ready"
                    .to_owned()
            }
            MigrationError::NotReady { pending, .. } => format!(
                "is not ready: {pending} documents changed and are still to be embedded by the other model; try again"
            ),
        };
        Self::NotMigrated { name: name.to_owned(), reason }
    }

    /// The failure of an export.
    fn export(error: ExportError) -> Self {
        match error {
            ExportError::TooMany => Self::TooManyExports { reason: error.to_string() },
            ExportError::Stopped(stopped) => stopped.into(),
            ExportError::Read(error) => Self::read(&error),
        }
    }

    /// The failure of a backup.
    pub fn backup(error: BackupError) -> Self {
        use disk::{BackupError as Disk, CopyError};
        match error {
            BackupError::InMemory => Self::NothingStored,
            BackupError::Busy => Self::BackupInProgress,
            BackupError::Disk(Disk::Copy(CopyError::DiskFull(full))) => Self::DiskFull(full),
            // The caller has left, so no one reads this.
            BackupError::Disk(Disk::Copy(CopyError::GivenUp)) => Self::DeadlineExceeded,
            BackupError::Disk(_) | BackupError::Io(_) => {
                tracing::error!(%error, "the backup failed");
                Self::Internal
            }
        }
    }

    /// The failure of the vector of the text in `field`, which has no direction and cannot be scaled to length 1.
    /// Static vectors may be zero, and a text may have such tokens only.
    pub fn of_model(field: impl Into<String>, error: &NotAnEmbedding) -> Self {
        if *error == NotAnEmbedding::Zero {
            return Self::invalid(field, "the model's vector of this text is zero and has no direction");
        }
        tracing::error!(%error, "the model returned a vector without a direction");
        Self::Internal
    }

    fn disk(error: disk::CommitError) -> Self {
        match error {
            disk::CommitError::Stopped(stopped) => Self::Stopped(stopped),
            disk::CommitError::DiskFull(full) => Self::DiskFull(full),
            disk::CommitError::Rejected(rejected) => {
                tracing::error!(%rejected, "memory and disk disagree");
                Self::Internal
            }
        }
    }

    /// The failure of the text in `field`.
    pub fn text(field: impl Into<String>, error: &TextError) -> Self {
        match error {
            TextError::Tokenizer(TokenizerError::FirstTooLong { .. }) => Self::invalid(QUERY, error.to_string()),
            TextError::TooLong { .. }
            | TextError::TooManyPassages { .. }
            | TextError::NoTokens
            | TextError::Tokenizer(_) => Self::invalid(field, error.to_string()),
            TextError::Model(_) => Self::Internal,
        }
    }
}

/// The first ids of a list, as a message quotes them.
fn ids(first: &[DocId]) -> String {
    first.iter().map(|id| shown(id.as_str())).collect::<Vec<_>>().join(", ")
}

impl From<backend::Error> for Failure {
    fn from(error: backend::Error) -> Self {
        use backend::Error;
        match error {
            Error::Collection { name, error } => Self::collection(name, error),
            Error::Commit { name, error } => Self::commit(name, error),
            Error::Export(error) => Self::export(error),
            Error::TooManyFields(error) => Self::TooManyFields(error),
            Error::TooLarge { limit } => Self::AnswerTooLarge { limit },
            Error::Read(error) => Self::read(&error),
            Error::Stopped(stopped) => stopped.into(),
            Error::Refused(refused) => refused.into(),
            Error::Unavailable { reason, retry_after } => Self::StoreUnavailable { reason, retry_after },
            Error::Full { reason } => Self::StoreFull { reason },
            Error::TooManyExports { reason } => Self::TooManyExports { reason },
            Error::Unsupported { field, reason } => Self::invalid(field, reason),
            Error::Unexpected { reason } => {
                tracing::error!(reason, "the store gave an unexpected answer");
                Self::Internal
            }
        }
    }
}

impl From<Overloaded> for Failure {
    fn from(overloaded: Overloaded) -> Self {
        Self::Overloaded(overloaded)
    }
}

impl From<Stopped> for Failure {
    /// Only the deadline can stop a call whose answer is still awaited.
    fn from(_: Stopped) -> Self {
        Self::DeadlineExceeded
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Transport(refusal)
    }
}
