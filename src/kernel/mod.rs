//! NUMBERS: the arithmetic that decides speed, each in a plain and a fast version; and what else is close to the machine.
//!
//! Knows slices of floats and nothing of texts, models or indexes. The only place of the crate where `unsafe` is allowed:
//! for the CPU's vector instructions, for matrices that threads fill together, to read a file as memory, and to say that a
//! block of codes is plain bytes.

#![allow(unsafe_code)]

pub mod activation;
pub mod attention;
pub mod cpu;
pub mod dot;
pub mod dot_i8;
pub mod gemm;
pub mod gemm_int8;
pub mod gemm_pairs;
pub mod linear;
pub mod mapping;
pub mod matrix;
pub mod norm;
pub mod pairs;
pub mod pass;
pub mod peak;
pub mod priority;
pub mod quantise;
pub mod simd;
pub mod softmax;
pub mod team;
mod tiles;

pub use dot::{NormError, dot, norm, normalize};
