//! The parts of a process that answer calls.

use super::guarded::Guarded;
use super::limits::Limits;
use super::migrations::Migrations;
use super::models::Models;
use crate::budget::ByteBudget;
use crate::classifier::Classifiers;
use crate::compute::Pools;
use crate::reranker::Rerankers;

/// The parts that answer calls.
pub struct Engine {
    /// The embedding models.
    pub models: Models,
    /// The classifiers.
    pub classifiers: Classifiers,
    /// The rerankers.
    pub rerankers: Rerankers,
    /// The documents, by the rights of callers. An `Arc<Store>` becomes this by `into`.
    pub store: Guarded,
    /// The migrations of collections to other models.
    pub migrations: Migrations,
    /// The limits of requests.
    pub limits: Limits,
    /// The pools that calls compute in.
    pub pools: Pools,
    /// The memory of decoded requests and of answers. The server takes the memory of bytes in transit from it.
    pub messages: ByteBudget,
}
