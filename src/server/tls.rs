//! TLS of the server: its handshakes, and the exchange of its files while connections stay open.
//!
//! Invariants: each handshake takes one whole configuration, so a certificate never meets the key or the authorities of
//! another. Sessions are resumed only in the configuration that began them, and never where clients have certificates:
//! a resumed session would not check the certificate again. An open connection ends when a new configuration does not
//! accept its client's certificate. A handshake is computed where it arrives: it takes about a millisecond of a thread.

mod expiry;
mod files;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use expiry::Expiry;
pub use files::{Clients, Error, Options};

use super::reload::Reloadable;
use files::Loaded;

/// A TCP connection with TLS.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Time and bytes for a client to read why its handshake failed, and to close the connection.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Interval of the look at the end of the certificate.
const REMINDER_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The TLS configuration in force.
#[derive(Debug)]
pub struct Tls {
    options: Options,
    current: watch::Sender<Arc<Loaded>>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream,
    /// The client's certificate and those that it sent with it; `None`: it has none.
    pub chain: Option<Chain>,
}

/// The certificates of a client, as the configuration of its handshake accepted them.
#[derive(Debug)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    changes: watch::Receiver<Arc<Loaded>>,
}

impl Tls {
    /// Reads the files.
    pub fn load(options: Options) -> Result<Self, Error> {
        let current = watch::Sender::new(Arc::new(Loaded::read(&options)?));
        Ok(Self { options, current })
    }

    /// Reads the files again. New connections use the new configuration. Returns the change, if there is one. After an
    /// error the old configuration stays.
    fn reload(&self) -> Result<Option<String>, Error> {
        let new = Loaded::read(&self.options)?;
        if self.current.borrow().digest == new.digest {
            return Ok(None);
        }
        self.current.send_replace(Arc::new(new));
        self.warn_of_expiry();
        Ok(Some(format!("the certificate is valid until {}", self.expiry())))
    }

    /// The reloading of the files.
    pub fn reloadable(self: Arc<Self>) -> Reloadable {
        let files = self.files();
        let reload = Box::new(move || self.reload().map_err(|error| error.to_string()));
        Reloadable { name: "TLS", files, reload }
    }

    fn files(&self) -> Vec<PathBuf> {
        let Options { certificate, key, clients } = &self.options;
        let authorities = clients.as_ref().map(|clients| clients.authorities.clone());
        [certificate.clone(), key.clone()].into_iter().chain(authorities).collect()
    }

    /// The end of the certificate's validity.
    pub fn expiry(&self) -> Expiry {
        self.current.borrow().expiry
    }

    /// Warns in the log of a certificate that has expired or expires soon, now and each day.
    pub async fn remind_of_expiry(self: Arc<Self>) {
        let mut days = tokio::time::interval(REMINDER_INTERVAL);
        loop {
            days.tick().await;
            self.warn_of_expiry();
        }
    }

    fn warn_of_expiry(&self) {
        if let Some(warning) = self.expiry().warning() {
            tracing::warn!("{warning}");
        }
    }

    /// Does the handshake.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<Accepted> {
        let changes = self.current.subscribe();
        let config = Arc::clone(&changes.borrow().config);
        let stream = match TlsAcceptor::from(config).accept(socket).into_fallible().await {
            Ok(stream) => stream,
            Err((error, socket)) => {
                linger(socket).await;
                return Err(error);
            }
        };
        let certificates = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let chain = certificates.filter(|all| !all.is_empty()).map(|certificates| Chain { certificates, changes });
        Ok(Accepted { stream, chain })
    }
}

impl Chain {
    /// The client's own certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificates[0]
    }

    /// Resolves when a new configuration does not accept the certificate: its authority was removed, or it has expired
    /// since.
    pub async fn refused(mut self) {
        while self.changes.changed().await.is_ok() {
            let loaded = Arc::clone(&self.changes.borrow_and_update());
            if !loaded.accepts(&self.certificates) {
                return;
            }
        }
        // The server is gone, and its files are not read any more.
        std::future::pending().await
    }
}

/// Lets the alert of a failed handshake arrive. If bytes of the client are unread when a socket is closed, the system
/// throws away those on their way to it.
async fn linger(mut socket: TcpStream) {
    // An error means that the client is gone.
    let _ = socket.shutdown().await;
    let (mut rest, mut nowhere) = (socket.take(LINGER_BYTES), tokio::io::sink());
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut nowhere)).await;
}
