//! The bias of relative positions: a number per head and distance between two tokens, added to the scores.
//!
//! Along a row of scores the distance grows by one from key to key, and from one row to the next it falls by one.
//! So the numbers of a head in order of distance represent all of its rows, each beginning one f32 before the row
//! above. A tile of scores adds them like any matrix, with a stride of -1.

use crate::kernel::matrix::WIDEST_PANEL;

/// Biases by head and distance, for sequences of up to `tokens` tokens.
pub struct Bias {
    heads: usize,
    tokens: usize,
    /// f32 from one head to the next.
    stride: usize,
    /// [heads, distances from -(tokens - 1) to tokens - 1, then space for a panel]
    by_distance: Vec<f32>,
}

impl Bias {
    /// Makes a bias of `heads` heads, whose scores are divided by `divisor`. `of(head, distance)` is added to the
    /// head's score after that was divided. The distance is the key's position less the query's.
    pub fn new(heads: usize, divisor: f32, tokens: usize, of: impl Fn(usize, isize) -> f32) -> Self {
        let distances = (2 * tokens).saturating_sub(1);
        let stride = distances + WIDEST_PANEL;
        let mut by_distance = vec![0.0; heads * stride];
        // The kernel divides inside the exponential, after adding this.
        for (head, numbers) in by_distance.chunks_exact_mut(stride).enumerate() {
            for (i, number) in numbers[..distances].iter_mut().enumerate() {
                *number = of(head, i as isize - (tokens as isize - 1)) * divisor;
            }
        }
        Self { heads, tokens, stride, by_distance }
    }

    /// True if there is a number for every score of such a sequence.
    pub(super) fn covers(&self, heads: usize, tokens: usize) -> bool {
        heads == self.heads && tokens <= self.tokens
    }

    /// Address of the number for a head's query and key, by their positions. Those of the next keys follow, up to
    /// key `tokens - 1` and then for the width of a panel; those of the next queries precede, one each. Panics if
    /// there is no such number.
    #[inline(always)]
    pub(super) fn at(&self, head: usize, query: usize, key: usize) -> *const f32 {
        assert!(head < self.heads && query < self.tokens && key < self.tokens);
        // Derived from the pointer to all numbers, because the caller steps back from here.
        self.by_distance.as_ptr().wrapping_add(head * self.stride + self.tokens - 1 + key - query)
    }
}
