//! Traces: the span of a call, and the export of all spans to a collector by OTLP over gRPC. The only door of
//! OpenTelemetry.
//!
//! ```text
//! spans of this crate ──► filter: inside a call, a bounded number ──► bounded queue ──► a thread ──► collector
//! ```
//! The choice of a call is made before its span. A call that is not chosen has none, and no span opens outside one,
//! apart from that of a batch of the model, which links to the calls in it. So spans of the exporter and of other
//! crates never come here.
//!
//! Invariants: a call never waits for the collector. Spans that do not fit into the queue are lost. A long stream has
//! at most [`MOST_CHILDREN`] spans directly below one span; those of its batches are bounded by the queue alone. No
//! attribute has a text, a key or a vector.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId as OtelTraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing::subscriber::Interest;
use tracing::{Metadata, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, dynamic_filter_fn};
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::{Layer, Registry};

use super::environment::Traces;
use super::trace_context::{Sampling, TraceId, TraceParent};

/// Codes for which OpenTelemetry marks the span of a server as an error: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
/// INTERNAL, UNAVAILABLE and DATA_LOSS. The others are mistakes of the caller.
const SERVER_FAULTS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// Spans directly under one span: enough for a call, and a bound for a stream that lasts for hours.
const MOST_CHILDREN: usize = 128;

/// Names of spans that open outside a call.
const ROOTS: [&str; 2] = ["call", "model batch"];

/// The time that a stop waits for the collector.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The least time between two lines about lost spans.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The choice of calls; empty while traces are off.
static CHOICE: OnceLock<Choice> = OnceLock::new();

struct Choice {
    sampling: Sampling,
    continues_caller: bool,
}

/// The reason why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of certificates or keys cannot be read.
    #[error("{path} of the collector's connection cannot be read: {source}")]
    File {
        /// The path.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The exporter refuses its settings.
    #[error("traces cannot be exported: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The export of traces; nothing if they are off.
#[derive(Debug, Default)]
#[must_use = "the last spans are lost without `finish`"]
pub struct Exporting(Option<SdkTracerProvider>);

impl Exporting {
    /// Sends the spans that wait, for a while at most, and ends the export.
    pub async fn finish(self) {
        let Some(provider) = self.0 else { return };
        let shutdown = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        if let Ok(Err(error)) = shutdown.await {
            tracing::warn!(%error, "the last spans may not have reached the collector");
        }
    }
}

/// The layer that makes spans of OpenTelemetry.
pub(super) type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts the export. Returns it with the layer that feeds it.
pub(super) fn start(traces: &Traces) -> Result<(Exporting, SpanLayer), StartError> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&traces.endpoint);
    if let Some(tls) = tls(traces)? {
        exporter = exporter.with_tls_config(tls);
    }
    let exporter = Reported { exporter: exporter.build()?, lost: AtomicU64::new(0), silent_until: Default::default() };
    // Calls are chosen before they have a span.
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource(traces))
        .with_batch_exporter(exporter)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("cognate"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false);
    let of_callsite = |metadata: &'static Metadata<'static>| match is_own_span(metadata) {
        true => Interest::sometimes(),
        false => Interest::never(),
    };
    let filter = dynamic_filter_fn(is_wanted).with_max_level_hint(LevelFilter::INFO).with_callsite_filter(of_callsite);
    let choice = Choice {
        sampling: Sampling::new(traces.root, traces.follows_caller),
        continues_caller: traces.continues_caller,
    };
    // Set already if a server runs in this process.
    let _ = CHOICE.set(choice);
    Ok((Exporting(Some(provider)), layer.with_filter(filter).boxed()))
}

/// The settings of TLS; `None`: the collector is called without.
fn tls(traces: &Traces) -> Result<Option<ClientTlsConfig>, StartError> {
    // The exporter takes an address without a scheme for one with TLS.
    if ["http://", "unix://"].iter().any(|scheme| traces.endpoint.starts_with(scheme)) {
        return Ok(None);
    }
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|source| StartError::File { path: path.display().to_string(), source })
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &traces.authorities {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_enabled_roots(),
    };
    if let Some((certificate, key)) = &traces.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(Some(tls))
}

/// The attributes of this process for the collector. The variables of OpenTelemetry come first.
fn resource(traces: &Traces) -> Resource {
    let own = [
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let told = Resource::builder_empty()
        .with_attributes(own)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &traces.service_name {
        Some(name) => told.with_service_name(name.clone()).build(),
        None => told.build(),
    }
}

/// The number of spans under a span.
struct Children(usize);

fn is_own_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("cognate")
}

/// True for a span of this crate that lies in a call, and is not one of too many.
fn is_wanted(metadata: &Metadata<'_>, context: &LayerContext<'_, Registry>) -> bool {
    if !is_own_span(metadata) {
        return false;
    }
    let Some(parent) = context.lookup_current() else { return ROOTS.contains(&metadata.name()) };
    let mut extensions = parent.extensions_mut();
    if let Some(Children(number)) = extensions.get_mut() {
        *number += 1;
        return *number <= MOST_CHILDREN;
    }
    extensions.insert(Children(1));
    true
}

/// The trace of a call.
#[derive(Debug, Clone)]
pub struct CallTrace {
    /// The span of the call; none if the call is not traced.
    pub span: Span,
    /// The trace that the call belongs to: its own, or the one that its caller names.
    pub id: Option<TraceId>,
}

/// Begins the trace of a call of `method`, `service/name`, by its head.
pub fn begin_call(
    headers: &HeaderMap,
    method: (&'static str, &'static str),
    address: Option<SocketAddr>,
    is_authenticated: bool,
) -> CallTrace {
    let parent = TraceParent::of(headers);
    let not_traced = CallTrace { span: Span::none(), id: parent.map(|parent| parent.trace) };
    let Some(choice) = CHOICE.get() else { return not_traced };
    let parent = parent.filter(|_| choice.continues_caller);
    if !choice.sampling.keeps(parent, is_authenticated) {
        return not_traced;
    }
    let (service, name) = method;
    let span = tracing::info_span!(
        "call",
        otel.name = format!("{service}/{name}"),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = name,
        rpc.grpc.status_code = field::Empty,
        otel.status_code = field::Empty,
        network.peer.address = field::Empty,
        network.peer.port = field::Empty,
    );
    if let Some(address) = address {
        span.record("network.peer.address", field::display(address.ip()));
        span.record("network.peer.port", address.port());
    }
    if let Some(parent) = parent {
        // Fails only if the span is not ours, and then there is none to connect.
        let _ = span.set_parent(remote(parent, headers));
    }
    let id = span.context().span().span_context().trace_id();
    CallTrace { span, id: Some(TraceId(u128::from_be_bytes(id.to_bytes()))) }
}

impl CallTrace {
    /// No trace.
    pub fn none() -> Self {
        Self { span: Span::none(), id: None }
    }

    /// Records the code of the call.
    pub fn end(&self, code: i32) {
        self.span.record("rpc.grpc.status_code", code);
        if SERVER_FAULTS.contains(&code) {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// The caller's span.
fn remote(parent: TraceParent, headers: &HeaderMap) -> Context {
    let state = headers.get("tracestate").and_then(|state| state.to_str().ok()?.parse().ok());
    let (trace, span) = (OtelTraceId::from(parent.trace.0), SpanId::from(parent.span));
    let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, state.unwrap_or(TraceState::NONE));
    Context::new().with_remote_span_context(context)
}

/// An exporter whose failures are logged, not too often.
#[derive(Debug)]
struct Reported {
    exporter: opentelemetry_otlp::SpanExporter,
    lost: AtomicU64,
    silent_until: std::sync::Mutex<Option<Instant>>,
}

impl Reported {
    fn report(&self, spans: usize, error: &dyn std::fmt::Display) {
        self.lost.fetch_add(spans as u64, Ordering::Relaxed);
        let mut silent_until = self.silent_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        if silent_until.is_none_or(|until| now >= until) {
            *silent_until = Some(now + REPORT_INTERVAL);
            let spans = self.lost.swap(0, Ordering::Relaxed);
            tracing::warn!(spans, %error, "the collector does not take spans: they are lost");
        }
    }
}

impl SpanExporter for Reported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        if let Err(error) = &exported {
            self.report(spans, error);
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
