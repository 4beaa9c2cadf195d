//! The listener and what stands around the service: health, reflection, limits, a graceful stop.
//!
//! The port is open before the model is loaded, so that health checks get an answer: `NOT_SERVING`,
//! and calls `UNAVAILABLE`, until the model has answered its self-test, and again while draining.

mod accept;
mod call;
mod connection;
mod frames;
mod gate;
mod methods;
mod open_files;
mod progress;
mod request;
mod timeout;
mod unpack;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use accept::Limits as ConnectionLimits;
pub use connection::Options as ConnectionOptions;
pub use open_files::default_connections;
pub use request::Patience;

use crate::budget::ByteBudget;
use crate::proto;
use crate::rpc::{Api, Engine, Service};
use connection::Served;
use methods::Gates;
use request::Memory;

/// The name that health checks ask for, beside the empty one.
const SERVICE: &str = "cognate.v1.Cognate";

/// The name that says whether documents can be stored: not where the disk failed, while all else is served.
const WRITES: &str = "writes";

/// How soon a failed disk is known.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// How long connections may linger once the last call has ended: enough to flush its answer. A
/// watcher of the health service would keep its connection open for ever.
const FLUSH: Duration = Duration::from_millis(250);

/// How a server runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calls, streams included, in progress at one time; more are refused.
    pub max_calls: usize,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// How each of them is served.
    pub connection: ConnectionOptions,
    /// Bytes that requests on their way, decoded messages and answers may take together. Higher: more large calls at
    /// a time, more memory. The engine shares it ([`crate::rpc`]).
    pub message_budget: ByteBudget,
    /// How long calls may take to finish once a stop is asked for; then they are cut off.
    pub drain_timeout: Duration,
}

/// Why a server did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; is another server running there? choose another with --addr")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The reflection service cannot be built from the descriptors.
    #[error("the service's descriptors are damaged: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Opens the port; port 0 takes a free one.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(addr).await.map_err(|source| ServeError::Bind { addr, source })
}

/// Serves on `listener` until `stop` resolves, then drains. `load` makes the engine while the port
/// is already open; its error ends the server. `ready` is told once calls are answered.
pub async fn serve<E>(
    listener: TcpListener,
    options: Options,
    load: impl Future<Output = Result<Engine, E>>,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), E>
where
    E: From<ServeError>,
{
    let api = Api::default();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::NotServing).await;
    let max_message_bytes = options.connection.max_message_bytes;
    let service = Service::new(api.clone());
    let served = Arc::new(Served {
        routes: reflection(Routes::new(service).add_service(health_service)).map_err(ServeError::from)?.prepare(),
        gates: Gates::new(options.max_calls),
        memory: Memory::new(&options.message_budget, max_message_bytes),
        options: options.connection,
    });

    // Every connection has a receiver; the sender is told when the last is gone.
    let (close, closed) = watch::channel(false);
    let accepting = {
        let served = Arc::clone(&served);
        tokio::spawn(accept::accept(listener, options.connections, move |stream, admitted| {
            tokio::spawn(connection::serve(Arc::clone(&served), stream, admitted, closed.clone()));
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
        set_health(&health, ServingStatus::Serving).await;
        ready();
        tokio::select! {
            () = &mut stop => {}
            never = watch_writes(&health, &api) => match never {},
        }
    }

    let calls = &served.gates.calls;
    tracing::info!(calls = calls.calls(), "stopping: no new calls, those in progress may finish");
    set_health(&health, ServingStatus::NotServing).await;
    calls.close();
    drop(accepting);
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
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

/// A task that ends with its owner: the accept loop, and the listener with it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says so when nothing can be stored any more.
async fn watch_writes(health: &HealthReporter, api: &Api) -> Infallible {
    loop {
        if let Some(reason) = api.writes_stopped() {
            tracing::error!(reason, "documents are read, and none are stored any more");
            health.set_service_status(WRITES, ServingStatus::NotServing).await;
            // Until a restart.
            return std::future::pending().await;
        }
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in ["", SERVICE, WRITES] {
        health.set_service_status(name, status).await;
    }
}
