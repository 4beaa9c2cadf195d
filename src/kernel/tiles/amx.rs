//! The instructions of AMX.
//!
//! The compiler has no stable names for these instructions, so they are written in assembly. One assembly block
//! computes a whole [`Block`] of a product, and no tile register is live outside of it, so the compiler, which does
//! not know tiles, has nothing to save. Only the tiles' shape is kept between blocks, while the thread holds a
//! [`Shaped`]. Source: Intel, "Architecture Instruction Set Extensions Programming Reference", chapter 3.

use std::arch::asm;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::{BLOCK, Block, STEP_BYTES, Sums, TILE_ROWS};
use crate::machine::cpu::Level;

/// Bytes of one row of weights: `BLOCK` words of four bytes.
const WEIGHT_STRIDE: usize = 4 * BLOCK;
/// Bytes of the weights of one step.
const STEP_WEIGHTS: usize = TILE_ROWS * WEIGHT_STRIDE;

/// Proof that the processor has AMX for bytes and bf16, and that the system lets this process use it. Only
/// [`Tiles::of`] makes one.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Tiles(());

impl Tiles {
    /// The tiles of a level, if it has them and this machine supports it.
    pub(in crate::kernel) fn of(level: Level) -> Option<Self> {
        (level == Level::Amx && level.is_supported()).then_some(Self(()))
    }

    /// Sets the shape of this thread's tiles.
    pub(in crate::kernel) fn shape(self) -> Shaped {
        /// The operand of LDTILECFG.
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            bytes_a_row: [u16; 16],
            rows: [u8; 16],
        }
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], bytes_a_row: [0; 16], rows: [0; 16] };
        config.bytes_a_row[..8].fill(STEP_BYTES as u16);
        config.rows[..8].fill(TILE_ROWS as u8);
        // SAFETY: `self` exists, so the instruction does; it reads 64 bytes. The tiles that it clears are not in
        // use.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags)) };
        Shaped(PhantomData)
    }
}

/// Guard: this thread's tiles have their shape. When dropped, they are free again, and no longer add to the cost of
/// thread switches.
pub(in crate::kernel) struct Shaped(PhantomData<*const ()>);

impl Drop for Shaped {
    fn drop(&mut self) {
        // SAFETY: the tiles have a shape, so the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// The instructions of a block: those of one step, with the common beginning and end of every block.
macro_rules! block {
    ([$($step:literal),* $(,)?], $block:expr, $sums:expr, $($operand:tt)*) => {{
        let Block { x, x_stride, w, steps, ahead, ahead_lines, .. } = $block;
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "test {steps}, {steps}", "jz 4f",
            "2:",
            $($step,)*
            "mov {lines}, {ahead_lines}",
            "3:", "prefetcht1 [{ahead}]", "add {ahead}, 64", "dec {lines}", "jnz 3b",
            "dec {steps}", "jnz 2b",
            "4:",
            "tilestored [{sums} + {w_stride}*1], tmm0",
            "tilestored [{sums} + {w_stride}*1 + 64], tmm1",
            "tilestored [{sums} + {w_stride}*1 + 2048], tmm2",
            "tilestored [{sums} + {w_stride}*1 + 2112], tmm3",
            x = inout(reg) x => _, x_stride = in(reg) x_stride,
            w = inout(reg) w => _, w_stride = in(reg) WEIGHT_STRIDE,
            steps = inout(reg) steps => _,
            ahead = inout(reg) ahead => _, ahead_lines = in(reg) ahead_lines, lines = out(reg) _,
            sums = in(reg) $sums.as_mut_ptr(),
            $($operand)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }};
}

/// `$times` times four products of independent tiles. Nothing is loaded.
macro_rules! multiply {
    ($instruction:literal, $times:expr) => {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "test {times}, {times}", "jz 3f",
            "2:",
            concat!($instruction, " tmm0, tmm4, tmm6"),
            concat!($instruction, " tmm1, tmm4, tmm7"),
            concat!($instruction, " tmm2, tmm5, tmm6"),
            concat!($instruction, " tmm3, tmm5, tmm7"),
            "dec {times}", "jnz 2b",
            "3:",
            times = inout(reg) $times => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        )
    };
}

/// Address of a row of x.
fn row(x: *const i32, stride: usize, row: usize) -> *const u8 {
    x.cast::<u8>().wrapping_add(row * stride)
}

impl Shaped {
    /// Computes `sums[i, j] = Σ x[i, k] · w[k, j]` over all k, with x in 0..=255 and w in -128..=127, exactly
    /// unless it overflows. If not `tall`, rows from 16 on become zero.
    ///
    /// # Safety
    /// x and w are valid for reads as described.
    pub(in crate::kernel) unsafe fn dot_bytes<'a>(
        &self,
        block: Block,
        sums: &'a mut MaybeUninit<Sums<i32>>,
    ) -> &'a Sums<i32> {
        // SAFETY: `self` exists, so the instructions do, and tiles have their shape. The caller guarantees what is
        // read; only `sums` is written, all of it: 32 rows of 128 bytes.
        unsafe {
            if block.tall {
                block!(
                    [
                        "tileloadd tmm4, [{x} + {x_stride}*1]",
                        "tileloadd tmm6, [{w} + {w_stride}*1]",
                        "tdpbusd tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{w} + {w_stride}*1 + 64]",
                        "tdpbusd tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{below} + {x_stride}*1]",
                        "tdpbusd tmm2, tmm5, tmm6",
                        "tdpbusd tmm3, tmm5, tmm7",
                        "add {x}, 64", "add {below}, 64", "add {w}, 2048",
                    ],
                    block, sums, below = inout(reg) row(block.x, block.x_stride, TILE_ROWS) => _,
                );
            } else {
                block!(
                    [
                        "tileloadd tmm4, [{x} + {x_stride}*1]",
                        "tileloadd tmm6, [{w} + {w_stride}*1]",
                        "tdpbusd tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{w} + {w_stride}*1 + 64]",
                        "tdpbusd tmm1, tmm4, tmm7",
                        "add {x}, 64",
                        "add {w}, 2048",
                    ],
                    block,
                    sums,
                );
            }
            sums.assume_init_ref()
        }
    }

    /// Computes `sums[i, j] = Σ x[i, k] · w[k, j]` over all k, to about 2⁻¹⁶ of each product. Both are given as
    /// sums of two bf16, high and low, and the product of the low parts is omitted. `block.x` is the high part of
    /// x; the weights of a step are their high parts, then their low ones. If not `tall`, rows from 16 on become
    /// zero.
    ///
    /// # Safety
    /// x, `lows` (of the same shape) and w are valid for reads as described.
    pub(in crate::kernel) unsafe fn dot_split<'a>(
        &self,
        block: Block,
        lows: *const i32,
        sums: &'a mut MaybeUninit<Sums<f32>>,
    ) -> &'a Sums<f32> {
        const { assert!(STEP_WEIGHTS == 2048, "the number in the instructions below") };
        // SAFETY: as in `dot_bytes`.
        unsafe {
            if block.tall {
                block!(
                    [
                        // High · low: small products before great ones.
                        "tileloadd tmm4, [{x} + {x_stride}*1]",
                        "tileloadd tmm6, [{w} + {w_stride}*1 + 2048]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{w} + {w_stride}*1 + 2112]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{below} + {x_stride}*1]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        // High · high.
                        "tileloadd tmm6, [{w} + {w_stride}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{w} + {w_stride}*1 + 64]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        // Low · high.
                        "tileloadd tmm4, [{low} + {x_stride}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{low_below} + {x_stride}*1]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        "add {x}, 64", "add {below}, 64", "add {low}, 64", "add {low_below}, 64", "add {w}, 4096",
                    ],
                    block, sums,
                    below = inout(reg) row(block.x, block.x_stride, TILE_ROWS) => _,
                    low = inout(reg) lows => _,
                    low_below = inout(reg) row(lows, block.x_stride, TILE_ROWS) => _,
                );
            } else {
                block!(
                    [
                        "tileloadd tmm4, [{x} + {x_stride}*1]",
                        "tileloadd tmm6, [{w} + {w_stride}*1 + 2048]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{w} + {w_stride}*1 + 2112]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm6, [{w} + {w_stride}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{w} + {w_stride}*1 + 64]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{low} + {x_stride}*1]",
                        "tdpbf16ps tmm0, tmm5, tmm6",
                        "tdpbf16ps tmm1, tmm5, tmm7",
                        "add {x}, 64", "add {low}, 64", "add {w}, 4096",
                    ],
                    block, sums,
                    low = inout(reg) lows => _,
                );
            }
            sums.assume_init_ref()
        }
    }

    /// Multiplies four tiles of bytes `times` times, for a measurement. Returns the number of operations.
    pub(in crate::kernel) fn multiply_bytes(&self, times: usize) -> usize {
        // SAFETY: `self` exists, so the instructions do, and tiles have their shape. No memory is touched.
        unsafe { multiply!("tdpbusd", times) };
        times * 4 * TILE_ROWS * TILE_ROWS * STEP_BYTES * 2
    }

    /// Does the same with tiles of bf16.
    pub(in crate::kernel) fn multiply_bf16(&self, times: usize) -> usize {
        // SAFETY: as above.
        unsafe { multiply!("tdpbf16ps", times) };
        times * 4 * TILE_ROWS * TILE_ROWS * (STEP_BYTES / 2) * 2
    }
}
