//! The third source: the hub, or a mirror of it, through hf-hub. Only this file uses that crate.
//!
//! hf-hub has no time-outs: a network that drops packets would stop the start for minutes. So a first small request
//! must be answered soon, and after it bytes must keep coming.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, FileProgress, Progress, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFClientBuilder, HFError, HFRepository, RepoTypeModel};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cache::{Cache, Snapshot};
use super::error::{LocateError, Reason};
use super::layout;
use super::layout::Kind;
use super::options::Options;
use super::origin::Event;

/// Time for the first answer. A reachable hub answers well within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without bytes after which a download has failed. It is longer than any pause of a live download.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts after the first one, within `ANSWER_TIMEOUT`: enough for a lost packet.
const RETRIES: usize = 2;

/// Tries for a file that another client of the cache (Python) has locked. hf-hub waits 10 s for each, so ten minutes in
/// all.
const LOCKED_TRIES: usize = 60;

/// The hub that the environment describes.
#[derive(Debug)]
pub(super) struct Hub {
    client: HFClient,
    answer_timeout: Duration,
}

impl Hub {
    /// Reads endpoint, token and cache from `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE` and `HF_HOME`. No request is
    /// made.
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

    /// Downloads the missing files of a model into the cache. Blocks. `events` gets the bytes.
    pub(super) fn fetch(&self, wanted: &Options, events: &mut dyn FnMut(Event<'_>)) -> Result<Snapshot, Reason> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Reason::Hub { problem: format!("the download cannot be started: {error}") })?;
        let fetched = runtime.block_on(self.download(wanted, events));
        // Dropping it would wait for a name look-up or a file lock that was given up.
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

    /// Checks that the hub answers and has the revision.
    async fn ask(&self, repository: &HFRepository<RepoTypeModel>, revision: &str) -> Result<(), Reason> {
        match tokio::time::timeout(self.answer_timeout, repository.revision_exists().revision(revision).send()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Reason::NotOnHub { revision: revision.to_owned() }),
            Ok(Err(error)) => Err(problem(&error)),
            Err(_) => Err(Reason::NoAnswer(self.answer_timeout)),
        }
    }
}

/// Downloads the files. Returns the folder of the snapshot.
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
        // Returns whether bytes have moved: the chunk store reports ten times a second in any case.
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

/// Carries hf-hub's reports to the thread of the caller.
struct Reporter(mpsc::UnboundedSender<DownloadEvent>);

impl ProgressHandler for Reporter {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Download(event) = event {
            // The receiver is gone if the download was given up.
            self.0.send(event.clone()).ok();
        }
    }
}

/// The sum of hf-hub's reports, which come file by file.
#[derive(Default)]
struct Bytes {
    total: u64,
    files: HashMap<String, u64>,
}

impl Bytes {
    /// Adds a report. Returns whether bytes have moved.
    fn add(&mut self, event: &DownloadEvent) -> bool {
        let before = (self.done(), self.total);
        match event {
            // The whole announces itself first, and then each file. The whole is the largest.
            DownloadEvent::Start { total_bytes, .. } => self.total = self.total.max(*total_bytes),
            DownloadEvent::Progress { files } => {
                for FileProgress { filename, bytes_completed, .. } in files {
                    self.files.insert(filename.clone(), *bytes_completed);
                }
            }
            // The aggregate counts files of the chunk store, which also report themselves.
            DownloadEvent::AggregateProgress { .. } | DownloadEvent::Complete => {}
        }
        before != (self.done(), self.total)
    }

    fn done(&self) -> u64 {
        self.files.values().sum::<u64>().min(self.total)
    }
}

/// Describes a failed request.
fn problem(error: &HFError) -> Reason {
    let problem = match error {
        // Its text and that of its cause are the address, twice. The causes below them say what failed.
        HFError::Request { source, .. } => std::error::Error::source(source).map_or_else(|| chain(source), chain),
        other => chain(other),
    };
    Reason::Hub { problem }
}

/// Writes an error and its causes in one line. The first says "request error", and the last has the reason.
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
    /// Makes a hub where nothing listens, with its cache in `cache`.
    pub(super) fn nowhere(cache: &Path) -> Self {
        let builder = HFClient::builder().endpoint("http://127.0.0.1:1").token("none").cache_dir(cache);
        Self::new(builder, ANSWER_TIMEOUT).expect("the address is one")
    }
}

#[cfg(test)]
mod tests;
