//! The tables of settings: each name, default and effect, once.

mod access;
mod documents;
mod limits;
mod models;
mod setting;

use setting::setting;
pub use setting::{SEPARATOR, Setting, variable};

/// Settings of the process: its file of settings and its log.
const PROCESS: &[Setting] = &[
    setting("config", "FILE", "", "TOML file of settings; flags and environment variables override it"),
    setting(
        "log",
        "FILTER",
        "info,hf_hub=off",
        "Log level: error, warn, info or debug, also for one module: cognate=debug",
    ),
    setting("log_format", "FORMAT", "text", "Log format: text or json"),
    setting(
        "access_log",
        "CALLS",
        "none",
        "Calls that get a line in the log when they end: none, errors, all, or 1/N for one call in N",
    ),
];

/// All settings, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [PROCESS, access::ACCESS, models::MODELS, limits::LIMITS, documents::DOCUMENTS].into_iter().flatten()
}

/// The setting of this name.
pub fn find(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}
