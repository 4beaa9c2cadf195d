//! Tells the service manager (systemd, `Type=notify-reload`) when the server is ready, reloads and stops.
//!
//! Without a service manager, which is without the variable `NOTIFY_SOCKET`, nothing happens. An error is ignored: the
//! server serves all the same.

#[cfg(unix)]
use sd_notify::{NotifyState, notify};

/// The server answers calls, or has finished reloading.
pub fn ready() {
    #[cfg(unix)]
    let _ = notify(&[NotifyState::Ready]);
}

/// The server reloads files.
pub fn reloading() {
    #[cfg(unix)]
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = notify(&[NotifyState::Reloading, now]);
    }
}

/// The server stops.
pub fn stopping() {
    #[cfg(unix)]
    let _ = notify(&[NotifyState::Stopping]);
}
