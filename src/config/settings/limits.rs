//! Settings of bounds of requests, calls and connections.

use super::setting::{Setting, setting};

pub const LIMITS: &[Setting] = &[
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
        "drain_timeout",
        "DURATION",
        "30s",
        "Time for calls to finish after SIGTERM or SIGINT; then they are cut off",
    ),
];
