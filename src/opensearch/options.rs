//! The settings of a store on OpenSearch.

use std::path::PathBuf;
use std::time::Duration;

/// The addresses of the engine, the identity of its caller, and the settings of indices that are created.
#[derive(Clone)]
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

/// Without the password.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_ref().map(|(user, _)| user);
        f.debug_struct("Options").field("hosts", &self.hosts).field("user", &user).finish_non_exhaustive()
    }
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
