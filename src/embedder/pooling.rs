//! Pooling on a CPU: the vectors of a text's tokens become the vector of the text.
//!
//! Invariant: the result depends on the rows of the text alone. Sums go from the first token to the last.

use crate::model::Mode;

/// The rows of a text, [tokens, columns], and the number of rows of its prompt that take no part.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    /// Returns a row.
    pub row: &'a dyn Fn(usize) -> &'a [f32],
    /// The numbers of a row.
    pub columns: usize,
    /// The rows; at least one.
    pub count: usize,
    /// The first row that takes part.
    pub left_out: usize,
}

impl Tokens<'_> {
    /// Returns the vectors of the modes, one after another. `[modes · columns]`
    pub fn pool(self, modes: &[Mode]) -> Vec<f32> {
        let mut vector = Vec::with_capacity(modes.len() * self.columns);
        for mode in modes {
            match mode {
                Mode::Cls => vector.extend_from_slice((self.row)(0)),
                Mode::LastToken => vector.extend_from_slice((self.row)(self.count - 1)),
                Mode::Max => vector.extend(self.max()),
                Mode::Mean | Mode::MeanSqrtLen | Mode::WeightedMean => vector.extend(self.sum(*mode)),
            }
        }
        vector
    }

    fn max(self) -> Vec<f32> {
        let mut greatest = (self.row)(self.left_out).to_vec();
        for row in self.left_out + 1..self.count {
            greatest.iter_mut().zip((self.row)(row)).for_each(|(greatest, x)| *greatest = greatest.max(*x));
        }
        greatest
    }

    fn sum(self, mode: Mode) -> Vec<f32> {
        let mut sum = vec![0.0f32; self.columns];
        for row in self.left_out..self.count {
            let values = sum.iter_mut().zip((self.row)(row));
            match mode {
                Mode::WeightedMean => values.for_each(|(sum, x)| *sum += weight(row) * x),
                _ => values.for_each(|(sum, x)| *sum += x),
            }
        }
        let scale = scale(mode, self.left_out, self.count);
        sum.iter_mut().for_each(|x| *x *= scale);
        sum
    }
}

/// Returns the weight of a token in the weighted mean. A prompt that takes no part still counts as a place.
pub fn weight(place: usize) -> f32 {
    (place + 1) as f32
}

/// Returns the factor of the sum over the tokens from `left_out` to `count`.
pub fn scale(mode: Mode, left_out: usize, count: usize) -> f32 {
    match mode {
        Mode::WeightedMean => 1.0 / (left_out..count).map(|place| (place + 1) as f64).sum::<f64>() as f32,
        Mode::MeanSqrtLen => 1.0 / ((count - left_out) as f32).sqrt(),
        _ => 1.0 / (count - left_out) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(modes: &[Mode], left_out: usize) -> Vec<f32> {
        let values = [1.0, 9.0, 0.0, 2.0, 7.0, 0.0, 3.0, -1.0, 0.0];
        Tokens { row: &|row| &values[3 * row..][..2], columns: 2, count: 3, left_out }.pool(modes)
    }

    #[test]
    fn each_mode_is_its_definition() {
        for (mode, expected) in [
            (Mode::Cls, [1.0, 9.0]),
            (Mode::LastToken, [3.0, -1.0]),
            (Mode::Max, [3.0, 9.0]),
            (Mode::Mean, [2.0, 5.0]),
            (Mode::MeanSqrtLen, [6.0 / 3f32.sqrt(), 15.0 / 3f32.sqrt()]),
            (Mode::WeightedMean, [14.0 / 6.0, 20.0 / 6.0]),
        ] {
            let got = pool(&[mode], 0);
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{mode}: {got:?}");
        }
    }

    #[test]
    fn a_prompt_takes_no_part_and_the_weights_keep_their_places() {
        assert_eq!(pool(&[Mode::Max, Mode::Mean], 1), [3.0, 7.0, 2.5, 3.0]);
        assert_eq!(pool(&[Mode::WeightedMean], 1), [13.0 * (1.0 / 5.0), 11.0 * (1.0 / 5.0)]);
    }
}
