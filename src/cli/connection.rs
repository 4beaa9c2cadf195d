//! The connection of a client command to its server.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::client::{self, Client, Key, Tls};

/// Flags of every client command.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    // Global, so that both may follow a subcommand's subcommand.
    /// Address of the server: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, global = true, env = "COGNATE_ADDR", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub addr: String,
    #[command(flatten)]
    access: Access,
    /// Print one JSON object per line, for other programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// Flags that say how a server is trusted, and how this client is recognised.
#[derive(Debug, Clone, clap::Args)]
pub struct Access {
    /// Authorities that sign the server's certificate, in PEM; default: those of the system; HOST:PORT means TLS then
    #[arg(long, global = true, env = "COGNATE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate of this client, in PEM, for a server that asks for one
    #[arg(long, global = true, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key of the client's certificate, in PEM
    #[arg(long, global = true, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Name that the server's certificate must have, if it is not the host of the address
    #[arg(long, global = true, env = "COGNATE_TLS_NAME", value_name = "NAME")]
    tls_name: Option<String>,
    /// File with the API key; default: the key in the variable COGNATE_KEY
    #[arg(long, global = true, env = "COGNATE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Send the API key to another machine without TLS
    #[arg(long, global = true)]
    insecure: bool,
}

impl Connection {
    /// Prints a result: as JSON for other programs, or as a line for people.
    pub fn print(&self, json: &Value, line: impl fmt::Display) -> io::Result<()> {
        if self.json { writeln!(io::stdout(), "{json}") } else { writeln!(io::stdout(), "{line}") }
    }

    /// Connects. Calls have no time limit.
    pub async fn open(&self) -> anyhow::Result<Client> {
        self.access.open(&self.addr).await
    }

    /// Connects. Connecting and each call may take up to `timeout`.
    pub async fn open_within(&self, timeout: Duration) -> anyhow::Result<Client> {
        let options = client::Options { connect_timeout: timeout, timeout: Some(timeout), ..self.access.options()? };
        Ok(client::connect(&self.addr, &options).await?)
    }
}

impl Access {
    /// Connects to `address`. Calls have no time limit.
    pub async fn open(&self, address: &str) -> anyhow::Result<Client> {
        Ok(client::connect(address, &self.options()?).await?)
    }

    /// The same flags, with another authority and another key where these are given.
    pub fn with(&self, tls_ca: Option<PathBuf>, key_file: Option<PathBuf>) -> Self {
        Self { tls_ca: tls_ca.or(self.tls_ca.clone()), key_file: key_file.or(self.key_file.clone()), ..self.clone() }
    }

    fn options(&self) -> anyhow::Result<client::Options> {
        // An empty variable counts as not given.
        let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let tls = Tls {
            ca: given(&self.tls_ca),
            identity: self.tls_cert.clone().zip(self.tls_key.clone()),
            server_name: self.tls_name.clone().filter(|name| !name.is_empty()),
        };
        let tls = Some(tls).filter(|tls| *tls != Tls::default());
        Ok(client::Options {
            tls,
            key: self.key(given(&self.key_file))?,
            insecure: self.insecure,
            ..Default::default()
        })
    }

    /// The API key: from the file, or from the environment. A flag would show it to everybody on this machine.
    fn key(&self, file: Option<PathBuf>) -> anyhow::Result<Option<Key>> {
        let (text, source) = match file {
            Some(path) => {
                let name = path.display().to_string();
                (std::fs::read_to_string(&path).with_context(|| format!("the key file {name} cannot be read"))?, name)
            }
            None => match std::env::var("COGNATE_KEY") {
                Ok(text) if !text.is_empty() => (text, "COGNATE_KEY".to_owned()),
                _ => return Ok(None),
            },
        };
        Key::parse(&text).map(Some).with_context(|| format!("{source} has no key"))
    }
}
