//! Gets a model from the hub, or from a mirror of it, through hf-hub. Only this file uses that crate.
//!
//! hf-hub 0.5 and not 1.0: from 1.0 on it always brings the client of the hub's chunk store (xet), a tenth of the time
//! of a whole build. The hub serves the same files over plain HTTP.
//!
//! hf-hub has no time-outs: a network that drops packets would stop the start for minutes. So a first small request
//! must be answered soon, and after it bytes must keep coming. All files belong to the one commit that this request
//! named, even if the revision moves meanwhile. Content that another revision brought into the cache is not downloaded
//! again.

mod environment;
mod failure;
mod listing;

use std::path::Path;
use std::time::Duration;

use hf_hub::api::tokio::{Api, ApiBuilder, ApiError, ApiRepo, Progress};
use hf_hub::{Cache as HubCache, Repo, RepoType};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::environment::Environment;
use self::failure::{chain, problem};
use self::listing::{File, Listing};
use super::cache::{Cache, Snapshot};
use super::error::{LocateError, Reason};
use super::modules;
use super::options::Options;
use super::origin::Event;

/// Time for the first answer. A reachable hub answers well within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without bytes after which a download has failed. It is longer than any pause of a live download.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts after the first one, for a request that cannot be sent and for a file whose download breaks off. A later
/// attempt goes on where the earlier one ended.
const RETRIES: usize = 2;

/// Another process may hold hf-hub's lock of a file, for which hf-hub waits 5 s: ten minutes in all.
const LOCKED_TRIES: usize = 120;

/// The hub as the environment describes it.
pub(super) struct Hub {
    environment: Environment,
    api: Api,
    answer_timeout: Duration,
}

impl Hub {
    /// Endpoint, token and cache from the variables of [`Environment`]; no request is made.
    pub(super) fn from_environment() -> Result<Self, LocateError> {
        Self::new(Environment::read(), ANSWER_TIMEOUT)
    }

    fn new(environment: Environment, answer_timeout: Duration) -> Result<Self, LocateError> {
        let api = ApiBuilder::from_cache(HubCache::new(environment.cache.clone()))
            .with_endpoint(environment.endpoint.clone())
            .with_token(environment.token.clone())
            .with_user_agent("cognate", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| LocateError::Client { problem: chain(&error) })?;
        Ok(Self { environment, api, answer_timeout })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.environment.endpoint
    }

    pub(super) fn cache_directory(&self) -> &Path {
        &self.environment.cache
    }

    /// Downloads the missing files of a model into the cache. Blocks; `events` gets the bytes.
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
        let listing = self.ask(id, revision).await?;
        let files = listing.matching(&kind.patterns())?;
        let (at_commit, cached) = self.repository(id, &listing.commit);
        let directory = cached.pointer_path(&listing.commit);
        let mut report = Report { done: 0, total: files.iter().map(|file| file.size).sum(), events };
        for file in &files {
            if !directory.join(&file.name).exists() && !link(&cached, file, &directory) {
                transfer(&at_commit, &file.name, &mut report).await?;
            }
            report.finish(file.size);
        }
        self.repository(id, revision).1.create_ref(&listing.commit).map_err(|error| Reason::Hub {
            problem: format!("{revision} cannot be noted in the cache {}: {error}", self.cache_directory().display()),
        })?;
        kind.check_complete(&directory).map_err(Reason::Incomplete)?;
        if kind.has_modules() && !directory.join(modules::MODULES).is_file() {
            Cache::new(self.cache_directory(), kind.clone()).record_absence(id, &listing.commit, modules::MODULES)?;
        }
        Ok(Snapshot { revision: listing.commit, directory })
    }

    fn repository(&self, id: &str, revision: &str) -> (ApiRepo, hf_hub::CacheRepo) {
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        (self.api.repo(repo.clone()), HubCache::new(self.environment.cache.clone()).repo(repo))
    }

    /// The files of a revision, if the hub is there and has it.
    async fn ask(&self, id: &str, revision: &str) -> Result<Listing, Reason> {
        let (repository, _) = self.repository(id, revision);
        let asked = async {
            let mut failed = 0;
            loop {
                match repository.info_request().query(&[("blobs", "true")]).send().await {
                    Ok(response) if response.status().as_u16() == 404 => {
                        return Err(Reason::NotOnHub { revision: revision.to_owned() });
                    }
                    Ok(response) => return listing::read(response.error_for_status().map_err(problem)?).await,
                    Err(error) if error.is_connect() && failed < RETRIES => failed += 1,
                    Err(error) => return Err(problem(error)),
                }
            }
        };
        tokio::time::timeout(self.answer_timeout, asked).await.unwrap_or(Err(Reason::NoAnswer(self.answer_timeout)))
    }
}

/// Links a file of a snapshot to its content, if the cache has it. False: it must be downloaded.
#[cfg(unix)]
fn link(cached: &hf_hub::CacheRepo, file: &File, snapshot: &Path) -> bool {
    let Some(digest) = file.digest() else { return false };
    let is_whole = |content: std::fs::Metadata| content.is_file() && (file.size == 0 || content.len() == file.size);
    if !cached.blob_path(digest).symlink_metadata().is_ok_and(is_whole) {
        return false;
    }
    let (path, up) = (snapshot.join(&file.name), "../".repeat(file.name.split('/').count() + 1));
    let folder = std::fs::create_dir_all(path.parent().unwrap_or(snapshot));
    // Another process may have been faster.
    let linked = folder.and_then(|()| std::os::unix::fs::symlink(format!("{up}blobs/{digest}"), &path));
    linked.is_ok() || path.exists()
}

/// Other systems link only for some users: the file is downloaded again.
#[cfg(not(unix))]
fn link(_: &hf_hub::CacheRepo, _: &File, _: &Path) -> bool {
    false
}

/// Downloads one file, again where the connection breaks or another process has the file.
async fn transfer(repository: &ApiRepo, name: &str, report: &mut Report<'_>) -> Result<(), Reason> {
    let (mut broken, mut locked) = (0, 0);
    loop {
        match attempt(repository, name, report).await? {
            Ok(()) => return Ok(()),
            Err(ApiError::LockAcquisition(_)) if locked < LOCKED_TRIES => {
                locked += 1;
                (report.events)(Event::Waiting);
            }
            // An answer with a status is an answer; only a broken connection may do better the next time.
            Err(ApiError::RequestError(error)) if error.status().is_none() && broken < RETRIES => broken += 1,
            Err(error) => return Err(problem(error)),
        }
    }
}

/// One attempt, which ends when nothing has moved for [`STALL_TIMEOUT`].
async fn attempt(repository: &ApiRepo, name: &str, report: &mut Report<'_>) -> Result<Result<(), ApiError>, Reason> {
    let (sender, mut received) = mpsc::unbounded_channel();
    let download = repository.download_with_progress(name, Received(sender));
    tokio::pin!(download);
    let (mut bytes, mut alive) = (0, Instant::now());
    loop {
        tokio::select! {
            outcome = &mut download => return Ok(outcome.map(drop)),
            Some(more) = received.recv() => {
                (bytes, alive) = (bytes + more as u64, Instant::now());
                report.moved(bytes);
            }
            () = tokio::time::sleep_until(alive + STALL_TIMEOUT) => return Err(Reason::Stalled(STALL_TIMEOUT)),
        }
    }
}

/// Carries the bytes that hf-hub's tasks receive to the thread of the caller.
#[derive(Clone)]
struct Received(mpsc::UnboundedSender<usize>);

impl Progress for Received {
    async fn init(&mut self, _size: usize, _filename: &str) {}

    async fn update(&mut self, size: usize) {
        // The receiver is gone when the download was given up; then nobody wants to know.
        self.0.send(size).ok();
    }

    async fn finish(&mut self) {}
}

/// Sums the bytes of all files for the caller's progress bar.
struct Report<'a> {
    /// Bytes of the files that are complete.
    done: u64,
    total: u64,
    events: &'a mut dyn FnMut(Event<'_>),
}

impl Report<'_> {
    /// `bytes` of the present file are there.
    fn moved(&mut self, bytes: u64) {
        (self.events)(Event::Bytes { done: (self.done + bytes).min(self.total), total: self.total });
    }

    /// The present file of `size` bytes is complete.
    fn finish(&mut self, size: u64) {
        self.moved(size);
        self.done += size;
    }
}

#[cfg(test)]
impl Hub {
    /// Makes a hub where nothing listens, with its cache in `cache`.
    pub(super) fn nowhere(cache: &Path) -> Self {
        Self::at("http://127.0.0.1:1", cache, ANSWER_TIMEOUT)
    }

    fn at(endpoint: &str, cache: &Path, answer_timeout: Duration) -> Self {
        let environment = Environment { endpoint: endpoint.to_owned(), cache: cache.to_owned(), token: None };
        Self::new(environment, answer_timeout).expect("the address is one")
    }
}

#[cfg(test)]
mod tests;
