//! Peak rates of this machine's multipliers, for comparison with a kernel's rate.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::simd::{Kernel, Simd, run, run_words, word};
use super::tiles::Tiles;
use crate::machine::cpu::Level;

/// Independent chains of operations: they hide a latency of four to five cycles on two ports, and fit into sixteen
/// registers with their operands.
const CHAINS: usize = 12;

/// Operations of each chain between two readings of the clock: some tens of microseconds.
const STEPS: usize = 20_000;

/// Floating point operations per second of one thread in the arithmetic of f32 models at `level`, in registers
/// alone: the best rate within `time`. Fused multiply-adds count as two operations. With tiles, the rate is a third
/// of that of bf16 products, because three of them replace one of f32 (see [`super::gemm::bf16x3`]).
pub fn flops(level: Level, time: Duration) -> f64 {
    match Tiles::of(level) {
        Some(tiles) => {
            let shaped = tiles.shape();
            best(time, || shaped.multiply_bf16(STEPS / 4)) / 3.0
        }
        None => run(level, Flops(time)),
    }
}

/// Operations per second of the byte dot product that [`super::gemm::int8`] uses.
pub fn byte_ops(level: Level, time: Duration) -> f64 {
    match Tiles::of(level) {
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
            // `black_box`, because the compiler would compute chains that it knows to be equal only once.
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
        // SAFETY: the pointer is to a word.
        let w = unsafe { s.splat_word_at(&ones) };
        best(self.0, || {
            // SAFETY: each pointer is to a word. The zeros are unknown to the compiler, and stay zeros.
            let mut sums: [S::I; CHAINS] = std::array::from_fn(|_| unsafe { s.splat_word_at(&black_box(0)) });
            for _ in 0..STEPS {
                for sum in &mut sums {
                    // A product of the sum itself, because the compiler would compute a constant product only once.
                    *sum = s.dot_words(*sum, *sum, w);
                }
            }
            black_box(sums.map(|sum| s.sum(s.to_f32(sum))));
            CHAINS * STEPS * 2 * S::LANES * S::WORD
        })
    }
}

/// Operations per second of `work`, which returns its number of operations.
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
                // 2e13: a tile of bytes in 16 cycles at ten GHz. A higher rate was not really computed.
                assert!((1e6..2e13).contains(&rate), "{level}: {rate:e} operations a second");
            }
        }
    }
}
