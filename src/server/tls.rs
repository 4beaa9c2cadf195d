//! TLS of the server: its certificate and key, the authorities of client certificates, and their exchange while
//! connections stay open. The door of rustls.
//!
//! Invariants: each handshake takes one whole configuration, so a certificate never meets the key or the authorities of
//! another. Sessions are resumed only in the configuration that began them, and never where clients have certificates:
//! a resumed session would not check the certificate again. A handshake is computed where it arrives: it takes about a
//! millisecond of a thread.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::reload::Reloadable;

/// A TCP connection with TLS.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The one protocol above TLS.
const HTTP_2: &[u8] = b"h2";

/// Bytes of a file at most. Bundles of all public authorities have 300 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Time and bytes for a client to read why its handshake failed, and to close the connection.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Access that a private key may not give: reading by others, and writing by anybody but its owner. The group may read
/// it, because that is how Kubernetes gives a secret to a container (`fsGroup`).
#[cfg(unix)]
const FORBIDDEN_MODE: u32 = 0o027;

/// The files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The certificate and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// The private key of the certificate, in PEM.
    pub key: PathBuf,
    /// The check of client certificates; `None`: clients are not asked for one.
    pub clients: Option<Clients>,
}

/// The check of client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The certificates of the authorities that sign client certificates, in PEM.
    pub authorities: PathBuf,
    /// Refuses a client without certificate.
    pub required: bool,
}

/// The reason why TLS cannot be set up from the files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{setting} {} cannot be read: {source}", .path.display())]
    Read {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not have what it should have.
    #[error("{setting} {}: {reason}", .path.display())]
    Content {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The fault, and the expected content.
        reason: String,
    },
    /// Others may read or change the private key.
    #[error(
        "tls_key {} has mode {mode:03o}, so others can read or change it: expected no access for others, for example \
         chmod 600, or 640 for a group that may read it", .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key is that of another certificate.
    #[error(
        "tls_key {} is not the key of the first certificate in tls_cert {}: give the two files of one pair, with the \
         server's certificate first", .key.display(), .certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

/// The TLS configuration in force.
#[derive(Debug)]
pub struct Tls {
    options: Options,
    current: RwLock<Loaded>,
}

/// A configuration, as it was read.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// A digest of the files, to notice that nothing has changed.
    digest: [u8; 32],
    valid_until: String,
}

impl Tls {
    /// Reads the files.
    pub fn load(options: Options) -> Result<Self, Error> {
        let current = RwLock::new(Loaded::read(&options)?);
        Ok(Self { options, current })
    }

    /// Reads the files again. New connections use the new configuration. Returns the change, if there is one. After an
    /// error the old configuration stays.
    fn reload(&self) -> Result<Option<String>, Error> {
        let new = Loaded::read(&self.options)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.digest == new.digest {
            return Ok(None);
        }
        *current = new;
        Ok(Some(format!("the certificate is valid until {}", current.valid_until)))
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
    pub fn valid_until(&self) -> String {
        self.current.read().unwrap_or_else(PoisonError::into_inner).valid_until.clone()
    }

    /// Does the handshake. Returns the client's certificate in DER, if it has one.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<(TlsStream, Option<Arc<[u8]>>)> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config);
        let stream = match TlsAcceptor::from(config).accept(socket).into_fallible().await {
            Ok(stream) => stream,
            Err((error, socket)) => {
                linger(socket).await;
                return Err(error);
            }
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first).map(|certificate| Arc::from(certificate.as_ref()));
        Ok((stream, certificate))
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

impl Loaded {
    fn read(options: &Options) -> Result<Self, Error> {
        let Options { certificate, key, clients } = options;
        let mut digest = Sha256::new();
        let mut read = |setting, path: &Path| {
            let bytes = read(setting, path)?;
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
            Ok::<_, Error>(bytes)
        };
        let chain = certificates("tls_cert", certificate, &read("tls_cert", certificate)?)?;
        let valid_until = check_validity(certificate, &chain[0])?;
        let secret = private_key(key, &read("tls_key", key)?)?;

        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let pem = read("tls_client_ca", &clients.authorities)?;
                builder.with_client_cert_verifier(verifier(clients, &pem, provider)?)
            }
        };
        let mut config = builder.with_single_cert(chain, secret).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                Error::Mismatch { certificate: certificate.clone(), key: key.clone() }
            }
            // The certificate was parsed before, so the key is at fault.
            other => content("tls_key", key, format!("the key cannot be used: {other}")),
        })?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        if clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), digest: digest.finalize().into(), valid_until })
    }
}

fn content(setting: &'static str, path: &Path, reason: String) -> Error {
    Error::Content { setting, path: path.to_owned(), reason }
}

/// Reads a file, and refuses a private key that others can read.
fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { setting, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    if setting == "tls_key" {
        use std::os::unix::fs::PermissionsExt;

        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & FORBIDDEN_MODE != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let reason = format!("the file has more than {MAX_FILE_BYTES} bytes: expected certificates or a key in PEM");
        return Err(content(setting, path, reason));
    }
    Ok(bytes)
}

/// The certificates of a PEM file; at least one.
fn certificates(setting: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| content(setting, path, format!("the file is not PEM: {error}")))?;
    if all.is_empty() {
        let reason = "the file has no certificate: expected PEM with -----BEGIN CERTIFICATE-----";
        return Err(content(setting, path, reason.to_owned()));
    }
    Ok(all)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let reason = match error {
            PemError::NoItemsFound if pem.starts_with(b"-----BEGIN ENCRYPTED") => {
                "the key is encrypted: expected one without passphrase (openssl pkey -in FILE -out FILE)".to_owned()
            }
            PemError::NoItemsFound => {
                "the file has no private key: expected PEM with -----BEGIN PRIVATE KEY-----".into()
            }
            other => format!("the file is not PEM: {other}"),
        };
        content("tls_key", path, reason)
    })
}

/// Checks that the certificate is valid now. Returns the end of its validity.
fn check_validity(path: &Path, certificate: &CertificateDer<'_>) -> Result<String, Error> {
    let fail = |reason: String| content("tls_cert", path, reason);
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| fail(format!("the first certificate cannot be parsed: {error}")))?;
    let validity = parsed.validity();
    if !validity.is_valid() {
        let (from, until) = (&validity.not_before, &validity.not_after);
        return Err(fail(format!("the certificate is valid from {from} until {until}, not now: give a current one")));
    }
    Ok(validity.not_after.to_string())
}

/// The check of client certificates by the authorities in `pem`.
fn verifier(
    clients: &Clients,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    const SETTING: &str = "tls_client_ca";
    let path = &clients.authorities;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(SETTING, path, pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| content(SETTING, path, format!("a certificate cannot be used: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| content(SETTING, path, error.to_string()))
}
