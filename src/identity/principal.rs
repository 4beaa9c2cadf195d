//! A principal: a name for a caller, its role, and the collections that it may use.
//!
//! Two keys of one name are one principal, so that a key can be replaced while both are in use.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use super::pattern::Patterns;
use crate::compute::Limits;

/// The most bytes of a principal's name. It stands in logs and in labels of metrics.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// The kind of calls that a principal may make. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads documents, and uses the models.
    Read,
    /// Changes documents and collections too.
    Write,
    /// Administers the server too.
    Admin,
}

impl Role {
    /// All roles, from the least to the greatest.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The name of the role in the keys file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| "expected read, write or admin".to_owned())
    }
}

/// A caller with its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name; `None`: the caller is not known by name.
    name: Option<Arc<str>>,
    role: Role,
    collections: Patterns,
    limits: Limits,
}

impl Principal {
    /// A principal of this name, without limits.
    pub fn new(name: String, role: Role, collections: Patterns) -> Self {
        Self { name: Some(name.into()), role, collections, limits: Limits::default() }
    }

    /// The same principal with other limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn without_name(role: Role, collections: Patterns) -> Arc<Self> {
        Arc::new(Self { name: None, role, collections, limits: Limits::default() })
    }

    /// The caller of a server without keys, who may do everything.
    pub fn anyone() -> Arc<Self> {
        static ANYONE: LazyLock<Arc<Principal>> =
            LazyLock::new(|| Principal::without_name(Role::Admin, Patterns::all()));
        Arc::clone(&ANYONE)
    }

    /// The caller of a public method who has shown no key. It may use no collection.
    pub fn nobody() -> Arc<Self> {
        static NOBODY: LazyLock<Arc<Principal>> =
            LazyLock::new(|| Principal::without_name(Role::Read, Patterns::none()));
        Arc::clone(&NOBODY)
    }

    /// The name; `None`: the caller is not known by name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name, for records that outlive the call.
    pub fn shared_name(&self) -> Option<Arc<str>> {
        self.name.clone()
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The collections that it may use.
    pub fn collections(&self) -> &Patterns {
        &self.collections
    }

    /// The limits of its calls in progress, of its use of the models and of what it stores.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns true if the other one has the same name and rights. Their limits may differ.
    pub fn has_rights_of(&self, other: &Self) -> bool {
        (&self.name, self.role, &self.collections) == (&other.name, other.role, &other.collections)
    }

    /// Returns true if its role includes `role`.
    pub fn has(&self, role: Role) -> bool {
        self.role >= role
    }

    /// Returns true if it may use the collection of this name, whether there is one or not.
    pub fn may_use(&self, collection: &str) -> bool {
        self.collections.cover(collection)
    }

    /// Returns true if it may see and copy everything that the server holds.
    pub fn administers_server(&self) -> bool {
        self.role == Role::Admin && self.collections.cover_all()
    }
}

/// Checks the name of a principal.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("expected 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and `.`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_before_it() {
        for (n, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role.name().parse(), Ok(role));
            let principal = Principal::new("a".to_owned(), role, Patterns::all());
            assert_eq!(Role::ALL.map(|needed| principal.has(needed)), [0, 1, 2].map(|needed| n >= needed), "{role}");
        }
        assert!("owner".parse::<Role>().is_err() && "Read".parse::<Role>().is_err());
    }

    #[test]
    fn only_an_admin_of_all_collections_administers_the_server() {
        let with = |role, pattern: &str| Principal::new("a".to_owned(), role, Patterns::parse([pattern]).unwrap());
        assert!(with(Role::Admin, "*").administers_server() && Principal::anyone().administers_server());
        assert!(!with(Role::Admin, "a*").administers_server() && !with(Role::Write, "*").administers_server());
        assert!(!Principal::nobody().may_use("a") && !Principal::nobody().has(Role::Write));
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["a", "search-team.2", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "two words", "a/b", "é", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
