//! The accept loop. Admits connections up to a limit; closes further ones, and the log says so.
//!
//! Invariant: there are never more connections than [`Limits`] allows, in total or from one address, so file
//! descriptors are left for files. Those of a Unix socket have no address. The connections themselves are left to
//! [`super::connection`].

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection_counts::ConnectionCounts;
use super::listen::{Incoming, Listener};
use super::open_files;

/// The first and the longest pause after the system could not give a connection. Each pause doubles the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Interval of the log line about refused connections.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The limits of open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in total. Higher: more clients, more open files and memory.
    pub connections: usize,
    /// Connections from one IPv4 address or one IPv6 /64 network. Lower: one client leaves more to the others. The
    /// clients behind a proxy count as one address.
    pub per_address: usize,
}

/// The reason why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Full,
    AddressFull(IpAddr),
}

/// Counts the open connections.
#[derive(Debug)]
struct ConnectionLimiter {
    limits: Limits,
    open: Mutex<Open>,
    counts: Arc<ConnectionCounts>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The permit of an admitted connection. Dropping it frees the permit.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    address: Option<IpAddr>,
}

impl ConnectionLimiter {
    fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<ConnectionPermit, Refused> {
        let address = peer.map(counted_as);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.connections {
            self.counts.refuse_in_all();
            return Err(Refused::Full);
        }
        if let Some(address) = address {
            let of_address = open.by_address.entry(address).or_default();
            if *of_address >= self.limits.per_address {
                self.counts.refuse_of_address();
                return Err(Refused::AddressFull(address));
            }
            *of_address += 1;
        }
        open.total += 1;
        self.counts.admit();
        Ok(ConnectionPermit { limiter: Arc::clone(self), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        self.limiter.counts.end();
        let Some(address) = self.address else { return };
        if let Some(n) = open.by_address.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// The address under which a peer is counted. A host can choose its addresses from a whole IPv6 /64 network.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Accepts connections for ever, and passes each to `serve`. Dropping the future closes the listener.
pub async fn accept(
    listener: Listener,
    limits: Limits,
    counts: Arc<ConnectionCounts>,
    serve: impl Fn(Incoming, ConnectionPermit),
) {
    let limiter = Arc::new(ConnectionLimiter { limits, open: Mutex::default(), counts });
    let (mut refusals, mut failures) = (Report::default(), Report::default());
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok(incoming) => {
                pause = FIRST_PAUSE;
                match limiter.admit(incoming.address().as_ref().map(SocketAddr::ip)) {
                    Ok(admitted) => serve(incoming, admitted),
                    Err(refused) => {
                        if let Some(refused_connections) = refusals.due(Instant::now()) {
                            report_refusal(refused, limits, refused_connections);
                        }
                    }
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // No descriptor or no memory is left: an immediate retry would only keep a core busy.
                if let Some(times) = failures.due(Instant::now()) {
                    let open_files = open_files::limit().unwrap_or_default();
                    let reason = "connections wait: the system has no descriptor or memory";
                    tracing::warn!(%error, open_files, times, "{reason}");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn report_refusal(refused: Refused, limits: Limits, refused_connections: u64) {
    let open_files = open_files::limit().unwrap_or_default();
    match refused {
        Refused::Full => tracing::warn!(
            refused_connections,
            max_connections = limits.connections,
            open_files,
            "connections are refused: max_connections are open; raise it, or the limit of open files if it is auto"
        ),
        Refused::AddressFull(address) => tracing::warn!(
            refused_connections,
            %address,
            max_connections_per_address = limits.per_address,
            "connections of one address are refused: it has max_connections_per_address open; raise it, or, if it is \
             auto, max_connections or the limit of open files that this follows"
        ),
    }
}

/// Returns true if the error is about one connection only: its peer gave up before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Selects the events that are written to the log: the first, and then one in each [`REPORT_INTERVAL`].
#[derive(Debug, Default)]
struct Report {
    last: Option<Instant>,
    since: u64,
}

impl Report {
    /// Counts an event. Returns the number of events since the last log line if a new line is due.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < REPORT_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(connections: usize, per_address: usize) -> Arc<ConnectionLimiter> {
        Arc::new(ConnectionLimiter {
            limits: Limits { connections, per_address },
            open: Mutex::default(),
            counts: Arc::default(),
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn peer(text: &str) -> Option<IpAddr> {
        Some(ip(text))
    }

    #[test]
    fn an_address_cannot_take_the_connections_of_others() {
        let limiter = limiter(3, 2);
        let first = limiter.admit(peer("10.0.0.1")).unwrap();
        let _second = limiter.admit(peer("10.0.0.1")).unwrap();
        assert_eq!(limiter.admit(peer("10.0.0.1")).unwrap_err(), Refused::AddressFull(ip("10.0.0.1")));
        let _third = limiter.admit(peer("10.0.0.2")).unwrap();
        assert_eq!(limiter.admit(peer("10.0.0.3")).unwrap_err(), Refused::Full);
        assert_eq!(limiter.admit(None).unwrap_err(), Refused::Full);
        drop(first);
        assert!(limiter.admit(peer("10.0.0.1")).is_ok());
        let counts = &limiter.counts;
        assert_eq!((counts.accepted(), counts.open()), (4, 2), "the last one was dropped at once");
        assert_eq!((counts.refused_in_all(), counts.refused_of_address()), (2, 1));
        assert_eq!(limiter.open.lock().unwrap().by_address.len(), 2);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_a_mapped_address_as_ipv4() {
        assert_eq!(counted_as(ip("2001:db8::1")), counted_as(ip("2001:db8::ffff:1")));
        assert_ne!(counted_as(ip("2001:db8::1")), counted_as(ip("2001:db8:0:1::1")));
        assert_eq!(counted_as(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }

    #[test]
    fn the_log_gets_the_first_event_and_then_one_in_each_interval_with_a_count() {
        let (mut report, now) = (Report::default(), Instant::now());
        assert_eq!(report.due(now), Some(1));
        assert_eq!((report.due(now), report.due(now)), (None, None));
        assert_eq!(report.due(now + REPORT_INTERVAL), Some(3));
    }
}
