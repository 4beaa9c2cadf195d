//! Texts of different lengths, padded to the rectangles that a graph reads.

use super::error::RunError;
use super::signature::{Role, Signature};

/// The inputs of one call of a graph.
#[derive(Debug)]
pub(super) struct Feed {
    /// Number of texts, with those that only fill up a fixed batch.
    pub texts: usize,
    /// Tokens of each text, with padding.
    pub sequence: usize,
    /// Token ids. [texts, sequence]
    ids: Vec<i32>,
    /// 1 for a token, 0 for padding. [texts, sequence]
    mask: Vec<i32>,
    /// The type of each token: 1 for the second text of a pair, otherwise 0. [texts, sequence]
    types: Vec<i32>,
}

/// The token ids of a text, and the number of them that have type 0. The others have type 1: the second text of a pair.
pub type Typed<'a> = (&'a [u32], usize);

impl Feed {
    /// Pads `batch` to the graph's fixed sizes, or else to the longest text. No text is longer than a fixed size.
    pub(super) fn new(batch: &[Typed<'_>], pad: u32, signature: &Signature) -> Result<Self, RunError> {
        let texts = signature.texts.unwrap_or(batch.len());
        let longest = batch.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let sequence = signature.sequence.unwrap_or(longest);
        let pad = id(pad)?;
        let (mut ids, mut mask) = (Vec::with_capacity(texts * sequence), Vec::with_capacity(texts * sequence));
        let mut types = Vec::with_capacity(texts * sequence);
        for &(text, first) in batch {
            types.resize(ids.len() + first.min(text.len()), 0);
            types.resize(ids.len() + text.len(), 1);
            for token in text {
                ids.push(id(*token)?);
            }
            ids.resize(ids.len() + sequence - text.len(), pad);
            mask.resize(mask.len() + text.len(), 1);
            mask.resize(ids.len(), 0);
            types.resize(ids.len(), 0);
        }
        for _ in batch.len()..texts {
            // One token is visible: a softmax over no token divides by zero, which is slow.
            mask.push(1);
            ids.resize(ids.len() + sequence, pad);
            mask.resize(ids.len(), 0);
        }
        types.resize(ids.len(), 0);
        Ok(Self { texts, sequence, ids, mask, types })
    }

    /// Returns the values of an input. [texts, sequence]
    pub(super) fn of(&self, role: Role) -> &[i32] {
        match role {
            Role::Ids => &self.ids,
            Role::Mask => &self.mask,
            Role::Types => &self.types,
        }
    }
}

/// Splits a batch into calls.
///
/// A graph without a mask takes padding for text, so each of its calls has texts of one length.
pub(super) fn calls<'a, 'b>(batch: &'a [Typed<'b>], signature: &'a Signature) -> impl Iterator<Item = &'a [Typed<'b>]> {
    let together = signature.masked();
    let runs = batch.chunk_by(move |one, next| together || one.0.len() == next.0.len());
    runs.flat_map(|run| run.chunks(signature.texts.unwrap_or(run.len())))
}

/// Converts a token id to the type that graphs read.
fn id(token: u32) -> Result<i32, RunError> {
    i32::try_from(token).map_err(|_| RunError::Token { token })
}

#[cfg(test)]
mod tests {
    use super::super::signature::Input;
    use super::*;

    fn signature(roles: &[Role], texts: Option<usize>, sequence: Option<usize>) -> Signature {
        let inputs = roles.iter().enumerate().map(|(index, &role)| Input { role, index, wide: true });
        Signature { inputs: inputs.collect(), output: 0, texts, sequence, width: None }
    }

    const BATCH: [Typed<'_>; 3] = [(&[5], 1), (&[6, 7, 8], 1), (&[9, 9], 2)];

    #[test]
    fn texts_are_padded_to_the_longest_and_the_mask_says_so() {
        let feed = Feed::new(&BATCH, 1, &signature(&[Role::Ids, Role::Mask], None, None)).unwrap();
        assert_eq!((feed.texts, feed.sequence), (3, 3));
        assert_eq!(feed.of(Role::Ids), [5, 1, 1, 6, 7, 8, 9, 9, 1]);
        assert_eq!(feed.of(Role::Mask), [1, 0, 0, 1, 1, 1, 1, 1, 0]);
        assert_eq!(feed.of(Role::Types), [0, 0, 0, 0, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn fixed_sizes_are_filled_up() {
        let feed = Feed::new(&BATCH[..1], 0, &signature(&[Role::Ids], Some(2), Some(4))).unwrap();
        assert_eq!((feed.texts, feed.sequence), (2, 4));
        assert_eq!(feed.of(Role::Ids), [5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(feed.of(Role::Mask), [1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_call_has_as_many_texts_as_the_graph_takes() {
        let masked = signature(&[Role::Ids, Role::Mask], Some(2), None);
        let sizes: Vec<usize> = calls(&BATCH, &masked).map(<[_]>::len).collect();
        assert_eq!(sizes, [2, 1]);
        assert_eq!(calls(&BATCH, &signature(&[Role::Ids, Role::Mask], None, None)).count(), 1);
        assert_eq!(calls(&[], &masked).count(), 0);
    }

    #[test]
    fn without_a_mask_only_texts_of_one_length_share_a_call() {
        let batch: [Typed<'_>; 4] = [(&[1, 2], 2), (&[3, 4], 2), (&[5], 1), (&[6, 7], 2)];
        let plain = signature(&[Role::Ids], None, None);
        let sizes: Vec<usize> = calls(&batch, &plain).map(<[_]>::len).collect();
        assert_eq!(sizes, [2, 1, 1]);
    }

    #[test]
    fn a_token_beyond_32_bits_is_an_error() {
        let error = Feed::new(&[(&[u32::MAX], 1)], 0, &signature(&[Role::Ids], None, None)).unwrap_err();
        assert!(matches!(error, RunError::Token { token: u32::MAX }));
    }
}
