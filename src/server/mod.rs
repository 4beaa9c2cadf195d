//! The listener, the protocols on it, and the parts around the service: TLS, health, reflection, limits, reloading,
//! graceful shutdown.
//!
//! The port opens before the model is loaded, so that health checks get an answer. Until the model has passed its
//! self-test, health is `NOT_SERVING` and calls get `UNAVAILABLE`; the same applies while the server drains.

mod accept;
mod access_log;
mod admission;
mod answer;
mod authentication;
mod call;
mod connection;
mod connection_counts;
mod frames;
mod http;
mod lifetime;
mod listen;
mod methods;
mod monitor;
mod observed;
mod open_files;
mod pack;
mod peer;
mod progress;
mod reload;
mod request;
mod served;
mod service_manager;
mod stream;
mod time_limit;
mod timeout;
mod tls;
mod unpack;

use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use accept::Limits as ConnectionLimits;
pub use access_log::AccessLog;
pub use authentication::Authentication;
pub use connection_counts::ConnectionCounts;
pub use http::cors::Origins;
pub use listen::{Address, BindError, Listener};
pub use methods::Method;
pub use monitor::{Monitor, Phase};
pub use observed::{CODES, CallObserver, CallObservers, CallRecord};
pub use open_files::default_connections;
pub use peer::{Options as ConnectionOptions, Peer};
pub use reload::{Reloadable, run as reload};
pub use request::ClientTimeouts;
pub use stream::Remote;
pub use tls::{Clients as TlsClients, Error as TlsError, Expiry, Options as TlsOptions, Tls};

use crate::budget::ByteBudget;
use crate::rpc::{Api, Engine, Health, Service};
use crate::wire;
use methods::CallLimiters;
use request::Memory;
use served::Served;

/// The service name that tells whether documents can be stored. It is `NOT_SERVING` after a disk failure, while all
/// other calls are served, and while a store in another process does not answer.
const WRITES: &str = "writes";

/// Interval of the check of the store of documents.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Time for connections to flush the last answer after the last call has ended. A watcher of the health service would
/// keep its connection open for ever.
const FLUSH: Duration = Duration::from_millis(250);

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Concurrent calls, streams included; further ones are refused.
    pub max_calls: usize,
    /// The limits of open connections.
    pub connections: ConnectionLimits,
    /// The settings of each connection.
    pub connection: ConnectionOptions,
    /// Bytes that requests in transit, decoded messages and answers may take together. Higher: more large calls at a
    /// time, more memory. The engine shares this budget ([`Engine`]).
    pub message_budget: ByteBudget,
    /// Time for calls to finish after a stop; then they are cut off.
    pub drain_timeout: Duration,
    /// True if `/` is a page for people.
    pub console: bool,
    /// The origins whose pages may call from a browser.
    pub origins: Origins,
    /// The callers that are recognised. Without keys everybody may do everything.
    pub authentication: Authentication,
    /// Those who observe calls.
    pub observers: CallObservers,
    /// The view of this server for others.
    pub monitor: Monitor,
    /// The calls that get a line in the log.
    pub access_log: AccessLog,
}

/// The reason why a server did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service cannot be built from the descriptors.
    #[error("the service's descriptors are damaged: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves on `listener` until `stop` resolves, then drains. `load` makes the engine while the port is already open; its
/// error ends the server. `ready` is called once calls are answered.
pub async fn serve<E>(
    listener: Listener,
    options: Options,
    load: impl Future<Output = Result<Engine, E>>,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), E>
where
    E: From<ServeError>,
{
    let monitor = options.monitor;
    if let Some(tls) = &listener.tls {
        monitor.watch_tls(Arc::clone(tls));
    }
    let api = monitor.api().clone();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::NotServing).await;
    let mut observers = options.observers;
    if options.access_log != AccessLog::None {
        observers.add(Arc::new(access_log::AccessLines::new(options.access_log)));
    }
    let max_message_bytes = options.connection.max_message_bytes;
    let service = Service::new(api.clone());
    let served = Arc::new(Served {
        routes: reflection(Routes::new(service).add_service(health_service)).map_err(ServeError::from)?.prepare(),
        limiters: CallLimiters::new(options.max_calls),
        memory: Memory::new(&options.message_budget, max_message_bytes),
        tls: listener.tls.clone(),
        origins: options.origins,
        api: api.clone(),
        console: options.console,
        options: options.connection,
        authentication: options.authentication,
        observers,
    });

    // Every connection has a receiver. The sender learns when the last receiver is dropped.
    let (close, closed) = watch::channel(false);
    let accepting = {
        let served = Arc::clone(&served);
        let counts = Arc::clone(monitor.connections());
        tokio::spawn(accept::accept(listener, options.connections, counts, move |incoming, permit| {
            tokio::spawn(connection::serve(Arc::clone(&served), incoming, permit, closed.clone()));
        }))
    };
    let accepting = AbortOnDrop(accepting);
    let mut stop = std::pin::pin!(stop);

    let loaded = tokio::select! {
        loaded = load => Some(loaded?),
        () = &mut stop => None,
    };
    if let Some(engine) = loaded {
        api.open(engine);
        monitor.enter(Phase::Serving);
        set_health(&health, ServingStatus::Serving).await;
        service_manager::ready();
        ready();
        tokio::select! {
            () = &mut stop => {}
            never = watch_store(&health, &api) => match never {},
        }
    }

    service_manager::stopping();
    let calls = &served.limiters.calls;
    tracing::info!(calls = calls.calls(), "stopping: no new calls, those in progress may finish");
    monitor.enter(Phase::Stopping);
    // A caller who reads that the server stops finds it closed.
    calls.close();
    accepting.end().await;
    api.stop();
    set_health(&health, ServingStatus::NotServing).await;
    close.send_replace(true);
    let drained = async {
        calls.drained().await;
        tokio::time::sleep(FLUSH).await;
    };
    tokio::select! {
        () = close.closed() => {}
        () = drained => {}
        () = tokio::time::sleep(options.drain_timeout) => {
            tracing::warn!(calls = calls.calls(), "calls did not finish within the drain timeout and are cut off");
        }
    }
    Ok(())
}

/// Adds both versions of the reflection service.
fn reflection(routes: Routes) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

/// A task that is aborted with its owner: the accept loop, and the listener with it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl AbortOnDrop {
    /// Ends the task. Its values are dropped when this returns: the port is closed, the file of a socket removed.
    async fn end(mut self) {
        self.0.abort();
        // The error says that the task was aborted.
        let _ = (&mut self.0).await;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sets the health as the store of documents is, and logs its changes.
async fn watch_store(health: &HealthReporter, api: &Api) -> Infallible {
    let mut before = Health::Good;
    loop {
        let now = api.store_health().unwrap_or(Health::Good);
        if mem::discriminant(&now) != mem::discriminant(&before) {
            match &now {
                Health::Good => {
                    tracing::info!("the store of documents answers again");
                    set_health(health, ServingStatus::Serving).await;
                }
                Health::ReadOnly(reason) => {
                    tracing::error!(
                        reason,
                        "documents can no longer be stored, only read: restart the server when the disk is repaired"
                    );
                    health.set_service_status(WRITES, ServingStatus::NotServing).await;
                }
                Health::Away(reason) => {
                    tracing::error!(
                        reason,
                        "the store of documents does not answer: calls that need it fail meanwhile"
                    );
                    set_health(health, ServingStatus::NotServing).await;
                }
            }
            before = now;
        }
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in ["", wire::SERVICE, WRITES] {
        health.set_service_status(name, status).await;
    }
}
