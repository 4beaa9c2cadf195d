//! The bound on lines of the transport in the log.
//!
//! Invariant: a client cannot flood the log through the transport. At most `LINES_PER_SECOND` lines of h2, hyper and
//! tonic are written each second; the others are counted, and their number is logged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::layer::{Context, Filter};

use crate::per_second::PerSecond;

/// Lines of the transport in one second. The transport writes a line for each mistake of a client.
const LINES_PER_SECOND: u64 = 10;
/// Interval at which the log reports the number of suppressed lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// The crates of the transport.
const TRANSPORT: [&str; 3] = ["h2", "hyper", "tonic"];

/// Lines that were suppressed since the last report.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

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

/// A filter that passes the first lines of the transport in each second, all lines of others, and no spans.
pub(super) struct TransportLines {
    limit: PerSecond,
}

impl TransportLines {
    pub(super) fn new() -> Self {
        Self { limit: PerSecond::new(LINES_PER_SECOND) }
    }

    fn allows(&self, target: &str) -> bool {
        let allowed = !is_of_transport(target) || self.limit.admits();
        if !allowed {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }
}

// A filter of the lines, not a layer beside them: tracing asks a layer without a filter about every span and event. It
// decides in `enabled`: if `event_enabled` refuses an event of a callsite that is always enabled, the registry takes
// the next event for refused.
impl<S> Filter<S> for TransportLines {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_event() && self.allows(metadata.target())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match metadata.is_event() {
            false => Interest::never(),
            true if is_of_transport(metadata.target()) => Interest::sometimes(),
            true => Interest::always(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

fn is_of_transport(target: &str) -> bool {
    TRANSPORT.contains(&target.split("::").next().unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_transport_are_bounded_in_each_second_and_others_are_not() {
        let lines = TransportLines::new();
        assert_eq!((0..1000).filter(|_| lines.allows("cognate::server")).count(), 1000);
        assert_eq!((0..1000).filter(|_| lines.allows("h2_other::x")).count(), 1000);
        assert!((0..1000).filter(|_| lines.allows("h2")).count() < 100);
    }
}
