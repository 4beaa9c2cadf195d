//! The answer of a graph, put together from several calls.

use super::feed::Feed;

/// The answer of a graph, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// The numbers. Some may not be finite.
    pub values: Vec<f32>,
    /// `[texts, labels]`, `[texts, hidden]` or `[texts, sequence, hidden]`; `[0]` for no texts. The sequence is that of
    /// the longest text or the fixed one. Values at a text's padding have no meaning.
    pub shape: Vec<usize>,
}

impl Output {
    /// Returns whether the shape fits `feed`.
    pub(super) fn fits(&self, feed: &Feed) -> bool {
        match *self.shape.as_slice() {
            [texts, _] => texts == feed.texts,
            [texts, sequence, _] => texts == feed.texts && sequence == feed.sequence,
            _ => false,
        }
    }

    /// Appends the first `texts` rows of another answer, each padded to `sequence` tokens. Returns the answer as an
    /// error if its rows have another shape.
    pub(super) fn append(&mut self, mut answer: Self, texts: usize, sequence: usize) -> Result<(), Self> {
        let mut shape = answer.shape.clone();
        let row: usize = shape[1..].iter().product();
        if shape.len() == 3 {
            shape[1] = sequence;
        }
        let stretched: usize = shape[1..].iter().product();
        shape[0] = self.shape[0] + texts;
        if self.shape.len() == 1 {
            self.shape = shape;
        } else if self.shape[1..] == shape[1..] {
            self.shape[0] = shape[0];
        } else {
            return Err(answer);
        }
        if self.values.is_empty() && row == stretched {
            answer.values.truncate(texts * row);
            self.values = answer.values;
        } else {
            for text in answer.values.chunks(row.max(1)).take(texts) {
                self.values.extend_from_slice(text);
                self.values.resize(self.values.len() + stretched - row, 0.0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: &[usize], first: f32) -> Output {
        let count = shape.iter().product::<usize>();
        Output { values: (0..count).map(|i| first + i as f32).collect(), shape: shape.to_vec() }
    }

    #[test]
    fn answers_of_several_calls_become_one() {
        let mut output = Output { values: vec![], shape: vec![0] };
        output.append(answer(&[2, 2], 0.0), 2, 9).unwrap();
        output.append(answer(&[2, 2], 10.0), 1, 9).unwrap();
        assert_eq!(output.shape, [3, 2]);
        assert_eq!(output.values, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0]);
        assert!(output.append(answer(&[1, 3], 0.0), 1, 9).is_err());
    }

    #[test]
    fn shorter_answers_are_padded_to_the_longest() {
        let mut output = Output { values: vec![], shape: vec![0] };
        output.append(answer(&[1, 1, 2], 1.0), 1, 2).unwrap();
        output.append(answer(&[1, 2, 2], 5.0), 1, 2).unwrap();
        assert_eq!(output.shape, [2, 2, 2]);
        assert_eq!(output.values, [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
    }
}
