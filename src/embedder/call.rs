//! The way of one call: its texts to keys, unknown ones to tokens and into the queue, and vectors back.

use std::sync::Arc;

use super::Shared;
use super::flight::Flight;
use super::key::{Distinct, Key};
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
        let prompt = self.prompt(input_type);
        let Distinct { keys, texts, places } = Distinct::of(&self.keys, prompt, texts).await;
        let found = self.flights.look(&keys);

        let unknown = texts.into_iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(text, _)| text);
        let mut tokenised = self.tokenise(unknown.collect(), prompt).await.into_iter();
        let mut boarding = Vec::new();
        let mut take_in = |key| {
            let tokens = tokenised.next().unwrap_or(Err(EncodeFailed.into()))?;
            self.accept(&tokens, truncation)?;
            boarding.push((key, tokens));
            Ok(None)
        };
        let found: Vec<Result<Option<Arc<Flight>>, TextError>> = keys
            .into_iter()
            .zip(found)
            .map(|(key, found)| match found {
                Some(flight) => self.accept(&flight.tokens, truncation).map(|()| Some(flight)),
                None => take_in(key),
            })
            .collect();
        let mut boarded = self.board(boarding, when_full).await?.into_iter();
        let flights: Vec<Result<Arc<Flight>, TextError>> = found
            .into_iter()
            .map(|found| Ok(found?.unwrap_or_else(|| boarded.next().expect("all that are not found have boarded"))))
            .collect();

        self.scheduler.push(self.lane(&flights, when_full), flights.iter().flatten());
        let mut landed = Vec::with_capacity(flights.len());
        for flight in flights {
            landed.push(match flight {
                Ok(flight) => flight.landed().await.map_err(TextError::from),
                Err(error) => Err(error),
            });
        }
        Ok(places.into_iter().map(|place| landed[place].clone().map(Arc::unwrap_or_clone)).collect())
    }

    fn prompt(&self, input_type: InputType) -> &str {
        let prompt = match input_type {
            InputType::Plain => &self.prompts.default,
            InputType::Query => &self.prompts.query,
            InputType::Document => &self.prompts.document,
        };
        prompt.as_deref().unwrap_or_default()
    }

    fn accept(&self, tokens: &Tokens, truncation: Truncation) -> Result<(), TextError> {
        if truncation == Truncation::Reject && tokens.truncated() {
            return Err(TextError::TooLong { tokens_total: tokens.total, max_tokens: self.max_tokens });
        }
        Ok(())
    }

    async fn tokenise(&self, texts: Vec<String>, prompt: &str) -> Vec<Result<Tokens, TextError>> {
        let count = texts.len();
        if count == 0 {
            return Vec::new();
        }
        let (tokenizer, prompt) = (Arc::clone(&self.tokenizer), prompt.to_owned());
        let _turn = self.tokenising.acquire().await.expect("the semaphore is never closed");
        let tokenise = move || -> Vec<Result<Tokens, TextError>> {
            texts
                .into_iter()
                .map(|text| match prompt.as_str() {
                    "" => Ok(tokenizer.tokens(&text)?),
                    prompt => Ok(tokenizer.tokens(&format!("{prompt}{text}"))?),
                })
                .collect()
        };
        tokio::task::spawn_blocking(tokenise).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the tokenizer panicked");
            (0..count).map(|_| Err(EncodeFailed.into())).collect()
        })
    }

    /// Takes room for the texts, and makes flights of them or joins the flights there are by now.
    async fn board(&self, texts: Vec<(Key, Tokens)>, when_full: WhenFull) -> Result<Vec<Arc<Flight>>, Overloaded> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let cost = texts.iter().map(|(_, tokens)| tokens.ids.len()).sum();
        let room = self.room.enter(cost, when_full).await?;
        Ok(self.flights.board(texts, room))
    }

    /// A call of more than one batch would hold up every small one behind it. What it joined counts
    /// too: those texts go into its lane.
    fn lane(&self, flights: &[Result<Arc<Flight>, TextError>], when_full: WhenFull) -> Lane {
        let waiting = flights.iter().flatten().filter(|flight| !flight.is_taken());
        let tokens: usize = waiting.map(|flight| flight.tokens.ids.len()).sum();
        let small = when_full == WhenFull::Refuse && tokens <= self.batch_tokens;
        if small { Lane::Interactive } else { Lane::Bulk }
    }
}
