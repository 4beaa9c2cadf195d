//! The log of the process, on standard error.
//!
//! Invariant: a client cannot flood the log through the transport. At most `LINES_PER_SECOND` lines of h2, hyper and
//! tonic are written each second; the others are counted, and their number is logged.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Lines of the transport in one second. The transport writes a line for each mistake of a client.
const LINES_PER_SECOND: u64 = 10;
/// Interval at which the log reports the number of suppressed lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// The crates of the transport.
const TRANSPORT: [&str; 3] = ["h2", "hyper", "tonic"];

/// Lines that were suppressed since the last report.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// The settings of the log.
#[derive(Debug, Clone)]
pub struct Options {
    /// A filter in the syntax of tracing's `EnvFilter`.
    pub filter: String,
    /// Writes one JSON object for each line instead of text.
    pub json: bool,
}

impl Options {
    /// Accepts `filter` if it can be parsed.
    pub fn check_filter(filter: &str) -> Result<String, String> {
        EnvFilter::try_new(filter).map(|_| filter.to_owned()).map_err(|e| e.to_string())
    }
}

/// Starts logging. Later calls have no effect.
pub fn start(options: &Options) {
    let filter = EnvFilter::new(&options.filter);
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Fails only if a logger is already running.
    let _ = if options.json {
        logger.json().finish().with(TransportLines::new()).try_init()
    } else {
        logger.finish().with(TransportLines::new()).try_init()
    };
}

/// Logs the number of suppressed lines of the transport at intervals. Never returns.
pub async fn report_suppressed_lines() {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        let lines = SUPPRESSED.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "lines of the transport were suppressed: a client causes too many of them");
        }
    }
}

/// A filter that passes the first lines of the transport in each second, and all lines of others.
struct TransportLines {
    begun: Instant,
    /// The current second in the upper half, and the number of its lines in the lower half.
    second: AtomicU64,
}

impl TransportLines {
    fn new() -> Self {
        Self { begun: Instant::now(), second: AtomicU64::new(0) }
    }

    fn allows(&self, target: &str) -> bool {
        let root = target.split("::").next().unwrap_or(target);
        if !TRANSPORT.contains(&root) {
            return true;
        }
        self.allows_another(self.begun.elapsed().as_secs())
    }

    fn allows_another(&self, second: u64) -> bool {
        let next = |seen: u64| {
            let lines = if seen >> 32 == second { seen & u64::from(u32::MAX) } else { 0 };
            (second << 32) | (lines + 1).min(u64::from(u32::MAX))
        };
        // Never fails: the closure always returns a next value.
        let seen = self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| Some(next(seen)));
        let lines = next(seen.unwrap_or_default()) & u64::from(u32::MAX);
        let allowed = lines <= LINES_PER_SECOND;
        if !allowed {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }
}

impl<S: Subscriber> Layer<S> for TransportLines {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.allows(event.metadata().target())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_transport_are_bounded_in_each_second_and_others_are_not() {
        let lines = TransportLines::new();
        let allowed = |second: u64| (0..1000).filter(|_| lines.allows_another(second)).count() as u64;
        assert_eq!((allowed(5), allowed(6), allowed(6)), (LINES_PER_SECOND, LINES_PER_SECOND, 0));
        assert_eq!((0..1000).filter(|_| lines.allows("cognate::server")).count(), 1000);
        assert_eq!((0..1000).filter(|_| lines.allows("h2_other::x")).count(), 1000);
        assert!((0..1000).filter(|_| lines.allows("h2")).count() < 100);
    }
}
