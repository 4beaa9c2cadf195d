//! The settings of a store on OpenSearch.

use std::path::PathBuf;
use std::time::Duration;

/// Where the engine is, who calls it, and the settings of indices that are created.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses of its nodes, `http://host:9200` or `https://…`; at least one. They are tried in turn.
    pub hosts: Vec<String>,
    /// User and password; `None`: requests name no user.
    pub user: Option<(String, String)>,
    /// A PEM file with the certificates of authorities that are trusted instead of those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files with the client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Time of one attempt. Higher: slow searches end well, and a node that hangs is given up later.
    pub timeout: Duration,
    /// Shards of a new index. Higher: more nodes share the work, and each search asks more of them.
    pub shards: u32,
    /// Copies of each shard of a new index. Higher: as many nodes may fail, at the cost of as many times the memory.
    pub replicas: u32,
    /// Time between two refreshes. Higher: segments are larger and searches faster, and each commit waits for longer.
    pub refresh_interval: Duration,
    /// The beginning of the names of all indices.
    pub prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: vec!["http://localhost:9200".to_owned()],
            user: None,
            ca: None,
            identity: None,
            timeout: Duration::from_secs(30),
            shards: 1,
            replicas: 1,
            refresh_interval: Duration::from_secs(1),
            prefix: "cognate-".to_owned(),
        }
    }
}
