//! The connection of a client command to its server.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, Client};

/// Flags of every client command.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    // Global, so that both may follow a subcommand's subcommand.
    /// Address of the server: HOST:PORT or http://HOST:PORT
    #[arg(long, global = true, env = "COGNATE_ADDR", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub addr: String,
    /// Print one JSON object per line, for other programs
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connection {
    /// Prints a result: as JSON for other programs, or as a line for people.
    pub fn print(&self, json: &Value, line: impl fmt::Display) -> io::Result<()> {
        if self.json { writeln!(io::stdout(), "{json}") } else { writeln!(io::stdout(), "{line}") }
    }

    /// Connects. Calls have no time limit.
    pub async fn open(&self) -> Result<Client, client::Error> {
        client::connect(&self.addr, &client::Options::default()).await
    }

    /// Connects. Connecting and each call may take up to `timeout`.
    pub async fn open_within(&self, timeout: Duration) -> Result<Client, client::Error> {
        client::connect(&self.addr, &client::Options { connect_timeout: timeout, timeout: Some(timeout) }).await
    }
}
