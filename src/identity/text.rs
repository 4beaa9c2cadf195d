//! Reads the text of a keys file. Every mistake is reported, with its line and entry.
//!
//! Invariant: a mistake never quotes a digest or a key, in case a key was written where its digest belongs.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::certificate::San;
use super::entry::{CertificateEntry, KeyEntry, KeyFile};
use super::key::{Digest, KeyId};
use super::moment::Moment;
use super::pattern::Patterns;
use super::principal::{Principal, Role, check_name};
use crate::compute::{Limit, Limits};

/// The version of the format.
pub(super) const VERSION: u8 = 1;

/// The most keys and certificates of a file.
const MAX_ENTRIES: usize = 10_000;

/// The most mistakes that are reported.
const MAX_MISTAKES: usize = 20;

/// The most characters of a wrong value that a mistake quotes.
const SHOWN: usize = 100;

const KEY_FIELDS: [&str; 9] =
    ["name", "id", "sha256", "role", "collections", "limits", "created", "expires", "revoked"];
const CERTIFICATE_FIELDS: [&str; 5] = ["name", "certificate", "role", "collections", "limits"];

/// The mistakes in a keys file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().take(MAX_MISTAKES).cloned().collect::<Vec<_>>().join("; "))?;
        let more = self.0.len().saturating_sub(MAX_MISTAKES);
        if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
    }
}

impl KeyFile {
    /// Reads the text of a keys file.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let mut reader = Reader { text, mistakes: Vec::new(), principals: BTreeMap::new() };
        let file = reader.file();
        if reader.mistakes.is_empty() { Ok(file) } else { Err(Mistakes(reader.mistakes)) }
    }
}

struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<String>,
    principals: BTreeMap<String, Arc<Principal>>,
}

/// A value with its place in the text.
struct Found<'a, 't> {
    value: &'a DeValue<'t>,
    place: Range<usize>,
}

/// The fields of an entry.
struct Fields<'a, 't> {
    /// The entry, for messages: `keys[2]`.
    entry: String,
    at: usize,
    by_name: BTreeMap<&'a str, Found<'a, 't>>,
}

impl<'t> Reader<'t> {
    fn file(&mut self) -> KeyFile {
        let mut file = KeyFile::default();
        let parsed = match DeTable::parse(self.text) {
            Ok(parsed) => parsed,
            Err(error) => {
                // Its message alone: the rest of the error quotes the text.
                self.mistake(error.span().map_or(0, |span| span.start), format!("not TOML: {}", error.message()));
                return file;
            }
        };
        let top = self.fields(String::new(), 0, parsed.get_ref(), &["version", "keys", "certificates"]);
        match top.by_name.get("version").map(|found| found.value.as_integer().map(|n| n.as_str())) {
            Some(Some("1")) => {}
            Some(_) => return self.refuse(file, format!("version: expected {VERSION}, the only one that is known")),
            None => return self.refuse(file, format!("version is missing: expected `version = {VERSION}` at the top")),
        }
        for entry in self.entries(&top, "keys", &KEY_FIELDS) {
            let key = self.key(&entry);
            file.keys.extend(key);
        }
        for entry in self.entries(&top, "certificates", &CERTIFICATE_FIELDS) {
            let certificate = self.certificate(&entry);
            file.certificates.extend(certificate);
        }
        if file.keys.len() + file.certificates.len() > MAX_ENTRIES {
            let n = file.keys.len() + file.certificates.len();
            return self.refuse(file, format!("{n} keys and certificates exceed the limit of {MAX_ENTRIES}"));
        }
        self.check_unique(&file);
        file
    }

    fn refuse(&mut self, file: KeyFile, what: String) -> KeyFile {
        self.mistake(0, what);
        file
    }

    /// Records a mistake at a byte of the text.
    fn mistake(&mut self, at: usize, what: impl fmt::Display) {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        self.mistakes.push(format!("line {line}: {what}"));
    }

    /// The fields of a table. Those that are not known are mistakes.
    fn fields<'a>(&mut self, entry: String, at: usize, table: &'a DeTable<'t>, known: &[&str]) -> Fields<'a, 't> {
        let mut by_name = BTreeMap::new();
        for (name, value) in table.iter() {
            let is_known = known.contains(&&**name.get_ref());
            if is_known {
                by_name.insert(&**name.get_ref(), Found { value: value.get_ref(), place: value.span() });
            } else {
                let dot = if entry.is_empty() { "" } else { "." };
                let name = shown(name.get_ref());
                self.mistake(value.span().start, format!("{entry}{dot}{name} is no field: {}", known.join(", ")));
            }
        }
        Fields { entry, at, by_name }
    }

    /// The entries of a list of tables.
    fn entries<'a>(&mut self, top: &Fields<'a, 't>, name: &str, known: &[&str]) -> Vec<Fields<'a, 't>> {
        let Some(found) = top.by_name.get(name) else { return Vec::new() };
        let Some(list) = found.value.as_array() else {
            self.mistake(found.place.start, format!("{name}: expected entries that begin with [[{name}]]"));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (n, item) in list.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => entries.push(self.fields(format!("{name}[{n}]"), item.span().start, table, known)),
                None => self.mistake(item.span().start, format!("{name}[{n}]: expected a table")),
            }
        }
        entries
    }

    fn key(&mut self, entry: &Fields<'_, 't>) -> Option<KeyEntry> {
        let id = self.needed(entry, "id", |text| {
            KeyId::parse(text).ok_or_else(|| "expected 16 lower-case hex digits".to_owned())
        });
        let digest = self.needed(entry, "sha256", |text| {
            Digest::parse(text).ok_or_else(|| "expected 64 lower-case hex digits, the SHA-256 of the key".to_owned())
        });
        let after_id = entry.by_name.get("id").map_or(0, |found| found.place.end);
        let [created, expires, revoked] = ["created", "expires", "revoked"].map(|name| self.moment(entry, name));
        let principal = self.principal(entry)?;
        Some(KeyEntry { principal, id: id?, digest: digest?, created, expires, revoked, after_id })
    }

    fn certificate(&mut self, entry: &Fields<'_, 't>) -> Option<CertificateEntry> {
        let san = self.needed(entry, "certificate", San::parse);
        Some(CertificateEntry { principal: self.principal(entry)?, san: san? })
    }

    /// The principal of an entry. Entries of one name share one, so they agree in their rights.
    fn principal(&mut self, entry: &Fields<'_, 't>) -> Option<Arc<Principal>> {
        let name = self.needed(entry, "name", |name| check_name(name).map(|()| name.to_owned()));
        let role = self.needed(entry, "role", str::parse::<Role>);
        let (collections, limits) = (self.collections(entry), self.limits(entry));
        let principal = Principal::new(name?, role?, collections?).with_limits(limits?);
        let name = principal.name().unwrap_or_default().to_owned();
        match self.principals.get(&name) {
            Some(known) if **known == principal => Some(Arc::clone(known)),
            Some(known) => {
                let (role, collections, limits) = (known.role(), known.collections(), known.limits());
                let what = format!(
                    "{}: {name} has the role {role}, the collections {collections} and the limits {{ {limits} }} \
                     above: entries of one name are one principal, so repeat these, or choose another name",
                    entry.entry
                );
                self.mistake(entry.at, what);
                None
            }
            None => {
                let principal = Arc::new(principal);
                self.principals.insert(name, Arc::clone(&principal));
                Some(principal)
            }
        }
    }

    /// The patterns of an entry; all collections if it has none.
    fn collections(&mut self, entry: &Fields<'_, 't>) -> Option<Patterns> {
        let Some(found) = entry.by_name.get("collections") else { return Some(Patterns::all()) };
        let texts = found.value.as_array().map(|list| list.iter().map(|item| item.get_ref().as_str()));
        let texts: Option<Vec<&str>> = texts.and_then(Iterator::collect);
        let parsed = match texts.filter(|texts| !texts.is_empty()) {
            Some(texts) => Patterns::parse(texts),
            None => Err("expected a list of one or more strings".to_owned()),
        };
        parsed.map_err(|reason| self.mistake(found.place.start, format!("{}.collections: {reason}", entry.entry))).ok()
    }

    /// The limits of an entry; none if it has no such field.
    fn limits(&mut self, entry: &Fields<'_, 't>) -> Option<Limits> {
        let Some(found) = entry.by_name.get("limits") else { return Some(Limits::default()) };
        let (path, at) = (format!("{}.limits", entry.entry), found.place.start);
        let names = Limit::ALL.map(Limit::name);
        let Some(table) = found.value.as_table() else {
            self.mistake(at, format!("{path}: expected {{ {} = N }}, or several of {}", names[0], names.join(", ")));
            return None;
        };
        let (fields, mut limits, mut is_right) = (self.fields(path, at, table, &names), Limits::default(), true);
        for limit in Limit::ALL {
            let Some(found) = fields.by_name.get(limit.name()) else { continue };
            let value = found.value.as_integer().and_then(|n| n.as_str().parse().ok());
            if value.and_then(|value| limits.set(limit, value)).is_none() {
                is_right = false;
                let what = format!("{}.{limit}: expected a whole number from 1 to {}", fields.entry, limit.highest());
                self.mistake(found.place.start, what);
            }
        }
        is_right.then_some(limits)
    }

    fn moment(&mut self, entry: &Fields<'_, 't>, name: &str) -> Option<Moment> {
        let found = entry.by_name.get(name)?;
        let text = match found.value {
            DeValue::Datetime(time) => time.to_string(),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        let parsed = Moment::parse(&text);
        parsed.map_err(|reason| self.mistake(found.place.start, format!("{}.{name}: {reason}", entry.entry))).ok()
    }

    /// A string that each entry must have.
    fn needed<T>(
        &mut self,
        entry: &Fields<'_, 't>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(found) = entry.by_name.get(name) else {
            self.mistake(entry.at, format!("{}.{name} is missing", entry.entry));
            return None;
        };
        let parsed = found.value.as_str().ok_or_else(|| "expected a string".to_owned()).and_then(parse);
        parsed.map_err(|reason| self.mistake(found.place.start, format!("{}.{name}: {reason}", entry.entry))).ok()
    }

    /// Checks that no two keys have one id, and no two entries one name in certificates.
    fn check_unique(&mut self, file: &KeyFile) {
        let mut ids = HashSet::new();
        for key in file.keys.iter().filter(|key| !ids.insert(key.id)) {
            self.mistake(key.after_id, format!("the id {} stands here for the second time", key.id));
        }
        let mut sans = HashSet::new();
        let twice: Vec<String> =
            file.certificates.iter().filter(|entry| !sans.insert(&entry.san)).map(|e| e.san.to_string()).collect();
        for san in twice {
            self.mistakes.push(format!("the certificate {san} has two entries: expected one"));
        }
    }
}

/// The beginning of a name from the file, for a message.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
