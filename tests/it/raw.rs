//! HTTP/2 by hand: clients that do what no gRPC library does.

use std::io::{Read, Write};
use std::net::TcpStream as BlockingStream;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::Server;

/// A connection without gRPC.
pub struct Raw {
    send: SendRequest<Bytes>,
    /// The end of the connection.
    pub closed: JoinHandle<Result<(), h2::Error>>,
}

/// The result of a call.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub http: u16,
    /// The gRPC status; `None` if it is missing.
    pub grpc: Option<i32>,
    pub message: String,
    pub bytes: usize,
}

impl Raw {
    /// Connects. The server may send `window` bytes ahead on each stream.
    pub async fn connect(server: &Server, window: u32) -> Self {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (send, connection) =
            builder.initial_window_size(window).handshake::<_, Bytes>(stream).await.expect("the server speaks HTTP/2");
        Self { send, closed: tokio::spawn(connection) }
    }

    /// Begins a call to `path`, with more headers than the usual ones.
    pub async fn begin(&mut self, path: &str, headers: &[(&str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.expect("the connection is open");
        let mut request = Request::builder().method("POST").uri(format!("http://server{path}"));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send.send_request(request.header("te", "trailers").body(()).unwrap(), false).expect("a request can be sent")
    }

    /// Calls `path` with `body`, and waits for its end.
    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Outcome {
        let (response, mut stream) = self.begin(path, headers).await;
        // An error means that the answer came before the whole body.
        let _ = stream.send_data(body.into(), true);
        outcome(response).await
    }
}

/// Reads the answer of a call as far as the windows allow.
pub async fn outcome(response: ResponseFuture) -> Outcome {
    let response = tokio::time::timeout(Duration::from_secs(60), response).await.expect("an answer comes").unwrap();
    let (head, body) = response.into_parts();
    let rest = rest(body);
    let (bytes, trailers) = tokio::time::timeout(Duration::from_secs(60), rest).await.expect("an answer ends");
    let trailers = if head.headers.contains_key("grpc-status") { head.headers } else { trailers };
    let text = |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned());
    Outcome {
        http: head.status.as_u16(),
        grpc: text("grpc-status").map(|code| code.parse().unwrap()),
        message: text("grpc-message").unwrap_or_default().replace("%20", " "),
        bytes,
    }
}

async fn rest(mut body: RecvStream) -> (usize, HeaderMap) {
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let Ok(data) = data else { break };
        bytes += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    (bytes, body.trailers().await.ok().flatten().unwrap_or_default())
}

/// Returns a message behind the header that gRPC gives it.
pub fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = promise(flag, bytes.len());
    message.extend(bytes);
    message
}

/// Returns the header of a message of `length` bytes.
pub fn promise(flag: u8, length: usize) -> Vec<u8> {
    let mut head = vec![flag];
    head.extend(u32::try_from(length).unwrap().to_be_bytes());
    head
}

/// Returns an HTTP/2 frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends the preface of a connection and then `flood`, as far as the server takes it. Returns the codes of all GOAWAY
/// frames until the connection ends.
pub fn goaways_after(server: &Server, flood: &[u8]) -> Vec<u32> {
    let mut stream = BlockingStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        // A connection that is cut may end in an error.
        while let Ok(n) = reader.read(&mut buffer) {
            if n == 0 {
                break;
            }
            all.extend(&buffer[..n]);
        }
        all
    });
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    // An error means that the server has closed the connection.
    let _ = stream.write_all(flood);
    let bytes = reading.join().unwrap();
    let (mut rest, mut codes) = (&bytes[..], Vec::new());
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        if *kind == 7 {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = after;
    }
    codes
}
