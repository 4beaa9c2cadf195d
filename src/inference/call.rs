//! The path of one call: its texts become keys, new texts become tokens and enter the queue, and vectors come back.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::Shared;
use super::batch_queue::{CallTexts, Standing};
use super::key::{Distinct, Key, Keys};
use super::lane::Lane;
use super::pace::Position;
use super::passages::{self, Cut, Sizes};
use super::single_flight::Lookup;
use super::text::{Before, ModelFailed, Output, TextError, Truncation};
use super::token_budget::Overloaded;
use super::tokenizer::{First, Token, Tokenizer, TokenizerError, Tokens};
use super::traced::Waits;
use crate::compute::stop::Stop;
use crate::compute::{Deadline, Place, Refused, Terms, WhenFull};

/// The number of texts of a call, and their bytes, up to which they are tokenised at once, on the thread of the call:
/// at most a tenth of a millisecond, which is less than it takes to wake another thread and this one again.
const AT_ONCE: (usize, usize) = (4, 256);

/// The bytes of a call up to which its texts are tokenised in the pool for texts: about 10 ms.
const SHORT_BYTES: usize = 32 * 1024;

/// The bytes of a token in a text of long words.
const LONG_TOKEN_BYTES: usize = 6;

/// The interval in which a call with a deadline checks that it can still be done in time.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The expected time that it takes to cut a byte of text into passages: it is tokenised twice.
const CUTTING_TIME_PER_BYTE: Duration = Duration::from_nanos(1_000);

/// The expected time that the tokenizer takes for a byte of text.
const TOKENISING_TIME_PER_BYTE: Duration = Duration::from_nanos(300);

/// The treatment of a call, beside its size.
#[derive(Clone, Copy)]
struct Class {
    standing: Standing,
    terms: Terms,
}

impl super::Inference {
    /// Cuts `texts`, each of which stands behind `prompt` in the model, into passages, in the pool for bulk work. Gives
    /// each text back with its passages.
    pub async fn cut(
        &self,
        texts: Vec<String>,
        prompt: &str,
        sizes: Sizes,
        when_full: WhenFull,
    ) -> Result<Vec<(String, Result<Cut, TextError>)>, Overloaded> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = texts.iter().map(String::len).sum::<usize>() / texts.len();
        let cost = CUTTING_TIME_PER_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        let (tokenizer, prompt) = (Arc::clone(&self.0.tokenizer), prompt.to_owned());
        let cut = move |text: String, stop: &Stop| {
            let cut = passages::cut(&tokenizer, &prompt, &text, sizes, stop);
            (text, cut)
        };
        let count = texts.len();
        match self.0.pools.bulk.run_each(when_full, cost, texts, cut).await {
            Err(Refused::Panicked) => Ok((0..count).map(|_| (String::new(), Err(ModelFailed.into()))).collect()),
            cut => Ok(cut?),
        }
    }
}

impl super::Inference {
    /// Tokenises the whole of each text, in the pool for bulk work, and passes its tokens to `then`, text by text;
    /// `special`: with the special tokens around it.
    pub async fn tokens<T: Send + 'static>(
        &self,
        texts: Vec<String>,
        special: bool,
        when_full: WhenFull,
        then: impl Fn(Vec<Token>) -> T + Send + Sync + 'static,
    ) -> Result<Vec<Result<T, TextError>>, Overloaded> {
        let count = texts.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = texts.iter().map(String::len).sum::<usize>() / count;
        let cost = TOKENISING_TIME_PER_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        let tokenizer = Arc::clone(&self.0.tokenizer);
        let tokens = move |text: String, _: &Stop| Ok(then(tokenizer.all(&text, special)?));
        match self.0.pools.bulk.run_each(when_full, cost, texts, tokens).await {
            Err(Refused::Panicked) => Ok((0..count).map(|_| Err(ModelFailed.into())).collect()),
            tokens => Ok(tokens?),
        }
    }
}

impl Shared {
    pub(super) async fn run(
        &self,
        texts: Vec<String>,
        before: Before<'_>,
        truncation: Truncation,
        terms: Terms,
    ) -> Result<Vec<Result<Output, TextError>>, Overloaded> {
        let Distinct { keys, texts, positions } = Distinct::of(&self.keys_behind(before, terms), texts).await;
        let found = self.single_flight.look_up(&keys);

        let unknown = texts.into_iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(text, _)| text);
        let unknown: Vec<String> = unknown.collect();
        let is_cached = found.iter().all(|found| matches!(found, Some(Lookup::Cached(_))));
        let asked = || self.token_budget.pace().estimate_tokens(self.bytes_to_read(&unknown, before));
        let standing = if is_cached { Standing::default() } else { self.scheduler.ask(self.model, terms, asked()) };
        let class = Class { standing, terms };
        let mut tokenised = self.tokenise(unknown, before, class).await?.into_iter();
        let mut new_texts = Vec::new();
        let mut check_new = |key| {
            let tokens = tokenised.next().unwrap_or(Err(ModelFailed.into()))?;
            if tokens.ids.len() <= tokens.left_out {
                return Err(TextError::NoTokens);
            }
            self.check_length(tokens.lengths(), truncation)?;
            new_texts.push((key, tokens));
            Ok(None)
        };
        let found: Vec<Result<Option<Lookup>, TextError>> = keys
            .into_iter()
            .zip(found)
            .map(|(key, found)| match found {
                Some(found) => self.check_length(found.lengths(), truncation).map(|()| Some(found)),
                None => check_new(key),
            })
            .collect();
        let mut submitted = self.submit(new_texts, class).await?.into_iter();
        let found: Vec<Result<Lookup, TextError>> = found
            .into_iter()
            .map(|found| Ok(found?.unwrap_or_else(|| submitted.next().expect("every unknown text was submitted"))))
            .collect();

        let deadline = match terms.when_full {
            WhenFull::Refuse(deadline) => deadline,
            WhenFull::Wait => Deadline::NONE,
        };
        let flights = found.iter().flatten().filter_map(Lookup::flight);
        let call = CallTexts { terms, asked: class.standing.asked, flights };
        self.scheduler.push(self.model, self.lane(&found, class), call);
        let outcomes = self.outcomes(found, deadline).await?;
        Ok(positions.into_iter().map(|at| outcomes[at].clone().map(Arc::unwrap_or_clone)).collect())
    }

    /// Returns the keys of the texts of a call.
    fn keys_behind(&self, before: Before<'_>, terms: Terms) -> Keys {
        let keys = self.keys.of(terms.caller);
        match before {
            Before::Prompt(prompt) if self.tokenizer.leaves_prompts_out() => keys.behind_left_out(prompt),
            before => keys.behind(before),
        }
    }

    /// Waits for the texts of a call. Gives the call up as soon as it is certain that its last text will be too late.
    async fn outcomes(
        &self,
        found: Vec<Result<Lookup, TextError>>,
        deadline: Deadline,
    ) -> Result<Vec<Result<Arc<Output>, TextError>>, Overloaded> {
        let mut outcomes = Vec::with_capacity(found.len());
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        let mut found = found.into_iter();
        while let Some(one) = found.next() {
            outcomes.push(match one {
                Ok(one) if deadline == Deadline::NONE => one.outcome().await.map_err(TextError::from),
                Ok(one) => loop {
                    if let Ok(outcome) = timeout_at(next_check, one.outcome()).await {
                        break outcome.map_err(TextError::from);
                    }
                    let rest = std::iter::once(&one).chain(found.as_slice().iter().flatten());
                    let flights = rest.filter_map(Lookup::flight).filter(|flight| !flight.is_complete());
                    self.token_budget.check_remaining(flights.map(|flight| flight.tokens.ids.len()).sum(), deadline)?;
                    next_check = Instant::now() + CHECK_INTERVAL;
                },
                Err(error) => Err(error),
            });
        }
        Ok(outcomes)
    }

    /// Checks the length of a text for one call. Calls that share a text may differ in their truncation.
    fn check_length(&self, (tokens, tokens_total): (usize, usize), truncation: Truncation) -> Result<(), TextError> {
        let max_tokens = self.tokenizer.max_tokens();
        let (is_too_long, max_tokens) = match truncation {
            Truncation::End => (false, max_tokens),
            Truncation::Reject => (tokens_total > tokens, max_tokens),
            Truncation::RejectAbove(limit) => (tokens_total > limit, limit),
        };
        if is_too_long { Err(TextError::TooLong { tokens_total, max_tokens }) } else { Ok(()) }
    }

    /// Tokenises texts. Many or long texts go to the pool for bulk work, where they give way to short ones. The work
    /// stops between two texts when the caller leaves.
    async fn tokenise(
        &self,
        texts: Vec<String>,
        before: Before<'_>,
        class: Class,
    ) -> Result<Vec<Result<Tokens, TextError>>, Overloaded> {
        let when_full = class.terms.when_full;
        let count = texts.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        if when_full != WhenFull::Wait
            && let Some(allowance) = self.pools.allowances.of(class.terms.caller)
        {
            allowance.check_rate()?;
        }
        let bytes = texts.iter().map(String::len).sum::<usize>() + count * before.len();
        let read = self.bytes_to_read(&texts, before);
        let lane = self.lane_of(self.token_budget.pace().estimate_tokens(read), class);
        self.token_budget.precheck(read, self.position(lane, class), when_full)?;
        let waits = when_full == WhenFull::Wait;
        let at_once = count <= AT_ONCE.0 && bytes <= AT_ONCE.1 && !waits;
        let pool = if bytes <= SHORT_BYTES && !waits { &self.pools.texts } else { &self.pools.bulk };
        let cost = TOKENISING_TIME_PER_BYTE.saturating_mul(u32::try_from(bytes / count).unwrap_or(u32::MAX));
        let (tokenizer, beginning) =
            (Arc::clone(&self.tokenizer), Beginning::of(before, self.tokenizer.leaves_prompts_out()));
        let counters = Arc::clone(&self.counters);
        let tokenise = move |text: String, _: &Stop| {
            let began = std::time::Instant::now();
            let tokens = beginning.tokens(&tokenizer, &text);
            counters.tokenised(began.elapsed());
            Ok(tokens?)
        };
        let span = tracing::info_span!("tokenise", texts = count, bytes);
        let tokenised = async move {
            if at_once {
                let work = move || texts.into_iter().map(|text| tokenise(text, &Stop::never())).collect();
                return Place::Here.run(work).await;
            }
            pool.run_each(when_full, cost, texts, tokenise).await
        };
        let tokenised = tokenised.instrument(span).await;
        let tokenised: Vec<Result<Tokens, TextError>> = match tokenised {
            Err(Refused::Panicked) => (0..count).map(|_| Err(ModelFailed.into())).collect(),
            tokenised => tokenised?,
        };
        self.token_budget.pace().record_tokens(read, tokenised.iter().flatten().map(|tokens| tokens.ids.len()).sum());
        Ok(tokenised)
    }

    /// Estimates the bytes that the model reads of the texts. The most of a text is its length in long tokens.
    fn bytes_to_read(&self, texts: &[String], before: Before<'_>) -> usize {
        let most = self.tokenizer.max_tokens() * LONG_TOKEN_BYTES;
        texts.iter().map(|text| (before.len() + text.len()).min(most)).sum()
    }

    /// Takes a permit for new texts and submits them. A text that another call has submitted meanwhile is shared.
    async fn submit(&self, texts: Vec<(Key, Tokens)>, class: Class) -> Result<Vec<Lookup>, Overloaded> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let cost = texts.iter().map(|(_, tokens)| tokens.ids.len()).sum();
        let lane = self.lane_of(cost, class);
        let waits = Waits::begin(texts.len(), cost, lane);
        // First those of the caller: a stream that waits for its own limit holds no tokens of others.
        let allowance = self.pools.allowances.of(class.terms.caller);
        let of_caller = match &allowance {
            Some(allowance) => allowance.take_tokens(cost, class.terms.when_full).await?,
            None => None,
        };
        let permit = self.token_budget.acquire(cost, self.position(lane, class), class.terms.when_full).await?;
        allowance.iter().for_each(|allowance| allowance.count_submitted(cost));
        Ok(self.single_flight.submit(texts, permit.with_caller(of_caller), waits.as_ref()))
    }

    /// Returns the lane of a call. A call of more than one batch would hold up every small call behind it. Texts that
    /// it shares with other calls count too, because they enter its lane.
    fn lane(&self, found: &[Result<Lookup, TextError>], class: Class) -> Lane {
        let flights = found.iter().flatten().filter_map(Lookup::flight);
        let waiting = flights.filter(|flight| !flight.is_taken());
        let tokens: usize = waiting.map(|flight| flight.tokens.ids.len()).sum();
        self.lane_of(tokens, class)
    }

    fn lane_of(&self, tokens: usize, class: Class) -> Lane {
        let Class { standing, terms } = class;
        if terms.when_full == WhenFull::Wait {
            Lane::Bulk
        } else {
            Lane::of(tokens, self.batch_tokens, standing.is_quiet)
        }
    }

    fn position(&self, lane: Lane, class: Class) -> Position {
        Position { lane, before: class.standing.before }
    }
}

/// The beginning of each input of a call, while its texts are tokenised.
enum Beginning {
    Prompt(String),
    /// A prompt that takes no part in the result. The thread that comes first counts its tokens.
    LeftOut(String, OnceLock<Result<usize, TokenizerError>>),
    /// The first text of pairs. The thread that comes first tokenises it for all of them.
    First(String, Box<OnceLock<Result<First, TokenizerError>>>),
}

impl Beginning {
    fn of(before: Before<'_>, leaves_prompts_out: bool) -> Self {
        match before {
            Before::Prompt(prompt) if leaves_prompts_out && !prompt.is_empty() => {
                Self::LeftOut(prompt.to_owned(), OnceLock::new())
            }
            Before::Prompt(prompt) => Self::Prompt(prompt.to_owned()),
            Before::First(first) => Self::First(first.to_owned(), Box::default()),
        }
    }

    fn tokens(&self, tokenizer: &Tokenizer, text: &str) -> Result<Tokens, TokenizerError> {
        match self {
            Self::Prompt(prompt) if prompt.is_empty() => tokenizer.tokens(text),
            Self::Prompt(prompt) => tokenizer.tokens(&format!("{prompt}{text}")),
            Self::LeftOut(prompt, tokens) => {
                let left_out = tokens.get_or_init(|| tokenizer.prompt_tokens(prompt)).clone()?;
                Ok(Tokens { left_out, ..tokenizer.tokens(&format!("{prompt}{text}"))? })
            }
            Self::First(first, tokens) => match tokens.get_or_init(|| tokenizer.first(first)) {
                Ok(first) => tokenizer.pair(first, text),
                Err(error) => Err(error.clone()),
            },
        }
    }
}
