//! Settings of documents: where collections are, how large they may be, and their indexes.

use super::setting::{Setting, setting};

pub const DOCUMENTS: &[Setting] = &[
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
];
