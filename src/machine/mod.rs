//! The machine that the process runs on: its memory, as far as settings follow it, and its files, as far as others reach them.

pub mod files;
pub mod memory;
