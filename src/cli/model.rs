//! `cognate model`: fetches a model before it is needed.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::ProgressStyle;

use super::progress;
use crate::classifier::ClassifierSource;
use crate::config::{Config, Flags};
use crate::embedder::Spec;
use crate::model::{self, Card, ClassifierCard, Event, Files, LocateError, RerankerCard};

/// Fetches a model before it is needed
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch models onto this machine and print their properties; with --classifier and --reranker, those too
    Fetch(Fetch),
}

#[derive(Debug, clap::Args)]
struct Fetch {
    /// Hub id or directory. By default, the models that `serve` would use
    #[arg(conflicts_with = "model")]
    id: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

/// Fetches a model, and prints its directory and its properties.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Fetch(Fetch { id, flags }) = args.command;
    let config = Config::load(&flags)?;
    let mut models = config.models;
    if let (Some(id), Some(first)) = (id, models.first_mut()) {
        first.model.source = id;
    }
    let mut out = io::stdout().lock();
    let has_names = models.len() > 1;
    for Spec { name, model } in &models {
        let files = fetch(model)?;
        let card = Card::read(&files, &config.embedder.arithmetic())?;
        let of_name = if has_names { format!("{name} ({})", card.id) } else { card.id };
        writeln!(out, "model        {of_name}")?;
        writeln!(out, "revision     {}", card.revision)?;
        writeln!(out, "directory    {}", files.directory.display())?;
        writeln!(out, "from         {}", files.origin)?;
        writeln!(out, "dimensions   {}", card.dimensions)?;
        writeln!(out, "max tokens   {}", card.max_tokens)?;
        writeln!(out, "pooling      {}", card.pooling)?;
        writeln!(out, "fingerprint  {}", card.fingerprint)?;
    }
    for spec in &config.classifier.specs {
        let ClassifierSource::Model(options) = &spec.source else { continue };
        let files = fetch(options)?;
        let card = ClassifierCard::read(&files)?;
        writeln!(out, "classifier   {} ({})", spec.name, card.id)?;
        writeln!(out, "revision     {}", card.revision)?;
        writeln!(out, "directory    {}", files.directory.display())?;
        writeln!(out, "from         {}", files.origin)?;
        writeln!(out, "max tokens   {}", card.max_tokens)?;
        writeln!(out, "labels       {}", card.labels.map_or_else(|| "none".to_owned(), |labels| labels.join(", ")))?;
    }
    for spec in &config.reranker.specs {
        let files = fetch(&spec.model)?;
        let card = RerankerCard::read(&files)?;
        writeln!(out, "reranker     {} ({})", spec.name, card.id)?;
        writeln!(out, "revision     {}", card.revision)?;
        writeln!(out, "directory    {}", files.directory.display())?;
        writeln!(out, "from         {}", files.origin)?;
        writeln!(out, "max tokens   {}", card.max_tokens)?;
        writeln!(out, "activation   {}", card.function)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Finds a model, with a progress bar if standard error is a terminal. Blocks.
pub fn fetch(options: &model::Options) -> Result<Files, LocateError> {
    let bar = progress::spinner("{spinner} {msg}");
    let bytes = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .expect("the template is valid, which a test checks");
    let located = model::locate(options, &mut |event| match event {
        Event::Asking { origin, place } => bar.set_message(format!("looking for the model: {origin} {place}")),
        Event::Waiting => bar.set_message("another process is fetching the model"),
        Event::Bytes { done, total } => {
            bar.set_style(bytes.clone());
            bar.set_length(total);
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    located
}

#[cfg(test)]
mod tests {
    #[test]
    fn fetching_a_directory_needs_no_network_and_a_missing_one_is_named() {
        let options =
            crate::model::Options { source: "./no/such/model".to_owned(), offline: true, ..Default::default() };
        let error = super::fetch(&options).unwrap_err().to_string();
        assert!(error.contains("./no/such/model"), "{error}");
    }
}
