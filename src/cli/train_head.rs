//! `cognate train-head`: trains a classifier from examples, as a head on the server's embeddings.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use serde_json::{Value, json};

use super::connection::Connection;
use super::input::{InputSource, Location};
use super::new_file::NewFile;
use super::progress;
use super::table::{self, Align, Table};
use super::texts::{self, Feed};
use crate::classifier::head::{self, ClassWeights, Confusion, Examples, Head, MadeFor, TrainOptions, Trained};
use crate::client::{Client, item_error};
use crate::reader::{self, LargeNumbers};
use crate::wire::metadata;
use crate::wire::vector::{self, Values};
use crate::wire::{self as pb, embed_result::Result as Embedded};

/// Most labels for which the confusion matrix is shown.
const MOST_SHOWN: usize = 20;

/// Trains a classifier from labelled texts, as a head on the server's embeddings
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate train-head tickets.csv --output tickets.json
  cognate serve --classifier tickets=tickets.json")]
pub struct Args {
    /// Labelled texts: CSV with a header, or JSON lines; start with about twenty of each label
    #[arg(value_name = "LABELLED")]
    file: PathBuf,
    /// Write the head to this file; - is standard output, and then the report goes to standard error
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Column or field with the text
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_column: String,
    /// Column or field with the label
    #[arg(long, default_value = "label", value_name = "NAME")]
    label_column: String,
    /// Give rare labels the same weight as frequent ones
    #[arg(long)]
    balanced: bool,
    /// Embedding model whose vectors it reads (see `cognate info`) [default: the server's first]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
    /// Penalty on large weights; by default, cross-validation chooses it
    #[arg(long, value_name = "NUMBER")]
    l2: Option<f64>,
    /// Seed for choosing the examples that are held out together
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    seed: u64,
    #[command(flatten)]
    connection: Connection,
}

/// Labelled texts, in the order of the file.
struct Labelled {
    texts: Vec<String>,
    /// Index of each text's label.
    labels: Vec<usize>,
    /// Names of the labels, in byte order.
    names: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (file, text, label) = (args.file.clone(), args.text_column.clone(), args.label_column.clone());
    let labelled = tokio::task::spawn_blocking(move || read(&file, text, &label)).await??;
    let client = args.connection.open().await?;
    let info = client.info(pb::InfoRequest {}).await?;
    let model =
        match &*args.model {
            "" => info.model,
            name => Some(info.models.into_iter().find(|model| model.name == name).with_context(|| {
                format!("the server has no embedding model {name}: `cognate info` lists those it has")
            })?),
        };
    let model = model.unwrap_or_default();
    let vectors = embed(&client, &labelled, &args.model, &info.limits.unwrap_or_default()).await?;

    let options = TrainOptions {
        l2: args.l2,
        class_weights: if args.balanced { ClassWeights::Balanced } else { ClassWeights::Equal },
        seed: args.seed,
    };
    // With a hundred labels, training takes minutes.
    let bar = progress::spinner("{spinner} fitting and validating the head");
    let (labelled, trained) = tokio::task::spawn_blocking(move || {
        let dimensions = vectors.len() / labelled.texts.len();
        let examples = Examples::new(&vectors, dimensions, &labelled.labels, labelled.names.len());
        let trained = head::train(&examples, &groups(&labelled.texts), &labelled.names, &options);
        (labelled, trained)
    })
    .await?;
    bar.finish_and_clear();
    let trained = trained.with_context(|| args.file.display().to_string())?;
    let made_for = MadeFor { model: model.id, fingerprint: model.fingerprint };
    let head = Head::trained(made_for, &labelled.names, &trained)?;
    let mut output = NewFile::create(&args.output)?;
    output.write_all(&head.to_json()).with_context(|| format!("cannot write {}", args.output.display()))?;
    let is_stdout = output.is_stdout();
    output.finish()?;

    // Standard output can carry only one of the two.
    let mut out: Box<dyn Write> = if is_stdout { Box::new(io::stderr().lock()) } else { Box::new(io::stdout().lock()) };
    if args.connection.json {
        writeln!(out, "{}", report(&labelled, &trained))?;
    } else {
        show(&mut out, &args, &labelled, &trained)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the file. A wrong record is an error: a head of the other records is not what was asked for.
fn read(path: &Path, text_column: String, label_column: &str) -> anyhow::Result<Labelled> {
    let source = InputSource::named(path);
    let name = source.to_string();
    ensure!(
        source.format() != reader::Format::Lines,
        "{name}: labels are read from .csv, .tsv and .jsonl files, with a column or field {label_column:?}"
    );
    // Labels are names, so their digits are kept.
    let options = reader::Options {
        text_column: Some(text_column),
        large_numbers: LargeNumbers::Text,
        ..reader::Options::new(source.format(), source.stem())
    };
    let (input, _) = source.open()?;
    let (mut texts, mut given) = (Vec::new(), Vec::new());
    for record in reader::read(input, &options).with_context(|| name.clone())? {
        let record = record.with_context(|| name.clone())?;
        let location = Location { source: name.as_str().into(), line: record.line };
        let document = record.document.with_context(|| location.to_string())?;
        let metadata =
            metadata::to_json(&document.metadata.unwrap_or_default()).with_context(|| location.to_string())?;
        let label = match metadata.get(label_column) {
            Some(Value::String(label)) if !label.trim().is_empty() => label.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(truth)) => truth.to_string(),
            _ => bail!("{location}: there is no label in {label_column:?}: set the column with --label-column"),
        };
        texts.push(document.text);
        given.push(label);
    }
    ensure!(!texts.is_empty(), "{name} has no records");
    let mut numbers: BTreeMap<&str, usize> = given.iter().map(|label| (label.as_str(), 0)).collect();
    numbers.values_mut().enumerate().for_each(|(n, number)| *number = n);
    let labels = given.iter().map(|label| numbers[label.as_str()]).collect();
    let names = numbers.into_keys().map(str::to_owned).collect();
    Ok(Labelled { texts, labels, names })
}

/// Group numbers of the texts: equal texts get equal numbers.
fn groups(texts: &[String]) -> Vec<usize> {
    let mut first = HashMap::new();
    texts.iter().enumerate().map(|(n, text)| *first.entry(text.trim()).or_insert(n)).collect()
}

/// Vectors of the texts, `[texts][dimensions]`, of length 1. A text without a vector is an error.
async fn embed(client: &Client, labelled: &Labelled, model: &str, limits: &pb::Limits) -> anyhow::Result<Vec<f32>> {
    let given: Vec<texts::Text> = labelled.texts.iter().cloned().map(Ok).collect();
    let model = model.to_owned();
    let format = pb::VectorFormat::F32Bytes.into();
    let request = move |texts| pb::EmbedRequest { texts, format, model: model.clone(), ..Default::default() };
    let Feed { requests, chunks } = texts::feed(futures::stream::iter(given), limits, request);
    // The order alone assigns answers to texts.
    drop_all(chunks);
    let mut answers = client.embed_stream(requests).await?;
    let (mut vectors, mut n) = (Vec::new(), 0);
    while let Some(answer) = answers.next().await {
        for result in answer?.results {
            match result.result.context("the server answered a text with neither vector nor error")? {
                Embedded::Error(status) => bail!("text {}: {}", n + 1, item_error(&status)),
                Embedded::Vector(vector) => match vector::read(&vector)? {
                    Values::F32(values) => vectors.extend_from_slice(&values),
                    _ => bail!("the server answered in a format that was not requested"),
                },
            }
            n += 1;
        }
    }
    ensure!(n == labelled.texts.len(), "the server answered {n} of {} texts", labelled.texts.len());
    Ok(vectors)
}

/// Reads a channel to its end, so that its sender never waits.
fn drop_all<T: Send + 'static>(mut channel: tokio::sync::mpsc::Receiver<T>) {
    tokio::spawn(async move { while channel.recv().await.is_some() {} });
}

fn report(labelled: &Labelled, trained: &Trained) -> Value {
    let confusion = &trained.confusion;
    let labels = labelled.names.iter().zip(confusion.scores()).map(|(name, score)| {
        json!({
            "label": name, "texts": score.support, "precision": score.precision, "recall": score.recall, "f1": score.f1,
        })
    });
    json!({
        "texts": labelled.texts.len(), "folds": trained.training.folds, "accuracy": confusion.accuracy(),
        "macro_f1": confusion.macro_f1(), "baseline": confusion.baseline(), "l2": trained.training.l2,
        "labels": labels.collect::<Vec<_>>(), "confusion": confusion.rows().collect::<Vec<_>>(),
    })
}

fn show(out: &mut impl Write, args: &Args, labelled: &Labelled, trained: &Trained) -> io::Result<()> {
    let (confusion, width) = (&trained.confusion, table::stdout_width());
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    writeln!(
        out,
        "{} texts, {} labels; each text by a head that had not seen it, in {} parts:\n",
        labelled.texts.len(),
        labelled.names.len(),
        trained.training.folds
    )?;
    let mut sums = Table::new([("", Align::Left), ("", Align::Right)]);
    sums.row(["right", &*percent(confusion.accuracy())]);
    sums.row(["right, if always the most frequent label", &*percent(confusion.baseline())]);
    sums.row(["macro F1", &*format!("{:.3}", confusion.macro_f1())]);
    sums.write(out, width)?;
    writeln!(out)?;
    let columns = ["label", "texts", "precision", "recall", "F1"];
    let mut by_label = Table::new(columns.map(|name| (name, if name == "label" { Align::Left } else { Align::Right })));
    for (name, score) in labelled.names.iter().zip(confusion.scores()) {
        by_label.row([
            table::clean(name),
            score.support.to_string(),
            percent(score.precision),
            percent(score.recall),
            format!("{:.3}", score.f1),
        ]);
    }
    by_label.write(out, width)?;
    if labelled.names.len() <= MOST_SHOWN {
        writeln!(out)?;
        confusions(confusion, &labelled.names).write(out, width)?;
    }
    if args.output == Path::new("-") {
        return Ok(());
    }
    writeln!(out, "\n{} is written: serve it with --classifier NAME={0}", args.output.display())
}

/// The confusion matrix: a row per label, a column per predicted label.
fn confusions(confusion: &Confusion, names: &[String]) -> Table {
    let columns = names.iter().map(|name| (format!("→ {}", table::clean(name)), Align::Right));
    let mut shown = Table::new(std::iter::once((String::new(), Align::Left)).chain(columns));
    for (name, row) in names.iter().zip(confusion.rows()) {
        shown.row(std::iter::once(table::clean(name)).chain(row.iter().map(usize::to_string)));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn labels_are_numbered_by_their_names_and_may_be_texts_numbers_or_truths() {
        let lines =
            [r#"{"text": "a", "label": "x"}"#, r#"{"text": "b", "label": 3}"#, r#"{"text": "a", "label": true}"#]
                .join("\n");
        let (_directory, path) = file("a.jsonl", &lines);
        let labelled = read(&path, "text".to_owned(), "label").unwrap();
        assert_eq!(labelled.names, ["3", "true", "x"]);
        assert_eq!(labelled.labels, [2, 0, 1]);
        assert_eq!(groups(&labelled.texts), [0, 1, 0]);
    }

    #[test]
    fn columns_have_the_names_that_are_given() {
        let (_directory, path) = file("a.csv", "message,kind\nhello,greeting\n");
        let labelled = read(&path, "message".to_owned(), "kind").unwrap();
        assert_eq!((labelled.texts, labelled.names), (vec!["hello".to_owned()], vec!["greeting".to_owned()]));
        let error = format!("{:#}", read(&path, "message".to_owned(), "label").err().unwrap());
        assert!(error.contains("a.csv:2: there is no label in \"label\""), "{error}");
    }

    #[test]
    fn a_mistake_is_told_by_its_line_whichever_way_lines_end() {
        for end in ["\n", "\r\n", "\r"] {
            let (_directory, path) =
                file("a.csv", &["text,label", "\"one", "two\",x", "", "three,", "four,y"].join(end));
            let error = format!("{:#}", read(&path, "text".to_owned(), "label").err().unwrap());
            assert!(error.contains("a.csv:5: there is no label"), "{end:?}: {error}");
        }
    }

    #[test]
    fn labels_that_are_numbers_too_large_for_a_double_do_not_become_one() {
        let lines =
            [r#"{"text": "a", "label": 100000000000000000001}"#, r#"{"text": "b", "label": 100000000000000000002}"#]
                .join("\n");
        let (_directory, path) = file("a.jsonl", &lines);
        let labelled = read(&path, "text".to_owned(), "label").unwrap();
        assert_eq!(labelled.names, ["100000000000000000001", "100000000000000000002"]);
    }

    #[test]
    fn lines_without_labels_are_no_examples() {
        let (_directory, path) = file("a.txt", "hello\n");
        let error = read(&path, "text".to_owned(), "label").err().unwrap().to_string();
        assert!(error.contains(".csv, .tsv and .jsonl"), "{error}");
    }
}
