//! Attention over packed rows: by a plain function, with which the CPU tests the way to it, and by that of a card.

use candle_core::Result;

use super::super::accelerator::packing::{Operands, PackedAttention};
use super::*;

/// Attention over packed rows, number by number.
pub const PLAIN: PackedAttention = PackedAttention { has: |_| true, attend };

fn attend(operands: &Operands<'_>) -> Result<Tensor> {
    let &Operands { cu_seqlens, longest, scale, span, .. } = operands;
    let numbers = |x: &Tensor| x.to_dtype(DType::F32)?.to_vec3::<f32>();
    let (q, k, v) = (numbers(operands.q)?, numbers(operands.k)?, numbers(operands.v)?);
    let shape = operands.q.dims3()?;
    let (_, heads, dim) = shape;
    let of_group = heads / operands.k.dim(1)?;
    let ends = cu_seqlens.to_vec1::<u32>()?;
    assert_eq!(ends.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max(), Some(longest));
    let mut mixed = Vec::new();
    for ends in ends.windows(2) {
        let rows = || ends[0] as usize..ends[1] as usize;
        for (query, head) in rows().flat_map(|query| (0..heads).map(move |head| (query, head))) {
            let group = head / of_group;
            let sees =
                |key: &usize| key.saturating_add(span.before) >= query && *key <= query.saturating_add(span.after);
            let score = |key: usize| {
                let products = q[query][head].iter().zip(&k[key][group]).map(|(a, b)| a * b);
                (key, products.sum::<f32>() * scale)
            };
            let scores: Vec<(usize, f32)> = rows().filter(sees).map(score).collect();
            let most = scores.iter().map(|&(_, score)| score).fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = scores.iter().map(|&(_, score)| (score - most).exp()).sum();
            let column = |column: usize| {
                let parts = scores.iter().map(|&(key, score)| (score - most).exp() * v[key][group][column]);
                parts.sum::<f32>() / total
            };
            mixed.extend((0..dim).map(column));
        }
    }
    Tensor::from_vec(mixed, shape, operands.q.device())?.to_dtype(operands.q.dtype())
}

/// A card of NVIDIA, which no machine of CI has. The greatest difference is measured against the greatest number.
#[cfg(feature = "flash-attn")]
#[test]
#[ignore = "needs a card: .ci/cuda test --features flash-attn --lib card -- --ignored --nocapture"]
fn a_card_attends_to_packed_rows_as_plain_arithmetic_does() {
    use super::super::accelerator::flash;
    let device = Device::new_cuda(0).expect("a card");
    let lengths = [1, 300, 17, 128, 2, 65];
    let tokens: usize = lengths.iter().sum();
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as u32;
        Some(*end)
    });
    let cu_seqlens = Tensor::from_iter(std::iter::once(0).chain(ends), &device).expect("indices");
    let spans = [Span::ALL, Span { before: usize::MAX, after: 0 }, Span { before: 64, after: 64 }];
    let heads = [(8, 2, 1), (32, 3, 2), (64, 4, 1), (128, 2, 4), (256, 1, 3)];
    for ((dim, groups, of_group), span) in heads.into_iter().flat_map(|heads| spans.map(|span| (heads, span))) {
        for (float, most) in [(DType::F16, 2e-3), (DType::BF16, 1.6e-2)] {
            let random = |heads, seed| {
                let mut random = fastrand::Rng::with_seed(seed);
                let numbers = (0..tokens * heads * dim).map(|_| 2.0 * random.f32() - 1.0).collect::<Vec<_>>();
                let numbers = Tensor::from_vec(numbers, (tokens, heads, dim), &device);
                numbers.and_then(|numbers| numbers.to_dtype(float)).expect("a tensor")
            };
            let (q, k, v) = (random(groups * of_group, 1), random(groups, 2), random(groups, 3));
            let scale = 1.0 / (dim as f32).sqrt();
            let (q, k, v, cu_seqlens) = (&q, &k, &v, &cu_seqlens);
            let operands = Operands { q, k, v, cu_seqlens, longest: 300, scale, span };
            let [exact, near] = [PLAIN, flash::ATTENTION].map(|attention| {
                let mixed = (attention.attend)(&operands).and_then(|mixed| mixed.to_dtype(DType::F32)?.flatten_all());
                mixed.and_then(|mixed| mixed.to_vec1::<f32>()).expect("it computes")
            });
            let size = exact.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            let worst = exact.iter().zip(&near).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
            println!("{dim} columns, {groups} x {of_group} heads, {float:?}, {span:?}: {worst:e}");
            assert!(worst <= most, "{dim} columns, {groups} x {of_group} heads, {float:?}, {span:?}: off by {worst:e}");
        }
    }
}
