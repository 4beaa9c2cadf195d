//! Signals that ask a client command to end: Ctrl-C, SIGTERM, and a terminal that was closed.
//!
//! A command that writes files must not leave half of one behind, and an upload says how far it came. So the first
//! signal is handled here, where it reaches a command even while that waits in a system call. Commands that leave
//! nothing behind keep the system's default, and a signal that our parent told us to ignore (`nohup`) stays ignored.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::new_file;

/// The signals are handled, by [`end`] or [`first`].
static HANDLED: AtomicBool = AtomicBool::new(false);

/// Exit statuses of a process that a signal ended, as shells report them: 128 and the signal's number.
type Status = u8;

/// From now on a signal removes unfinished files and ends the process. Does nothing outside the runtime, or if the
/// command handles signals itself.
pub fn end() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !HANDLED.swap(true, Ordering::Relaxed) {
        runtime.spawn(async move { abandon(signal().await) });
    }
}

/// From now on the first signal is told to the caller, as the status to exit with. The second one ends the process.
/// Must be called in the runtime, and before any file is begun.
pub fn first() -> oneshot::Receiver<Status> {
    let (tell, told) = oneshot::channel();
    HANDLED.store(true, Ordering::Relaxed);
    tokio::spawn(async move {
        let mut status = signal().await;
        if tell.send(status).is_ok() {
            status = signal().await;
        }
        abandon(status)
    });
    told
}

fn abandon(status: Status) {
    new_file::remove_unfinished();
    exit(status.into())
}

/// Waits for a signal.
#[cfg(unix)]
async fn signal() -> Status {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    let listen = |kind: SignalKind| -> Option<Signal> {
        if is_ignored(kind.as_raw_value()) { None } else { signal(kind).ok() }
    };
    let [mut interrupt, mut terminate, mut hangup] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(listen);
    async fn received(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => _ = signal.recv().await,
            None => std::future::pending().await,
        }
    }
    tokio::select! {
        () = received(&mut interrupt) => 130,
        () = received(&mut terminate) => 143,
        () = received(&mut hangup) => 129,
    }
}

/// Waits for a signal.
#[cfg(not(unix))]
async fn signal() -> Status {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    130
}

/// Our parent had the signal ignored: a listener would undo that. Known on Linux; elsewhere only SIGHUP is assumed to be.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    const SIGHUP: i32 = 1;
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let mask = status.as_deref().and_then(|status| status.lines().find_map(|line| line.strip_prefix("SigIgn:")));
    match mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) {
        Some(mask) => mask & (1 << (signal - 1)) != 0,
        None => signal == SIGHUP,
    }
}
