//! The vectors of texts that are stored: one for each text, or one for each of its passages.
//!
//! An upload and a migration make them in the same way, so a document has the same vectors after either.

use std::ops::Range;

use super::request::hold;
use super::status::Failure;
use super::{passages, vector};
use crate::budget::{ByteBudget, Held};
use crate::collection::{PassageSizes, Span, Vectors};
use crate::compute::{Terms, WhenFull};
use crate::embedder::{Embedder, InputType};
use crate::inference::{Output, TextError, Truncation};

/// The passages of a text, each with its output.
pub type Computed = Result<Vec<(Range<usize>, Output)>, TextError>;

/// Computes the passages of texts: one for each if the collection has none.
pub async fn compute(
    embedder: &Embedder,
    texts: Vec<String>,
    sizes: Option<PassageSizes>,
    terms: Terms,
) -> Result<Vec<Computed>, Failure> {
    let input_type = InputType::Document;
    let Some(sizes) = sizes else {
        let outputs = embedder.embed(texts, input_type, Truncation::End, terms).await?;
        return Ok(outputs.into_iter().map(|output| Ok(vec![(0..0, output?)])).collect());
    };
    let texts = passages::Texts { texts, input_type, sizes };
    let embedded = passages::embed(embedder, texts, terms, |_| Ok(())).await?;
    Ok(embedded.into_iter().map(|embedded| Ok(embedded?.passages)).collect())
}

/// The vectors of a text. `field` is its name in a failure.
pub fn of_text(computed: Computed, text: &str, field: impl Fn() -> String) -> Result<Vectors, Failure> {
    let mut computed = computed.map_err(|error| Failure::text(field(), &error))?;
    if computed.len() == 1
        && let Some((_, output)) = computed.pop()
    {
        return Ok(Vectors::Whole(vector::of_text(Ok(output), field)?));
    }
    let passage = |(bytes, output): (Range<usize>, Output)| {
        Ok((Span::new(&bytes).ok_or(Failure::Internal)?, vector::of_text(Ok(output), &field)?))
    };
    let passages = computed.into_iter().map(passage).collect::<Result<_, Failure>>()?;
    Vectors::of_passages(text, passages).map_err(|_| Failure::Internal)
}

/// Holds the memory that the vectors of long texts may take, beside `more` bytes.
pub async fn hold_vectors<'t>(
    messages: &ByteBudget,
    texts: impl Iterator<Item = &'t str>,
    (sizes, dimensions): (Option<PassageSizes>, usize),
    more: usize,
) -> Result<Held, Failure> {
    let passages: usize = match sizes {
        Some(sizes) => texts.map(|text| passages::expected(text.len(), sizes)).sum(),
        None => 0,
    };
    hold(messages, passages * dimensions * size_of::<f32>() + more, WhenFull::Wait).await
}
