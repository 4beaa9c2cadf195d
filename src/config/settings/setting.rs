//! A setting: its name in each source, its default and its effect.

/// A setting.
pub struct Setting {
    /// Its name, in snake case.
    pub key: &'static str,
    /// The kind of its value, for the help.
    pub value: &'static str,
    /// Its default; empty: no default.
    pub default: &'static str,
    /// Its effect, for the help.
    pub help: &'static str,
}

impl Setting {
    /// Returns true if the setting may have several values: a repeated flag, a list in the file, or values with `;`
    /// between them in the environment.
    pub fn repeats(&self) -> bool {
        matches!(self.key, "classifier" | "classifier_labels" | "cors_origin" | "model" | "reranker")
    }
}

/// The separator between the values of a setting that repeats.
pub const SEPARATOR: char = ';';

/// The environment variable of a setting.
pub fn variable(key: &str) -> String {
    format!("COGNATE_{}", key.to_uppercase())
}

/// A setting, in the short form of the tables.
pub const fn setting(key: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, value, default, help }
}
