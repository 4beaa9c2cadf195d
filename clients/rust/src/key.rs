//! An API key, and the header that carries it.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// An API key. Its text appears in no log and no error.
#[derive(Clone)]
pub struct Key(MetadataValue<Ascii>);

/// The text is no key: it is empty, or has characters that a header cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one line of visible ASCII characters, as `cognate keys create` prints it")]
pub struct NotAKey;

impl Key {
    /// Reads a key. White space around it is not part of it.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotAKey);
        }
        let mut value = MetadataValue::try_from(format!("Bearer {key}")).map_err(|_| NotAKey)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Adds the key to each call.
#[derive(Debug, Clone)]
pub struct Authorize(pub(super) Option<Key>);

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(Key(value)) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line_and_is_never_shown() {
        let key = Key::parse(" cgn_abc\n").unwrap();
        assert_eq!(key.0, "Bearer cgn_abc");
        assert_eq!(format!("{key:?}"), "Key(…)");
        for wrong in ["", " \n", "two words", "two\nlines", "clé"] {
            assert_eq!(Key::parse(wrong).unwrap_err(), NotAKey, "{wrong:?}");
        }
    }
}
