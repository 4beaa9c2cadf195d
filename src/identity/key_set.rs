//! The keys of one state of the file, found by id and by name.

use std::collections::HashMap;
use std::sync::Arc;

use subtle::Choice;

use super::certificate::{CertificateNames, San};
use super::entry::{KeyEntry, KeyFile};
use super::key::{self, Digest, KeyId};
use super::moment::Moment;
use super::principal::Principal;

/// The proof by which a caller was recognised.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    Key { id: KeyId, digest: Digest },
    Certificate(San),
}

/// The reason why a caller is not recognised. It is for the log; the caller learns none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Neither a key nor a certificate was sent.
    #[error("no key and no client certificate")]
    Missing,
    /// There are several headers `authorization`, or its scheme is not Bearer.
    #[error("the header authorization is not one `Bearer KEY`")]
    NotBearer,
    /// The text has not the form of a key.
    #[error("the text has not the form of a key")]
    Malformed,
    /// No key has this id and this secret.
    #[error("the key {0} is not known")]
    Unknown(KeyId),
    /// The key has expired.
    #[error("the key {id} of {name} has expired")]
    Expired {
        /// Its id.
        id: KeyId,
        /// Its principal.
        name: String,
    },
    /// The key was revoked.
    #[error("the key {id} of {name} was revoked")]
    Revoked {
        /// Its id.
        id: KeyId,
        /// Its principal.
        name: String,
    },
    /// No entry has a name of the certificate, or entries of several principals have.
    #[error("the names of the client certificate are those of {0} principals: expected one")]
    Certificate(usize),
}

/// The keys of one state of the file.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: HashMap<KeyId, KeyEntry>,
    certificates: HashMap<San, Arc<Principal>>,
}

impl From<KeyFile> for KeySet {
    fn from(file: KeyFile) -> Self {
        Self {
            keys: file.keys.into_iter().map(|key| (key.id, key)).collect(),
            certificates: file.certificates.into_iter().map(|entry| (entry.san, entry.principal)).collect(),
        }
    }
}

impl KeySet {
    /// The number of keys that are accepted now, and of names in certificates.
    pub(super) fn counts(&self) -> (usize, usize) {
        let usable = self.keys.values().filter(|key| key.is_valid());
        (usable.count(), self.certificates.len())
    }

    /// Finds the principal of a key.
    pub(super) fn by_key(&self, text: &str) -> Result<(Arc<Principal>, Proof), Rejected> {
        let id = key::id_of(text).ok_or(Rejected::Malformed)?;
        let found = self.keys.get(&id);
        let digest = Digest::of(text);
        // Compared in any case, so that the time tells nothing about the ids that exist.
        let is_equal = digest.is(found.map_or(&Digest::DUMMY, |entry| &entry.digest));
        let is_known = Choice::from(u8::from(found.is_some()));
        let Some(entry) = found.filter(|_| bool::from(is_equal & is_known)) else { return Err(Rejected::Unknown(id)) };
        let name = || entry.principal.name().unwrap_or_default().to_owned();
        if entry.revoked.is_some() {
            return Err(Rejected::Revoked { id, name: name() });
        }
        if entry.is_expired() {
            return Err(Rejected::Expired { id, name: name() });
        }
        Ok((Arc::clone(&entry.principal), Proof::Key { id, digest }))
    }

    /// Finds the principal of a certificate.
    pub(super) fn by_certificate(&self, names: &CertificateNames) -> Result<(Arc<Principal>, Proof), Rejected> {
        let mut found = names.0.iter().filter_map(|san| Some((san, self.certificates.get(san)?)));
        let Some((san, principal)) = found.next() else { return Err(Rejected::Certificate(0)) };
        let others = found.filter(|(_, other)| !Arc::ptr_eq(other, principal)).count();
        if others > 0 {
            return Err(Rejected::Certificate(1 + others));
        }
        Ok((Arc::clone(principal), Proof::Certificate(san.clone())))
    }

    /// Returns the moment until which a proof is accepted, if there is one. An error means that it no longer is, or
    /// that it stands for other rights now.
    pub(super) fn still_accepts(&self, proof: &Proof, principal: &Principal) -> Result<Option<Moment>, ()> {
        match proof {
            Proof::Key { id, digest } => {
                let entry = self.keys.get(id).filter(|entry| bool::from(entry.digest.is(digest))).ok_or(())?;
                let is_usable = entry.is_valid() && entry.principal.has_rights_of(principal);
                if is_usable { Ok(entry.expires) } else { Err(()) }
            }
            Proof::Certificate(san) => {
                let known = self.certificates.get(san).is_some_and(|known| known.has_rights_of(principal));
                if known { Ok(None) } else { Err(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::certificate;
    use super::super::key::NewKey;
    use super::*;

    fn entry(key: &NewKey, lines: &str) -> String {
        let NewKey { id, digest, .. } = key;
        format!("[[keys]]\nid = \"{id}\"\nsha256 = \"{digest}\"\nname = \"a\"\nrole = \"read\"\n{lines}\n")
    }

    fn set(entries: &[String]) -> KeySet {
        KeyFile::parse(&format!("version = 1\n{}", entries.concat())).unwrap().into()
    }

    #[test]
    fn a_key_is_found_unless_it_is_malformed_unknown_revoked_or_expired() {
        let keys: Vec<NewKey> = (0..5).map(|_| NewKey::generate().unwrap()).collect();
        let set = set(&[
            entry(&keys[0], ""),
            entry(&keys[1], "expires = 2999-01-01"),
            entry(&keys[2], "expires = 2001-01-01"),
            entry(&keys[3], "revoked = 2999-01-01"),
        ]);
        assert_eq!(set.counts(), (2, 0));
        let ids: Vec<KeyId> = keys.iter().map(|key| key.id).collect();
        let name = || "a".to_owned();
        let expected = [
            None,
            None,
            Some(Rejected::Expired { id: ids[2], name: name() }),
            Some(Rejected::Revoked { id: ids[3], name: name() }),
            Some(Rejected::Unknown(ids[4])),
        ];
        let texts: Vec<String> = keys.into_iter().map(NewKey::into_text).collect();
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(set.by_key(text).err(), expected);
        }
        assert_eq!(set.by_key("cgn_x").err(), Some(Rejected::Malformed));
        assert!(set.by_key(&texts[0]).unwrap().0.name() == Some("a"));
    }

    #[test]
    fn a_known_id_with_another_secret_is_unknown() {
        let (known, other) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let entry = entry(&known, "").replace(&known.digest.to_string(), &other.digest.to_string());
        let id = known.id;
        assert_eq!(set(&[entry]).by_key(&known.into_text()).err(), Some(Rejected::Unknown(id)));
    }

    #[test]
    fn a_certificate_stands_for_one_principal() {
        let of = |san: &str, name: &str| {
            format!("[[certificates]]\ncertificate = \"{san}\"\nname = \"{name}\"\nrole = \"write\"\n")
        };
        let set = set(&[of("spiffe://x/a", "a"), of("host.a", "a"), of("host.b", "b")]);
        let find = |names: &[&str]| {
            let names: Vec<San> = names.iter().map(|name| San::parse(name).unwrap()).collect();
            let found = set.by_certificate(&CertificateNames::of(&certificate(&names)));
            found.map(|(principal, _)| principal.name().unwrap_or_default().to_owned())
        };
        assert_eq!(find(&["unknown.host", "HOST.A"]), Ok("a".to_owned()));
        assert_eq!(find(&["host.a", "spiffe://x/a"]), Ok("a".to_owned()));
        assert_eq!(find(&["host.a", "host.b"]), Err(Rejected::Certificate(2)));
        assert_eq!(find(&["host.c"]), Err(Rejected::Certificate(0)));
    }

    #[test]
    fn a_proof_is_accepted_until_its_entry_goes_or_changes() {
        let key = NewKey::generate().unwrap();
        let entry = entry(&key, "");
        let text = key.into_text();
        let (principal, proof) = set(std::slice::from_ref(&entry)).by_key(&text).unwrap();
        let still = |entry: String| set(&[entry]).still_accepts(&proof, &principal).is_ok();
        assert!(still(entry.clone()) && still(format!("{entry}expires = 2999-01-01\n")));
        assert!(!still(String::new()) && !still(format!("{entry}revoked = 2026-01-01\n")));
        assert!(!still(format!("{entry}expires = 2001-01-01\n")));
        assert!(!still(entry.replace("\"read\"", "\"write\"")) && !still(format!("{entry}collections = [\"a\"]\n")));
        assert!(still(format!("{entry}limits = {{ calls = 1 }}\n")), "running calls go on");
    }
}
