//! The server: its phase, its connections, its certificate, the memory of its messages, and its limits.

use std::fmt;

use super::families::{Families, Family};
use crate::budget::ByteBudget;
use crate::server::{self, Expiry, Monitor, Phase};

/// The limits of a server.
pub struct Limits {
    calls: usize,
    connections: usize,
    messages: ByteBudget,
}

impl Limits {
    /// The limits in these options.
    pub fn of(options: &server::Options) -> Self {
        let connections = options.connections.connections;
        Self { calls: options.max_calls, connections, messages: options.message_budget.clone() }
    }
}

/// Writes the families of the server.
pub fn write(families: &mut Families<'_>, monitor: &Monitor, limits: &Limits) -> fmt::Result {
    let is_serving = u64::from(monitor.phase() == Phase::Serving);
    families
        .gauge(Family::of("cognate_ready", "1 while calls are answered, as the health service says."), is_serving)?;
    families.gauge(Family::of("cognate_calls_limit", "Calls in progress at most (max_calls)."), limits.calls as u64)?;
    let counts = monitor.connections();
    families.gauge(Family::of("cognate_connections_open", "Open connections."), counts.open())?;
    let limit = limits.connections as u64;
    families.gauge(Family::of("cognate_connections_limit", "Open connections at most (max_connections)."), limit)?;
    families
        .counter(Family::of("cognate_connections_accepted", "Connections that were accepted."), counts.accepted())?;
    let refused = [("all", counts.refused_in_all()), ("address", counts.refused_of_address())];
    families.counters(
        Family::of("cognate_connections_refused", "Connections that were refused, by the limit that they exceeded."),
        refused.map(|(limit, n)| (vec![("limit", limit.into())], n)),
    )?;
    families.gauge(
        Family::seconds("cognate_certificate_expiry", "End of the server's certificate, in seconds since 1970."),
        monitor.certificate_expiry().map(Expiry::seconds),
    )?;
    families.gauge(
        Family::bytes("cognate_message_budget_used", "Memory of requests and answers on their way."),
        limits.messages.in_use() as u64,
    )?;
    families.gauge(
        Family::bytes("cognate_message_budget_limit", "Memory of requests and answers at most (message_budget)."),
        limits.messages.total() as u64,
    )
}
