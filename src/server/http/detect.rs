//! Tells the protocol of a connection by its first bytes.
//!
//! Invariant: no byte is lost: those that were read here are read again from [`Rewound`]. A client gets a
//! sentence if it speaks TLS to a port without it, or speaks without it to a port that has TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// The bytes that begin a connection of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of the record that begins a connection of TLS, and its major version.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 3];

/// The answer to TLS on a port without it. No library of TLS takes it for TLS, and some quote it.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
    content-length: 56\r\n\r\nthis port has no TLS: use an http:// address to call it\n";
/// The answer to plain HTTP/1.1 where TLS is needed.
const NEEDS_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
    content-length: 56\r\n\r\nthis port needs TLS: use an https:// address to call it\n";
/// The answer to HTTP/2 without TLS: empty SETTINGS, and GOAWAY with INADEQUATE_SECURITY and a text.
const NEEDS_TLS_2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x1b\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis port needs TLS";

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1, or anything else.
    Http1,
}

/// Reads the first bytes of a connection, as many as tell its protocol. Fails if it ends before, or if the client
/// speaks TLS.
pub async fn detect<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) -> io::Result<(Detected, Rewound<IO>)> {
    let (mut first, mut read) = ([0; PREFACE.len()], 0);
    let detected = loop {
        match io.read(&mut first[read..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => read += n,
        }
        if first[..read] != PREFACE[..read] {
            break Detected::Http1;
        }
        if read == PREFACE.len() {
            break Detected::Http2;
        }
    };
    if first.starts_with(&TLS_HANDSHAKE) {
        // An error means that the client is gone.
        let _ = io.write_all(NO_TLS).await;
        let _ = io.shutdown().await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks TLS, and this server has none"));
    }
    Ok((detected, Rewound { first, again: 0..read, io }))
}

/// Waits for the first byte of a connection that should begin with TLS. Answers plain HTTP with a sentence and fails.
pub async fn expect_tls(socket: &mut TcpStream) -> io::Result<()> {
    let mut first = [0; 4];
    let n = socket.peek(&mut first).await?;
    let answer = match &first[..n] {
        b"PRI " => NEEDS_TLS_2,
        [b'A'..=b'Z', ..] => NEEDS_TLS,
        _ => return Ok(()),
    };
    let _ = socket.write_all(answer).await;
    Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks plain HTTP, and this port needs TLS"))
}

/// A connection whose first bytes are read again.
#[derive(Debug)]
pub struct Rewound<IO> {
    first: [u8; PREFACE.len()],
    /// The part of them that is to be read again.
    again: std::ops::Range<usize>,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.again.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.again.len().min(buf.remaining());
        let from = self.again.start;
        buf.put_slice(&self.first[from..from + n]);
        self.again.start += n;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol that these bytes are taken for, sent one by one, and the bytes that are read afterwards.
    async fn of(bytes: &[u8]) -> (Option<Detected>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1);
        let sent = bytes.to_owned();
        let sending = tokio::spawn(async move {
            let _ = client.write_all(&sent).await;
            drop(client);
        });
        let Ok((detected, mut io)) = detect(server).await else { return (None, Vec::new()) };
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        sending.await.unwrap();
        (Some(detected), rest)
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_not_lost() {
        let http2 = [&PREFACE[..], b"frames"].concat();
        assert_eq!(of(&http2).await, (Some(Detected::Http2), http2));
        for http1 in ["GET / HTTP/1.1\r\n\r\n", "POST /x HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "x"] {
            assert_eq!(of(http1.as_bytes()).await, (Some(Detected::Http1), http1.as_bytes().to_vec()), "{http1}");
        }
        assert_eq!(of(&PREFACE[..9]).await.0, None, "it ends too early");
    }

    #[tokio::test]
    async fn a_client_that_speaks_tls_gets_a_sentence() {
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        assert!(detect(server).await.unwrap_err().to_string().contains("speaks TLS"));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, NO_TLS);
    }

    #[test]
    fn the_fixed_answers_have_the_lengths_that_they_name() {
        for answer in [NEEDS_TLS, NO_TLS] {
            let text = std::str::from_utf8(answer).unwrap();
            assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), 56, "{text}");
        }
        let goaway = &NEEDS_TLS_2[9..];
        assert_eq!(usize::from(goaway[2]), goaway.len() - 9);
    }
}
