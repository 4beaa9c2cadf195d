//! The reports of the process about itself: its log on standard error, and traces for a collector.
//!
//! The parts write spans and events of `tracing` and know nothing of this module. Here they are divided: events become
//! lines of the log, spans become traces, and neither appears in the other. [`otlp`] exports the traces, if the
//! [`environment`] names a collector. [`trace_context`] has what a caller says about its trace.
//!
//! Invariants: while traces are off, a span costs one comparison. The spans of a call that is
//! not sampled are never exported.

mod environment;
mod otlp;
mod trace_context;
mod transport_lines;

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

pub use environment::Traces;
use otlp::SpanLayer;
pub use otlp::{CallTrace, Exporting, StartError, begin_call};
pub use trace_context::TraceId;
pub use transport_lines::report_suppressed_lines;

/// Targets with a level of their own, unless the filter of the log names them. A setting or an operator's need asks for
/// the lines of calls and of administrators. Those of hnsw_rs about each graph that it builds tell an operator nothing.
const LEVELS: [(&str, &str); 3] = [("cognate::access", "info"), ("cognate::audit", "info"), ("hnsw_rs", "off")];

/// The settings of the log and of traces.
#[derive(Debug, Clone)]
pub struct Options {
    /// A filter in the syntax of tracing's `EnvFilter`.
    pub filter: String,
    /// Writes one JSON object for each line instead of text.
    pub json: bool,
    /// The export of traces; `None`: there are none.
    pub traces: Option<Traces>,
}

impl Options {
    /// Accepts `filter` if it can be parsed.
    pub fn check_filter(filter: &str) -> Result<String, String> {
        EnvFilter::try_new(filter).map(|_| filter.to_owned()).map_err(|e| e.to_string())
    }
}

/// Starts the log alone. Later calls have no effect.
pub fn start(options: &Options) {
    install(options, None);
}

/// Starts the log, and the export of traces if it is switched on. Later calls have no effect. Must be called within the
/// runtime.
pub fn start_with_traces(options: &Options) -> Result<Exporting, StartError> {
    let Some(traces) = &options.traces else {
        start(options);
        return Ok(Exporting::default());
    };
    let (exporting, layer) = otlp::start(traces)?;
    install(options, Some(layer));
    Ok(exporting)
}

fn install(options: &Options, traces: Option<SpanLayer>) {
    // tracing asks a layer that is not there about every span, so there are two subscribers. Each fails only if one is
    // already running.
    let _ = match traces {
        Some(traces) => Registry::default().with(traces).with(lines(options)).try_init(),
        None => Registry::default().with(lines(options)).try_init(),
    };
}

/// The layer that writes the lines of the log.
fn lines<S>(options: &Options) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match options.json {
        // The target tells programs which lines are of calls, and of administrators.
        true => lines.json().boxed(),
        false => lines.with_target(false).boxed(),
    };
    lines.with_filter(EnvFilter::new(with_targets(&options.filter)).and(transport_lines::TransportLines::new()))
}

/// The filter with those of [`LEVELS`] that it does not name.
fn with_targets(filter: &str) -> String {
    let unnamed = LEVELS.iter().filter(|(target, _)| !filter.contains(target));
    unnamed.fold(filter.to_owned(), |filter, (target, level)| format!("{filter},{target}={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_levels_of_some_targets_unless_it_names_them() {
        assert_eq!(with_targets("warn"), "warn,cognate::access=info,cognate::audit=info,hnsw_rs=off");
        let named = "info,cognate::audit=off,hnsw_rs=debug";
        assert_eq!(with_targets(named), format!("{named},cognate::access=info"));
        assert!(Options::check_filter(&with_targets("")).is_ok());
    }
}
