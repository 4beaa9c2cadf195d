//! The caller of a call, whose share of the machine the call uses, and the terms on which it is computed.

use super::deadline::WhenFull;

/// A caller, by a number that says nothing about it. The server gives each connection one. Calls that name no caller
/// belong to the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Caller(u64);

/// The bit that tells the streams of a caller from its other calls.
const STREAMS: u64 = 1 << 62;

impl Caller {
    /// The caller of a connection.
    pub fn of_connection(id: u64) -> Self {
        Self(id.wrapping_add(1)) // 0 is the default
    }

    /// The caller that the streams of this one count as. A bulk load does not delay the small calls of its own client.
    pub fn of_streams(self) -> Self {
        Self(self.0 ^ STREAMS)
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
