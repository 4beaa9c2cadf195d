//! `cognate facets`: the most frequent values of metadata fields, and figures about their numbers.

use std::io::{self, Write};
use std::process::ExitCode;

use console::style;
use serde_json::{Value, json};

use super::conditions;
use super::connection::Connection;
use super::table::{self, Align, Table};
use crate::wire::{self as pb, metadata};

/// Counts the values of metadata fields: the most frequent ones, and least, greatest and mean of numbers
#[derive(Debug, clap::Args)]
#[command(after_help = "A field is a path, as in --where: author.name, or '\"a.b\"' for a key with a dot. A document \
counts once for each of its different values.

Examples:
  cognate facets words part_of_speech field
  cognate facets words synonyms --limit 3 --where 'part_of_speech = verb'")]
pub struct Args {
    /// Collection to count in
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Fields whose values are counted
    #[arg(required = true, value_name = "FIELD")]
    fields: Vec<String>,
    /// Most values of each field; 0 shows only the figures
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: u32,
    /// Count only documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all hold
    #[arg(long = "where", value_name = "FILTER")]
    conditions: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let field = |path: &String| pb::FacetField { path: Some(path.clone()), limit: Some(args.limit) };
    let request = pb::FacetsRequest {
        collection: args.collection,
        filter: conditions::all(&args.conditions),
        fields: args.fields.iter().map(field).collect(),
    };
    let answer = args.connection.open().await?.facets(request).await?;
    let mut out = io::stdout().lock();
    for facet in &answer.facets {
        if args.connection.json {
            writeln!(out, "{}", line(facet)?)?;
        } else {
            print(&mut out, facet, answer.documents)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(facet: &pb::Facet) -> anyhow::Result<Value> {
    let value = |found: &pb::FacetValue| Ok(json!({ "value": json(found)?, "documents": found.documents }));
    let values = facet.values.iter().map(value).collect::<anyhow::Result<Vec<_>>>()?;
    let numbers = facet
        .numbers
        .map(|numbers| json!({ "count": numbers.count, "min": numbers.min, "max": numbers.max, "mean": numbers.mean }));
    Ok(json!({
        "field": facet.path, "documents": facet.documents, "distinct": facet.distinct, "values": values,
        "numbers": numbers,
    }))
}

fn print(out: &mut impl Write, facet: &pb::Facet, documents: u64) -> anyhow::Result<()> {
    let mut figures = format!(
        "{} of {} documents, {} different values",
        table::count(facet.documents),
        table::count(documents),
        table::count(facet.distinct)
    );
    if let Some(numbers) = &facet.numbers {
        figures.push_str(&format!(", {} to {}, mean {}", numbers.min, numbers.max, numbers.mean));
    }
    writeln!(out, "{}  {}", style(table::clean(&facet.path)).bold(), style(figures).dim())?;
    let mut rows = Table::new([("", Align::Right), ("", Align::Left), ("", Align::Left)]);
    for found in &facet.values {
        let share = found.documents as f32 / facet.documents.max(1) as f32;
        let value = match json(found)? {
            Value::String(text) => table::clean(&text),
            other => other.to_string(),
        };
        rows.row([table::count(found.documents), table::score_bar(share), value]);
    }
    rows.write(out, table::stdout_width())?;
    Ok(writeln!(out)?)
}

fn json(found: &pb::FacetValue) -> anyhow::Result<Value> {
    Ok(found.value.as_ref().map(metadata::value_to_json).transpose()?.unwrap_or_default())
}
