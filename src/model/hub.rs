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
use super::kind::Kind;
use super::{Event, Options, layout};

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
    pub(super) fn fetch(&self, wanted: &Options, events: &mut dyn FnMut(Event<'_>)) -> Result<Snapshot, Reason> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Reason::Hub { problem: format!("no runtime for it: {error}") })?;
        let fetched = runtime.block_on(self.download(wanted, events));
        // Not dropped: that would wait for a name look-up or a file lock that was given up.
        runtime.shutdown_background();
        fetched
    }

    async fn download(&self, wanted: &Options, events: &mut dyn FnMut(Event<'_>)) -> Result<Snapshot, Reason> {
        let (id, revision, kind) = (&wanted.source, wanted.revision(), &wanted.kind);
        let (owner, name) = hf_hub::split_id(id);
        let repository = self.client.model(owner, name);
        self.ask(&repository, revision).await?;
        let directory = transfer(&repository, revision, kind, events).await?;
        kind.check_complete(&directory).map_err(Reason::Incomplete)?;
        let commit = directory.file_name().and_then(|name| name.to_str()).unwrap_or(revision).to_owned();
        if kind.has_modules() && !directory.join(layout::MODULES).is_file() {
            Cache::new(self.cache_directory(), kind.clone()).record_absence(id, &commit, layout::MODULES)?;
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
    kind: &Kind,
    events: &mut dyn FnMut(Event<'_>),
) -> Result<PathBuf, Reason> {
    let mut result = Err(Reason::Stalled(STALL_TIMEOUT));
    for _ in 0..LOCKED_TRIES {
        let (sender, mut reports) = mpsc::unbounded_channel();
        let download = repository
            .snapshot_download()
            .revision(revision)
            .allow_patterns(kind.patterns())
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
mod tests;
