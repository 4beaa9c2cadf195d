//! The reasons why a file is not a head, or the parts of one do not fit each other.

use thiserror::Error;

/// What the file says it is.
pub const FORMAT: &str = "cognate-head";
/// The version that is written, and read.
pub const VERSION: u64 = 1;

/// Why something is no head.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each error names its fields")]
pub enum HeadError {
    /// Not JSON, or a field is missing or of another type.
    #[error("no head: {0}")]
    Json(serde_json::Error),
    /// Some other JSON.
    #[error("format is {0:?}, and must be {expected:?}", expected = FORMAT)]
    Format(String),
    /// Of a later release.
    #[error("version is {0}, and must be {expected}", expected = VERSION)]
    Version(u64),
    /// Nothing to tell apart.
    #[error("labels has {0} of them, and must have at least 2")]
    TooFewLabels(usize),
    /// A text or a list that must not be empty.
    #[error("{0} is empty")]
    Empty(String),
    /// Two labels that nobody could tell apart.
    #[error("labels[{second}].name is {name:?}, as is that of labels[{first}], and must be its own")]
    Repeated { name: String, first: usize, second: usize },
    /// A label's weights are not as many as the dimensions.
    #[error("labels[{label}].weights has {found} values, and must have {dimensions}: the dimensions")]
    Weights { label: usize, found: usize, dimensions: usize },
    /// NaN or infinite.
    #[error("{field} is {value}, and must be finite")]
    NotFinite { field: String, value: f32 },
    /// A number out of bounds.
    #[error("{field} is {value}, and must be {limit}")]
    OutOfBounds { field: &'static str, value: f64, limit: &'static str },
}
