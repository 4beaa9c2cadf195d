//! The settings of the transport: TLS, the habits of connections, and the pages that may call.

use super::reader::Reader;
use super::settings::SEPARATOR;
use super::values::{auto, duration, one_of, or_none, path, whole};
use crate::server::{self, Address};

/// The origins in the values of the setting.
pub(super) fn origins(values: &str) -> Result<server::Origins, String> {
    let mut origins = server::Origins::default();
    for origin in values.split(SEPARATOR).map(str::trim).filter(|origin| !origin.is_empty()) {
        origins.add(origin).map_err(|error| format!("{origin:?}: {error}"))?;
    }
    Ok(origins)
}

impl Reader<'_> {
    /// The files of TLS; `None`: the server has no TLS.
    pub(super) fn tls(&mut self, address: &Address) -> Option<server::TlsOptions> {
        let mut file = |key| self.get(key, path);
        let files = (file("tls_cert"), file("tls_key"), file("tls_client_ca"));
        let required = self.get("tls_client_auth", |s| one_of(s, &["required", "optional"])) == "required";
        let mut mistake = |text: &str| self.mistakes.push(text.to_owned());
        match files {
            (Some(certificate), Some(key), ca) => {
                if let Address::Unix(_) = address {
                    mistake("tls_cert is given, and addr is a Unix socket: TLS is for TCP addresses, give only one");
                }
                let clients = ca.map(|authorities| server::TlsClients { authorities, required });
                Some(server::TlsOptions { certificate, key, clients })
            }
            (Some(_), None, _) => {
                mistake("tls_cert is given without tls_key: give the file of its private key");
                None
            }
            (None, Some(_), _) => {
                mistake("tls_key is given without tls_cert: give the file of its certificate");
                None
            }
            (None, None, ca) => {
                if ca.is_some() {
                    mistake("tls_client_ca is given without tls_cert and tls_key: client certificates need TLS");
                }
                None
            }
        }
    }

    /// The settings of connections.
    pub(super) fn connection(&mut self, max_message_bytes: usize) -> server::ConnectionOptions {
        server::ConnectionOptions {
            max_message_bytes,
            client_timeouts: server::ClientTimeouts {
                stall: self.get("stall_timeout", duration),
                idle: self.get("stream_idle_timeout", duration),
            },
            handshake_timeout: self.get("handshake_timeout", duration),
            connection_idle_timeout: self.get("connection_idle_timeout", duration),
            keepalive_interval: self.get("keepalive_interval", duration),
            keepalive_timeout: self.get("keepalive_timeout", duration),
            max_age: self.get("max_connection_age", |s| or_none(s, duration)),
            max_age_grace: self.get("max_connection_age_grace", |s| or_none(s, duration)),
            max_streams: self.get("max_connection_streams", |s| whole(s, 1, 10_000)) as u32,
        }
    }

    /// The limits of connections. Without a setting, the limits of open files and memory decide, and one address gets
    /// half of the connections.
    pub(super) fn connections(&mut self) -> server::ConnectionLimits {
        let given = self.get("max_connections", |s| auto(s, |s| whole(s, 1, 1_000_000)));
        let connections = given.unwrap_or_else(server::default_connections);
        let per_address = self.get("max_connections_per_address", |s| auto(s, |s| whole(s, 1, 1_000_000)));
        server::ConnectionLimits { connections, per_address: per_address.unwrap_or(connections.div_ceil(2)) }
    }
}
