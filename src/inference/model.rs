//! The interface between a model and the threads that run it.

use crate::machine::team::Leader;

/// A model that turns token ids into numbers. The threads that run it share it.
pub trait Model: Send + Sync + 'static {
    /// Prepares the model for one thread. The team of `leader` may share its work.
    fn for_thread(&self, leader: Leader) -> Run;
}

/// A function that runs batches in one thread, with memory of its own. A batch is the token ids of each text, none of
/// them empty; the result is `[texts][width]`.
pub type Run = Box<dyn FnMut(&[&[u32]]) -> Result<Vec<Vec<f32>>, RunError>>;

/// The reason why a batch could not be computed.
pub type RunError = Box<dyn std::error::Error + Send + Sync>;
