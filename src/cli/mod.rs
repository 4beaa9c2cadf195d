//! The command line: one file for each subcommand.

mod backup;
mod bench;
mod classifiers;
mod classify;
mod collections;
mod completions;
mod conditions;
mod connection;
mod copy;
mod count;
mod demo;
mod embed;
mod export;
mod facets;
mod health;
mod info;
mod input;
mod interrupt;
mod json;
mod keys;
mod man;
mod migrate;
mod model;
mod new_file;
mod npy;
mod passages;
mod progress;
mod rerank;
mod restore;
mod serve;
mod signals;
mod similarity;
mod state_directory;
mod stderr;
mod table;
mod texts;
mod top_k;
mod train_head;
mod unfinished;
mod update;
mod upload;
mod verify;
mod words;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use stderr::say;

/// Text to vectors, similarity, nearest neighbours and labels: one gRPC server with a local model.
///
/// Exit codes: 0 done; 1 done in part (documents were refused, or a service is not serving); 2 not done; 130, 143
/// and 129 if Ctrl-C, SIGTERM or a closed terminal ended it.
#[derive(Debug, Parser)]
#[command(name = "cognate", version, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Model(model::Args),
    Upload(upload::Args),
    TopK(top_k::Args),
    Similarity(similarity::Args),
    Embed(embed::Args),
    Classify(classify::Args),
    Rerank(rerank::Args),
    TrainHead(train_head::Args),
    Collections(collections::Args),
    Count(count::Args),
    Facets(facets::Args),
    Update(update::Args),
    Export(export::Args),
    Copy(copy::Args),
    Migrate(migrate::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Verify(verify::Args),
    Keys(keys::Args),
    Bench(bench::Args),
    Info(info::Args),
    Health(health::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from).and_then(
        |runtime| {
            let done = runtime.block_on(run(cli.command));
            // Tasks that still run in the background have no result to report.
            runtime.shutdown_background();
            done
        },
    );
    done.unwrap_or_else(|error| {
        // The reader of our output has ended, as in `cognate top-k … | head`.
        let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        if error.chain().filter_map(|cause| cause.downcast_ref()).any(closed) {
            return ExitCode::SUCCESS;
        }
        say(&format!("error: {}", sentence(&error)));
        ExitCode::from(2)
    })
}

/// Joins an error and its causes, and leaves out a cause that the text before it quotes already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        before if before.contains(&cause) => said,
        before => format!("{before}: {cause}"),
    })
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Model(args) => tokio::task::spawn_blocking(move || model::run(args)).await?,
        Command::Upload(args) => upload::run(args).await,
        Command::TopK(args) => top_k::run(args).await,
        Command::Similarity(args) => similarity::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Copy(args) => copy::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Restore(args) => tokio::task::spawn_blocking(move || restore::run(&args)).await?,
        Command::Verify(args) => tokio::task::spawn_blocking(move || verify::run(&args)).await?,
        Command::Keys(args) => tokio::task::spawn_blocking(move || keys::run(args)).await?,
        Command::Embed(args) => embed::run(args).await,
        Command::Classify(args) => classify::run(args).await,
        Command::Rerank(args) => rerank::run(args).await,
        Command::TrainHead(args) => train_head::run(args).await,
        Command::Collections(args) => collections::run(args).await,
        Command::Count(args) => count::run(args).await,
        Command::Facets(args) => facets::run(args).await,
        Command::Update(args) => update::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Info(args) => info::run(args).await,
        Command::Health(args) => health::run(args).await,
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::ValueEnum;
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn the_command_line_is_as_clap_wants_it() {
        Cli::command().debug_assert();
    }

    /// The shown commands of a command line, each with the name of its page and its long flags.
    fn commands(of: &clap::Command) -> Vec<(String, Vec<String>)> {
        let flags = of.get_arguments().filter(|flag| !flag.is_hide_set()).filter_map(|flag| flag.get_long());
        let page = of.get_display_name().unwrap_or(of.get_name()).to_owned();
        let inner = of.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help");
        let own = (page, flags.map(str::to_owned).collect());
        std::iter::once(own).chain(inner.flat_map(commands)).collect()
    }

    fn all_commands() -> Vec<(String, Vec<String>)> {
        let mut all = Cli::command();
        all.build();
        let commands = commands(&all);
        assert!(commands.len() > 30 && commands.iter().any(|(page, _)| page == "cognate-collections-documents"));
        commands
    }

    #[test]
    fn each_shell_completes_all_commands_and_flags() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions::script(*shell, Cli::command())).unwrap();
            for (page, flags) in all_commands() {
                let name = page.rsplit_once("cognate-").map_or(&*page, |(_, name)| name);
                // A command of a command stands behind its own in each shell's way.
                assert!(name.split('-').all(|word| script.contains(word)), "{shell}: {name}");
                flags.iter().for_each(|flag| assert!(script.contains(flag.as_str()), "{shell}: {name} --{flag}"));
            }
        }
    }

    #[test]
    fn each_command_has_a_page_with_all_its_flags() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
        for (page, flags) in all_commands() {
            let text = std::fs::read_to_string(folder.path().join(format!("{page}.1"))).expect(&page);
            let text = text.replace('\\', "");
            flags.iter().for_each(|flag| assert!(text.contains(&format!("--{flag}")), "{page}: --{flag}"));
        }
    }

    #[test]
    fn no_cause_is_told_twice() {
        let error = anyhow!("in use").context("cannot listen on port 1: in use; choose another").context("not started");
        assert_eq!(sentence(&error), "not started: cannot listen on port 1: in use; choose another");
        assert_eq!(sentence(&anyhow!("no room").context("cannot write f")), "cannot write f: no room");
    }
}
