//! `cognate completions`: a script by which a shell completes commands and flags.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

/// Prints a script by which a shell completes commands and flags
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate completions bash > ~/.local/share/bash-completion/completions/cognate
  cognate completions zsh > ~/.zfunc/_cognate    # with fpath+=~/.zfunc before compinit
  cognate completions fish > ~/.config/fish/completions/cognate.fish")]
pub struct Args {
    /// Shell that reads the script
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command. `all` is the whole command line.
pub fn run(args: &Args, all: clap::Command) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(&script(args.shell, all))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the script for a shell.
pub fn script(shell: Shell, mut all: clap::Command) -> Vec<u8> {
    let name = all.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut all, name, &mut script);
    script
}
