//! The fields that documents have, by parent field and key.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::postings::Postings;
use crate::collection::filter::Path;

/// Bytes of an entry in the map of fields, beside its key and its postings (measured: 122 where fields come in
/// order, 98 in any order).
pub(super) const FIELD_BYTES: usize = 110;

/// Bytes that a short text takes beyond its length: allocators round up.
pub(super) const TEXT_BYTES: usize = 8;

/// Number of a field. It is reused when no document has the field any more.
pub(super) type FieldId = u32;

/// Parent of the top-level fields.
pub(super) const ROOT: FieldId = 0;

/// A field that at least one document has.
pub(super) struct Field {
    id: FieldId,
    /// Documents that have the field.
    pub present: Postings,
    /// Documents where the field is a list, or lies in an object in one.
    pub lists: Option<Postings>,
}

#[derive(Default)]
pub(super) struct Fields {
    by_name: BTreeMap<Owned, Field>,
    /// Numbers that are free again.
    free: Vec<FieldId>,
    bytes: usize,
}

/// Lookup key of a field: its parent and its own key.
trait Name {
    fn parts(&self) -> (FieldId, &str);
}

struct Owned(FieldId, Box<str>);

impl Name for Owned {
    fn parts(&self) -> (FieldId, &str) {
        (self.0, &self.1)
    }
}

impl Name for (FieldId, &str) {
    fn parts(&self) -> (FieldId, &str) {
        *self
    }
}

/// Allows a lookup with a borrowed key.
impl<'n> Borrow<dyn Name + 'n> for Owned {
    fn borrow(&self) -> &(dyn Name + 'n) {
        self
    }
}

impl Ord for dyn Name + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for dyn Name + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Name + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Name + '_ {}

impl Ord for Owned {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Owned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Owned {}

impl Fields {
    /// Notes that the document at a position has a field, and if it lies in a list there. A document may have a
    /// field many times, in the objects of a list.
    pub(super) fn enter(&mut self, parent: FieldId, key: &str, position: u32, in_list: bool) -> FieldId {
        let name: &dyn Name = &(parent, key);
        if let Some(field) = self.by_name.get_mut(name) {
            let before = field.heap_bytes();
            field.present.insert(position);
            match &mut field.lists {
                _ if !in_list => {}
                Some(lists) => lists.insert(position),
                none => *none = Some(Postings::One(position)),
            }
            self.bytes = self.bytes - before + field.heap_bytes();
            return field.id;
        }
        // Used numbers are dense while none is free, so the next number is the number of fields plus one.
        let id = self.free.pop().unwrap_or_else(|| self.by_name.len() as FieldId + 1);
        let lists = in_list.then_some(Postings::One(position));
        self.by_name.insert(Owned(parent, key.into()), Field { id, present: Postings::One(position), lists });
        self.bytes += bytes_of_name(key);
        id
    }

    /// Notes that the document at a position no longer has a field. The field goes with its last document.
    pub(super) fn leave(&mut self, parent: FieldId, key: &str, position: u32) {
        let name: &dyn Name = &(parent, key);
        let Some(field) = self.by_name.get_mut(name) else { return };
        let before = field.heap_bytes();
        if field.lists.as_mut().is_some_and(|lists| !lists.remove(position)) {
            field.lists = None;
        }
        if field.present.remove(position) {
            self.bytes = self.bytes - before + field.heap_bytes();
            return;
        }
        self.free.push(field.id);
        self.by_name.remove(name);
        self.bytes -= before + bytes_of_name(key);
    }

    pub(super) fn get(&self, parent: FieldId, key: &str) -> Option<(FieldId, &Field)> {
        let name: &dyn Name = &(parent, key);
        self.by_name.get(name).map(|field| (field.id, field))
    }

    pub(super) fn id(&self, parent: FieldId, key: &str) -> Option<FieldId> {
        self.get(parent, key).map(|(id, _)| id)
    }

    /// The field at the end of a path.
    pub(super) fn at(&self, path: &Path) -> Option<(FieldId, &Field)> {
        let (last, outer) = path.keys().split_last()?;
        let parent = outer.iter().try_fold(ROOT, |parent, key| self.id(parent, key))?;
        self.get(parent, last)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Field {
    fn heap_bytes(&self) -> usize {
        self.present.heap_bytes() + self.lists.as_ref().map_or(0, Postings::heap_bytes)
    }
}

fn bytes_of_name(key: &str) -> usize {
    FIELD_BYTES + key.len() + TEXT_BYTES
}
