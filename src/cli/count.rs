//! `cognate count`: the number of documents that match.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use super::conditions;
use super::connection::Connection;
use crate::wire::CountDocumentsRequest;

/// Counts documents, all or those whose metadata matches
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate count words
  cognate count words --where 'part_of_speech = verb and not synonyms exists'")]
pub struct Args {
    /// Collection to count in
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Count only documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all hold
    #[arg(long = "where", value_name = "FILTER")]
    conditions: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = CountDocumentsRequest { collection: args.collection, filter: conditions::all(&args.conditions) };
    let documents = args.connection.open().await?.count_documents(request).await?.documents;
    if args.connection.json {
        writeln!(io::stdout(), "{}", json!({ "documents": documents }))?;
    } else {
        // Without separators, so that a script can read it.
        writeln!(io::stdout(), "{documents}")?;
    }
    Ok(ExitCode::SUCCESS)
}
