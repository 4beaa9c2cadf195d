//! BERT as candle-transformers defines it, over padded batches: for accelerators, where one large
//! batch is worth its padding.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor};
use candle_transformers::models::bert::BertModel;

use crate::model::Pooling;

/// A padded batch goes in, pooled vectors come out.
pub struct Padded {
    model: BertModel,
    device: Device,
    pooling: Pooling,
}

impl Padded {
    /// Wraps a model that lives on `device`.
    pub fn new(model: BertModel, device: Device, pooling: Pooling) -> Self {
        Self { model, device, pooling }
    }

    /// Pooled vectors, `[texts][dimensions]`, not normalised. `batch`: token ids of each text, none empty.
    pub fn encode(&self, batch: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = batch.iter().map(|ids| ids.len()).max().unwrap_or_default();
        let pad = |fill: fn(&u32) -> u32| -> Vec<u32> {
            batch.iter().flat_map(|ids| ids.iter().map(fill).chain(std::iter::repeat(0)).take(longest)).collect()
        };
        let shape = (batch.len(), longest);
        let ids = Tensor::from_vec(pad(|&id| id), shape, &self.device)?;
        let mask = Tensor::from_vec(pad(|_| 1), shape, &self.device)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?.to_dtype(DType::F32)?;
        let pooled = match self.pooling {
            Pooling::Cls => hidden.narrow(1, 0, 1)?.squeeze(1)?,
            // Over real tokens only: a text's vector does not depend on its neighbours' length.
            Pooling::Mean => {
                let mask = mask.to_dtype(DType::F32)?.unsqueeze(D::Minus1)?;
                hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?
            }
        };
        pooled.to_vec2()
    }
}

/// Reads safetensors files into named tensors on `device`.
pub fn tensors(files: &[std::path::PathBuf], device: &Device) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut all = HashMap::new();
    for file in files {
        all.extend(candle_core::safetensors::load(file, device)?);
    }
    Ok(all)
}
