//! Which threads go first where there are more of them than cores.

/// How much a thread that runs the model gives way (nice(2)). It computes for seconds where a search takes a fraction of a
/// millisecond: while documents came in, searches took 6 to 7 ms at p99 with this, 11 ms without.
pub const MODEL: i32 = 10;
/// How much the thread that tends the indexes gives way: nobody waits for it.
pub const BACKGROUND: i32 = 15;

/// Makes this thread less important than others of the machine, if that can be said of a thread: on Linux. Threads that it starts
/// are so too. Nothing comes of it where cores are free.
pub fn give_way(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(nice) {
        tracing::debug!(%error, "a thread is as important as others");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Whether [`give_way`] does anything.
pub const CAN_GIVE_WAY: bool = cfg!(target_os = "linux");
