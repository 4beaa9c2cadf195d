//! TLS: who is served, and what a fault says.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cognate::client::{self, Client, Key, Options, Tls};
use cognate::wire::InfoRequest;

use crate::certificates::{Authority, Pair, call, call_at, connect, fault, serve, trusting, write_secret};
use crate::harness::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trusts_the_authority_is_served_and_another_one_learns_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (server, plain) = (serve(&authority.valid(), &[]), Server::spawn(&[]));
    call(&server, trusting(&authority.ca())).await.unwrap();

    let untrusted = fault(call(&server, trusting(&other.ca())).await);
    assert!(untrusted.contains("not trusted") && untrusted.contains("--tls-ca"), "{untrusted}");
    let https = |host: &str, server: &Server| format!("https://{host}:{}", server.addr.port());
    let unnamed = fault(call_at(&https("localhost", &server), Some(trusting(&authority.ca()))).await);
    assert!(unnamed.contains("other names") && unnamed.contains("--tls-name"), "{unnamed}");
    let named = Tls { server_name: Some("127.0.0.1".to_owned()), ..trusting(&authority.ca()) };
    call_at(&https("localhost", &server), Some(named)).await.unwrap();
    let without_tls = fault(call_at(&format!("http://{}", server.addr), None).await);
    assert!(without_tls.contains("https://"), "{without_tls}");
    let with_tls = fault(call_at(&https("127.0.0.1", &plain), Some(trusting(&authority.ca()))).await);
    assert!(with_tls.contains("http://") && with_tls.contains("no TLS"), "{with_tls}");
    assert!(!plain.log().contains("WARN") && !server.log().contains("WARN"), "{}{}", plain.log(), server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_need_a_certificate_of_the_authority_where_it_is_required() {
    let (authority, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let ca = clients.ca();
    let with_ca = ["--tls-client-ca", ca.to_str().unwrap()];
    let required = serve(&authority.valid(), &with_ca);
    let optional = serve(&authority.valid(), &[&with_ca[..], &["--tls-client-auth", "optional"]].concat());
    let identity = |pair: Pair| Tls { identity: Some((pair.certificate, pair.key)), ..trusting(&authority.ca()) };

    for server in [&required, &optional] {
        call(server, identity(clients.valid())).await.unwrap();
        let foreign = fault(call(server, identity(other.valid())).await);
        assert!(foreign.contains("client certificate"), "{foreign}");
        let expired = fault(call(server, identity(clients.sign("127.0.0.1", 2020))).await);
        assert!(expired.contains("client certificate"), "{expired}");
    }
    let missing = fault(call(&required, trusting(&authority.ca())).await);
    assert!(missing.contains("client certificate") && missing.contains("--tls-cert"), "{missing}");
    call(&optional, trusting(&authority.ca())).await.unwrap();
}

/// Runs a server that cannot start. Returns its words.
fn refused_at(address: &str, flags: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let output = command.args(["serve", "--in-memory", "--addr", address]).args(flags).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

fn refused(flags: &[&str]) -> String {
    refused_at("127.0.0.1:0", flags)
}

#[test]
fn files_that_cannot_be_used_end_the_start_with_their_names_and_the_reason() {
    let authority = Authority::new();
    let (good, other) = (authority.valid(), authority.valid());
    let empty = authority.directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let fault_of = |certificate: &Path, key: &Path| {
        let pair = Pair { certificate: certificate.to_owned(), key: key.to_owned() };
        refused(&pair.flags().each_ref().map(String::as_str))
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();

    let expired = authority.sign("127.0.0.1", 2020);
    for (text, file, reason) in [
        (fault_of(&good.certificate, &other.key), &other.key, "is not the key of the first certificate"),
        (fault_of(&expired.certificate, &expired.key), &expired.certificate, "valid from"),
        (fault_of(&empty, &good.key), &empty, "has no certificate"),
        (fault_of(&good.certificate, &empty), &empty, if cfg!(unix) { "others can read" } else { "no private key" }),
        (fault_of(&good.key, &good.key), &good.key, "has no certificate"),
        (fault_of(Path::new("missing.crt"), &good.key), &PathBuf::from("missing.crt"), "cannot be read"),
    ] {
        assert!(text.contains(&name(file)) && text.contains(reason), "{reason} of {} is not in: {text}", name(file));
    }
    let certificate = good.certificate.to_str().unwrap();
    assert!(refused(&["--tls-cert", certificate]).contains("tls_cert is given without tls_key"));
    assert!(refused(&["--tls-client-ca", certificate]).contains("client certificates need TLS"));
}

#[cfg(unix)]
#[test]
fn authorities_that_others_can_write_are_refused() {
    use std::os::unix::fs::PermissionsExt;

    let authority = Authority::new();
    let (pair, ca) = (authority.valid(), authority.ca());
    let flags = [&pair.flags()[..], &["--tls-client-ca".to_owned(), ca.to_str().unwrap().to_owned()]].concat();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(&ca, PermissionsExt::from_mode(mode)).unwrap();
        let text = refused(&flags);
        assert!(text.contains(&format!("mode {mode:03o}")) && text.contains("chmod 644"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused_and_one_for_a_group_is_not() {
    use std::os::unix::fs::PermissionsExt;

    let authority = Authority::new();
    let pair = authority.valid();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (mode, accepted) in [(0o644, false), (0o604, false), (0o660, false), (0o640, true), (0o400, true)] {
        std::fs::set_permissions(&pair.key, PermissionsExt::from_mode(mode)).unwrap();
        // The address is in use, which ends the start after the files were read.
        let text = refused_at(&taken, &pair.flags().each_ref().map(String::as_str));
        assert_eq!(!text.contains(&format!("mode {mode:03o}")), accepted, "{mode:o}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_wrong_or_does_not_end_is_cut_off_quietly() {
    let authority = Authority::new();
    let server = serve(&authority.valid(), &["--handshake-timeout", "2s"]);
    // A record of TLS that promises 512 bytes, of which two come; and bytes that are no TLS.
    let half = &[0x16, 3, 1, 2, 0, 1, 0][..];
    let wrong = [half, &[0x16], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b""].map(|bytes| {
        let mut stream = std::net::TcpStream::connect(server.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        (bytes, stream)
    });
    for (bytes, mut stream) in wrong {
        // The end of the connection, with an alert before it or an error.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 200, "{answer:?}");
        let plain_http = bytes.starts_with(b"GET") || bytes.starts_with(b"PRI");
        assert_eq!(String::from_utf8_lossy(&answer).contains("this port needs TLS"), plain_http, "{answer:?}");
    }
    call(&server, trusting(&authority.ca())).await.unwrap();
    assert!(!server.log().contains("WARN") && !server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_crosses_a_network_only_with_tls_or_if_that_is_asked_for() {
    let key = Some(Key::parse("cgn_secret").unwrap());
    let options = Options { key, connect_timeout: Duration::from_millis(1), ..Options::default() };
    let refused = client::connect("http://192.0.2.1:50051", &options).await.unwrap_err().to_string();
    assert!(refused.contains("https://") && refused.contains("--insecure") && !refused.contains("secret"), "{refused}");
    // The address leads nowhere.
    for address in ["https://192.0.2.1:50051", "127.0.0.1:1", "unix:/nobody/listens"] {
        let lost = client::connect(address, &options).await.unwrap_err();
        assert!(!matches!(lost, client::Error::KeyWithoutTls { .. }), "{lost}");
    }
    let insecure = Options { insecure: true, ..options };
    let lost = client::connect("http://192.0.2.1:50051", &insecure).await.unwrap_err();
    assert!(matches!(lost, client::Error::Connect { .. }), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_take_their_authority_and_certificate_from_flags() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (ca, client_ca, pair) = (authority.ca(), clients.ca(), clients.valid());
    let server = serve(&authority.valid(), &["--tls-client-ca", client_ca.to_str().unwrap()]);
    let command = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["health", "--addr", &server.addr.to_string(), "--tls-ca", ca.to_str().unwrap()]).args(flags);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let flags = pair.flags();
    // The model is not awaited, so the server may serve or not; it answers.
    let answer = command(&flags.each_ref().map(String::as_str));
    assert!(["serving\n", "not serving\n"].contains(&answer.as_str()), "{answer}");
    let refused = command(&[]);
    assert!(refused.contains("client certificate"), "{refused}");
}

#[cfg(unix)]
mod unix_socket {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    use super::*;

    fn serve(path: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["serve", "--in-memory", "--addr", &format!("unix:{}", path.display())]);
        Server::of(command)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_socket_is_private_and_its_file_goes_with_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        // A server that was killed leaves its socket.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut server = serve(&path);
        let address = format!("unix:{}", path.display());
        call_at(&address, None).await.unwrap();
        let file = std::fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);

        let second = refused_at(&address, &[]);
        assert!(second.contains(&address) && second.contains("in use"), "{second}");
        call_at(&address, None).await.unwrap();
        server.terminate();
        assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = refused_at(&format!("unix:{}", file.path().display()), &[]);
        assert!(text.contains("no socket") && file.path().exists(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_stands_for_the_principal_that_the_keys_file_names() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let keys = clients.directory.path().join("keys.toml");
    let entry = "[[certificates]]\ncertificate = \"Indexer.example\"\nname = \"indexer\"\nrole = \"read\"\n";
    write_secret(&keys, &format!("version = 1\n{entry}"));
    let ca = clients.ca();
    let flags = ["--tls-client-ca", ca.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
    let server = serve(&authority.valid(), &flags);
    let client = async |name: &str| {
        let Pair { certificate, key } = clients.sign(name, 2999);
        let tls = Tls { identity: Some((certificate, key)), ..trusting(&authority.ca()) };
        connect(&server.addr.to_string(), Some(tls)).await.unwrap()
    };
    // The model need not be loaded: a caller that is not known is refused before that matters.
    let is_known = async |client: &Client| {
        let failure = client.info(InfoRequest {}).await.err().map(|error| error.to_string()).unwrap_or_default();
        !failure.contains("needs a valid key")
    };
    let (indexer, other) = (client("indexer.example").await, client("other.example").await);
    assert!(is_known(&indexer).await && !is_known(&other).await);
    write_secret(&keys, &format!("version = 1\n{}", entry.replace("Indexer", "other")));
    server.has_logged("reloaded the keys").await;
    assert!(!is_known(&indexer).await && is_known(&other).await);
}
