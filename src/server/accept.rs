//! The accept loop: connections are taken while there is room for them, and turned away by word of the log otherwise.
//!
//! Invariant: there are never more connections than [`Limits`] says, in all or of one address, so that descriptors are
//! left for files. What a connection may do is left to [`super::connection`].

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::open_files;

/// The first pause after the system could give no connection, and the longest: they double in between.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often the log says that connections are turned away.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all. Higher: more clients, more open files and memory.
    pub connections: usize,
    /// Connections of one IPv4 address, or of one IPv6 network of 64 bits. Lower: one client can take less from the
    /// others; clients behind one proxy count as one address.
    pub per_address: usize,
}

/// Why a connection was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Full,
    AddressFull,
}

/// Counts connections.
#[derive(Debug)]
struct Ledger {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was let in; dropping it makes room for another.
#[derive(Debug)]
pub struct Admitted {
    ledger: Arc<Ledger>,
    address: IpAddr,
}

impl Ledger {
    fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admitted, Refused> {
        let address = counted_as(peer);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.connections {
            return Err(Refused::Full);
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= self.limits.per_address {
            return Err(Refused::AddressFull);
        }
        *of_address += 1;
        open.total += 1;
        Ok(Admitted { ledger: Arc::clone(self), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.ledger.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(n) = open.by_address.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// The address that a peer is counted under. A host has a whole IPv6 network of 64 bits to choose addresses from.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Accepts connections for ever, and hands each to `serve`. Closes the listener when dropped.
pub async fn accept(listener: TcpListener, limits: Limits, serve: impl Fn(TcpStream, Admitted)) {
    let ledger = Arc::new(Ledger { limits, open: Mutex::default() });
    let (mut refusals, mut failures) = (Report::default(), Report::default());
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                match ledger.admit(peer.ip()) {
                    Ok(admitted) => {
                        // Fails only for a connection that is closed already, which its first read will tell.
                        let _ = stream.set_nodelay(true);
                        serve(stream, admitted);
                    }
                    Err(refused) => {
                        if let Some(turned_away) = refusals.due() {
                            report_refusal(refused, limits, peer.ip(), turned_away);
                        }
                    }
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // No descriptor or no memory: asking again at once would only keep a core busy.
                if let Some(times) = failures.due() {
                    let open_files = open_files::limit().unwrap_or_default();
                    tracing::warn!(%error, open_files, times, "connections wait: the system has none to give");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn report_refusal(refused: Refused, limits: Limits, address: IpAddr, turned_away: u64) {
    let open_files = open_files::limit().unwrap_or_default();
    match refused {
        Refused::Full => tracing::warn!(
            turned_away,
            max_connections = limits.connections,
            open_files,
            "connections are turned away: max_connections are open; it follows the limit of open files"
        ),
        Refused::AddressFull => tracing::warn!(
            turned_away,
            %address,
            max_connections_per_address = limits.per_address,
            "connections of one address are turned away: it has max_connections_per_address open; by default that is half \
             of what the limit of open files leaves"
        ),
    }
}

/// The peer gave up before its connection was accepted: that says nothing of the next one.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Decides which of many like events is written to the log: the first, and then one each [`REPORT_INTERVAL`].
#[derive(Debug, Default)]
struct Report {
    last: Option<Instant>,
    since: u64,
}

impl Report {
    /// Counts an event. If it is to be written: how many there were since the last that was.
    fn due(&mut self) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| last.elapsed() < REPORT_INTERVAL) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(connections: usize, per_address: usize) -> Arc<Ledger> {
        Arc::new(Ledger { limits: Limits { connections, per_address }, open: Mutex::default() })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_has_its_share_leaves_room_for_others() {
        let ledger = ledger(3, 2);
        let first = ledger.admit(ip("10.0.0.1")).unwrap();
        let _second = ledger.admit(ip("10.0.0.1")).unwrap();
        assert_eq!(ledger.admit(ip("10.0.0.1")).unwrap_err(), Refused::AddressFull);
        let _third = ledger.admit(ip("10.0.0.2")).unwrap();
        assert_eq!(ledger.admit(ip("10.0.0.3")).unwrap_err(), Refused::Full);
        drop(first);
        assert!(ledger.admit(ip("10.0.0.1")).is_ok());
        assert_eq!(ledger.open.lock().unwrap().by_address.len(), 2);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_a_mapped_one_as_ipv4() {
        assert_eq!(counted_as(ip("2001:db8::1")), counted_as(ip("2001:db8::ffff:1")));
        assert_ne!(counted_as(ip("2001:db8::1")), counted_as(ip("2001:db8:0:1::1")));
        assert_eq!(counted_as(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_events_the_log_gets_the_first_and_then_one_at_intervals_with_their_number() {
        let mut report = Report::default();
        assert_eq!(report.due(), Some(1));
        assert_eq!((report.due(), report.due()), (None, None));
        tokio::time::advance(REPORT_INTERVAL).await;
        assert_eq!(report.due(), Some(3));
    }
}
