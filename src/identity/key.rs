//! Keys: their text, their id, and the digest by which they are recognised.
//!
//! `cgn_<16 hex digits: id>_<64 hex digits: 256 random bits><8 hex digits: checksum>`. The fixed form and the checksum
//! let scanners of repositories find a leaked key and be certain. The checksum is a CRC-32 of all that stands before
//! it; it is no secret and protects nothing.
//!
//! Invariant: nothing in this file can print a key by accident. [`NewKey`] has no `Debug`, and its text is taken out
//! once.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The beginning of each key.
const PREFIX: &str = "cgn_";
/// Hex digits of an id, of a secret and of a checksum.
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;
const CHECKSUM_DIGITS: usize = 8;
/// Bytes of a key.
pub(super) const KEY_BYTES: usize = PREFIX.len() + ID_DIGITS + 1 + SECRET_DIGITS + CHECKSUM_DIGITS;

/// The public part of a key: it names the key in the file and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; ID_DIGITS / 2]);

impl KeyId {
    /// Parses an id of 16 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(&self.0))
    }
}

/// The SHA-256 of a key. A key has 256 random bits, so nobody finds it from its digest, and no slow hash is needed.
#[derive(Debug, Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest that stands in for that of an unknown id. No key has it.
    pub(super) const DUMMY: Self = Self([0; 32]);

    /// The digest of a key's text.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Parses 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }

    /// Compares two digests in a time that does not depend on them.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A key that was just made.
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// Its digest, for the file.
    pub digest: Digest,
    text: String,
}

impl NewKey {
    /// Makes a key of the system's random bits.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_DIGITS / 2], [0; SECRET_DIGITS / 2]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let mut text = format!("{PREFIX}{}_{}", hex(&id), hex(&secret));
        text.push_str(&checksum(&text));
        Ok(Self { id: KeyId(id), digest: Digest::of(&text), text })
    }

    /// Gives the key itself, to be shown once.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Reads the id of a key. `None`: the text has not the form of a key. The form says nothing about the secret.
pub(super) fn id_of(key: &str) -> Option<KeyId> {
    // Sliced as bytes: a header may hold anything.
    let bytes = key.as_bytes();
    if bytes.len() != KEY_BYTES || !bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || *b == b'_') {
        return None;
    }
    let (id, secret) = key.strip_prefix(PREFIX)?.split_at(ID_DIGITS);
    let (secret, given) = secret.strip_prefix('_')?.split_at(SECRET_DIGITS);
    let sound = secret.bytes().all(is_hex) && checksum(&key[..KEY_BYTES - CHECKSUM_DIGITS]) == given;
    if sound { KeyId::parse(id) } else { None }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses lower-case hex digits of exactly `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().copied().all(is_hex) {
        return None;
    }
    let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_the_form_and_is_recognised_by_its_digest() {
        let (first, second) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let (id, digest, text) = (first.id, first.digest, first.into_text());
        assert_eq!((text.len(), id_of(&text)), (KEY_BYTES, Some(id)));
        assert!(bool::from(digest.is(&Digest::of(&text))) && !bool::from(digest.is(&second.digest)));
        assert_ne!(id, second.id);
        assert_eq!(Digest::parse(&digest.to_string()).unwrap().0, digest.0);
    }

    #[test]
    fn a_changed_key_has_not_the_form() {
        let key = NewKey::generate().unwrap().into_text();
        for at in 0..key.len() {
            let mut bytes = key.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(id_of(&String::from_utf8(bytes).unwrap()), None, "{at}");
        }
        for wrong in ["", "cgn_", &key[1..], &format!("{key}0"), &key.to_uppercase(), &"é".repeat(KEY_BYTES / 2)] {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
    }
}
