//! A server whose collections are in a search engine, as far as no engine is needed: its start, its health, and calls
//! while the engine is away. `opensearch.rs` has real ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cognate::wire::{BackupRequest, InfoRequest, MigrateCollectionRequest, Query, TopKRequest, query};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::certificates::{Authority, Pair};
use crate::harness::Server;

/// The time for which an engine waits for a client.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answers of an engine, and the credentials that it asks for.
#[derive(Clone, Default)]
struct Kind {
    version: &'static str,
    /// Connections have TLS.
    tls: Option<Arc<ServerConfig>>,
    /// The header `authorization` of each request.
    authorization: Option<&'static str>,
}

const TRIED: Kind = Kind { version: "2.19.1", tls: None, authorization: None };

/// An engine without documents: it answers what a server asks at its start and for its health.
struct Engine {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    answers: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Starts an engine. Port 0: any port.
    fn start(port: u16, kind: Kind) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let (address, stop) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let answers = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !stopped.load(Ordering::Relaxed)) {
                // A client that left is of no interest.
                let _ = stream.and_then(|stream| serve(stream, &kind));
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
fn serve(mut stream: TcpStream, kind: &Kind) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let Some(tls) = &kind.tls else { return answer(&mut stream, kind) };
    let connection = ServerConnection::new(Arc::clone(tls)).expect("the configuration is sound");
    let mut stream = StreamOwned::new(connection, stream);
    let answered = answer(&mut stream, kind);
    stream.conn.send_close_notify();
    let _ = stream.flush();
    // Closing before the client does would take an alert away from it.
    let _ = stream.sock.read_to_end(&mut Vec::new());
    answered
}

fn answer(mut stream: impl Read + Write, kind: &Kind) -> std::io::Result<()> {
    let mut lines = BufReader::new(&mut stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut authorization = None;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        authorization = line.strip_prefix("authorization: ").map(str::to_owned).or(authorization);
    }
    drop(lines);
    if kind.authorization.is_some_and(|wanted| authorization.as_deref() != Some(wanted)) {
        let head = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 12";
        return write!(stream, "{head}\r\n\r\nUnauthorized");
    }
    let version = kind.version;
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

/// TLS with a certificate of an authority, for clients with one of another.
fn tls(own: &Authority, clients: &Authority) -> Arc<ServerConfig> {
    let Pair { certificate, key } = own.valid();
    let certificates =
        |path: &Path| CertificateDer::pem_file_iter(path).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let (mut roots, provider) = (RootCertStore::empty(), Arc::new(default_provider()));
    roots.add_parsable_certificates(certificates(&clients.ca()));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier.build().unwrap());
    Arc::new(config.with_single_cert(certificates(&certificate), PrivateKeyDer::from_pem_file(key).unwrap()).unwrap())
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
    let old = Engine::start(0, Kind { version: "1.3.20", ..TRIED });
    let said = refused(&format!("opensearch+http://{}", old.address), &[]);
    assert!(said.contains("opensearch 1.3.20") && said.contains("2.19"), "{said}");
    let said = refused("opensearch+http://127.0.0.1:9", &["--data-dir", "d", "--max-documents", "5"]);
    for flag in ["--data-dir", "--max-documents"] {
        assert!(said.contains(&format!("{flag} is given, which applies to collections in this process")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_with_tls_is_asked_with_the_certificate_and_trusted_by_the_authority_that_are_set() {
    let (authority, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let engine = Engine::start(0, Kind { tls: Some(tls(&authority, &clients)), ..TRIED });
    let store = format!("opensearch+https://{}", engine.address);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let with = |ca: &Authority, client: Option<Pair>| {
        let pair = client.into_iter().flat_map(|Pair { certificate, key }| {
            ["--store-cert".to_owned(), path(&certificate), "--store-key".to_owned(), path(&key)]
        });
        ["--store-ca".to_owned(), path(&ca.ca())].into_iter().chain(pair).collect::<Vec<_>>()
    };
    let flags = with(&authority, Some(clients.valid()));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Server::of(command(&store, &flags));
    server.has_logged("collections are in a search engine").await;
    assert!(!server.log().contains("WARN"), "{}", server.log());
    drop(server);

    for (flags, reason) in [
        (with(&other, Some(clients.valid())), "invalid peer certificate"),
        (with(&authority, Some(other.valid())), "fatal alert"),
        (with(&authority, None), "fatal alert: CertificateRequired"),
        (vec![], "invalid peer certificate"),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let said = refused(&store, &flags);
        assert!(said.contains(reason) && said.contains("the certificates that it asks for"), "{reason}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_the_engine_and_into_no_log() {
    let engine = Engine::start(0, Kind { authorization: Some("Basic dTpzZWNyZXQ="), ..TRIED });
    let store = format!("opensearch+http://{}", engine.address);
    let with = |password: &str| {
        let mut command = command(&store, &["--store-user", "u", "--log", "trace"]);
        command.env("COGNATE_STORE_PASSWORD", password);
        command
    };
    let server = Server::of(with("secret"));
    server.has_logged("collections are in a search engine").await;
    let log = server.log();
    assert!(log.contains("the password of store_user crosses the network unencrypted"), "{log}");
    let Output { stderr, .. } = with("another").output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(said.contains("401 Unauthorized") && said.contains("the user"), "{said}");
    for secret in ["secret", "dTpzZWNyZXQ", "another", "dTphbm90aGVy"] {
        assert!(!log.contains(secret) && !said.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_serving_while_its_engine_is_away_and_serves_again_without_a_restart() {
    let engine = Engine::start(0, TRIED);
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
    let migration = MigrateCollectionRequest { collection: "c".into(), model: "default".into(), ..Default::default() };
    let refused = client.migrate_collection(migration).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("`cognate copy`"), "{}", refused.message());

    drop(engine);
    for service in ["", "writes"] {
        until(&server, service, ServingStatus::NotServing).await;
    }
    let query = Query { query: Some(query::Query::Text("a text".into())), ..Query::default() };
    let request = TopKRequest { collection: "c".into(), queries: vec![query], k: 1, ..TopKRequest::default() };
    let away = client.top_k(request).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable, "{away}");
    assert!(away.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    let stopped = info(client).await.stopped;
    assert!(stopped.contains("cannot be reached"), "{stopped}");
    // The address is for those who read the log.
    for said in [away.message(), &stopped] {
        assert!(!said.contains("127.0.0.1") && !said.contains(&address.port().to_string()), "{said}");
    }
    assert!(server.log().contains(&format!("http://{address}/ cannot be reached")), "{}", server.log());

    let _back = Engine::start(address.port(), TRIED);
    for service in ["", "writes"] {
        until(&server, service, ServingStatus::Serving).await;
    }
}
