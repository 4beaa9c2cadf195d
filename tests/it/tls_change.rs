//! Files of TLS that change while the server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cognate::client::{Client, Tls};
use cognate::wire::{EmbedRequest, InfoRequest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::certificates::{Authority, Pair, call, connect, fault, serve, trusting, write_secret};
use crate::harness::{Server, new_texts};

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_under_load_without_a_failed_call_or_stream() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = old.directory.path().join("both.pem");
    std::fs::write(&both, old.issuer.pem() + &new.issuer.pem()).unwrap();
    let pair = old.valid();
    let server = Arc::new(serve(&pair, &[]));
    let trusted = trusting(&both);
    while !connect(&server.addr.to_string(), Some(trusted.clone())).await.unwrap().health("").await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = Load { address: server.addr.to_string(), trusted, stop: stop.clone(), calls: calls.clone() };
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        callers.spawn(load.clone().calls(Connections::Kept));
        callers.spawn(load.clone().calls(Connections::New));
        callers.spawn(load.clone().stream());
    }
    let other = old.valid();
    for (round, authority) in [&new, &old, &new].into_iter().enumerate() {
        let next = authority.valid();
        // The key of another certificate comes first: it is refused, and the pair before stays in force.
        let faults = server.log().matches("cannot be reloaded").count();
        write_secret(&pair.key, &std::fs::read_to_string(&other.key).unwrap());
        server.has_logged_times("is not the key of the first certificate", faults + 1).await;
        pair.become_(&next);
        if round == 1 {
            server.signal("-HUP");
        }
        let begun = std::time::Instant::now();
        while call(&server, trusting(&authority.ca())).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "not reloaded; log:\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let untrusted = fault(call(&server, trusting(&old.ca())).await);
    assert!(untrusted.contains("not trusted"), "{untrusted}");
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call and no stream failed");
    }
    assert!(calls.load(Ordering::Relaxed) > 10);
}

/// Callers of a server until they are stopped. They panic when a call fails.
#[derive(Clone)]
struct Load {
    address: String,
    trusted: Tls,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Connections {
    Kept,
    New,
}

impl Load {
    async fn client(&self) -> Client {
        connect(&self.address, Some(self.trusted.clone())).await.unwrap()
    }

    fn goes_on(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }

    async fn calls(self, connections: Connections) {
        let mut client = self.client().await;
        while self.goes_on() {
            if connections == Connections::New {
                client = self.client().await;
            }
            client.info(InfoRequest {}).await.unwrap();
        }
    }

    /// One stream from the beginning to the end.
    async fn stream(self) {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let client = self.client().await;
        let mut answers = client.embed_stream(ReceiverStream::new(receiver)).await.unwrap();
        while self.goes_on() {
            requests.send(EmbedRequest { texts: new_texts(2, 8), ..EmbedRequest::default() }).await.unwrap();
            assert_eq!(answers.next().await.unwrap().unwrap().results.len(), 2);
        }
        drop(requests);
        assert!(answers.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_new_pair_is_an_error_in_the_log_and_the_old_one_stays() {
    let authority = Authority::new();
    let (pair, other) = (authority.valid(), authority.valid());
    let server = serve(&pair, &[]);
    write_secret(&pair.key, &std::fs::read_to_string(&other.key).unwrap());
    server.has_logged("cannot be reloaded").await;
    assert!(server.log().contains("is not the key of the first certificate"), "{}", server.log());
    call(&server, trusting(&authority.ca())).await.unwrap();
    write_secret(&pair.certificate, &std::fs::read_to_string(&other.certificate).unwrap());
    server.has_logged("reloaded TLS").await;
    call(&server, trusting(&authority.ca())).await.unwrap();
}

/// A client that resumes sessions where it can.
fn resuming(authority: &Authority, identity: Option<&Pair>) -> TlsConnector {
    speaking(authority, identity, &[b"h2"])
}

/// A client that speaks these protocols above TLS.
pub fn speaking(authority: &Authority, identity: Option<&Pair>, protocols: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Connects, and reads the head of the server's first frame, with which the tickets for resumption come. `None`:
/// refused.
async fn open(server: &Server, connector: &TlsConnector) -> Option<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), socket).await.ok()?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.ok()?;
    let length = read_head(&mut stream).await?;
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some(stream)
}

async fn handshake(server: &Server, connector: &TlsConnector) -> Option<HandshakeKind> {
    open(server, connector).await?.get_ref().1.handshake_kind()
}

/// Reads the head of a frame. Returns the length of its content.
async fn read_head(stream: &mut TlsStream<TcpStream>) -> Option<usize> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    Some(usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]))
}

/// Reads frames until the connection ends.
async fn ended(mut stream: TlsStream<TcpStream>) {
    while let Some(length) = read_head(&mut stream).await {
        if stream.read_exact(&mut vec![0; length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_until_the_files_change() {
    let authority = Authority::new();
    let pair = authority.valid();
    let (server, client) = (serve(&pair, &[]), resuming(&authority, None));
    assert_eq!(handshake(&server, &client).await, Some(HandshakeKind::Full));
    assert_eq!(handshake(&server, &client).await, Some(HandshakeKind::Resumed));
    pair.become_(&authority.valid());
    server.has_logged("reloaded TLS").await;
    assert_eq!(handshake(&server, &client).await, Some(HandshakeKind::Full));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_removed_authority_is_refused_and_resumes_no_session() {
    let (authority, clients, successor) = (Authority::new(), Authority::new(), Authority::new());
    let ca = clients.ca();
    let server = serve(&authority.valid(), &["--tls-client-ca", ca.to_str().unwrap()]);
    let client = resuming(&authority, Some(&clients.valid()));
    for _ in 0..2 {
        assert_eq!(handshake(&server, &client).await, Some(HandshakeKind::Full));
    }
    std::fs::write(&ca, successor.issuer.pem()).unwrap();
    server.has_logged("reloaded TLS").await;
    assert_eq!(handshake(&server, &client).await, None);
    let new = resuming(&authority, Some(&successor.valid()));
    assert_eq!(handshake(&server, &new).await, Some(HandshakeKind::Full));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_ends_when_its_authority_is_removed_and_those_of_others_do_not() {
    let (authority, stays, goes) = (Authority::new(), Authority::new(), Authority::new());
    let ca = stays.directory.path().join("clients.pem");
    std::fs::write(&ca, stays.issuer.pem() + &goes.issuer.pem()).unwrap();
    let server = serve(&authority.valid(), &["--tls-client-ca", ca.to_str().unwrap()]);
    let connection = async |of: &Authority| open(&server, &resuming(&authority, Some(&of.valid()))).await.unwrap();
    let (staying, going) = (connection(&stays).await, connection(&goes).await);
    let mut staying = Box::pin(ended(staying));
    std::fs::write(&ca, stays.issuer.pem()).unwrap();
    tokio::select! {
        going = tokio::time::timeout(Duration::from_secs(60), ended(going)) => going.expect("it ends"),
        () = &mut staying => panic!("a connection ended whose authority stays"),
    }
    server.has_logged("reloaded TLS").await;
    // What would end it was put in force at the same time.
    assert!(tokio::time::timeout(Duration::from_millis(300), staying).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_warns_of_a_certificate_that_expires_soon_at_the_start_and_when_it_is_replaced() {
    let authority = Authority::new();
    let in_days = |days: u64| {
        let left = Duration::from_hours(24 * days + 1);
        authority.sign_until("127.0.0.1", OffsetDateTime::now_utc() + left)
    };
    let pair = in_days(5);
    let server = serve(&pair, &[]);
    server.has_logged("expires at").await;
    assert!(server.log().contains("in 5 days"), "{}", server.log());
    pair.become_(&authority.valid());
    server.has_logged("reloaded TLS").await;
    pair.become_(&in_days(3));
    server.has_logged("in 3 days").await;
    assert_eq!(server.log().matches("WARN").count(), 2, "{}", server.log());
}
