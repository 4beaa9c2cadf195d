//! Reads files again while the server runs: at SIGHUP, and when they change.
//!
//! Invariants: a file that cannot be used is an error in the log, and what was read before stays in force. A changed
//! file is read when it has stayed the same for [`INTERVAL`], so that the two files of a pair may be replaced one after
//! the other. Files are read on a blocking thread.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::service_manager;

/// Interval of the look at the files. A change is in force after one to two of them; a look costs some microseconds.
const INTERVAL: Duration = Duration::from_millis(400);

/// Something that is read from files, and can be read again.
pub struct Reloadable {
    /// Its name in the log.
    pub name: &'static str,
    /// The files that it is read from.
    pub files: Vec<PathBuf>,
    /// Reads the files and puts their content in force. Returns the change, or `None` if there is none. After an error
    /// the old content stays in force.
    pub reload: Box<dyn Fn() -> Result<Option<String>, String> + Send + Sync>,
}

/// The state of a file by which a change is noticed: size, time and inode; `None` without the file.
type Stamp = Option<(u64, Option<SystemTime>, u64)>;

/// A reloadable with the stamps of its files.
struct Watched {
    reloadable: Reloadable,
    /// The stamps when the files were last read here. Empty at first: a file may have changed since it was read at the
    /// start.
    read: Vec<Stamp>,
    /// The stamps at the last look.
    seen: Vec<Stamp>,
}

/// Reads again for ever: all of `reloadables` at each message of `hangups`, and those whose files have changed.
pub async fn run(reloadables: Vec<Reloadable>, mut hangups: mpsc::Receiver<()>) {
    let unread = |reloadable| Watched { reloadable, read: Vec::new(), seen: Vec::new() };
    let mut watched: Vec<Watched> = reloadables.into_iter().map(unread).collect();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            hangup = hangups.recv() => match hangup {
                Some(()) => true,
                None => return,
            },
            _ = ticks.tick(), if !watched.is_empty() => false,
        };
        let looked = spawn_blocking(move || {
            if asked {
                reload_all(&mut watched)
            } else {
                reload_changed(&mut watched)
            }
            watched
        });
        match looked.await {
            Ok(same) => watched = same,
            Err(error) => return tracing::error!(%error, "files are no longer reloaded"),
        }
    }
}

fn reload_all(watched: &mut [Watched]) {
    service_manager::reloading();
    let changed = watched.iter_mut().filter_map(|each| each.reload().then_some(())).count();
    if changed == 0 {
        tracing::info!("SIGHUP: no file that can be reloaded has changed; other settings are read at the start");
    }
    service_manager::ready();
}

fn reload_changed(watched: &mut [Watched]) {
    for each in watched {
        let now = stamps(&each.reloadable);
        let settled = now == each.seen;
        let changed = now != each.read;
        each.seen = now;
        if settled && changed {
            each.reload();
        }
    }
}

impl Watched {
    /// Reads the files. Returns true if the log has a line about it.
    fn reload(&mut self) -> bool {
        let Reloadable { name, reload, .. } = &self.reloadable;
        // Taken before the files are read: a change meanwhile is noticed at the next look.
        self.read = stamps(&self.reloadable);
        match reload() {
            Ok(Some(change)) => tracing::info!(target: "cognate::audit", "reloaded {name}: {change}"),
            Ok(None) => return false,
            Err(reason) => tracing::error!("{name} cannot be reloaded, and the old content stays in force: {reason}"),
        }
        true
    }
}

fn stamps(reloadable: &Reloadable) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&file);
        #[cfg(not(unix))]
        let inode = 0;
        Some((file.len(), file.modified().ok(), inode))
    };
    reloadable.files.iter().map(stamp).collect()
}
