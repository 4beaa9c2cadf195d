//! The table of settings: each name, default and effect, once.

use crate::model;

/// A setting.
pub struct Setting {
    /// Its name, in snake case.
    pub key: &'static str,
    /// The kind of its value, for the help.
    pub value: &'static str,
    /// Its default; empty: no default.
    pub default: &'static str,
    /// Its effect, for the help.
    pub help: &'static str,
}

impl Setting {
    /// Returns true if the setting may have several values: a repeated flag, a list in the file, or values with `;`
    /// between them in the environment.
    pub fn repeats(&self) -> bool {
        matches!(self.key, "classifier" | "classifier_labels" | "cors_origin" | "model" | "reranker")
    }
}

/// The separator between the values of a setting that repeats.
pub const SEPARATOR: char = ';';

/// The environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("COGNATE_{}", key.to_uppercase())
}

const fn setting(key: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, value, default, help }
}

/// All settings, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    setting("config", "FILE", "", "TOML file of settings; flags and environment variables override it"),
    setting(
        "addr",
        "ADDRESS",
        "127.0.0.1:50051",
        "Address to listen on, HOST:PORT or unix:PATH; 0.0.0.0:50051 for all networks, port 0 for a free port, systemd \
         for the socket of a .socket unit",
    ),
    setting(
        "tls_cert",
        "FILE",
        "",
        "Certificate of the server, in PEM; without it there is no TLS; read again on change",
    ),
    setting("tls_key", "FILE", "", "Private key of tls_cert, in PEM, without passphrase; others may not read the file"),
    setting("tls_client_ca", "FILE", "", "Certificates of the authorities that sign client certificates, in PEM"),
    setting(
        "tls_client_auth",
        "AUTH",
        "required",
        "Client certificates, with tls_client_ca: required, or optional (a client without one is served too)",
    ),
    setting(
        "metrics_addr",
        "HOST:PORT",
        "",
        "Address for scrapes of Prometheus and for probes, by plain HTTP: /metrics, /livez and /readyz; default: none",
    ),
    setting(
        "metrics_collections",
        "N",
        "20",
        "Collections with metrics of their own, the largest ones; the others are counted together",
    ),
    setting(
        "metrics_principals",
        "N",
        "100",
        "Callers of --keys with metrics of their own, the first ones that call; the others are counted together",
    ),
    setting(
        "console",
        "BOOL",
        "auto",
        "Show a page for people at / of the same port: collections, searches, a map; auto: if only this machine can \
         connect",
    ),
    setting(
        "cors_origin",
        "ORIGIN",
        "",
        "Origin whose pages may call from a browser, like https://app.example.com, or * for any; repeat for several; \
         default: none",
    ),
    setting(
        "keys",
        "FILE",
        "",
        "Keys of the callers and what they may do, from `cognate keys create`; read again when it changes; without it \
         everybody may do everything",
    ),
    setting(
        "insecure",
        "BOOL",
        "false",
        "Allow keys to cross a network without TLS: anybody on the way can read and use them",
    ),
    setting("public_info", "BOOL", "false", "Answer Info without a key too: version, models and limits, no paths"),
    setting("public_reflection", "BOOL", "false", "Answer reflection without a key too, for tools like grpcurl"),
    setting(
        "model",
        "PLACE",
        model::DEFAULT_MODEL,
        "Embedding model: an id on the hub or a directory, or NAME=DIR or NAME=owner/name[@revision]; repeat for several, \
         the first is the default; each takes the memory of its weights",
    ),
    setting(
        "revision",
        "REV",
        "",
        "Branch, tag or commit on the hub of the model without a name; default: its main branch",
    ),
    setting("offline", "BOOL", "false", "Load models from disk only; fail at once if one is not there"),
    setting(
        "backend",
        "BACKEND",
        "candle",
        "Engine of the embedding models: candle, or onnx for the ONNX graph of each on the CPU",
    ),
    setting(
        "device",
        "DEVICE",
        "auto",
        "Device of the models: auto (the best one present), cpu, cuda, cuda:N or metal",
    ),
    setting(
        "cpu",
        "LEVEL",
        "auto",
        "CPU instructions: auto (the best that the CPU has), or a lower level to compare, for example portable or avx2",
    ),
    setting(
        "precision",
        "PRECISION",
        "f32",
        "Arithmetic of the models: f32; on a CPU int8, faster (most with VNNI) and nearly as accurate; on a GPU f16 or \
         bf16",
    ),
    setting(
        "allow_precision_mix",
        "BOOL",
        "false",
        "Allow collections that the same model filled in another precision; their scores differ by about 0.003",
    ),
    setting(
        "threads",
        "N",
        "auto",
        "Worker threads on a CPU, which the models share, and threads that build graphs; auto follows the container's quota, \
         more threads than that are slower",
    ),
    setting(
        "batch_tokens",
        "N",
        "auto",
        "Tokens in one batch at most; higher: more throughput on an accelerator, small calls wait longer",
    ),
    setting(
        "queue_tokens",
        "N",
        "262144",
        "Tokens that may wait for each model; above it unary calls get RESOURCE_EXHAUSTED and streams wait",
    ),
    setting(
        "embed_cache_bytes",
        "SIZE",
        "auto",
        "Cache for the vectors of repeated texts, divided evenly between the models, 0 for none; higher: more repeated \
         texts cost nothing; auto: 64 MiB, or less in a small container",
    ),
    setting(
        "classifier",
        "NAME=PLACE",
        "sentiment",
        "Text classifier: sentiment, none, NAME=DIR, NAME=owner/name[@revision] or NAME=FILE of train-head; #FILE.onnx \
         selects another graph; repeat for several, the first is the default",
    ),
    setting(
        "classifier_labels",
        "NAME=A,B",
        "",
        "Labels of a classifier without labels in its configuration, in the order of its scores; repeat for several",
    ),
    setting(
        "reranker",
        "NAME=PLACE",
        "",
        "Cross-encoder for Rerank: NAME=DIR or NAME=owner/name[@revision] with safetensors, or with #FILE.onnx for a \
         graph; repeat for several, the first is the default; each takes the memory of its model",
    ),
    setting(
        "reranker_precision",
        "PRECISION",
        "auto",
        "Arithmetic of rerankers with safetensors: f32, int8, f16, bf16, or auto: that of precision",
    ),
    setting(
        "onnx_runtime",
        "RUNTIME",
        "auto",
        "Engine for ONNX graphs: onnxruntime, rten, or auto: ONNX Runtime if its library is found, otherwise rten",
    ),
    setting(
        "onnxruntime",
        "PATH",
        "",
        "ONNX Runtime's library, or its directory; default: the usual directories are searched",
    ),
    setting(
        "onnx_optimization",
        "LEVEL",
        "all",
        "Optimisation of a graph when it is loaded: none, basic, extended or all; more: faster, slower to load",
    ),
    setting("onnx_threads", "N", "auto", "Threads that share a batch of an ONNX graph; auto: the value of threads"),
    setting(
        "max_texts",
        "N",
        "1024",
        "Items in one repeated field of a request at most; higher: fewer round trips, more memory for each call",
    ),
    setting("max_text_bytes", "SIZE", "256KiB", "Bytes of one text at most; a longer text is an error"),
    setting("max_k", "N", "1000", "The largest k of TopK"),
    setting(
        "max_message_bytes",
        "SIZE",
        "16MiB",
        "Bytes of one message in either direction, decompressed; more gets OUT_OF_RANGE",
    ),
    setting(
        "message_budget",
        "SIZE",
        "auto",
        "Memory for all requests and answers in transit; auto: half of the container's memory that the model leaves, \
         up to 1 GiB",
    ),
    setting("max_calls", "N", "256", "Calls and streams in progress; more get RESOURCE_EXHAUSTED"),
    setting(
        "max_connections",
        "N",
        "auto",
        "Open connections; further ones are refused; auto follows the limit of open files and the memory",
    ),
    setting(
        "max_connections_per_address",
        "N",
        "auto",
        "Open connections of one address or IPv6 /64; auto: half of max_connections; a proxy counts as one address",
    ),
    setting(
        "handshake_timeout",
        "DURATION",
        "10s",
        "Time for the first frame of a connection; higher: slower networks can connect, silent connections stay longer",
    ),
    setting(
        "connection_idle_timeout",
        "DURATION",
        "5m",
        "Time without a call after which a connection is asked to close; clients reconnect for their next call",
    ),
    setting(
        "keepalive_interval",
        "DURATION",
        "30s",
        "Silence after which a client gets a PING; lower: clients that are gone are noticed earlier, more packets",
    ),
    setting("keepalive_timeout", "DURATION", "20s", "Time for the answer to a PING; then the connection is closed"),
    setting(
        "max_connection_age",
        "DURATION",
        "none",
        "Age at which a connection is asked to close, give or take a tenth, or none; lower: balancers spread clients \
         sooner, more handshakes",
    ),
    setting(
        "max_connection_age_grace",
        "DURATION",
        "none",
        "Time for the calls of a connection that is asked to close for its age; then they are cut off; none: any time",
    ),
    setting(
        "max_connection_streams",
        "N",
        "128",
        "Calls of one connection at a time; further ones wait in the client; higher: a proxy needs fewer connections",
    ),
    setting(
        "stall_timeout",
        "DURATION",
        "30s",
        "Time in which a client must send or take 16 KiB of a request or an answer; otherwise the call ends",
    ),
    setting(
        "stream_idle_timeout",
        "DURATION",
        "10m",
        "Time without a message in either direction after which a stream ends with DEADLINE_EXCEEDED",
    ),
    setting(
        "data_dir",
        "DIR",
        "",
        "Directory of the collections; default: the platform's data directory, which the log names at start",
    ),
    setting("in_memory", "BOOL", "false", "Store nothing on disk: collections are lost when the server stops"),
    setting(
        "store",
        "ENGINE",
        "",
        "Search engine that keeps the collections, opensearch+https://HOST:9200[,HOST:9200]; default: this process",
    ),
    setting(
        "store_user",
        "NAME",
        "",
        "User of the engine; its password is in COGNATE_STORE_PASSWORD or store_password_file",
    ),
    setting("store_password_file", "FILE", "", "File whose first line is the password of store_user"),
    setting(
        "store_ca",
        "FILE",
        "",
        "Certificates of the authorities that sign the engine's, in PEM; default: those of the system",
    ),
    setting("store_cert", "FILE", "", "Client certificate for the engine, in PEM"),
    setting("store_key", "FILE", "", "Private key of store_cert, in PEM, without passphrase"),
    setting(
        "store_timeout",
        "DURATION",
        "30s",
        "Time of one attempt to ask the engine; higher: slow searches end well, a node that hangs is given up later",
    ),
    setting(
        "store_shards",
        "N",
        "1",
        "Shards of a new collection in the engine; higher: more nodes share the work, each search asks more of them",
    ),
    setting(
        "store_replicas",
        "N",
        "1",
        "Further copies of each shard of a new collection; higher: as many nodes may fail, each copy takes the same \
         memory",
    ),
    setting(
        "store_refresh_interval",
        "DURATION",
        "1s",
        "Time until the engine shows changes to searches, which commits wait for; higher: faster searches, slower \
         commits",
    ),
    setting("store_prefix", "PREFIX", "cognate-", "Beginning of the names of the engine's indices"),
    setting(
        "min_free_bytes",
        "SIZE",
        "256MiB",
        "Free space that the file system of data_dir keeps; uploads that need it get RESOURCE_EXHAUSTED",
    ),
    setting(
        "text_cache_bytes",
        "SIZE",
        "auto",
        "Cache for texts that are read from data_dir, 0 for none; higher: more hits bring their text without a read; \
         auto: 64 MiB, or less in a small container",
    ),
    setting(
        "max_stored_bytes",
        "SIZE",
        "auto",
        "Memory for all documents, vectors and graphs, or none; uploads above it get RESOURCE_EXHAUSTED; auto: the \
         memory of the container or machine that the model and the message budget leave",
    ),
    setting(
        "max_documents",
        "N",
        "none",
        "Documents of all collections, or none; uploads above it get RESOURCE_EXHAUSTED",
    ),
    setting(
        "max_collections",
        "N",
        "10000",
        "Collections, or none; one more gets RESOURCE_EXHAUSTED; each takes some memory and disk space",
    ),
    setting("max_collection_bytes", "SIZE", "none", "Like max_stored_bytes, for each collection"),
    setting("max_collection_documents", "N", "none", "Like max_documents, for each collection"),
    setting(
        "max_collection_fields",
        "N",
        "10000",
        "Distinct metadata fields of a collection, or none; a document with more is refused; each takes memory",
    ),
    setting(
        "ef_search",
        "N",
        "auto",
        "Candidates of a graph search, for queries that do not set ef; higher: better recall, linear cost",
    ),
    setting(
        "ef_construction",
        "N",
        "auto",
        "Candidates considered when linking a document in the graph; higher: a better graph, a slower build",
    ),
    setting(
        "sketches",
        "BOOL",
        "true",
        "Keep two bits of each component for graph searches; false: 128 bytes less for a vector of 384 dimensions, and \
         searches take longer",
    ),
    setting(
        "drain_timeout",
        "DURATION",
        "30s",
        "Time for calls to finish after SIGTERM or SIGINT; then they are cut off",
    ),
    setting(
        "log",
        "FILTER",
        "info,hf_hub=off",
        "Log level: error, warn, info or debug, also for one module: cognate=debug",
    ),
    setting("log_format", "FORMAT", "text", "Log format: text or json"),
    setting(
        "access_log",
        "CALLS",
        "none",
        "Calls that get a line in the log when they end: none, errors, all, or 1/N for one call in N",
    ),
];
