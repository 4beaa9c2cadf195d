//! The third source: the hub, or a mirror of it, through hf-hub. The only file that names that crate.
//!
//! hf-hub has no time-outs: a network that swallows packets would hold the start for minutes. So a
//! first small request must be answered soon, and after it some bytes must keep coming.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, FileProgress, Progress, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFClientBuilder, HFError, HFRepository, RepoTypeModel};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cache::{Cache, Snapshot};
use super::error::{LocateError, Reason};
use super::layout::{Layout, WANTED};
use super::{Event, layout};

/// A hub that is reachable answers well within this; a closed network is given up after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any pause of a download that still lives; shorter than a person's patience.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts after the first, within `ANSWER_TIMEOUT`: enough for one lost packet.
const RETRIES: usize = 2;

/// Another client of the cache (Python) may hold hf-hub's lock of a file, which waits 10 s for it: so
/// many times, ten minutes in all.
const LOCKED_TRIES: usize = 60;

/// The hub as the environment describes it.
#[derive(Debug)]
pub(super) struct Hub {
    client: HFClient,
    answer_timeout: Duration,
}

impl Hub {
    /// Endpoint, token and cache from `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE`, `HF_HOME`; no request is made.
    pub(super) fn from_environment() -> Result<Self, LocateError> {
        Self::new(HFClient::builder(), ANSWER_TIMEOUT)
    }

    fn new(builder: HFClientBuilder, answer_timeout: Duration) -> Result<Self, LocateError> {
        let client = builder
            .user_agent(concat!("cognate/", env!("CARGO_PKG_VERSION")))
            .retry_max_attempts(RETRIES)
            .build()
            .map_err(|error| LocateError::Client { problem: chain(&error) })?;
        Ok(Self { client, answer_timeout })
    }

    pub(super) fn endpoint(&self) -> &str {
        self.client.endpoint()
    }

    pub(super) fn cache_directory(&self) -> &Path {
        self.client.cache_dir()
    }

    /// Downloads what is missing of a model into the cache. Blocks; `events` gets the bytes.
    pub(super) fn fetch(
        &self,
        id: &str,
        revision: &str,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<Snapshot, Reason> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Reason::Hub { problem: format!("no runtime for it: {error}") })?;
        let fetched = runtime.block_on(self.download(id, revision, events));
        // Not dropped: that would wait for a name look-up or a file lock that was given up.
        runtime.shutdown_background();
        fetched
    }

    async fn download(&self, id: &str, revision: &str, events: &mut dyn FnMut(Event<'_>)) -> Result<Snapshot, Reason> {
        let (owner, name) = hf_hub::split_id(id);
        let repository = self.client.model(owner, name);
        self.ask(&repository, revision).await?;
        let directory = transfer(&repository, revision, events).await?;
        Layout::check_complete(&directory).map_err(Reason::Incomplete)?;
        let commit = directory.file_name().and_then(|name| name.to_str()).unwrap_or(revision).to_owned();
        if !directory.join(layout::MODULES).is_file() {
            Cache::new(self.cache_directory()).record_absence(id, &commit, layout::MODULES)?;
        }
        Ok(Snapshot { revision: commit, directory })
    }

    /// Whether the hub is there and has the revision.
    async fn ask(&self, repository: &HFRepository<RepoTypeModel>, revision: &str) -> Result<(), Reason> {
        match tokio::time::timeout(self.answer_timeout, repository.revision_exists().revision(revision).send()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Reason::NotOnHub { revision: revision.to_owned() }),
            Ok(Err(error)) => Err(problem(&error)),
            Err(_) => Err(Reason::NoAnswer(self.answer_timeout)),
        }
    }
}

async fn transfer(
    repository: &HFRepository<RepoTypeModel>,
    revision: &str,
    events: &mut dyn FnMut(Event<'_>),
) -> Result<PathBuf, Reason> {
    let mut result = Err(Reason::Stalled(STALL_TIMEOUT));
    for _ in 0..LOCKED_TRIES {
        let (sender, mut reports) = mpsc::unbounded_channel();
        let download = repository
            .snapshot_download()
            .revision(revision)
            .allow_patterns(WANTED.map(str::to_owned).to_vec())
            .progress(Progress::new(Reporter(sender)))
            .send();
        tokio::pin!(download);
        let mut bytes = Bytes::default();
        let mut alive = Instant::now();
        // Says whether anything has moved: the chunk store reports ten times a second in any case.
        let mut report = |event| {
            let moved = bytes.add(&event);
            if moved {
                events(Event::Bytes { done: bytes.done(), total: bytes.total });
            }
            moved
        };
        let outcome = loop {
            tokio::select! {
                outcome = &mut download => break outcome,
                Some(event) = reports.recv() => {
                    if report(event) {
                        alive = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(alive + STALL_TIMEOUT) => return Err(Reason::Stalled(STALL_TIMEOUT)),
            }
        };
        while let Ok(event) = reports.try_recv() {
            report(event);
        }
        match outcome {
            Ok(directory) => return Ok(directory),
            Err(error @ HFError::CacheLockTimeout { .. }) => {
                events(Event::Waiting);
                result = Err(problem(&error));
            }
            Err(error) => return Err(problem(&error)),
        }
    }
    result
}

/// Carries hf-hub's reports, made anywhere, to the thread of the caller.
struct Reporter(mpsc::UnboundedSender<DownloadEvent>);

impl ProgressHandler for Reporter {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Download(event) = event {
            // The receiver is gone when the download was given up; then nobody wants to know.
            self.0.send(event.clone()).ok();
        }
    }
}

/// Sums hf-hub's reports, which come file by file.
#[derive(Default)]
struct Bytes {
    total: u64,
    files: HashMap<String, u64>,
}

impl Bytes {
    /// Whether anything has moved.
    fn add(&mut self, event: &DownloadEvent) -> bool {
        let before = (self.done(), self.total);
        match event {
            // Each file announces itself too, after the whole did: the whole is the largest.
            DownloadEvent::Start { total_bytes, .. } => self.total = self.total.max(*total_bytes),
            DownloadEvent::Progress { files } => {
                for FileProgress { filename, bytes_completed, .. } in files {
                    self.files.insert(filename.clone(), *bytes_completed);
                }
            }
            // The aggregate is of the chunk store's files, and counts what they report themselves.
            DownloadEvent::AggregateProgress { .. } | DownloadEvent::Complete => {}
        }
        before != (self.done(), self.total)
    }

    fn done(&self) -> u64 {
        self.files.values().sum::<u64>().min(self.total)
    }
}

fn problem(error: &HFError) -> Reason {
    let problem = match error {
        // Its own text and that of its cause are the address, twice; what failed comes below them.
        HFError::Request { source, .. } => std::error::Error::source(source).map_or_else(|| chain(source), chain),
        other => chain(other),
    };
    Reason::Hub { problem }
}

/// An error and its causes in one line: the first says "request error", the last says why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
impl Hub {
    /// A hub where nothing listens, with its cache in `cache`.
    pub(super) fn nowhere(cache: &Path) -> Self {
        let builder = HFClient::builder().endpoint("http://127.0.0.1:1").token("none").cache_dir(cache);
        Self::new(builder, ANSWER_TIMEOUT).expect("the address is one")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use serde_json::json;

    use super::super::tests::write_model;
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A hub of one model, `owner/name`, whose files are those of a folder.
    fn serve(model: PathBuf) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let model = model.clone();
                std::thread::spawn(move || answer(&model, &stream.unwrap()));
            }
        });
        address
    }

    /// One request, one response, as the hub's API gives it.
    fn answer(model: &Path, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let Some(request) = lines.next() else { return };
        let _headers = lines.take_while(|line| !line.is_empty()).count();
        let mut words = request.split_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let path = target.split('?').next().unwrap();
        let file = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")).map(|file| model.join(file));
        let body = match path {
            "/api/models/owner/name/revision/main" => {
                Some(json!({"id": "owner/name", "sha": COMMIT}).to_string().into())
            }
            path if path == format!("/api/models/owner/name/tree/{COMMIT}") => Some(tree(model).to_string().into()),
            _ => file.and_then(|file| std::fs::read(file).ok()),
        };
        let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\netag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\n\r\n",
            body.len(),
            path.replace('/', "_"),
        );
        // A client that has gone is no concern of a test's.
        stream.write_all(head.as_bytes()).ok();
        if method == "GET" {
            stream.write_all(&body).ok();
        }
    }

    fn tree(model: &Path) -> serde_json::Value {
        let mut folders = vec![model.to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(model).unwrap().to_str().unwrap();
                files.push(json!({"type": "file", "oid": "0", "size": path.metadata().unwrap().len(), "path": name}));
            }
        }
        files.into()
    }

    fn hub(endpoint: String, cache: &Path) -> Hub {
        let builder = HFClient::builder().endpoint(endpoint).token("none").cache_dir(cache);
        Hub::new(builder, ANSWER_TIMEOUT).unwrap()
    }

    /// A folder with `model/`, a whole model, and `cache/`.
    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write_model(&root.path().join("model"));
        root
    }

    #[test]
    fn a_model_is_downloaded_into_the_cache_without_what_nobody_needs() {
        let root = folder();
        for other in ["onnx/model.onnx", "pytorch_model.bin", "README.md", "onnx/config.json"] {
            let path = root.path().join("model").join(other);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "not needed").unwrap();
        }
        let cache = root.path().join("cache");
        let mut bytes = Vec::new();
        let hub = hub(serve(root.path().join("model")), &cache);
        let snapshot = hub
            .fetch("owner/name", "main", &mut |event| {
                if let Event::Bytes { done, total } = event {
                    bytes.push((done, total));
                }
            })
            .unwrap();
        assert_eq!(snapshot.revision, COMMIT);
        assert_eq!(Cache::new(&cache).find("owner/name", "main", None).unwrap(), snapshot);
        for other in ["onnx", "pytorch_model.bin", "README.md"] {
            assert!(!snapshot.directory.join(other).exists(), "{other}");
        }
        assert!(bytes.is_sorted_by_key(|(done, _)| *done), "{bytes:?}");
        let (done, total) = *bytes.last().unwrap();
        assert!(done == total && total > 0, "{bytes:?}");
    }

    #[test]
    fn a_model_without_modules_is_found_in_the_cache_afterwards() {
        let root = folder();
        std::fs::remove_file(root.path().join("model/modules.json")).unwrap();
        let cache = root.path().join("cache");
        let hub = hub(serve(root.path().join("model")), &cache);
        let snapshot = hub.fetch("owner/name", "main", &mut |_| {}).unwrap();
        assert_eq!(Cache::new(&cache).find("owner/name", "main", None).unwrap(), snapshot);
    }

    #[test]
    fn a_model_that_the_hub_has_without_safetensors_names_what_is_missing() {
        let root = folder();
        std::fs::remove_file(root.path().join("model/model.safetensors")).unwrap();
        let hub = hub(serve(root.path().join("model")), &root.path().join("cache"));
        let error = hub.fetch("owner/name", "main", &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("model.safetensors is missing"), "{error}");
    }

    #[test]
    fn an_unknown_revision_or_model_is_said_so() {
        let root = folder();
        let hub = hub(serve(root.path().join("model")), &root.path().join("cache"));
        for (id, revision) in [("owner/name", "v9"), ("owner/other", "main")] {
            let error = hub.fetch(id, revision, &mut |_| {}).unwrap_err();
            assert!(matches!(error, Reason::NotOnHub { .. }), "{id} {revision}: {error}");
        }
    }

    #[test]
    fn a_hub_that_does_not_answer_is_given_up_soon() {
        let root = folder();
        // Connections are accepted by the system and never by us.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut hub = hub(format!("http://{}", silent.local_addr().unwrap()), root.path());
        hub.answer_timeout = Duration::from_millis(200);
        let started = Instant::now();
        let error = hub.fetch("owner/name", "main", &mut |_| {}).unwrap_err();
        assert!(matches!(error, Reason::NoAnswer(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn an_unreachable_hub_gives_the_systems_reason() {
        let root = folder();
        let error = Hub::nowhere(root.path()).fetch("owner/name", "main", &mut |_| {}).unwrap_err().to_string();
        assert!(error.to_lowercase().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn fetching_works_from_a_blocking_thread_of_an_async_program() {
        let root = folder();
        let hub = hub(serve(root.path().join("model")), &root.path().join("cache"));
        let fetched = tokio::task::spawn_blocking(move || hub.fetch("owner/name", "main", &mut |_| {}).is_ok());
        assert!(fetched.await.unwrap());
    }

    #[test]
    fn each_byte_is_counted_once_however_often_it_is_reported() {
        let file = |filename: &str, bytes_completed| FileProgress {
            filename: filename.to_owned(),
            bytes_completed,
            total_bytes: 50,
            status: hf_hub::progress::FileStatus::InProgress,
        };
        let aggregate = DownloadEvent::AggregateProgress { bytes_completed: 40, total_bytes: 50, bytes_per_sec: None };
        let mut bytes = Bytes::default();
        assert!(bytes.add(&DownloadEvent::Start { total_files: 2, total_bytes: 100 }));
        assert!(bytes.add(&DownloadEvent::Progress { files: vec![file("a", 4)] }));
        assert!(bytes.add(&DownloadEvent::Progress { files: vec![file("a", 10), file("b", 40)] }));
        assert!(!bytes.add(&aggregate), "the same bytes");
        assert!(!bytes.add(&DownloadEvent::Progress { files: vec![file("b", 40)] }), "nothing has moved");
        assert!(!bytes.add(&DownloadEvent::Start { total_files: 1, total_bytes: 50 }));
        assert_eq!((bytes.done(), bytes.total), (50, 100));
    }
}
