//! A cross-encoder: an encoder that reads both texts of a pair, and a head that makes one number of its vectors.
//!
//! The head is a list of steps after the pooling, as the modules of a pipeline are, and its last vector has one number.
//! It is computed in f32 on the CPU, in any precision and on any device: it is a thousandth of the encoder's work, and
//! decides the score.
//!
//! Invariant: a pair's number does not depend on the other pairs of its batch, as for vectors (`transformer`).

use super::device::{DeviceChoice, DeviceError};
use super::encoder::{self, Encoder};
use super::options::Options;
use super::steps::Steps;
use super::transformer::checkpoint::Checkpoint;
use super::weights::{LoadError, Weights};
use crate::inference::{Model, Run, Sequence};
use crate::machine::leader::Leader;
use crate::model::{Architecture, Head};

/// A loaded cross-encoder, shared by the workers.
pub struct CrossEncoder {
    encoder: Encoder,
    /// The token that is not read at the end of a pair.
    padding: Option<u32>,
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
        (architecture, head): (&Architecture, &Head),
        options: &Options,
    ) -> Result<(Self, DeviceChoice), CrossEncoderError> {
        let (device, choice) = options.device.open()?;
        let weights = Weights::read(files)?;
        let network = encoder::network(&weights, architecture, &device, options.precision)?;
        let checkpoint = Checkpoint::new(weights.tensors.clone(), architecture);
        let of_head = checkpoint.head(head).map_err(|error| weights.misfit(&error))?;
        let steps = Steps::of_head(head, of_head, architecture.layer_norm_eps);
        Ok((Self { encoder: Encoder::with_head(network, head.pooling, steps), padding: head.padding }, choice))
    }
}

impl Model for CrossEncoder {
    /// Returns a function that computes one number for each pair, `[pairs][1]`.
    fn for_thread(&self, leader: Leader) -> Run {
        let mut run = self.encoder.for_thread(leader);
        match self.padding {
            None => run,
            Some(padding) => {
                Box::new(move |batch| run(&batch.iter().map(|pair| read(*pair, padding)).collect::<Vec<_>>()))
            }
        }
    }
}

/// Returns a pair without the padding tokens at its end, which a text may spell. A pair of nothing else has its first.
fn read(pair: Sequence<'_>, padding: u32) -> Sequence<'_> {
    let last = pair.ids.iter().rposition(|id| *id != padding).unwrap_or(0);
    Sequence { ids: &pair.ids[..=last], first: pair.first.min(last + 1), ..pair }
}
