//! `cognate collections`: lists, creates, deletes and reads collections.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::conditions;
use super::connection::Connection;
use super::json;
use super::migrate;
use super::passages::Sizes;
use super::stderr::say;
use super::table::{self, Align, Table};
use super::words;
use crate::client::Client;
use crate::wire::metadata;
use crate::wire::{self as pb, Collection, Document};

/// Lists, creates, deletes and reads collections
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all collections (the default)
    List,
    /// Create empty collections
    Create {
        /// Names: letters, digits, - _ and .
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Embedding model of their vectors (see `cognate info`) [default: the server's first]
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        model: String,
        #[command(flatten)]
        sizes: Sizes,
        /// Cut the end of a long text, instead of making passages of it
        #[arg(long, conflicts_with_all = ["passage_tokens", "overlap_tokens"])]
        no_passages: bool,
        #[command(flatten)]
        words: words::Index,
    },
    /// Delete collections with all their documents
    Delete {
        /// Collections to delete
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print documents in id order; with --json, in the form that `cognate upload` reads
    Documents {
        /// Collection to read
        #[arg(value_name = "NAME")]
        name: String,
        /// Print only these documents, in this order
        #[arg(long, num_args = 1.., value_name = "ID")]
        id: Vec<String>,
        /// Print only documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all
        /// hold
        #[arg(long = "where", value_name = "FILTER", conflicts_with = "id")]
        conditions: Vec<String>,
        /// Stop after N documents; with --json all are printed by default
        #[arg(long, value_name = "N", conflicts_with = "id")]
        limit: Option<u64>,
        /// Print each document's vector; with --json only
        #[arg(long)]
        with_vector: bool,
    },
    /// Delete documents, all at once
    DeleteDocuments {
        /// Collection to delete from
        #[arg(value_name = "NAME")]
        name: String,
        /// Delete these documents
        #[arg(long, num_args = 1.., value_name = "ID", required_unless_present = "conditions")]
        id: Vec<String>,
        /// Delete documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all hold
        #[arg(long = "where", id = "conditions", value_name = "FILTER", conflicts_with = "id")]
        conditions: Vec<String>,
    },
}

/// Most rows of a table without --limit, because people read it.
const TABLE_ROWS: u64 = 100;

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (connection, client, json) = (&args.connection, args.connection.open().await?, args.connection.json);
    match args.action.unwrap_or(Action::List) {
        Action::List => print(&list(&client).await?, json)?,
        Action::Create { names, model, sizes, no_passages, words } => {
            let off = pb::Passages { enabled: Some(false), ..pb::Passages::default() };
            let passages = Some(if no_passages { off } else { sizes.wire() });
            for name in names {
                let (lexical, model) = (Some(words.wire()), model.clone());
                let request = pb::CreateCollectionRequest { name, passages, lexical, model };
                let created = client.create_collection(request).await?.collection;
                print(created.as_slice(), json)?;
            }
        }
        Action::Delete { names } => {
            for name in names {
                let documents =
                    client.delete_collection(pb::DeleteCollectionRequest { name: name.clone() }).await?.documents;
                let line = format!("removed {name} with {} documents", table::count(documents));
                connection.print(&json!({ "name": name, "documents": documents }), line)?;
            }
        }
        Action::Documents { with_vector: true, .. } if !json => {
            bail!("--with-vector needs --json: a table cannot show vectors")
        }
        Action::Documents { name, id, with_vector, .. } if !id.is_empty() => {
            let vector_format = json::vector_format(with_vector);
            let request = pb::GetDocumentsRequest { collection: name, ids: id, with_vector, vector_format };
            let found = client.get_documents(request).await?;
            print_documents(&found.documents, json)?;
            return Ok(tell_missing(&found.missing));
        }
        Action::Documents { name, limit, with_vector, conditions, .. } => {
            let limit = limit.unwrap_or(if json { u64::MAX } else { TABLE_ROWS });
            let request = pb::ListDocumentsRequest {
                collection: name,
                with_vector,
                vector_format: json::vector_format(with_vector),
                filter: conditions::all(&conditions),
                ..Default::default()
            };
            documents(&client, request, limit, json).await?;
        }
        Action::DeleteDocuments { name, id, conditions } => {
            let request =
                pb::DeleteDocumentsRequest { collection: name, ids: id, filter: conditions::all(&conditions) };
            let answer = client.delete_documents(request).await?;
            let line = format!("removed {} documents", table::count(answer.documents));
            connection.print(&json!({ "documents": answer.documents, "missing": answer.missing }), line)?;
            return Ok(tell_missing(&answer.missing));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Names the documents that do not exist. Returns the exit code: 0 if all exist.
fn tell_missing(ids: &[String]) -> ExitCode {
    ids.iter().for_each(|id| say(&format!("no document {id:?}")));
    if ids.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Lists all collections, page by page.
async fn list(client: &Client) -> anyhow::Result<Vec<pb::Collection>> {
    let (mut all, mut request) = (Vec::new(), pb::ListCollectionsRequest::default());
    loop {
        let page = client.list_collections(request.clone()).await?;
        all.extend(page.collections);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints documents page by page, at most `limit`.
async fn documents(
    client: &Client,
    mut request: pb::ListDocumentsRequest,
    limit: u64,
    json: bool,
) -> anyhow::Result<()> {
    let mut left = limit;
    loop {
        // 0 asks for the server's default page of 100.
        request.page_size = if left < 100 { left as u32 } else { 0 };
        let page = match left {
            0 => return Ok(()),
            _ => client.list_documents(request.clone()).await?,
        };
        print_documents(&page.documents, json)?;
        left -= (page.documents.len() as u64).min(left);
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        if left == 0 && !json {
            say("there are more: --limit N shows them, --json prints all");
        }
        request.page_token = page.next_page_token;
    }
}

/// The name of a collection's model, and enough of its fingerprint to tell two models of one name apart; `--json` has
/// all of it.
fn model(collection: &Collection) -> String {
    let digits: String = collection.model_fingerprint.chars().take(12).collect();
    let name =
        if collection.model.is_empty() { digits } else { format!("{} ({digits})", table::clean(&collection.model)) };
    match &collection.migration {
        Some(migration) => {
            format!(
                "{name}, migrates from {} to {}",
                table::clean(&migration.old_model),
                table::clean(&migration.new_model)
            )
        }
        None => name,
    }
}

fn print_documents(documents: &[Document], json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for document in documents {
            writeln!(out, "{}", json::document(document)?)?;
        }
        return Ok(());
    }
    let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
    for document in documents {
        let mut text = table::clean(&document.text);
        if let Some(metadata) = &document.metadata {
            text.push_str("  ");
            text.push_str(&table::clean(&Value::Object(metadata::to_json(metadata)?).to_string()));
        }
        table.row([table::clean(&document.id), text]);
    }
    Ok(table.write(&mut out, table::stdout_width())?)
}

fn print(collections: &[Collection], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for collection in collections {
            let lexical = collection.lexical.clone().unwrap_or_default();
            let pb::Passages { enabled, max_tokens, overlap_tokens } = collection.passages.unwrap_or_default();
            let line = json!({
                "name": collection.name, "documents": collection.documents, "dimensions": collection.dimensions,
                "model": collection.model, "model_fingerprint": collection.model_fingerprint, "bytes": collection.bytes,
                "unindexed": collection.unindexed, "index_file_bytes": collection.index_file_bytes,
                "ef_search": collection.ef_search, "recall": collection.recall,
                "recall_queries": collection.recall_queries, "passage_count": collection.passage_count,
                "passages": {
                    "enabled": enabled.unwrap_or_default(), "max_tokens": max_tokens, "overlap_tokens": overlap_tokens,
                },
                "lexical": { "enabled": lexical.enabled.unwrap_or_default(), "language": lexical.language },
                "lexical_file_bytes": collection.lexical_file_bytes, "owner": collection.owner,
                "migration": collection.migration.as_ref().map(migrate::described),
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    if collections.is_empty() {
        return writeln!(out, "no collections");
    }
    let mut table = Table::new([
        ("name", Align::Left),
        ("documents", Align::Right),
        ("passages", Align::Right),
        ("words", Align::Left),
        ("dimensions", Align::Right),
        ("memory", Align::Right),
        ("recall", Align::Right),
        ("model", Align::Left),
    ]);
    for collection in collections {
        table.row([
            table::clean(&collection.name),
            table::count(collection.documents),
            match collection.passages.is_some_and(|passages| passages.enabled == Some(true)) {
                true => table::count(collection.passage_count),
                false => "off".to_owned(),
            },
            match &collection.lexical {
                Some(lexical) if lexical.enabled == Some(true) && lexical.language.is_empty() => "on".to_owned(),
                Some(lexical) if lexical.enabled == Some(true) => table::clean(&lexical.language),
                _ => "off".to_owned(),
            },
            collection.dimensions.to_string(),
            table::bytes(collection.bytes),
            collection.recall.map_or("-".to_owned(), |recall| format!("{recall:.3}")),
            model(collection),
        ]);
    }
    table.write(&mut out, table::stdout_width())
}
