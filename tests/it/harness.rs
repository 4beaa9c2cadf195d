//! A server for a test: the binary as a child process, and stubs that call it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{Document, UploadRequest, UploadResponse};
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::{BadRequest, StatusExt};

use crate::skipped::skipped;

/// The time that a first start may take: the model may have to be fetched.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// The reason to skip what looks at the memory, threads or processor time of the server.
pub const NO_PROC: &str = "this system has no /proc";

/// The variable with the `--store` of all servers that name none. `opensearch_behaviour.rs` sets it.
pub const STORE: &str = "COGNATE_TEST_STORE";

/// Returns true if the servers of this run keep their documents in an engine.
pub fn has_engine() -> bool {
    std::env::var_os(STORE).is_some()
}

/// Returns true, and says why, if a test is skipped because only the local store has what it tests.
pub fn needs_the_local_store(why: &str) -> bool {
    if has_engine() {
        skipped(&format!("not with an engine: {why}"));
    }
    has_engine()
}

/// Makes a prefix that no other server of these tests has: each server has its own collections.
fn own_prefix() -> String {
    static SERVERS: AtomicUsize = AtomicUsize::new(0);
    format!("t{}-{}-", std::process::id(), SERVERS.fetch_add(1, Ordering::Relaxed))
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `cognate serve` with these flags on a free port and waits until it answers calls.
    pub async fn start(flags: &[&str]) -> Self {
        let mut server = Self::spawn(flags);
        server.wait_until_serving().await;
        server
    }

    /// Starts `cognate serve` and returns as soon as its port is open.
    pub fn spawn(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["serve", "--addr", "127.0.0.1:0"]).args(flags);
        let has_store = flags.contains(&"--data-dir") || flags.contains(&"--store");
        let engine = std::env::var(STORE).ok().filter(|_| !has_store);
        if let Some(url) = engine {
            command.args(["--store", &url, "--store-prefix", &own_prefix(), "--store-replicas", "0"]);
            command.args(["--store-refresh-interval", "100ms"]); // a commit waits for it
        } else if !has_store {
            command.arg("--in-memory");
        }
        Self::of(command)
    }

    /// Kills the server at once with SIGKILL, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Returns the id of the server's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command that starts a server and prints its address first.
    pub fn of(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary was built with the tests");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut first = String::new();
        stdout.read_line(&mut first).expect("stdout can be read");
        let addr = first.trim().rsplit(' ').next().and_then(|addr| match addr.starts_with("unix:") {
            // Its test knows the path.
            true => Some(SocketAddr::from(([0, 0, 0, 0], 0))),
            false => addr.parse().ok(),
        });
        // Keeps reading, so that a child with much output is never blocked.
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        let Some(addr) = addr else {
            child.wait().ok();
            std::thread::sleep(Duration::from_millis(100)); // for the last lines of its log
            panic!("no address in {first:?}; its log:\n{}", log.lock().unwrap());
        };
        Self { child, addr, log }
    }

    /// Waits until the health service says SERVING.
    pub async fn wait_until_serving(&mut self) {
        let begun = std::time::Instant::now();
        while self.health("").await != Ok(ServingStatus::Serving) {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                panic!("the server ended with {status}; its log:\n{}", self.log());
            }
            assert!(begun.elapsed() < START_TIMEOUT, "not serving after {START_TIMEOUT:?}; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the health of `service`.
    pub async fn health(&self, service: &str) -> Result<ServingStatus, tonic::Code> {
        let channel = self.channel().await.map_err(|_| tonic::Code::Unavailable)?;
        let request = HealthCheckRequest { service: service.to_owned() };
        let response = HealthClient::new(channel).check(request).await.map_err(|status| status.code())?;
        Ok(response.into_inner().status())
    }

    pub async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Channel::from_shared(format!("http://{}", self.addr)).expect("an address makes a URI");
        endpoint.connect().await
    }

    /// Creates a client with a connection of its own.
    pub async fn client(&self) -> CognateClient<Channel> {
        let channel = self.channel().await.unwrap_or_else(|error| panic!("{error:?}; log:\n{}", self.log()));
        CognateClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
    }

    /// Returns the log of the server so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the server has logged `words`. Log lines arrive a little after the answers.
    pub async fn has_logged(&self, words: &str) {
        self.has_logged_times(words, 1).await;
    }

    /// Waits until the server has logged `words` that many times.
    pub async fn has_logged_times(&self, words: &str, times: usize) {
        let logged = async {
            while self.log().matches(words).count() < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let logged = tokio::time::timeout(Duration::from_secs(30), logged).await;
        logged.unwrap_or_else(|_| panic!("nothing of {words:?} in the log:\n{}", self.log()));
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal by its name for `kill`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    /// Waits for the process to end by itself.
    pub async fn exit_code(&mut self) -> Option<i32> {
        for _ in 0..3000 {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server did not end; its log:\n{}", self.log());
    }

    /// Returns the peak resident memory in bytes, if the system reports it.
    pub fn peak_bytes(&self) -> Option<usize> {
        self.memory_of("VmHWM:")
    }

    /// Returns the resident memory in bytes, if the system reports it.
    pub fn resident_bytes(&self) -> Option<usize> {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, name: &str) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Creates a document with a text.
pub fn document(id: &str, text: &str) -> Document {
    Document { id: id.to_owned(), text: text.to_owned(), ..Document::default() }
}

/// Creates texts that no call has asked for before. Known texts, and those in flight, cost the server nothing.
pub fn new_texts(n: usize, words: usize) -> Vec<String> {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let text = |_| format!("{} {}", ASKED.fetch_add(1, Ordering::Relaxed), "word ".repeat(words));
    (0..n).map(text).collect()
}

/// Uploads documents in one message and returns the last response.
pub async fn upload(client: &mut CognateClient<Channel>, collection: &str, documents: Vec<Document>) -> UploadResponse {
    let message = UploadRequest { collection: collection.to_owned(), documents };
    let responses = upload_all(client, vec![message]).await.expect("the upload succeeds");
    responses.last().expect("an upload has a last response").clone()
}

/// Uploads messages and returns all responses.
pub async fn upload_all(
    client: &mut CognateClient<Channel>,
    messages: Vec<UploadRequest>,
) -> Result<Vec<UploadResponse>, Status> {
    let responses = client.upload(tokio_stream::iter(messages)).await?.into_inner();
    responses.collect::<Result<Vec<_>, _>>().await
}

/// Returns the fields that a status names as wrong.
pub fn wrong_fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().unwrap_or(BadRequest { field_violations: vec![] });
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() as f32
}
