//! Which peer an inner address belongs to, both ways: where datagrams of the host go, and what a peer may send.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use mast_proto::wire::EidPair;

use crate::declared::Declared;
use crate::eid_book::clash;
use crate::inner;
use crate::os::Prefix;
use crate::peer::{Peer, PeerId};

/// Wider ranges of a WireGuard file are a default route, or what is left of one where something was taken out: they do not
/// mean to have each address that they hold, and an EID within is found before them. This is the length of
/// 100.64.0.0/10, from which EIDs are.
const WIDE: u8 = 10;

/// Inner destination to peer. A peer's change costs what the peer claims, however many others there are.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    claims: BTreeMap<PeerId, Claim>,
    exact: HashMap<IpAddr, Claimants>,
    /// Longest first.
    levels: Vec<Level>,
    /// How many peers claim more than what was agreed with them.
    ranged: usize,
    /// This host's addresses, and the peers that each is for; the IPv6 EID is for all.
    own: HashMap<IpAddr, Claimants>,
}

/// The ranges of one length, of one version of IP: looked up by their bits, however many there are.
#[derive(Debug)]
struct Level {
    is_v4: bool,
    length: u8,
    mask: u128,
    ranges: BTreeMap<u128, Claimants>,
}

impl Level {
    fn new(range: Prefix) -> Self {
        let is_v4 = range.address.is_ipv4();
        let host_bits = (if is_v4 { 32 } else { 128_u32 }).saturating_sub(range.length.into());
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Self { is_v4, length: range.length, mask, ranges: BTreeMap::new() }
    }

    fn is_of(&self, range: Prefix) -> bool {
        self.length == range.length && self.is_v4 == range.address.is_ipv4()
    }

    /// Where an address is entered.
    fn bits(&self, address: IpAddr) -> u128 {
        let bits = match address {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => address.to_bits(),
        };
        bits & self.mask
    }

    fn enter(&mut self, range: Prefix, id: PeerId) {
        let claimants = self.ranges.entry(self.bits(range.address));
        claimants.and_modify(|c| c.add(id)).or_insert_with(|| Claimants::new(id));
    }

    fn leave(&mut self, range: Prefix, id: PeerId) {
        let bits = self.bits(range.address);
        if self.ranges.get_mut(&bits).is_some_and(|c| c.remove(id)) {
            self.ranges.remove(&bits);
        }
    }
}

/// The peers that claim the same: the one that came first has it.
#[derive(Debug)]
struct Claimants {
    first: PeerId,
    /// Mostly none, but all peers claim the IPv6 EID of this host. In the order in which they came.
    others: BTreeSet<PeerId>,
}

impl Claimants {
    fn new(id: PeerId) -> Self {
        Self { first: id, others: BTreeSet::new() }
    }

    fn add(&mut self, id: PeerId) {
        let later = match id.cmp(&self.first) {
            Ordering::Equal => return,
            Ordering::Less => std::mem::replace(&mut self.first, id),
            Ordering::Greater => id,
        };
        self.others.insert(later);
    }

    fn has(&self, id: PeerId) -> bool {
        self.first == id || self.others.contains(&id)
    }

    /// Takes one away; whether none is left.
    fn remove(&mut self, id: PeerId) -> bool {
        if self.first != id {
            self.others.remove(&id);
            return false;
        }
        match self.others.pop_first() {
            Some(next) => self.first = next,
            None => return true,
        }
        false
    }
}

/// Why a datagram from inside a peer's session is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not an IP datagram.
    Malformed,
    /// Its source is not the peer's.
    Source,
    /// Its destination is not an address of this host towards that peer.
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
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// This host's addresses towards it.
    pub own: Vec<IpAddr>,
    /// Its addresses, each with the preferred source.
    pub ranges: Vec<(Prefix, Option<IpAddr>)>,
    /// The host has no routes to them of this service's making.
    pub unrouted: bool,
    /// There are routes to what a file says, which may be anything.
    pub ranged: bool,
}

impl Claim {
    /// The EIDs agreed with a peer, and what its configuration says.
    /// Addresses that are something else in the networks that the host is in are left out.
    pub fn of(peer: &Peer, occupied: &BTreeMap<Prefix, String>) -> Self {
        let mut claim = Self::default();
        let v6 = peer.eid_v6().map(|(own, other)| (IpAddr::from(own), IpAddr::from(other)));
        let v4 = peer.eid_v4().filter(|pair| clash(occupied, *pair).is_none());
        let v4 = v4.map(|pair| (IpAddr::from(pair.own), IpAddr::from(pair.other)));
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
            claim.unrouted = plain.unrouted;
            claim.ranged = !plain.unrouted && plain.ranges().next().is_some();
        }
        claim
    }
}

impl Routing {
    /// A peer claims this now, and nothing else. Whether that is a change.
    pub fn update(&mut self, id: PeerId, claim: Claim) -> bool {
        let empty = Claim::default();
        if *self.claims.get(&id).unwrap_or(&empty) == claim {
            return false;
        }
        if let Some(before) = self.claims.remove(&id) {
            self.withdraw(id, &before);
        }
        self.ranged += usize::from(claim.ranged);
        for &own in &claim.own {
            enter(&mut self.own, own, id);
        }
        for &(range, _) in &claim.ranges {
            if is_host(range) {
                enter(&mut self.exact, range.address, id);
            } else {
                self.level(range).enter(range, id);
            }
        }
        if claim != empty {
            self.claims.insert(id, claim);
        }
        true
    }

    fn withdraw(&mut self, id: PeerId, claim: &Claim) {
        self.ranged -= usize::from(claim.ranged);
        for own in &claim.own {
            leave(&mut self.own, own, id);
        }
        for &(range, _) in &claim.ranges {
            if is_host(range) {
                leave(&mut self.exact, &range.address, id);
            } else if let Some(at) = self.levels.iter().position(|level| level.is_of(range))
                && let Some(level) = self.levels.get_mut(at)
            {
                level.leave(range, id);
                if level.ranges.is_empty() {
                    self.levels.remove(at);
                }
            }
        }
    }

    /// The level of a range, made where there is none.
    fn level(&mut self, range: Prefix) -> &mut Level {
        let at = self.levels.iter().position(|level| level.is_of(range)).unwrap_or_else(|| {
            let at = self.levels.partition_point(|level| level.length >= range.length);
            self.levels.insert(at, Level::new(range));
            at
        });
        &mut self.levels[at]
    }

    /// Who claims a range that is no single address.
    fn claimants(&self, range: Prefix) -> Option<&Claimants> {
        let level = self.levels.iter().find(|level| level.is_of(range))?;
        level.ranges.get(&level.bits(range.address))
    }

    /// The addresses and routes that the virtual interface shall have, and nothing else. Takes as long as there are
    /// claims.
    pub fn network(&self) -> Declared {
        let mut network = Declared::default();
        for (id, claim) in &self.claims {
            let has = |claimants: Option<&Claimants>| claimants.is_some_and(|c| c.first == *id);
            network.addresses.extend(claim.own.iter().filter(|own| has(self.own.get(own))));
            let routed = claim.ranges.iter().filter(|_| !claim.unrouted);
            network.routes.extend(routed.filter(|(range, _)| {
                if is_host(*range) {
                    has(self.exact.get(&range.address))
                } else {
                    has(self.claimants(*range))
                }
            }));
        }
        network
    }

    /// Whether an agreed address of a peer leads to it.
    pub fn has_claimed(&self, id: PeerId, pair: Option<EidPair>) -> bool {
        let claimed = |pair: EidPair| self.exact.get(&pair.other.into()).is_some_and(|c| c.first == id);
        pair.is_some_and(claimed)
    }

    /// Whether routes may lead to more than addresses that were agreed.
    pub fn has_ranges(&self) -> bool {
        self.ranged > 0
    }

    /// The peer that an address belongs to.
    pub fn peer(&self, address: IpAddr) -> Option<PeerId> {
        let within = || {
            let levels = self.levels.iter().filter(|level| level.is_v4 == address.is_ipv4());
            levels.filter_map(|level| level.ranges.get(&level.bits(address))).next()
        };
        self.exact.get(&address).or_else(within).map(|claimants| claimants.first)
    }

    /// Whether a peer may send this datagram to this host.
    pub fn admit(&self, from: PeerId, datagram: &[u8]) -> Result<(), Refused> {
        let (source, destination) = inner::addresses(datagram).ok_or(Refused::Malformed)?;
        if self.peer(source) != Some(from) {
            return Err(Refused::Source);
        }
        // Not this host's addresses towards others: who reached those would know that they are one host's.
        let counterpart = self.own.get(&destination).is_some_and(|claimants| claimants.has(from));
        if counterpart { Ok(()) } else { Err(Refused::Destination) }
    }

    /// Whether an IPv4 address is in use, as this host's own or as that of a peer other than `but`, or lies in a range
    /// that leads to such a peer.
    pub fn is_taken(&self, address: Ipv4Addr, but: PeerId) -> bool {
        let address = IpAddr::from(address);
        let exact = [self.exact.get(&address), self.own.get(&address)];
        let narrow = self.levels.iter().filter(|level| level.is_v4 && level.length >= WIDE);
        let ranges = narrow.map(|level| level.ranges.get(&level.bits(address)));
        exact.into_iter().chain(ranges).flatten().any(|c| c.first != but)
    }
}

fn is_host(range: Prefix) -> bool {
    Prefix::host(range.address).length == range.length
}

fn enter(map: &mut HashMap<IpAddr, Claimants>, address: IpAddr, id: PeerId) {
    map.entry(address).and_modify(|c| c.add(id)).or_insert_with(|| Claimants::new(id));
}

fn leave(map: &mut HashMap<IpAddr, Claimants>, address: &IpAddr, id: PeerId) {
    if map.get_mut(address).is_some_and(|c| c.remove(id)) {
        map.remove(address);
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
        let ranges = ranges.iter().map(|r| (prefix(r), own.first().copied())).collect();
        Claim { ranges, own, unrouted: false, ranged: false }
    }

    fn datagram(source: &str, destination: &str) -> Vec<u8> {
        let mut out = vec![0x45; 12];
        for address in [source, destination] {
            let IpAddr::V4(v4) = ip(address) else { panic!() };
            out.extend(v4.octets());
        }
        out
    }

    fn claims() -> [(PeerId, Claim); 3] {
        [
            (PeerId(1), claim(&["fd4d::1", "100.64.0.2"], &["fd4d::2/128", "100.64.0.3/32"])),
            (PeerId(2), claim(&["10.8.0.2"], &["10.8.0.0/24", "0.0.0.0/0"])),
            (PeerId(3), claim(&["fd4d::1", "10.9.0.2"], &["10.8.0.128/25", "10.8.0.0/24", "100.64.0.3/32"])),
        ]
    }

    fn routing() -> (Routing, Declared) {
        let mut routing = Routing::default();
        for (id, claim) in claims() {
            assert!(routing.update(id, claim));
        }
        let network = routing.network();
        (routing, network)
    }

    #[test]
    fn the_order_of_changes_does_not_matter() {
        let (expected, network) = routing();
        let addresses = ["100.64.0.3", "fd4d::2", "10.8.0.1", "10.8.0.200", "192.0.2.1"].map(ip);
        let mut routing = Routing::default();
        for order in [[2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1]] {
            for at in order {
                let (id, _) = claims()[at];
                routing.update(id, claim(&["100.64.9.2"], &["100.64.9.3/32", "10.8.0.0/24"]));
                let (id, claim) = claims().into_iter().nth(at).unwrap();
                assert!(routing.update(id, claim));
            }
            for (id, claim) in claims() {
                assert!(!routing.update(id, claim), "nothing changed");
            }
            assert_eq!(routing.network(), network);
            assert_eq!(addresses.map(|a| routing.peer(a)), addresses.map(|a| expected.peer(a)));
            assert!(!routing.is_taken([100, 64, 9, 3].into(), PeerId(9)));
        }
        routing.update(PeerId(1), Claim::default());
        assert_eq!(routing.peer(ip("100.64.0.3")), Some(PeerId(3)), "it falls to the next that claims it");
        assert_eq!(routing.network().addresses, ["10.8.0.2", "fd4d::1", "10.9.0.2"].map(ip));
        for id in [3, 2] {
            routing.update(PeerId(id), Claim::default());
        }
        assert_eq!(routing.network(), Declared::default());
        assert!(routing.exact.is_empty() && routing.levels.is_empty() && routing.own.is_empty());
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
    fn what_a_crowd_claims_is_looked_up_and_not_searched() {
        let mut routing = Routing::default();
        for number in 0..10_000_u32 {
            let site = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | number << 8));
            let range = Prefix { address: site, length: 24 };
            let claim = Claim {
                own: vec![ip("fd4d::1")],
                ranges: vec![(range, None)],
                unrouted: false,
                ranged: false,
            };
            routing.update(PeerId(number + 1), claim);
        }
        routing.update(PeerId(0), claim(&["fd4d::1"], &["0.0.0.0/0", "::/0"]));
        assert_eq!(routing.levels.len(), 3, "a look-up takes one step for each length of ranges");
        assert_eq!(routing.peer(ip("10.39.15.7")), Some(PeerId(10_000)));
        assert_eq!(routing.peer(ip("10.39.16.7")), Some(PeerId(0)));
        assert_eq!(routing.peer(ip("2001:db8::1")), Some(PeerId(0)));
        assert_eq!(routing.network().routes.len(), 10_002);
        for number in 0..=10_000 {
            routing.update(PeerId(number), Claim::default());
        }
        assert!(routing.levels.is_empty() && routing.own.is_empty());
    }

    #[test]
    fn a_peer_sends_from_its_own_addresses_to_this_host_only() {
        let (routing, _) = routing();
        let admit = |peer, source, destination| routing.admit(PeerId(peer), &datagram(source, destination));
        assert_eq!(admit(1, "100.64.0.3", "100.64.0.2"), Ok(()));
        assert_eq!(admit(2, "192.0.2.1", "10.8.0.2"), Ok(()));
        // Not to an address of this host that is for another: the server of a full tunnel, or a peer that is a guest.
        assert_eq!(admit(2, "192.0.2.1", "100.64.0.2"), Err(Refused::Destination));
        assert_eq!(admit(1, "100.64.0.3", "10.8.0.2"), Err(Refused::Destination));
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
