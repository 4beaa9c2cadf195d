//! `cognate similarity`: how close texts are in meaning.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use super::connection::Connection;
use super::json;
use super::table::{self, Align, Table};
use crate::wire::{SimilarityRequest, SimilarityRow};

/// Compares texts: each with each, or each TEXT with each --b
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cognate similarity \"a small dog\" --b \"a puppy\" \"a kitten\" \"a tax return\"")]
pub struct Args {
    /// Texts: the rows of the table
    #[arg(required = true, value_name = "TEXT")]
    a: Vec<String>,
    /// Texts to compare with: the columns; by default, the rows are compared with each other
    #[arg(long, num_args = 1.., value_name = "TEXT")]
    b: Vec<String>,
    /// Embedding model (see `cognate info`) [default: the server's first]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connection.open().await?;
    let (a, b, model) = (args.a.clone(), args.b.clone(), args.model);
    let request = SimilarityRequest { a, b, model, ..Default::default() };
    let rows = client.similarity(request).await?.rows;
    let b = if args.b.is_empty() { &args.a } else { &args.b };
    let mut out = io::stdout().lock();
    if args.connection.json {
        for (a, row) in args.a.iter().zip(&rows) {
            for (b, &score) in b.iter().zip(&row.scores) {
                writeln!(out, "{}", json!({ "a": a, "b": b, "score": json::number(score) }))?;
            }
        }
    } else {
        table(&args.a, b, &rows).write(&mut out, table::stdout_width())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A table of scores: for one row a list with bars, for several a matrix.
pub fn table(a: &[String], b: &[String], rows: &[SimilarityRow]) -> Table {
    if let [row] = rows {
        let mut table = Table::new([("score", Align::Right), ("", Align::Left), ("text", Align::Left)]);
        for (text, &score) in b.iter().zip(&row.scores) {
            table.row([table::score(score), table::score_bar(score), table::clean(text)]);
        }
        return table;
    }
    let names = b.iter().map(|text| (table::clean(text), Align::Right));
    let mut table = Table::new(std::iter::once((String::new(), Align::Left)).chain(names));
    for (text, row) in a.iter().zip(rows) {
        table.row(std::iter::once(table::clean(text)).chain(row.scores.iter().map(|&score| table::score(score))));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(a: &[&str], b: &[&str], scores: &[&[f32]]) -> String {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let rows: Vec<_> = scores.iter().map(|scores| SimilarityRow { scores: scores.to_vec() }).collect();
        let mut out = Vec::new();
        table(&texts(a), &texts(b), &rows).write(&mut out, None).unwrap();
        console::strip_ansi_codes(&String::from_utf8(out).unwrap()).into_owned()
    }

    #[test]
    fn one_row_is_a_list_with_bars() {
        let expected = " score                    text\n0.5000  ████████          b\n1.0000  ████████████████  c\n";
        assert_eq!(written(&["a"], &["b", "c"], &[&[0.5, 1.0]]), expected);
    }

    #[test]
    fn several_rows_are_a_matrix() {
        let expected = "        one     two\none  1.0000  0.2500\ntwo  0.2500  1.0000\n";
        assert_eq!(written(&["one", "two"], &["one", "two"], &[&[1.0, 0.25], &[0.25, 1.0]]), expected);
    }
}
