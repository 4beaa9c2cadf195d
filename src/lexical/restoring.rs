//! Segments of an earlier process, whose documents are inserted again one by one.

use roaring::RoaringBitmap;

use super::members::NOWHERE;
use super::segment::StoredSegment;
use super::state::{LivePart, Part};

/// Segments that wait for their documents, newest first.
pub(super) struct Restoring(Vec<StoredSegment>);

/// A document of one of the segments.
pub(super) struct Found {
    pub(super) key: u64,
    segment: usize,
    number: u32,
}

impl Restoring {
    pub(super) fn new(segments: Vec<StoredSegment>) -> Self {
        Self(segments)
    }

    /// Finds a document by its key, if it has the same text. After a crash two segments may have it; the newest one
    /// counts.
    pub(super) fn find(&self, key: u64, digest: u32) -> Option<Found> {
        self.0.iter().enumerate().find_map(|(at, stored)| {
            let number = stored.segment.members.find(key)?;
            (stored.digests[number as usize] == digest).then_some(Found { key, segment: at, number })
        })
    }

    /// Gives a found document its position.
    pub(super) fn place(&mut self, found: &Found, position: u32) {
        self.0[found.segment].segment.members.place(found.number, position);
    }

    /// The segments of which a document was inserted again; the others are removed there. Deletes the files of segments
    /// that are of no use.
    pub(super) fn into_parts(self) -> Vec<LivePart> {
        let mut parts = Vec::with_capacity(self.0.len());
        for StoredSegment { segment, .. } in self.0 {
            let documents = segment.members.len() as u32;
            let removed: RoaringBitmap =
                (0..documents).filter(|&number| segment.members.position(number) == NOWHERE).collect();
            if removed.len() == u64::from(documents) {
                segment.make_obsolete();
            } else {
                parts.push(LivePart::new(Part::Segment(segment), removed));
            }
        }
        parts
    }
}
