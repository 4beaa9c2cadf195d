//! The spans of texts on their way through the model: their wait, and the batches that they go in.
//!
//! A batch serves several calls, so it has a span of its own, which links to each of them. Each of these calls has a
//! span for it too, so that its trace shows the time of the model. A text that several calls share belongs to the trace
//! of the call that submitted it.
//!
//! Invariant: a text of a call that is not traced has nothing here.

use std::sync::{Mutex, PoisonError};

use tracing::{Span, info_span};

use super::lane::Lane;

/// The wait of the new texts of a call, until the last of them is taken.
pub struct Waits {
    call: Span,
    queue: Span,
}

impl Waits {
    /// Begins the wait of texts of the current call; `None` if it is not traced.
    pub fn begin(texts: usize, tokens: usize, lane: Lane) -> Option<Self> {
        let call = Span::current();
        if call.is_disabled() {
            return None;
        }
        Some(Self { call, queue: info_span!("queue", texts, tokens, lane = ?lane) })
    }
}

/// The spans that a text belongs to.
pub struct Traced {
    call: Span,
    /// The wait. It ends when nothing holds it.
    queue: Mutex<Span>,
}

impl From<&Waits> for Traced {
    fn from(waits: &Waits) -> Self {
        Self { call: waits.call.clone(), queue: Mutex::new(waits.queue.clone()) }
    }
}

impl Traced {
    /// Ends the wait of the text.
    pub fn is_taken(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Span::none();
    }
}

/// The size of a batch, for its span.
pub struct BatchSize {
    /// Its texts.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
    /// The lane that they waited in.
    pub lane: Lane,
}

/// The spans of a batch, until they are dropped.
pub struct BatchSpans {
    _of_batch: Span,
    _of_calls: Vec<Span>,
}

impl BatchSpans {
    /// Begins the spans of a batch with traced texts; `None` if no text is traced.
    pub fn of<'a>(size: BatchSize, traced: impl Iterator<Item = &'a Traced>) -> Option<Self> {
        let mut calls: Vec<&Span> = traced.map(|traced| &traced.call).collect();
        calls.sort_unstable_by_key(|call| call.id().map(|id| id.into_u64()));
        calls.dedup_by_key(|call| call.id());
        if calls.is_empty() {
            return None;
        }
        let BatchSize { texts, tokens, lane } = size;
        let of_batch = info_span!(parent: None, "model batch", texts, tokens, lane = ?lane, calls = calls.len());
        let of_call = |call: &Span| {
            of_batch.follows_from(call);
            let model = call.in_scope(|| info_span!("model"));
            model.follows_from(&of_batch);
            model
        };
        let of_calls = calls.into_iter().map(of_call).collect();
        Some(Self { _of_batch: of_batch, _of_calls: of_calls })
    }
}
