//! One connection from its first bytes to its end.
//!
//! Invariants: a connection that does not tell its protocol in time is closed. The protocol decides the driver,
//! [`http2`] or [`http1`]; both end a connection by the timers of [`super::lifetime`], and each call runs in its own
//! task ([`super::call`]), so a connection never computes.

use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::accept::ConnectionPermit;
use super::frames::Seen;
use super::http::detect::{Detected, Rewound, detect};
use super::http::{http1, http2};
use super::lifetime::Opened;
use super::listen::Incoming;
use super::peer::Peer;
use super::served::Served;
use super::stream::{Remote, Stream};
use super::tls::Chain;

/// Serves a connection until it ends. `stop` becomes true when the server stops: then calls in progress continue, and
/// new ones are not accepted.
pub async fn serve(served: Arc<Served>, incoming: Incoming, permit: ConnectionPermit, stop: watch::Receiver<bool>) {
    let options = served.options;
    let due = Instant::now() + options.handshake_timeout;
    let (detected, io, remote, chain) = match tokio::time::timeout_at(due, open(incoming, &served)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return tracing::debug!("a connection ends in its handshake: {reason}"),
        Err(_) => return tracing::debug!("a connection did not finish its handshake in time"),
    };
    let peer = Peer::new(served.memory.of_connection(options.max_message_bytes), remote);
    let opened = Opened { peer, seen: Arc::new(Seen::new()), due, options };
    // Counts the connection as open until it is over: the server waits until the last receiver is dropped.
    let open = stop.clone();
    let driven = async {
        match detected {
            Detected::Http2 => http2::serve(served, io, opened, stop).await,
            Detected::Http1 => http1::serve(served, io, opened, stop).await,
        }
    };
    tokio::select! {
        () = driven => {}
        () = refused(chain) => tracing::debug!("a connection is cut off: its client certificate is no longer accepted"),
    }
    drop((permit, open));
}

/// Resolves when the client's certificates are no longer accepted.
async fn refused(chain: Option<Chain>) {
    match chain {
        Some(chain) => chain.refused().await,
        None => pending().await,
    }
}

/// Does the handshake of TLS, and reads the first bytes.
async fn open(incoming: Incoming, served: &Served) -> io::Result<(Detected, Rewound<Stream>, Remote, Option<Chain>)> {
    let address = incoming.address();
    let (stream, chain) = incoming.open(served.tls.as_deref()).await?;
    let remote = Remote { address, certificate: chain.as_ref().map(|chain| chain.certificate().into()) };
    let (detected, io) = detect(stream).await?;
    Ok((detected, io, remote, chain))
}
