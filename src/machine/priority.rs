//! Scheduling priorities of threads, for machines with more threads than cores.

/// The nice value of a thread that runs the model (nice(2)), except the one for short calls of quiet callers. The model
/// computes for seconds, a search for a fraction of a millisecond. During an upload, searches took 6 to 7 ms at p99
/// with this value, and 11 ms without it.
pub const MODEL: i32 = 10;
/// The nice value of the maintenance thread, for which no call waits.
pub const BACKGROUND: i32 = 15;

/// Lowers the priority of this thread, and of the threads that it starts (Linux only). It has no effect while cores are
/// free.
pub fn lower(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(nice) {
        tracing::debug!(%error, "the priority of a thread cannot be lowered");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// True if [`lower`] has an effect on this system.
pub const CAN_LOWER: bool = cfg!(target_os = "linux");
