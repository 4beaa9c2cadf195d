//! Evaluation of filters on all documents at once, by columns, in steps that each hold the lock for a moment.
//!
//! Documents may change between two steps. So the result is correct only for documents that did not change; the
//! caller checks the others again (`collection/matching.rs`).
//!
//! Invariants: no step takes more than a few milliseconds, and each begins with a check of the stop flag.
//! Alternative ranges over one field are merged, so that each value is passed once. Where a filter still passes a
//! field's values again and again, they are copied once and compared ([`Numbers`]).

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Deref};

use roaring::RoaringBitmap;

use super::Columns;
use super::fields::FieldId;
use super::numbers::Numbers;
use super::postings::{Postings, Union};
use super::span::Span;
use crate::collection::filter::{Bounds, Filter, Finite, Path, Scalar};
use crate::compute::stop::{Stop, Stopped};

// The limits are small in tests, so that tests cross them.

/// Most documents that are checked one by one, for up to 4 µs each where their metadata is not in the cache. A
/// range over a million different values walks for up to 50 ms, over 100,000 for 5 ms.
const FEW: u64 = if cfg!(test) { 2 } else { 1_024 };

/// Documents that are checked one by one in a step.
const ASKED_AT_ONCE: usize = 256;

/// Values that are looked up in a step, for up to 2 µs each.
const LOOKED_UP_AT_ONCE: usize = 512;

/// Positions that a walk passes in a step, for up to 50 ns each.
pub(super) const PASSED_AT_ONCE: usize = if cfg!(test) { 2 } else { 16_384 };

/// Values of a field that walks pass before its numbers are copied. The copy costs as much as one walk over all of
/// them.
const WALKED: usize = if cfg!(test) { 3 } else { 500_000 };

/// Most bytes of numbers that one evaluation copies.
const COPIED_BYTES: usize = 64 << 20;

/// Documents that a filter is evaluated on.
pub(in super::super) trait Corpus {
    /// The columns.
    fn columns(&self) -> &Columns;
    /// True if the document at a position matches, by its metadata.
    fn holds(&self, position: u32, filter: &Filter) -> bool;
}

/// The positions of the documents that match. `lock` locks the documents for one step.
pub(in super::super) fn matching<G>(
    filter: &Filter,
    lock: &impl Fn() -> G,
    stop: &Stop,
) -> Result<RoaringBitmap, Stopped>
where
    G: Deref<Target: Corpus>,
{
    Evaluation { lock, stop, fields: HashMap::new(), copied: 0 }.of(filter)
}

struct Evaluation<'e, L> {
    lock: &'e L,
    stop: &'e Stop,
    fields: HashMap<FieldId, Walked>,
    copied: usize,
}

/// Number of values that walks over a field passed, and the field's numbers once they were copied.
#[derive(Default)]
struct Walked {
    values: usize,
    numbers: Option<Numbers>,
}

impl<L, G> Evaluation<'_, L>
where
    L: Fn() -> G,
    G: Deref<Target: Corpus>,
{
    fn of(&mut self, filter: &Filter) -> Result<RoaringBitmap, Stopped> {
        self.stop.check()?;
        match filter {
            Filter::And(filters) => self.all_of(filters),
            Filter::Or(filters) => self.one_of(filters),
            Filter::Not(filter) => {
                let inner = self.of(filter)?;
                Ok((self.lock)().columns().all() - inner)
            }
            Filter::In(path, values) => self.equal(path, values),
            Filter::Range(path, bounds) => self.between(path, vec![*bounds]),
            Filter::Exists(path) => Ok((self.lock)().columns().present(path)),
        }
    }

    /// Documents that match all filters. Ranges come last: if few documents are left by then, they are checked one
    /// by one.
    fn all_of(&mut self, filters: &[Filter]) -> Result<RoaringBitmap, Stopped> {
        let (walks, lookups): (Vec<&Filter>, Vec<&Filter>) = filters.iter().partition(|filter| has_range(filter));
        let mut found: Option<RoaringBitmap> = None;
        for filter in lookups.into_iter().chain(walks) {
            found = Some(match found {
                Some(none) if none.is_empty() => return Ok(none),
                Some(few) if few.len() <= FEW && has_range(filter) => self.asked(&few, filter)?,
                Some(some) => some & self.of(filter)?,
                None => self.of(filter)?,
            });
        }
        Ok(found.unwrap_or_else(|| (self.lock)().columns().all().clone()))
    }

    /// The documents among a few that match.
    fn asked(&self, few: &RoaringBitmap, filter: &Filter) -> Result<RoaringBitmap, Stopped> {
        let (positions, mut found) = (few.iter().collect::<Vec<u32>>(), RoaringBitmap::new());
        for positions in positions.chunks(ASKED_AT_ONCE) {
            self.stop.check()?;
            let here = (self.lock)();
            found.extend(positions.iter().filter(|position| here.holds(**position, filter)));
        }
        Ok(found)
    }

    fn one_of(&mut self, filters: &[Filter]) -> Result<RoaringBitmap, Stopped> {
        let mut found = RoaringBitmap::new();
        let mut ranges: BTreeMap<&Path, Vec<Bounds>> = BTreeMap::new();
        for filter in filters {
            match filter {
                Filter::Range(path, bounds) => ranges.entry(path).or_default().push(*bounds),
                other => found |= self.of(other)?,
            }
        }
        for (path, bounds) in ranges {
            found |= self.between(path, bounds)?;
        }
        Ok(found)
    }

    fn equal(&self, path: &Path, values: &[Scalar]) -> Result<RoaringBitmap, Stopped> {
        let mut found = Union::default();
        for values in values.chunks(LOOKED_UP_AT_ONCE) {
            self.stop.check()?;
            let here = (self.lock)();
            let columns = here.columns();
            let Some((field, _)) = columns.fields.at(path) else { break };
            values.iter().filter_map(|value| columns.values.get(&(field, value.clone()))).for_each(|p| found.add(p));
        }
        Ok(found.finish())
    }

    /// The documents with a number in at least one pair of bounds.
    fn between(&mut self, path: &Path, bounds: Vec<Bounds>) -> Result<RoaringBitmap, Stopped> {
        let field = (self.lock)().columns().fields.at(path).map(|(id, _)| id);
        let Some(field) = field else { return Ok(RoaringBitmap::new()) };
        let spans = merged(bounds);
        let walked = self.fields.remove(&field).unwrap_or_default();
        let mut walked = if walked.values > WALKED { self.copy(field, walked)? } else { walked };
        let found = match &walked.numbers {
            Some(numbers) => numbers.within(&spans, self.stop)?,
            None => {
                let mut found = Union::default();
                for span in &spans {
                    walked.values += self.walk(field, *span, |_, postings| found.add(postings))?;
                }
                found.finish()
            }
        };
        self.fields.insert(field, walked);
        Ok(found)
    }

    /// Copies a field's numbers, unless too much is copied already.
    fn copy(&mut self, field: FieldId, mut walked: Walked) -> Result<Walked, Stopped> {
        if walked.numbers.is_none() && self.copied < COPIED_BYTES {
            let mut numbers = Numbers::default();
            self.walk(field, Span::ALL, |number, postings| numbers.add(number, postings))?;
            self.copied += numbers.bytes();
            walked.numbers = Some(numbers);
        }
        Ok(walked)
    }

    /// Calls `see` with each value in a span, a part at a time. Returns the number of values.
    fn walk(&self, field: FieldId, span: Span, mut see: impl FnMut(Finite, &Postings)) -> Result<usize, Stopped> {
        let (mut lower, upper) = span.bounds();
        let mut values = 0;
        loop {
            self.stop.check()?;
            let here = (self.lock)();
            let (mut last, mut passed) = (None, 0);
            for (number, postings) in here.columns().numbers(field, lower, upper) {
                see(number, postings);
                values += 1;
                passed += postings.work();
                if passed >= PASSED_AT_ONCE {
                    last = Some(number);
                    break;
                }
            }
            match last {
                // A map rejects equal bounds that are both excluded.
                Some(last) if last < span.to => lower = Bound::Excluded(last),
                _ => return Ok(values),
            }
        }
    }
}

/// True if evaluating the filter walks over values.
fn has_range(filter: &Filter) -> bool {
    match filter {
        Filter::Range(..) => true,
        Filter::Not(filter) => has_range(filter),
        Filter::And(filters) | Filter::Or(filters) => filters.iter().any(has_range),
        Filter::In(..) | Filter::Exists(_) => false,
    }
}

/// The union of several pairs of bounds, as spans in order that do not touch.
fn merged(bounds: Vec<Bounds>) -> Vec<Span> {
    let mut spans: Vec<Span> = bounds.into_iter().filter(|bounds| !bounds.contradict()).map(Span::of).collect();
    spans.sort_by_key(|span| (span.from, span.without_from));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.reaches(span) => {
                (last.to, last.with_to) = (last.to, last.with_to).max((span.to, span.with_to));
            }
            _ => merged.push(span),
        }
    }
    merged
}
