//! Counts: the number of documents that match a filter, and the values that they have in some fields.
//!
//! The values are counted by columns while commits go on. If one of the documents to be counted changes meanwhile,
//! they are counted again. So counting delays no commit, with one exception: after [`ATTEMPTS`] the documents stay
//! locked while they are counted: 4 ms for 100,000 different values.
//!
//! Invariant: all numbers of one answer are exact, and of one moment.

#[cfg(test)]
mod tests;

use std::ops::Deref;

use roaring::RoaringBitmap;

use super::columns::facet::{self, Facet, FacetError, FacetField};
use super::documents::Documents;
use super::filter::Filter;
use super::single::Collection;
use crate::compute::stop::{Stop, Stopped};

/// Attempts that changes may spoil before the documents stay locked.
const ATTEMPTS: usize = 3;

/// The fields to count, and the documents among which.
#[derive(Debug, Clone)]
pub struct FacetQuery {
    /// Condition on the documents; `None`: all.
    pub filter: Option<Filter>,
    /// The fields.
    pub fields: Vec<FacetField>,
    /// Most bytes of the returned values together.
    pub max_bytes: usize,
}

/// The values of fields among some documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Facets {
    /// Number of documents that match.
    pub documents: u64,
    /// One for each field, in order.
    pub fields: Vec<Facet>,
}

impl Collection {
    /// The number of documents that match, or of all.
    pub fn count(&self, filter: Option<&Filter>, stop: &Stop) -> Result<u64, Stopped> {
        self.chosen(filter, stop).map(|(documents, _)| documents.len())
    }

    /// Counts the values of fields.
    pub fn facets(&self, query: &FacetQuery, stop: &Stop) -> Result<Facets, FacetError> {
        for _ in 0..ATTEMPTS {
            let (among, seen) = self.chosen(query.filter.as_ref(), stop)?;
            let facets = query.count(&among, &|| self.read(), stop)?;
            if !self.read().changes().touched(&among, seen) {
                return Ok(facets);
            }
        }
        let here = self.read();
        let among = match &query.filter {
            Some(filter) => here.one_each(here.positions(filter, stop)?),
            None => here.one_each(here.all().clone()),
        };
        query.count(&among, &|| &*here, stop)
    }

    /// A position of each document that matches, as of a number of changes.
    fn chosen(&self, filter: Option<&Filter>, stop: &Stop) -> Result<(RoaringBitmap, u64), Stopped> {
        let mut matching = filter.map(|filter| self.matching(filter, stop)).transpose()?;
        let here = self.read();
        let positions = match &mut matching {
            Some(matching) => {
                matching.catch_up(&here, stop)?;
                matching.positions().clone()
            }
            None => here.all().clone(),
        };
        Ok((here.one_each(positions), here.changes().total()))
    }
}

impl FacetQuery {
    fn count<G>(&self, among: &RoaringBitmap, lock: &impl Fn() -> G, stop: &Stop) -> Result<Facets, FacetError>
    where
        G: Deref<Target = Documents>,
    {
        let mut room = self.max_bytes;
        let fields = self.fields.iter().map(|field| facet::count(field, among, &mut room, lock, stop));
        Ok(Facets { documents: among.len(), fields: fields.collect::<Result<_, _>>()? })
    }
}
