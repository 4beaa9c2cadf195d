//! The state of a server at the moment of a scrape, and its readiness.
//!
//! Invariant: before the engine is loaded, a scrape has all that is known without it.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::calls::Calls;
use super::families::Families;
use super::principals::Principals;
use super::process::Process;
use super::{connections, documents, models};
use crate::rpc::Health;
use crate::server::{self, Monitor, Phase};

/// Everything that a scrape reads.
pub struct Metrics {
    registry: Registry,
    monitor: Monitor,
}

impl Metrics {
    /// Reads the server with these options, and observes its calls. `collections`, `principals`: those with series of
    /// their own.
    pub fn new(collections: usize, principals: usize, server: &mut server::Options) -> Self {
        let (calls, principals) = (Arc::new(Calls::default()), Arc::new(Principals::new(principals)));
        server.observers.add(Arc::clone(&calls) as Arc<dyn server::CallObserver>);
        server.observers.add(Arc::clone(&principals) as Arc<dyn server::CallObserver>);
        let monitor = server.monitor.clone();
        let (process, limits) = (Process::new(), connections::Limits::of(server));
        let mut registry = Registry::default();
        let mut add = |write: Box<WriteFamilies>| registry.register_collector(Box::new(Part(write)));
        add(Box::new(move |families| calls.write(families)));
        let of_calls = Arc::clone(&principals);
        add(Box::new(move |families| of_calls.write_calls(families)));
        let of_server = monitor.clone();
        add(Box::new(move |families| connections::write(families, &of_server, &limits)));
        let loaded = monitor.clone();
        add(Box::new(move |families| {
            let Some(engine) = loaded.engine() else { return Ok(()) };
            models::write(families, &engine)?;
            documents::write(families, &engine, collections)?;
            principals.write_use(families, &engine)
        }));
        add(Box::new(move |families| process.write(families)));
        Self { registry, monitor }
    }

    /// The state of the server in the text format of OpenMetrics.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The reason why a load balancer should send no calls; `Ok`: it should. It is that of the health service.
    pub fn readiness(&self) -> Result<&'static str, &'static str> {
        match self.monitor.phase() {
            Phase::Starting => Err("not ready: models and collections are being loaded\n"),
            Phase::Stopping => Err("not ready: the server is stopping\n"),
            Phase::Serving => match self.monitor.engine().map(|engine| engine.store.unguarded().health()) {
                None | Some(Health::Good) => Ok("ready\n"),
                Some(Health::ReadOnly(_)) => {
                    Ok("ready, but the disk failed and no documents can be stored: the log has the reason\n")
                }
                Some(Health::Away(_)) => Err("not ready: the store of documents does not answer\n"),
            },
        }
    }
}

/// Writes the families of one part.
type WriteFamilies = dyn Fn(&mut Families<'_>) -> fmt::Result + Send + Sync;

/// The metrics of one part of the server, read at each scrape.
struct Part(Box<WriteFamilies>);

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Part")
    }
}

impl Collector for Part {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Families::new(encoder))
    }
}
