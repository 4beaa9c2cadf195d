//! The three products under one examination, at every level: against exact arithmetic, and row by row.

use super::bf16x3::LinearBf16x3;
use super::epilogue::{Epilogue, InPlace};
use super::int8::quantised_weight;
use super::linear::{LayerInput, Linear, NumberFormat};
use super::quantise::GROUP;
use super::quantise::tests::restored;
use crate::kernel::matrix::{Matrix, filled};
use crate::machine::cpu::Level;
use crate::machine::leader::Leader;
use crate::machine::skipped::skipped;

/// (rows, outputs, inputs) that end within tiles, panels, groups and words, and at their ends.
const SHAPES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (1, 33, 7),
    (2, 384, 100),
    (3, 31, 65),
    (13, 32, 128),
    (14, 96, 96),
    (14, 96, 128),
    (15, 97, 129),
    (15, 97, 33),
    (16, 32, 128),
    (17, 97, 33),
    (29, 200, 333),
    (57, 34, 1031),
    (57, 130, 1031),
    (70, 65, 1031),
];

/// All levels of this machine, each with the formats that have a product there.
fn products() -> impl Iterator<Item = (Level, NumberFormat)> {
    let formats = [NumberFormat::F32, NumberFormat::SplitBf16, NumberFormat::Int8];
    if !Level::supported().any(LinearBf16x3::is_for) {
        skipped("this CPU has no AMX: split bf16 is not examined");
    }
    let all = Level::supported().flat_map(move |level| formats.map(|format| (level, format)));
    all.filter(|&(level, format)| format != NumberFormat::SplitBf16 || LinearBf16x3::is_for(level))
}

fn layer(level: Level, format: NumberFormat, weight: &Matrix, bias: &Matrix) -> Linear {
    let flat: Vec<f32> = (0..weight.rows()).flat_map(|row| weight.row(row).to_vec()).collect();
    Linear::pack(level, format, &flat, bias.row(0))
}

fn input(level: Level, format: NumberFormat, x: Matrix) -> LayerInput {
    let mut input = LayerInput { f32: x, ..LayerInput::default() };
    let (x, to) = input.target(format);
    Epilogue { before: InPlace::Nothing, x, to }.apply(level, &mut Leader::default());
    input
}

/// Computes panel by panel, as separate threads would.
fn apply(linear: &Linear, x: &LayerInput, residual: Option<&Matrix>) -> Matrix {
    let mut y = Matrix::default();
    y.reshape(x.f32.rows(), linear.outputs());
    for first in (0..linear.outputs()).step_by(linear.panel()) {
        linear.columns(first..linear.outputs().min(first + linear.panel()), x, residual, y.shared(), None);
    }
    y
}

/// The numbers of x that the product reads.
fn read_x(level: Level, format: NumberFormat, x: &LayerInput, row: usize) -> Vec<f64> {
    let values = x.f32.row(row);
    match format {
        NumberFormat::Int8 => (0..values.len()).map(|col| restored(level, &x.int8, row, col).1.into()).collect(),
        NumberFormat::F32 | NumberFormat::SplitBf16 => values.iter().map(|&x| x.into()).collect(),
    }
}

/// The numbers of a row of W that the product reads.
fn read_weight(format: NumberFormat, row: &[f32]) -> Vec<f64> {
    let quantised = |group: &[f32]| {
        let scale = group.iter().fold(0.0f32, |greatest, w| greatest.max(w.abs())) / 127.0;
        group.iter().map(|&w| f64::from(scale) * f64::from(quantised_weight(w, scale))).collect::<Vec<_>>()
    };
    match format {
        NumberFormat::Int8 => row.chunks(GROUP).flat_map(quantised).collect(),
        NumberFormat::F32 | NumberFormat::SplitBf16 => row.iter().copied().map(f64::from).collect(),
    }
}

/// The greatest error of `start` and these products, summed in order.
fn tolerance(format: NumberFormat, start: f64, products: &[f64]) -> f64 {
    // Each step rounds its product and its sum, by up to 2^-24 of their sizes. Independent errors add up like the root
    // of the sum of their squares; in 40,000 random sums of 1031 products none was larger than twice that.
    let squares = products.iter().scan(start, |sum, product| {
        *sum += product;
        Some(*sum * *sum + product * product)
    });
    let roundings = 4.0 * 2f64.powi(-24) * squares.sum::<f64>().sqrt() + 1e-6;
    match format {
        NumberFormat::F32 => roundings,
        // The product of the low parts and two roundings of low parts, and then the roundings of the sum.
        NumberFormat::SplitBf16 => products.iter().copied().map(f64::abs).sum::<f64>() * 2f64.powi(-16) + roundings,
        // Each group adds two roundings of numbers up to its size, and each scale one.
        NumberFormat::Int8 => 3e-7 * products.len() as f64 + 1e-6,
    }
}

#[test]
fn a_product_is_that_of_exact_arithmetic_on_the_numbers_it_reads_for_odd_shapes_at_every_level() {
    for (level, format) in products() {
        for (seed, (rows, outputs, inputs)) in SHAPES.into_iter().enumerate() {
            let seed = 100 * seed as u64;
            let (weight, bias) = (filled(outputs, inputs, seed), filled(1, outputs, seed + 1));
            let (x, residual) = (input(level, format, filled(rows, inputs, seed + 2)), filled(rows, outputs, seed + 3));
            let linear = layer(level, format, &weight, &bias);
            let (plain, sum) = (apply(&linear, &x, None), apply(&linear, &x, Some(&residual)));
            let weights: Vec<_> = (0..outputs).map(|j| read_weight(format, weight.row(j))).collect();
            for i in 0..rows {
                let x = read_x(level, format, &x, i);
                for (j, weights) in weights.iter().enumerate() {
                    let products: Vec<f64> = x.iter().zip(weights).map(|(x, w)| x * w).collect();
                    let start = f64::from(bias.row(0)[j]);
                    let (exact, tolerance) =
                        (start + products.iter().sum::<f64>(), tolerance(format, start, &products));
                    let off = |y: f32, exact: f64| (f64::from(y) - exact).abs() > tolerance;
                    let at = || format!("{level} {format:?} {rows}×{outputs}×{inputs}, seed {seed}, [{i}, {j}]");
                    assert!(!off(plain.row(i)[j], exact), "{}: {} for {exact}", at(), plain.row(i)[j]);
                    assert!(!off(sum.row(i)[j], exact + f64::from(residual.row(i)[j])), "{} residual", at());
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_any_number_of_others() {
    for (level, format) in products() {
        for inputs in [129, 259] {
            let linear = layer(level, format, &filled(70, inputs, 7), &filled(1, 70, 8));
            let x = filled(60, inputs, 9);
            let all = apply(&linear, &input(level, format, filled(60, inputs, 9)), None);
            for rows in 1..60 {
                let mut some = Matrix::default();
                some.reshape(rows, inputs);
                (0..rows).for_each(|i| some.row_mut(i).copy_from_slice(x.row(60 - rows + i)));
                let y = apply(&linear, &input(level, format, some), None);
                (0..rows)
                    .for_each(|i| assert_eq!(y.row(i), all.row(60 - rows + i), "{level} {format:?}, {i} of {rows}"));
            }
        }
    }
}

#[test]
fn weights_and_activations_at_the_edges_of_their_range_do_not_overflow() {
    const INPUTS: usize = 300;
    let mut weight = Matrix::default();
    weight.reshape(3, INPUTS);
    [1.0, -1.0, 0.0].into_iter().enumerate().for_each(|(row, w)| weight.row_mut(row).fill(w));
    let mut bias = Matrix::default();
    bias.reshape(1, 3);
    bias.row_mut(0).fill(0.0);
    for (level, format) in products() {
        let mut x = Matrix::default();
        x.reshape(1, INPUTS);
        // One value at the lower end, so that all other bytes are 255.
        x.row_mut(0).fill(1.0);
        x.row_mut(0).iter_mut().step_by(GROUP).for_each(|x| *x = 0.0);
        let y = apply(&layer(level, format, &weight, &bias), &input(level, format, x), None);
        for (got, exact) in y.row(0).iter().zip([297.0, -297.0, 0.0]) {
            assert!((got - exact).abs() < 1e-3, "{level} {format:?}: {got} for {exact}");
        }
        assert_eq!(y.cols(), 3);
    }
}
