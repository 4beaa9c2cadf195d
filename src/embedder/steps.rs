//! The steps after the pooling, from the vector of a text to another one.
//!
//! They are computed in f32 in any precision of the model: they are a thousandth of its work, and decide each number of
//! the result. On a CPU a vector goes through all steps alone, so it has the same bits in any batch. On an accelerator
//! candle multiplies a batch at once.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::transformer::checkpoint::{HeadWeights, Weight};
use super::weights::{LoadError, Weights};
use crate::kernel::dot::{dot, norm};
use crate::model::{self, Function, Head};

/// The number that the module of sentence-transformers adds to the variance.
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// The length below which torch's normalisation does not divide.
const LEAST_LENGTH: f64 = 1e-12;

/// The steps of a model, shared by the workers. A clone is cheap.
#[derive(Clone, Default)]
pub struct Steps(Arc<Vec<Step>>);

enum Step {
    Dense(Dense),
    LayerNorm { gain: Vec<f32>, shift: Vec<f32>, epsilon: f64 },
    Normalize,
    Truncate(usize),
}

/// A linear layer with a function.
struct Dense {
    /// [outputs, inputs]
    weight: Vec<f32>,
    /// `[outputs]`
    bias: Vec<f32>,
    function: Function,
    residual: Residual,
    /// The same weights on an accelerator.
    device: Option<DenseOnDevice>,
}

enum Residual {
    None,
    /// x
    Input,
    /// R x; R: [outputs, inputs]
    Projected(Vec<f32>),
}

/// The weights in the form that candle multiplies.
struct DenseOnDevice {
    device: Device,
    /// [inputs, outputs]
    weight: Tensor,
    /// [inputs, outputs], for a residual of another length.
    residual: Option<Tensor>,
}

impl Steps {
    /// Reads the weights of the steps, for the device of the model.
    pub fn load(steps: &[model::Step], device: &Device) -> std::result::Result<Self, LoadError> {
        let load = |step: &model::Step| -> std::result::Result<Step, LoadError> {
            Ok(match step {
                model::Step::Dense(dense) => {
                    read(&dense.weights, |vb| Dense::load(dense, vb, device)).map(Step::Dense)?
                }
                model::Step::LayerNorm { weights, dimensions } => read(weights, |vb| {
                    let vector = |name| vb.get(*dimensions, name)?.to_vec1();
                    let (gain, shift) = (vector("norm.weight")?, vector("norm.bias")?);
                    Ok(Step::LayerNorm { gain, shift, epsilon: LAYER_NORM_EPSILON })
                })?,
                model::Step::Normalize => Step::Normalize,
                model::Step::Truncate(length) => Step::Truncate(*length),
            })
        };
        Ok(Self(Arc::new(steps.iter().map(load).collect::<std::result::Result<_, _>>()?)))
    }

    /// Takes the head of a reranker, whose last vector has one number. `epsilon` is that of its normalisation.
    pub fn of_head(head: &Head, HeadWeights { dense, norm, output }: HeadWeights, epsilon: f64) -> Self {
        let function = head.dense.map_or(Function::Identity, |layer| layer.function);
        let layer = |Weight { weight, bias }, function| {
            Step::Dense(Dense { weight, bias, function, residual: Residual::None, device: None })
        };
        let dense = dense.map(|weights| layer(weights, function));
        let norm = norm.map(|[gain, shift]| Step::LayerNorm { gain, shift, epsilon });
        Self(Arc::new(dense.into_iter().chain(norm).chain([layer(output, Function::Identity)]).collect()))
    }

    /// Returns whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the vectors of a batch through all steps.
    pub fn apply(&self, vectors: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>> {
        self.0.iter().try_fold(vectors, |vectors, step| match step {
            Step::Dense(Dense { device: Some(device), function, residual, bias, .. }) => {
                device.apply(&vectors, bias, *function, residual)
            }
            Step::Dense(dense) => Ok(vectors.iter().map(|x| dense.of(x)).collect()),
            Step::LayerNorm { gain, shift, epsilon } => {
                Ok(vectors.iter().map(|x| layer_norm(x, gain, shift, *epsilon)).collect())
            }
            Step::Normalize => Ok(vectors.into_iter().map(normalize).collect()),
            Step::Truncate(length) => Ok(vectors
                .into_iter()
                .map(|mut vector| {
                    vector.truncate(*length);
                    vector
                })
                .collect()),
        })
    }
}

/// Reads the weights in a file.
fn read<T>(path: &PathBuf, of: impl FnOnce(&VarBuilder<'_>) -> Result<T>) -> std::result::Result<T, LoadError> {
    let weights = Weights::read(std::slice::from_ref(path))?;
    of(&weights.tensors).map_err(|error| weights.misfit(&error))
}

impl Dense {
    fn load(dense: &model::Dense, vb: &VarBuilder<'_>, device: &Device) -> Result<Self> {
        let (inputs, outputs) = (dense.inputs, dense.outputs);
        let table = |name: &str| vb.get((outputs, inputs), name)?.flatten_all()?.to_vec1::<f32>();
        let weight = table("linear.weight")?;
        let bias = match dense.bias {
            true => vb.get(outputs, "linear.bias")?.to_vec1()?,
            false => vec![0.0; outputs],
        };
        let residual = match dense.residual {
            false => Residual::None,
            true if inputs == outputs => Residual::Input,
            true => Residual::Projected(table("residual.weight")?),
        };
        let device = match device {
            Device::Cpu => None,
            device => Some(DenseOnDevice::new(&weight, &residual, (outputs, inputs), device)?),
        };
        Ok(Self { weight, bias, function: dense.function, residual, device })
    }

    /// Computes f(W x + b), plus the residual.
    fn of(&self, x: &[f32]) -> Vec<f32> {
        let product = |weight: &[f32]| weight.chunks_exact(x.len()).map(|row| dot(row, x)).collect::<Vec<f32>>();
        let mut y = product(&self.weight);
        y.iter_mut().zip(&self.bias).for_each(|(y, bias)| *y = apply(self.function, *y + bias));
        match &self.residual {
            Residual::None => {}
            Residual::Input => add(&mut y, x),
            Residual::Projected(weight) => add(&mut y, &product(weight)),
        }
        y
    }
}

impl DenseOnDevice {
    /// Copies the weights, [outputs, inputs], to the device.
    fn new(weight: &[f32], residual: &Residual, shape: (usize, usize), device: &Device) -> Result<Self> {
        let copy =
            |values: &[f32]| Tensor::from_slice(values, shape, &Device::Cpu)?.t()?.contiguous()?.to_device(device);
        let residual = match residual {
            Residual::Projected(values) => Some(copy(values)?),
            Residual::None | Residual::Input => None,
        };
        Ok(Self { device: device.clone(), weight: copy(weight)?, residual })
    }

    /// Computes the products of a batch on the device, and the rest as on a CPU.
    fn apply(&self, x: &[Vec<f32>], bias: &[f32], function: Function, residual: &Residual) -> Result<Vec<Vec<f32>>> {
        let columns = x.first().map_or(0, Vec::len);
        let batch = Tensor::from_vec(x.concat(), (x.len(), columns), &self.device)?;
        let mut y: Vec<Vec<f32>> = batch.matmul(&self.weight)?.to_vec2()?;
        for row in &mut y {
            row.iter_mut().zip(bias).for_each(|(y, bias)| *y = apply(function, *y + bias));
        }
        match (residual, &self.residual) {
            (Residual::Input, _) => y.iter_mut().zip(x).for_each(|(y, x)| add(y, x)),
            (_, Some(weight)) => {
                let residual: Vec<Vec<f32>> = batch.matmul(weight)?.to_vec2()?;
                y.iter_mut().zip(&residual).for_each(|(y, x)| add(y, x));
            }
            _ => {}
        }
        Ok(y)
    }
}

fn add(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

/// Computes torch's function of this name.
fn apply(function: Function, x: f32) -> f32 {
    match function {
        Function::Identity => x,
        Function::Tanh => x.tanh(),
        Function::Relu => x.max(0.0),
        Function::Gelu => gelu(x),
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Silu => x / (1.0 + (-x).exp()),
    }
}

/// Computes x Φ(x), with the error function of candle.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

/// Scales a vector to length 1 as torch does. The zero vector stays as it is.
fn normalize(mut vector: Vec<f32>) -> Vec<f32> {
    let length = norm(&vector).max(LEAST_LENGTH);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    vector
}

fn layer_norm(x: &[f32], gain: &[f32], shift: &[f32], epsilon: f64) -> Vec<f32> {
    let count = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    let weights = gain.iter().zip(shift);
    x.iter().zip(weights).map(|(x, (gain, shift))| ((f64::from(*x) - mean) * scale) as f32 * gain + shift).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::matrix::filled;

    /// A dense layer with weights by a seed.
    fn dense(inputs: usize, outputs: usize, function: Function, residual: Residual) -> Dense {
        let weight = filled(1, outputs * inputs, 7).row(0).to_vec();
        Dense { weight, bias: filled(1, outputs, 8).row(0).to_vec(), function, residual, device: None }
    }

    #[test]
    fn candles_products_give_what_the_kernels_give() {
        let projected = || Residual::Projected(filled(1, 5 * 12, 9).row(0).to_vec());
        let vectors: Vec<Vec<f32>> = (0..4).map(|seed| filled(1, 12, seed).row(0).to_vec()).collect();
        for (outputs, function, residual) in [
            (5, Function::Tanh, Residual::None),
            (12, Function::Gelu, Residual::Input),
            (5, Function::Silu, projected()),
        ] {
            let layer = dense(12, outputs, function, residual);
            let on_device =
                DenseOnDevice::new(&layer.weight, &layer.residual, (outputs, 12), &Device::Cpu).expect("shapes fit");
            let together = on_device.apply(&vectors, &layer.bias, function, &layer.residual).expect("shapes fit");
            for (x, candles) in vectors.iter().zip(together) {
                let kernels = layer.of(x);
                assert_eq!(kernels.len(), outputs);
                let worst = kernels.iter().zip(&candles).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-5, "{function:?}: off by {worst:e}");
            }
        }
    }

    #[test]
    fn the_zero_vector_stays_as_it_is_and_others_get_length_1() {
        assert_eq!(normalize(vec![0.0; 3]), [0.0; 3]);
        assert_eq!(normalize(vec![3.0, -4.0]), [0.6, -0.8]);
    }
}
