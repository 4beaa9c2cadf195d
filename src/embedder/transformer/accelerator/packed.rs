//! Attention over packed rows, by a function that is told where each sequence begins. No place is padded, and no score
//! leaves the function.

use candle_core::{Result, Tensor};
use candle_nn::rotary_emb::rope_thd;

use super::super::backend::{Heads, Queries, SelfAttention, Sequences};
use super::packing::{Operands, PackedAttention, Packing};
use super::{Accelerator, Norm, Rope, normalised};

impl PackedAttention {
    /// Returns whether a step's sequences can stay packed. No such function adds numbers to the scores.
    pub(super) fn takes(self, step: &SelfAttention<'_, Accelerator>) -> bool {
        step.bias.is_none() && (self.has)(step.heads.dim)
    }
}

impl Packing {
    /// Returns the rotation of each token.
    fn rotation(&mut self, rope: &Rope) -> Result<[Tensor; 2]> {
        if let Some((_, rotation)) = self.rotations.iter().find(|(id, _)| *id == rope.cos.id()) {
            return Ok(rotation.clone());
        }
        let rotation = [rope.cos.index_select(&self.positions, 0)?, rope.sin.index_select(&self.positions, 0)?];
        self.rotations.push((rope.cos.id(), rotation.clone()));
        Ok(rotation)
    }
}

impl Accelerator {
    /// Computes attention from packed queries, keys and values. [tokens, columns]
    pub(super) fn attend_packed(
        &mut self,
        step: SelfAttention<'_, Self>,
        qkv: &Tensor,
        attention: PackedAttention,
    ) -> Result<Tensor> {
        let SelfAttention { heads, sequences, queries, span, norms, rope, .. } = step;
        let Heads { groups, queries: of_group, dim, divisor } = heads;
        let mut packing = self.packing.take().map_or_else(|| self.pack_block(sequences), Ok)?;
        if packing.cu_seqlens != sequences.cu_seqlens {
            packing = self.pack_block(sequences)?;
        }
        let rotation = rope.map(|rope| packing.rotation(rope)).transpose()?;
        let tokens = qkv.dim(0)?;
        let qkv = qkv.reshape((tokens, groups, of_group + 2, dim))?;
        let prepare = |first, parts, norm| prepared(qkv.narrow(2, first, parts)?, norm, rotation.as_ref());
        let (q, k) = match norms {
            Some([of_query, of_key]) => (prepare(0, of_group, Some(of_query))?, prepare(of_group, 1, Some(of_key))?),
            None => {
                let both = prepare(0, of_group + 1, None)?;
                (both.narrow(2, 0, of_group)?, both.narrow(2, of_group, 1)?)
            }
        };
        let (q, k, v) = (side_by_side(&q)?, side_by_side(&k)?, side_by_side(&qkv.narrow(2, of_group + 1, 1)?)?);
        let Packing { starts, longest, .. } = &packing;
        let (longest, scale) = (*longest, 1.0 / divisor);
        let mixed = (attention.attend)(&Operands { q: &q, k: &k, v: &v, cu_seqlens: starts, longest, scale, span })?;
        self.packing = Some(packing);
        let mixed = mixed.reshape((tokens, heads.count() * dim))?;
        match queries {
            Queries::All => Ok(mixed),
            Queries::First | Queries::Last => {
                let rows = sequences.ends(queries).map(|row| row as u32).collect();
                mixed.index_select(&self.indices(rows)?, 0)
            }
        }
    }

    fn pack_block(&self, sequences: &Sequences) -> Result<Packing> {
        let cu_seqlens = sequences.cu_seqlens.clone();
        let positions = sequences.rows().flat_map(|rows| 0..rows.len() as u32).collect();
        Ok(Packing {
            starts: self.indices(cu_seqlens.iter().map(|&start| start as u32).collect())?,
            positions: self.indices(positions)?,
            longest: sequences.rows().map(|rows| rows.len()).max().unwrap_or(0),
            rotations: Vec::new(),
            cu_seqlens,
        })
    }
}

/// Normalises and rotates queries or keys. [tokens, groups, parts, dim]
fn prepared(x: Tensor, norm: Option<&Norm>, rotation: Option<&[Tensor; 2]>) -> Result<Tensor> {
    let x = norm.map_or_else(|| Ok(x.clone()), |norm| normalised(&x, norm))?;
    let Some([cos, sin]) = rotation else { return Ok(x) };
    let (tokens, groups, parts, dim) = x.dims4()?;
    let rows = x.contiguous()?.reshape((1, tokens, groups * parts, dim))?;
    rope_thd(&rows, cos, sin)?.reshape((tokens, groups, parts, dim))
}

/// Returns the heads of all groups side by side, [tokens, groups · parts, dim], without a copy if a group has one.
fn side_by_side(x: &Tensor) -> Result<Tensor> {
    match x.dims4()? {
        (_, _, 1, _) => x.squeeze(2),
        (tokens, groups, parts, dim) => x.reshape((tokens, groups * parts, dim)),
    }
}
