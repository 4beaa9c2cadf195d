//! The machine that the process runs on, as far as its settings follow it.

pub mod memory;
