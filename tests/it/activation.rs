//! A socket that a service manager opens and passes to the server.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::certificates::{Authority, call_at, trusting};
use crate::harness::Server;

/// The command of a server that gets `n` descriptors of this socket, as the service manager passes them.
fn activated(socket: impl Into<OwnedFd>, n: usize, flags: &[&str]) -> Command {
    // The shell keeps its process when it becomes the server.
    let redirections: String = (3..3 + n).map(|descriptor| format!(" {descriptor}<&0")).collect();
    let script = format!("export LISTEN_PID=$$ LISTEN_FDS={n}; exec \"$0\" \"$@\"{redirections} </dev/null");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_cognate"), "serve", "--in-memory", "--addr", "systemd"]);
    command.args(flags).stdin(Stdio::from(socket.into()));
    command
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_the_service_manager_is_served_and_outlives_the_server() {
    let (listener, authority) = (port(), Authority::new());
    let addr = listener.local_addr().unwrap();
    let flags = authority.valid().flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for flags in [&[][..], &flags] {
        let mut server = Server::of(activated(listener.try_clone().unwrap(), 1, flags));
        assert_eq!(server.addr, addr);
        let tls = (!flags.is_empty()).then(|| trusting(&authority.ca()));
        call_at(&addr.to_string(), tls).await.unwrap();
        server.terminate();
        assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
    }
    // Nobody serves it now, and a connection waits for the next server.
    let waiting = tokio::spawn(async move { call_at(&addr.to_string(), None).await });
    let _server = Server::of(activated(listener, 1, &[]));
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_of_the_service_manager_is_served_and_its_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let mut server = Server::of(activated(UnixListener::bind(&path).unwrap(), 1, &[]));
    call_at(&format!("unix:{}", path.display()), None).await.unwrap();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
    assert!(path.exists());
}

#[test]
fn anything_but_one_listening_socket_is_refused_with_what_was_found() {
    let directory = tempfile::tempdir().unwrap();
    let unix = || UnixListener::bind(directory.path().join("socket")).unwrap();
    let authority = Authority::new();
    let flags = authority.valid().flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for (command, words) in [
        (activated(port(), 0, &[]), "found 0 sockets"),
        (activated(port(), 2, &[]), "found 2 sockets"),
        (activated(std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), 1, &[]), "found another kind of socket"),
        (activated(std::net::TcpStream::connect(port().local_addr().unwrap()).unwrap(), 1, &[]), "another kind"),
        (activated(std::fs::File::open("/dev/null").unwrap(), 1, &[]), "non-socket"),
        (activated(unix(), 1, &flags), "TLS is for TCP"),
    ] {
        let text = refused(command);
        assert!(text.contains(words) && text.contains("cannot listen on systemd"), "{words} is not in: {text}");
    }
}

#[test]
fn a_socket_of_all_networks_is_no_way_for_keys_without_tls() {
    let keys = crate::keys::Keys::new();
    keys.create("a", "read", &[]);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let text = refused(activated(listener, 1, &["--keys", keys.path.to_str().unwrap()]));
    assert!(text.contains("keys would cross the network unencrypted to 0.0.0.0:"), "{text}");
}
