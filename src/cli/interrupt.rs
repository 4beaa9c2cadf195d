//! The end of a client command by a signal.
//!
//! A command that writes files must not leave a partial one behind, and an upload reports its progress. So the
//! first signal is handled here, even while the command waits in a system call. Other commands keep the system's
//! default.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::signals::{Signals, Status};
use super::unfinished;

/// True if [`end`] or [`first`] handles the signals.
static HANDLED: AtomicBool = AtomicBool::new(false);

/// Makes a signal remove unfinished files and end the process. Does nothing outside the runtime, or if the command
/// handles signals itself.
pub fn end() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !HANDLED.swap(true, Ordering::Relaxed) {
        // Listens before any file is begun, and not only when the task first runs.
        let Ok(mut signals) = Signals::of_command() else { return };
        runtime.spawn(async move { abandon(signals.next().await) });
    }
}

/// Reports the first signal to the caller, as the exit status. The second one ends the process. Must be called
/// within the runtime, before any file is begun.
pub fn first() -> oneshot::Receiver<Status> {
    let (tell, told) = oneshot::channel();
    HANDLED.store(true, Ordering::Relaxed);
    let Ok(mut signals) = Signals::of_command() else { return told };
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
