//! Reads the value of one setting: from the flags, the environment or the file, in this order.
//!
//! Invariant: a mistake never stops the reading. It is recorded with its source, and all are reported together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::flags::Flags;
use super::settings::{self, SEPARATOR, Setting, variable};

/// The sources of settings, and the mistakes that were found in them.
pub(super) struct Reader<'a> {
    flags: &'a Flags,
    /// The environment: a variable's value, by name.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The values of the file, as text.
    file: BTreeMap<String, String>,
    /// The path of the file, for messages.
    path: PathBuf,
    pub(super) mistakes: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of these sources. Reads the file that they name.
    pub(super) fn new(flags: &'a Flags, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let mut reader = Self { flags, env, file: BTreeMap::new(), path: PathBuf::new(), mistakes: Vec::new() };
        reader.read_file();
        reader
    }

    /// Returns the value of a setting from the first source that has one. Records a mistake, and uses the default
    /// instead.
    pub(super) fn get<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let default = settings::find(key).expect("the table has every setting that is read").default;
        if let Some((value, source)) = self.given(key) {
            match parse(&value) {
                Ok(value) => return value,
                Err(reason) => self.mistakes.push(format!("{source} is {value:?}: {reason}")),
            }
        }
        parse(default).expect("the defaults of the table are valid, which a test checks")
    }

    /// Returns a value and the name of its source. An empty variable counts as not given.
    pub(super) fn given(&self, key: &str) -> Option<(String, String)> {
        let flag = || Some((self.flags.0.get(key)?.clone(), format!("--{}", key.replace('_', "-"))));
        let env = || {
            let name = variable(key);
            Some(((self.env)(&name).filter(|v| !v.is_empty())?, name))
        };
        let file = || Some((self.file.get(key)?.clone(), format!("`{key}` in {}", self.path.display())));
        flag().or_else(env).or_else(file)
    }

    fn read_file(&mut self) {
        let Some((path, _)) = self.given("config") else { return };
        self.path = PathBuf::from(path);
        let shown = self.path.display().to_string();
        let table = match std::fs::read_to_string(&self.path) {
            Err(error) => return self.mistakes.push(format!("{shown} cannot be read: {error}")),
            Ok(text) => match text.parse::<toml::Table>() {
                Err(error) => return self.mistakes.push(format!("{shown} is not TOML: {}", error.message())),
                Ok(table) => table,
            },
        };
        for (key, value) in table {
            let value = match value {
                toml::Value::String(s) => s,
                toml::Value::Integer(n) => n.to_string(),
                toml::Value::Boolean(b) => b.to_string(),
                toml::Value::Array(list) if settings::find(&key).is_some_and(Setting::repeats) => {
                    let texts: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
                    match texts {
                        Some(texts) => texts.join(&SEPARATOR.to_string()),
                        None => {
                            self.mistakes.push(format!(
                                "`{key}` in {shown} is a list with a value that is not a string: expected strings only"
                            ));
                            continue;
                        }
                    }
                }
                other => {
                    let kind = other.type_str();
                    self.mistakes
                        .push(format!("`{key}` in {shown} is a {kind}: expected a string, a number or a boolean"));
                    continue;
                }
            };
            if key != "config" && settings::find(&key).is_some() {
                self.file.insert(key, value);
            } else {
                self.mistakes.push(format!("`{key}` in {shown} is not a setting"));
            }
        }
    }
}
