//! NUMBERS: the arithmetic that decides speed, each in a plain and a fast version.
//!
//! This module knows slices of floats, and nothing of texts, models or indexes. With [`machine`](crate::machine) it
//! is the only module with `unsafe` code: for the CPU's vector instructions, for matrices that threads fill
//! together, and to declare that a block of codes is plain bytes.

#![allow(unsafe_code)]

pub mod activation;
pub mod attention;
pub mod dot;
pub mod dot_i2;
pub mod dot_i8;
pub mod embedding;
pub mod gemm;
pub mod matrix;
pub mod norm;
pub mod peak;
pub mod simd;
pub mod softmax;
mod tiles;

pub use dot::{NormError, dot, norm, normalize};
