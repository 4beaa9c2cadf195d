//! The entries of a keys file.

use std::sync::Arc;

use super::certificate::San;
use super::key::{Digest, KeyId};
use super::moment::Moment;
use super::principal::Principal;

/// A key of a principal.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// The principal that the key stands for.
    pub principal: Arc<Principal>,
    /// The public part of the key.
    pub id: KeyId,
    /// The digest of the key.
    pub(super) digest: Digest,
    /// The time when it was made, as far as the file says.
    pub created: Option<Moment>,
    /// The time from which it is refused.
    pub expires: Option<Moment>,
    /// The time when it was revoked. It is refused if there is one.
    pub revoked: Option<Moment>,
    /// The byte of the file after the value of `id`.
    pub(super) after_id: usize,
}

impl KeyEntry {
    /// Returns true if the key is accepted now.
    pub fn is_valid(&self) -> bool {
        self.revoked.is_none() && !self.is_expired()
    }

    /// Returns true if the key has expired.
    pub fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires.left().is_none())
    }
}

/// A name in client certificates, and the principal that it stands for.
#[derive(Debug, Clone)]
pub struct CertificateEntry {
    /// The principal.
    pub principal: Arc<Principal>,
    pub(super) san: San,
}

impl CertificateEntry {
    /// The name in the certificate.
    pub fn certificate(&self) -> String {
        self.san.to_string()
    }
}

/// The content of a keys file.
#[derive(Debug, Default)]
pub struct KeyFile {
    /// The keys, in the order of the file.
    pub keys: Vec<KeyEntry>,
    /// The names in client certificates.
    pub certificates: Vec<CertificateEntry>,
}

impl KeyFile {
    /// The principal of this name, if the file has it.
    pub fn principal(&self, name: &str) -> Option<&Principal> {
        self.principals().find(|principal| principal.name() == Some(name))
    }

    /// The principal of each entry.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        let of_keys = self.keys.iter().map(|key| &*key.principal);
        of_keys.chain(self.certificates.iter().map(|entry| &*entry.principal))
    }
}
