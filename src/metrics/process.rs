//! The process: its build, its age, its memory, its open files.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::families::{Families, Family, Labels};
use crate::machine::memory;
use crate::machine::process::Usage;

/// The facts about the process that never change.
pub struct Process {
    /// Seconds since 1970.
    started: f64,
    memory_limit: Option<u64>,
}

impl Process {
    /// Notes the time of the start, which is now.
    pub fn new() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { started, memory_limit: memory::limit() }
    }

    /// Writes the families of the process. Where the system does not tell, they have no series.
    pub fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        let build = vec![("version", env!("CARGO_PKG_VERSION").into())];
        families.infos(Family::of("cognate_build", "The version of the server."), [build])?;
        families.gauges(
            Family::seconds("process_start_time", "Time at which the server started, in seconds since 1970."),
            [(Labels::new(), self.started)],
        )?;
        let usage = Usage::now();
        families.counter(
            Family::seconds("process_cpu", "Processor time of all threads."),
            usage.cpu.map_or(0.0, |cpu| cpu.as_secs_f64()),
        )?;
        families.gauge(
            Family::bytes("process_resident_memory", "Resident memory, mapped files included."),
            usage.resident,
        )?;
        families.gauge(
            Family::bytes("cognate_anonymous_memory", "Memory that no file can give back: what the limit is about."),
            memory::anonymous(),
        )?;
        families.gauge(
            Family::bytes("cognate_memory_limit", "Memory of the container, or of the machine."),
            self.memory_limit,
        )?;
        families.gauge(Family::of("process_open_fds", "Open files and connections."), usage.open_files)?;
        families.gauge(Family::of("process_max_fds", "Open files and connections at most."), usage.max_open_files)?;
        families.gauge(Family::of("process_threads", "Threads."), usage.threads)
    }
}
