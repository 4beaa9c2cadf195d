//! The reasons why a file is not a head, or why the parts of a head do not fit each other.

use thiserror::Error;

/// The value of the field `format` in every head file.
pub const FORMAT: &str = "cognate-head";
/// The version of the format that this release reads and writes.
pub const VERSION: u64 = 1;

/// A file or a set of parts is not a head.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each error names its fields")]
pub enum HeadError {
    /// The file is not JSON, or a field is missing or has another type.
    #[error("this is not a head: {0}")]
    Json(serde_json::Error),
    /// The file is JSON of another format.
    #[error("format is {0:?}, and must be {expected:?}", expected = FORMAT)]
    Format(String),
    /// Another release wrote the file.
    #[error("version is {0}, and must be {expected}", expected = VERSION)]
    Version(u64),
    /// The head has fewer than two labels, so it has no choice.
    #[error("labels has {0} entries, and must have at least 2")]
    TooFewLabels(usize),
    /// A text or a list is empty.
    #[error("{0} is empty, and must not be")]
    Empty(String),
    /// Two labels have the same name.
    #[error("labels[{first}].name and labels[{second}].name are both {name:?}, and names must differ")]
    Repeated { name: String, first: usize, second: usize },
    /// The number of a label's weights is not the number of dimensions.
    #[error("labels[{label}].weights has {found} values, and must have one for each of the {dimensions} dimensions")]
    Weights { label: usize, found: usize, dimensions: usize },
    /// A number is NaN or infinite.
    #[error("{field} is {value}, and must be finite")]
    NotFinite { field: String, value: f32 },
    /// A number is out of bounds.
    #[error("{field} is {value}, and must be {limit}")]
    OutOfBounds { field: &'static str, value: f64, limit: &'static str },
}
