//! Changes the text of a keys file, as the commands do: a key is added at its end, and a revoked one gets a line.
//!
//! Invariants: all other lines stay as they are, comments included. A changed text is read again before it is given
//! back, so a file in a form that cannot be changed like this is refused, and never damaged.

use super::entry::KeyFile;
use super::key::{Digest, KeyId};
use super::moment::Moment;
use super::principal::Principal;
use super::text::{Mistakes, VERSION};
use crate::compute::Limits;

/// The beginning of a new file.
const HEADER: &str = "# Keys of a Cognate server: `cognate keys --help`. It has no secrets, only their SHA-256.\n";

/// A changed text.
#[derive(Debug)]
pub struct Edited {
    /// The whole text.
    pub text: String,
    /// Its content.
    pub file: KeyFile,
}

/// The reason why a text was not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEdited {
    /// The text before, or the new entry, has mistakes.
    #[error(transparent)]
    Wrong(#[from] Mistakes),
    /// The change would need a form of the file that these functions do not write.
    #[error("the file has a form that only an editor can change: expected entries that begin with [[keys]]")]
    Form,
}

/// Adds a key to the text of a file; to an empty text, for a new file.
pub fn add(
    text: &str,
    principal: &Principal,
    (id, digest): (KeyId, Digest),
    (created, expires): (Moment, Option<Moment>),
) -> Result<Edited, NotEdited> {
    let before = if text.trim().is_empty() { format!("{HEADER}version = {VERSION}\n") } else { text.to_owned() };
    let n_before = KeyFile::parse(&before)?.keys.len();
    let line_feed = if before.ends_with('\n') { "" } else { "\n" };
    let collections: Vec<String> = principal.collections().texts().map(|pattern| format!("\"{pattern}\"")).collect();
    let expires = expires.map(|expires| format!("expires = \"{expires}\"\n")).unwrap_or_default();
    let limits = principal.limits();
    let limits = if limits == Limits::default() { String::new() } else { format!("limits = {{ {limits} }}\n") };
    let text = format!(
        "{before}{line_feed}\n[[keys]]\nname = \"{}\"\nid = \"{id}\"\nsha256 = \"{digest}\"\nrole = \"{}\"\n\
         collections = [{}]\n{limits}created = \"{created}\"\n{expires}",
        principal.name().unwrap_or_default(),
        principal.role(),
        collections.join(", "),
    );
    let file = match KeyFile::parse(&text) {
        Ok(file) => file,
        // `keys = [...]` on one line takes no entry of its own.
        Err(mistakes) if mistakes.to_string().contains("not TOML") => return Err(NotEdited::Form),
        Err(mistakes) => return Err(mistakes.into()),
    };
    let added = file.keys.len() == n_before + 1 && file.keys.last().is_some_and(|key| key.id == id);
    if added { Ok(Edited { text, file }) } else { Err(NotEdited::Form) }
}

/// Revokes keys that are not revoked yet.
pub fn revoke(text: &str, ids: &[KeyId], now: Moment) -> Result<Edited, NotEdited> {
    let before = KeyFile::parse(text)?;
    let mut places: Vec<usize> =
        before.keys.iter().filter(|key| ids.contains(&key.id)).map(|key| key.after_id).collect();
    places.sort_unstable();
    let mut text = text.to_owned();
    // From the end, so that the places before stay right.
    for place in places.into_iter().rev() {
        let end_of_line = text[place..].find('\n').map_or(text.len(), |at| place + at);
        text.insert_str(end_of_line, &format!("\nrevoked = \"{now}\""));
    }
    let file = KeyFile::parse(&text).map_err(|_| NotEdited::Form)?;
    let is_right = file.keys.len() == before.keys.len()
        && file.keys.iter().zip(&before.keys).all(|(after, before)| {
            let expected = if ids.contains(&before.id) { Some(now) } else { before.revoked };
            after.id == before.id && after.revoked == expected && after.principal == before.principal
        });
    if is_right { Ok(Edited { text, file }) } else { Err(NotEdited::Form) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::key::NewKey;
    use super::super::pattern::Patterns;
    use super::super::principal::Role;
    use super::*;

    fn principal(name: &str, role: Role) -> Principal {
        let limits =
            Limits { calls: NonZeroU32::new(4), tokens_per_second: NonZeroU32::new(1_000), ..Limits::default() };
        Principal::new(name.to_owned(), role, Patterns::parse(["team-*", "shared"]).unwrap()).with_limits(limits)
    }

    fn now() -> Moment {
        Moment::parse("2026-11-26T11:00:00Z").unwrap()
    }

    fn added(text: &str, name: &str, role: Role) -> Result<(Edited, KeyId), NotEdited> {
        let key = NewKey::generate().unwrap();
        let edited = add(text, &principal(name, role), (key.id, key.digest), (now(), now().after_days(30)))?;
        Ok((edited, key.id))
    }

    #[test]
    fn keys_are_added_and_revoked_and_all_other_lines_stay() {
        let (first, first_id) = added("", "a", Role::Read).unwrap();
        assert!(first.text.starts_with(HEADER) && first.file.keys.len() == 1);
        let commented = first.text.replace("[[keys]]", "# of the search team\n[[keys]]");
        let (second, second_id) = added(&commented, "a", Role::Read).unwrap();
        assert!(second.text.starts_with(&commented));
        assert_eq!(*second.file.keys[1].principal, principal("a", Role::Read));
        assert_eq!(second.file.keys[1].expires, now().after_days(30));

        let revoked = revoke(&second.text, &[first_id], now()).unwrap();
        assert_eq!(revoked.file.keys.iter().map(|key| key.revoked).collect::<Vec<_>>(), [Some(now()), None]);
        let without: Vec<&str> = revoked.text.lines().filter(|line| !line.starts_with("revoked")).collect();
        assert_eq!(without, second.text.lines().collect::<Vec<_>>());
        let both = revoke(&second.text, &[first_id, second_id], now()).unwrap();
        assert!(both.file.keys.iter().all(|key| key.revoked == Some(now())));
    }

    #[test]
    fn a_key_with_other_rights_than_its_name_has_is_refused() {
        let (first, _) = added("", "a", Role::Read).unwrap();
        let error = added(&first.text, "a", Role::Admin).unwrap_err().to_string();
        assert!(error.contains("a has the role read"), "{error}");
    }

    #[test]
    fn a_file_in_another_form_is_refused_and_not_damaged() {
        let (file, id) = added("", "a", Role::Read).unwrap();
        let (_, fields) = file.text.split_once("[[keys]]\n").unwrap();
        let inline = format!("version = 1\nkeys = [{{ {} }}]\n", fields.trim().replace('\n', ", "));
        assert_eq!(KeyFile::parse(&inline).unwrap().keys.len(), 1);
        assert_eq!(revoke(&inline, &[id], now()).unwrap_err(), NotEdited::Form);
        assert_eq!(added(&inline, "b", Role::Read).unwrap_err(), NotEdited::Form);
        assert!(matches!(added("colour = 1", "b", Role::Read), Err(NotEdited::Wrong(_))));
    }
}
