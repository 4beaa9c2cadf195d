//! A vector of the index, in memory or in a file.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::stored_rows::StoredRows;

/// A vector of length 1, `[dimensions]`. Cheap to clone. It stays valid after its slot is removed.
#[derive(Clone)]
pub struct Vector(Values);

#[derive(Clone)]
enum Values {
    Memory(Arc<[f32]>),
    File(Arc<StoredRows>, u32),
}

impl Vector {
    /// A row of a segment's file.
    pub(super) fn stored(rows: &Arc<StoredRows>, number: usize) -> Vector {
        Vector(Values::File(Arc::clone(rows), number as u32))
    }

    /// True if it has memory of its own.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.0, Values::Memory(_))
    }
}

impl From<Arc<[f32]>> for Vector {
    fn from(values: Arc<[f32]>) -> Vector {
        Vector(Values::Memory(values))
    }
}

impl Deref for Vector {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        match &self.0 {
            Values::Memory(values) => values,
            Values::File(rows, number) => rows.row(*number as usize),
        }
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}
