//! A field's numbers by position, for filters with many ranges over it.
//!
//! A range walks over the values between its bounds. With hundreds of ranges over up to a million values, it is
//! quicker to copy the numbers once and to compare each with the bounds.

use roaring::RoaringBitmap;

use super::postings::{Postings, Union};
use super::span::Span;
use crate::collection::filter::Finite;
use crate::compute::stop::{Stop, Stopped};

/// Numbers that are compared between two checks of the stop flag: less than a millisecond.
const AT_ONCE: usize = 65_536;

#[derive(Default)]
pub(super) struct Numbers {
    /// The least number of each document; NaN if it has none.
    least: Vec<f64>,
    /// Further numbers of documents whose field is a list.
    others: Vec<(u32, f64)>,
}

impl Numbers {
    /// Adds a number and the documents that have it. Calls must come in ascending order.
    pub(super) fn add(&mut self, number: Finite, postings: &Postings) {
        postings.each(|position| {
            let at = position as usize;
            if self.least.len() <= at {
                self.least.resize(at + 1, f64::NAN);
            }
            match &mut self.least[at] {
                none if none.is_nan() => *none = number.get(),
                _ => self.others.push((position, number.get())),
            }
        });
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.least.capacity() * size_of::<f64>() + self.others.capacity() * size_of::<(u32, f64)>()
    }

    /// The documents with a number in one of the spans. Spans are in order and do not touch.
    pub(super) fn within(&self, spans: &[Span], stop: &Stop) -> Result<RoaringBitmap, Stopped> {
        let mut found = Union::default();
        let holds = |x: f64| {
            // No span contains NaN.
            let next = spans.partition_point(|span| span.ends_before(x));
            spans.get(next).is_some_and(|span| span.contains(x))
        };
        for (n, numbers) in self.least.chunks(AT_ONCE).enumerate() {
            stop.check()?;
            let first = n * AT_ONCE;
            (first..).zip(numbers).filter(|(_, x)| holds(**x)).for_each(|(position, _)| found.push(position as u32));
        }
        for others in self.others.chunks(AT_ONCE) {
            stop.check()?;
            others.iter().filter(|(_, x)| holds(*x)).for_each(|(position, _)| found.push(*position));
        }
        Ok(found.finish())
    }
}
