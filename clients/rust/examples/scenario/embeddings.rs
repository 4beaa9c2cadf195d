//! The steps that compute vectors and compare them.

use cognate_client::futures_util::{StreamExt, stream};
use cognate_client::wire::VectorFormat;
use cognate_client::wire::embed_result::Result as Embedded;
use cognate_client::wire::vector::{self, Values};
use cognate_client::wire::{
    EmbedRequest, EmbedResponse, InfoRequest, InputType, SimilarityRequest, Truncation, Vector,
};
use cognate_client::{Client, Refusal};

use super::{DIMENSIONS, MAX_MESSAGE_BYTES, Outcome, Scenario, check, check_field};

/// Returns the result of the only text.
fn only(answer: EmbedResponse) -> Outcome<Result<Vector, Refusal>> {
    check!(answer.results.len() == 1, "{answer:?}");
    match answer.results.into_iter().next().and_then(|result| result.result) {
        Some(Embedded::Vector(vector)) => Ok(Ok(vector)),
        Some(Embedded::Error(status)) => Ok(Err(Refusal::from(&status))),
        None => Err("neither a vector nor an error".into()),
    }
}

/// Returns the vector of a text.
async fn embed(client: &Client, text: &str, format: VectorFormat) -> Outcome<Vector> {
    let request = EmbedRequest { texts: vec![text.to_owned()], format: format.into(), ..EmbedRequest::default() };
    Ok(only(client.embed(request).await?)??)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

impl Scenario {
    pub async fn info(&self) -> Outcome {
        let info = self.client.info(InfoRequest {}).await?;
        let dimensions = info.model.as_ref().map_or(0, |model| model.dimensions as usize);
        check!(!info.version.is_empty() && dimensions == DIMENSIONS, "{info:?}");
        let limit: u64 = info.limits.unwrap_or_default().max_message_bytes;
        check!(limit == MAX_MESSAGE_BYTES as u64, "max_message_bytes is {limit}");
        Ok(())
    }

    pub async fn embed(&self) -> Outcome {
        let texts = ["a cat".to_owned(), "word ".repeat(2000), "a dog".to_owned()];
        let request =
            EmbedRequest { texts: texts.into(), truncation: Truncation::Reject.into(), ..EmbedRequest::default() };
        let results = self.client.embed(request).await?.results;
        check!(results.len() == 3, "{} results", results.len());
        for (position, result) in results.into_iter().enumerate() {
            match only(EmbedResponse { results: vec![result] })? {
                Err(refusal) if position == 1 => check_field(&refusal, "texts[1]")?,
                Ok(vector) if position != 1 => check!(vector.values.len() == DIMENSIONS, "{vector:?}"),
                other => return Err(format!("result {position}: {other:?}").into()),
            }
        }
        Ok(())
    }

    pub async fn embed_int8(&self) -> Outcome {
        let floats = self.client.embed_texts(["text 0"], InputType::Unspecified).await?.remove(0)?;
        let vector = embed(&self.client, "text 0", VectorFormat::Int8).await?;
        check!(vector.data.len() == DIMENSIONS, "{} bytes", vector.data.len());
        let Values::Int8 { bytes, scale } = vector::read(&vector)? else { return Err("another format".into()) };
        let read: Vec<f32> = bytes.into_iter().map(|byte| f32::from(byte) * scale).collect();
        check!(cosine(&read, &floats) > 0.99, "the cosine is {}", cosine(&read, &floats));
        Ok(())
    }

    pub async fn embed_stream(&self) -> Outcome {
        let request = |n| EmbedRequest {
            texts: vec![format!("text {n}")],
            dimensions: if n == 4 { DIMENSIONS as u32 + 1 } else { 0 },
            ..EmbedRequest::default()
        };
        let mut answers = self.client.embed_stream(stream::iter(0..10).map(request)).await?;
        let first = embed(&self.client, "text 0", VectorFormat::F32).await?.values;
        for n in 0..10 {
            let answer = answers.next().await.ok_or("the stream ended early")??;
            match only(answer)? {
                Err(refusal) if n == 4 => check_field(&refusal, "dimensions")?,
                Ok(vector) if n != 4 => {
                    let is_first = cosine(&vector.values, &first) > 0.9999;
                    check!(vector.values.len() == DIMENSIONS && is_first == (n == 0), "answer {n}: {vector:?}");
                }
                other => return Err(format!("answer {n}: {other:?}").into()),
            }
        }
        check!(answers.next().await.is_none(), "an answer without a request");
        Ok(())
    }

    pub async fn similarity(&self) -> Outcome {
        let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        let (a, b) = (texts(["a cat", "a train"]), texts(["a kitten", "a railway"]));
        let rows = self.client.similarity(SimilarityRequest { a, b, ..SimilarityRequest::default() }).await?.rows;
        check!(rows.len() == 2, "{rows:?}");
        check!(rows[0].scores[0] > rows[0].scores[1] && rows[1].scores[1] > rows[1].scores[0], "{rows:?}");
        Ok(())
    }
}
