//! The resources that this process, or one of its threads, uses, as Linux tells them.

use std::fs;
use std::time::Duration;

/// Ticks of processor time in a second, as `/proc` counts them: the same on every Linux that we know.
const TICKS_PER_SECOND: u64 = 100;

/// The resources that are in use; `None` where the system does not say (not on Linux).
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time of all threads.
    pub cpu: Option<Duration>,
    /// Resident memory in bytes.
    pub resident: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// Open file descriptors at most.
    pub max_open_files: Option<u64>,
}

impl Usage {
    /// Reads the present state.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu: cpu(&stat),
            resident: number_after(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: number_after(&status, "Threads:"),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            max_open_files: number_after(&limits, "Max open files"),
        }
    }
}

/// The processor time of this thread, which other work on the machine does not change; `None` on other systems.
pub fn thread_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one `timespec`, which is borrowed for it.
        let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        (read == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The processor time in a line of `/proc/PID/stat`.
fn cpu(stat: &str) -> Option<Duration> {
    // The name of the program is in brackets, and may have spaces and brackets itself.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// The number that follows `name` at the beginning of a line.
fn number_after(lines: &str, name: &str) -> Option<u64> {
    lines.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_is_found_behind_any_name() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 100 1000 10 18446744073709551615";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu(""), None);
    }

    #[test]
    fn a_thread_that_computes_uses_processor_time() {
        let Some(begun) = thread_time() else { return };
        while thread_time().is_some_and(|time| time == begun) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn this_process_has_threads_and_open_files() {
        let usage = Usage::now();
        assert!(usage.open_files.is_some_and(|n| n > 2) || cfg!(not(target_os = "linux")), "{usage:?}");
        assert!(usage.threads.is_some_and(|n| n > 0) || cfg!(not(target_os = "linux")), "{usage:?}");
    }
}
