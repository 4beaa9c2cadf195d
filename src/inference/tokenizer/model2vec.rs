//! The two rules of model2vec for reading a text: a long text is cut by its characters before it is tokenised, and
//! tokens of unknown words are dropped.

use tokenizers::Tokenizer;

/// The reading of a text by model2vec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model2Vec {
    /// The token of words that the vocabulary does not have. It is dropped after truncation.
    pub(super) unknown: Option<u32>,
    /// A text is cut after this many characters, before it is tokenised.
    pub(super) most_chars: usize,
}

/// The parts of a tokenizer file that model2vec reads.
#[derive(serde::Deserialize)]
pub(super) struct Vocabulary {
    model: UnknownToken,
}

/// The unknown token: of a Unigram model its id, and of the others its text.
#[derive(serde::Deserialize)]
pub(super) struct UnknownToken {
    unk_token: Option<String>,
    unk_id: Option<u32>,
}

impl Model2Vec {
    /// Takes the unknown token of a tokenizer file, and the longest text by the lengths of its tokens.
    pub(super) fn of(tokenizer: &Tokenizer, Vocabulary { model }: Vocabulary, max_tokens: usize) -> Self {
        let UnknownToken { unk_token, unk_id } = model;
        let unknown = unk_token.map_or(unk_id, |token| tokenizer.token_to_id(&token));
        let mut lengths: Vec<usize> = tokenizer.get_vocab(true).keys().map(|token| token.chars().count()).collect();
        lengths.sort_unstable();
        // The median of an even number is the mean of the two in the middle, rounded down.
        let median = match lengths.len() {
            0 => 0,
            count => (lengths[(count - 1) / 2] + lengths[count / 2]) / 2,
        };
        Self { unknown, most_chars: max_tokens * median }
    }
}
