//! The limit of open files, and the default number of connections that follows from it.

use crate::machine::memory;

/// Highest default, for any limit of open files.
const MAX_CONNECTIONS: usize = 4096;

/// Files that are reserved for everything else: data, index, model, backups.
const MIN_RESERVE: usize = 40;

/// Memory of an idle connection at most, and the divisor of all memory that idle connections may take together.
const IDLE_CONNECTION_BYTES: u64 = 64 * 1024;
const PART_OF_MEMORY: u64 = 16;

/// The soft limit of open files; `None` where there is no limit.
#[cfg(unix)]
pub fn limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The soft limit of open files; `None` where there is no limit.
#[cfg(not(unix))]
pub fn limit() -> Option<u64> {
    None
}

/// The number of connections that this process can serve: below the limit of open files, and in a sixteenth of its
/// memory.
pub fn default_connections() -> usize {
    connections_of(limit(), memory::limit())
}

fn connections_of(open_files: Option<u64>, memory: Option<u64>) -> usize {
    let to_usize = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let by_files = open_files.map_or(MAX_CONNECTIONS, |files| {
        let files = to_usize(files);
        files.saturating_sub((files / 4).max(MIN_RESERVE))
    });
    let by_memory = memory.map_or(MAX_CONNECTIONS, |bytes| to_usize(bytes / PART_OF_MEMORY / IDLE_CONNECTION_BYTES));
    by_files.min(by_memory).clamp(8, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_data_and_follow_small_memory() {
        assert_eq!(connections_of(Some(1024), None), 768);
        assert_eq!(connections_of(Some(80), None), 40);
        assert_eq!(connections_of(Some(1 << 20), Some(64 << 30)), MAX_CONNECTIONS);
        assert_eq!(connections_of(None, Some(400 << 20)), 400);
        assert_eq!(connections_of(Some(10), Some(1)), 8);
    }
}
