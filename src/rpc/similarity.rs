//! `Similarity`: the cosine of each pair of texts.

use super::answer::{self, Answer};
use super::request::Received;
use super::status::Failure;
use super::{Engine, parse, size, vector};
use crate::inference::{Output, TextError};
use crate::kernel::embedding::Embedding;
use crate::wire;

pub async fn similarity(engine: &Engine, request: Received<wire::SimilarityRequest>) -> Result<Answer, Failure> {
    let terms = request.terms();
    let Received { message, held, .. } = request;
    let wire::SimilarityRequest { a, b, input_type, truncation, model } = message;
    let limits = &engine.limits;
    parse::count("a", a.len(), 1, limits.max_texts)?;
    parse::count("b", b.len(), 0, limits.max_texts)?;
    parse::texts("a", &a, limits)?;
    parse::texts("b", &b, limits)?;
    let embedder = &engine.models.get(&model)?.embedder;
    let (input_type, truncation) = (parse::input_type(input_type)?, parse::truncation(truncation)?);
    let (n_a, n_columns) = (a.len(), if b.is_empty() { a.len() } else { b.len() });
    let bytes = n_a * size::field(size::field(4 * n_columns));
    answer::check(bytes, limits)?;

    // Both lists form one batch.
    let texts = a.into_iter().chain(b).collect();
    let pooled = embedder.embed(texts, input_type, truncation, terms).await?;
    drop(held);
    Answer::build(engine, bytes, terms.when_full, move || {
        let mut rows = embeddings(pooled, n_a)?;
        let columns = rows.split_off(n_a);
        let columns = if columns.is_empty() { &rows } else { &columns };
        let row = |a: &Embedding| wire::SimilarityRow { scores: columns.iter().map(|b| a.cosine(b)).collect() };
        Ok(wire::SimilarityResponse { rows: rows.iter().map(row).collect() })
    })
    .await
}

/// The unit vectors of the texts. A failure names its text: an item of `a` or, from `n_a` on, of `b`.
fn embeddings(pooled: Vec<Result<Output, TextError>>, n_a: usize) -> Result<Vec<Embedding>, Failure> {
    let path = |n: usize| if n < n_a { format!("a[{n}]") } else { format!("b[{}]", n - n_a) };
    pooled.into_iter().enumerate().map(|(n, pooled)| vector::of_text(pooled, || path(n))).collect()
}
