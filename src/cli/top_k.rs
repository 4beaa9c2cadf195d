//! `cognate top-k`: the nearest documents or candidates to some queries.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use console::style;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

use super::conditions;
use super::connection::Connection;
use super::input;
use super::json;
use super::passages;
use super::table::{self, Align, Table};
use super::words;
use crate::client::{Client, item_error};
use crate::reader::is_json_object;
use crate::wire::metadata;
use crate::wire::{self as pb, query};

/// Finds the nearest in meaning: documents of a collection, or some candidates
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate top-k \"to move through water\" --collection words -k 5
  cognate top-k \"I want my money back\" --candidate Refunds Shipping Passwords
  cognate top-k --id swim.v.01 --collection words --where part_of_speech=noun
  cognate top-k \"a sound\" --collection words --group-by field --diversity 0.3
  cognate top-k \"to move through water\" --collection words --rerank msmarco
  cognate top-k \"error ORA-00942 after an upgrade\" --collection tickets --mode hybrid")]
pub struct Args {
    /// Queries; without any and without --id, one query per line of standard input
    #[arg(value_name = "QUERY")]
    queries: Vec<String>,
    /// Search with the vector of this document
    #[arg(long, value_name = "ID", requires = "collection")]
    id: Vec<String>,
    /// Collection to search
    #[arg(long, short, value_name = "NAME", required_unless_present_any = ["candidate", "candidates"])]
    collection: Option<String>,
    /// Rank these texts instead of a collection
    #[arg(long, num_args = 1.., value_name = "TEXT")]
    candidate: Vec<String>,
    /// Rank the texts of this file (JSONL, CSV or plain lines) instead of a collection
    #[arg(long, value_name = "FILE")]
    candidates: Option<PathBuf>,
    /// Embedding model that compares with candidates (see `cognate info`) [default: the server's first]; a collection
    /// has its own
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
    /// Number of hits per query
    #[arg(short, default_value_t = 10, value_name = "N")]
    k: u32,
    /// Leave out hits with a lower score
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Number of candidates of the graph walk (ef): higher finds more of the true neighbours, at linear cost
    #[arg(long, value_name = "N", conflicts_with_all = ["candidate", "candidates"])]
    ef: Option<u32>,
    /// Compare with every document: finds the true neighbours, at a cost linear in the collection
    #[arg(long, conflicts_with_all = ["ef", "candidate", "candidates"])]
    exact: bool,
    /// Search only documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all
    /// hold
    #[arg(long = "where", value_name = "FILTER")]
    conditions: Vec<String>,
    /// Difference that hits should have from each other, 0 to 1; 0 ranks by score alone
    #[arg(
        long,
        default_value_t = 0.0,
        hide_default_value = true,
        allow_negative_numbers = true,
        value_name = "WEIGHT"
    )]
    diversity: f32,
    /// Return only the best hits of each group of documents with the same value in this metadata field
    #[arg(long, value_name = "FIELD")]
    group_by: Option<String>,
    /// Most hits of one group [default: 1]
    #[arg(long, requires = "group_by", value_name = "N")]
    group_size: Option<u32>,
    /// Show this many of the nearest passages of each hit [default: 1]
    #[arg(long, value_name = "N", conflicts_with_all = ["candidate", "candidates"])]
    passages: Option<u32>,
    /// Order the best hits anew by this reranker of the server (see `cognate info`)
    #[arg(long, value_name = "NAME", conflicts_with = "diversity")]
    rerank: Option<String>,
    /// Number of best hits that the reranker reads [default: 50]
    #[arg(long, requires = "rerank", value_name = "N")]
    rerank_candidates: Option<u32>,
    #[command(flatten)]
    words: words::Search,
    /// Show each hit's metadata
    #[arg(long, conflicts_with_all = ["candidate", "candidates"])]
    with_metadata: bool,
    /// Print each hit's vector; with --json only
    #[arg(long, requires = "json")]
    with_vector: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. Exit code 0 if every query was answered, 1 if not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let has_candidates = !args.candidate.is_empty() || args.candidates.is_some();
    if args.collection.is_some() && has_candidates && args.id.is_empty() {
        bail!("--collection has no effect on candidates: leave it out, or use --id, whose documents it holds");
    }
    let client = args.connection.open().await?;
    let mut request = pb::TopKRequest {
        collection: args.collection.clone().unwrap_or_default(),
        k: args.k,
        candidates: candidates(&args)?,
        min_score: args.min_score,
        params: Some(pb::SearchParams { ef: args.ef.unwrap_or_default(), exact: args.exact }),
        with_text: true,
        with_metadata: args.with_metadata,
        with_vector: args.with_vector,
        vector_format: json::vector_format(args.with_vector),
        filter: conditions::all(&args.conditions),
        diversity: args.diversity,
        group_by: args.group_by.clone().unwrap_or_default(),
        group_size: args.group_size.unwrap_or_default(),
        passages_per_document: args.passages.unwrap_or_default(),
        // The texts of the hits have them.
        with_passage_text: false,
        rerank: args
            .rerank
            .clone()
            .map(|model| pb::Rerank { model, candidates: args.rerank_candidates.unwrap_or_default() }),
        model: args.model.clone(),
        ..Default::default()
    };
    args.words.fill(&mut request);
    let mut queries = Queries::new(&args, &client).await?;
    let mut failed = false;
    while let Some(mut some) = queries.next().await? {
        some.iter_mut().for_each(|query| args.words.fill_query(query));
        request.queries = some;
        let results = client.top_k(request.clone()).await?.results;
        let mut out = io::stdout().lock();
        for (query, result) in request.queries.iter().zip(&results) {
            failed |= result.error.is_some();
            if args.connection.json {
                print_json(&mut out, query, result)?;
            } else {
                print_table(&mut out, query, result)?;
            }
        }
        out.flush()?;
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn candidates(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut texts = args.candidate.clone();
    if let Some(path) = &args.candidates {
        for (location, text) in input::texts(path)? {
            texts.push(text.with_context(|| location.to_string())?);
        }
        if texts.is_empty() {
            bail!("{} holds no candidates", path.display());
        }
    }
    Ok(texts)
}

/// The source of queries: the arguments, or the lines of standard input.
struct Queries {
    given: std::vec::IntoIter<pb::Query>,
    input: Option<Lines<BufReader<Stdin>>>,
    /// Queries per call.
    at_once: usize,
}

impl Queries {
    async fn new(args: &Args, client: &Client) -> anyhow::Result<Self> {
        let texts = args.queries.iter().cloned().map(query::Query::Text);
        let ids = args.id.iter().cloned().map(query::Query::Id);
        let given: Vec<pb::Query> =
            texts.chain(ids).map(|query| pb::Query { query: Some(query), ..Default::default() }).collect();
        let limits = client.info(pb::InfoRequest {}).await?.limits.unwrap_or_default();
        let input = given.is_empty().then(|| BufReader::new(tokio::io::stdin()).lines());
        // A person who types wants each answer at once.
        let at_once = if input.is_some() && io::stdin().is_terminal() {
            1
        } else {
            // 64, which fills the model's batches.
            limits.max_texts.min(limits.max_hits / args.k.max(1)).clamp(1, 64) as usize
        };
        Ok(Self { given: given.into_iter(), input, at_once })
    }

    /// The queries of the next call; `None` at the end.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<pb::Query>>> {
        let mut queries: Vec<pb::Query> = self.given.by_ref().take(self.at_once).collect();
        if let Some(input) = &mut self.input {
            while queries.len() < self.at_once {
                let line = input.next_line().await;
                let Some(line) = line.context("cannot read the queries from standard input")? else { break };
                let line = line.trim_start_matches('\u{feff}');
                ensure!(
                    !is_json_object(line),
                    "standard input holds JSON, and its lines would be taken as queries: \
                     extract the texts first, for example with jq -r .text"
                );
                if !line.trim().is_empty() {
                    queries.push(pb::Query { query: Some(query::Query::Text(line.to_owned())), ..Default::default() });
                }
            }
        }
        Ok((!queries.is_empty()).then_some(queries))
    }
}

fn named(query: &pb::Query) -> (&'static str, &str) {
    match &query.query {
        Some(query::Query::Text(text)) => ("query", text),
        Some(query::Query::Id(id)) => ("query_id", id),
        Some(query::Query::Vector(_)) | None => ("query", ""),
    }
}

fn print_json(out: &mut impl Write, query: &pb::Query, result: &pb::TopKResult) -> anyhow::Result<()> {
    let (kind, name) = named(query);
    if let Some(error) = &result.error {
        writeln!(out, "{}", json!({ kind: name, "error": item_error(error) }))?;
    }
    for (rank, hit) in (1..).zip(&result.hits) {
        let mut fields = Map::new();
        fields.insert(kind.into(), name.into());
        fields.insert("rank".into(), Value::from(rank));
        fields.insert("score".into(), json::number(hit.score));
        if let Some(pb::Scores { vector, lexical, rerank }) = hit.scores {
            let parts = [("vector", vector), ("lexical", lexical), ("rerank", rerank)];
            let given = parts.into_iter().filter_map(|(part, score)| Some((part.to_owned(), json::number(score?))));
            fields.insert("scores".into(), Value::Object(given.collect()));
        }
        match hit.candidate {
            Some(position) => fields.insert("candidate".into(), position.into()),
            None => fields.insert("id".into(), hit.id.clone().into()),
        };
        if let Some(group) = &hit.group {
            fields.insert("group".into(), metadata::value_to_json(group)?);
        }
        fields.insert("text".into(), hit.text.clone().into());
        if let Some(passage) = &hit.passage {
            fields.insert("passage".into(), json::passage(passage)?);
        }
        if !hit.passages.is_empty() {
            let passages = hit.passages.iter().map(json::passage).collect::<anyhow::Result<_>>()?;
            fields.insert("passages".into(), Value::Array(passages));
        }
        json::add_metadata(&mut fields, hit.metadata.as_ref())?;
        json::add_vector(&mut fields, hit.vector.as_ref())?;
        writeln!(out, "{}", Value::Object(fields))?;
    }
    Ok(())
}

fn print_table(out: &mut impl Write, query: &pb::Query, result: &pb::TopKResult) -> anyhow::Result<()> {
    writeln!(out, "{}", style(table::clean(named(query).1)).bold())?;
    match &result.error {
        Some(error) => writeln!(out, "  {}", table::clean(&item_error(error)))?,
        None if result.hits.is_empty() => writeln!(out, "  no hits")?,
        None => hits(&result.hits)?.write(out, table::stdout_width())?,
    }
    Ok(writeln!(out)?)
}

/// Hits as rows: score, bar, group if there is one, the parts of the score if it has some, id or position, text with
/// the passage that matched, and metadata. Further passages of a hit have rows without an id.
pub fn hits(hits: &[pb::Hit]) -> anyhow::Result<Table> {
    let grouped = hits.iter().any(|hit| hit.group.is_some());
    let mut columns = vec![("score", Align::Right), ("", Align::Left), ("id", Align::Left), ("text", Align::Left)];
    let has_parts = hits.iter().any(|hit| hit.scores.is_some());
    if has_parts {
        columns.splice(2..2, [("vector", Align::Right), ("words", Align::Right)]);
    }
    if grouped {
        columns.insert(2, ("group", Align::Left));
    }
    let best = hits.first().map_or(0.0, |best| best.score);
    let mut table = Table::new(columns);
    for hit in hits {
        let id = hit.candidate.map_or_else(|| table::clean(&hit.id), |position| format!("#{position}"));
        let mut text = passages::marked(hit);
        if let Some(metadata) = &hit.metadata {
            let metadata = table::clean(&Value::Object(metadata::to_json(metadata)?).to_string());
            text = format!("{text}  {}", style(metadata).dim());
        }
        let bar = table::score_bar(words::bar_share(hit, best));
        let mut row = vec![table::score(hit.score), bar, id, text];
        if has_parts {
            row.splice(2..2, words::parts(hit));
        }
        if grouped {
            row.insert(2, group(hit)?);
        }
        table.row(row);
        for passage in &hit.passages {
            let (score, text) = (passage.score, passages::text(hit, passage));
            let mut row = vec![table::score(score), table::score_bar(score), String::new(), text];
            if has_parts {
                row.splice(2..2, [String::new(), String::new()]);
            }
            if grouped {
                row.insert(2, String::new());
            }
            table.row(row);
        }
    }
    Ok(table)
}

/// The value of a hit's group; empty if the hit is a group of its own.
fn group(hit: &pb::Hit) -> anyhow::Result<String> {
    Ok(match hit.group.as_ref().map(metadata::value_to_json).transpose()? {
        None => String::new(),
        Some(Value::String(text)) => table::clean(&text),
        Some(value) => value.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_show_ids_or_positions() {
        let document = pb::Hit { id: "swim".into(), score: 0.75, text: "travel\nthrough".into(), ..Default::default() };
        let candidate = pb::Hit { candidate: Some(3), score: -0.1, text: "t".into(), ..Default::default() };
        let mut out = Vec::new();
        hits(&[document, candidate]).unwrap().write(&mut out, None).unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = console::strip_ansi_codes(&out).lines().map(String::from).collect();
        assert_eq!(lines[1], " 0.7500  ████████████      swim  travel through");
        assert_eq!(lines[2], "-0.1000                    #3    t");
    }

    #[test]
    fn the_parts_of_a_score_have_columns_where_there_are_some() {
        let scores = Some(pb::Scores { vector: Some(0.25), lexical: Some(7.5), rerank: None });
        let hit = pb::Hit { id: "a".into(), score: 0.35, scores, text: "t".into(), ..Default::default() };
        let by_words = pb::Scores { lexical: Some(2.0), ..Default::default() };
        let other = pb::Hit { id: "b".into(), score: 0.1, scores: Some(by_words), ..Default::default() };
        let mut out = Vec::new();
        hits(&[hit, other]).unwrap().write(&mut out, None).unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["score", "vector", "words", "id", "text"]);
        assert_eq!(lines[1].last_chunk::<4>(), Some(&["0.2500", "7.5000", "a", "t"]));
        assert_eq!(lines[2].last_chunk::<2>(), Some(&["2.0000", "b"]));
    }

    #[test]
    fn groups_have_a_column_where_there_are_some() {
        let group = |value: Value| Some(metadata::value_from_json(&value));
        let grouped = pb::Hit { id: "a".into(), group: group(json!("x\ty")), ..Default::default() };
        let number = pb::Hit { id: "b".into(), group: group(json!(7)), ..Default::default() };
        let alone = pb::Hit { id: "c".into(), ..Default::default() };
        let mut out = Vec::new();
        hits(&[grouped, number, alone]).unwrap().write(&mut out, None).unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1..], [vec!["0.0000", "x", "y", "a"], vec!["0.0000", "7", "b"], vec!["0.0000", "c"]]);
    }
}
