//! Processors without tiles: nothing here can be made, and so nothing is ever called.

use super::{Block, Sums};

/// There is none.
#[derive(Clone, Copy)]
pub(in crate::kernel) enum Tiles {}

/// There is none.
pub(in crate::kernel) enum Shaped {}

impl Tiles {
    pub(in crate::kernel) fn detect() -> Option<Self> {
        None
    }

    pub(in crate::kernel) fn shape(self) -> Shaped {
        match self {}
    }
}

impl Shaped {
    pub(in crate::kernel) unsafe fn dot_bytes(&self, _: Block, _: &mut Sums<i32>) {
        match *self {}
    }

    pub(in crate::kernel) unsafe fn dot_pairs(&self, _: Block, _: *const i32, _: &mut Sums<f32>) {
        match *self {}
    }
}
