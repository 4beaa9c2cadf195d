//! 16-bit floats of IEEE 754 (binary16), as their bits.

/// Rounds to the nearest value, to the even one between two. From 65,520 on it is infinity.
pub fn from_f32(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let bits = value.to_bits() & 0x7fff_ffff;
    let half = match bits {
        0x7f80_0001.. => 0x7e00 | (bits >> 13) as u16 & 0x3ff,
        0x477f_f000.. => 0x7c00,
        // From 2^-14 on: another bias of the exponent, and 13 bits less.
        0x3880_0000.. => ((bits - (112 << 23) + 0xfff + (bits >> 13 & 1)) >> 13) as u16,
        // Below, a value is a multiple of 2^-24, as all floats from 0.5 to 1 are: the sum rounds.
        _ => ((f32::from_bits(bits) + 0.5).to_bits() - 0.5f32.to_bits()) as u16,
    };
    sign | half
}

/// Returns the same value.
pub fn to_f32(half: u16) -> f32 {
    let (exponent, mantissa) = (u32::from(half >> 10 & 0x1f), u32::from(half & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa as f32 / (1 << 24) as f32,
        31 => f32::from_bits(0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits((exponent + 112) << 23 | mantissa << 13),
    };
    if half >> 15 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_half_is_read_and_written() {
        for bits in 0..=u16::MAX {
            let (read, expected) = (to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(read.to_bits() == expected.to_bits() || read.is_nan() && expected.is_nan(), "{bits:#x}");
            assert!(from_f32(read) == bits || read.is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn every_float_is_rounded_to_the_nearest_half() {
        // Beside each half, halfway to the next, and beside that; then a step through all floats.
        let near = (0..0x7c00u16).flat_map(|bits| {
            let (low, high) = (to_f32(bits), if bits == 0x7bff { 65_536.0 } else { to_f32(bits + 1) });
            let middle = (low + high) / 2.0;
            [low, middle, high].into_iter().flat_map(|value| [value.next_down(), value, value.next_up()])
        });
        for value in near.chain((0..=u32::MAX).step_by(4099).map(f32::from_bits)) {
            for value in [value, -value] {
                let (written, expected) = (from_f32(value), f16::from_f32(value));
                assert!(written == expected.to_bits() || value.is_nan() && to_f32(written).is_nan(), "{value:e}");
            }
        }
    }
}
