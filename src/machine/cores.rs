//! The number of cores that this process may use. `config` asks for it once and passes it down.

/// Returns the number of cores: the container's quota and the affinity mask are respected.
pub fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
