//! The state of a migration as a message.

use std::time::Duration;

use super::following::CLOSE;
use super::migrations::{Comparison, Findings, Task, lacking};
use super::models::Models;
use super::status::Failure;
use crate::collection::{ClientVectors, Collection, DocId, MigrationState};
use crate::wire::{self, MigrationPhase};

/// Documents whose failures a message has.
const ERRORS: usize = 10;

/// The phase of a migration that has not ended.
pub fn phase(state: &MigrationState) -> MigrationPhase {
    match state {
        MigrationState { switched: true, .. } => MigrationPhase::Switched,
        MigrationState { refused: 0, .. } if lacking(state) <= CLOSE => MigrationPhase::Ready,
        _ => MigrationPhase::Copying,
    }
}

/// Writes the state of a migration.
pub fn written(models: &Models, task: &Task) -> wire::Migration {
    let (state, findings) = (task.migration.state(), task.findings());
    let (leader, follower) = (task.migration.leader(), task.migration.follower());
    let failed = if state.refused > 0 { task.migration.refused(ERRORS) } else { Vec::new() };
    let errors = failed.into_iter().map(|id| error(id, &leader, &findings)).collect();
    let (old, new) = if state.switched { (follower, leader) } else { (leader, follower) };
    let name = |of: &Collection| models.name_of(of.fingerprint(), of.model().to_owned());
    wire::Migration {
        old_model: name(&old),
        new_model: name(&new),
        phase: phase(&state).into(),
        documents: state.documents as u64,
        copied: state.copied as u64,
        pending: state.pending as u64,
        seconds_left: seconds_left(&state, &findings),
        errors,
        failed: state.refused as u64,
        waiting_for: findings.waiting_for.map_or_else(String::new, |failure| failure.to_item().message),
        report: findings.comparison.flatten().map(report),
        given: state.given as u64,
        client_vectors: treatment(state.client_vectors).into(),
    }
}

fn treatment(client_vectors: ClientVectors) -> wire::ClientVectors {
    match client_vectors {
        ClientVectors::Refuse => wire::ClientVectors::Unspecified,
        ClientVectors::Keep => wire::ClientVectors::Keep,
        ClientVectors::Replace => wire::ClientVectors::Replace,
    }
}

/// The time for what is left, at the speed so far; `None`: nothing is left, or the speed is not known.
fn seconds_left(state: &MigrationState, findings: &Findings) -> Option<f32> {
    let first = if state.first_pass_over { 0 } else { state.documents.saturating_sub(state.copied) };
    let left = first + state.pending.saturating_sub(state.refused);
    let (embedded, took) = findings.embedded;
    (left > 0 && embedded > 0 && took > Duration::ZERO).then(|| left as f32 * took.as_secs_f32() / embedded as f32)
}

fn error(id: DocId, leader: &Collection, findings: &Findings) -> wire::MigrationError {
    let (of_vector, of_text) = (
        "came with the document, and may not be kept: upload the document without a vector, delete it, or cancel the \
         migration and start again with client_vectors",
        "is empty, so the other model cannot embed it: upload the document with a text, or delete it",
    );
    let status = findings.reasons.get(&id).cloned().unwrap_or_else(|| match leader.has_text(&id) {
        true => Failure::invalid("vector", of_vector),
        false => Failure::invalid("text", of_text),
    });
    wire::MigrationError { id: id.as_str().to_owned(), status: Some(status.to_item()) }
}

fn report(Comparison { queries, mean, least }: Comparison) -> wire::MigrationReport {
    let queries = u32::try_from(queries).unwrap_or(u32::MAX);
    wire::MigrationReport { queries, mean_overlap: mean, least_overlap: least }
}
