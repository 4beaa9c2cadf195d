//! The bytes of a connection: TCP, TCP with TLS, or a Unix socket. Everything above this file treats them alike.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::tls::TlsStream;

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP without TLS.
    Plain(TcpStream),
    /// TCP with TLS. The handshake is done.
    Tls(Box<TlsStream>),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The identity of the other end, as the transport knows it.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// Its address; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// Its certificate in DER. The chain was verified in the handshake.
    pub certificate: Option<Arc<[u8]>>,
}

/// Calls a method of the stream inside, whichever it is.
macro_rules! of_each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            Stream::Plain($io) => $call,
            Stream::Tls($io) => $call,
            #[cfg(unix)]
            Stream::Unix($io) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        of_each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        of_each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        of_each!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}
