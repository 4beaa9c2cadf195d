//! Signals that ask a client command to end: Ctrl-C, SIGTERM, and a terminal that was closed.
//!
//! A command that writes files must not leave half of one behind, and an upload says how far it came. So the first
//! signal is handled here, where it reaches a command even while that waits in a system call. Commands that leave
//! nothing behind keep the system's default, and a signal that our parent told us to ignore (`nohup`) stays ignored.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::task::Poll;

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
        // Listened for before any file is begun, and not when the task has its first turn.
        let mut signals = Signals::listen();
        runtime.spawn(async move { abandon(signals.next().await) });
    }
}

/// From now on the first signal is told to the caller, as the status to exit with. The second one ends the process.
/// Must be called in the runtime, and before any file is begun.
pub fn first() -> oneshot::Receiver<Status> {
    let (tell, told) = oneshot::channel();
    HANDLED.store(true, Ordering::Relaxed);
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        let mut status = signals.next().await;
        if tell.send(status).is_ok() {
            status = signals.next().await;
        }
        abandon(status)
    });
    told
}

fn abandon(status: Status) -> ! {
    new_file::remove_unfinished();
    exit(status.into())
}

/// Those of the signals that are not ignored, each with its status.
#[cfg(unix)]
struct Signals(Vec<(tokio::signal::unix::Signal, Status)>);

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};

        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heard = kinds.into_iter().zip([130, 143, 129]).filter(|(kind, _)| !is_ignored(kind.as_raw_value()));
        Self(heard.filter_map(|(kind, status)| Some((signal(kind).ok()?, status))).collect())
    }

    async fn next(&mut self) -> Status {
        std::future::poll_fn(|context| {
            let arrived = |(signal, status): &mut (tokio::signal::unix::Signal, Status)| {
                signal.poll_recv(context).is_ready().then_some(*status)
            };
            self.0.iter_mut().find_map(arrived).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) -> Status {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }
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
