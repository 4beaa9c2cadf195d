//! `cognate info`: models, classifiers, rerankers and limits of a server.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use super::connection::Connection;
use super::table::{self, Align, Table};
use crate::wire::{Classifier, InfoRequest, InfoResponse, Limits, Model, Reranker, Storage};

/// Shows a server's version, models, classifiers, rerankers and limits
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let info = args.connection.open().await?.info(InfoRequest {}).await?;
    let mut out = io::stdout().lock();
    if args.connection.json {
        writeln!(out, "{}", json(&info))?;
    } else {
        table(&info).write(&mut out, table::stdout_width())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json(info: &InfoResponse) -> serde_json::Value {
    let limits = info.limits.unwrap_or_default();
    let storage = info.storage.clone().unwrap_or_default();
    json!({
        "version": info.version,
        "model": model_json(&info.model.clone().unwrap_or_default()),
        "models": info.models.iter().map(model_json).collect::<Vec<_>>(),
        "limits": {
            "max_texts": limits.max_texts, "max_text_bytes": limits.max_text_bytes, "max_k": limits.max_k,
            "max_message_bytes": limits.max_message_bytes, "max_id_bytes": limits.max_id_bytes,
            "max_metadata_bytes": limits.max_metadata_bytes, "max_page_size": limits.max_page_size,
            "max_hits": limits.max_hits, "max_stored_bytes": limits.max_stored_bytes,
            "max_documents": limits.max_documents, "max_collection_bytes": limits.max_collection_bytes,
            "max_collection_documents": limits.max_collection_documents,
            "max_queued_tokens": limits.max_queued_tokens, "max_calls": limits.max_calls,
            "max_collections": limits.max_collections,
            "max_resident_bytes": limits.max_resident_bytes,
            "max_collection_fields": limits.max_collection_fields,
            "max_filter_conditions": limits.max_filter_conditions,
            "max_filter_values": limits.max_filter_values, "max_passages": limits.max_passages,
            "max_query_words": limits.max_query_words,
        },
        "storage": {
            "directory": storage.directory, "stopped": storage.stopped, "collections": storage.collections,
            "documents": storage.documents, "memory_bytes": storage.memory_bytes, "file_bytes": storage.file_bytes,
            "free_bytes": storage.free_bytes, "index_file_bytes": storage.index_file_bytes, "recall": storage.recall,
            "engine": storage.engine,
        },
        "classifiers": info.classifiers.iter().map(classifier_json).collect::<Vec<_>>(),
        "rerankers": info.rerankers.iter().map(reranker_json).collect::<Vec<_>>(),
    })
}

fn model_json(model: &Model) -> serde_json::Value {
    json!({
        "name": model.name, "id": model.id, "revision": model.revision, "fingerprint": model.fingerprint,
        "dimensions": model.dimensions, "max_tokens": model.max_tokens, "pooling": model.pooling,
        "device": model.device, "precision": model.precision, "weight_bytes": model.weight_bytes,
    })
}

fn reranker_json(reranker: &Reranker) -> serde_json::Value {
    json!({
        "name": reranker.name, "id": reranker.id, "revision": reranker.revision, "activation": reranker.activation,
        "max_tokens": reranker.max_tokens, "runtime": reranker.runtime, "precision": reranker.precision,
    })
}

fn classifier_json(classifier: &Classifier) -> serde_json::Value {
    json!({
        "name": classifier.name, "id": classifier.id, "revision": classifier.revision, "labels": classifier.labels,
        "problem_type": classifier.problem_type, "max_tokens": classifier.max_tokens, "runtime": classifier.runtime,
        "inputs": classifier.inputs, "outputs": classifier.outputs,
    })
}

fn table(info: &InfoResponse) -> Table {
    let limits: Limits = info.limits.unwrap_or_default();
    let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
    table.row(["version", &*table::clean(&info.version)]);
    // An earlier version names the default alone.
    let only = if info.models.is_empty() { info.model.as_slice() } else { &[] };
    only.iter().chain(&info.models).for_each(|one| model(&mut table, one, info.models.len() > 1));
    for classifier in &info.classifiers {
        table.row(["classifier", &*table::clean(&format!("{} ({})", classifier.name, classifier.id))]);
        table.row(["  labels", &*table::clean(&classifier.labels.join(", "))]);
        table.row(["  reads", &*format!("{} tokens of a text", classifier.max_tokens)]);
        table.row(["  runs on", &*table::clean(&classifier.runtime)]);
        if !classifier.inputs.is_empty() {
            let ports = format!("{} → {}", classifier.inputs.join("; "), classifier.outputs.join("; "));
            table.row(["  graph", &*table::clean(&ports)]);
        }
    }
    for reranker in &info.rerankers {
        table.row(["reranker", &*table::clean(&format!("{} ({})", reranker.name, reranker.id))]);
        table.row(["  reads", &*format!("{} tokens of a pair", reranker.max_tokens)]);
        table.row(["  runs on", &*table::clean(&format!("{} in {}", reranker.runtime, reranker.precision))]);
    }
    storage(&mut table, &info.storage.clone().unwrap_or_default());
    table.row(["limits", ""]);
    for (name, value) in [
        ("texts in a request", table::count(limits.max_texts.into())),
        ("a text", table::bytes(limits.max_text_bytes)),
        ("a message", table::bytes(limits.max_message_bytes)),
        ("an id or a name", table::bytes(limits.max_id_bytes.into())),
        ("passages of a text", table::count(limits.max_passages.into())),
        ("words of a query", table::count(limits.max_query_words.into())),
        ("a document's metadata", table::bytes(limits.max_metadata_bytes)),
        ("k", table::count(limits.max_k.into())),
        ("queries times k", table::count(limits.max_hits.into())),
        ("documents on a page", table::count(limits.max_page_size.into())),
        ("all that is stored", bounds(limits.max_documents, limits.max_stored_bytes)),
        ("a collection", bounds(limits.max_collection_documents, limits.max_collection_bytes)),
        ("collections", bound(limits.max_collections)),
        ("fields of a collection", bound(limits.max_collection_fields)),
        ("conditions of a filter", table::count(limits.max_filter_conditions.into())),
        ("memory of the server", bound_bytes(limits.max_resident_bytes)),
        ("tokens waiting", table::count(limits.max_queued_tokens)),
        ("calls at one time", table::count(limits.max_calls.into())),
    ] {
        table.row([format!("  {name}"), value]);
    }
    table
}

fn model(table: &mut Table, model: &Model, has_name: bool) {
    let of_name = if has_name { format!("{} ({})", model.name, model.id) } else { model.id.clone() };
    table.row(["model", &*table::clean(&of_name)]);
    table.row(["  revision", &*table::clean(&model.revision)]);
    table.row(["  fingerprint", &*table::clean(&model.fingerprint)]);
    table.row(["  vectors", &*format!("{} dimensions, {} pooling", model.dimensions, table::clean(&model.pooling))]);
    table.row(["  reads", &*format!("{} tokens of a text", model.max_tokens)]);
    let runs = format!("{} in {}", table::clean(&model.device), table::clean(&model.precision));
    let weights =
        if model.weight_bytes == 0 { String::new() } else { format!(", {}", table::bytes(model.weight_bytes)) };
    table.row(["  runs on", &*format!("{runs}{weights}")]);
}

fn storage(table: &mut Table, storage: &Storage) {
    let documents = format!(
        "{} documents in {} collections, {} of memory",
        table::count(storage.documents),
        table::count(storage.collections),
        table::bytes(storage.memory_bytes)
    );
    table.row(["stored", &*documents]);
    if let Some(recall) = storage.recall {
        table.row([
            "  found",
            &*format!("{:.1} % of true neighbours, in the collection where it is least", 100.0 * recall),
        ]);
    }
    let is_engine = !matches!(storage.engine.as_str(), "" | "local");
    if storage.directory.is_empty() {
        let place = if is_engine { table::clean(&storage.engine) } else { "memory alone".to_owned() };
        table.row(["  in", &*place]);
        if is_engine {
            table.row(["  disk", &*format!("{} used, without copies", table::bytes(storage.file_bytes))]);
            stopped(table, storage);
        }
        return;
    }
    table.row(["  in", &*table::clean(&storage.directory)]);
    let disk = format!(
        "{} used, {} of it by indexes; {} free",
        table::bytes(storage.file_bytes + storage.index_file_bytes),
        table::bytes(storage.index_file_bytes),
        table::bytes(storage.free_bytes)
    );
    table.row(["  disk", &*disk]);
    stopped(table, storage);
}

fn stopped(table: &mut Table, storage: &Storage) {
    if !storage.stopped.is_empty() {
        table.row(["  NO WRITES", &*table::clean(&storage.stopped)]);
    }
}

/// Prints a limit; 0 is no limit.
fn bound(n: u64) -> String {
    if n == 0 { "no limit".to_owned() } else { table::count(n) }
}

/// Prints a limit in bytes; 0 is no limit.
fn bound_bytes(bytes: u64) -> String {
    if bytes == 0 { "no limit".to_owned() } else { table::bytes(bytes) }
}

/// Prints a limit in documents and bytes; 0 is no limit.
fn bounds(documents: u64, bytes: u64) -> String {
    match (documents, bytes) {
        (0, 0) => "no limit".to_owned(),
        (0, bytes) => table::bytes(bytes),
        (documents, 0) => format!("{} documents", table::count(documents)),
        (documents, bytes) => format!("{} documents, {}", table::count(documents), table::bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_every_field_of_the_response_under_its_own_name() {
        let info = InfoResponse {
            version: "1.2.3".into(),
            model: Some(Model { id: "m".into(), dimensions: 384, ..Default::default() }),
            models: vec![Model { name: "n".into(), weight_bytes: 5, ..Default::default() }],
            limits: Some(Limits { max_calls: 7, ..Default::default() }),
            storage: Some(Storage { directory: "/data".into(), ..Default::default() }),
            classifiers: vec![Classifier { name: "c".into(), labels: vec!["a".into()], ..Default::default() }],
            rerankers: vec![Reranker { name: "r".into(), ..Default::default() }],
        };
        let json = json(&info);
        assert_eq!((&json["version"], &json["model"]["dimensions"]), (&"1.2.3".into(), &384.into()));
        assert_eq!((&json["limits"]["max_calls"], &json["storage"]["directory"]), (&7.into(), &"/data".into()));
        assert_eq!((&json["classifiers"][0]["name"], &json["classifiers"][0]["labels"][0]), (&"c".into(), &"a".into()));
        assert_eq!(json["rerankers"][0]["name"], "r");
        assert_eq!((&json["models"][0]["name"], &json["models"][0]["weight_bytes"]), (&"n".into(), &5.into()));
        let debug = format!("{info:?}");
        let fields =
            debug.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).filter(|word| word.starts_with("max_"));
        for field in fields {
            assert!(!json["limits"][field].is_null() || !json["model"][field].is_null(), "{field}");
        }
    }
}
