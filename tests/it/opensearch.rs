//! Real nodes of OpenSearch for tests, alone and as a cluster: started from Maven's artifacts (`tests/opensearch`),
//! stopped, killed and started again on the same data and the same ports.
//!
//! A node takes about 0.9 GB of memory and ten seconds for its start. So tests that start nodes run one after the
//! other ([`turn`]).

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::installed::{install, repository, target_dir};

/// The time that a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Half a gigabyte is what a node takes for small indexes; one thread collects garbage, because many nodes share two
/// cores.
const JVM: [&str; 3] = ["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC"];

/// Waits until no other test has nodes: the memory of a machine is not enough for several clusters.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Returns the folder with the program of a node. The first test that asks builds it.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = target_dir().join("opensearch");
        let mut maven = Command::new("mvn");
        maven.current_dir(repository().join("tests/opensearch")).args(["-q", "-B", "compile"]);
        maven.arg(format!("-DbuildDirectory={}", built.display()));
        install(&mut maven, "Maven 3.8, Java 17 or later, and a repository of Maven's artifacts");
        fs::create_dir_all(built.join("home/config")).expect("the target directory can be written");
        built
    })
}

/// A node: its process, and what it needs to start again. It is killed when dropped.
pub struct Node {
    child: Option<Child>,
    settings: Vec<String>,
    http: u16,
    folder: PathBuf,
    /// The folder of a node that is alone.
    _own: Option<TempDir>,
}

impl Node {
    /// Starts a node that is a cluster of its own, and waits until it is green.
    pub async fn start() -> Self {
        let own = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
        let [http, transport] = free_ports();
        let mut node = Self::new(own.path().join("node"), [http, transport]);
        node.settings.push("discovery.type=single-node".to_owned());
        node._own = Some(own);
        node.restart();
        node.wait_for("wait_for_status=green").await;
        node
    }

    fn new(folder: PathBuf, [http, transport]: [u16; 2]) -> Self {
        fs::create_dir_all(&folder).expect("the target directory can be written");
        let name = folder.file_name().expect("it has a name").display();
        let path = |name: &str| folder.join(name).display().to_string();
        let settings = vec![
            format!("node.name={name}"),
            format!("path.home={}", program().join("home").display()),
            format!("path.data={}", path("data")),
            format!("path.logs={}", path("logs")),
            format!("http.port={http}"),
            format!("transport.port={transport}"),
            // A test fills no disk, and the machine's may be nearly full.
            "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
        ];
        Self { child: None, settings, http, folder, _own: None }
    }

    /// Starts the process on its data and its ports.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the node runs");
        let libraries = fs::read_to_string(program().join("classpath")).expect("Maven has written it");
        let classes = program().join("classes");
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log can be made");
        let mut java = Command::new("java");
        java.args(JVM).arg("-cp").arg(format!("{}:{libraries}", classes.display())).arg("TestNode");
        java.args(&self.settings)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        self.child = Some(java.spawn().expect("Maven has run, so Java is there"));
    }

    /// The address, as `--store` takes it behind `opensearch+`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Ends the process with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the node runs");
            child.wait().expect("it can be waited for");
        }
    }

    /// Stops the node in good order.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let killed = Command::new("kill").arg(child.id().to_string()).status();
        assert!(killed.expect("kill runs").success());
        tokio::task::spawn_blocking(move || child.wait()).await.unwrap().expect("it can be waited for");
    }

    /// Waits until the cluster, as this node sees it, is as a query of `_cluster/health` says.
    pub async fn wait_for(&mut self, health: &str) {
        let (begun, path) = (Instant::now(), format!("_cluster/health?timeout=5s&{health}"));
        loop {
            if let Some(found) = self.ask(&path).await
                && found["timed_out"] == false
            {
                return;
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("it can be asked")) {
                panic!("the node ended with {status}; its log:\n{}", self.log());
            }
            assert!(begun.elapsed() < START_TIMEOUT, "not {health} after {START_TIMEOUT:?}; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns the answer to a GET, or `None` if the node does not answer with JSON.
    pub async fn ask(&self, path: &str) -> Option<Value> {
        let answer = reqwest::get(format!("{}/{path}", self.url())).await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// Returns what the node has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes. Each may be the cluster manager and has data, so the cluster goes on with two of them.
pub struct Cluster {
    pub nodes: Vec<Node>,
    // Removed behind its nodes.
    _folder: TempDir,
}

impl Cluster {
    /// Starts three nodes, and waits until all are there.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
        let ports: [[u16; 2]; 3] = [free_ports(), free_ports(), free_ports()];
        let seeds = ports.map(|[_, transport]| format!("127.0.0.1:{transport}")).join(",");
        let mut nodes: Vec<Node> = Vec::new();
        for (n, ports) in ports.into_iter().enumerate() {
            let mut node = Node::new(folder.path().join(format!("node{n}")), ports);
            node.settings.extend([
                format!("discovery.seed_hosts={seeds}"),
                "cluster.initial_cluster_manager_nodes=node0,node1,node2".to_owned(),
            ]);
            node.restart();
            nodes.push(node);
        }
        let mut cluster = Self { nodes, _folder: folder };
        cluster.wait_for("wait_for_status=green&wait_for_nodes=3").await;
        cluster
    }

    /// Waits until every node that runs sees the cluster so.
    pub async fn wait_for(&mut self, health: &str) {
        for node in self.nodes.iter_mut().filter(|node| node.child.is_some()) {
            node.wait_for(health).await;
        }
    }

    /// All nodes, as `--store` takes them.
    pub fn store(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.http)).collect();
        format!("opensearch+http://{}", hosts.join(","))
    }
}

/// Returns free ports below those that the system gives to outgoing connections: one of these could be taken while the
/// node starts.
fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: OnceLock<std::sync::Mutex<u16>> = OnceLock::new();
    let first = || std::sync::Mutex::new(12_000 + (std::process::id() % 16_000) as u16);
    let mut next = NEXT.get_or_init(first).lock().unwrap();
    std::array::from_fn(|_| {
        loop {
            *next += 1;
            if TcpListener::bind(("127.0.0.1", *next)).is_ok() {
                return *next;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn a_node_keeps_its_indexes_over_a_crash() {
    let _turn = turn().await;
    let mut node = Node::start().await;
    let (client, url) = (reqwest::Client::new(), node.url());
    let index = client.put(format!("{url}/kept")).send().await.unwrap();
    assert!(index.status().is_success(), "{}", node.log());
    node.kill();
    assert_eq!(node.ask("kept").await, None);
    node.restart();
    node.wait_for("wait_for_no_initializing_shards=true").await;
    assert!(node.ask("kept").await.is_some_and(|kept| kept["kept"].is_object()), "{}", node.log());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn a_cluster_of_three_goes_on_with_two() {
    let _turn = turn().await;
    let mut cluster = Cluster::start().await;
    cluster.nodes[0].kill();
    cluster.wait_for("wait_for_nodes=2").await;
    cluster.nodes[0].restart();
    cluster.wait_for("wait_for_nodes=3").await;
}
