//! What each interface carried: everything, and apart from it what was an application's.

use mast_proto::{InterfaceId, PathKey};

/// The header of UDP and IPv4 in bytes, without options.
const HEADERS_V4: u64 = 28;
/// The header of UDP and IPv6 in bytes, without extensions.
const HEADERS_V6: u64 = 48;

/// Bytes of one interface since the engine started. They only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// Received on the wire, with the headers of UDP and IP.
    pub rx: u64,
    /// Sent on the wire, likewise.
    pub tx: u64,
    /// Bytes of IP datagrams that came for the host.
    pub rx_carried: u64,
    /// Bytes of IP datagrams of the host that went out for the first time.
    pub tx_carried: u64,
}

/// The counts of all interfaces: a handful, so a list is the quickest.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Vec<(InterfaceId, Bytes)>);

impl Traffic {
    /// So many datagrams with so much UDP payload went out; so much of it was datagrams of the host.
    pub fn sent(&mut self, path: PathKey, count: usize, payload: usize, carried: usize) {
        let bytes = self.of_mut(path.interface);
        bytes.tx += payload as u64 + headers(path) * count as u64;
        bytes.tx_carried += carried as u64;
    }

    /// So many datagrams with so much UDP payload came in.
    pub fn received(&mut self, path: PathKey, count: usize, payload: usize) {
        self.of_mut(path.interface).rx += payload as u64 + headers(path) * count as u64;
    }

    /// So much of what came in was a datagram for the host.
    pub fn delivered(&mut self, path: PathKey, carried: usize) {
        self.of_mut(path.interface).rx_carried += carried as u64;
    }

    /// The counts of an interface.
    pub fn of(&self, interface: InterfaceId) -> Bytes {
        self.0.iter().find(|(id, _)| *id == interface).map(|(_, bytes)| *bytes).unwrap_or_default()
    }

    /// The interfaces that carried anything.
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceId> + '_ {
        self.0.iter().map(|(id, _)| *id)
    }

    fn of_mut(&mut self, interface: InterfaceId) -> &mut Bytes {
        let at = match self.0.iter().position(|(id, _)| *id == interface) {
            Some(at) => at,
            None => {
                self.0.push((interface, Bytes::default()));
                self.0.len() - 1
            }
        };
        &mut self.0[at].1
    }
}

fn headers(path: PathKey) -> u64 {
    if path.remote.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_count_and_copies_carry_nothing() {
        let path = |interface, remote: &str| {
            let remote: std::net::SocketAddr = remote.parse().unwrap();
            PathKey::direct(InterfaceId(interface), remote.ip(), remote)
        };
        let mut traffic = Traffic::default();
        traffic.sent(path(1, "192.0.2.1:1"), 1, 1036, 1000);
        traffic.sent(path(1, "192.0.2.1:1"), 1, 1036, 0);
        traffic.received(path(2, "[2001:db8::1]:1"), 1, 100);
        traffic.delivered(path(2, "[2001:db8::1]:1"), 64);
        assert_eq!(traffic.of(InterfaceId(1)), Bytes { tx: 2128, tx_carried: 1000, ..Bytes::default() });
        assert_eq!(traffic.of(InterfaceId(2)), Bytes { rx: 148, rx_carried: 64, ..Bytes::default() });
        assert_eq!(traffic.of(InterfaceId(3)), Bytes::default());
        assert_eq!(traffic.interfaces().count(), 2);
    }
}
