//! The address on which the server listens: a TCP address, with or without TLS, a Unix socket, or the socket of the
//! service manager.
//!
//! Invariants: a socket file of ours belongs to its user alone, replaces only a socket on which nobody listens, and is
//! removed with its listener. A server whose callers send keys does not listen on a network without TLS, unless it was
//! told to.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use super::http::detect::expect_tls;
use super::stream::Stream;
use super::tls::{Accepted, Chain, Tls};
#[cfg(target_os = "linux")]
use crate::machine::activation::{self, Activated};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The socket that the service manager opened, whose address is known when it is taken.
    Activated,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Activated => f.write_str("systemd"),
        }
    }
}

impl Address {
    /// Returns true if only this machine can connect, as far as the address tells.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
            Self::Activated => false,
        }
    }

    /// The way out when it cannot be listened on.
    fn advice(&self) -> &'static str {
        match self {
            Self::Tcp(_) | Self::Unix(_) => "another server may use this address: choose another with --addr",
            Self::Activated => "start the server by its .socket unit, or give an address with --addr",
        }
    }
}

/// The server cannot listen on the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}", .address.advice())]
pub struct BindError {
    address: Address,
    source: io::Error,
}

/// An open listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// TLS of new connections.
    pub(super) tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// A Unix socket. Its file is removed with it if it is ours.
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// A connection before its handshake.
#[derive(Debug)]
pub enum Incoming {
    /// A TCP connection.
    Tcp(TcpStream, SocketAddr),
    /// A connection of a Unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Listener {
    /// Listens on the address; port 0 takes a free one. TLS is for TCP alone.
    pub async fn bind(address: &Address, tls: Option<Arc<Tls>>) -> Result<Self, BindError> {
        let socket = match address {
            Address::Tcp(tcp) => TcpListener::bind(tcp).await.map(Socket::Tcp),
            #[cfg(unix)]
            Address::Unix(path) => {
                SocketFile::listen(path).map(|(listener, file)| Socket::Unix { listener, _file: Some(file) })
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::Error::other("this system has no Unix sockets")),
            Address::Activated => activated(tls.is_some()),
        };
        let socket = socket.map_err(|source| BindError { address: address.clone(), source })?;
        Ok(Self { socket, tls })
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            #[cfg(unix)]
            Socket::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or_else(|| io::Error::other("the socket has no path"))?;
                Ok(Address::Unix(path.to_owned()))
            }
        }
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Incoming> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Fails only if the connection is already closed; its first read reports that.
                let _ = stream.set_nodelay(true);
                Ok(Incoming::Tcp(stream, address))
            }
            #[cfg(unix)]
            Socket::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Incoming::Unix(stream)),
        }
    }
}

/// The socket of the service manager.
#[cfg(target_os = "linux")]
fn activated(with_tls: bool) -> io::Result<Socket> {
    match activation::take_listener()? {
        Activated::Tcp(listener) => TcpListener::from_std(listener).map(Socket::Tcp),
        Activated::Unix(_) if with_tls => {
            Err(io::Error::other("tls_cert is given, and the socket is a Unix socket: TLS is for TCP, give only one"))
        }
        Activated::Unix(listener) => {
            UnixListener::from_std(listener).map(|listener| Socket::Unix { listener, _file: None })
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn activated(_: bool) -> io::Result<Socket> {
    Err(io::Error::other("this system has no systemd"))
}

impl Incoming {
    /// The address of the other end; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Does the handshake of TLS, if the server has TLS. Returns the client's certificates too, if it has any.
    pub async fn open(self, tls: Option<&Tls>) -> io::Result<(Stream, Option<Chain>)> {
        Ok(match (self, tls) {
            (Self::Tcp(socket, _), None) => (Stream::Plain(socket), None),
            (Self::Tcp(mut socket, _), Some(tls)) => {
                expect_tls(&mut socket).await?;
                let Accepted { stream, chain } = tls.accept(socket).await?;
                (Stream::Tls(Box::new(stream)), chain)
            }
            #[cfg(unix)]
            (Self::Unix(socket), _) => (Stream::Unix(socket), None),
        })
    }
}

/// The file of a Unix socket. It is removed when this is dropped.
#[cfg(unix)]
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode, because another server may have replaced the file.
    id: (u64, u64),
}

#[cfg(unix)]
impl SocketFile {
    fn listen(path: &std::path::Path) -> io::Result<(UnixListener, Self)> {
        use std::os::unix::fs::FileTypeExt;

        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket has this name"));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            // Its server ended without removing it.
            Ok(_) => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        // The file must never be open to others, not even for a moment, so its mode is not changed afterwards.
        let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(mask);
        let listener = listener?;
        let id = Self::id(path)?;
        Ok((listener, Self { path: path.to_owned(), id }))
    }

    fn id(path: &std::path::Path) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;

        std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::id(&self.path).is_ok_and(|id| id == self.id) {
            // A file that stays is removed by the next server.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
