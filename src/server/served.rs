//! The server's end of all connections: the state that their calls share.

use std::sync::Arc;

use tonic::service::Routes;

use super::authentication::Authentication;
use super::http::cors::Origins;
use super::methods::CallLimiters;
use super::observed::CallObservers;
use super::peer::Options;
use super::request::Memory;
use super::tls::Tls;
use crate::rpc::Api;

/// The state that all connections share.
#[derive(Debug)]
pub struct Served {
    /// The services.
    pub routes: Routes,
    /// The limits of concurrent calls.
    pub limiters: CallLimiters,
    /// The memory of requests.
    pub memory: Memory,
    /// TLS of new connections.
    pub tls: Option<Arc<Tls>>,
    /// The origins whose pages may call.
    pub origins: Origins,
    /// The engine, once it is loaded.
    pub api: Api,
    /// True if people get the console.
    pub console: bool,
    /// The settings.
    pub options: Options,
    /// The callers that are recognised.
    pub authentication: Authentication,
    /// The observers of calls.
    pub observers: CallObservers,
}
