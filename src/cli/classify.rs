//! `cognate classify`: texts to labels, on the terminal or for other programs.
//!
//! All texts go through one `ClassifyStream`, so a file of any size is read as fast as the server classifies.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use futures::StreamExt;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::json::number;
use super::table::{self, Align, Table};
use super::texts::{self, Feed, Given, Text};
use crate::client::item_error;
use crate::wire::{self as pb, classify_result::Result as Classified};

/// Classifies texts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate classify \"This is the worst support I have ever dealt with\"
  cognate classify --file tickets.csv --json > labels.jsonl
  cognate classify --model tickets --top 3 \"The parcel never arrived\"")]
pub struct Args {
    #[command(flatten)]
    given: Given,
    /// Classifier to use; by default, the server's first one (see `cognate info`)
    #[arg(long, short, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
    /// Show only the N best labels; 0 shows all
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    top: u32,
    /// Leave out labels with a lower score
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Show scores as the model computes them, instead of probabilities
    #[arg(long)]
    raw_scores: bool,
    /// Report an error for a text that is too long for the classifier, instead of cutting it
    #[arg(long)]
    reject_truncation: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. Exit code 0 if every text has a label, 1 if not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connection.open().await?;
    let limits = client.info(pb::InfoRequest {}).await?.limits.unwrap_or_default();
    let template = pb::ClassifyRequest {
        model: args.model,
        top_n: args.top,
        min_score: args.min_score,
        raw_scores: args.raw_scores,
        truncation: if args.reject_truncation { pb::Truncation::Reject } else { pb::Truncation::End }.into(),
        ..Default::default()
    };
    let texts = args.given.texts(&limits)?;
    let failure = texts.failure();
    let Feed { requests, mut chunks } =
        texts::feed(texts.stream, &limits, move |texts| pb::ClassifyRequest { texts, ..template.clone() });
    let mut answers = client.classify_stream(requests).await?;
    let mut all_well = true;
    while let Some(chunk) = chunks.recv().await {
        let results = if chunk.iter().any(Text::is_ok) {
            answers.next().await.context("the server ended the stream before it had answered")??.results
        } else {
            Vec::new()
        };
        let outcomes = pair(&chunk, results)?;
        all_well &= outcomes.iter().all(|(_, outcome)| outcome.is_ok());
        if args.connection.json { write_json(&outcomes)? } else { write_table(&outcomes)? }
    }
    failure.check()?;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A text, if it could be read, with its labels or an error.
type Outcome<'a> = (Option<&'a str>, Result<(pb::Classification, pb::ClassifyResult), String>);

/// Assigns results to texts. `results` are those of the chunk's texts that are not errors, in order.
fn pair(chunk: &[Text], results: Vec<pb::ClassifyResult>) -> anyhow::Result<Vec<Outcome<'_>>> {
    let mut results = results.into_iter();
    let outcome = |text| {
        let text: &Text = text;
        let Ok(text) = text else { return Ok((None, text.clone().map(|_| Default::default()))) };
        let result = results.next().context("the server answered fewer texts than it was asked")?;
        let outcome = match result.result.clone().context("the server answered a text with neither label nor error")? {
            Classified::Error(status) => Err(item_error(&status)),
            Classified::Classification(classification) => Ok((classification, result)),
        };
        Ok((Some(text.as_str()), outcome))
    };
    chunk.iter().map(outcome).collect()
}

fn write_json(outcomes: &[Outcome<'_>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (text, outcome) in outcomes {
        let line = match outcome {
            Err(error) => json!({ "text": text, "error": error }),
            Ok((classification, result)) => {
                let scores = classification.scores.iter().map(|score| (score.label.clone(), number(score.score)));
                json!({
                    "text": text, "label": classification.label, "score": number(classification.score),
                    "scores": Value::Object(scores.collect::<Map<_, _>>()), "tokens": result.tokens,
                    "tokens_total": result.tokens_total, "truncated": result.truncated,
                })
            }
        };
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn write_table(outcomes: &[Outcome<'_>]) -> io::Result<()> {
    let mut shown = Table::new([("", Align::Right), ("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    for (text, outcome) in outcomes {
        match outcome {
            Err(error) => shown.row(["-".into(), String::new(), "error".into(), table::clean(error)]),
            Ok((classification, _)) => shown.row(row(classification, text.unwrap_or_default())),
        }
    }
    shown.write(&mut io::stdout().lock(), table::stdout_width())
}

/// The best label with its score and, if more are listed, the others behind it.
pub fn row(classification: &pb::Classification, text: &str) -> [String; 4] {
    let others = classification.scores.iter().filter(|other| other.label != classification.label);
    let others: Vec<String> =
        others.map(|other| format!("{} {}", table::clean(&other.label), table::score(other.score))).collect();
    let label = table::clean(&classification.label);
    let label = if others.is_empty() { label } else { format!("{label} ({})", others.join(", ")) };
    [table::score(classification.score), table::score_bar(classification.score), label, table::clean(text)]
}
