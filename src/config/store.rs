//! The settings of a store that is a search engine.

use std::path::PathBuf;

use super::reader::Reader;
use super::values::{duration, path, whole};
use crate::opensearch;

/// The beginning of a value that names an engine; the scheme of its addresses follows.
const OPENSEARCH: &str = "opensearch+";

/// The port of an engine whose address has none.
const PORT: u16 = 9_200;

/// The variable with the password. There is no flag for it: other users can read the flags of a process.
const PASSWORD: &str = "COGNATE_STORE_PASSWORD";

/// Settings of the store of this process. They mean nothing with an engine.
const LOCAL_ONLY: &[&str] = &[
    "data_dir",
    "in_memory",
    "min_free_bytes",
    "text_cache_bytes",
    "max_stored_bytes",
    "max_documents",
    "max_collections",
    "max_collection_bytes",
    "max_collection_documents",
    "max_collection_fields",
    "ef_search",
    "ef_construction",
    "sketches",
];

/// Settings that mean nothing without an engine.
const ENGINE_ONLY: &[&str] = &[
    "store_user",
    "store_password_file",
    "store_ca",
    "store_cert",
    "store_key",
    "store_timeout",
    "store_shards",
    "store_replicas",
    "store_refresh_interval",
    "store_prefix",
];

/// The addresses in the value of `store`; none if it is empty.
pub(super) fn hosts(value: &str) -> Result<Vec<String>, String> {
    let expected = || format!("expected {OPENSEARCH}https://HOST:{PORT}, with http instead of https for no TLS");
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let (scheme, hosts) =
        value.strip_prefix(OPENSEARCH).and_then(|address| address.split_once("://")).ok_or_else(expected)?;
    if !matches!(scheme, "http" | "https") {
        return Err(expected());
    }
    let address = |host: &str| {
        let host = host.trim().trim_end_matches('/');
        if host.contains('@') {
            return Err("the address has a user: set store_user, and the password in a file".to_owned());
        }
        // The colons of an IPv6 address stand in brackets.
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().map_err(|_| expected())?),
            _ => (host, PORT),
        };
        if name.is_empty() || name.contains(['/', '?', '#', ' ']) {
            Err(expected())
        } else {
            Ok(format!("{scheme}://{name}:{port}"))
        }
    };
    hosts.split(',').map(address).collect()
}

/// The beginning of the names of indices.
fn prefix(value: &str) -> Result<String, String> {
    let is_sound = value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        && value.len() <= 64;
    match is_sound {
        true => Ok(value.to_owned()),
        false => Err("expected up to 64 lowercase letters, digits, - and _, the first a letter or digit".to_owned()),
    }
}

impl Reader<'_> {
    /// The engine that keeps the collections; `None`: they are in this process.
    pub(super) fn engine(&mut self) -> Option<opensearch::Options> {
        let hosts = self.get("store", hosts);
        let options = opensearch::Options {
            user: self.user(),
            ca: self.get("store_ca", path),
            identity: self.identity(),
            timeout: self.get("store_timeout", duration),
            shards: self.get("store_shards", |s| whole(s, 1, 1_024)) as u32,
            replicas: self.get("store_replicas", |s| whole(s, 0, 16)) as u32,
            refresh_interval: self.get("store_refresh_interval", duration),
            prefix: self.get("store_prefix", prefix),
            hosts,
        };
        let is_used = !options.hosts.is_empty();
        let (not_used, with) = if is_used {
            (LOCAL_ONLY, "applies to collections in this process, and store names an engine")
        } else {
            (ENGINE_ONLY, "applies to an engine, and store names none")
        };
        for key in not_used {
            if let Some((_, source)) = self.given(key) {
                self.mistakes.push(format!("{source} is given, which {with}: leave one of them out"));
            }
        }
        is_used.then_some(options)
    }

    /// The user and the password.
    fn user(&mut self) -> Option<(String, String)> {
        let (user, file) = (self.get("store_user", |s| Ok(s.to_owned())), self.get("store_password_file", path));
        let variable = (self.env)(PASSWORD).filter(|password| !password.is_empty());
        let password = match (variable, file) {
            (Some(_), Some(_)) => Err(format!("{PASSWORD} and store_password_file are given: leave one of them out")),
            (Some(password), None) => Ok(Some(password)),
            (None, Some(file)) => read(&file).map(Some),
            (None, None) => Ok(None),
        };
        match (password, user.as_str()) {
            (Err(mistake), _) => self.mistakes.push(mistake),
            (Ok(None), "") => {}
            (Ok(Some(password)), user) if !user.is_empty() => return Some((user.to_owned(), password)),
            (Ok(Some(_)), _) => self.mistakes.push("a password of the store is given without store_user".to_owned()),
            (Ok(None), _) => self
                .mistakes
                .push(format!("store_user is given without a password: set {PASSWORD}, or store_password_file")),
        }
        None
    }

    /// The files of the client's certificate and its key.
    fn identity(&mut self) -> Option<(PathBuf, PathBuf)> {
        match (self.get("store_cert", path), self.get("store_key", path)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.mistakes.push("store_cert and store_key belong together: give both, or none".to_owned());
                None
            }
        }
    }
}

/// Reads a password: the first line of a file.
fn read(file: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("store_password_file {} cannot be read: {error}", file.display()))?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(format!("store_password_file {} has an empty first line: expected the password", file.display())),
        password => Ok(password.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags::Flags;
    use super::*;

    #[test]
    fn addresses_have_the_scheme_and_the_port_of_the_engine() {
        assert_eq!(hosts(""), Ok(vec![]));
        assert_eq!(hosts("opensearch+https://a"), Ok(vec!["https://a:9200".to_owned()]));
        let several = hosts("opensearch+http://a:1, [::1],[::2]:3/").unwrap();
        assert_eq!(several, ["http://a:1", "http://[::1]:9200", "http://[::2]:3"]);
        for wrong in [
            "x",
            "http://a",
            "opensearch+ftp://a",
            "opensearch+http://",
            "opensearch+http://a:b",
            "opensearch+http://a/b",
        ] {
            assert!(hosts(wrong).unwrap_err().starts_with("expected opensearch+https://HOST:9200"), "{wrong}");
        }
        assert!(hosts("opensearch+https://u:p@a").unwrap_err().contains("set store_user"));
    }

    fn resolved(given: &[(&'static str, &str)], password: Option<&str>) -> Result<opensearch::Options, String> {
        let flags = Flags(given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect());
        let env = |name: &str| password.filter(|_| name == PASSWORD).map(str::to_owned);
        let mut reader = Reader::new(&flags, &env);
        let engine = reader.engine();
        if reader.mistakes.is_empty() { Ok(engine.unwrap_or_default()) } else { Err(reader.mistakes.join("; ")) }
    }

    #[test]
    fn settings_that_would_be_ignored_are_refused_by_name() {
        let store = ("store", "opensearch+http://a");
        for key in LOCAL_ONLY {
            let refused = resolved(&[store, (key, "1")], None).unwrap_err();
            assert!(refused.contains(&format!("--{} is given, which applies", key.replace('_', "-"))), "{refused}");
        }
        for key in ENGINE_ONLY {
            let refused = resolved(&[(key, "1")], None).unwrap_err();
            assert!(refused.contains(&format!("--{} is given, which applies", key.replace('_', "-"))), "{refused}");
        }
        assert!(resolved(&[store], None).is_ok());
    }

    #[test]
    fn a_user_has_a_password_from_one_place_and_a_certificate_its_key() {
        let store = ("store", "opensearch+http://a");
        let user = ("store_user", "u");
        assert!(resolved(&[store, user], None).unwrap_err().contains("store_user is given without a password"));
        assert!(resolved(&[store], Some("p")).unwrap_err().contains("without store_user"));
        assert_eq!(resolved(&[store, user], Some("p")).unwrap().user, Some(("u".to_owned(), "p".to_owned())));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"from a file\n").unwrap();
        let in_file = ("store_password_file", file.path().to_str().unwrap());
        assert_eq!(resolved(&[store, user, in_file], None).unwrap().user.unwrap().1, "from a file");
        assert!(resolved(&[store, user, in_file], Some("p")).unwrap_err().contains("leave one of them out"));
        assert!(resolved(&[store, ("store_cert", "c")], None).unwrap_err().contains("belong together"));
    }

    #[test]
    fn a_prefix_is_one_of_an_index() {
        assert_eq!(prefix("cognate-"), Ok("cognate-".to_owned()));
        for wrong in ["", "-a", "_a", "A", "a*", "a,b", "a/b", &"a".repeat(65)] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }
}
