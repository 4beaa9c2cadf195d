//! Compares attention with its definition in f64, for all levels and shapes.

use super::*;
use crate::kernel::gemm::epilogue::{Epilogue, InPlace};
use crate::kernel::gemm::linear::NumberFormat;
use crate::kernel::matrix::filled;
use crate::machine::cpu;

/// A bias that differs for all heads and distances.
fn number(head: usize, distance: isize) -> f32 {
    ((head * 7919) as isize + distance * 31).rem_euclid(101) as f32 / 50.0 - 1.0
}

/// [tokens, hidden] in f64, computed from the definition.
fn plain(qkv: &Matrix, rows: Range<usize>, heads: usize, dim: usize, biased: bool) -> Vec<Vec<f64>> {
    let at = |row: usize, col: usize| f64::from(qkv.row(row)[col]);
    let head_of = |i: usize, head: usize| {
        let e: Vec<f64> = rows
            .clone()
            .map(|j| {
                let score = (0..dim).map(|c| at(i, 3 * head * dim + c) * at(j, (3 * head + 1) * dim + c)).sum::<f64>();
                let bias = if biased { f64::from(number(head, j as isize - i as isize)) } else { 0.0 };
                (score / (dim as f64).sqrt() + bias).exp()
            })
            .collect();
        let sum: f64 = e.iter().sum();
        let mix = |c: usize| rows.clone().zip(&e).map(|(j, e)| e / sum * at(j, (3 * head + 2) * dim + c)).sum();
        (0..dim).map(mix).collect::<Vec<f64>>()
    };
    rows.clone().map(|i| (0..heads).flat_map(|head| head_of(i, head)).collect()).collect()
}

/// Attention of the sequences between `ends`, which need not begin with the first row.
fn attend(
    level: Level,
    qkv: &mut Matrix,
    ends: &[usize],
    heads: usize,
    first_only: bool,
    bias: Option<&Bias>,
) -> Matrix {
    let head_dim = qkv.cols() / 3 / heads;
    let mut out = Matrix::default();
    let attention = Attention { cu_seqlens: ends, heads, head_dim, first_only, bias };
    attention.apply(level, &mut Leader::default(), qkv, &mut out);
    out
}

#[test]
fn every_length_and_head_size_agrees_with_the_definition() {
    let cases = [(1, 2, 32), (2, 3, 5), (7, 1, 1), (16, 2, 32), (17, 1, 64), (33, 2, 48), (61, 3, 20), (130, 1, 33)];
    for level in cpu::Level::supported() {
        for (seed, (tokens, heads, dim)) in cases.into_iter().enumerate() {
            let mut qkv = filled(tokens + 4, 3 * heads * dim, seed as u64);
            let rows = 3..3 + tokens;
            // A bias for exactly this length, and one for a greater length.
            let biases = [0, 100].map(|more| Bias::new(heads, dim, tokens + more, number));
            for bias in [None, Some(&biases[0]), Some(&biases[1])] {
                let got = attend(level, &mut qkv, &[3, 3 + tokens], heads, false, bias);
                for (i, exact) in plain(&qkv, rows.clone(), heads, dim, bias.is_some()).iter().enumerate() {
                    for (j, exact) in exact.iter().enumerate() {
                        let error = (f64::from(got.row(3 + i)[j]) - exact).abs();
                        assert!(
                            error <= 2e-6,
                            "{level:?} {tokens} tokens, {heads} heads of {dim}, bias {}, seed {seed}: \
                             [{i}, {j}] off by {error:e}",
                            bias.is_some()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_at_any_place_and_for_any_part_of_its_queries() {
    for level in cpu::Level::supported() {
        let (tokens, heads) = (67, 2);
        let mut qkv = filled(tokens, 3 * heads * 24, 5);
        let bias = Bias::new(heads, 24, 80, number);
        for bias in [None, Some(&bias)] {
            let whole = attend(level, &mut qkv, &[0, tokens], heads, false, bias);
            let first = attend(level, &mut qkv, &[0, tokens], heads, true, bias);
            assert_eq!(first.row(0), whole.row(0), "{level:?}");
            let mut shifted = filled(tokens + 9, qkv.cols(), 6);
            (0..tokens).for_each(|i| shifted.row_mut(9 + i).copy_from_slice(qkv.row(i)));
            let moved = attend(level, &mut shifted, &[0, 9, 9, 9 + tokens], heads, false, bias);
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
            for (heads, dim) in [(4, 32), (2, 64), (3, 20), (1, 7)] {
                let hidden = heads * dim;
                let (weight, bias) = (filled(3 * hidden, hidden, 1), filled(1, 3 * hidden, 2));
                let flat: Vec<f32> = (0..3 * hidden).flat_map(|row| weight.row(row).to_vec()).collect();
                let layer = Linear::pack(level, form, &flat, bias.row(0));
                let mut leader = Leader::default();
                let mut x = LayerInput { f32: filled(40, hidden, 3), ..LayerInput::default() };
                let (rows, to) = x.target(form);
                Epilogue { before: InPlace::Nothing, x: rows, to }.apply(level, &mut leader);
                let (mut qkv, mut whole) = (Matrix::default(), Matrix::default());
                let attention =
                    Attention { cu_seqlens: &[0, 13, 40], heads, head_dim: dim, first_only: false, bias: None };
                layer.apply(&mut leader, &x, None, &mut qkv);
                attention.apply(level, &mut leader, &mut qkv, &mut whole);
                let mut fused = Matrix::default();
                attention.of(level, &mut leader, &layer, &x, &mut qkv, &mut fused);
                (0..40).for_each(|row| assert_eq!(fused.row(row), whole.row(row), "{level}, {heads} heads of {dim}"));
            }
        }
    }
}
