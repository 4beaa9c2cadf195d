//! Compares attention with its definition in f64, for all levels and shapes.

use std::ops::Range;

use proptest::prelude::*;

use super::sequence::BLOCK_KEYS;
use super::*;
use crate::kernel::gemm::epilogue::{Epilogue, InPlace};
use crate::kernel::gemm::linear::NumberFormat;
use crate::kernel::matrix::filled;
use crate::machine::cpu;

/// A bias that differs for all heads and distances.
fn number(head: usize, distance: isize) -> f32 {
    ((head * 7919) as isize + distance * 31).rem_euclid(101) as f32 / 50.0 - 1.0
}

fn heads(groups: usize, queries: usize, dim: usize) -> Heads {
    Heads { groups, queries, dim, divisor: (dim as f32).sqrt() }
}

fn attention(cu_seqlens: &[usize], heads: Heads) -> Attention<'_> {
    let (queries, span) = (Queries::All, Span::ALL);
    Attention { cu_seqlens, heads, queries, span, bias: None, norms: None, rope: None }
}

/// The parts beside the heads, as the definition has them.
#[derive(Clone, Copy)]
struct Plain<'a> {
    span: Span,
    biased: bool,
    /// The gains of queries and keys.
    gains: Option<[&'a [f32]; 2]>,
    /// θ
    theta: Option<f64>,
}

const PLAIN: Plain<'static> = Plain { span: Span::ALL, biased: false, gains: None, theta: None };

impl Plain<'_> {
    /// A head of a row, normalised and rotated.
    fn prepared(self, x: &[f32], position: usize, of_key: bool) -> Vec<f64> {
        let mut x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        if let Some(gains) = self.gains {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let gains = gains[usize::from(of_key)].iter().map(|&gain| f64::from(gain));
            x = x.iter().zip(gains).map(|(x, gain)| x / (mean + 1e-6).sqrt() * gain).collect();
        }
        let Some(theta) = self.theta else { return x };
        let half = x.len() / 2;
        let angle = |i: usize| position as f64 * theta.powf(-2.0 * i as f64 / (2 * half) as f64);
        let first = (0..half).map(|i| x[i] * angle(i).cos() - x[i + half] * angle(i).sin());
        let second = (0..half).map(|i| x[i + half] * angle(i).cos() + x[i] * angle(i).sin());
        first.chain(second).collect()
    }

    /// [tokens, heads · dim] in f64, computed from the definition.
    fn attend(self, qkv: &Matrix, rows: Range<usize>, heads: Heads) -> Vec<Vec<f64>> {
        let Heads { groups, queries, dim, divisor } = heads;
        let part = |position: usize, group: usize, part: usize| {
            &qkv.row(rows.start + position)[(group * (queries + 2) + part) * dim..][..dim]
        };
        let mut out = vec![Vec::new(); rows.len()];
        for (group, head) in (0..groups).flat_map(|group| (0..queries).map(move |head| (group, head))) {
            let keys: Vec<_> = (0..rows.len()).map(|i| self.prepared(part(i, group, queries), i, true)).collect();
            for (i, out) in out.iter_mut().enumerate() {
                let query = self.prepared(part(i, group, head), i, false);
                let seen = i.saturating_sub(self.span.before)
                    ..rows.len().min(i.saturating_add(self.span.after).saturating_add(1));
                let score = |j: usize| {
                    let dot: f64 = query.iter().zip(&keys[j]).map(|(q, k)| q * k).sum();
                    let bias = number(group * queries + head, j as isize - i as isize);
                    (dot / f64::from(divisor) + if self.biased { f64::from(bias) } else { 0.0 }).exp()
                };
                let e: Vec<f64> = seen.clone().map(score).collect();
                let sum: f64 = e.iter().sum();
                let value = |j: usize, c: usize| f64::from(part(j, group, queries + 1)[c]);
                out.extend((0..dim).map(|c| seen.clone().zip(&e).map(|(j, e)| e / sum * value(j, c)).sum::<f64>()));
            }
        }
        out
    }
}

/// Computes the attention of `qkv`, which stays as it is.
fn attend(level: Level, attention: Attention<'_>, qkv: &Matrix) -> Matrix {
    let (mut copy, mut out) = (Matrix::default(), Matrix::default());
    copy.reshape(qkv.rows(), qkv.cols());
    (0..qkv.rows()).for_each(|row| copy.row_mut(row).copy_from_slice(qkv.row(row)));
    attention.apply(level, &mut Leader::default(), &mut copy, &mut out);
    out
}

/// Returns the greatest difference of the rows from `from` on.
fn worst(got: &Matrix, from: usize, exact: &[Vec<f64>]) -> f64 {
    let row = |(i, exact): (usize, &Vec<f64>)| {
        let errors = got.row(from + i).iter().zip(exact).map(|(&got, exact)| (f64::from(got) - exact).abs());
        errors.fold(0.0, f64::max)
    };
    exact.iter().enumerate().map(row).fold(0.0, f64::max)
}

#[test]
fn every_length_and_head_size_agrees_with_the_definition() {
    let cases = [(1, 2, 32), (2, 3, 5), (7, 1, 1), (16, 2, 32), (17, 1, 64), (33, 2, 48), (61, 3, 20), (130, 1, 33)];
    for level in cpu::Level::supported() {
        for (seed, (tokens, groups, dim)) in cases.into_iter().enumerate() {
            let qkv = filled(tokens + 4, 3 * groups * dim, seed as u64);
            let heads = heads(groups, 1, dim);
            // A bias for exactly this length, and one for a greater length.
            let biases = [0, 100].map(|more| Bias::new(heads.count(), heads.divisor, tokens + more, number));
            for bias in [None, Some(&biases[0]), Some(&biases[1])] {
                let ends = [3, 3 + tokens];
                let got = attend(level, Attention { bias, ..attention(&ends, heads) }, &qkv);
                let exact = Plain { biased: bias.is_some(), ..PLAIN }.attend(&qkv, 3..3 + tokens, heads);
                let worst = worst(&got, 3, &exact);
                let biased = bias.is_some();
                assert!(worst <= 2e-6, "{level:?} {tokens} tokens, {heads:?}, bias {biased}: off by {worst:e}");
            }
        }
    }
}

#[test]
fn texts_of_many_blocks_of_keys_agree_with_the_definition() {
    for level in cpu::Level::supported() {
        for (seed, tokens) in [BLOCK_KEYS - 1, BLOCK_KEYS, BLOCK_KEYS + 1, 2 * BLOCK_KEYS + 77].into_iter().enumerate()
        {
            let (heads, ends) = (heads(1, 1, 12), [2, 2 + tokens]);
            let mut qkv = filled(tokens + 2, 36, seed as u64);
            // The greatest score of most queries is in the last block.
            qkv.row_mut(tokens).iter_mut().for_each(|x| *x *= 9.0);
            for span in [Span::ALL, Span { before: usize::MAX, after: 0 }, Span { before: 64, after: 64 }] {
                let got = attend(level, Attention { span, ..attention(&ends, heads) }, &qkv);
                let worst = worst(&got, 2, &Plain { span, ..PLAIN }.attend(&qkv, 2..2 + tokens, heads));
                // Values are as large as 9.
                assert!(worst <= 9e-6, "{level:?} {tokens} tokens, {span:?}: off by {worst:e}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_combination_of_parts_agrees_with_the_definition_and_has_the_same_bits_for_any_queries(
        tokens in prop_oneof![1..80usize, BLOCK_KEYS - 3..BLOCK_KEYS + 70],
        groups in 1..4usize,
        queries in 1..4usize,
        half in prop_oneof![1..20usize, Just(32usize)],
        before in prop_oneof![Just(usize::MAX), 0..90usize],
        after in prop_oneof![Just(usize::MAX), Just(0usize), 0..90usize],
        theta in prop_oneof![Just(None), Just(Some(1e4)), Just(Some(160.0))],
        normalises in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (heads, span) = (heads(groups, queries, 2 * half), Span { before, after });
        let gains = [1, 2].map(|i| filled(1, 2 * half, seed ^ i).row(0).to_vec());
        let norms = gains.clone().map(|gain| RmsNorm::new(gain, 1e-6));
        let rope = theta.map(|theta: f64| {
            Rope::new(2 * half, tokens + 5, |i| theta.powf(-2.0 * i as f64 / (2 * half) as f64))
        });
        let qkv = filled(tokens + 3, groups * heads.group_columns(), seed);
        let ends = [0, 3, 3 + tokens];
        let gains = normalises.then_some([gains[0].as_slice(), gains[1].as_slice()]);
        let exact = Plain { span, biased: false, gains, theta }.attend(&qkv, 3..3 + tokens, heads);
        for level in cpu::Level::supported() {
            let norms = normalises.then_some([&norms[0], &norms[1]]);
            let all = Attention { span, norms, rope: rope.as_ref(), ..attention(&ends, heads) };
            let whole = attend(level, all, &qkv);
            let worst = worst(&whole, 3, &exact);
            prop_assert!(worst <= 4e-6, "{:?}: off by {:e}", level, worst);
            let first = attend(level, Attention { queries: Queries::First, ..all }, &qkv);
            let last = attend(level, Attention { queries: Queries::Last, ..all }, &qkv);
            prop_assert_eq!((first.row(0), first.row(1)), (whole.row(0), whole.row(3)), "{:?}", level);
            prop_assert_eq!((last.row(0), last.row(1)), (whole.row(2), whole.row(2 + tokens)), "{:?}", level);
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_at_any_place_and_for_any_part_of_its_queries() {
    for level in cpu::Level::supported() {
        let (tokens, heads) = (67, heads(2, 1, 24));
        let qkv = filled(tokens, 3 * 2 * 24, 5);
        let bias = Bias::new(heads.count(), heads.divisor, 80, number);
        for bias in [None, Some(&bias)] {
            let ends = [0, tokens];
            let all = Attention { bias, ..attention(&ends, heads) };
            let whole = attend(level, all, &qkv);
            let first = attend(level, Attention { queries: Queries::First, ..all }, &qkv);
            assert_eq!(first.row(0), whole.row(0), "{level:?}");
            let mut shifted = filled(tokens + 9, qkv.cols(), 6);
            (0..tokens).for_each(|i| shifted.row_mut(9 + i).copy_from_slice(qkv.row(i)));
            let moved = attend(level, Attention { bias, ..attention(&[0, 9, 9, 9 + tokens], heads) }, &shifted);
            for i in 0..tokens {
                assert_eq!(moved.row(9 + i), whole.row(i), "{level:?}");
            }
        }
    }
}

#[test]
fn attention_of_a_layers_columns_is_that_of_the_whole_layer_for_heads_of_any_size() {
    for level in cpu::Level::supported() {
        for form in [NumberFormat::Int8, NumberFormat::of_f32(level)] {
            for (groups, queries, dim) in [(4, 1, 32), (2, 1, 64), (3, 1, 20), (1, 1, 7), (2, 2, 32), (1, 3, 32)] {
                let heads = heads(groups, queries, dim);
                let (hidden, columns) = (heads.count() * dim, groups * heads.group_columns());
                let (weight, bias) = (filled(columns, hidden, 1), filled(1, columns, 2));
                let flat: Vec<f32> = (0..columns).flat_map(|row| weight.row(row).to_vec()).collect();
                let layer = Linear::pack(level, form, &flat, bias.row(0));
                let mut leader = Leader::default();
                let mut x = LayerInput { f32: filled(40, hidden, 3), ..LayerInput::default() };
                let (rows, to) = x.target(form);
                Epilogue { before: InPlace::Nothing, x: rows, to }.apply(level, &mut leader);
                let mut qkv = Matrix::default();
                let attention = attention(&[0, 13, 40], heads);
                layer.apply(&mut leader, &x, None, &mut qkv);
                let whole = attend(level, attention, &qkv);
                let mut fused = Matrix::default();
                attention.of(level, &mut leader, &layer, &x, &mut qkv, &mut fused);
                (0..40).for_each(|row| assert_eq!(fused.row(row), whole.row(row), "{level}, {heads:?}"));
            }
        }
    }
}
