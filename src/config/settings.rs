//! The table of settings: every name, default and consequence, once.

use crate::model;

/// A setting, by all its names.
pub struct Setting {
    /// Its name, in snake case.
    pub key: &'static str,
    /// What kind of value it has.
    pub value: &'static str,
    /// Its value if none is given; empty: none.
    pub default: &'static str,
    /// What it does, by consequence.
    pub help: &'static str,
}

impl Setting {
    /// It may be given several times: as a flag again and again, as a list in the file, with `;` between in the
    /// environment.
    pub fn repeats(&self) -> bool {
        matches!(self.key, "classifier" | "classifier_labels")
    }
}

/// What stands between the values of a setting that repeats.
pub const SEPARATOR: char = ';';

const fn setting(key: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, value, default, help }
}

/// All settings, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    setting("config", "FILE", "", "TOML file of settings; flags and environment come before it"),
    setting(
        "addr",
        "HOST:PORT",
        "127.0.0.1:50051",
        "Where to listen; 0.0.0.0:50051 for every network, port 0 for a free one",
    ),
    setting("model", "ID|DIR", model::DEFAULT_MODEL, "Embedding model: a hub id or a directory with its files"),
    setting("revision", "REV", "", "Branch, tag or commit of the model on the hub; without it, its main branch"),
    setting("offline", "BOOL", "false", "Take the model from disk only, and fail at once if it is not there"),
    setting(
        "backend",
        "BACKEND",
        "candle",
        "What runs the embedding model: candle, or onnx, from the model's ONNX graph, on the CPU",
    ),
    setting("device", "DEVICE", "auto", "Where the model runs: auto (the best present), cpu, cuda, cuda:N or metal"),
    setting(
        "cpu",
        "LEVEL",
        "auto",
        "Instructions of the CPU: auto (the best it has), or lower ones such as portable, neon or avx2, to compare",
    ),
    setting(
        "precision",
        "PRECISION",
        "f32",
        "Arithmetic of the model: f32, or on a CPU int8, which is faster, most of all with VNNI, and nearly as exact",
    ),
    setting(
        "allow_precision_mix",
        "BOOL",
        "false",
        "Search and extend collections made by the same model in another precision; their scores differ by about 0.003",
    ),
    setting(
        "threads",
        "N",
        "auto",
        "Worker threads for the model on a CPU; auto follows the container's quota, more than that slows all down",
    ),
    setting(
        "batch_tokens",
        "N",
        "auto",
        "Tokens of one batch at most; higher: more throughput on an accelerator, small calls wait longer",
    ),
    setting(
        "queue_tokens",
        "N",
        "262144",
        "Tokens that may wait for the model; beyond it unary calls get RESOURCE_EXHAUSTED, streams wait",
    ),
    setting(
        "embed_cache_bytes",
        "SIZE",
        "auto",
        "Memory for vectors of earlier texts, 0 for none; higher: more texts that are asked for again cost nothing; \
         auto: 64 MiB, or less in a small container",
    ),
    setting(
        "classifier",
        "NAME=PLACE",
        "sentiment",
        "A text classifier to serve: sentiment, none, or NAME=DIR, NAME=owner/name[@revision] or NAME=FILE of train-head, \
         with #FILE.onnx for another graph than the usual; repeat for several, the first is the default",
    ),
    setting(
        "classifier_labels",
        "NAME=A,B",
        "",
        "Labels of a classifier whose configuration has none, in the order of its scores; repeat for several",
    ),
    setting(
        "onnx_runtime",
        "RUNTIME",
        "auto",
        "What runs ONNX graphs: onnxruntime, rten, or auto: ONNX Runtime where its library is found, otherwise rten",
    ),
    setting(
        "onnxruntime",
        "PATH",
        "",
        "ONNX Runtime's library, or its directory; without it, the usual places are tried",
    ),
    setting(
        "onnx_optimization",
        "LEVEL",
        "all",
        "How much of a graph is rewritten when it is loaded: none, basic, extended or all; more: faster, slower to load",
    ),
    setting("onnx_threads", "N", "auto", "Threads that share a batch of an ONNX graph; auto: as many as threads"),
    setting(
        "max_texts",
        "N",
        "1024",
        "Items in one repeated field of a request; higher: fewer round trips, more memory for each call",
    ),
    setting("max_text_bytes", "SIZE", "256KiB", "Bytes of one text; more is an error of that text"),
    setting("max_k", "N", "1000", "The largest k of TopK"),
    setting(
        "max_message_bytes",
        "SIZE",
        "16MiB",
        "Bytes of one message either way, decompressed; more is OUT_OF_RANGE",
    ),
    setting(
        "message_budget",
        "SIZE",
        "auto",
        "Memory of all requests and answers on their way; auto: half of what the container's memory leaves beside the \
         model, up to 1 GiB",
    ),
    setting("max_calls", "N", "256", "Calls and streams in progress; more get RESOURCE_EXHAUSTED"),
    setting(
        "max_connections",
        "N",
        "auto",
        "Connections that are open; more are turned away. auto follows the limit of open files and the memory",
    ),
    setting(
        "max_connections_per_address",
        "N",
        "auto",
        "Connections of one address, or IPv6 /64; auto: half of max_connections. A proxy counts as one address",
    ),
    setting(
        "handshake_timeout",
        "DURATION",
        "10s",
        "How long a new connection may say nothing; higher: slower networks get in, silent connections stay longer",
    ),
    setting(
        "connection_idle_timeout",
        "DURATION",
        "5m",
        "How long a connection may have no call before it is asked to close; clients connect again when they call",
    ),
    setting(
        "stall_timeout",
        "DURATION",
        "30s",
        "How long a request may not arrive, or an answer not be taken: 16 KiB in this time, or the call ends",
    ),
    setting(
        "stream_idle_timeout",
        "DURATION",
        "10m",
        "How long nothing may be sent on an open stream, either way, before it ends with DEADLINE_EXCEEDED",
    ),
    setting(
        "data_dir",
        "DIR",
        "",
        "Where collections are stored; without it, the platform's data directory, which the log names at start",
    ),
    setting("in_memory", "BOOL", "false", "Store nothing on disk: collections are gone when the server stops"),
    setting(
        "min_free_bytes",
        "SIZE",
        "256MiB",
        "Space that the file system of data_dir must keep; uploads that would take it get RESOURCE_EXHAUSTED",
    ),
    setting(
        "max_stored_bytes",
        "SIZE",
        "auto",
        "Memory of all documents, vectors and graphs, or none for no limit; uploads beyond it get RESOURCE_EXHAUSTED; \
         auto: what the container or machine has left beside the model and the message budget",
    ),
    setting("max_documents", "N", "none", "Documents of all collections; uploads beyond it get RESOURCE_EXHAUSTED"),
    setting(
        "max_collections",
        "N",
        "10000",
        "Collections, or none for no limit; one more gets RESOURCE_EXHAUSTED, each takes some memory and disk space",
    ),
    setting("max_collection_bytes", "SIZE", "none", "As max_stored_bytes, for each collection"),
    setting("max_collection_documents", "N", "none", "As max_documents, for each collection"),
    setting(
        "max_collection_fields",
        "N",
        "10000",
        "Distinct fields of a collection's metadata, or none; a document that brings more is refused, each takes memory",
    ),
    setting(
        "ef_search",
        "N",
        "auto",
        "Candidates of a graph search; higher: better recall at linear cost, for queries that do not say",
    ),
    setting(
        "ef_construction",
        "N",
        "auto",
        "Candidates while the graph is built; higher: a better graph, a slower build",
    ),
    setting(
        "drain_timeout",
        "DURATION",
        "30s",
        "How long calls may take to finish after SIGTERM, SIGINT or SIGHUP; then they are cut off",
    ),
    setting(
        "log",
        "FILTER",
        "info,hf_hub=off",
        "What is logged: error, warn, info, debug, or by module such as cognate=debug",
    ),
    setting("log_format", "FORMAT", "text", "How it is logged: text or json"),
];
