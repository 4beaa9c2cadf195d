//! What the process says of itself: logs, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// A filter in the syntax of tracing's `EnvFilter`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Options {
    /// Accepts `filter` if it can be read.
    pub fn check_filter(filter: &str) -> Result<String, String> {
        EnvFilter::try_new(filter).map(|_| filter.to_owned()).map_err(|e| e.to_string())
    }
}

/// Starts logging. Later calls change nothing.
pub fn start(options: &Options) {
    let filter = EnvFilter::new(&options.filter);
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Fails only where a logger runs already.
    let _ = if options.json { logger.json().try_init() } else { logger.try_init() };
}
