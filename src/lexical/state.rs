//! The parts of an index at one moment.
//!
//! A change makes a new state, and those who hold the old one keep it: a search sees all of a commit or nothing of it,
//! also of its removals. So a document that is replaced is found in its old or its new version.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::batch::Batch;
use super::members::Members;
use super::segment::Segment;

/// Documents that are searched together.
pub(super) enum Part {
    Batch(Batch),
    Segment(Segment),
}

/// A part, with the documents that were removed from it.
#[derive(Clone)]
pub(super) struct LivePart {
    pub(super) part: Arc<Part>,
    pub(super) removed: Arc<RoaringBitmap>,
    /// The number of terms of the documents that are not removed.
    pub(super) total_length: u64,
    /// True if a segment is being made of this batch.
    pub(super) at_work: bool,
}

/// All parts, in the order in which their documents came.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) parts: Vec<LivePart>,
}

impl Part {
    pub(super) fn members(&self) -> &Members {
        match self {
            Self::Batch(batch) => &batch.members,
            Self::Segment(segment) => &segment.members,
        }
    }

    pub(super) fn as_batch(&self) -> Option<&Batch> {
        match self {
            Self::Batch(batch) => Some(batch),
            Self::Segment(_) => None,
        }
    }

    pub(super) fn as_segment(&self) -> Option<&Segment> {
        match self {
            Self::Segment(segment) => Some(segment),
            Self::Batch(_) => None,
        }
    }

    /// Bytes of memory, without mapped files.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.bytes(),
            Self::Segment(segment) => segment.bytes(),
        }
    }
}

impl LivePart {
    /// A part of which these documents are removed.
    pub(super) fn new(part: Part, removed: RoaringBitmap) -> Self {
        let mut total_length = part.members().total_length();
        removed.iter().for_each(|number| total_length -= u64::from(part.members().length(number)));
        Self { part: Arc::new(part), removed: Arc::new(removed), total_length, at_work: false }
    }

    /// The number of documents that are not removed.
    pub(super) fn live(&self) -> usize {
        self.part.members().len() - self.removed.len() as usize
    }

    /// Removes a document.
    fn remove(&mut self, number: u32) {
        if Arc::make_mut(&mut self.removed).insert(number) {
            self.total_length -= u64::from(self.part.members().length(number));
        }
    }
}

impl State {
    /// The part that has a document which is not removed, and the document's number in it.
    pub(super) fn find(&self, key: u64) -> Option<(usize, u32)> {
        // The newest first: they are small, and often the ones that change.
        self.parts.iter().enumerate().rev().find_map(|(at, live)| {
            let number = live.part.members().find(key)?;
            (!live.removed.contains(number)).then_some((at, number))
        })
    }

    /// Removes documents, and batches without any. Unknown keys are ignored.
    pub(super) fn remove(&mut self, keys: &[u64]) {
        for &key in keys {
            if let Some((part, number)) = self.find(key) {
                self.parts[part].remove(number);
            }
        }
        self.parts.retain(|live| live.live() > 0 || live.at_work || live.part.as_segment().is_some());
    }

    /// The number of documents that are not removed, and of their terms.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.parts
            .iter()
            .fold((0, 0), |(documents, terms), live| (documents + live.live() as u64, terms + live.total_length))
    }

    /// The place of some parts that stand beside each other.
    fn place_of(&self, parts: &[LivePart]) -> Option<usize> {
        let first = parts.first()?;
        let place = self.parts.iter().position(|live| Arc::ptr_eq(&live.part, &first.part))?;
        let found = self.parts.get(place..place + parts.len())?;
        found.iter().zip(parts).all(|(one, other)| Arc::ptr_eq(&one.part, &other.part)).then_some(place)
    }

    /// Replaces parts that stand beside each other by one that was made of them. Documents that were removed meanwhile
    /// are removed there too. Nothing changes, and the answer is false, if they are no longer there.
    pub(super) fn replace(&mut self, parts: &[LivePart], new: Option<Part>) -> bool {
        let Some(place) = self.place_of(parts) else { return false };
        let mut new = new.map(|new| LivePart::new(new, RoaringBitmap::new()));
        for (before, now) in parts.iter().zip(&self.parts[place..]) {
            for number in (&*now.removed - &*before.removed).iter() {
                let moved = new.as_ref().and_then(|new| new.part.members().find(now.part.members().key(number)));
                if let (Some(new), Some(moved)) = (new.as_mut(), moved) {
                    new.remove(moved);
                }
            }
        }
        self.parts.splice(place..place + parts.len(), new);
        true
    }

    /// Marks parts that a segment is being made of; all others are free.
    pub(super) fn mark(&mut self, at_work: &[LivePart]) {
        for live in &mut self.parts {
            live.at_work = at_work.iter().any(|marked| Arc::ptr_eq(&marked.part, &live.part));
        }
    }

    /// Bytes of memory, without mapped files.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|live| live.part.bytes() + live.removed.serialized_size()).sum()
    }
}
