//! Processors without tiles: no value of these types can exist, so nothing here is ever called.

use std::mem::MaybeUninit;

use super::{Block, Sums};
use crate::machine::cpu::Level;

/// An empty type.
#[derive(Clone, Copy)]
pub(in crate::kernel) enum Tiles {}

/// An empty type.
pub(in crate::kernel) enum Shaped {}

impl Tiles {
    pub(in crate::kernel) fn of(_: Level) -> Option<Self> {
        None
    }

    pub(in crate::kernel) fn shape(self) -> Shaped {
        match self {}
    }
}

impl Shaped {
    pub(in crate::kernel) unsafe fn dot_bytes<'a>(&self, _: Block, _: &'a mut MaybeUninit<Sums<i32>>) -> &'a Sums<i32> {
        match *self {}
    }

    pub(in crate::kernel) unsafe fn dot_split<'a>(
        &self,
        _: Block,
        _: *const i32,
        _: &'a mut MaybeUninit<Sums<f32>>,
    ) -> &'a Sums<f32> {
        match *self {}
    }

    pub(in crate::kernel) fn multiply_bytes(&self, _: usize) -> usize {
        match *self {}
    }

    pub(in crate::kernel) fn multiply_bf16(&self, _: usize) -> usize {
        match *self {}
    }
}
