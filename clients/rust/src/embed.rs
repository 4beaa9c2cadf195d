//! Vectors of texts, for programs that want nothing else of the answer.

use tonic::Code;
use tonic_types::ErrorDetails;

use super::{Client, Error, Refusal};
use crate::wire::embed_result::Result as Embedded;
use crate::wire::{EmbedRequest, EmbedResult, InputType};

impl Client {
    /// Embeds texts, and returns for each its vector, of length 1, or the reason why it has none.
    pub async fn embed_texts<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        input_type: InputType,
    ) -> Result<Vec<Result<Vec<f32>, Refusal>>, Error> {
        let texts = texts.into_iter().map(Into::into).collect();
        let request = EmbedRequest { texts, input_type: input_type.into(), ..EmbedRequest::default() };
        Ok(self.embed(request).await?.results.into_iter().map(vector).collect())
    }
}

fn vector(result: EmbedResult) -> Result<Vec<f32>, Refusal> {
    match result.result {
        Some(Embedded::Vector(vector)) => Ok(vector.values),
        Some(Embedded::Error(status)) => Err(Refusal::from(&status)),
        None => {
            let message = "the answer has neither a vector nor an error".to_owned();
            Err(Refusal { code: Code::Internal, message, details: Box::new(ErrorDetails::new()) })
        }
    }
}
