//! `cognate man`: pages for `man`, one for each command.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Writes pages for `man` into a folder, one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate man ~/.local/share/man/man1 && man cognate-serve
  cognate man pages && man pages/cognate.1")]
pub struct Args {
    /// Folder of the pages, which is created if it does not exist; earlier pages in it are replaced
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs the command. `all` is the whole command line.
pub fn run(args: &Args, all: clap::Command) -> anyhow::Result<ExitCode> {
    let (folder, name) = (&args.folder, all.get_name().to_owned());
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(all, folder));
    written.with_context(|| format!("cannot write the pages into {}", folder.display()))?;
    writeln!(io::stdout(), "{}", folder.join(format!("{name}.1")).display())?;
    Ok(ExitCode::SUCCESS)
}
