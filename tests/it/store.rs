//! A server whose collections are in a search engine, as far as no engine is needed: its start, its health, and calls
//! while the engine is away. `opensearch.rs` has real ones.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cognate::wire::{BackupRequest, InfoRequest, Query, TopKRequest, query};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::harness::Server;

/// An engine without documents: it answers what a server asks at its start and for its health.
struct Engine {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    answers: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Starts an engine of this version. Port 0: any port.
    fn start(port: u16, version: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let (address, stop) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let answers = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !stopped.load(Ordering::Relaxed)) {
                // A client that left is of no interest.
                let _ = stream.and_then(|stream| answer(&stream, version));
            }
        });
        Self { address, stop, answers: Some(answers) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which then closes the port.
        let _ = TcpStream::connect(self.address);
        let _ = self.answers.take().map(std::thread::JoinHandle::join);
    }
}

/// Answers one request, and closes the connection.
fn answer(mut stream: &TcpStream, version: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = match first.split_whitespace().nth(1).unwrap_or_default() {
        "/" => format!(r#"{{"version": {{"distribution": "opensearch", "number": "{version}"}}}}"#),
        path if path.starts_with("/_cat/plugins") => r#"[{"name": "n", "component": "opensearch-knn"}]"#.to_owned(),
        path if path.starts_with("/_cat/nodes") => r#"[{"name": "n"}]"#.to_owned(),
        path if path.starts_with("/_cluster/health") => r#"{"status": "green", "unassigned_shards": 0}"#.to_owned(),
        _ => "{}".to_owned(),
    };
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn command(store: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--addr", "127.0.0.1:0", "--store", store]).args(more).stdin(Stdio::null());
    command
}

/// Starts a server that must not start, and returns its messages.
fn refused(store: &str, more: &[&str]) -> String {
    let Output { status, stderr, .. } = command(store, more).output().expect("the binary was built with the tests");
    let said = String::from_utf8(stderr).expect("it writes UTF-8");
    assert!(!status.success(), "it started: {said}");
    said
}

async fn until(server: &Server, service: &str, wanted: ServingStatus) {
    let becomes = async {
        while server.health(service).await != Ok(wanted) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let became = tokio::time::timeout(Duration::from_secs(60), becomes).await;
    became.unwrap_or_else(|_| panic!("{service:?} does not become {wanted:?}; its log:\n{}", server.log()));
}

#[test]
fn a_store_that_cannot_be_used_ends_the_start_with_the_reason() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = refused(&format!("opensearch+http://{nobody}"), &[]);
    assert!(
        said.contains(&format!("http://{nobody}/ cannot be reached")) && said.contains("check the address"),
        "{said}"
    );
    let old = Engine::start(0, "1.3.20");
    let said = refused(&format!("opensearch+http://{}", old.address), &[]);
    assert!(said.contains("opensearch 1.3.20") && said.contains("2.19"), "{said}");
    let said = refused("opensearch+http://127.0.0.1:9", &["--data-dir", "d", "--max-documents", "5"]);
    for flag in ["--data-dir", "--max-documents"] {
        assert!(said.contains(&format!("{flag} is given, which applies to collections in this process")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_serving_while_its_engine_is_away_and_serves_again_without_a_restart() {
    let engine = Engine::start(0, "2.19.1");
    let address = engine.address;
    let mut server = Server::of(command(&format!("opensearch+http://{address}"), &["--store-timeout", "2s"]));
    server.wait_until_serving().await;
    let mut client = server.client().await;
    let info = async |mut client: cognate::wire::cognate_client::CognateClient<_>| {
        client.info(InfoRequest {}).await.unwrap().into_inner().storage.unwrap()
    };
    let storage = info(client.clone()).await;
    assert_eq!((storage.engine.as_str(), storage.stopped.as_str()), ("opensearch 2.19.1", ""));
    let refused = client.backup(BackupRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("snapshots"), "{}", refused.message());

    drop(engine);
    for service in ["", "writes"] {
        until(&server, service, ServingStatus::NotServing).await;
    }
    let query = Query { query: Some(query::Query::Text("a text".into())), ..Query::default() };
    let request = TopKRequest { collection: "c".into(), queries: vec![query], k: 1, ..TopKRequest::default() };
    let away = client.top_k(request).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable, "{away}");
    assert!(away.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert!(!info(client).await.stopped.is_empty());

    let _back = Engine::start(address.port(), "2.19.1");
    for service in ["", "writes"] {
        until(&server, service, ServingStatus::Serving).await;
    }
}
