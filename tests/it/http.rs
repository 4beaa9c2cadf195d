//! HTTP by hand, for tests of calls without gRPC: requests over HTTP/1.1, written and read as bytes.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::Server;

/// The time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The messages in the body, each behind its head, with their flags.
    pub fn framed(&self) -> Vec<(u8, &[u8])> {
        let (mut rest, mut framed) = (&self.body[..], Vec::new());
        while let [flag, a, b, c, d, after @ ..] = rest {
            let (message, after) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
            framed.push((*flag, message));
            rest = after;
        }
        assert!(rest.is_empty(), "bytes behind the last message");
        framed
    }
}

/// A connection.
pub struct Http<IO = TcpStream> {
    io: BufReader<IO>,
}

impl Http {
    pub async fn connect(server: &Server) -> Self {
        Self::over(TcpStream::connect(server.addr).await.expect("the server listens"))
    }

    /// A connection on which little is received before it is read.
    pub async fn connect_narrow(server: &Server) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(server.addr).await.expect("the server listens"))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Http<IO> {
    pub fn over(io: IO) -> Self {
        Self { io: BufReader::new(io) }
    }

    /// Sends bytes. The server may have closed the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.io.get_mut().write_all(bytes.as_ref()).await;
    }

    /// Sends a POST and reads its answer.
    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.send(post(path, headers, body)).await;
        self.answer().await
    }

    /// Calls an rpc with JSON.
    pub async fn json(&mut self, rpc: &str, body: &str) -> Answer {
        self.post(&format!("/cognate.v1.Cognate/{rpc}"), &[("content-type", "application/json")], body).await
    }

    /// Reads an answer.
    pub async fn answer(&mut self) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.try_answer()).await.expect("an answer comes");
        answer.expect("the answer is complete")
    }

    /// Reads an answer to a request that is no HEAD; `None` if the connection ends before its end.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        self.rest(head).await
    }

    /// Reads the body of an answer with this head.
    pub async fn rest(&mut self, (status, headers): (u16, Vec<(String, String)>)) -> Option<Answer> {
        let mut answer = Answer { status, headers, body: Vec::new() };
        if answer.header("transfer-encoding") == "chunked" {
            loop {
                let length = usize::from_str_radix(&self.line().await?, 16).expect("the length of a chunk");
                let mut chunk = vec![0; length];
                self.io.read_exact(&mut chunk).await.ok()?;
                answer.body.extend(chunk);
                self.line().await?;
                if length == 0 {
                    return Some(answer);
                }
            }
        }
        let length = answer.header("content-length").parse().unwrap_or(0);
        answer.body = vec![0; length];
        self.io.read_exact(&mut answer.body).await.ok()?;
        Some(answer)
    }

    /// Reads the head of an answer.
    pub async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status = self.line().await?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { return Some((status, headers)) };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Returns true if the server closes the connection without a further byte.
    pub async fn is_closed(&mut self) -> bool {
        let end = tokio::time::timeout(PATIENCE, self.io.read(&mut [0; 64])).await.expect("the connection ends");
        !matches!(end, Ok(1..))
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.io.read_u8().await.ok()?);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).ok()
    }
}

/// A POST.
pub fn post(path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: server\r\ncontent-length: {}\r\n", body.as_ref().len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    [request.as_bytes(), b"\r\n", body.as_ref()].concat()
}
