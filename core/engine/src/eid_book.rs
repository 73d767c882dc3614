//! The IPv4 EIDs of all contexts of this host, seen by one of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use mast_proto::wire::EidPair;
use mast_proto::{EidBook, EidPool, Interface, Random};

use crate::os::Prefix;
use crate::peer::PeerId;
use crate::routing::Routing;

/// Larger ranges are shared by so many that none of them is looked for at an address that was chosen by chance.
const NARROW: u8 = 24;

/// What an agreed address is in the networks that the host is in now, if it is something there that must be reached.
pub(crate) fn clash(occupied: &BTreeMap<Prefix, String>, pair: EidPair) -> Option<String> {
    let narrow = |(prefix, _): &(&Prefix, &String)| prefix.length >= NARROW;
    // The longest says most.
    let covering = |address: Ipv4Addr| {
        let all = occupied.iter().filter(narrow).filter(move |(prefix, _)| prefix.contains(address.into()));
        all.max_by_key(|(prefix, _)| prefix.length).map(|(_, what)| format!("{address} is {what}"))
    };
    covering(pair.other).or_else(|| covering(pair.own))
}

/// What a context may ask while it agrees on EIDs.
pub(crate) struct Book<'a> {
    pub routing: &'a Routing,
    pub interfaces: &'a [Interface],
    pub occupied: &'a BTreeMap<Prefix, String>,
    pub pool: EidPool,
    pub random: &'a mut Random,
    /// The peer that asks.
    pub asking: PeerId,
}

impl Book<'_> {
    /// Used by another peer, or by a physical interface: mobile networks give out addresses of 100.64.0.0/10 too.
    fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.routing.is_taken(address, self.asking)
            || self.interfaces.iter().any(|i| i.addresses.contains(&IpAddr::V4(address)))
            || self.occupied.keys().any(|prefix| prefix.contains(IpAddr::V4(address)))
    }

    /// Whether a peer may have this address at all. Without this check a peer could draw the traffic to any
    /// address of the Internet or of the local network to itself.
    fn is_eligible(&self, address: Ipv4Addr) -> bool {
        let within = |pool: EidPool| {
            // The first and the last pair of the pool.
            let first = pool.pick(0, true).own;
            let last = pool.pick(u64::MAX, true).other;
            (first..=last).contains(&address)
        };
        within(self.pool) || within(EidPool::default())
    }
}

impl EidBook for Book<'_> {
    fn is_free(&self, pair: EidPair) -> bool {
        pair.own.to_bits() ^ pair.other.to_bits() == 1
            && [pair.own, pair.other].into_iter().all(|a| self.is_eligible(a) && !self.is_taken(a))
    }

    fn propose(&mut self) -> Option<EidPair> {
        let draws: Vec<u64> = (0..64).map(|_| self.random.u64()).collect();
        let mut draws = draws.into_iter();
        self.pool.propose(|| draws.next().unwrap_or_default(), |a| self.is_taken(a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Claim;

    fn pair(own: &str, other: &str) -> EidPair {
        EidPair { own: own.parse().unwrap(), other: other.parse().unwrap() }
    }

    #[test]
    fn a_peer_cannot_claim_other_peoples_addresses() {
        let (routing, none) = (Routing::default(), BTreeMap::new());
        let mut random = Random::new([1; 32]);
        let mut book = Book {
            routing: &routing,
            interfaces: &[],
            occupied: &BTreeMap::new(),
            pool: EidPool::new(Ipv4Addr::new(10, 77, 0, 0), 16).unwrap(),
            random: &mut random,
            asking: PeerId(1),
        };
        assert!(book.is_free(pair("100.64.0.2", "100.64.0.3")));
        assert!(book.is_free(pair("100.127.255.255", "100.127.255.254")));
        assert!(book.is_free(pair("10.77.0.2", "10.77.0.3")));
        assert!(!book.is_free(pair("10.78.0.2", "10.78.0.3")));
        assert!(!book.is_free(pair("192.168.1.2", "192.168.1.3")));
        assert!(!book.is_free(pair("8.8.8.8", "8.8.8.9")));
        assert!(!book.is_free(pair("100.64.0.2", "100.64.0.4")));
        let proposed = book.propose().unwrap();
        assert!(book.is_free(proposed));
        let wide = Prefix { address: "100.64.0.0".parse().unwrap(), length: 10 };
        let narrow = Prefix { address: "10.77.0.0".parse().unwrap(), length: 24 };
        let gateway = Prefix::host("100.64.0.3".parse().unwrap());
        let occupied = [(wide, "wide"), (narrow, "narrow"), (gateway, "the gateway of wwan0")];
        let occupied = occupied.into_iter().map(|(prefix, what)| (prefix, what.to_owned())).collect();
        book.occupied = &occupied;
        assert!(!book.is_free(pair("100.64.0.6", "100.64.0.7")));
        assert!(!book.is_free(pair("10.77.0.2", "10.77.0.3")));
        assert!(book.is_free(pair("10.77.1.2", "10.77.1.3")));
        // Nor what leads to another peer, by AllowedIPs of its file; a default route, whole or in parts, is no such claim.
        let mut routing = Routing::default();
        let claim = |ranges: &[&str]| {
            let range = |text: &&str| {
                let (address, length) = text.split_once('/').unwrap();
                (Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }, None)
            };
            Claim { ranges: ranges.iter().map(range).collect(), ..Claim::default() }
        };
        routing.update(PeerId(2), claim(&["100.80.0.0/16", "0.0.0.0/0", "64.0.0.0/2", "100.90.0.1/32"]));
        routing.update(PeerId(1), claim(&["100.91.0.0/16"]));
        book.routing = &routing;
        book.occupied = &none;
        for (own, other, free) in [
            ("100.80.7.0", "100.80.7.1", false),
            ("100.90.0.0", "100.90.0.1", false),
            ("100.81.0.0", "100.81.0.1", true),
            ("100.91.0.0", "100.91.0.1", true),
        ] {
            assert_eq!(book.is_free(pair(own, other)), free, "{own}");
        }
        let carrier = EidPool::new(Ipv4Addr::new(100, 80, 0, 0), 16).unwrap();
        book.pool = carrier;
        assert_eq!(book.propose(), None, "all of it is that peer's");
        // What is agreed stays as long as it keeps nobody from anything.
        assert_eq!(clash(&occupied, pair("100.64.0.6", "100.64.0.7")), None);
        let told = clash(&occupied, pair("100.64.0.2", "100.64.0.3")).unwrap();
        assert_eq!(told, "100.64.0.3 is the gateway of wwan0");
        assert!(clash(&occupied, pair("10.77.0.2", "10.77.0.3")).is_some());
    }
}
