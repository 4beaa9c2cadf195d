//! `cognate bench`: measures a machine before you decide to use it.

mod classify;
mod embed;
mod passes;
mod report;
mod search;
mod top_k;
mod vectors;
mod workload;

use std::process::ExitCode;

/// Measures this machine: latency, throughput, cost, recall
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Embed(embed::Args),
    Classify(classify::Args),
    TopK(top_k::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Embed(args) => embed::run(args).await,
        Command::Classify(args) => classify::run(args).await,
        Command::TopK(args) => tokio::task::spawn_blocking(move || top_k::run(&args)).await?,
    }
}
