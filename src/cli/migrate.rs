//! `cognate migrate`: moves a collection to another embedding model of its server.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use futures::StreamExt;
use serde_json::{Value, json};

use super::connection::Connection;
use super::stderr::say;
use super::{progress, table};
use crate::client::item_error;
use crate::wire::{ClientVectors, MigrateCollectionRequest, Migration, MigrationAction, MigrationPhase};

/// Moves a collection to another embedding model, while it is searched and changed
#[derive(Debug, clap::Args)]
#[command(after_help = "The server embeds the stored texts by the new model in the background. It goes on if this \
command is interrupted, and after a restart of the server; without flags the command watches it again. Nothing changes \
for others until --switch. Exit status: 0 done, 1 some documents cannot be embedded, 2 not done.

Examples:
  cognate migrate words --to bge
  cognate migrate words --switch
  cognate migrate words --finish")]
pub struct Args {
    /// Collection to migrate
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Start a migration to this model of the server (see `cognate info`), or watch it
    #[arg(long, value_name = "MODEL")]
    to: Option<String>,
    /// Use the new model from now on; with --to as soon as everything is embedded
    #[arg(long)]
    switch: bool,
    /// Keep the vectors of documents that came with one; the models must have the same dimensions
    #[arg(long, requires = "to")]
    keep_vectors: bool,
    /// Embed the texts of documents that came with a vector, like all others
    #[arg(long, requires = "to", conflicts_with = "keep_vectors")]
    replace_vectors: bool,
    /// Use the old model again, after a switch
    #[arg(long, conflicts_with_all = ["to", "switch"])]
    rollback: bool,
    /// Delete the vectors of the old model, after a switch
    #[arg(long, conflicts_with_all = ["to", "switch", "rollback"])]
    finish: bool,
    /// Delete the vectors of the new model, before a switch or after a rollback
    #[arg(long, conflicts_with_all = ["to", "switch", "rollback", "finish"])]
    cancel: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    fn request(&self) -> MigrateCollectionRequest {
        let action = match self {
            Self { switch: true, to: None, .. } => MigrationAction::Switch,
            Self { rollback: true, .. } => MigrationAction::Rollback,
            Self { finish: true, .. } => MigrationAction::Finish,
            Self { cancel: true, .. } => MigrationAction::Cancel,
            _ => MigrationAction::Unspecified,
        };
        let client_vectors = match self {
            Self { keep_vectors: true, .. } => ClientVectors::Keep,
            Self { replace_vectors: true, .. } => ClientVectors::Replace,
            _ => ClientVectors::Unspecified,
        };
        MigrateCollectionRequest {
            collection: self.collection.clone(),
            model: self.to.clone().unwrap_or_default(),
            action: action.into(),
            switch_when_ready: self.switch && self.to.is_some(),
            client_vectors: client_vectors.into(),
        }
    }
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connection.open().await?;
    let mut answers = client.migrate_collection(args.request()).await?;
    let bar = progress::bar(0, "{bar:30} {percent:>3} %  {human_pos} documents  {elapsed}{msg}");
    let (mut last, mut waits) = (None, String::new());
    while let Some(answer) = answers.next().await {
        let state = answer?.migration.context("the server sent a state without a migration")?;
        bar.set_length(state.documents);
        bar.set_position(state.copied.min(state.documents));
        bar.set_message(state.seconds_left.map_or(String::new(), |left| format!(", {left:.0} s left")));
        if state.waiting_for != waits {
            waits.clone_from(&state.waiting_for);
            if !waits.is_empty() {
                bar.suspend(|| say(&table::clean(&format!("the migration waits: {waits}"))));
            }
        }
        last = Some(state);
    }
    bar.finish_and_clear();
    let state = last.context("the server ended the call before the first state: try again")?;
    if args.connection.json {
        writeln!(io::stdout(), "{}", described(&state))?;
    } else {
        print(&args.collection, &state)?;
    }
    Ok(if state.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The name of a phase in JSON.
fn phase(state: &Migration) -> &'static str {
    match state.phase() {
        MigrationPhase::Unspecified => "unknown",
        MigrationPhase::Copying => "copying",
        MigrationPhase::Ready => "ready",
        MigrationPhase::Switched => "switched",
        MigrationPhase::Finished => "finished",
        MigrationPhase::Cancelled => "cancelled",
    }
}

/// The treatment of vectors that came with their documents in JSON.
fn client_vectors(state: &Migration) -> &'static str {
    match state.client_vectors() {
        ClientVectors::Unspecified => "refuse",
        ClientVectors::Keep => "keep",
        ClientVectors::Replace => "replace",
    }
}

/// The state of a migration as JSON.
pub fn described(state: &Migration) -> Value {
    let error = |error: &crate::wire::MigrationError| {
        let reason = item_error(&error.status.clone().unwrap_or_default());
        json!({ "id": error.id, "error": reason })
    };
    let report = state.report.map(|report| {
        json!({
            "queries": report.queries, "mean_overlap": report.mean_overlap, "least_overlap": report.least_overlap,
        })
    });
    json!({
        "old_model": state.old_model, "new_model": state.new_model, "phase": phase(state), "documents": state.documents,
        "copied": state.copied, "pending": state.pending, "failed": state.failed,
        "errors": state.errors.iter().map(error).collect::<Vec<_>>(), "waiting_for": state.waiting_for,
        "report": report, "given": state.given, "client_vectors": client_vectors(state),
    })
}

fn print(collection: &str, state: &Migration) -> io::Result<()> {
    let mut out = io::stdout();
    let [from, to] = [&state.old_model, &state.new_model].map(|name| table::clean(name));
    let (documents, copied) = (table::count(state.documents), table::count(state.copied));
    let line = match state.phase() {
        MigrationPhase::Ready => format!("all {documents} documents have vectors of {to}; --switch uses them"),
        MigrationPhase::Switched => {
            format!("is of {to} now, with {documents} documents; --rollback goes back to {from}, --finish deletes that")
        }
        MigrationPhase::Finished => format!("is of {to}, with {documents} documents"),
        MigrationPhase::Cancelled => format!("stays with {from}, with {documents} documents"),
        MigrationPhase::Copying | MigrationPhase::Unspecified => {
            format!("{copied} of {documents} documents have vectors of {to}")
        }
    };
    writeln!(out, "{collection}: {line}")?;
    if let Some(report) = &state.report {
        let percent = |share: f32| format!("{:.0} %", 100.0 * share);
        let (mean, least, n) = (percent(report.mean_overlap), percent(report.least_overlap), report.queries);
        writeln!(out, "of the 10 nearest, both models share {mean} on average of {n} queries, and {least} at least")?;
    }
    if state.given > 0 {
        let given = table::count(state.given);
        match state.client_vectors() {
            ClientVectors::Keep => writeln!(out, "{given} documents keep the vectors that came with them")?,
            ClientVectors::Replace => {
                writeln!(out, "{given} documents came with vectors, and are embedded from their texts")?
            }
            ClientVectors::Unspecified => {}
        }
    }
    for error in &state.errors {
        let reason = item_error(&error.status.clone().unwrap_or_default());
        say(&table::clean(&format!("document {:?} cannot be embedded: {reason}", error.id)));
    }
    let more = state.failed.saturating_sub(state.errors.len() as u64);
    if more > 0 {
        say(&format!("{} more documents cannot be embedded", table::count(more)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn request(flags: &[&str]) -> Option<MigrateCollectionRequest> {
        let line = ["migrate", "words"].iter().chain(flags).copied();
        Line::try_parse_from(line).ok().map(|line| line.args.request())
    }

    #[test]
    fn a_switch_with_a_model_waits_for_it_and_without_one_is_an_action() {
        let asked =
            |flags: &[&str]| request(flags).map(|asked| (asked.model.clone(), asked.action(), asked.switch_when_ready));
        assert_eq!(asked(&[]), Some((String::new(), MigrationAction::Unspecified, false)));
        assert_eq!(asked(&["--to", "m", "--switch"]), Some(("m".to_owned(), MigrationAction::Unspecified, true)));
        assert_eq!(asked(&["--switch"]), Some((String::new(), MigrationAction::Switch, false)));
        assert_eq!(asked(&["--rollback"]), Some((String::new(), MigrationAction::Rollback, false)));
        for wrong in [
            &["--rollback", "--switch"][..],
            &["--cancel", "--to", "m"],
            &["--keep-vectors"],
            &["--to", "m", "--keep-vectors", "--replace-vectors"],
        ] {
            assert_eq!(request(wrong), None, "{wrong:?}");
        }
    }
}
