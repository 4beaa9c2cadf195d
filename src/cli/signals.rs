//! The signals that ask a process to end: Ctrl-C (SIGINT), SIGTERM, and SIGHUP of a closed terminal.

use std::io;
#[cfg(unix)]
use std::task::Poll;

/// Exit status of a process that a signal ended, as shells report it: 128 plus the signal's number.
pub type Status = u8;

/// The status of SIGHUP.
pub const OF_HANGUP: Status = 129;

#[cfg(unix)]
const SIGHUP: i32 = 1;

/// A listener for some of the signals, with their exit statuses.
#[cfg(unix)]
pub struct Signals(Vec<(tokio::signal::unix::Signal, Status)>);

#[cfg(unix)]
impl Signals {
    /// Listens for a server. Only SIGHUP stays ignored if our parent made us ignore it (`nohup`).
    pub fn of_server() -> io::Result<Self> {
        Self::listen(|signal| signal != SIGHUP || is_ignored(signal) != Some(true))
    }

    /// Listens for a client command. A signal that our parent made us ignore stays ignored. Where that is not known,
    /// SIGHUP is assumed to be ignored.
    pub fn of_command() -> io::Result<Self> {
        Self::listen(|signal| !is_ignored(signal).unwrap_or(signal == SIGHUP))
    }

    fn listen(is_heard: impl Fn(i32) -> bool) -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heard = kinds.into_iter().zip([130, 143, OF_HANGUP]).filter(|(kind, _)| is_heard(kind.as_raw_value()));
        heard.map(|(kind, status)| Ok((signal(kind)?, status))).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Status {
        std::future::poll_fn(|context| {
            let mut arrived = self.0.iter_mut().filter_map(|(signal, status)| match signal.poll_recv(context) {
                Poll::Ready(_) => Some(*status),
                Poll::Pending => None,
            });
            arrived.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Returns whether our parent had the signal ignored, which a listener would undo. Known on Linux.
#[cfg(unix)]
fn is_ignored(signal: i32) -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & (1 << (signal - 1)) != 0)
}

/// A listener for Ctrl-C.
#[cfg(not(unix))]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Listens for a server.
    pub fn of_server() -> io::Result<Self> {
        Ok(Self)
    }

    /// Listens for a client command.
    pub fn of_command() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next Ctrl-C. An error means that there is no console for it, which must not end the process.
    pub async fn next(&mut self) -> Status {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }
}
