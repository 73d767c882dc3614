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

impl Routing {
    /// The routes to these peers. Where two claim the same, the first has it.
    pub fn build<'a>(peers: impl IntoIterator<Item = (PeerId, &'a Peer)>) -> (Self, VirtualNetwork) {
        let mut routing = Self::default();
        let mut network = VirtualNetwork::default();
        for (id, peer) in peers {
            let mut own = |routing: &mut Self, address: IpAddr| {
                if routing.own.insert(address, id).is_none() {
                    network.addresses.push(address);
                }
            };
            if let Some((local, remote)) = peer.eid_v6() {
                own(&mut routing, local.into());
                routing.add(&mut network.routes, Prefix::host(remote.into()), id, Some(local.into()));
            }
            if let Some(pair) = peer.eid_v4() {
                own(&mut routing, pair.own.into());
                routing.add(&mut network.routes, Prefix::host(pair.other.into()), id, Some(pair.own.into()));
            }
            if let Some(plain) = &peer.config.plain {
                for address in &plain.addresses {
                    own(&mut routing, address.address);
                }
                for range in &plain.allowed {
                    let source = plain.addresses.iter().map(|a| a.address);
                    let source = source.clone().find(|a| a.is_ipv4() == range.address.is_ipv4());
                    routing.add(&mut network.routes, *range, id, source);
                }
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
