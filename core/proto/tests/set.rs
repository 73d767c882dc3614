//! SET, field by field: what a context tells of its addresses, and what it makes of its peer's; and what a REPORT names.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mast_proto::wire::{
    Address, AddressFlags, AddressId, AddressKind, Capabilities, ContextIndex, EidPair, Epoch, Flags, Header,
    InitAck, Kind, Message, Mode, ModeWish, PathId, Probe, ProbeAck, Set, SetAck, VERSION,
};
use mast_proto::{
    AddressSource, AddressesTold, Aead, Context, ContextConfig, Disclosure, EidBook, EpochKeys, HoldLimits,
    IndexKey, Interface, InterfaceId, InterfaceKind, Link, Part, PathKey, PathState, PeerKind, Policy,
    RelayId, Relayed, Role, Selector, Transmit, Via,
};

struct NoBook;

impl EidBook for NoBook {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<EidPair> {
        None
    }
}

/// A context, and a peer at several addresses that answers over all of them, by hand.
struct Rig {
    now: Instant,
    context: Context,
    keys: Option<EpochKeys>,
    epoch: Epoch,
    counter: u64,
    /// The SETs that came, each as often as it came.
    sets: Vec<Set>,
    acknowledges: bool,
    /// How the peer sees these local addresses.
    seen_as: BTreeMap<IpAddr, SocketAddr>,
    /// From here on nothing arrives at the peer.
    deaf: Vec<InterfaceId>,
    /// From here on nothing arrives at the peer but through a relay.
    blocked: bool,
    /// So much left without a relay.
    direct: usize,
    probed: Vec<SocketAddr>,
    /// What each REPORT names as missing.
    missing: Vec<Option<Vec<u32>>>,
}

fn interface(id: u32, name: &str, kind: InterfaceKind, address: [u8; 4]) -> Interface {
    Interface {
        id: InterfaceId(id),
        name: name.into(),
        kind,
        network: None,
        metered: kind == InterfaceKind::Cellular,
        addresses: vec![IpAddr::from(address)],
        link_local: None,
        usable: true,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    }
}

/// Where a relay has an address for this host.
fn at_relay() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], 49_152))
}

/// One interface, with that.
fn with_relay() -> Interface {
    let local = IpAddr::from([198, 51, 100, 1]);
    let relayed = vec![Relayed { number: RelayId::FIRST, local, at: at_relay() }];
    Interface { relayed, ..interface(1, "eth0", InterfaceKind::Ethernet, [198, 51, 100, 1]) }
}

const PEER: [u8; 4] = [192, 0, 2, 1];

fn peer(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 6278))
}

/// The peer's number for a path.
fn peers_number(path: PathKey) -> PathId {
    PathId(path.interface.0 as u8 * 16 + last(path.remote) + if path.via == Via::Direct { 0 } else { 8 })
}

/// The last byte of an address.
fn last(at: SocketAddr) -> u8 {
    match at.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    }
}

impl Rig {
    fn new(interfaces: Vec<Interface>, policy: Policy) -> Self {
        let now = Instant::now();
        let config = ContextConfig {
            indices: IndexKey::new([5; 32]).indices(1),
            instance: 1,
            lower: true,
            name: "host".into(),
            aeads: vec![Aead::ChaCha20Poly1305],
            eid_v6: "fd4d:6173:7400::1".parse().unwrap(),
            eid_v4: None,
            port: 6278,
            expect: Some(PeerKind::Mast),
            disclosure: Default::default(),
            policy,
            hold: HoldLimits::default(),
            seed: [3; 32],
        };
        let mut context = Context::new(config, now);
        context.handle_interfaces(now, interfaces.into());
        context.set_addresses(now, AddressSource::Configuration, [SocketAddr::from((PEER, 6278))]);
        Self {
            now,
            context,
            keys: None,
            epoch: Epoch(0),
            counter: 0,
            sets: Vec::new(),
            acknowledges: true,
            seen_as: BTreeMap::new(),
            deaf: Vec::new(),
            blocked: false,
            direct: 0,
            probed: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn three(policy: Policy) -> Self {
        let list = vec![
            interface(1, "eth0", InterfaceKind::Ethernet, [198, 51, 100, 1]),
            interface(2, "wwan0", InterfaceKind::Cellular, [198, 51, 100, 2]),
            interface(3, "wlan0", InterfaceKind::Wifi, [198, 51, 100, 3]),
        ];
        Self::new(list, policy)
    }

    fn begin(mut self) -> Self {
        self.context.connect(self.now);
        self.run(3_000);
        assert!(self.context.active_path().is_some(), "connected");
        self
    }

    fn send(&mut self, over: PathKey, message: &Message) {
        let header = Header {
            kind: Kind::Control,
            flags: Flags::NONE,
            path: peers_number(over),
            epoch: self.epoch,
            index: ContextIndex(5),
            counter: self.counter,
        };
        self.counter += 1;
        let mut datagram = [&[0; 16][..], &message.encode(), &[0; 16]].concat();
        self.keys.as_ref().unwrap().seal(&header, &mut datagram).unwrap();
        self.context.handle_datagram(self.now, over, &mut datagram);
    }

    fn pump(&mut self) {
        while let Some(transmit) = self.context.poll_transmit(self.now) {
            let (Transmit::Contact { path, .. }
            | Transmit::Secure { path, .. }
            | Transmit::Datagram { path, .. }
            | Transmit::Keepalive { path }) = &transmit;
            self.direct += usize::from(path.via == Via::Direct);
            match transmit {
                Transmit::Contact { path, .. } if self.keys.is_none() => {
                    self.context.secure_up(self.now, path, Role::Initiator, true);
                }
                Transmit::Secure { path, payload } => self.answer_init(path, &payload),
                Transmit::Datagram { path, mut payload } => {
                    let header = Header::decode(&payload).unwrap();
                    let content = self.keys.as_ref().unwrap().open(&header, &mut payload).unwrap();
                    let message = Message::decode(content).unwrap();
                    self.hear(path, message);
                }
                _ => {}
            }
        }
    }

    fn answer_init(&mut self, path: PathKey, payload: &[u8]) {
        let Ok(Message::Init(init)) = Message::decode(payload) else { return };
        let ack = InitAck {
            version: VERSION,
            instance: 99,
            index: 7,
            random: [4; 32],
            aead: Aead::ChaCha20Poly1305.number(),
            capabilities: Capabilities(0),
            epoch: init.epoch,
            eid_v6: "fd4d:6173:7400::2".parse().unwrap(),
            eid_v4: None,
            name: "peer".into(),
            answers: init.random,
            further: None,
        };
        let bytes = Message::InitAck(ack).encode();
        self.epoch = Epoch(init.epoch);
        let both = ((payload, &init.random), (&bytes[..], &[4; 32]));
        let keys = EpochKeys::derive(Role::Target, Aead::ChaCha20Poly1305, self.epoch, both.0, both.1);
        self.keys = Some(keys.unwrap());
        self.context.handle_secure(self.now, path, &bytes, &mut NoBook);
    }

    fn hear(&mut self, path: PathKey, message: Message) {
        if self.deaf.contains(&path.interface) || self.blocked && path.via == Via::Direct {
            return;
        }
        match message {
            Message::Probe(probe) => {
                self.probed.push(path.remote);
                let observed = SocketAddr::new(path.local, 6278);
                let observed = self.seen_as.get(&path.local).copied().unwrap_or(observed);
                let ack = ProbeAck { nonce: probe.nonce, observed, time: probe.time, reports: vec![] };
                self.send(path, &Message::ProbeAck(ack));
            }
            Message::Set(set) => {
                let ack = SetAck { sequence: set.sequence };
                self.sets.push(set);
                if self.acknowledges {
                    self.send(path, &Message::SetAck(ack));
                }
            }
            Message::Report(report) => self.missing.push(report.missing),
            _ => {}
        }
    }

    /// Data with a sequence number, which is to be put in order.
    fn data(&mut self, over: PathKey, sequence: u32) {
        let header = Header {
            kind: Kind::Data,
            flags: Flags::ORDERED,
            path: peers_number(over),
            epoch: self.epoch,
            index: ContextIndex(5),
            counter: self.counter,
        };
        self.counter += 1;
        let mut datagram = [&[0; 16][..], &sequence.to_be_bytes(), &[0x45; 40], &[0; 16]].concat();
        self.keys.as_ref().unwrap().seal(&header, &mut datagram).unwrap();
        self.context.handle_datagram(self.now, over, &mut datagram);
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        self.pump();
        while let Some(due) = self.context.poll_timeout(self.now).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.context.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
    }

    fn told(&self) -> &Set {
        self.sets.last().unwrap()
    }

    /// What it said last of an address: priority, metered, flags.
    fn said(&self, last: u8) -> (u8, bool, AddressFlags) {
        let at = SocketAddr::from(([198, 51, 100, last], 6278));
        let entry = self.told().addresses.iter().find(|a| a.at == at).unwrap();
        assert_eq!(entry.kind, AddressKind::Host);
        (entry.priority, entry.metered, entry.flags)
    }

    fn says(&mut self, sequence: u64, addresses: Vec<Address>, mode: Option<ModeWish>) {
        let over = self.context.active_path().unwrap();
        self.send(over, &Message::Set(Set { sequence, addresses, mode }));
        self.run(2_500);
    }
}

fn listed(id: u8, at: SocketAddr, priority: u8) -> Address {
    Address {
        id: AddressId(id),
        at,
        kind: AddressKind::Host,
        priority,
        metered: false,
        flags: AddressFlags::default(),
        link: None,
    }
}

const NONE: AddressFlags = AddressFlags(0);

#[test]
fn every_address_is_told_with_what_its_interface_is() {
    let mut rig = Rig::three(Policy::Auto).begin();
    let set = rig.told().clone();
    assert_eq!(set.mode, None);
    let ids: Vec<_> = set.addresses.iter().map(|a| a.id.0).collect();
    let links: Vec<_> = set.addresses.iter().map(|a| a.link.unwrap()).collect();
    assert_eq!((ids, links), (vec![0, 1, 2], vec![0, 1, 2]));
    // The preferred one; two that carry, one of which costs money.
    let active = rig.context.active_path().unwrap().interface;
    assert_ne!(active, InterfaceId(2), "unmetered before metered");
    for (at, metered) in [(1, false), (2, true), (3, false)] {
        let priority = if active == InterfaceId(at) { 200 } else { 100 };
        assert_eq!(rig.said(at as u8), (priority, metered, NONE), "{at}");
    }
    // Nothing is said again while nothing changes.
    let said = rig.sets.len();
    rig.run(60_000);
    assert_eq!(rig.sets.len(), said);
}

#[test]
fn an_address_that_does_not_work_is_told_as_such() {
    let mut rig = Rig::three(Policy::Auto);
    rig.deaf = vec![InterfaceId(2)];
    let mut rig = rig.begin();
    assert_eq!(rig.said(2), (5, true, NONE));
    let before = rig.told().sequence;
    rig.deaf.clear();
    rig.run(120_000);
    assert_eq!(rig.said(2), (100, true, NONE));
    assert_eq!(rig.told().sequence, before + 1, "one more for one change");
}

#[test]
fn the_order_of_a_pin_is_the_order_of_wishes() {
    let pin = |order: &[&str], fallback| Policy::Pin {
        order: order.iter().map(|word| Selector::parse(word)).collect(),
        fallback,
    };
    let mut rig = Rig::three(pin(&["wwan0", "wlan0"], true)).begin();
    assert_eq!(rig.context.active_path().unwrap().interface, InterfaceId(2));
    assert_eq!(rig.said(2), (200, true, NONE));
    assert_eq!(rig.said(3), (99, false, NONE));
    assert_eq!(rig.said(1), (98, false, NONE));
    // Without fallback, the others are not to be used at all.
    let before = rig.told().sequence;
    rig.context.set_policy(rig.now, pin(&["wwan0", "wlan0"], false));
    rig.run(1_000);
    assert_eq!(rig.said(2), (200, true, NONE));
    assert_eq!(rig.said(3), (99, false, NONE));
    assert_eq!(rig.said(1).2, AddressFlags::DO_NOT_USE);
    assert!(rig.told().sequence > before);
}

#[test]
fn a_drill_tells_not_to_use_the_link() {
    let mut rig = Rig::three(Policy::Auto).begin();
    let active = rig.context.active_path().unwrap().interface;
    rig.context.silence(rig.now, Some(Link::Own(active)));
    rig.run(1_000);
    assert_eq!(rig.said(active.0 as u8).2, AddressFlags::DO_NOT_USE);
    assert_eq!(rig.said(2).2, NONE);
    rig.context.silence(rig.now, None);
    rig.run(3_000);
    assert_eq!(rig.said(active.0 as u8).2, NONE);
}

#[test]
fn a_mode_is_a_wish() {
    for (policy, wish) in [
        (
            Policy::Redundant { small: true, metered: false },
            ModeWish { mode: Mode::Redundant, small: true, metered: false },
        ),
        (
            Policy::Redundant { small: false, metered: true },
            ModeWish { mode: Mode::Redundant, small: false, metered: true },
        ),
        (Policy::Bonded { metered: true }, ModeWish { mode: Mode::Bonded, small: false, metered: true }),
        (Policy::Bonded { metered: false }, ModeWish { mode: Mode::Bonded, small: false, metered: false }),
    ] {
        let mut rig = Rig::three(Policy::Auto).begin();
        let before = rig.told().sequence;
        rig.context.set_policy(rig.now, policy);
        rig.run(1_000);
        assert_eq!(rig.told().mode, Some(wish));
        assert!(rig.told().sequence > before);
        rig.context.set_policy(rig.now, Policy::Auto);
        rig.run(1_000);
        assert_eq!(rig.told().mode, None);
    }
}

#[test]
fn what_is_seen_from_outside_is_told_beside_the_address() {
    let mut rig = Rig::three(Policy::Auto);
    let seen = SocketAddr::from(([203, 0, 113, 9], 40_000));
    rig.seen_as.insert([198, 51, 100, 2].into(), seen);
    // The same address and another port is another address, too.
    let port = SocketAddr::from(([198, 51, 100, 3], 6279));
    rig.seen_as.insert([198, 51, 100, 3].into(), port);
    let mut rig = rig.begin();
    let set = rig.told().clone();
    let entry = |at| *set.addresses.iter().find(|a| a.at == at).unwrap();
    let (host, outside) = (entry(SocketAddr::from(([198, 51, 100, 2], 6278))), entry(seen));
    assert_eq!(
        outside,
        Address { id: AddressId(host.id.0 | 128), at: seen, kind: AddressKind::Reflexive, ..host }
    );
    assert_eq!(entry(port).kind, AddressKind::Reflexive);
    assert_eq!(set.addresses.len(), 5);
    let order: Vec<_> = set.addresses.iter().map(|a| a.kind == AddressKind::Host).collect();
    assert_eq!(order, [true, true, true, false, false], "the hosts' own come first");
    // Seen as it is, it is not told twice.
    rig.seen_as.clear();
    rig.run(120_000);
    assert_eq!(rig.told().addresses.len(), 3);
}

#[test]
fn addresses_that_are_of_no_use_elsewhere_are_not_told() {
    for (address, told) in [
        ([100, 64, 3, 4], false),
        ([100, 127, 255, 1], false),
        ([100, 63, 0, 1], true),
        ([100, 128, 0, 1], true),
        ([99, 64, 0, 1], true),
        ([169, 254, 3, 4], false),
        // Private, and the peer has no address of that block.
        ([10, 0, 0, 7], false),
    ] {
        let rig = Rig::new(
            vec![
                interface(1, "eth0", InterfaceKind::Ethernet, [198, 51, 100, 1]),
                interface(2, "eth1", InterfaceKind::Ethernet, address),
            ],
            Policy::Auto,
        )
        .begin();
        let entry = rig.told().addresses.iter().find(|a| a.id == AddressId(1)).unwrap();
        let expected = if told {
            (SocketAddr::from((address, 6278)), AddressKind::Host)
        } else {
            (SocketAddr::from(([0, 0, 0, 0], 0)), AddressKind::Outward)
        };
        assert_eq!((entry.at, entry.kind), expected, "{address:?}");
    }
}

#[test]
fn a_set_that_is_not_acknowledged_is_said_again_and_not_for_ever() {
    let mut rig = Rig::three(Policy::Auto);
    rig.acknowledges = false;
    let mut rig = rig.begin();
    let sequence = rig.told().sequence;
    rig.run(600_000);
    let over: Vec<_> = rig.sets.iter().filter(|set| set.sequence == sequence).collect();
    // Over three paths, eight times, and with what proves that a path works.
    assert!(over.len() >= 8, "{}", over.len());
    assert!(over.len() <= 8 * 3 + 400, "{}", over.len());
    assert!(over.iter().all(|set| set.addresses == over[0].addresses));
    // An acknowledgement of another one counts for nothing, and its own ends it.
    let active = rig.context.active_path().unwrap();
    rig.send(active, &Message::SetAck(SetAck { sequence: sequence + 1 }));
    rig.send(active, &Message::SetAck(SetAck { sequence }));
    rig.pump();
    let said = rig.sets.len();
    rig.run(120_000);
    assert_eq!(rig.sets.len(), said);
}

#[test]
fn the_peers_priority_decides_where_data_goes() {
    let mut rig =
        Rig::new(vec![interface(1, "eth0", InterfaceKind::Ethernet, [198, 51, 100, 1])], Policy::Auto)
            .begin();
    let active = |rig: &Rig| rig.context.active_path().unwrap().remote;
    rig.says(1, vec![listed(0, peer(1), 100), listed(1, peer(2), 200)], None);
    assert_eq!(active(&rig), peer(2));
    rig.says(2, vec![listed(0, peer(1), 200), listed(1, peer(2), 100)], None);
    assert_eq!(active(&rig), peer(1));
    // An older one changes nothing.
    rig.says(1, vec![listed(0, peer(1), 100), listed(1, peer(2), 200)], None);
    assert_eq!(active(&rig), peer(1));
    // A backup is used only while nothing else works.
    let backup = Address { flags: AddressFlags::BACKUP, ..listed(0, peer(1), 200) };
    rig.says(3, vec![backup, listed(1, peer(2), 1)], None);
    assert_eq!(active(&rig), peer(2));
    let shunned = Address { flags: AddressFlags::DO_NOT_USE, ..listed(1, peer(2), 200) };
    rig.says(4, vec![backup, shunned], None);
    assert_eq!(active(&rig), peer(1));
    // What costs the peer money comes after what does not.
    let paid = Address { metered: true, ..listed(0, peer(1), 100) };
    rig.says(5, vec![paid, listed(1, peer(2), 100)], None);
    rig.run(30_000);
    assert_eq!(active(&rig), peer(2));
}

#[test]
fn only_what_can_be_another_hosts_is_tried() {
    let mut rig =
        Rig::new(vec![interface(1, "eth0", InterfaceKind::Ethernet, [198, 51, 100, 1])], Policy::Auto)
            .begin();
    let at = |last| SocketAddr::from(([203, 0, 113, last], 6278));
    let kind = |id, last, kind| Address { kind, ..listed(id, at(last), 100) };
    let odd: Vec<SocketAddr> =
        ["127.0.0.1:6278", "255.255.255.255:6278", "169.254.1.1:6278", "224.0.0.1:6278", "0.0.0.0:6278"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
    let mut list = vec![
        listed(0, peer(1), 100),
        kind(1, 1, AddressKind::Host),
        kind(2, 2, AddressKind::Reflexive),
        kind(3, 3, AddressKind::Relayed),
        kind(4, 4, AddressKind::Outward),
        kind(5, 5, AddressKind::Unknown(9)),
        Address { flags: AddressFlags::DO_NOT_USE, ..kind(6, 6, AddressKind::Host) },
    ];
    list.extend(odd.iter().zip(7..).map(|(at, id)| listed(id, *at, 100)));
    rig.says(1, list, None);
    let tried: Vec<_> = rig.context.paths().map(|path| path.key.remote).collect();
    assert!([1, 2, 3].iter().all(|last| tried.contains(&at(*last))), "{tried:?}");
    assert_eq!(tried.len(), 4, "{tried:?}");
    // What is not listed any more is given up, unless it carries.
    rig.says(2, vec![listed(0, peer(1), 100)], None);
    let left: Vec<_> =
        rig.context.paths().filter(|p| p.state != PathState::Failed).map(|p| p.key.remote).collect();
    assert!(left.contains(&peer(1)));
}

#[test]
fn the_peers_wish_for_a_mode_is_followed_where_there_is_no_own_policy() {
    let mut rig = Rig::three(Policy::Auto).begin();
    let carry = |rig: &Rig| rig.context.parts().iter().filter(|part| part.part == Part::Carries).count();
    assert_eq!(carry(&rig), 1);
    let wish = |mode, metered| Some(ModeWish { mode, small: false, metered });
    for (sequence, mode, count) in [
        (1, wish(Mode::Redundant, false), 2),
        (2, None, 1),
        // What this end pays for is not the other's to spend.
        (3, wish(Mode::Bonded, false), 2),
        (4, wish(Mode::Bonded, true), 2),
        (5, wish(Mode::Unknown(9), true), 1),
    ] {
        rig.says(sequence, vec![listed(0, peer(1), 100)], mode);
        assert_eq!(carry(&rig), count, "{mode:?}");
    }
    rig.context.set_policy(rig.now, Policy::Pin { order: vec![Selector::parse("eth0")], fallback: true });
    rig.says(6, vec![listed(0, peer(1), 100)], wish(Mode::Bonded, true));
    assert_eq!(carry(&rig), 1, "a policy of one's own comes first");
    for (metered, count) in [(false, 2), (true, 3)] {
        rig.context.set_policy(rig.now, Policy::Bonded { metered });
        rig.run(2_500);
        assert_eq!(carry(&rig), count, "metered: {metered}");
    }
    // What the other end pays for, by its own wish.
    rig.context.set_policy(rig.now, Policy::Auto);
    let paid = Address { metered: true, ..listed(0, peer(1), 100) };
    rig.says(7, vec![paid], wish(Mode::Bonded, false));
    assert_eq!(carry(&rig), 1);
    rig.says(8, vec![paid], wish(Mode::Bonded, true));
    assert_eq!(carry(&rig), 2);
}

#[test]
fn a_report_names_what_is_missing_and_else_nothing() {
    let mut rig = Rig::three(Policy::Auto).begin();
    let over = rig.context.active_path().unwrap();
    for sequence in 1..=40 {
        rig.data(over, sequence);
    }
    rig.run(50);
    assert!(!rig.missing.is_empty() && rig.missing.iter().all(Option::is_none), "{:?}", rig.missing);
    rig.missing.clear();
    for sequence in 43..=80 {
        rig.data(over, sequence);
    }
    rig.run(100);
    assert!(rig.missing.contains(&Some(vec![41, 42])), "{:?}", rig.missing);
}

/// A relay is used where nothing else works, told as such, and left at once when a direct path works; and when it goes,
/// its paths go.
#[test]
fn what_goes_through_a_relay_does_so_only_while_it_must() {
    let (at, with) = (at_relay(), with_relay());
    let eth = Interface { relayed: Vec::new(), ..with.clone() };
    let mut rig = Rig::new(vec![eth.clone()], Policy::Auto).begin();
    rig.context.handle_interfaces(rig.now, [with.clone()].into());
    rig.run(2_000);
    let told = |rig: &Rig| rig.told().addresses.iter().find(|a| a.at == at).copied();
    let entry = told(&rig).unwrap();
    assert_eq!((entry.kind, entry.priority), (AddressKind::Relayed, 8), "it works, and is not wished for");
    let via = |rig: &Rig| rig.context.active_path().map(|path| path.via);
    assert_eq!(via(&rig), Some(Via::Direct));
    assert!(rig.context.is_relayed(), "it may take over");

    rig.blocked = true;
    rig.run(60_000);
    assert_eq!(via(&rig), Some(Via::Relay(RelayId::FIRST)));
    assert_eq!(told(&rig).unwrap().priority, 200);
    rig.blocked = false;
    rig.run(90_000);
    assert_eq!(via(&rig), Some(Via::Direct));
    assert_eq!(told(&rig).unwrap().priority, 8);

    rig.blocked = true;
    rig.run(60_000);
    assert_eq!(via(&rig), Some(Via::Relay(RelayId::FIRST)));
    rig.context.handle_interfaces(rig.now, [eth].into());
    rig.run(1_000);
    assert!(rig.context.paths().all(|path| path.key.via == Via::Direct));
    rig.blocked = false;
    rig.run(60_000);
    assert_eq!(told(&rig), None);
}

/// Where a NAT gives one port after the other, the next ones are told as long as there is but a relay.
#[test]
fn guesses_are_told_while_no_direct_path_works_and_to_the_peer_alone() {
    let own = IpAddr::from([198, 51, 100, 1]);
    let guess = |port| SocketAddr::from(([203, 0, 113, 9], port));
    let reflexive = (41..=64).map(|port| (own, guess(port))).collect();
    let mut rig = Rig::new(vec![Interface { reflexive, ..with_relay() }], Policy::Auto);
    rig.blocked = true;
    let mut rig = rig.begin();
    rig.run(60_000);
    let seen = |rig: &Rig| {
        let all = rig.told().addresses.iter().filter(|address| address.kind == AddressKind::Reflexive);
        all.map(|address| address.at.port()).collect::<Vec<_>>()
    };
    assert_eq!(seen(&rig), (41..=54).collect::<Vec<_>>(), "as many as there is room for");
    let ids: std::collections::BTreeSet<u8> = rig.told().addresses.iter().map(|a| a.id.0).collect();
    assert_eq!((rig.told().addresses.len(), ids.len()), (16, 16));
    let told = rig.context.told_addresses();
    assert!(told.contains(&guess(41)) && !told.contains(&guess(42)), "{told:?}");
    rig.blocked = false;
    rig.run(90_000);
    assert_eq!(seen(&rig), [41]);
}

/// Who is seen elsewhere tells so, and the other end tries that: what its own NAT keeps out it lets in if it tries as well.
#[test]
fn what_never_answered_is_tried_again_with_what_is_told() {
    let mut rig = Rig::new(vec![with_relay()], Policy::Auto);
    rig.blocked = true;
    let mut rig = rig.begin();
    rig.context.set_addresses(rig.now, AddressSource::Dns, [peer(9)]);
    let state = |rig: &Rig| {
        let mut direct = rig.context.paths().filter(|path| path.key.via == Via::Direct);
        direct.find(|path| path.key.remote == peer(9)).unwrap().state
    };
    rig.run(300_000);
    assert_eq!(state(&rig), PathState::Failed);
    let reflexive = vec![(IpAddr::from([198, 51, 100, 1]), SocketAddr::from(([203, 0, 113, 9], 40_000)))];
    rig.context.handle_interfaces(rig.now, [Interface { reflexive, ..with_relay() }].into());
    assert_eq!(state(&rig), PathState::Validating);
    rig.blocked = false;
    rig.run(1_000);
    assert_eq!(state(&rig), PathState::Validated);
}

/// A relay leads to what everybody can reach, of its own version of IP.
#[test]
fn a_relay_is_not_asked_for_what_it_cannot_reach() {
    let at = at_relay();
    let mut rig = Rig::new(vec![with_relay()], Policy::Auto).begin();
    let far: Vec<SocketAddr> = (1..=9).map(|n| SocketAddr::from(([203, 0, 113, 100 + n], 6278))).collect();
    let near = ["10.0.0.9:6278", "192.168.7.9:6278", "[2001:db8::9]:6278", "[fd00::9]:6278"];
    let near = near.map(|text| text.parse::<SocketAddr>().unwrap());
    rig.context.set_addresses(rig.now, AddressSource::Presence, near.into_iter().chain([at]));
    rig.context.set_addresses(rig.now, AddressSource::Dns, far);
    let through: Vec<_> =
        rig.context.paths().filter(|p| p.key.via != Via::Direct).map(|p| p.key.remote).collect();
    assert_eq!(through.len(), 6, "{through:?}");
    assert!(through.iter().all(|remote| !near.contains(remote) && *remote != at), "{through:?}");
}

/// A peer that may learn relayed addresses alone sees nothing of this host but through a relay, whatever it sends.
#[test]
fn a_host_that_hides_is_seen_through_relays_alone() {
    let (at, with) = (at_relay(), with_relay());
    let eth = Interface { relayed: Vec::new(), ..with.clone() };
    let hidden = Disclosure { addresses: AddressesTold::RelayedOnly, ..Disclosure::default() };

    // From the beginning: the relay is there a moment later.
    let mut rig = Rig::new(vec![eth], Policy::Auto);
    rig.context.set_disclosure(rig.now, hidden);
    rig.context.set_relays(rig.now, true);
    rig.context.connect(rig.now);
    rig.run(3_000);
    assert_eq!((rig.direct, rig.context.active_path()), (0, None));
    rig.context.handle_interfaces(rig.now, [with.clone()].into());
    rig.run(3_000);
    let over = rig.context.active_path().unwrap();
    assert_eq!(over.via, Via::Relay(RelayId::FIRST));
    // What comes straight from the peer is not answered there.
    let straight = PathKey { via: Via::Direct, ..over };
    rig.send(straight, &Message::Probe(Probe { nonce: 7, address: AddressId(0), time: 0, reports: vec![] }));
    rig.run(60_000);
    assert_eq!(rig.direct, 0);
    assert!(rig.told().addresses.iter().all(|a| a.at == at || a.kind == AddressKind::Outward));

    // And once it is wanted.
    let mut rig = Rig::new(vec![with], Policy::Auto).begin();
    rig.context.set_relays(rig.now, true);
    assert_eq!(rig.context.active_path().unwrap().via, Via::Direct);
    rig.context.set_disclosure(rig.now, hidden);
    rig.direct = 0;
    rig.run(60_000);
    assert_eq!((rig.direct, rig.context.active_path().unwrap().via), (0, Via::Relay(RelayId::FIRST)));
}
