//! Progress on standard error. Nothing is shown if that is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar to `total`, with a template of indicatif.
pub fn bar(total: u64, template: &str) -> ProgressBar {
    started(ProgressBar::new(total), template)
}

/// A spinner, with a template of indicatif.
pub fn spinner(template: &str) -> ProgressBar {
    started(ProgressBar::new_spinner(), template)
}

fn started(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
