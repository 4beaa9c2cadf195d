//! Signals that ask a client command to end: Ctrl-C, SIGTERM, and a closed terminal.
//!
//! A command that writes files must not leave a partial one behind, and an upload reports its progress. So the
//! first signal is handled here, even while the command waits in a system call. Other commands keep the system's
//! default. A signal that our parent made us ignore (`nohup`) stays ignored.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::task::Poll;

use tokio::sync::oneshot;

use super::unfinished;

/// True if [`end`] or [`first`] handles the signals.
static HANDLED: AtomicBool = AtomicBool::new(false);

/// Exit status of a process that a signal ended, as shells report it: 128 plus the signal's number.
type Status = u8;

/// Makes a signal remove unfinished files and end the process. Does nothing outside the runtime, or if the command
/// handles signals itself.
pub fn end() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !HANDLED.swap(true, Ordering::Relaxed) {
        // Listens before any file is begun, and not only when the task first runs.
        let mut signals = Signals::listen();
        runtime.spawn(async move { abandon(signals.next().await) });
    }
}

/// Reports the first signal to the caller, as the exit status. The second one ends the process. Must be called
/// within the runtime, before any file is begun.
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
    unfinished::remove_all();
    exit(status.into())
}

/// The signals that are not ignored, with their exit statuses.
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

/// True if our parent had the signal ignored, which a listener would undo. Known on Linux; elsewhere only SIGHUP is
/// assumed to be ignored.
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
