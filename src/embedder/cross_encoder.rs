//! A cross-encoder: an encoder of BERT's family that reads both texts of a pair, and a head that makes one number of
//! the first token's vector.
//!
//! The head's two layers are computed in f32 on the CPU, in any precision and on any device: they are a thousandth of
//! the encoder's work, and decide the score.
//!
//! Invariant: a pair's number does not depend on the other pairs of its batch, as for vectors (`transformer`).

use std::sync::Arc;

use super::device::{DeviceChoice, DeviceError};
use super::encoder::{self, Encoder};
use super::options::Options;
use super::transformer::checkpoint::{Checkpoint, HeadFunction, HeadWeights};
use super::weights::{LoadError, Weights};
use crate::inference::{Model, Run};
use crate::kernel::dot::dot;
use crate::machine::team::Leader;
use crate::model::Architecture;

/// A loaded cross-encoder, shared by the workers.
pub struct CrossEncoder {
    encoder: Encoder,
    head: Arc<HeadWeights>,
}

/// The reason why a cross-encoder does not load.
#[derive(Debug, thiserror::Error)]
pub enum CrossEncoderError {
    /// The device is not available.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The weights cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl CrossEncoder {
    /// Loads the weights onto the device. Returns the device too, never `Auto`.
    pub fn load(
        files: &[std::path::PathBuf],
        architecture: &Architecture,
        options: &Options,
    ) -> Result<(Self, DeviceChoice), CrossEncoderError> {
        let (device, choice) = options.device.open()?;
        let weights = Weights::read(files)?;
        let encoder = Encoder::of_first_token(encoder::network(&weights, architecture, &device, options.precision)?);
        let head = Checkpoint::new(weights.tensors.clone(), architecture).head();
        let head = head.map_err(|error| weights.misfit(&error))?;
        Ok((Self { encoder, head: Arc::new(head) }, choice))
    }
}

impl Model for CrossEncoder {
    /// Returns a function that computes one number for each pair, `[pairs][1]`.
    fn for_thread(&self, leader: Leader) -> Run {
        let (mut encoder, head) = (self.encoder.for_thread(leader), Arc::clone(&self.head));
        Box::new(move |batch| Ok(encoder(batch)?.iter().map(|first| vec![number(&head, first)]).collect()))
    }
}

/// Computes `w · f(D x + b) + c`.
fn number(head: &HeadWeights, x: &[f32]) -> f32 {
    let HeadWeights { dense, function, output } = head;
    let rows = dense.weight.chunks_exact(x.len()).zip(&dense.bias);
    let inner = rows.map(|(row, bias)| {
        let sum = dot(row, x) + bias;
        match function {
            HeadFunction::Tanh => sum.tanh(),
            HeadFunction::Relu => sum.max(0.0),
        }
    });
    dot(&output.weight, &inner.collect::<Vec<_>>()) + output.bias[0]
}
