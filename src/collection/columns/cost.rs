//! Estimate of the bytes that a document adds to the columns, made before it is added.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::{FIELD_BYTES, FieldId, Fields, ROOT, TEXT_BYTES};
use super::postings::Postings;
use crate::collection::filter::Scalar;

/// Bytes of an entry in the map of values, beside its text and its postings: the map's nodes are between six
/// elevenths and three quarters full (measured: 93 bytes where values come in order, 74 in any order).
pub(super) const VALUE_BYTES: usize = 83;

/// Documents by the value of a field, or of an element of it.
pub(super) type Values = BTreeMap<(FieldId, Scalar), Postings>;

/// Bytes of a value's text.
pub(super) fn text_bytes(scalar: &Scalar) -> usize {
    match scalar {
        Scalar::Text(text) if !text.is_empty() => text.len() + TEXT_BYTES,
        _ => 0,
    }
}

/// Upper bound on the growth of the columns by a document with this metadata.
pub(super) fn of(fields: &Fields, values: &Values, metadata: Option<&Map<String, Value>>) -> usize {
    let mut cost = Cost { fields, values, bytes: 0, new: BTreeMap::new(), seen: BTreeSet::new() };
    for (key, value) in metadata.into_iter().flatten() {
        cost.add_field(At::Here(ROOT), key, value, false);
    }
    cost.bytes
}

/// A field: an existing one, or one that the document brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Here(FieldId),
    New(usize),
}

struct Cost<'m> {
    fields: &'m Fields,
    values: &'m Values,
    bytes: usize,
    /// Fields that the document brings, with their numbers.
    new: BTreeMap<(At, &'m str), usize>,
    /// Fields and values that were counted already. A list may repeat them.
    seen: BTreeSet<(At, Option<Scalar>)>,
}

impl<'m> Cost<'m> {
    fn add_field(&mut self, parent: At, key: &'m str, value: &'m Value, in_list: bool) {
        let here = match parent {
            At::Here(parent) => self.fields.get(parent, key),
            At::New(_) => None,
        };
        let at = match here {
            Some((id, field)) => {
                if !in_list || self.seen.insert((At::Here(id), None)) {
                    self.bytes += field.present.cost_of_another();
                    if in_list || value.is_array() {
                        self.bytes += field.lists.as_ref().map_or(0, Postings::cost_of_another);
                    }
                }
                At::Here(id)
            }
            None => {
                let number = self.new.len();
                let known = *self.new.entry((parent, key)).or_insert(number);
                if known == number {
                    self.bytes += FIELD_BYTES + key.len() + TEXT_BYTES;
                }
                At::New(known)
            }
        };
        self.add_value(at, value, in_list);
    }

    fn add_value(&mut self, at: At, value: &'m Value, in_list: bool) {
        match value {
            Value::Array(elements) => elements.iter().for_each(|element| self.add_value(at, element, true)),
            Value::Object(inner) => inner.iter().for_each(|(key, value)| self.add_field(at, key, value, in_list)),
            one => {
                let Some(scalar) = Scalar::of(one) else { return };
                let text = text_bytes(&scalar);
                let key = match at {
                    At::Here(field) => self.values.get(&(field, scalar.clone())),
                    At::New(_) => None,
                };
                if !in_list || self.seen.insert((at, Some(scalar))) {
                    self.bytes += key.map_or(VALUE_BYTES + text, Postings::cost_of_another);
                }
            }
        }
    }
}
