//! The memory that this process may use: the container's limit if there is one, otherwise the machine's memory.
//!
//! Limits of control groups apply to all groups below them, so each group on the path to the root is read.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process may use before the kernel ends it; `None` if the system does not say (not on Linux).
pub fn limit() -> Option<u64> {
    limit_under(Path::new("/"))
}

/// Anonymous memory of this process, which no file can give back, in bytes; `None` if the system does not say (not on
/// Linux).
pub fn anonymous() -> Option<u64> {
    kib_of("RssAnon:", &fs::read_to_string("/proc/self/status").ok()?)
}

/// Returns [`limit`] for a machine whose files are under `root`.
fn limit_under(root: &Path) -> Option<u64> {
    let total = kib_of("MemTotal:", &fs::read_to_string(root.join("proc/meminfo")).ok()?)?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        // `hierarchy:controllers:path`; version 2 has hierarchy 0 and names no controllers.
        let mut fields = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if hierarchy == "0" && controllers.is_empty() {
            least_of_path(&root.join("sys/fs/cgroup"), path, "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            least_of_path(&root.join("sys/fs/cgroup/memory"), path, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    Some(limits.fold(total, u64::min))
}

/// The bytes of a line like `MemTotal:  1000 kB`.
fn kib_of(name: &str, lines: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest limit of a group and all groups above it. Inside a container the path may be the host's, which is not
/// mounted. Then the root of the mount is the container's own group.
fn least_of_path(mount: &Path, group: &str, file: &str) -> Option<u64> {
    let group: PathBuf = group.trim_start_matches('/').into();
    let limit =
        |dir: &Path| -> Option<u64> { fs::read_to_string(mount.join(dir).join(file)).ok()?.trim().parse().ok() };
    group.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files.iter().chain(&[("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 10 kB\n")]) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn limit_of(files: &[(&str, &str)]) -> Option<u64> {
        limit_under(machine(files).path())
    }

    #[test]
    fn without_a_group_the_machine_is_the_limit() {
        assert_eq!(limit_of(&[]), Some(1_024_000));
        assert_eq!(limit_of(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")]), Some(1_024_000));
        assert_eq!(limit_under(Path::new("/nowhere")), None);
    }

    #[test]
    fn this_process_uses_some_memory() {
        let now = anonymous();
        assert!(now.is_some_and(|bytes| bytes > 100_000) || cfg!(not(target_os = "linux")), "{now:?}");
    }

    #[test]
    fn the_lowest_limit_on_the_path_to_the_root_counts() {
        let files = [
            ("proc/self/cgroup", "0::/pods/one\n"),
            ("sys/fs/cgroup/pods/memory.max", "400000\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "max\n"),
        ];
        assert_eq!(limit_of(&files), Some(400_000));
    }

    #[test]
    fn version_1_is_read_and_a_path_of_the_host_falls_back_to_the_mount() {
        let files = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "300000\n"),
        ];
        assert_eq!(limit_of(&files), Some(300_000));
        let unlimited = [
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(limit_of(&unlimited), Some(1_024_000));
    }
}
