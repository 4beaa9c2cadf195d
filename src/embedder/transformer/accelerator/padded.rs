//! Attention by candle's operations, on sequences that are padded to the longest.
//!
//! It takes [`MOST_QUERIES`] queries of each sequence at a time, so that scores grow with the length of a text and not
//! with its square.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::rope;

use super::super::backend::{Heads, Queries, SelfAttention, Span};
use super::{Accelerator, Bias, Norm, Rope, normalised};

/// Queries of a sequence whose scores are computed together.
const MOST_QUERIES: usize = 1024;

impl Accelerator {
    /// Computes attention from packed queries, keys and values. [tokens, columns]
    pub(super) fn attend_padded(&mut self, step: SelfAttention<'_, Self>, qkv: Tensor) -> Result<Tensor> {
        let SelfAttention { heads, sequences, queries, span, bias, norms, rope, .. } = step;
        let padding = self.padding(sequences)?;
        self.padding = Some(Arc::clone(&padding));
        let qkv = padding.spread(qkv)?;
        let Heads { groups, queries: of_group, dim, divisor } = heads;
        let (count, longest) = (padding.count, padding.longest);
        let rows = qkv.reshape((count, longest, groups, of_group + 2, dim))?;
        // [sequences, groups, parts, longest, dim]
        let rows = rows.permute((0, 2, 3, 1, 4))?;
        let part = |i: usize, parts: usize| {
            rows.narrow(2, i, parts)?.contiguous()?.reshape((count, groups * parts, longest, dim))
        };
        let [of_query, of_key] = norms.map_or([None, None], |[of_query, of_key]| [Some(of_query), Some(of_key)]);
        let q = Self::prepare(part(0, of_group)?, of_query, rope)?;
        let k = Self::prepare(part(of_group, 1)?, of_key, rope)?.reshape((count * groups, longest, dim))?;
        let v = part(of_group + 1, 1)?.reshape((count * groups, longest, dim))?;
        let k = k.t()?.contiguous()?;
        let lengths = || sequences.rows().map(|rows| rows.len());
        // The last token of a shorter sequence is at another place than that of the longest.
        let wanted = match queries {
            Queries::First => 0..1,
            Queries::All => 0..longest,
            Queries::Last if lengths().all(|length| length == longest) => longest - 1..longest,
            Queries::Last => 0..longest,
        };
        let mut mixed = Vec::new();
        for first in wanted.clone().step_by(MOST_QUERIES) {
            let some = first..wanted.end.min(first + MOST_QUERIES);
            // Scaled here, queries have fewer numbers than scores, and f16 does not overflow in the product.
            let q = (q.narrow(2, first, some.len())?.contiguous()? * (1.0 / f64::from(divisor)))?;
            let scores = q.reshape((count * groups, of_group * some.len(), dim))?.matmul(&k)?;
            let mut scores = scores.reshape((count, groups * of_group, some.len(), longest))?;
            if let Some(bias) = bias {
                scores = scores.broadcast_add(&self.scores(bias, some.clone(), longest)?)?;
            }
            if let Some(gaps) = &padding.gaps {
                scores = scores.broadcast_add(&gaps.mask)?;
            }
            if let Some(hidden) = self.span(span, some.clone(), longest)? {
                scores = scores.broadcast_add(&hidden)?;
            }
            let shares = softmax_last_dim(&scores)?.reshape((count * groups, of_group * some.len(), longest))?;
            mixed.push(shares.matmul(&v)?.reshape((count, groups * of_group, some.len(), dim))?);
        }
        let mixed = Tensor::cat(&mixed, 2)?.transpose(1, 2)?.reshape((count * wanted.len(), heads.count() * dim))?;
        match queries {
            Queries::All => padding.pack(mixed),
            Queries::Last if wanted.len() == longest => {
                let last = lengths().enumerate().map(|(i, length)| (i * longest + length - 1) as u32).collect();
                mixed.index_select(&self.indices(last)?, 0)
            }
            Queries::First | Queries::Last => Ok(mixed),
        }
    }

    /// Returns what is added to the scores of some queries, -∞ for the keys that they do not see, or `None` if they see
    /// all of them. [queries, longest]
    fn span(&self, span: Span, queries: Range<usize>, longest: usize) -> Result<Option<Tensor>> {
        let sees = |query: usize, key: usize| {
            key + span.before.min(longest) >= query && key <= query.saturating_add(span.after)
        };
        if queries.clone().all(|query| sees(query, 0) && sees(query, longest - 1)) {
            return Ok(None);
        }
        let number = |query, key| if sees(query, key) { 0.0 } else { f32::NEG_INFINITY };
        let numbers = queries.clone().flat_map(|query| (0..longest).map(move |key| number(query, key))).collect();
        Ok(Some(self.vector(numbers)?.reshape((queries.len(), longest))?))
    }

    /// Normalises and rotates queries or keys. [sequences, heads, longest, dim]
    fn prepare(x: Tensor, norm: Option<&Norm>, rotation: Option<&Rope>) -> Result<Tensor> {
        let x = norm.map_or_else(|| x.contiguous(), |norm| normalised(&x, norm))?;
        let Some(Rope { cos, sin }) = rotation else { return Ok(x) };
        let longest = x.dim(2)?;
        rope(&x, &cos.narrow(0, 0, longest)?, &sin.narrow(0, 0, longest)?)
    }

    /// Returns the numbers of some queries of sequences of `longest` tokens. [1, heads, queries, longest]
    fn scores(&self, bias: &Bias, queries: Range<usize>, longest: usize) -> Result<Tensor> {
        let distance = |query: usize, key: usize| (bias.tokens - 1 + key - query) as u32;
        let all = queries.clone().flat_map(|query| (0..longest).map(move |key| distance(query, key))).collect();
        let heads = bias.by_distance.dim(0)?;
        bias.by_distance.index_select(&self.indices(all)?, 1)?.reshape((1, heads, queries.len(), longest))
    }
}
