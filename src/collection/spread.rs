//! Documents that are spread evenly over a collection.

use super::document::DocId;
use super::single::Collection;

impl Collection {
    /// Ids of `most` documents, or of all if there are fewer, at even distances in the order in which they came. The
    /// same documents that came in the same order give the same ids.
    pub fn spread(&self, most: usize) -> Vec<DocId> {
        let here = self.read();
        let all = here.one_each(here.all().clone());
        let (len, most) = (all.len(), all.len().min(most as u64));
        let at = |n: u64| u32::try_from(n * len / most).ok().and_then(|n| all.select(n));
        let positions = (0..most).filter_map(at);
        positions.filter_map(|position| here.at_position(position)).map(|(id, _)| id.clone()).collect()
    }
}
