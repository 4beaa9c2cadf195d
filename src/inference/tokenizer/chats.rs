//! Pairs that are read as chats: one text of both texts and the fixed texts around them.
//!
//! Tokens may reach over the ends of these texts, so a pair is tokenised as a whole. If it is too long, its text is
//! cut, and the fixed text after it stays: there the model gives its answer.

use super::error::TokenizerError;

/// Texts before the fixed text at the end, whose tokens must not depend on them.
const ENDS: [&str; 4] = ["", "a", "1.", "the end \n"];

/// The fixed texts of a chat.
pub(super) struct Chat {
    before: String,
    between: String,
    after: String,
    /// The tokens of `after`.
    last: Vec<u32>,
}

impl Chat {
    /// Takes the texts before the first text of a pair, between both, and after the second. `ids` tokenises.
    pub(super) fn of(
        [before, between, after]: [String; 3],
        ids: impl Fn(&str) -> Result<Vec<u32>, TokenizerError>,
    ) -> Result<Self, TokenizerError> {
        let last = ids(&after)?;
        for end in ENDS {
            if !ids(&[&between, end, &after].concat())?.ends_with(&last) {
                return Err(TokenizerError::End { after });
            }
        }
        Ok(Self { before, between, after, last })
    }

    /// Returns the number of tokens after the second text.
    pub(super) fn added(&self) -> usize {
        self.last.len()
    }

    /// Returns the chat up to the second text.
    pub(super) fn beginning(&self, first: &str) -> String {
        [&self.before, first, &self.between].concat()
    }

    /// Returns the chat with the second text, or up to the end of a part of it.
    pub(super) fn with(&self, beginning: &str, part: &str, second: &str) -> String {
        let end = if part.len() == second.len() { &*self.after } else { "" };
        [beginning, part, end].concat()
    }

    /// Cuts the second text of a chat of too many tokens.
    pub(super) fn cut(&self, ids: &mut Vec<u32>, max_tokens: usize) {
        if ids.len() > max_tokens {
            ids.truncate(max_tokens - self.last.len());
            ids.extend_from_slice(&self.last);
        }
    }
}
