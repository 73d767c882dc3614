//! Which peer an inner address belongs to, both ways: where datagrams of the host go, and what a peer may send.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::inner;
use crate::os::{Prefix, VirtualNetwork};
use crate::peer::{Peer, PeerId};

/// Inner destination to peer. Built anew whenever a peer or its EIDs change, which is rare.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    exact: HashMap<IpAddr, PeerId>,
    /// Longest first.
    ranges: Vec<(Prefix, PeerId)>,
    /// This host's addresses, and the peer that each is for; the IPv6 EID is for all, and named with the first.
    own: HashMap<IpAddr, PeerId>,
}

/// Why a datagram from inside a peer's session is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not an IP datagram.
    Malformed,
    /// Its source is not the peer's.
    Source,
    /// Its destination is not this host's.
    Destination,
}

impl Refused {
    /// The name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "inner_malformed",
            Self::Source => "spoofed_source",
            Self::Destination => "foreign_destination",
        }
    }
}

/// What belongs to a peer.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// This host's addresses towards it.
    pub own: Vec<IpAddr>,
    /// Its addresses, each with the preferred source.
    pub ranges: Vec<(Prefix, Option<IpAddr>)>,
}

impl Claim {
    /// The EIDs agreed with a peer, and what its configuration says.
    pub fn of(peer: &Peer) -> Self {
        let mut claim = Self::default();
        let v6 = peer.eid_v6().map(|(own, other)| (IpAddr::from(own), IpAddr::from(other)));
        let v4 = peer.eid_v4().map(|pair| (IpAddr::from(pair.own), IpAddr::from(pair.other)));
        for (own, other) in v6.into_iter().chain(v4) {
            claim.own.push(own);
            claim.ranges.push((Prefix::host(other), Some(own)));
        }
        if let Some(plain) = &peer.config.plain {
            let addresses: Vec<_> = plain.addresses.iter().map(|a| a.address).collect();
            for range in plain.ranges() {
                let source = addresses.iter().copied().find(|a| a.is_ipv4() == range.address.is_ipv4());
                claim.ranges.push((range, source));
            }
            claim.own.extend(addresses);
        }
        claim
    }
}

impl Routing {
    /// The routes to these peers. Where two claim the same, the first has it.
    pub fn build(claims: impl IntoIterator<Item = (PeerId, Claim)>) -> (Self, VirtualNetwork) {
        let mut routing = Self::default();
        let mut network = VirtualNetwork::default();
        for (id, claim) in claims {
            for own in claim.own {
                // The IPv6 EID is the same for all peers.
                routing.own.entry(own).or_insert_with(|| {
                    network.addresses.push(own);
                    id
                });
            }
            for (range, source) in claim.ranges {
                routing.add(&mut network.routes, range, id, source);
            }
        }
        routing.ranges.sort_by_key(|(range, _)| std::cmp::Reverse(range.length));
        (routing, network)
    }

    fn add(
        &mut self,
        routes: &mut Vec<(Prefix, Option<IpAddr>)>,
        range: Prefix,
        id: PeerId,
        source: Option<IpAddr>,
    ) {
        let host = Prefix::host(range.address).length == range.length;
        let taken = if host {
            self.exact.contains_key(&range.address)
        } else {
            self.ranges.iter().any(|(r, _)| r.length == range.length && r.contains(range.address))
        };
        if taken {
            return;
        }
        if host {
            self.exact.insert(range.address, id);
        } else {
            self.ranges.push((range, id));
        }
        routes.push((range, source));
    }

    /// The peer that an address belongs to.
    pub fn peer(&self, address: IpAddr) -> Option<PeerId> {
        self.exact
            .get(&address)
            .or_else(|| self.ranges.iter().find(|(range, _)| range.contains(address)).map(|(_, id)| id))
            .copied()
    }

    /// Whether a peer may send this datagram to this host.
    pub fn admit(&self, from: PeerId, datagram: &[u8]) -> Result<(), Refused> {
        let (source, destination) = inner::addresses(datagram).ok_or(Refused::Malformed)?;
        if self.peer(source) != Some(from) {
            return Err(Refused::Source);
        }
        if self.own.contains_key(&destination) { Ok(()) } else { Err(Refused::Destination) }
    }

    /// Whether an IPv4 address is in use, as this host's own or as that of a peer other than `but`.
    pub fn is_taken(&self, address: Ipv4Addr, but: PeerId) -> bool {
        let address = IpAddr::from(address);
        [self.exact.get(&address), self.own.get(&address)].into_iter().flatten().any(|id| *id != but)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn claim(own: &[&str], ranges: &[&str]) -> Claim {
        let own: Vec<_> = own.iter().map(|a| ip(a)).collect();
        Claim { ranges: ranges.iter().map(|r| (prefix(r), own.first().copied())).collect(), own }
    }

    fn datagram(source: &str, destination: &str) -> Vec<u8> {
        let mut out = vec![0x45; 12];
        for address in [source, destination] {
            let IpAddr::V4(v4) = ip(address) else { panic!() };
            out.extend(v4.octets());
        }
        out
    }

    fn routing() -> (Routing, VirtualNetwork) {
        Routing::build([
            (PeerId(1), claim(&["fd4d::1", "100.64.0.2"], &["fd4d::2/128", "100.64.0.3/32"])),
            (PeerId(2), claim(&["10.8.0.2"], &["10.8.0.0/24", "0.0.0.0/0"])),
            (PeerId(3), claim(&["fd4d::1", "10.9.0.2"], &["10.8.0.128/25", "10.8.0.0/24", "100.64.0.3/32"])),
        ])
    }

    #[test]
    fn the_longest_prefix_wins_and_the_first_of_two_alike() {
        let (routing, network) = routing();
        for (address, peer) in [
            ("100.64.0.3", Some(1)),
            ("fd4d::2", Some(1)),
            ("fd4d::3", None),
            ("10.8.0.1", Some(2)),
            ("10.8.0.200", Some(3)),
            ("192.0.2.1", Some(2)),
        ] {
            assert_eq!(routing.peer(ip(address)), peer.map(PeerId), "{address}");
        }
        assert_eq!(network.addresses, ["fd4d::1", "100.64.0.2", "10.8.0.2", "10.9.0.2"].map(ip));
        assert_eq!(network.routes.len(), 5);
        assert!(network.routes.contains(&(prefix("0.0.0.0/0"), Some(ip("10.8.0.2")))));
    }

    #[test]
    fn a_peer_sends_from_its_own_addresses_to_this_host_only() {
        let (routing, _) = routing();
        let admit = |peer, source, destination| routing.admit(PeerId(peer), &datagram(source, destination));
        assert_eq!(admit(1, "100.64.0.3", "100.64.0.2"), Ok(()));
        assert_eq!(admit(2, "192.0.2.1", "10.8.0.2"), Ok(()));
        assert_eq!(admit(2, "100.64.0.3", "10.8.0.2"), Err(Refused::Source));
        assert_eq!(admit(1, "10.8.0.1", "100.64.0.2"), Err(Refused::Source));
        assert_eq!(admit(2, "192.0.2.1", "192.168.1.1"), Err(Refused::Destination));
        assert_eq!(routing.admit(PeerId(1), &[0x45; 19]), Err(Refused::Malformed));
        assert_eq!(routing.admit(PeerId(1), &[]), Err(Refused::Malformed));
    }

    #[test]
    fn eids_in_use_are_taken_for_all_others() {
        let (routing, _) = routing();
        for (address, by_first, by_second) in
            [([100, 64, 0, 2], false, true), ([100, 64, 0, 3], false, true), ([100, 64, 0, 4], false, false)]
        {
            assert_eq!(routing.is_taken(address.into(), PeerId(1)), by_first);
            assert_eq!(routing.is_taken(address.into(), PeerId(2)), by_second);
        }
    }
}
