//! The check of the engine at the start: which it is, its version, and its plugin for vectors.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::engine::Engine;
use super::error::StartError;
use super::http::Method;

/// Versions of the engine that were tried: from this one on, below the other.
const VERSIONS: ((u32, u32), u32) = ((2, 19), 4);

#[derive(Deserialize)]
struct About {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    distribution: String,
    number: String,
}

#[derive(Deserialize)]
struct Plugin {
    name: String,
    component: String,
}

/// The name of the engine with its version, if it is one that was tried and can search by vectors.
pub(super) async fn checked(engine: &Engine) -> Result<String, StartError> {
    let about: About = engine.ask(Method::Get, "/".to_owned(), None).await.map_err(StartError::Unreachable)?;
    let Version { distribution, number } = about.version;
    let name = format!("{} {number}", if distribution.is_empty() { "elasticsearch" } else { &distribution });
    if distribution != "opensearch" || !is_tried(&number) {
        return Err(StartError::Version { found: name });
    }
    check_plugins(engine).await?;
    Ok(name)
}

/// Checks that every node has the plugin for vectors.
async fn check_plugins(engine: &Engine) -> Result<(), StartError> {
    let nodes: Vec<Plugin> =
        engine.ask(Method::Get, "/_cat/plugins?format=json".to_owned(), None).await.map_err(StartError::Unreachable)?;
    let names: Vec<BTreeMap<String, String>> = engine
        .ask(Method::Get, "/_cat/nodes?format=json&h=name".to_owned(), None)
        .await
        .map_err(StartError::Unreachable)?;
    let has = |node: &str| nodes.iter().any(|one| one.name == node && one.component == "opensearch-knn");
    match names.iter().filter_map(|node| node.get("name")).find(|node| !has(node)) {
        Some(node) => Err(StartError::NoPlugin { node: node.clone() }),
        None => Ok(()),
    }
}

/// True if this version was tried.
fn is_tried(number: &str) -> bool {
    let (from, below) = VERSIONS;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    (major, minor) >= from && major < below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_2_19_to_3_are_accepted() {
        assert!(["2.19.1", "2.20", "3.0.0", "3.9.1-SNAPSHOT"].into_iter().all(is_tried));
        assert!(!["2.18.9", "1.3.0", "4.0.0", "", "x"].into_iter().any(is_tried));
    }
}
