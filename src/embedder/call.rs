//! The way of one call: its texts to tokens, tokens into the queue, and vectors back.

use std::sync::Arc;

use super::Shared;
use super::flight::Flight;
use super::lanes::Lane;
use super::room::{Overloaded, WhenFull};
use super::text::{EncodeFailed, InputType, Pooled, TextError, Truncation};
use super::tokenizer::Tokens;

impl Shared {
    pub(super) async fn embed(
        &self,
        texts: Vec<String>,
        input_type: InputType,
        truncation: Truncation,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Pooled, TextError>>, Overloaded> {
        let tokenised = self.tokenise(texts, input_type).await;
        let checked: Vec<Result<Tokens, TextError>> =
            tokenised.into_iter().map(|tokens| self.accept(tokens?, truncation)).collect();
        let cost: usize = checked.iter().flatten().map(|tokens| tokens.ids.len()).sum();
        let flights = self.board(checked, cost, when_full).await?;
        // A call of more than one batch would hold up every small one behind it.
        let small = when_full == WhenFull::Refuse && cost <= self.batch_tokens;
        let lane = if small { Lane::Interactive } else { Lane::Bulk };
        self.scheduler.push(lane, flights.iter().flatten());
        let mut results = Vec::with_capacity(flights.len());
        for flight in flights {
            results.push(match flight {
                Ok(flight) => flight.landed().await.map(Arc::unwrap_or_clone).map_err(TextError::from),
                Err(error) => Err(error),
            });
        }
        Ok(results)
    }

    /// Takes room for what is to be computed, and makes flights of it.
    async fn board(
        &self,
        texts: Vec<Result<Tokens, TextError>>,
        cost: usize,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Arc<Flight>, TextError>>, Overloaded> {
        if cost == 0 {
            return Ok(texts
                .into_iter()
                .map(|failed| Err(failed.expect_err("every text that tokenises costs a token")))
                .collect());
        }
        let mut room = self.room.enter(cost, when_full).await?;
        // The last text first: a call that is larger than all the room there is holds it to its end.
        let mut flights: Vec<_> = texts
            .into_iter()
            .rev()
            .map(|tokens| tokens.map(|tokens| Arc::new(Flight::board(tokens, &mut room))))
            .collect();
        flights.reverse();
        Ok(flights)
    }

    fn accept(&self, tokens: Tokens, truncation: Truncation) -> Result<Tokens, TextError> {
        if truncation == Truncation::Reject && tokens.truncated() {
            return Err(TextError::TooLong { tokens_total: tokens.total, max_tokens: self.max_tokens });
        }
        Ok(tokens)
    }

    async fn tokenise(&self, texts: Vec<String>, input_type: InputType) -> Vec<Result<Tokens, TextError>> {
        let count = texts.len();
        let prompt = match input_type {
            InputType::Plain => &self.prompts.default,
            InputType::Query => &self.prompts.query,
            InputType::Document => &self.prompts.document,
        };
        let prompt = prompt.clone();
        let tokenizer = Arc::clone(&self.tokenizer);
        let _turn = self.tokenising.acquire().await.expect("the semaphore is never closed");
        let tokenise = move || -> Vec<Result<Tokens, TextError>> {
            texts
                .into_iter()
                .map(|text| match &prompt {
                    Some(prompt) => Ok(tokenizer.tokens(&format!("{prompt}{text}"))?),
                    None => Ok(tokenizer.tokens(&text)?),
                })
                .collect()
        };
        tokio::task::spawn_blocking(tokenise).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the tokenizer panicked");
            (0..count).map(|_| Err(EncodeFailed.into())).collect()
        })
    }
}
