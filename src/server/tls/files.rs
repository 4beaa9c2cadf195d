//! Reads the files of TLS: the server's certificate, its key, and the authorities of client certificates.
//!
//! Invariant: a configuration is made of files that fit together and are valid now, or it is not made.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use super::expiry::Expiry;

/// The protocols above TLS, by their names in the handshake. The first bytes of a connection decide.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Bytes of a file at most. Bundles of all public authorities have 300 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Access that a file of secrets may not give: reading by others, and writing by anybody but its owner. The group may
/// read it, because that is how Kubernetes gives a secret to a container (`fsGroup`).
#[cfg(unix)]
const FORBIDDEN_OF_KEY: u32 = 0o027;

/// Access that the file of authorities may not give: who writes it lets clients in.
#[cfg(unix)]
const FORBIDDEN_OF_AUTHORITIES: u32 = 0o022;

/// The settings that name the files.
const CERTIFICATE: &str = "tls_cert";
const KEY: &str = "tls_key";
const AUTHORITIES: &str = "tls_client_ca";

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
    ExposedKey {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others may change the authorities, and so let in any client.
    #[error(
        "tls_client_ca {} has mode {mode:03o}, so others can write it and let clients in: expected that its owner \
         alone writes it, for example chmod 644", .path.display()
    )]
    WritableAuthorities {
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

/// A configuration, as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration of handshakes.
    pub config: Arc<ServerConfig>,
    /// The check of client certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// A digest of the files, to notice that nothing has changed.
    pub digest: [u8; 32],
    /// The end of the server's certificate.
    pub expiry: Expiry,
}

impl Loaded {
    /// Reads the files.
    pub fn read(options: &Options) -> Result<Self, Error> {
        let Options { certificate, key, clients } = options;
        let mut digest = Sha256::new();
        let mut read = |setting, path: &Path| {
            let bytes = read(setting, path)?;
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
            Ok::<_, Error>(bytes)
        };
        let chain = certificates(CERTIFICATE, certificate, &read(CERTIFICATE, certificate)?)?;
        let expiry = Expiry::of(&chain[0]).map_err(|reason| content(CERTIFICATE, certificate, reason))?;
        let secret = private_key(key, &read(KEY, key)?)?;

        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3");
        let verifier = match clients {
            None => None,
            Some(clients) => Some(verifier(clients, &read(AUTHORITIES, &clients.authorities)?, provider)?),
        };
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder.with_single_cert(chain, secret).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                Error::Mismatch { certificate: certificate.clone(), key: key.clone() }
            }
            // The certificate was parsed before, so the key is at fault.
            other => content(KEY, key, format!("the key cannot be used: {other}")),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), verifier, digest: digest.finalize().into(), expiry })
    }

    /// Returns true if a client with these certificates would be let in now.
    pub fn accepts(&self, certificates: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((own, others))) = (&self.verifier, certificates.split_first()) else { return true };
        verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
    }
}

fn content(setting: &'static str, path: &Path, reason: String) -> Error {
    Error::Content { setting, path: path.to_owned(), reason }
}

/// Reads a file, and refuses one that others can read or write and should not.
fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { setting, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        match setting {
            KEY if mode & FORBIDDEN_OF_KEY != 0 => return Err(Error::ExposedKey { path: path.to_owned(), mode }),
            AUTHORITIES if mode & FORBIDDEN_OF_AUTHORITIES != 0 => {
                return Err(Error::WritableAuthorities { path: path.to_owned(), mode });
            }
            _ => {}
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
        content(KEY, path, reason)
    })
}

/// The check of client certificates by the authorities in `pem`.
fn verifier(
    clients: &Clients,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let path = &clients.authorities;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(AUTHORITIES, path, pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| content(AUTHORITIES, path, format!("a certificate cannot be used: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| content(AUTHORITIES, path, error.to_string()))
}
