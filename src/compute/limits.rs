//! The limits of a named caller, as the file of keys has them. `allowance` bounds calls and tokens by them, and
//! `collection` what is stored.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

/// The limits of a caller. `None`: those of the server alone apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls in progress.
    pub calls: Option<NonZeroU32>,
    /// Tokens that wait for models or are computed.
    pub queue_tokens: Option<NonZeroU32>,
    /// Tokens that are computed each second, with those of one second in advance.
    pub tokens_per_second: Option<NonZeroU32>,
    /// Documents in the collections that it created.
    pub documents: Option<NonZeroU64>,
    /// Memory of these collections, as it is counted.
    pub stored_bytes: Option<NonZeroU64>,
}

/// The name of a limit, as in the file of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::calls`].
    Calls,
    /// [`Limits::queue_tokens`].
    QueueTokens,
    /// [`Limits::tokens_per_second`].
    TokensPerSecond,
    /// [`Limits::documents`].
    Documents,
    /// [`Limits::stored_bytes`].
    StoredBytes,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 5] =
        [Self::Calls, Self::QueueTokens, Self::TokensPerSecond, Self::Documents, Self::StoredBytes];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::QueueTokens => "queue_tokens",
            Self::TokensPerSecond => "tokens_per_second",
            Self::Documents => "documents",
            Self::StoredBytes => "stored_bytes",
        }
    }

    /// The highest value that it may have.
    pub fn highest(self) -> u64 {
        match self {
            Self::Calls | Self::QueueTokens | Self::TokensPerSecond => u64::from(u32::MAX),
            // The highest number of TOML.
            Self::Documents | Self::StoredBytes => i64::MAX as u64,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Limits {
    /// The value of a limit.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        let wide = |value: Option<NonZeroU32>| value.map(NonZeroU64::from);
        let value = match limit {
            Limit::Calls => wide(self.calls),
            Limit::QueueTokens => wide(self.queue_tokens),
            Limit::TokensPerSecond => wide(self.tokens_per_second),
            Limit::Documents => self.documents,
            Limit::StoredBytes => self.stored_bytes,
        };
        value.map(NonZeroU64::get)
    }

    /// Sets a limit; `None`: the value is 0 or above [`Limit::highest`], and nothing changes.
    pub fn set(&mut self, limit: Limit, value: u64) -> Option<()> {
        let wide = NonZeroU64::new(value).filter(|_| value <= limit.highest())?;
        let narrow = NonZeroU32::try_from(wide).ok();
        match limit {
            Limit::Calls => self.calls = narrow,
            Limit::QueueTokens => self.queue_tokens = narrow,
            Limit::TokensPerSecond => self.tokens_per_second = narrow,
            Limit::Documents => self.documents = Some(wide),
            Limit::StoredBytes => self.stored_bytes = Some(wide),
        }
        Some(())
    }
}

/// The limits that there are: `calls = 4, tokens_per_second = 1000`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = Limit::ALL.into_iter().filter_map(|limit| Some(format!("{limit} = {}", self.get(limit)?)));
        f.write_str(&some.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_the_value_that_was_set_and_is_written_with_its_name() {
        for limit in Limit::ALL {
            let mut limits = Limits::default();
            assert_eq!((limits.set(limit, 0), limits.set(limit, limit.highest() + 1)), (None, None), "{limit}");
            assert_eq!(limits, Limits::default());
            assert_eq!(limits.set(limit, limit.highest()), Some(()));
            assert_eq!(limits.to_string(), format!("{limit} = {}", limit.highest()));
            let values = Limit::ALL.map(|other| limits.get(other));
            assert_eq!(values.iter().flatten().collect::<Vec<_>>(), [&limit.highest()], "no other one is set");
        }
    }
}
