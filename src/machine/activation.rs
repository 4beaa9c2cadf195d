//! The listening socket that the service manager opened for this process (systemd's socket activation).
//!
//! The manager passes sockets as the descriptors from 3 on. `LISTEN_FDS` has their number, and `LISTEN_PID` the process
//! that they are for. Invariant: they are taken once, and only one socket that listens for streams is used.

use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Socket, Type};

/// A socket that accepts connections without blocking.
#[derive(Debug)]
pub enum Activated {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket with a path. Its file is the manager's.
    Unix(UnixListener),
}

/// Takes the one socket of this process.
pub fn take_listener() -> io::Result<Activated> {
    let sockets = take_sockets()?;
    let n = sockets.len();
    let [socket] = <[OwnedFd; 1]>::try_from(sockets).map_err(|_| unexpected(&format!("{n} sockets")))?;
    let socket = Socket::from(socket);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(unexpected("another kind of socket"));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    if address.as_socket().is_some() {
        Ok(Activated::Tcp(socket.into()))
    } else if address.as_pathname().is_some() {
        Ok(Activated::Unix(socket.into()))
    } else {
        Err(unexpected("a socket without port and path"))
    }
}

fn unexpected(found: &str) -> io::Error {
    let text =
        format!("expected one socket of the service manager that listens for streams (Accept=no), found {found}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn take_sockets() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let descriptors = sd_notify::listen_fds()?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: the manager opened these descriptors for this process before it began, and `listen_fds` found them open.
    // Nothing else owns them, because they are taken once, and nobody closes descriptors that it does not own.
    Ok(descriptors.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect())
}
