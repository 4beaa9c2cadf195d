//! Passages in requests: their sizes, and long texts that become several of them.
//!
//! A text is embedded whole if it has no more tokens than a passage. The model tells that before it computes anything,
//! so a text that is not long costs what it costs without passages. The others are cut, and their passages embedded.

use std::ops::Range;

use super::limits::MAX_PASSAGES;
use super::status::Failure;
use crate::collection::PassageSizes;
use crate::compute::Terms;
use crate::embedder::{Embedder, InputType};
use crate::inference::{Cut, Output, Sizes, TextError, Truncation};
use crate::wire;

/// The least room for text in a passage, beside the special tokens and the prompt.
const LEAST_ROOM: usize = 32;

/// The share of a passage that is repeated in the next if the request does not say: an eighth found the most
/// documents first (docs/retrieval.md).
const OVERLAP_SHARE: usize = 8;

/// The most tokens of a byte of text, with a margin: a tokenizer may spell a character of 3 bytes out in 18. Shorter
/// texts than this allows are not kept to be cut.
const MOST_TOKENS_PER_BYTE: usize = 8;

/// The sizes for a model if nothing is said about them.
pub fn default_sizes(embedder: &Embedder) -> PassageSizes {
    of_tokens(embedder.max_tokens(), embedder.max_tokens() / OVERLAP_SHARE)
}

fn of_tokens(max_tokens: usize, overlap_tokens: usize) -> PassageSizes {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    PassageSizes { max_tokens: narrow(max_tokens), overlap_tokens: narrow(overlap_tokens) }
}

/// Parses `passages`, for texts of a kind; `None`: a text is one passage.
pub fn parse(
    given: &wire::Passages,
    embedder: &Embedder,
    input_type: InputType,
) -> Result<Option<PassageSizes>, Failure> {
    if given.enabled == Some(false) {
        for (field, is_set) in
            [("max_tokens", given.max_tokens > 0), ("overlap_tokens", given.overlap_tokens.is_some())]
        {
            if is_set {
                let reason = "is set, but enabled is false: leave it out, or enable passages";
                return Err(Failure::invalid(format!("passages.{field}"), reason));
            }
        }
        return Ok(None);
    }
    let (most, around) = (embedder.max_tokens(), embedder.tokens_around(input_type));
    let least = most.min(around + LEAST_ROOM);
    let max_tokens = if given.max_tokens == 0 { most } else { given.max_tokens as usize };
    if max_tokens < least || max_tokens > most {
        let reason = format!(
            "{max_tokens} is not between {least}, which leaves room beside the prompt and the special tokens, and the \
             model's {most}"
        );
        return Err(Failure::invalid("passages.max_tokens", reason));
    }
    let most_overlap = max_tokens.saturating_sub(around) / 2;
    let overlap = match given.overlap_tokens.map(|tokens| tokens as usize) {
        None => (max_tokens / OVERLAP_SHARE).min(most_overlap),
        Some(tokens) if tokens > most_overlap => {
            let reason = format!("{tokens} exceeds {most_overlap}, half of the tokens that a passage has room for");
            return Err(Failure::invalid("passages.overlap_tokens", reason));
        }
        Some(tokens) => tokens,
    };
    Ok(Some(of_tokens(max_tokens, overlap)))
}

/// The passages that a text of `bytes` may have beyond its first, if two of its bytes are a token.
pub fn expected(bytes: usize, sizes: PassageSizes) -> usize {
    let step = sizes.max_tokens.saturating_sub(sizes.overlap_tokens) as usize;
    bytes / (2 * step.max(1))
}

/// Writes the sizes of a collection.
pub fn write(sizes: Option<PassageSizes>) -> wire::Passages {
    match sizes {
        None => wire::Passages { enabled: Some(false), ..Default::default() },
        Some(PassageSizes { max_tokens, overlap_tokens }) => {
            wire::Passages { enabled: Some(true), max_tokens, overlap_tokens: Some(overlap_tokens) }
        }
    }
}

/// The passages of an embedded text.
pub struct Embedded {
    /// The bytes of each passage, in order, with the output of the model. A text that was not cut has one.
    pub passages: Vec<(Range<usize>, Output)>,
    /// The tokens of the text.
    pub tokens_total: usize,
}

/// Texts to embed in passages.
pub struct Texts {
    /// The texts.
    pub texts: Vec<String>,
    /// Their kind.
    pub input_type: InputType,
    /// The sizes of their passages.
    pub sizes: PassageSizes,
}

/// Embeds texts, in passages where they are long. `admit` gets the number of all passages before those of long texts
/// are computed.
pub async fn embed(
    embedder: &Embedder,
    Texts { texts, input_type, sizes }: Texts,
    terms: Terms,
    admit: impl FnOnce(usize) -> Result<(), Failure>,
) -> Result<Vec<Result<Embedded, TextError>>, Failure> {
    let PassageSizes { max_tokens, overlap_tokens } = sizes;
    let (max_tokens, overlap_tokens) = (max_tokens as usize, overlap_tokens as usize);
    let lengths: Vec<usize> = texts.iter().map(String::len).collect();
    let may_be_long = |text: &String| text.len() * MOST_TOKENS_PER_BYTE > max_tokens;
    let mut kept: Vec<Option<String>> = texts.iter().map(|text| may_be_long(text).then(|| text.clone())).collect();
    let whole = embedder.embed(texts, input_type, Truncation::RejectAbove(max_tokens), terms).await?;
    let is_long = |result: &Result<Output, TextError>| matches!(result, Err(TextError::TooLong { .. }));
    let long = whole.iter().zip(&mut kept).filter(|(result, _)| is_long(result)).filter_map(|(_, text)| text.take());
    let long: Vec<String> = long.collect();
    drop(kept);
    let sizes = Sizes { max_tokens, overlap_tokens, max_passages: MAX_PASSAGES };
    let cut = embedder.cut(long, input_type, sizes, terms.when_full).await?;
    let of_cuts: usize = cut.iter().flat_map(|(_, cut)| cut).map(|cut| cut.passages.len()).sum();
    admit(whole.iter().filter(|result| result.is_ok()).count() + of_cuts)?;
    let parts = |(text, cut): &(String, Result<Cut, TextError>)| {
        let cut = cut.iter().flat_map(|cut| &cut.passages);
        cut.map(|passage| text[passage.clone()].to_owned()).collect::<Vec<String>>()
    };
    let parts: Vec<String> = cut.iter().flat_map(parts).collect();
    let mut outputs = embedder.embed(parts, input_type, Truncation::End, terms).await?.into_iter();
    let mut cut = cut.into_iter().map(|(_, cut)| cut);
    let mut of_cut = || {
        let Cut { passages, tokens_total } = cut.next().unwrap_or(Err(TextError::NoTokens))?;
        // All are taken, so that a failed one does not shift the passages of the next text.
        let outputs: Vec<_> = passages.into_iter().zip(outputs.by_ref()).collect();
        let passages = outputs.into_iter().map(|(passage, output)| Ok((passage, output?)));
        Ok(Embedded { passages: passages.collect::<Result<_, TextError>>()?, tokens_total })
    };
    let embedded = |(result, bytes): (Result<Output, TextError>, usize)| match result {
        Err(TextError::TooLong { .. }) => of_cut(),
        Err(error) => Err(error),
        Ok(output) => Ok(Embedded { tokens_total: output.tokens_total, passages: vec![(0..bytes, output)] }),
    };
    Ok(whole.into_iter().zip(lengths).map(embedded).collect())
}
