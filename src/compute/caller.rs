//! The caller of a call, whose share of the machine the call uses, and the terms on which it is computed.

use super::deadline::WhenFull;

/// A caller, by a number that says nothing about it. The server gives each connection one. Calls that name no caller
/// belong to the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Caller(u64);

impl Caller {
    /// The caller of a connection.
    pub fn of_connection(id: u64) -> Self {
        Self(id.wrapping_add(1)) // 0 is the default
    }
}

/// The terms of a call that goes to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The caller.
    pub caller: Caller,
    /// The choice when there is no room.
    pub when_full: WhenFull,
}

impl From<WhenFull> for Terms {
    fn from(when_full: WhenFull) -> Self {
        Self { caller: Caller::default(), when_full }
    }
}
