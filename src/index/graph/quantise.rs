//! Quantisation of a vector to bytes.
//!
//! ```text
//! code[i] = round(x[i] / scale)      scale = max |x| / 127      a byte holds code + 128
//! ```

use crate::kernel::dot_i8::{BLOCK, Block};

/// Added to a small number and subtracted again, it leaves the nearest whole number, ties to even: f32 has no
/// fractions there. The instruction for that is not part of x86-64, and a call for each component is slow.
const NEAREST: f32 = (3 << 22) as f32;

/// The digest of codes. May collide for a few among a million rows; compare the codes to be sure.
pub(super) fn digest(blocks: &[Block]) -> u32 {
    crc32fast::hash(bytemuck::cast_slice(blocks))
}

/// Quantises a vector into blocks, and returns its scale and the sum of its codes.
pub(super) fn quantise(vector: &[f32], blocks: &mut [Block]) -> (f32, i32) {
    let greatest = vector.iter().fold(0.0f32, |greatest, x| greatest.max(x.abs()));
    // Zeros, and values so small that their steps are not normal numbers, have code 0.
    let inverse = if greatest > 1e-30 { 127.0 / greatest } else { 0.0 };
    let mut sum = 0;
    for (chunk, block) in vector.chunks(BLOCK).zip(blocks) {
        for (x, u) in chunk.iter().zip(&mut block.0) {
            let code = ((x * inverse + NEAREST) - NEAREST) as i32;
            sum += code;
            *u = (code + 128) as u8;
        }
    }
    (if inverse == 0.0 { 0.0 } else { greatest / 127.0 }, sum)
}
