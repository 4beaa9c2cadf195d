//! The keys of a running server: recognises callers, and is replaced as a whole when its file changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::certificate::CertificateNames;
use super::entry::KeyFile;
use super::key_set::{KeySet, Proof};
use super::principal::Principal;
use super::stored::{self, NotRead};
use crate::compute::{Allowance, Allowances, Caller};

pub use super::key_set::Rejected;

/// The longest time until the clock is read again for a key that expires. Clocks are set, and machines sleep.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// The keys of a server.
pub struct Keys {
    path: PathBuf,
    /// The SHA-256 of the text that was read last.
    text: Mutex<[u8; 32]>,
    current: watch::Sender<Arc<KeySet>>,
    allowances: Allowances,
}

/// The credentials of a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The headers `authorization`: the first, and the number of them.
    pub authorization: Option<(&'a [u8], usize)>,
    /// The names of the client's certificate.
    pub certificate: Option<&'a CertificateNames>,
}

/// A caller that was recognised.
#[derive(Debug)]
pub struct Admitted {
    /// The principal.
    pub principal: Arc<Principal>,
    /// The caller whose share of the machine its calls use.
    pub caller: Caller,
    /// Its limits, and its use of them; `None`: the file of keys was replaced meanwhile, and has it no more.
    pub allowance: Option<Arc<Allowance>>,
    /// The time for which this holds.
    pub validity: Validity,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys file at `path`, and keeps the limits of its principals in `allowances`.
    pub fn open(path: &Path, allowances: Allowances) -> Result<Self, NotRead> {
        let text = stored::read_text(path)?;
        let file = stored::parse(path, &text)?;
        let digest = Sha256::digest(&text).into();
        let current = watch::Sender::new(Arc::new(KeySet::from(KeyFile::default())));
        let keys = Self { path: path.to_owned(), text: Mutex::new(digest), current, allowances };
        keys.replace(file);
        Ok(keys)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again. Returns a line for the log, or `None` if the file says the same as before. On an error the
    /// keys that were read before stay. Blocks.
    pub fn reload(&self) -> Result<Option<String>, NotRead> {
        let text = stored::read_text(&self.path)?;
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = <[u8; 32]>::from(Sha256::digest(&text));
        if *current == digest {
            return Ok(None);
        }
        self.replace(stored::parse(&self.path, &text)?);
        *current = digest;
        Ok(Some(self.to_string()))
    }

    fn replace(&self, file: KeyFile) {
        let limits = file.principals().filter_map(|principal| Some((principal.name()?, principal.limits())));
        self.allowances.set(limits);
        self.current.send_replace(Arc::new(file.into()));
    }

    /// Recognises a caller. A key counts before a certificate, and is never ignored.
    pub fn authenticate(&self, credentials: Credentials<'_>) -> Result<Admitted, Rejected> {
        let changes = self.current.subscribe();
        let set = Arc::clone(&changes.borrow());
        let (principal, proof) = match credentials {
            Credentials { authorization: Some((value, 1)), .. } => set.by_key(bearer(value)?)?,
            Credentials { authorization: Some(_), .. } => return Err(Rejected::NotBearer),
            Credentials { certificate: Some(names), .. } => set.by_certificate(names)?,
            _ => return Err(Rejected::Missing),
        };
        let validity = Validity { changes, proof, principal: Arc::clone(&principal) };
        let caller = Caller::of_principal(principal.name().unwrap_or_default());
        Ok(Admitted { principal, caller, allowance: self.allowances.of(caller), validity })
    }
}

/// The number of keys, for the log.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, certificates) = self.current.borrow().counts();
        write!(f, "{keys} keys and {certificates} names in certificates are accepted")
    }
}

/// The key of `Bearer KEY`. The scheme has no case (RFC 9110).
fn bearer(value: &[u8]) -> Result<&str, Rejected> {
    let value = std::str::from_utf8(value).map_err(|_| Rejected::NotBearer)?;
    let (scheme, key) = value.split_once(' ').ok_or(Rejected::NotBearer)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim_ascii()) } else { Err(Rejected::NotBearer) }
}

/// The time for which a caller's proof is accepted.
#[derive(Debug)]
pub struct Validity {
    changes: watch::Receiver<Arc<KeySet>>,
    proof: Proof,
    principal: Arc<Principal>,
}

impl Validity {
    /// Resolves when the key was removed, revoked or changed, or has expired.
    pub async fn over(mut self) {
        loop {
            let Ok(expires) = self.changes.borrow_and_update().still_accepts(&self.proof, &self.principal) else {
                return;
            };
            let expired = async {
                match expires {
                    Some(expires) => {
                        let left = expires.left().unwrap_or_default();
                        tokio::time::sleep(left.min(CLOCK_INTERVAL)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        // The server is gone, and its keys do not change any more.
                        return std::future::pending().await;
                    }
                }
                () = expired => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::key::NewKey;
    use super::*;

    fn keys(text: &str) -> Keys {
        let set = Arc::new(KeyFile::parse(&format!("version = 1\n{text}")).unwrap().into());
        let current = watch::Sender::new(set);
        Keys { path: PathBuf::new(), text: Mutex::default(), current, allowances: Allowances::default() }
    }

    fn entry(key: &NewKey, lines: &str) -> String {
        let NewKey { id, digest, .. } = key;
        format!("[[keys]]\nid = \"{id}\"\nsha256 = \"{digest}\"\nname = \"a\"\nrole = \"read\"\n{lines}\n")
    }

    fn sent(value: &str) -> Credentials<'_> {
        Credentials { authorization: Some((value.as_bytes(), 1)), certificate: None }
    }

    fn name(keys: &Keys, credentials: Credentials<'_>) -> Result<Option<String>, Rejected> {
        keys.authenticate(credentials).map(|found| found.principal.name().map(str::to_owned))
    }

    #[test]
    fn a_key_comes_as_one_bearer_token_and_counts_before_a_certificate() {
        let key = NewKey::generate().unwrap();
        let keys = keys(&format!(
            "{}[[certificates]]\ncertificate = \"host.b\"\nname = \"b\"\nrole = \"read\"",
            entry(&key, "")
        ));
        let text = key.into_text();
        let names = CertificateNames(vec![super::super::certificate::San::parse("host.b").unwrap()]);
        for value in [format!("Bearer {text}"), format!("bearer {text}"), format!("BEARER  {text}")] {
            let both = Credentials { certificate: Some(&names), ..sent(&value) };
            assert_eq!(name(&keys, both), Ok(Some("a".to_owned())), "{value}");
        }
        let certificate = Credentials { authorization: None, certificate: Some(&names) };
        assert_eq!(name(&keys, certificate), Ok(Some("b".to_owned())));
        let value = format!("Bearer {text}");
        assert_eq!(
            name(&keys, Credentials { authorization: Some((value.as_bytes(), 2)), ..certificate }),
            Err(Rejected::NotBearer)
        );
        for wrong in [&*text, "Basic dXNlcjpwYXNz", "Bearer", "", &format!("Bearer{text}")] {
            assert_eq!(
                name(&keys, Credentials { certificate: Some(&names), ..sent(wrong) }),
                Err(Rejected::NotBearer),
                "{wrong}"
            );
        }
        assert_eq!(name(&keys, sent("Bearer x")), Err(Rejected::Malformed));
        assert_eq!(name(&keys, Credentials::default()), Err(Rejected::Missing));
    }

    #[tokio::test]
    async fn a_call_is_over_when_its_key_goes_and_not_when_others_do() {
        let (key, other) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let entries = [entry(&key, ""), entry(&other, "")];
        let keys = keys(&entries.concat());
        let value = format!("Bearer {}", key.into_text());
        let mut over = Box::pin(keys.authenticate(sent(&value)).unwrap().validity.over());
        let mut is_over = || (&mut over).now_or_never().is_some();
        assert!(!is_over());
        let replace = |text: &str| keys.replace(KeyFile::parse(&format!("version = 1\n{text}")).unwrap());
        replace(&entries[0]);
        assert!(!is_over());
        replace(&entries[1]);
        assert!(is_over());
    }

    #[tokio::test]
    async fn a_call_is_over_when_its_key_expires() {
        let key = NewKey::generate().unwrap();
        let expires = super::super::Moment::now().after_days(1).unwrap();
        let keys = keys(&entry(&key, &format!("expires = \"{expires}\"")));
        let value = format!("Bearer {}", key.into_text());
        let validity = keys.authenticate(sent(&value)).unwrap().validity;
        // The clock of the system goes on by itself, so the entry is brought nearer instead.
        let over = tokio::spawn(validity.over());
        let soon = entry_again(&value, "expires = 2001-01-01");
        keys.replace(KeyFile::parse(&format!("version = 1\n{soon}")).unwrap());
        over.await.unwrap();
    }

    fn entry_again(value: &str, lines: &str) -> String {
        let text = value.trim_start_matches("Bearer ");
        let (id, digest) = (super::super::key::id_of(text).unwrap(), super::super::Digest::of(text));
        format!("[[keys]]\nid = \"{id}\"\nsha256 = \"{digest}\"\nname = \"a\"\nrole = \"read\"\n{lines}\n")
    }
}
