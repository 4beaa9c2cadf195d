//! The names in a client certificate: DNS names, URIs and e-mail addresses of its subject alternative names.
//!
//! The certificate was verified by the transport before it comes here. The common name is not read: a certificate
//! authority need not check it.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The most names of a certificate that are looked up.
const MAX_NAMES: usize = 64;

/// The most bytes of a name in the keys file.
const MAX_BYTES: usize = 2048;

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum San {
    /// In lower case: names of hosts have none.
    Dns(String),
    Uri(String),
    Email(String),
}

impl San {
    /// Parses a name as the keys file has it: a URI has `://`, an e-mail address `@`, and all else is a DNS name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > MAX_BYTES || !is_plain {
            return Err("expected a URI like spiffe://domain/name, a DNS name or an e-mail address".to_owned());
        }
        Ok(match text {
            uri if uri.contains("://") => Self::Uri(uri.to_owned()),
            email if email.contains('@') => Self::Email(email.to_owned()),
            dns => Self::Dns(dns.to_ascii_lowercase()),
        })
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Dns(name) | Self::Uri(name) | Self::Email(name)) = self;
        f.write_str(name)
    }
}

/// The names of a client's certificate, read once for a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames(pub(super) Vec<San>);

impl CertificateNames {
    /// Reads the names of a verified certificate in DER. A certificate that cannot be read has none.
    pub fn of(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Self::default() };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return Self::default() };
        let names = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Dns(name.to_ascii_lowercase())),
            GeneralName::URI(uri) => Some(San::Uri((*uri).to_owned())),
            GeneralName::RFC822Name(email) => Some(San::Email((*email).to_owned())),
            _ => None,
        });
        Self(names.take(MAX_NAMES).collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// A certificate with these names, in DER.
    pub(in super::super) fn certificate(names: &[San]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name {
                San::Dns(name) => SanType::DnsName(name.as_str().try_into().unwrap()),
                San::Uri(uri) => SanType::URI(uri.as_str().try_into().unwrap()),
                San::Email(email) => SanType::Rfc822Name(email.as_str().try_into().unwrap()),
            })
            .collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_names_of_a_certificate_are_read_by_their_kind() {
        let names = ["spiffe://prod/indexer", "Host.Example", "ops@example.org"].map(|name| San::parse(name).unwrap());
        assert_eq!(names[1], San::Dns("host.example".to_owned()));
        let read = CertificateNames::of(&certificate(&names));
        assert_eq!(read.0, names);
        // A DNS name that looks like a URI is not taken for a URI.
        let disguised = CertificateNames::of(&certificate(&[San::Dns("spiffe://prod/indexer".to_owned())]));
        assert_ne!(disguised.0, names[..1]);
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        for der in [&b""[..], b"\x30\x82\xff\xff", &[0x30; 100]] {
            assert_eq!(CertificateNames::of(der), CertificateNames::default());
        }
        assert_eq!(CertificateNames::of(&certificate(&[])), CertificateNames::default());
        assert!(San::parse("").is_err() && San::parse("two words").is_err());
    }
}
