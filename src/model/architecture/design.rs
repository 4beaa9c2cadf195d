//! The parts that a transformer encoder is made of, in the terms of their papers, as plain data. A family of models is
//! a table from `config.json` to this description.
//!
//! The embedder computes any combination of these parts. The reading of a configuration is left to the files beside
//! this one, the names of tensors to the embedder.

/// The parts that all layers share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Design {
    /// The way in which a token's position takes part.
    pub positions: Positions,
    /// Embeddings are multiplied by √`hidden_size` (Vaswani et al., 2017).
    pub scales_embeddings: bool,
    /// The sum of the embeddings is normalised.
    pub normalises_embeddings: bool,
    /// The normalisation.
    pub norm: Norm,
    /// The places of the normalisations in a layer.
    pub norm_place: NormPlace,
    /// Queries and keys are normalised head by head, before the rotation: an RMSNorm over `head_dim`, with the `norm`'s
    /// use of its gain (Henry et al., 2020).
    pub normalises_queries_and_keys: bool,
    /// The feed-forward block multiplies the activation of one product by a second product: GeGLU, SwiGLU (Shazeer,
    /// 2020).
    pub gated: bool,
    /// The terms of the linear layers and normalisations.
    pub biases: Biases,
}

/// The way in which a token's position takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A learned vector for each position is added to the embedding.
    Learned,
    /// Learned vectors as in `Learned`, and a learned number for each head and distance is added to the scores of
    /// attention (MPNet).
    LearnedAndRelative,
    /// Each layer rotates queries and keys by [`Layer::rope`].
    Rotary,
}

/// A normalisation of a vector x with a learned gain g.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// (x − mean) / √(variance + ε) · g + b (Ba, Kiros and Hinton, 2016).
    Layer,
    /// x / √(mean of squares + ε) · g (Zhang and Sennrich, 2019).
    Rms,
    /// `Rms` with a gain of 1 + g (Gemma).
    RmsPlusOne,
}

/// The places of the normalisations N in a layer with the blocks f: attention, then the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlace {
    /// x ← N(x + f(x)) (Vaswani et al., 2017).
    After,
    /// x ← x + f(N(x)), and a normalisation after the last layer (Xiong et al., 2020).
    Before,
    /// x ← x + N'(f(N(x))), and a normalisation after the last layer (Gemma 3).
    BeforeAndAfter,
}

/// The linear layers, and the normalisations, that have a term b. A checkpoint has tensors for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The layer after attention.
    pub output: bool,
    /// The first layer of the feed-forward block: both of its products, if it is gated.
    pub up: bool,
    /// The second layer of the feed-forward block.
    pub down: bool,
    /// Normalisations. An RMSNorm has none.
    pub norm: bool,
}

/// The parts in which layers of a model differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    /// The tokens that a token attends to.
    pub span: Span,
    /// The rotation of queries and keys. `Some` in each layer with [`Positions::Rotary`], `None` in each without.
    pub rope: Option<Rope>,
    /// There is a normalisation before attention, if `norm_place` has it there. ModernBERT's first layer has none.
    pub normalises_attention: bool,
}

/// The tokens that a token attends to, by their distance: itself, at most `before` tokens before it and at most `after`
/// behind it. `usize::MAX`: without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The farthest token before it.
    pub before: usize,
    /// The farthest token behind it.
    pub after: usize,
}

/// A rotation of queries and keys by the position p (RoPE; Su et al., 2021). The columns i and i + `head_dim` / 2 of a
/// head are rotated by the angle p / `factor` · θ^(−2i / `head_dim`).
///
/// NTK scaling by s is θ · s with the factor s^(2 / `head_dim`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// θ
    pub theta: f64,
    /// The divisor of positions; 1 without scaling.
    pub factor: f64,
}

impl Design {
    /// The parts of BERT (Devlin et al., 2019).
    pub const BERT: Self = Self {
        positions: Positions::Learned,
        scales_embeddings: false,
        normalises_embeddings: true,
        norm: Norm::Layer,
        norm_place: NormPlace::After,
        normalises_queries_and_keys: false,
        gated: false,
        biases: Biases { qkv: true, output: true, up: true, down: true, norm: true },
    };
}

impl Layer {
    /// A layer of BERT: attention without a limit.
    pub const BERT: Self = Self { span: Span::ALL, rope: None, normalises_attention: true };
}

impl Span {
    /// All tokens of the text.
    pub const ALL: Self = Self { before: usize::MAX, after: usize::MAX };
    /// The tokens up to the token itself: causal attention.
    pub const CAUSAL: Self = Self { before: usize::MAX, after: 0 };

    /// The tokens at most `distance` away, on both sides: a sliding window.
    pub fn window(distance: usize) -> Self {
        Self { before: distance, after: distance }
    }

    /// Returns the most tokens that a token of a text of `tokens` tokens attends to.
    pub fn tokens(self, tokens: usize) -> usize {
        self.before.saturating_add(self.after).saturating_add(1).min(tokens)
    }
}
