//! FlashAttention-2 for sequences of different lengths (Dao, 2023), as candle has it for NVIDIA's cards.
//!
//! Its kernels are compiled for one generation of cards, and a launch that fails is not reported: the result then is
//! memory that nobody has written. So a card is tried before it is used.

use candle_core::{DType, Device, Result, Tensor};
use candle_flash_attn::flash_attn_varlen_windowed;

use super::super::backend::Span;
use super::packing::{Operands, PackedAttention};

/// The kernels for heads of up to 256 columns. A row of a head is copied 8 numbers at a time.
pub const ATTENTION: PackedAttention = PackedAttention { has: |dim| dim <= 256 && dim % 8 == 0, attend };

/// The greatest head of each kernel.
const HEADS: [usize; 8] = [32, 64, 96, 128, 160, 192, 224, 256];

/// Returns the attention of a card for numbers of this type, or `None` where it has none.
pub(super) fn on(device: &Device, float: DType) -> Option<PackedAttention> {
    if !device.is_cuda() || !matches!(float, DType::F16 | DType::BF16) {
        return None;
    }
    if HEADS.into_iter().all(|dim| runs(device, float, dim).unwrap_or(false)) {
        return Some(ATTENTION);
    }
    tracing::warn!(
        "the attention kernels of this build do not run on this card, and batches are padded; build with \
         CUDA_COMPUTE_CAP of the card"
    );
    None
}

/// Returns whether the attention of a single token is the token's value.
fn runs(device: &Device, float: DType, dim: usize) -> Result<bool> {
    let value: Vec<f32> = (0..dim).map(|column| (dim + column) as f32 / 512.0).collect();
    let value = Tensor::from_vec(value, (1, 1, dim), device)?.to_dtype(float)?;
    let (q, k, v, cu_seqlens) = (&value, &value, &value, &Tensor::new(&[0u32, 1], device)?);
    let mixed = attend(&Operands { q, k, v, cu_seqlens, longest: 1, scale: 1.0, span: Span::ALL })?;
    let numbers = |x: &Tensor| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    Ok(numbers(&mixed)? == numbers(&value)?)
}

fn attend(operands: &Operands<'_>) -> Result<Tensor> {
    let Operands { q, k, v, cu_seqlens, longest, scale, span } = *operands;
    // A limit that no sequence reaches costs a comparison of each score.
    let limit = |tokens: usize| (tokens < longest).then_some(tokens);
    let (before, after) = (limit(span.before), limit(span.after));
    flash_attn_varlen_windowed(q, k, v, cu_seqlens, cu_seqlens, longest, longest, scale, before, after)
}
