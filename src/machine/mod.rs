//! THE MACHINE: its instructions, threads, memory, files and inherited sockets, and the allocator's sizes.
//!
//! Uses nothing else of the crate. With [`kernel`](crate::kernel) it is the only module with `unsafe`: to ask the
//! system for AMX and for the time of a thread, to map a file into memory, to lend a leader's task to its
//! helpers, and to own an inherited socket.

#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod activation;
pub mod allocator;
pub mod cores;
pub mod cpu;
pub mod files;
pub mod leader;
pub mod mapping;
pub mod memory;
pub mod precedence;
pub mod priority;
pub mod process;
#[cfg(test)]
pub mod raise_on_drop;
#[cfg(test)]
pub mod skipped;
pub mod team;
