//! What a peer is told of this host's addresses, and what of MAST is said to whom nothing is to be said.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mast_proto::wire::{EidPair, Message};
use mast_proto::{
    AddressSource, AddressesTold, Aead, Context, ContextConfig, Disclosure, EidBook, HoldLimits, IndexKey,
    Interface, InterfaceId, InterfaceKind, PathKey, PathState, PeerKind, PeerState, Policy, Role, Transmit,
    eid_v6,
};

struct Free;

impl EidBook for Free {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<EidPair> {
        None
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    SocketAddr::new(ip(text), 6278)
}

/// A host, and how others see it who are not in its network.
struct End {
    context: Context,
    interfaces: Vec<Interface>,
    /// By interface.
    nat: Vec<Option<SocketAddr>>,
}

/// Two ends and a network without delay.
struct Pair {
    now: Instant,
    ends: [End; 2],
}

/// Of each interface: its address, and how a NAT shows it. Two hosts behind one NAT differ in the port.
type Links<'a> = &'a [(&'a str, Option<(&'a str, u16)>)];

impl Pair {
    fn new(links: [Links<'_>; 2], disclosure: Disclosure, called: &str) -> Self {
        // The first is who has something to hide.
        Self::of(links, [disclosure, Disclosure { own: true, ..GUEST }], called)
    }

    fn of(links: [Links<'_>; 2], disclosures: [Disclosure; 2], called: &str) -> Self {
        let now = Instant::now();
        let end = |n: usize| {
            let config = ContextConfig {
                indices: IndexKey::new([n as u8; 32]).indices(1),
                instance: n as u64,
                lower: n == 0,
                name: format!("host {n}"),
                aeads: vec![Aead::ChaCha20Poly1305],
                eid_v6: eid_v6(&[n as u8; 32]),
                eid_v4: None,
                port: 6278,
                expect: Some(PeerKind::Mast),
                disclosure: disclosures[n],
                policy: Policy::Auto,
                hold: HoldLimits::default(),
                seed: [n as u8; 32],
            };
            let interfaces: Vec<Interface> = (1..)
                .zip(links[n])
                .map(|(id, (address, _))| Interface {
                    id: InterfaceId(id),
                    name: format!("eth{id}"),
                    kind: InterfaceKind::Ethernet,
                    network: None,
                    metered: false,
                    addresses: vec![ip(address)],
                    link_local: None,
                    usable: true,
                    outlook: Default::default(),
                    relayed: Vec::new(),
                    reflexive: Vec::new(),
                })
                .collect();
            let nat =
                |(_, nat): &(&str, Option<(&str, u16)>)| nat.map(|(a, port)| SocketAddr::new(ip(a), port));
            let mut context = Context::new(config, now);
            context.handle_interfaces(now, interfaces.clone().into());
            End { context, interfaces, nat: links[n].iter().map(nat).collect() }
        };
        let mut pair = Self { now, ends: [end(0), end(1)] };
        pair.ends[0].context.set_addresses(now, AddressSource::Configuration, [called.parse().unwrap()]);
        for end in &mut pair.ends {
            end.context.connect(now);
        }
        pair.run(Duration::from_secs(3));
        pair
    }

    /// The path at the other end, if this one leads there.
    fn arrives(&self, from: usize, path: PathKey) -> Option<PathKey> {
        let place = |end: &End, key: PathKey| end.interfaces.iter().position(|i| i.id == key.interface);
        let (here, there) = (&self.ends[from], &self.ends[1 - from]);
        let same_net = |a: IpAddr, b: IpAddr| {
            a == b
                || a.is_ipv4() && b.is_ipv4() && {
                    let (IpAddr::V4(a), IpAddr::V4(b)) = (a, b) else { return false };
                    a.octets()[..3] == b.octets()[..3]
                }
        };
        let at = place(here, path)?;
        let public = here.nat[at].unwrap_or(SocketAddr::new(path.local, 6278));
        let to = (0..there.interfaces.len()).find(|n| {
            let local = there.interfaces[*n].addresses[0];
            let direct = there.nat[*n].is_none() || same_net(local, path.local);
            there.nat[*n] == Some(path.remote) || direct && SocketAddr::new(local, 6278) == path.remote
        })?;
        let local = there.interfaces[to].addresses[0];
        let seen = if same_net(local, path.local) && path.remote.ip() == local {
            SocketAddr::new(path.local, 6278)
        } else {
            public
        };
        Some(PathKey::direct(there.interfaces[to].id, local, seen))
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for from in 0..2 {
                while let Some(transmit) = self.ends[from].context.poll_transmit(self.now) {
                    self.carry(from, transmit);
                }
                while self.ends[from].context.poll_event().is_some() {}
            }
            let due = |end: &mut End, now| end.context.poll_timeout(now);
            let now = self.now;
            let next = self.ends.iter_mut().filter_map(|e| due(e, now)).min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at) + Duration::from_micros(100),
                _ => break,
            }
            for end in &mut self.ends {
                end.context.handle_timeout(self.now);
            }
        }
        self.now = self.now.max(end);
    }

    fn carry(&mut self, from: usize, transmit: Transmit) {
        let (now, to) = (self.now, 1 - from);
        let path = match &transmit {
            Transmit::Contact { path, .. }
            | Transmit::Secure { path, .. }
            | Transmit::Datagram { path, .. }
            | Transmit::Keepalive { path } => *path,
        };
        let Some(there) = self.arrives(from, path) else { return };
        match transmit {
            Transmit::Contact { .. } => {
                self.ends[to].context.secure_up(now, there, Role::Target, true);
                self.ends[from].context.secure_up(now, path, Role::Initiator, true);
            }
            Transmit::Secure { payload, .. } => {
                self.ends[to].context.handle_secure(now, there, &payload, &mut Free);
            }
            Transmit::Datagram { mut payload, .. } => {
                self.ends[to].context.handle_datagram(now, there, &mut payload);
            }
            Transmit::Keepalive { .. } => {}
        }
    }

    /// Whether the second end was told an address of the first.
    fn told(&self, address: &str) -> bool {
        let sources = |at| self.ends[1].context.address_sources(at).any(|s| s == AddressSource::Set);
        address.parse().map_or_else(|_| sources(at(address)), sources)
    }

    fn is_connected(&self) -> bool {
        let works = |end: &End| end.context.state(self.now) == PeerState::Connected;
        self.ends.iter().all(works)
    }
}

const GUEST: Disclosure = Disclosure { mast: true, addresses: AddressesTold::All, own: false };
const LAPTOP: Links<'_> =
    &[("192.168.1.5", Some(("198.51.100.1", 4001))), ("10.20.0.7", Some(("203.0.113.9", 4002)))];
const SERVER: Links<'_> = &[("192.0.2.1", None)];

#[test]
fn private_addresses_are_not_told_to_who_is_elsewhere() {
    for (disclosure, private, seen) in [
        (GUEST, false, true),
        (Disclosure { own: true, ..GUEST }, true, true),
        (Disclosure { addresses: AddressesTold::PublicOnly, own: true, ..GUEST }, false, true),
        (Disclosure { addresses: AddressesTold::RelayedOnly, own: true, ..GUEST }, false, false),
    ] {
        let pair = Pair::new([LAPTOP, SERVER], disclosure, "192.0.2.1:6278");
        assert!(pair.is_connected(), "{disclosure:?}");
        for address in ["192.168.1.5", "10.20.0.7"] {
            assert_eq!(pair.told(address), private, "{address} {disclosure:?}");
        }
        // It has seen both; that they are told says which is wished for, and what it costs.
        for address in ["198.51.100.1:4001", "203.0.113.9:4002"] {
            assert_eq!(pair.told(address), seen, "{address} {disclosure:?}");
        }
        // Whatever is told, both paths work from both ends.
        let working = |end: &End| end.context.paths().filter(|p| p.state == PathState::Validated).count();
        assert_eq!(pair.ends.each_ref().map(working), [2, 2], "{disclosure:?}");
    }
}

#[test]
fn public_addresses_are_told_unless_none_is_to_be() {
    let links: Links<'_> = &[("198.51.100.7", None), ("2001:db8::7", None)];
    let server: Links<'_> = &[("192.0.2.1", None), ("2001:db8:9::1", None)];
    for (addresses, told) in
        [(AddressesTold::All, true), (AddressesTold::PublicOnly, true), (AddressesTold::RelayedOnly, false)]
    {
        let pair = Pair::new([links, server], Disclosure { addresses, ..GUEST }, "192.0.2.1:6278");
        assert!(pair.is_connected());
        assert_eq!((pair.told("198.51.100.7"), pair.told("2001:db8::7")), (told, told), "{addresses:?}");
    }
}

#[test]
fn who_has_an_address_of_the_same_block_is_told() {
    // Routed, as between the networks of a company.
    let server: Links<'_> = &[("192.0.2.1", None), ("10.99.3.4", None)];
    let pair = Pair::new([LAPTOP, server], GUEST, "192.0.2.1:6278");
    assert!(pair.told("10.20.0.7") && !pair.told("192.168.1.5"));
    // Unique local addresses: of the same site, and of another.
    let here: Links<'_> = &[("192.0.2.9", None), ("fd12:3456:789a:1::5", None)];
    for (there, told) in [("fd12:3456:789a:2::1", true), ("fd12:3456:789b:2::1", false)] {
        let server: Links<'_> = &[("192.0.2.1", None), (there, None)];
        let pair = Pair::new([here, server], GUEST, "192.0.2.1:6278");
        assert_eq!(pair.told("fd12:3456:789a:1::5"), told, "{there}");
    }
}

/// Neither may wait for the other to begin: both are guests, and their NAT turns what they send to it back.
#[test]
fn who_is_behind_the_same_nat_is_told() {
    let one: Links<'_> = &[("192.168.1.5", Some(("198.51.100.1", 4001)))];
    let other: Links<'_> = &[("192.168.1.6", Some(("198.51.100.1", 4002)))];
    let pair = Pair::of([one, other], [GUEST, GUEST], "198.51.100.1:4002");
    assert!(pair.is_connected() && pair.told("192.168.1.5"));
    let other: Links<'_> = &[("192.168.1.6", Some(("198.51.100.2", 4002)))];
    let pair = Pair::of([one, other], [GUEST, GUEST], "198.51.100.2:4002");
    assert!(pair.is_connected() && !pair.told("192.168.1.5"), "another NAT");
}

#[test]
fn what_is_told_follows_the_choice() {
    let mut pair = Pair::new([LAPTOP, SERVER], GUEST, "192.0.2.1:6278");
    assert!(!pair.told("192.168.1.5") && pair.told("198.51.100.1:4001"));
    for (disclosure, private, seen) in [
        (Disclosure { own: true, ..GUEST }, true, true),
        (Disclosure { addresses: AddressesTold::RelayedOnly, ..GUEST }, false, false),
        (GUEST, false, true),
    ] {
        let now = pair.now;
        pair.ends[0].context.set_disclosure(now, disclosure);
        pair.run(Duration::from_secs(1));
        assert_eq!(
            (pair.told("192.168.1.5"), pair.told("198.51.100.1:4001")),
            (private, seen),
            "{disclosure:?}"
        );
        assert!(pair.is_connected());
    }
}

/// A peer with which MAST is not to be spoken: it begins, and asks, and hears nothing of MAST.
#[test]
fn whom_nothing_is_to_be_told_hears_of_no_mast() {
    let hidden = Disclosure { mast: false, ..GUEST };
    let mut pair = Pair::new([LAPTOP, SERVER], hidden, "192.0.2.1:6278");
    assert_eq!(pair.ends[0].context.kind(), Some(PeerKind::WireGuard));
    assert_eq!(pair.ends[1].context.peer_name(), "");
    assert!(!pair.told("192.168.1.5") && !pair.told("198.51.100.1:4001"));
    let now = pair.now;
    pair.ends[0].context.set_disclosure(now, GUEST);
    pair.run(Duration::from_secs(20));
    assert!(pair.is_connected() && pair.ends[1].context.peer_name() == "host 0");
    // And no more, from one moment to the next.
    let now = pair.now;
    pair.ends[0].context.set_disclosure(now, hidden);
    let mut said = Vec::new();
    while let Some(transmit) = pair.ends[0].context.poll_transmit(now) {
        if let Transmit::Secure { payload, .. } = &transmit {
            said.push(Message::decode(payload));
        }
        pair.carry(0, transmit);
    }
    pair.run(Duration::from_secs(20));
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(pair.ends[0].context.kind(), Some(PeerKind::WireGuard));
    assert!(!pair.is_connected(), "the other end speaks MAST alone");
}
