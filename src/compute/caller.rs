//! The caller of a call, whose share of the machine the call uses, and the terms on which it is computed.

use sha2::{Digest, Sha256};

use super::deadline::WhenFull;

/// A caller, by a number. The server gives each connection one, and each principal another, whatever its connections.
/// Calls that name no caller belong to the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Caller(u64);

/// The bit that tells the streams of a caller from its other calls.
const STREAMS: u64 = 1 << 62;

impl Caller {
    /// The bit that principals have, and connections have not.
    const PRINCIPAL: u64 = 1 << 63;

    /// The caller of a connection.
    pub fn of_connection(id: u64) -> Self {
        Self(id.wrapping_add(1) & !Self::PRINCIPAL) // 0 is the default
    }

    /// The caller of a principal, the same for all its connections. The number is a digest, so that nobody can choose a
    /// name with the number of another.
    pub fn of_principal(name: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(name));
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]) | Self::PRINCIPAL)
    }

    /// The number of a principal; `None`: the caller is a connection.
    pub fn principal(self) -> Option<u64> {
        (self.0 & Self::PRINCIPAL != 0).then_some(self.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_and_connections_are_different_callers() {
        let (a, b) = (Caller::of_principal("a"), Caller::of_principal("b"));
        assert_eq!(a, Caller::of_principal("a"));
        assert!(a != b && a.principal().is_some() && a.principal() != b.principal());
        for id in [0, 1, u64::MAX >> 1, u64::MAX - 1] {
            assert_eq!(Caller::of_connection(id).principal(), None, "{id}");
        }
    }
}
