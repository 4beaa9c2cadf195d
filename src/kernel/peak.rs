//! What this machine's multipliers can do, as the measure of what a kernel does with them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::simd::{Kernel, Simd, run, run_words, word};
use super::tiles;
use crate::machine::cpu::Level;

/// Chains of dependent operations: they hide a latency of four to five cycles on two ports, and fit into sixteen
/// registers with their operands.
const CHAINS: usize = 12;

/// Operations of each chain between two looks at the clock: some tens of microseconds.
const STEPS: usize = 20_000;

/// Floating point operations a second of one thread in the arithmetic of f32 models at `level`, in registers alone: the
/// best rate seen within `time`. Fused multiply-adds, two operations each; with tiles, a third of the products of bf16,
/// since three make one of f32 (see [`super::gemm::bf16x3`]).
pub fn flops(level: Level, time: Duration) -> f64 {
    match tiles::of(level) {
        Some(tiles) => {
            let shaped = tiles.shape();
            best(time, || shaped.multiply_bf16(STEPS / 4)) / 3.0
        }
        None => run(level, Flops(time)),
    }
}

/// The same for the dot product of bytes that [`super::gemm::int8`] is made of.
pub fn byte_ops(level: Level, time: Duration) -> f64 {
    match tiles::of(level) {
        Some(tiles) => {
            let shaped = tiles.shape();
            best(time, || shaped.multiply_bytes(STEPS / 4))
        }
        None => run_words(level, ByteOps(time)),
    }
}

struct Flops(Duration);

impl Kernel for Flops {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let (factor, term) = (s.splat(0.999), s.splat(0.001));
        best(self.0, || {
            // Chains that the compiler knew to be equal would be computed once.
            let mut sums: [S::V; CHAINS] = std::array::from_fn(|i| s.splat(black_box(i as f32)));
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = s.mul_add(*sum, factor, term);
                }
            }
            black_box(sums.map(|sum| s.sum(sum)));
            CHAINS * STEPS * 2 * S::LANES
        })
    }
}

struct ByteOps(Duration);

impl Kernel for ByteOps {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let ones = black_box(word(&[1; 4][..S::WORD]));
        // SAFETY: it points to a word.
        let w = unsafe { s.splat_word_at(&ones) };
        best(self.0, || {
            // SAFETY: each points to a word. They are zeros of which the compiler knows nothing, and stay zeros.
            let mut sums: [S::I; CHAINS] = std::array::from_fn(|_| unsafe { s.splat_word_at(&black_box(0)) });
            for _ in 0..STEPS {
                for sum in &mut sums {
                    // Of the sum itself: a product that does not change would be computed once for all steps.
                    *sum = s.dot_words(*sum, *sum, w);
                }
            }
            black_box(sums.map(|sum| s.sum(s.to_f32(sum))));
            CHAINS * STEPS * 2 * S::LANES * S::WORD
        })
    }
}

/// Operations a second of `work`, which returns how many it did.
#[inline(always)]
fn best(time: Duration, mut work: impl FnMut() -> usize) -> f64 {
    let (mut rate, until) = (0.0f64, Instant::now() + time);
    while rate == 0.0 || Instant::now() < until {
        let start = Instant::now();
        let operations = work();
        rate = rate.max(operations as f64 / start.elapsed().as_secs_f64());
    }
    rate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cpu;

    #[test]
    fn a_peak_is_a_rate_that_a_machine_can_have() {
        for level in cpu::Level::supported() {
            for rate in [flops(level, Duration::ZERO), byte_ops(level, Duration::ZERO)] {
                // 2e13: a tile of bytes in 16 cycles at ten GHz; what is above was not computed.
                assert!((1e6..2e13).contains(&rate), "{level}: {rate:e} operations a second");
            }
        }
    }
}
