//! A server for a bench: the binary in a child process, and its client.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cognate::wire::EmbedRequest;
use cognate::wire::cognate_client::CognateClient;
use tonic::transport::Channel;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A server on a free port. It ends when this value is dropped.
pub struct Server {
    child: Child,
    addr: String,
}

impl Server {
    /// Runs `cognate serve` with these flags and without the cache of vectors.
    pub fn start(flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["serve", "--addr", "127.0.0.1:0", "--log", "error", "--embed-cache-bytes", "0"]);
        let mut child = command.args(flags).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("standard output is not a pipe")?).read_line(&mut line)?;
        let addr = line.split_whitespace().last().ok_or("the server printed no address")?;
        Ok(Self { child, addr: format!("http://{addr}") })
    }

    /// Waits until the model is ready, and returns a client.
    pub async fn client(&self) -> Result<CognateClient<Channel>> {
        let mut client = CognateClient::connect(self.addr.clone()).await?.max_decoding_message_size(1 << 30);
        loop {
            let request = EmbedRequest { texts: vec!["ready?".to_owned()], ..EmbedRequest::default() };
            match client.embed(request).await {
                Ok(_) => return Ok(client),
                Err(status) if status.code() == tonic::Code::Unavailable => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error changes nothing: the bench is over.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
