//! `cognate rerank`: texts in the order in which they answer a query.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::json;

use super::connection::Connection;
use super::input;
use super::json::number;
use super::table::{self, Align, Table};
use crate::client::item_error;
use crate::wire::{self as pb, rerank_result::Result as Reranked};

/// Orders texts by how well they answer a query, by a cross-encoder of the server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate rerank \"When does the shop open?\" \"We open at nine\" \"Parking is free\"
  cognate rerank \"I want my money back\" --file answers.jsonl --top 5 --json")]
pub struct Args {
    /// Query
    query: String,
    /// Texts to order
    #[arg(value_name = "TEXT", required_unless_present = "file")]
    texts: Vec<String>,
    /// Order the texts of this file (JSONL, CSV or plain lines) too
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Reranker to use; by default, the server's first one (see `cognate info`)
    #[arg(long, short, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
    /// Show only the N best texts; 0 shows all
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    top: u32,
    /// Report an error for a text that is too long for the reranker, instead of cutting it
    #[arg(long)]
    reject_truncation: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. Exit code 0 if every text has a score, 1 if not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut texts = args.texts;
    if let Some(path) = &args.file {
        for (location, text) in input::texts(path)? {
            texts.push(text.with_context(|| location.to_string())?);
        }
        ensure!(!texts.is_empty(), "{} holds no texts", path.display());
    }
    let request = pb::RerankRequest {
        query: args.query,
        texts,
        model: args.model,
        top_n: args.top,
        with_text: true,
        truncation: if args.reject_truncation { pb::Truncation::Reject } else { pb::Truncation::End }.into(),
    };
    let texts = request.texts.clone();
    let results = args.connection.open().await?.rerank(request).await?.results;
    let mut out = io::stdout().lock();
    if args.connection.json {
        write_json(&mut out, &texts, &results)?;
    } else {
        rows(&texts, &results).write(&mut out, table::stdout_width())?;
    }
    out.flush()?;
    let all_well = results.iter().all(|result| matches!(result.result, Some(Reranked::Score(_))));
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The text of a result. The server returns none for an error.
fn text<'a>(texts: &'a [String], result: &pb::RerankResult) -> &'a str {
    texts.get(result.index as usize).map_or("", String::as_str)
}

fn write_json(out: &mut impl Write, texts: &[String], results: &[pb::RerankResult]) -> io::Result<()> {
    for (rank, result) in (1..).zip(results) {
        let text = text(texts, result);
        let line = match &result.result {
            Some(Reranked::Score(score)) => json!({
                "rank": rank, "index": result.index, "score": number(*score), "text": text, "tokens": result.tokens,
                "tokens_total": result.tokens_total, "truncated": result.truncated,
            }),
            Some(Reranked::Error(status)) => {
                json!({ "index": result.index, "text": text, "error": item_error(status) })
            }
            None => json!({ "index": result.index, "text": text, "error": "neither score nor error" }),
        };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Results as rows: score, position and text.
fn rows(texts: &[String], results: &[pb::RerankResult]) -> Table {
    let mut table = Table::new([("score", Align::Right), ("", Align::Left), ("text", Align::Left)]);
    for result in results {
        let (score, text) = match &result.result {
            Some(Reranked::Score(score)) => (table::score(*score), text(texts, result).to_owned()),
            Some(Reranked::Error(status)) => ("-".to_owned(), item_error(status)),
            None => ("-".to_owned(), "neither score nor error".to_owned()),
        };
        table.row([score, format!("#{}", result.index), table::clean(&text)]);
    }
    table
}
