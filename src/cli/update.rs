//! `cognate update`: changes the metadata of documents by a JSON merge patch.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use prost_types::Struct;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::input::InputSource;
use super::stderr::say;
use super::{conditions, table};
use crate::client::item_error;
use crate::wire::{UpdateDocumentsRequest, metadata};

/// Changes the metadata of documents; their texts and vectors stay
#[derive(Debug, clap::Args)]
#[command(after_help = "The patch is a JSON object (a merge patch, RFC 7396): null removes a field, an object is \
merged with the field, and any other value replaces it. If the command is interrupted, run it again: documents that \
have the patch already stay as they are.

Examples:
  cognate update words --id swim.v.01 --patch '{\"level\": \"A1\", \"draft\": null}'
  cognate update words --where 'part_of_speech = verb' --patch @patch.json")]
pub struct Args {
    /// Collection with the documents
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Change these documents
    #[arg(long, num_args = 1.., value_name = "ID", required_unless_present = "conditions")]
    id: Vec<String>,
    /// Change documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all hold
    #[arg(long = "where", id = "conditions", value_name = "FILTER", conflicts_with = "id")]
    conditions: Vec<String>,
    /// Changes as a JSON object; @FILE reads them from a file, @- from standard input
    #[arg(long, value_name = "JSON")]
    patch: String,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. Exit code 0 if all documents were updated, 1 if not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = UpdateDocumentsRequest {
        collection: args.collection,
        ids: args.id,
        filter: conditions::all(&args.conditions),
        patch: Some(patch(&args.patch)?),
    };
    let answer = args.connection.open().await?.update_documents(request).await?;
    let error =
        |error: &crate::wire::UpdateError| (error.id.clone(), item_error(&error.status.clone().unwrap_or_default()));
    let errors: Vec<(String, String)> = answer.errors.iter().map(error).collect();
    if args.connection.json {
        let errors: Vec<_> = errors.iter().map(|(id, error)| json!({ "id": id, "error": error })).collect();
        let line = json!({
            "documents": answer.documents, "missing": answer.missing, "refused": answer.refused, "errors": errors,
        });
        writeln!(io::stdout(), "{line}")?;
    } else {
        writeln!(io::stdout(), "updated {} documents", table::count(answer.documents))?;
    }
    answer.missing.iter().for_each(|id| say(&format!("no document {id:?}")));
    errors.iter().for_each(|(id, error)| say(&format!("{id:?} is not updated: {error}")));
    let more = answer.refused - errors.len() as u64;
    if more > 0 {
        say(&format!("{} more documents are not updated", table::count(more)));
    }
    let all = answer.missing.is_empty() && answer.refused == 0;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Reads a patch: JSON, or `@` and the name of a file with it.
fn patch(given: &str) -> anyhow::Result<Struct> {
    let (source, json) = match given.strip_prefix('@') {
        Some(path) => {
            let source = InputSource::named(Path::new(path));
            let mut json = String::new();
            source.open()?.0.read_to_string(&mut json).with_context(|| format!("cannot read {source}"))?;
            (source.to_string(), json)
        }
        None => ("--patch".to_owned(), given.to_owned()),
    };
    let fields: Map<String, Value> =
        serde_json::from_str(&json).with_context(|| format!("{source} is not a JSON object"))?;
    Ok(metadata::from_json(&fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_an_object_on_the_command_line_or_in_a_file() {
        let fields = json!({"a": null, "b": {"c": 1}});
        let read = |given: &str| patch(given).map(|read| Value::Object(metadata::to_json(&read).unwrap()));
        assert_eq!(read(&fields.to_string()).unwrap(), fields);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), fields.to_string()).unwrap();
        assert_eq!(read(&format!("@{}", file.path().display())).unwrap(), fields);
        for wrong in ["[1]", "", "1", "{", "@no/such/file"] {
            let error = format!("{:#}", read(wrong).unwrap_err());
            assert!(error.contains("JSON object") || error.contains("no/such/file"), "{wrong}: {error}");
        }
    }
}
