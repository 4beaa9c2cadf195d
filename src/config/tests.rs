//! Settings from flags, environment and file, and mistakes in them.

use std::io::Write;

use super::settings::{self, variable};
use super::*;
use crate::model;

fn flags(given: &[(&'static str, &str)]) -> Flags {
    Flags(given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect())
}

fn nothing(_: &str) -> Option<String> {
    None
}

#[test]
fn the_defaults_are_valid_and_those_of_the_parts() {
    let config = Config::resolve(&Flags::default(), nothing).unwrap();
    let limits = rpc::Limits::default();
    assert_eq!(format!("{:?}", config.limits), format!("{limits:?}"));
    assert_eq!(config.addr.to_string(), "127.0.0.1:50051");
    assert_eq!(config.models[0].model.source, model::DEFAULT_MODEL);
    assert!(config.embedder.threads >= 1);
}

#[test]
fn the_number_of_threads_is_that_of_the_model_and_of_graphs() {
    let config = Config::resolve(&flags(&[("threads", "3")]), nothing).unwrap();
    assert_eq!((config.embedder.threads, config.store.index.threads), (3, 3));
}

#[test]
fn the_table_in_docs_has_every_setting() {
    let table = include_str!("../../docs/configuration.md");
    for setting in settings::all() {
        for name in [format!("`--{} ", setting.key.replace('_', "-")), variable(setting.key)] {
            assert!(table.contains(&name), "docs/configuration.md lacks {name}");
        }
    }
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"max_k = 3\nmax_texts = 4\nmax_calls = 5\noffline = true\n").unwrap();
    let given = flags(&[("max_k", "1"), ("config", file.path().to_str().unwrap())]);
    let env = |name: &str| match name {
        "COGNATE_MAX_K" | "COGNATE_MAX_TEXTS" => Some("2".to_owned()),
        "COGNATE_MAX_CALLS" => Some(String::new()),
        _ => None,
    };
    let config = Config::resolve(&given, env).unwrap();
    assert_eq!((config.limits.max_k, config.limits.max_texts, config.limits.max_calls), (1, 2, 5));
    assert!(config.models[0].model.offline);
}

#[test]
fn all_mistakes_are_reported_together_each_with_its_source() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"colour = 1\nmax_calls = 0\nlog = [1]\n").unwrap();
    let given = flags(&[("threads", "none"), ("config", file.path().to_str().unwrap())]);
    let env = |name: &str| match name {
        "COGNATE_MAX_TEXT_BYTES" => Some("12 parsecs".to_owned()),
        "COGNATE_CPU" => Some("mmx".to_owned()),
        _ => None,
    };
    let text = Config::resolve(&given, env).unwrap_err().to_string();
    assert!(text.starts_with("the configuration has 6 mistakes:"), "{text}");
    for part in [
        "`colour` in",
        "`log` in",
        "`max_calls` in",
        "--threads is \"none\"",
        "COGNATE_MAX_TEXT_BYTES is \"12 parsecs\"",
        "COGNATE_CPU is \"mmx\": expected portable, ",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_missing_file_is_a_mistake() {
    let text = Config::resolve(&flags(&[("config", "/no/such.toml")]), nothing).unwrap_err().to_string();
    assert!(text.contains("/no/such.toml cannot be read"), "{text}");
}

#[test]
fn a_message_budget_smaller_than_four_messages_is_a_mistake() {
    let given = flags(&[("message_budget", "7MiB"), ("max_message_bytes", "2MiB")]);
    let text = Config::resolve(&given, nothing).unwrap_err().to_string();
    assert!(text.contains("message_budget is 7340032 bytes, and max_message_bytes is 2097152"), "{text}");
    let config = Config::resolve(&flags(&[("message_budget", "64MiB")]), nothing).unwrap();
    assert_eq!(config.server.message_budget.total(), 64 << 20);
}

#[test]
fn what_is_public_or_insecure_applies_to_a_server_with_keys() {
    for key in ["public_info", "public_reflection", "insecure"] {
        let text = Config::resolve(&flags(&[(key, "true")]), nothing).unwrap_err().to_string();
        assert!(text.contains(&format!("{key} is true, and there are no keys")), "{text}");
    }
    let config = Config::resolve(&flags(&[("public_info", "true"), ("keys", "keys.toml")]), nothing).unwrap();
    let authentication = &config.server.authentication;
    assert!(authentication.public_info && !authentication.public_reflection && authentication.keys.is_none());
    assert_eq!(config.keys, Some(PathBuf::from("keys.toml")));
}

#[test]
fn pythons_offline_switch_counts_too() {
    let env = |name: &str| (name == "HF_HUB_OFFLINE").then(|| "1".to_owned());
    assert!(Config::resolve(&Flags::default(), env).unwrap().models[0].model.offline);
}
