//! Which server a client command talks to.

use std::time::Duration;

use crate::client::{self, Client};

/// The flags that every client command has.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    // Global, so that both may stand behind the words of a subcommand's subcommand.
    /// The server: HOST:PORT or http://HOST:PORT
    #[arg(long, global = true, env = "COGNATE_ADDR", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub addr: String,
    /// Print one JSON object per line, for other programs
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connection {
    /// Connects, and waits for answers as long as they take.
    pub async fn open(&self) -> Result<Client, client::Error> {
        client::connect(&self.addr, &client::Options::default()).await
    }

    /// Connects; connecting and each call may take so long.
    pub async fn open_within(&self, timeout: Duration) -> Result<Client, client::Error> {
        client::connect(&self.addr, &client::Options { connect_timeout: timeout, timeout: Some(timeout) }).await
    }
}
