//! Token ids to pooled vectors, on the device that was chosen: packed sequences through our own
//! kernels on a CPU, padded batches through candle's on an accelerator.

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};

use super::bert::{self, Bert};
use super::padded::{Padded, tensors};
use crate::kernel::cpu;
use crate::model::{self, Activation, Card, Pooling};

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
#[error("the weights cannot be used: {0}")]
pub enum LoadError {
    /// They are damaged, missing, or of other shapes than the configuration says.
    Weights(#[from] candle_core::Error),
    /// The sizes do not fit each other.
    Sizes(#[from] bert::LoadError),
}

impl Encoder {
    /// Reads the weights onto the device.
    pub fn load(card: &Card, device: &Device) -> Result<Self, LoadError> {
        let config = config(&card.bert);
        let weights = VarBuilder::from_tensors(tensors(&card.weights, device)?, DType::F32, device);
        Ok(match device {
            Device::Cpu => Self::Packed(Bert::load(weights, &config, cpu::level())?, card.pooling),
            _ => Self::Padded(Padded::new(BertModel::load(weights, &config)?, device.clone(), card.pooling)),
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

/// The card's sizes as candle wants them. What only training uses has no effect here.
fn config(bert: &model::Bert) -> Config {
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
