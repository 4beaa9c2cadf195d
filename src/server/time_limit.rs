//! The time limit of a call: the caller's deadline, if it gave one, the end of its rights, and the time when others
//! need its permit.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Sleep;

use super::authentication::EndOfRights;
use super::progress::Progress;
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// The time limit of one call.
pub struct TimeLimit {
    deadline: Option<Pin<Box<Sleep>>>,
    end_of_rights: EndOfRights,
    /// The progress of the call.
    pub progress: Arc<Progress>,
}

/// The reason why a call ends early.
pub enum Ended {
    /// The client has left.
    Gone,
    /// The client gets this status.
    Failed(Failure),
}

impl TimeLimit {
    /// The limit of a call that begins now.
    pub fn new(timeout: Option<Duration>, end_of_rights: EndOfRights, progress: Arc<Progress>) -> Self {
        Self { deadline: timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))), end_of_rights, progress }
    }

    /// Resolves when the call must end, with the reason.
    pub async fn over(&mut self) -> Failure {
        let Self { deadline, end_of_rights, progress } = self;
        let passed = async {
            match deadline {
                Some(sleep) => sleep.as_mut().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = passed => Failure::DeadlineExceeded,
            () = end_of_rights.reached() => Failure::Unauthenticated,
            () = progress.asked_to_yield() => Failure::Transport(Refusal::GaveWay),
        }
    }
}
