//! Token ids to pooled vectors, on the device that was chosen: packed sequences through our own
//! kernels on a CPU, padded batches through candle's on an accelerator.

use candle_core::{DType, Device, DeviceLocation};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};

use super::bert::{self, Bert};
use super::padded::{Padded, tensors};
use crate::kernel::cpu;
use crate::model::{Activation, Architecture, Card, Family, Pooling};

/// A loaded model, shared by the workers.
pub enum Encoder {
    /// On a CPU.
    Packed(Bert, Pooling),
    /// On an accelerator.
    Padded(Padded),
}

/// A worker's own memory, reused from batch to batch.
pub type Scratch = bert::Scratch;

/// Why a batch was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The tokens are not the model's.
    #[error(transparent)]
    Input(#[from] bert::InputError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// Why a model's files do not make a model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// They are damaged, missing, or of other shapes than the configuration says.
    #[error("the weights cannot be used: {0}")]
    Weights(#[from] candle_core::Error),
    /// The sizes do not fit each other.
    #[error("the weights cannot be used: {0}")]
    Sizes(#[from] bert::LoadError),
    /// An accelerator was chosen, and the model is none of those that run there.
    #[error("{family} models run on the CPU for now: use `--device cpu`")]
    CpuOnly {
        /// What the model is.
        family: Family,
    },
}

impl Encoder {
    /// Reads the weights onto the device.
    pub fn load(card: &Card, device: &Device) -> Result<Self, LoadError> {
        let architecture = &card.architecture;
        check_family(architecture.family, device.location())?;
        let weights = VarBuilder::from_tensors(tensors(&card.weights, device)?, DType::F32, device);
        Ok(match device {
            Device::Cpu => Self::Packed(Bert::load(weights, architecture, cpu::level())?, card.pooling),
            _ => {
                let model = BertModel::load(weights, &config(architecture))?;
                Self::Padded(Padded::new(model, device.clone(), card.pooling))
            }
        })
    }

    /// Pooled vectors, `[texts][dimensions]`, not normalised. `batch`: token ids of each text, none empty.
    pub fn encode(&self, batch: &[&[u32]], scratch: &mut Scratch) -> Result<Vec<Vec<f32>>, EncodeError> {
        match self {
            Self::Packed(bert, pooling) => Ok(bert.pooled(batch, *pooling, scratch)?),
            Self::Padded(padded) => Ok(padded.encode(batch)?),
        }
    }
}

/// Padded batches go through candle's BERT, which has neither RoBERTa's positions nor the names of the others.
fn check_family(family: Family, device: DeviceLocation) -> Result<(), LoadError> {
    match (family, device) {
        (Family::Bert, _) | (_, DeviceLocation::Cpu) => Ok(()),
        _ => Err(LoadError::CpuOnly { family }),
    }
}

/// The card's sizes as candle wants them. What only training uses has no effect here.
fn config(bert: &Architecture) -> Config {
    Config {
        vocab_size: bert.vocab_size,
        hidden_size: bert.hidden_size,
        num_hidden_layers: bert.num_hidden_layers,
        num_attention_heads: bert.num_attention_heads,
        intermediate_size: bert.intermediate_size,
        hidden_act: match bert.hidden_act {
            Activation::Gelu => HiddenAct::Gelu,
            Activation::GeluTanh => HiddenAct::GeluApproximate,
            Activation::Relu => HiddenAct::Relu,
        },
        max_position_embeddings: bert.max_position_embeddings,
        type_vocab_size: bert.type_vocab_size,
        layer_norm_eps: bert.layer_norm_eps,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accelerator_takes_bert_alone_and_names_the_way_out_for_others() {
        let cuda = DeviceLocation::Cuda { gpu_id: 0 };
        assert!(check_family(Family::Bert, cuda).is_ok());
        for family in [Family::Roberta, Family::DistilBert, Family::Mpnet] {
            assert!(check_family(family, DeviceLocation::Cpu).is_ok());
            let error = check_family(family, cuda).unwrap_err().to_string();
            assert!(error.contains(&family.to_string()) && error.contains("--device cpu"), "{error}");
        }
    }
}
