//! The settings of the server: the only module that reads its flags, environment and file.
//!
//! One table names every setting. A setting `max_texts` is the flag `--max-texts`, the environment variable
//! `COGNATE_MAX_TEXTS` and the key `max_texts` of the TOML file; the first of them that is given is used. All mistakes
//! are reported together. Reading one value from these sources is left to `config/reader.rs`.

#[cfg(test)]
mod tests;

mod classifiers;
mod flags;
mod memory;
mod models;
mod reader;
mod rerankers;
mod settings;
mod store;
mod transport;
mod values;

use std::fmt;
use std::path::PathBuf;

use values::{address, auto, bound, duration, instructions, listener, one_of, path, size_or_none, truth, whole};

pub use flags::{Flags, IndexFlags};
use memory::MemorySettings;
pub use memory::Shares;
use reader::Reader;
use settings::SEPARATOR;
use transport::origins;
pub use values::size;

use crate::budget::ByteBudget;
use crate::collection::Quota;
use crate::compute::Pools;
use crate::embedder::{DeviceChoice, Precision};
use crate::machine::cores;
use crate::machine::cpu::Level;
use crate::{classifier, collection, embedder, index, metrics, onnx, opensearch, reranker, rpc, server, telemetry};

/// The settings of a server, in the form that each part takes them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on.
    pub addr: server::Address,
    /// The files of TLS; `None`: the server has no TLS.
    pub tls: Option<server::TlsOptions>,
    /// The file of the keys; `None`: everybody may do everything.
    pub keys: Option<PathBuf>,
    /// Allows keys on a network without TLS.
    pub insecure: bool,
    /// The embedding models, at least one; the first is the default.
    pub models: Vec<embedder::Spec>,
    /// The CPU instructions of all arithmetic; `None`: the best that the machine has.
    pub cpu: Option<Level>,
    /// The settings of the embedding model.
    pub embedder: embedder::Options,
    /// The classifiers and their settings.
    pub classifier: classifier::Options,
    /// The rerankers and their settings.
    pub reranker: reranker::Options,
    /// The settings of the ONNX runtime.
    pub onnx: onnx::Options,
    /// The settings and quotas of collections in this process.
    pub store: collection::Options,
    /// The engine that keeps the collections instead; `None`: they are in this process.
    pub engine: Option<opensearch::Options>,
    /// The limits of a request.
    pub limits: rpc::Limits,
    /// The settings of connections and calls.
    pub server: server::Options,
    /// Allows a collection that the same model filled in another precision.
    pub allow_precision_mix: bool,
    /// The shares of the memory.
    pub memory: Shares,
    /// The settings of metrics.
    pub metrics: metrics::Options,
    /// The settings of the log.
    pub telemetry: telemetry::Options,
}

/// All mistakes in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake{}:", self.0.len(), if self.0.len() == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl Config {
    /// Reads the settings from flags, the environment and the file that they name.
    pub fn load(flags: &Flags) -> Result<Self, Mistakes> {
        Self::resolve(flags, |name| std::env::var(name).ok())
    }

    fn resolve(flags: &Flags, env: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(flags, &env);
        let config = reader.config();
        if reader.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(reader.mistakes)) }
    }
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let defaults = (rpc::Limits::default(), index::Options::default());
        let threads = self.get("threads", |s| auto(s, |s| whole(s, 1, 1024))).unwrap_or_else(cores::available);
        let memory = self.memory();
        let limits = rpc::Limits {
            max_texts: self.get("max_texts", |s| whole(s, 1, 65_536)),
            max_text_bytes: self.get("max_text_bytes", size),
            max_k: self.get("max_k", |s| whole(s, 1, 100_000)),
            max_message_bytes: memory.max_message_bytes,
            stored: Quota {
                documents: self.get("max_documents", |s| bound(s, |s| whole(s, 1, usize::MAX - 1))),
                // If the share depends on the memory, it is known when the model is loaded.
                bytes: memory.stored.unwrap_or(usize::MAX),
            },
            collection: Quota {
                documents: self.get("max_collection_documents", |s| bound(s, |s| whole(s, 1, usize::MAX - 1))),
                bytes: self.get("max_collection_bytes", |s| bound(s, size)),
            },
            max_collection_fields: self.get("max_collection_fields", |s| bound(s, |s| whole(s, 1, usize::MAX - 1))),
            max_collections: self.get("max_collections", |s| bound(s, |s| whole(s, 1, usize::MAX - 1))),
            max_queued_tokens: self.get("queue_tokens", |s| whole(s, 1, u32::MAX as usize)),
            max_calls: self.get("max_calls", |s| whole(s, 1, 1_000_000)),
            ..defaults.0
        };
        let index = index::Options {
            ef_search: self.get("ef_search", |s| auto(s, |s| whole(s, 1, 4096))),
            ef_construction: self
                .get("ef_construction", |s| auto(s, |s| whole(s, 8, 4096)))
                .unwrap_or(defaults.1.ef_construction),
            sketches: self.get("sketches", truth),
            threads,
            ..defaults.1
        };
        // hf-hub does not read this variable; Python's library does.
        let offline =
            self.get("offline", truth) || (self.env)("HF_HUB_OFFLINE").is_some_and(|s| truth(&s).unwrap_or(false));
        let onnx = onnx::Options {
            runtime: self.get("onnx_runtime", str::parse::<onnx::Choice>),
            library: self
                .get("onnxruntime", |s| Ok(Some(PathBuf::from(s)).filter(|path| !path.as_os_str().is_empty()))),
            optimization: self.get("onnx_optimization", str::parse::<onnx::Optimization>),
            threads: self.get("onnx_threads", |s| auto(s, |s| whole(s, 1, 1024))).unwrap_or(threads),
        };
        let embedder = embedder::Options {
            device: self.get("device", str::parse::<DeviceChoice>),
            backend: match self.get("backend", |s| one_of(s, &["candle", "onnx"])).as_str() {
                "onnx" => embedder::Backend::Onnx(onnx.clone()),
                _ => embedder::Backend::Candle,
            },
            precision: self.get("precision", str::parse::<Precision>),
            threads,
            batch_tokens: self.get("batch_tokens", |s| auto(s, |s| whole(s, 1, 1 << 20))),
            queue_tokens: limits.max_queued_tokens,
            cache_bytes: memory.embed_cache,
            pools: Pools::new(threads),
        };
        let models = self.models(&embedder.kind(), offline);
        let allowances = embedder.pools.allowances.clone();
        let addr = self.get("addr", listener);
        let console = self.get("console", |s| auto(s, truth)).unwrap_or(addr.is_local());
        let (keys, engine) = (self.get("keys", path), self.engine());
        let directory = if engine.is_some() { None } else { self.data_directory() };
        let memory = if directory.is_some() { memory } else { memory.without_files() };
        let authentication = server::Authentication {
            keys: None, // opened when the server starts
            public_info: self.of_keys("public_info", keys.as_ref()),
            public_reflection: self.of_keys("public_reflection", keys.as_ref()),
        };
        Config {
            tls: self.tls(&addr),
            addr,
            insecure: self.of_keys("insecure", keys.as_ref()),
            keys,
            models,
            cpu: self.get("cpu", |s| auto(s, instructions)),
            classifier: self.classifiers(&embedder, &onnx, offline),
            reranker: self.rerankers(&embedder, &onnx, offline),
            embedder,
            onnx,
            store: collection::Options {
                directory,
                disk: collection::disk::Options {
                    min_free_bytes: self.get("min_free_bytes", size) as u64,
                    cache_bytes: memory.disk_cache,
                    ..collection::disk::Options::default()
                },
                text_cache_bytes: memory.text_cache,
                quota: limits.stored,
                collection_quota: limits.collection,
                max_collections: limits.max_collections,
                max_collection_fields: limits.max_collection_fields,
                allowances,
                index,
            },
            engine,
            server: server::Options {
                max_calls: limits.max_calls,
                connections: self.connections(),
                connection: self.connection(limits.max_message_bytes),
                message_budget: ByteBudget::new(memory.messages),
                drain_timeout: self.get("drain_timeout", duration),
                console,
                origins: self.get("cors_origin", origins),
                authentication,
                access_log: self.get("access_log", str::parse::<server::AccessLog>),
                observers: server::CallObservers::default(),
                monitor: server::Monitor::default(),
            },
            metrics: metrics::Options {
                addr: self.get("metrics_addr", |s| if s.is_empty() { Ok(None) } else { address(s).map(Some) }),
                collections: self.get("metrics_collections", |s| whole(s, 0, 10_000)),
                principals: self.get("metrics_principals", |s| whole(s, 0, 10_000)),
            },
            allow_precision_mix: self.get("allow_precision_mix", truth),
            memory,
            telemetry: telemetry::Options {
                filter: self.get("log", telemetry::Options::check_filter),
                json: self.get("log_format", |s| one_of(s, &["text", "json"])) == "json",
                traces: self.traces(),
            },
            limits,
        }
    }

    /// Reads a setting that is about keys. Without keys it would mean nothing, and is a mistake.
    fn of_keys(&mut self, key: &'static str, keys: Option<&PathBuf>) -> bool {
        let is_set = self.get(key, truth);
        if is_set && keys.is_none() {
            self.mistakes.push(format!("{key} is true, and there are no keys: set keys, or leave it out"));
        }
        is_set
    }

    /// Reads the settings of traces from the variables of OpenTelemetry.
    fn traces(&mut self) -> Option<telemetry::Traces> {
        telemetry::Traces::from_environment(self.env).unwrap_or_else(|mistakes| {
            self.mistakes.extend(mistakes);
            None
        })
    }

    fn memory(&mut self) -> Shares {
        let max_message_bytes = self.get("max_message_bytes", size);
        let messages = self.get("message_budget", |s| auto(s, size));
        // A budget smaller than a message would refuse that message for ever.
        if let Some(bytes) = messages.filter(|bytes| *bytes < max_message_bytes.saturating_mul(4)) {
            self.mistakes.push(format!(
                "message_budget is {bytes} bytes, and max_message_bytes is {max_message_bytes}: \
                 expected at least four times max_message_bytes"
            ));
        }
        Shares::new(MemorySettings {
            messages,
            embed_cache: self.get("embed_cache_bytes", |s| auto(s, size_or_none)),
            text_cache: self.get("text_cache_bytes", |s| auto(s, size_or_none)),
            stored: self.get("max_stored_bytes", |s| auto(s, |s| bound(s, size))),
            max_message_bytes,
            disk_cache: collection::disk::Options::default().cache_bytes,
            // Too high a number only makes the other shares a little smaller.
            scorers: self.count("classifier", 1) + self.count("reranker", 0),
            models: self.count("model", 1),
        })
    }

    /// Counts the values of a setting that repeats.
    fn count(&self, key: &str, default: usize) -> usize {
        self.given(key).map_or(default, |(values, _)| values.split(SEPARATOR).count())
    }

    /// The data directory; `None`: collections stay in memory.
    fn data_directory(&mut self) -> Option<PathBuf> {
        let given = self.get("data_dir", path);
        match (self.get("in_memory", truth), given) {
            (true, Some(directory)) => {
                let directory = directory.display();
                self.mistakes.push(format!("data_dir is \"{directory}\", and in_memory is true: set only one of them"));
                None
            }
            (true, None) => None,
            (false, Some(directory)) => Some(directory),
            (false, None) => {
                let platform = dirs::data_dir().map(|data| data.join("cognate"));
                if platform.is_none() {
                    let reason = "this user has no data directory: give --data-dir, or --in-memory to store nothing";
                    self.mistakes.push(reason.to_owned());
                }
                platform
            }
        }
    }
}
