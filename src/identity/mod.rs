//! WHO CALLS, AND WHAT A CALLER MAY DO: principals with a role and collections, found by a key or by a client
//! certificate.
//!
//! ```text
//! keys file ── text ── entries ── KeySet ═╗  replaced as a whole by a reload
//!                                         ▼
//! authorization, names of the certificate ── Keys::authenticate ── Principal ── the call
//!                                                             └─── Validity: resolves when the key is gone
//! ```
//!
//! Invariants:
//! - A key is never stored, logged or quoted in an error. The file has its SHA-256, which suffices for 256 random bits.
//! - The time of a check does not depend on the secret that was sent. An unknown id is compared with a dummy.
//! - A file with a mistake changes nothing: the keys that were read before stay.
//!
//! Which role a call needs is left to `rpc`, and the refusal of a call to `server`.

mod certificate;
mod edit;
mod entry;
mod key;
mod key_set;
mod keys;
mod moment;
mod pattern;
mod principal;
mod stored;
mod text;

pub use certificate::CertificateNames;
pub use edit::{Edited, NotEdited, add, revoke};
pub use entry::{CertificateEntry, KeyEntry, KeyFile};
pub use key::{Digest, KeyId, NewKey};
pub use keys::{Admitted, Credentials, Keys, Rejected, Validity};
pub use moment::Moment;
pub use pattern::Patterns;
pub use principal::{Principal, Role};
pub use stored::{NotRead, read, read_text};
pub use text::Mistakes;
