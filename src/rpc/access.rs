//! The needs of each call, in one table, and the access of one call.
//!
//! The server checks the role of a call by the table before the body is read. The name of a collection is checked when
//! a request is decoded: the store takes [`AllowedName`]s alone (`guarded.rs`), and only [`Access::name`] makes them,
//! so no call can forget it. A test compares the table with the descriptors: a new call fails it until it has a line.

use std::sync::Arc;

use super::audit;
use super::limits::Limits;
use super::parse;
use super::status::Failure;
use crate::identity::{Principal, Role};
use crate::wire::SERVICE;

/// The rights that the caller of a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The least role.
    pub role: Role,
    /// The things that the call reaches.
    pub scope: Scope,
}

/// The things that a call reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The models and the limits, which all callers share.
    None,
    /// The collections that the request names, or those that it lists.
    Collection,
    /// Everything that the server holds: the caller's collections must be all.
    Server,
}

/// The rights that each call needs. A collection appears with the first document of an `Upload`, and a filter deletes
/// all of its documents; so creating, deleting and migrating collections needs no more than writing. The collections
/// must be the caller's in any case.
pub const NEEDS: [(&str, Need); 23] = [
    ("Info", need(Role::Read, Scope::None)),
    ("Embed", need(Role::Read, Scope::None)),
    ("EmbedStream", need(Role::Read, Scope::None)),
    ("Similarity", need(Role::Read, Scope::None)),
    ("TopK", need(Role::Read, Scope::Collection)),
    ("Classify", need(Role::Read, Scope::None)),
    ("ClassifyStream", need(Role::Read, Scope::None)),
    ("Rerank", need(Role::Read, Scope::None)),
    ("Tokenize", need(Role::Read, Scope::None)),
    ("TokenizeStream", need(Role::Read, Scope::None)),
    ("Upload", need(Role::Write, Scope::Collection)),
    ("GetDocuments", need(Role::Read, Scope::Collection)),
    ("DeleteDocuments", need(Role::Write, Scope::Collection)),
    ("UpdateDocuments", need(Role::Write, Scope::Collection)),
    ("CountDocuments", need(Role::Read, Scope::Collection)),
    ("Facets", need(Role::Read, Scope::Collection)),
    ("ListDocuments", need(Role::Read, Scope::Collection)),
    ("Export", need(Role::Read, Scope::Collection)),
    ("CreateCollection", need(Role::Write, Scope::Collection)),
    ("ListCollections", need(Role::Read, Scope::Collection)),
    ("DeleteCollection", need(Role::Write, Scope::Collection)),
    ("MigrateCollection", need(Role::Write, Scope::Collection)),
    ("Backup", need(Role::Admin, Scope::Server)),
];

const fn need(role: Role, scope: Scope) -> Need {
    Need { role, scope }
}

/// Checks that a caller may call the method at `path`, before its body is read. Other services need no role.
pub fn check(path: &str, principal: &Principal) -> Result<(), Failure> {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else { return Ok(()) };
    if service != SERVICE {
        return Ok(());
    }
    // A method that does not exist is refused later.
    let Some((method, need)) = NEEDS.iter().find(|(known, _)| *known == method) else { return Ok(()) };
    let denied = |reason: String| {
        audit::refused(principal, &reason);
        Err(Failure::NotAllowed { reason })
    };
    if !principal.has(need.role) {
        return denied(format!(
            "{method} needs the role {}, and the caller has {}: use a key with that role",
            need.role,
            principal.role()
        ));
    }
    if need.scope == Scope::Server && !principal.administers_server() {
        return denied(format!(
            "{method} reaches all collections, and the caller has {}: use a key of the role admin for `*`",
            principal.collections()
        ));
    }
    Ok(())
}

/// The access of one call.
#[derive(Debug, Clone)]
pub struct Access(Arc<Principal>);

/// The name of a collection that the caller may use. [`Access::name`] alone makes one.
#[derive(Debug, Clone)]
pub struct AllowedName {
    name: String,
    caller: Option<Arc<str>>,
}

impl AllowedName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The name of the caller, who will own the collection if it creates one.
    pub fn caller(&self) -> Option<&Arc<str>> {
        self.caller.as_ref()
    }
}

impl Access {
    /// The access of a call with these extensions. The server sets the principal. Without a
    /// principal the call has no rights.
    pub fn of(extensions: &http::Extensions) -> Self {
        Self(extensions.get::<Arc<Principal>>().cloned().unwrap_or_else(Principal::nobody))
    }

    /// The access of a principal.
    #[cfg(test)]
    pub fn to(principal: Arc<Principal>) -> Self {
        Self(principal)
    }

    /// Checks the name of a collection in a request, and that the caller may use it. The failure does not tell if there
    /// is such a collection.
    pub fn name(&self, field: &str, name: &str, limits: &Limits) -> Result<AllowedName, Failure> {
        parse::collection_name(field, name, limits)?;
        if !self.0.may_use(name) {
            return Err(self.not_among(name));
        }
        Ok(AllowedName { name: name.to_owned(), caller: self.0.shared_name() })
    }

    fn not_among(&self, name: &str) -> Failure {
        let (name, own) = (super::status::shown(name), self.0.collections());
        let reason = format!("collection {name} is not among those of the caller, which are {own}: use another key");
        audit::refused(&self.0, &reason);
        Failure::NotAllowed { reason }
    }

    /// The name of the caller; `None` where callers have no names.
    pub fn caller(&self) -> Option<&str> {
        self.0.name()
    }

    /// Returns true if the caller may use a collection.
    pub fn may_use(&self, collection: &str) -> bool {
        self.0.may_use(collection)
    }

    /// Returns true if the caller may see and copy everything that the server holds.
    pub fn administers_server(&self) -> bool {
        self.0.administers_server()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use tonic::Code;

    use super::*;
    use crate::identity::Patterns;

    #[test]
    fn every_call_of_the_service_has_its_need_in_the_table() {
        let files = FileDescriptorSet::decode(crate::wire::DESCRIPTORS).unwrap().file;
        let services = files.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
        let (_, service) = services.into_iter().find(|(p, s)| format!("{p}.{}", s.name()) == SERVICE).unwrap();
        let calls: Vec<&str> = service.method.iter().map(|method| method.name()).collect();
        assert_eq!(NEEDS.map(|(method, _)| method).to_vec(), calls);
    }

    #[test]
    fn a_call_is_denied_without_its_role_and_a_backup_without_all_collections() {
        let with = |role, pattern: &str| Principal::new("a".to_owned(), role, Patterns::parse([pattern]).unwrap());
        for (method, need) in NEEDS {
            for role in Role::ALL {
                let checked = check(&format!("/{SERVICE}/{method}"), &with(role, "*"));
                assert_eq!(checked.is_ok(), role >= need.role, "{method} {role}");
            }
        }
        let denied = check("/cognate.v1.Cognate/Backup", &with(Role::Admin, "a-*")).unwrap_err();
        assert_eq!(tonic::Status::from(denied).code(), Code::PermissionDenied);
        for other in ["/grpc.health.v1.Health/Check", "/cognate.v1.Cognate/None", "", "/", "nothing"] {
            assert_eq!(check(other, &with(Role::Read, "a")), Ok(()), "{other}");
        }
    }

    #[test]
    fn the_table_in_docs_has_the_need_of_every_call() {
        let docs = include_str!("../../docs/security.md");
        for (method, Need { role, scope }) in NEEDS {
            let scope = match scope {
                Scope::None => "–",
                Scope::Collection => "collection",
                Scope::Server => "all collections",
            };
            let row = format!("| `{method}` | {role} | {scope} |");
            assert!(docs.contains(&row), "docs/security.md lacks {row}");
        }
    }

    #[test]
    fn a_call_without_a_principal_reaches_no_collection() {
        let access = Access::of(&http::Extensions::new());
        let refused = access.name("collection", "a", &Limits::default()).unwrap_err();
        assert_eq!(tonic::Status::from(refused).code(), Code::PermissionDenied);
        assert!(!access.administers_server());
    }
}
