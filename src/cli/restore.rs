//! `cognate restore`: makes a data directory from a backup.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::collection::disk::{self, Options};

/// Makes a data directory from a backup; every page and every document is checked first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Backup file, as written by `cognate backup`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Data directory to create; one that has documents is left alone
    #[arg(long, env = "COGNATE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Runs the command. Blocks.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    disk::restore(&args.file, &args.data_dir, &Options::default())?;
    let directory = args.data_dir.display();
    writeln!(io::stdout(), "{directory} is ready: cognate serve --data-dir {directory}")?;
    Ok(ExitCode::SUCCESS)
}
