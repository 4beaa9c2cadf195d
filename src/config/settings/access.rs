//! Settings that decide who reaches the server: addresses, TLS, keys, and what is answered without a key.

use super::setting::{Setting, setting};

pub const ACCESS: &[Setting] = &[
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
];
