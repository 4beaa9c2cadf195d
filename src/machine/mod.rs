//! The machine that the process runs on: its memory, what the allocator takes of it, and its files, as far as others reach
//! them.

pub mod allocator;
pub mod files;
pub mod memory;
