//! Runs a kernel with the instruction set of a level.
//!
//! Each instruction set is detected again where it is used, so a level that this machine lacks costs speed and is never
//! undefined behaviour.

use super::{Kernel, Simd, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::machine::cpu::Level;

/// Runs `kernel` with the instructions of `level`, or portable code if this machine lacks them. The kernel must not
/// use VNNI or tiles: levels that differ only in these share the code.
pub fn run<K: Kernel>(level: Level, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    match level {
        Level::Avx512 | Level::Avx512Vnni | Level::Amx => {
            if let Some(simd) = avx512::Avx512::<false>::detect() {
                return simd.call(kernel);
            }
        }
        Level::Avx2Fma | Level::AvxVnni => {
            if let Some(simd) = avx2::Avx2Fma::<false>::detect() {
                return simd.call(kernel);
            }
        }
        Level::Portable | Level::Neon => {}
    }
    let _ = level;
    portable::Portable.call(kernel)
}

/// Runs a kernel that computes dot products of small integers; otherwise as [`run`].
pub fn run_words<K: Kernel>(level: Level, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    match level {
        Level::Avx512Vnni | Level::Amx => {
            if let Some(simd) = avx512::Avx512::<true>::detect() {
                return simd.call(kernel);
            }
        }
        Level::AvxVnni => {
            if let Some(simd) = avx2::Avx2Fma::<true>::detect() {
                return simd.call(kernel);
            }
        }
        Level::Avx512 | Level::Avx2Fma | Level::Portable | Level::Neon => {}
    }
    run(level, kernel)
}

/// The size of a level's vectors.
#[derive(Default)]
pub(in crate::kernel) struct VectorSize {
    /// [`Simd::LANES`]
    pub lanes: usize,
    /// [`Simd::WORD`]
    pub word: usize,
}

impl VectorSize {
    pub(in crate::kernel) fn of(level: Level) -> Self {
        run_words(level, Self::default())
    }
}

impl Kernel for VectorSize {
    type Output = Self;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self {
        Self { lanes: S::LANES, word: S::WORD }
    }
}
