//! The handle of the maintenance thread, for those that have work for it. `maintenance` runs the thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Handle that wakes the maintenance thread.
#[derive(Clone)]
pub(super) struct MaintenanceThread(SyncSender<()>);

impl MaintenanceThread {
    /// Makes the handle, and the receiver for the thread.
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (wake, woken) = sync_channel(1);
        (Self(wake), woken)
    }

    /// Announces work.
    pub(super) fn wake(&self) {
        // Full: the thread is about to look anyway. Disconnected: the store is gone.
        let _ = self.0.try_send(());
    }
}
