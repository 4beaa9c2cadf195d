//! Metadata by field, for evaluating a condition on all documents at once.
//!
//! Two ordered maps hold it. One maps a field (its parent field and key) to postings: the positions of the
//! documents that have it. The other maps a field and a value to the postings of the documents with that value. A
//! field or a value of one document costs one entry. Equality is one lookup, a range is a walk over the values
//! between its bounds ([`evaluate`]), and the rest is bitmap algebra.
//!
//! Invariants: for every filter the documents found here are those that [`Filter::matches`]; [`Columns::bytes`]
//! follows every change and is within a quarter of the real memory.
//!
//! [`Filter::matches`]: super::filter::Filter::matches

mod cost;
pub(super) mod evaluate;
pub(super) mod facet;
mod fields;
mod numbers;
mod postings;
mod span;
#[cfg(test)]
pub(super) mod tests;

use std::collections::btree_map::Entry;
use std::ops::Bound;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::filter::{Finite, Path, Scalar};
use super::groups::Groups;
use cost::{VALUE_BYTES, Values, text_bytes};
use fields::{FieldId, Fields, ROOT};
use postings::Postings;

/// The metadata of a collection's documents, by position in the index.
#[derive(Default)]
pub(super) struct Columns {
    /// All documents, also those without metadata.
    all: RoaringBitmap,
    fields: Fields,
    /// Documents by the value of a field, or of an element of it.
    values: Values,
    /// Bytes of the map of values.
    value_bytes: usize,
}

/// A field of a document, found while its metadata is traversed.
#[derive(Clone, Copy)]
struct Met<'m> {
    parent: FieldId,
    key: &'m str,
    value: &'m Value,
    /// True if the field lies in an object in a list.
    in_list: bool,
}

impl Columns {
    /// Inserts a document at a free position.
    pub(super) fn insert(&mut self, position: u32, metadata: Option<&Map<String, Value>>) {
        self.all.insert(position);
        for met in fields_of(ROOT, metadata, false) {
            self.insert_field(position, met);
        }
    }

    fn insert_field(&mut self, position: u32, met: Met<'_>) {
        let is_list = met.in_list || met.value.is_array();
        let id = self.fields.enter(met.parent, met.key, position, is_list);
        self.insert_value(position, id, met.value, is_list);
    }

    fn insert_value(&mut self, position: u32, field: FieldId, value: &Value, in_list: bool) {
        match value {
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.insert_value(position, field, element, true))
            }
            Value::Object(inner) => {
                fields_of(field, Some(inner), in_list).for_each(|met| self.insert_field(position, met));
            }
            one => {
                let Some(scalar) = Scalar::of(one) else { return };
                let text = text_bytes(&scalar);
                match self.values.entry((field, scalar)) {
                    Entry::Occupied(mut entry) => {
                        let postings = entry.get_mut();
                        let before = postings.heap_bytes();
                        postings.insert(position);
                        self.value_bytes = self.value_bytes - before + postings.heap_bytes();
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(Postings::One(position));
                        self.value_bytes += VALUE_BYTES + text;
                    }
                }
            }
        }
    }

    /// Removes the document at a position, with the metadata that it was inserted with.
    pub(super) fn remove(&mut self, position: u32, metadata: Option<&Map<String, Value>>) {
        self.all.remove(position);
        let mut fields = Vec::new();
        for met in fields_of(ROOT, metadata, false) {
            self.remove_values(position, met, &mut fields);
        }
        // A field goes after all fields inside it, and after its last value.
        for (parent, key) in fields.into_iter().rev() {
            self.fields.leave(parent, key, position);
        }
    }

    fn remove_values<'m>(&mut self, position: u32, met: Met<'m>, fields: &mut Vec<(FieldId, &'m str)>) {
        let Some(id) = self.fields.id(met.parent, met.key) else { return };
        fields.push((met.parent, met.key));
        self.remove_value(position, id, met.value, fields);
    }

    fn remove_value<'m>(
        &mut self,
        position: u32,
        field: FieldId,
        value: &'m Value,
        fields: &mut Vec<(FieldId, &'m str)>,
    ) {
        match value {
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.remove_value(position, field, element, fields));
            }
            Value::Object(inner) => {
                fields_of(field, Some(inner), false).for_each(|met| self.remove_values(position, met, fields));
            }
            one => {
                let Some(scalar) = Scalar::of(one) else { return };
                let text = text_bytes(&scalar);
                let key = (field, scalar);
                let Some(postings) = self.values.get_mut(&key) else { return };
                let before = postings.heap_bytes();
                if postings.remove(position) {
                    self.value_bytes = self.value_bytes - before + postings.heap_bytes();
                } else {
                    self.values.remove(&key);
                    self.value_bytes -= VALUE_BYTES + text + before;
                }
            }
        }
    }

    /// Bytes of fields, values and postings.
    pub(super) fn bytes(&self) -> usize {
        self.value_bytes + self.fields.bytes()
    }

    /// Upper bound on the growth of [`Columns::bytes`] when a document with this metadata is added. Documents that
    /// are added together may share new fields and values, which this counts for each; their real growth is known
    /// afterwards.
    pub(super) fn cost_of(&self, metadata: Option<&Map<String, Value>>) -> usize {
        cost::of(&self.fields, &self.values, metadata)
    }

    /// Number of fields, those in objects included.
    pub(super) fn n_fields(&self) -> usize {
        self.fields.len()
    }

    /// Calls `new` with the keys of each field of this metadata that no document has yet, from the outside in.
    pub(super) fn new_fields<'m>(&self, metadata: &'m Map<String, Value>, new: &mut impl FnMut(&[&'m str])) {
        let mut keys = Vec::new();
        metadata.iter().for_each(|(key, value)| self.new_field(Some(ROOT), key, value, &mut keys, new));
    }

    fn new_field<'m>(
        &self,
        parent: Option<FieldId>,
        key: &'m str,
        value: &'m Value,
        keys: &mut Vec<&'m str>,
        new: &mut impl FnMut(&[&'m str]),
    ) {
        keys.push(key);
        let id = parent.and_then(|parent| self.fields.id(parent, key));
        if id.is_none() {
            new(keys);
        }
        each_object(value, &mut |inner| {
            inner.iter().for_each(|(key, value)| self.new_field(id, key, value, keys, new));
        });
        keys.pop();
    }

    /// The positions of all documents.
    pub(super) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The positions of the documents whose group has this value.
    pub(super) fn in_group(&self, groups: &Groups, value: &Scalar) -> RoaringBitmap {
        let (mut found, mut hidden) = (RoaringBitmap::new(), RoaringBitmap::new());
        for path in &groups.by {
            let equal = self.equal(path, value) - &hidden;
            found |= equal;
            // The first reading that a document has counts.
            hidden |= self.present(path);
        }
        found
    }

    /// The positions of the documents whose field is this value, except where it lies in a list.
    fn equal(&self, path: &Path, value: &Scalar) -> RoaringBitmap {
        let Some((id, field)) = self.fields.at(path) else { return RoaringBitmap::new() };
        let mut found = self.values.get(&(id, value.clone())).map(Postings::to_bitmap).unwrap_or_default();
        if let Some(lists) = &field.lists {
            found -= lists.to_bitmap();
        }
        found
    }

    /// The positions of the documents that have a field.
    fn present(&self, path: &Path) -> RoaringBitmap {
        self.fields.at(path).map(|(_, field)| field.present.to_bitmap()).unwrap_or_default()
    }

    /// The numbers among a field's values that lie between bounds, in order.
    fn numbers(
        &self,
        field: FieldId,
        lower: Bound<Finite>,
        upper: Bound<Finite>,
    ) -> impl Iterator<Item = (Finite, &Postings)> {
        let number = |x: Finite| (field, Scalar::Number(x));
        self.values.range((lower.map(number), upper.map(number))).filter_map(|((_, value), postings)| match value {
            Scalar::Number(x) => Some((*x, postings)),
            _ => None,
        })
    }
}

/// The fields of an object.
fn fields_of(parent: FieldId, object: Option<&Map<String, Value>>, in_list: bool) -> impl Iterator<Item = Met<'_>> {
    object.into_iter().flatten().map(move |(key, value)| Met { parent, key, value, in_list })
}

/// Calls `see` with each object that a value is or, as a list, contains.
fn each_object<'m>(value: &'m Value, see: &mut impl FnMut(&'m Map<String, Value>)) {
    match value {
        Value::Object(inner) => see(inner),
        Value::Array(elements) => elements.iter().for_each(|element| each_object(element, see)),
        _ => {}
    }
}
