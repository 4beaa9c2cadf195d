//! The interface between a model and the threads that run it.

use crate::machine::leader::Leader;

/// The token ids of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence<'a> {
    /// The ids; at least one.
    pub ids: &'a [u32],
    /// The number of tokens of type 0, which come first. The others have type 1: the second text of a pair, if the
    /// model tells the two apart.
    pub first: usize,
    /// The number of tokens of a prompt that the vector of the text leaves out; less than the tokens. They come first.
    pub left_out: usize,
}

impl<'a> Sequence<'a> {
    /// Returns the ids and `first`, as a graph takes them.
    pub fn typed(&self) -> (&'a [u32], usize) {
        (self.ids, self.first)
    }
}

impl<'a> From<&'a [u32]> for Sequence<'a> {
    /// Takes the ids of a single text.
    fn from(ids: &'a [u32]) -> Self {
        Self { ids, first: ids.len(), left_out: 0 }
    }
}

/// A model that turns token ids into numbers. The threads that run it share it.
pub trait Model: Send + Sync + 'static {
    /// Prepares the model for one thread. The team of `leader` may share its work.
    fn for_thread(&self, leader: Leader) -> Run;
}

/// A function that runs batches in one thread, with memory of its own. A batch is the token ids of each input, none of
/// them empty; the result is `[inputs][width]`.
pub type Run = Box<dyn FnMut(&[Sequence<'_>]) -> Result<Vec<Vec<f32>>, RunError>>;

/// The reason why a batch could not be computed.
pub type RunError = Box<dyn std::error::Error + Send + Sync>;
