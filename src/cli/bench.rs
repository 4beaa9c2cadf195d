//! `cognate bench`: what this machine gives, before anyone decides on it.

mod embed;

use std::process::ExitCode;

/// Measures this machine: latency, throughput, cost
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Embed(embed::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Embed(args) => embed::run(args).await,
    }
}
