//! The numbers of a file as f32, whatever type they have there: those of static vectors, and of tables of words.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::model::NumberKind;

/// Calls `add` with each number, as f32, and its place in `to`.
#[inline(always)]
pub fn each(kind: NumberKind, bytes: &[u8], to: &mut [f32], add: impl Fn(&mut f32, f32)) {
    match kind {
        NumberKind::F64 => each_as(bytes, to, |x| f64::from_le_bytes(x) as f32, add),
        NumberKind::F32 => each_as(bytes, to, f32::from_le_bytes, add),
        NumberKind::F16 => each_f16(bytes, to, add),
        NumberKind::Bf16 => each_as(bytes, to, |x| f32::from_bits(u32::from(u16::from_le_bytes(x)) << 16), add),
        NumberKind::I64 => each_as(bytes, to, |x| i64::from_le_bytes(x) as f32, add),
        NumberKind::I32 => each_as(bytes, to, |x| i32::from_le_bytes(x) as f32, add),
        NumberKind::I8 => each_as(bytes, to, |x| f32::from(i8::from_le_bytes(x)), add),
    }
}

#[inline(always)]
fn each_as<const N: usize>(bytes: &[u8], to: &mut [f32], of: impl Fn([u8; N]) -> f32, add: impl Fn(&mut f32, f32)) {
    let (numbers, _) = bytes.as_chunks::<N>();
    to.iter_mut().zip(numbers).for_each(|(to, number)| add(to, of(*number)));
}

/// Does the same for f16, some numbers at a time: the conversion of a slice uses the instructions for it.
#[inline(always)]
fn each_f16(bytes: &[u8], to: &mut [f32], add: impl Fn(&mut f32, f32)) {
    const NUMBERS: usize = 64;
    let (mut numbers, mut converted) = ([f16::ZERO; NUMBERS], [0.0; NUMBERS]);
    for (bytes, to) in bytes.as_chunks().0.chunks(NUMBERS).zip(to.chunks_mut(NUMBERS)) {
        numbers.iter_mut().zip(bytes).for_each(|(number, bytes)| *number = f16::from_le_bytes(*bytes));
        let converted = &mut converted[..to.len()];
        numbers[..to.len()].convert_to_f32_slice(converted);
        to.iter_mut().zip(converted).for_each(|(to, number)| add(to, *number));
    }
}
