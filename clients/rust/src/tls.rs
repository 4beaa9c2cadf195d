//! The settings of TLS for a connection, and the files that they name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::error::Error;
use super::handshake::chain;

/// The settings of TLS. Without any, the authorities of the system are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the trusted authorities, in PEM, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate of the client and its private key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have; `None`: the host of the address.
    pub server_name: Option<String>,
}

impl Tls {
    /// Adds these settings to an endpoint.
    pub(super) fn apply(&self, endpoint: Endpoint, handshake: Duration) -> Result<Endpoint, Error> {
        let mut config = ClientTlsConfig::new().timeout(handshake);
        config = match &self.ca {
            None => config.with_native_roots(),
            Some(path) => {
                let pem = read(path)?;
                if !matches!(CertificateDer::pem_slice_iter(&pem).next(), Some(Ok(_))) {
                    let reason = "it has no certificate: expected PEM with -----BEGIN CERTIFICATE-----";
                    return Err(Error::File { path: path.clone(), reason: reason.to_owned() });
                }
                config.ca_certificate(Certificate::from_pem(pem))
            }
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        endpoint.tls_config(config).map_err(|cause| {
            let reason = chain(&cause).last().map(ToString::to_string).unwrap_or_default();
            Error::Tls { reason }
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File { path: path.to_owned(), reason: error.to_string() })
}
