//! The vector of a text, scaled to unit length.

use super::dot::{self, NormError};

/// A vector of unit length: finite, not empty, `|v| = 1` within the rounding of f32. Collections store it, and its dot
/// product is the cosine similarity.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

/// The greatest difference from 1 in the length of a scaled vector. Each value was rounded once, by at most 2⁻²⁴ (6e-8)
/// of itself, so the length differs by no more.
const UNIT: f64 = 1e-7;

/// The reason why numbers are not an [`Embedding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEmbedding {
    /// A value is NaN or infinite.
    #[error("value {0} is not finite")]
    NotFinite(usize),
    /// All values are zero, so there is no direction.
    #[error("all values are zero")]
    Zero,
}

impl Embedding {
    /// Scales `values` to unit length. A vector that has that length already keeps every bit, so a vector that is read
    /// from a collection and stored again does not drift.
    pub fn normalized(mut values: Vec<f32>) -> Result<Self, NotAnEmbedding> {
        if (dot::norm(&values) - 1.0).abs() <= UNIT {
            return Ok(Self(values));
        }
        match dot::normalize(&mut values) {
            Ok(_) => Ok(Self(values)),
            Err(NormError::Zero) => Err(NotAnEmbedding::Zero),
            Err(NormError::NotFinite { position }) => Err(NotAnEmbedding::NotFinite(position)),
        }
    }

    /// Restores an embedding from its stored values, bit for bit. `None` if the length is not 1.
    pub fn restored(values: Vec<f32>) -> Option<Self> {
        let length = dot::norm(&values);
        ((length - 1.0).abs() < 1e-3).then_some(Self(values))
    }

    /// Returns the values, `[dimensions]`.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Returns the values, `[dimensions]`.
    pub fn into_values(self) -> Vec<f32> {
        self.0
    }

    /// Computes the cosine similarity, clamped to [-1, 1].
    pub fn cosine(&self, other: &Self) -> f32 {
        dot::dot(&self.0, &other.0).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_without_a_direction_are_refused() {
        assert_eq!(Embedding::normalized(vec![0.0, -0.0]), Err(NotAnEmbedding::Zero));
        assert_eq!(Embedding::normalized(vec![1.0, f32::NAN]), Err(NotAnEmbedding::NotFinite(1)));
        assert_eq!(Embedding::normalized(vec![f32::INFINITY]), Err(NotAnEmbedding::NotFinite(0)));
    }

    proptest! {
        #[test]
        fn scaling_again_changes_no_bit(values in prop::collection::vec(-1e3f32..1e3, 1..1100)) {
            prop_assume!(values.iter().any(|x| *x != 0.0));
            let once = Embedding::normalized(values).unwrap();
            prop_assert_eq!(&Embedding::normalized(once.values().to_vec()).unwrap(), &once);
        }
    }

    #[test]
    fn a_direction_is_scaled_to_unit_length() {
        assert_eq!(Embedding::normalized(vec![3.0, 4.0]).unwrap().values(), [0.6, 0.8]);
    }
}
