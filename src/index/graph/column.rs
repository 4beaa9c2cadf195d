//! A contiguous array of values: in memory while it is built, in a mapped file when it is finished.

use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;

use crate::machine::mapping::Mapping;

/// An array that is read as a slice.
#[derive(Clone)]
pub enum Column<T> {
    Owned(Vec<T>),
    /// Bytes of a file: a whole number of values, aligned for `T`.
    Mapped(Arc<Mapping>, Range<usize>),
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self::Owned(Vec::new())
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Self::Owned(values)
    }
}

impl<T: Pod> Deref for Column<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped(file, range) => bytemuck::cast_slice(&file[range.clone()]),
        }
    }
}

impl<T: Pod> Column<T> {
    /// The values for changes. Mapped values are copied first.
    pub fn to_mut(&mut self) -> &mut Vec<T> {
        if let Self::Mapped(..) = self {
            *self = Self::Owned(self.to_vec());
        }
        match self {
            Self::Owned(values) => values,
            Self::Mapped(..) => unreachable!("it was copied"),
        }
    }

    /// The memory in bytes. Mapped values take none.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Owned(values) => values.capacity() * size_of::<T>(),
            Self::Mapped(..) => 0,
        }
    }
}
