//! The values of a field with the number of documents that have each, counted by columns in steps that each hold the
//! lock for a moment.
//!
//! Documents may change between two steps. So the numbers are correct only if no document among those to be counted
//! changed; the caller checks that (`collection/facets.rs`).
//!
//! Invariants: no step takes more than a few milliseconds, and each begins with a check of the stop flag. A document
//! counts once for each of its different values, and a value counts the documents that an equality filter finds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Bound, Deref};

use roaring::RoaringBitmap;

use super::evaluate::{Corpus, PASSED_AT_ONCE};
use super::fields::FieldId;
use super::postings::Postings;
use super::{Columns, text_bytes};
use crate::collection::filter::{Finite, Path, Scalar};
use crate::compute::stop::{Stop, Stopped};

/// A field whose values are counted.
#[derive(Debug, Clone)]
pub struct FacetField {
    /// The field, by the readings of its name ([`Path::readings`]). A document has it if it has one of them.
    pub by: Vec<Path>,
    /// Most values that are returned.
    pub limit: usize,
}

/// The values of a field among some documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facet {
    /// Number of documents that have the field.
    pub documents: u64,
    /// Number of different values.
    pub distinct: u64,
    /// The most frequent values with their documents, most frequent first, and equally frequent ones in the
    /// order of [`Scalar`].
    pub values: Vec<(Scalar, u64)>,
    /// The numbers among the values; `None`: no value is a number.
    pub numbers: Option<Numbers>,
}

/// Figures about the numbers of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Number of pairs of a document and a number of it.
    pub count: u64,
    /// The least number.
    pub min: f64,
    /// The greatest number.
    pub max: f64,
    /// The mean over all pairs.
    pub mean: f64,
}

/// Reasons why a field's values are not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FacetError {
    /// The most frequent values take too much memory.
    #[error("the most frequent values have too many bytes")]
    TooLarge,
    /// The caller has gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Counts the values of a field among the documents at some positions. The values that are returned may take `room`
/// bytes, which are subtracted. `lock` locks the documents for one step.
pub(in super::super) fn count<G>(
    field: &FacetField,
    among: &RoaringBitmap,
    room: &mut usize,
    lock: &impl Fn() -> G,
    stop: &Stop,
) -> Result<Facet, FacetError>
where
    G: Deref<Target: Corpus>,
{
    let mut counting = Counting { field, among, documents: 0, tally: Tally::new(field.limit, *room) };
    let mut last: Option<Scalar> = None;
    loop {
        stop.check()?;
        last = counting.step(lock().columns(), last.as_ref())?;
        if last.is_none() {
            break;
        }
    }
    let Counting { documents, tally, .. } = counting;
    *room -= tally.bytes();
    Ok(tally.facet(documents))
}

/// A count in progress.
struct Counting<'c> {
    field: &'c FacetField,
    among: &'c RoaringBitmap,
    documents: u64,
    tally: Tally,
}

/// The values of a field that were counted so far.
pub(crate) struct Tally {
    distinct: u64,
    top: Top,
    sum: Sum,
}

impl Tally {
    /// No values yet. At most `limit` are kept, with at most `room` bytes.
    pub(crate) fn new(limit: usize, room: usize) -> Self {
        Self { distinct: 0, top: Top::new(limit, room), sum: Sum::default() }
    }

    /// Adds a value that some documents have. Values come in ascending order, each once.
    pub(crate) fn add(&mut self, value: &Scalar, documents: u64) -> Result<(), FacetError> {
        self.distinct += 1;
        if let Scalar::Number(number) = value {
            self.sum.add(*number, documents);
        }
        self.top.offer(value, documents)
    }

    /// Bytes of the values that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.top.bytes
    }

    /// The values, of this many documents.
    pub(crate) fn facet(self, documents: u64) -> Facet {
        let Self { distinct, top, sum } = self;
        Facet { documents, distinct, values: top.best_first(), numbers: sum.numbers() }
    }
}

impl Counting<'_> {
    /// Counts some values, those after `last`. Returns the last of them, if there are more.
    fn step(&mut self, columns: &Columns, last: Option<&Scalar>) -> Result<Option<Scalar>, FacetError> {
        let fields = self.field.by.iter().filter_map(|path| columns.fields.at(path));
        let readings: Vec<(FieldId, &Postings)> = fields.map(|(id, field)| (id, &field.present)).collect();
        self.documents = n_among(readings.iter().map(|(_, present)| *present), self.among);
        let mut walks: Vec<_> = readings.iter().map(|(id, _)| columns.values_of(*id, last).peekable()).collect();
        let mut passed = 0;
        while let Some(value) = walks.iter_mut().filter_map(|walk| walk.peek().map(|(value, _)| *value)).min() {
            let at_value = walks.iter_mut().filter_map(|walk| walk.next_if(|(next, _)| *next == value));
            let postings = at_value.map(|(_, postings)| postings).inspect(|postings| passed += postings.work());
            let found = n_among(postings, self.among);
            if found > 0 {
                self.tally.add(value, found)?;
            }
            if passed >= PASSED_AT_ONCE {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }
}

/// Number of positions in one of the postings that are among some.
fn n_among<'c>(mut postings: impl Iterator<Item = &'c Postings>, among: &RoaringBitmap) -> u64 {
    let Some(first) = postings.next() else { return 0 };
    let Some(second) = postings.next() else { return first.n_among(among) };
    let both = postings.fold(first.to_bitmap() | second.to_bitmap(), |all, more| all | more.to_bitmap());
    both.intersection_len(among)
}

impl Columns {
    /// The values of a field with their documents, in order, all or those after a value.
    fn values_of(&self, field: FieldId, after: Option<&Scalar>) -> impl Iterator<Item = (&Scalar, &Postings)> {
        let from = match after {
            Some(after) => Bound::Excluded((field, after.clone())),
            // The lowest value.
            None => Bound::Included((field, Scalar::Null)),
        };
        let values = self.values.range((from, Bound::Unbounded)).take_while(move |((id, _), _)| *id == field);
        values.map(|((_, value), postings)| (value, postings))
    }
}

/// The most frequent of the values that were offered.
struct Top {
    limit: usize,
    /// The worst one first.
    values: BinaryHeap<Reverse<(u64, Reverse<Scalar>)>>,
    /// Bytes of the values.
    bytes: usize,
    /// Most bytes of the values.
    room: usize,
}

impl Top {
    fn new(limit: usize, room: usize) -> Self {
        Self { limit, values: BinaryHeap::new(), bytes: 0, room }
    }

    /// Takes a value if it is among the best. Values come in ascending order, so of equally frequent ones the first
    /// stay.
    fn offer(&mut self, value: &Scalar, found: u64) -> Result<(), FacetError> {
        if self.values.len() >= self.limit {
            match self.values.peek() {
                Some(Reverse((worst, _))) if found > *worst => {}
                _ => return Ok(()),
            }
            if let Some(Reverse((_, Reverse(worst)))) = self.values.pop() {
                self.bytes -= bytes(&worst);
            }
        }
        self.bytes += bytes(value);
        if self.bytes > self.room {
            return Err(FacetError::TooLarge);
        }
        self.values.push(Reverse((found, Reverse(value.clone()))));
        Ok(())
    }

    fn best_first(self) -> Vec<(Scalar, u64)> {
        self.values.into_sorted_vec().into_iter().map(|Reverse((found, Reverse(value)))| (value, found)).collect()
    }
}

/// Bytes of memory that a value takes in [`Top`].
fn bytes(value: &Scalar) -> usize {
    size_of::<(u64, Scalar)>() + text_bytes(value)
}

/// The sum of numbers, by Neumaier's compensated summation (1974).
#[derive(Default)]
struct Sum {
    count: u64,
    range: Option<(f64, f64)>,
    sum: Compensated,
    /// The sum of the numbers divided by [`Sum::SCALE`], for numbers whose sum is not finite.
    scaled: Compensated,
}

#[derive(Default)]
struct Compensated {
    sum: f64,
    lost: f64,
}

impl Sum {
    /// More than there are documents. A power of two, so that scaling is exact.
    const SCALE: f64 = (1_u64 << 40) as f64;

    /// Adds a number that some documents have. Numbers come in ascending order.
    fn add(&mut self, number: Finite, documents: u64) {
        let (x, n) = (number.get(), documents as f64);
        self.count += documents;
        self.range = Some((self.range.map_or(x, |(min, _)| min), x));
        self.sum.add(x * n);
        self.scaled.add(x / Self::SCALE * n);
    }

    fn numbers(&self) -> Option<Numbers> {
        let (min, max) = self.range?;
        let (count, sum) = (self.count as f64, self.sum.total());
        let mean = if sum.is_finite() { sum / count } else { self.scaled.total() / count * Self::SCALE };
        Some(Numbers { count: self.count, min, max, mean: mean.clamp(min, max) })
    }
}

impl Compensated {
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        self.lost += if self.sum.abs() >= x.abs() { (self.sum - sum) + x } else { (x - sum) + self.sum };
        self.sum = sum;
    }

    fn total(&self) -> f64 {
        self.sum + self.lost
    }
}
