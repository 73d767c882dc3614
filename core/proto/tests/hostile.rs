//! What comes from outside is hostile: arbitrary bytes must neither panic nor change anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mast_proto::wire::{Flags, Header, Message, ShutReason};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, DATA_OVERHEAD, Drop, EidBook, Event, HoldLimits, IndexKey,
    Interface, InterfaceId, InterfaceKind, Outgoing, PathKey, PathState, PeerKind, PeerState, Policy,
    Received, Role, SequenceWindow, Transmit,
};
use proptest::prelude::*;

struct NoBook;

impl EidBook for NoBook {
    fn is_free(&self, _: mast_proto::wire::EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<mast_proto::wire::EidPair> {
        None
    }
}

fn context(now: Instant) -> Context {
    let config = ContextConfig {
        indices: IndexKey::new([1; 32]).indices(1),
        instance: 1,
        lower: true,
        name: "host".into(),
        aeads: vec![Aead::ChaCha20Poly1305],
        eid_v6: "fd4d:6173:7400::1".parse().expect("an address"),
        eid_v4: None,
        port: 6278,
        expect: None,
        disclosure: Default::default(),
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: [3; 32],
    };
    Context::new(config, now)
}

fn path() -> PathKey {
    PathKey::direct(InterfaceId(1), [192, 0, 2, 2].into(), SocketAddr::from(([192, 0, 2, 1], 6278)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        let _ = Header::decode(&bytes);
    }

    #[test]
    fn any_bytes_with_the_frame_of_a_message(number in 0_u8..12, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = vec![0x82, number];
        framed.extend(bytes);
        if let Ok(message) = Message::decode(&framed) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_context_drops_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0x60_u8..0x62) {
        let now = Instant::now();
        let mut context = context(now);
        if bytes.len() >= 16 {
            bytes[0] = kind;
            bytes[3] = 0;
            bytes[4..8].copy_from_slice(&0x0102_0304_u32.to_be_bytes());
        }
        prop_assert!(matches!(context.handle_datagram(now, path(), &mut bytes), Received::Dropped(_)));
        prop_assert_eq!(context.paths().count(), 0);
        prop_assert!(context.poll_transmit(now).is_none());
    }

    /// What comes through the WireGuard session is authentic, but the peer itself may be hostile.
    #[test]
    fn a_peer_may_say_anything(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..20)) {
        let now = Instant::now();
        let mut context = context(now);
        context.connect(now);
        for payload in payloads {
            context.handle_secure(now, path(), &payload, &mut NoBook);
            context.handle_timeout(now);
            prop_assert!(context.paths().count() <= Context::MAX_PATHS);
            let mut sent = 0;
            while context.poll_transmit(now).is_some() {
                sent += 1;
                prop_assert!(sent < 100);
            }
        }
    }

    #[test]
    fn sequence_numbers_come_once(start in any::<u32>(), order in proptest::collection::vec(0_u32..500, 1..300)) {
        let mut window = SequenceWindow::default();
        let mut seen = std::collections::BTreeSet::new();
        for offset in order {
            let new = window.accept(start.wrapping_add(offset)) != mast_proto::Replay::Replayed;
            prop_assert_eq!(new, seen.insert(offset));
        }
    }
}

/// One of two hosts. The second is the liar: so many of somebody else's addresses are its own, it says.
fn host(now: Instant, n: usize, at: [SocketAddr; 2], listed: u8, instance: u64) -> Context {
    let config = ContextConfig {
        indices: IndexKey::new([n as u8; 32]).indices(1),
        instance,
        lower: n == 0,
        name: format!("host {n}"),
        aeads: vec![Aead::ChaCha20Poly1305],
        eid_v6: mast_proto::eid_v6(&[n as u8; 32]),
        eid_v4: None,
        port: 6278,
        expect: Some(PeerKind::Mast),
        disclosure: Default::default(),
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: [instance as u8; 32],
    };
    let mut context = Context::new(config, now);
    let mut addresses = vec![at[n].ip()];
    addresses.extend((0..listed).map(|n| std::net::IpAddr::from([198, 51, 100, n + 1])));
    let interface = Interface {
        id: InterfaceId(1),
        name: "eth0".into(),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses,
        link_local: None,
        usable: true,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    };
    context.handle_interfaces(now, [interface].into());
    if n == 1 {
        context.set_addresses(now, AddressSource::Configuration, [at[0]]);
        context.connect(now);
    }
    context
}

/// A handshake in which somebody on the way was given as the sender, and then nothing for an hour: rounds of contact do not
/// go to whom nobody names, and who never answered.
#[test]
fn who_was_only_given_as_a_sender_is_not_called_for_ever() {
    let now = Instant::now();
    let at = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 6278)));
    for role in [Role::Target, Role::Initiator] {
        let mut context = host(now, 0, at, 0, 7);
        let stranger =
            PathKey::direct(InterfaceId(1), at[0].ip(), SocketAddr::from(([203, 0, 113, 9], 4_000)));
        context.connect(now);
        context.secure_up(now, stranger, role, false);
        let (mut clock, mut calls) = (now, 0);
        while clock < now + Duration::from_secs(3_600) {
            clock = context.poll_timeout(clock).map_or(clock + Duration::from_secs(60), |due| due.max(clock));
            context.handle_timeout(clock);
            while let Some(transmit) = context.poll_transmit(clock) {
                calls += usize::from(matches!(transmit, Transmit::Contact { .. }));
            }
        }
        assert_eq!(calls, 0, "{role:?}");
    }
}

/// Two contexts in memory, without delay. What goes to any other address than the other's own is counted, and lost.
struct Two {
    now: Instant,
    hosts: [Context; 2],
    /// The hosts' addresses.
    at: [SocketAddr; 2],
    /// Bytes with headers: from each host to the other, and from each to somebody else.
    sent: [usize; 2],
    astray: [usize; 2],
    /// Data that went astray.
    data: [usize; 2],
    /// What somebody on the way drops.
    drops: Drops,
    /// Sealed datagrams that were held back, with whom they came from.
    kept: Vec<(usize, Vec<u8>)>,
    /// Data that arrived.
    arrived: [usize; 2],
}

/// What somebody on the way drops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drops {
    Nothing,
    Handshakes,
    /// Of the second host.
    Sealed,
}

impl Two {
    fn new(listed: u8) -> Self {
        let now = Instant::now();
        let at = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 6278)));
        let hosts = [host(now, 0, at, 0, 7), host(now, 1, at, listed, 8)];
        Self {
            now,
            hosts,
            at,
            sent: [0; 2],
            astray: [0; 2],
            data: [0; 2],
            drops: Drops::Nothing,
            kept: Vec::new(),
            arrived: [0; 2],
        }
    }

    fn path(&self, own: usize, other: SocketAddr) -> PathKey {
        PathKey::direct(InterfaceId(1), self.at[own].ip(), other)
    }

    /// What each sends comes to the other.
    fn settle(&mut self) {
        while let Some((from, transmit)) =
            (0..2).find_map(|n| Some((n, self.hosts[n].poll_transmit(self.now)?)))
        {
            let to = 1 - from;
            let (path, length) = match &transmit {
                Transmit::Contact { path, .. } => (*path, 148),
                Transmit::Keepalive { path } => (*path, 32),
                Transmit::Secure { path, payload } => (*path, payload.len() + 68),
                Transmit::Datagram { path, payload } => (*path, payload.len()),
            };
            if path.remote != self.at[to] {
                self.astray[from] += length + 28;
                let data = matches!(&transmit, Transmit::Datagram { payload, .. } if payload[0] == 0x60);
                self.data[from] += if data { length } else { 0 };
                continue;
            }
            if path.local != self.at[from].ip() {
                // In somebody else's name: the answer goes there, and is no answer to this.
                continue;
            }
            self.sent[from] += length + 28;
            let path = self.path(to, self.at[from]);
            match transmit {
                Transmit::Contact { .. } if self.drops == Drops::Handshakes => {}
                Transmit::Datagram { payload, .. } if self.drops == Drops::Sealed && from == 1 => {
                    self.kept.push((from, payload));
                }
                Transmit::Contact { .. } => {
                    self.sent[to] += 92 + 28;
                    self.hosts[to].secure_up(self.now, path, Role::Target, true);
                    let back = self.path(from, self.at[to]);
                    self.hosts[from].secure_up(self.now, back, Role::Initiator, true);
                }
                Transmit::Keepalive { .. } => {}
                Transmit::Secure { payload, .. } => {
                    self.hosts[to].handle_secure(self.now, path, &payload, &mut NoBook);
                }
                Transmit::Datagram { mut payload, .. } => {
                    self.hosts[to].handle_datagram(self.now, path, &mut payload);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let due = self.hosts.iter().filter_map(|h| h.poll_timeout(self.now)).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            for host in &mut self.hosts {
                if host.poll_timeout(self.now).is_some_and(|due| due <= self.now) {
                    host.handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    fn says(&mut self, host: usize) {
        let mut frame = [0x45; DATA_OVERHEAD + 400];
        if let Outgoing::Send(path) = self.hosts[host].seal_data(self.now, &mut frame, Flags::NONE) {
            self.sent[host] += frame.len() + 28;
            if path.remote == self.at[1 - host] {
                let back = self.path(1 - host, self.at[host]);
                let received = self.hosts[1 - host].handle_datagram(self.now, back, &mut frame);
                self.arrived[1 - host] += usize::from(matches!(received, Received::Data(..)));
            } else {
                self.data[host] += frame.len();
            }
        }
    }
}

/// Whatever a peer lists, and however often it begins anew: to where nobody answers goes no more than it has sent.
#[test]
fn a_list_of_others_addresses_makes_no_reflector() {
    for listed in [1, 5, 14] {
        let mut two = Two::new(listed);
        let mut met = 0;
        for round in 0..120 {
            two.run(Duration::from_millis(100));
            met += usize::from(two.hosts[0].active_path().is_some());
            assert!(two.astray[0] <= two.sent[1], "{listed} listed: {} of {}", two.astray[0], two.sent[1]);
            assert_eq!(two.data[0], 0, "data to somebody who never answered");
            // It begins anew, as another context each time.
            two.hosts[1] = host(two.now, 1, two.at, listed, 100 + round);
        }
        println!("{listed} listed: {:?} sent, {:?} astray, in contact {met} times", two.sent, two.astray);
        assert!(met > 60 && two.astray[0] > 0, "{met}, {:?}", two.astray);
    }
}

/// A handshake of its own, confirmed in the name of somebody else.
#[test]
fn a_confirmation_in_anothers_name_sends_nothing_there() {
    let mut two = Two::new(0);
    let victim = SocketAddr::from(([198, 51, 100, 1], 6278));
    let (lie, now) = (two.path(0, victim), two.now);
    two.hosts[0].secure_up(now, lie, Role::Target, false);
    two.run(Duration::from_millis(300));
    two.hosts[0].secure_up(two.now, lie, Role::Target, false);
    for _ in 0..50 {
        two.says(0);
        two.run(Duration::from_millis(20));
    }
    assert_eq!(two.hosts[0].active_path().map(|p| p.remote), Some(two.at[1]));
    assert!(two.hosts[0].paths().all(|p| p.key.remote != victim || p.state != PathState::Validated));
    assert_eq!(two.data[0], 0);
    assert!(two.astray[0] <= 200, "{}", two.astray[0]);
}

/// Each datagram with a sender of its own uses up no more than a few places.
#[test]
fn strays_do_not_crowd_out_what_is_named() {
    let mut two = Two::new(0);
    two.run(Duration::from_millis(300));
    for n in 0..200_u8 {
        let path = two.path(0, SocketAddr::from(([203, 0, 113, n], 1_000 + u16::from(n))));
        let now = two.now;
        two.hosts[0].secure_up(now, path, Role::Target, false);
    }
    let strays = two.hosts[0].paths().filter(|p| p.key.remote != two.at[1]).count();
    assert!(strays <= 4, "{strays}");
    assert_eq!(two.hosts[0].active_path().map(|p| p.remote), Some(two.at[1]));
}

/// A SHUT that somebody held back says nothing of the context that came after the one it ended.
#[test]
fn a_context_is_not_ended_by_what_ended_the_one_before() {
    let mut two = Two::new(0);
    two.run(Duration::from_secs(1));
    for life in 0..3 {
        two.says(1);
        two.drops = Drops::Sealed;
        let now = two.now;
        two.hosts[1].shut(now, ShutReason::Down);
        two.run(Duration::from_secs(5));
        assert!(!two.hosts[1].is_shutting(), "it was told in vain");
        two.drops = Drops::Nothing;
        let now = two.now;
        two.hosts[1].connect(now);
        two.run(Duration::from_millis(500));
        assert_eq!(two.hosts.each_ref().map(|h| h.state(two.now)), [PeerState::Connected; 2]);
        let kept = std::mem::take(&mut two.kept);
        assert!(!kept.is_empty());
        for (from, mut payload) in kept {
            let (now, path) = (two.now, two.path(1 - from, two.at[from]));
            let received = two.hosts[1 - from].handle_datagram(now, path, &mut payload);
            assert!(matches!(received, Received::Dropped(_)), "life {life}: {received:?}");
        }
        two.run(Duration::from_millis(500));
        assert_eq!(two.hosts.each_ref().map(|h| h.state(two.now)), [PeerState::Connected; 2]);
        while let Some(event) = two.hosts[0].poll_event() {
            assert!(!matches!(event, Event::Shut(_)));
        }
    }
}

/// Whoever drops nothing but handshakes does not keep keys alive: they end, and data waits for new ones.
#[test]
fn keys_end_where_handshakes_are_dropped() {
    let mut two = Two::new(0);
    two.run(Duration::from_secs(1));
    two.drops = Drops::Handshakes;
    let begun = two.now;
    let mut last = two.now;
    while two.now < begun + Duration::from_secs(1_000) {
        let before = two.arrived[0];
        two.says(1);
        two.run(Duration::from_millis(500));
        if two.arrived[0] > before {
            last = two.now;
        }
    }
    let lived = last - begun;
    // A new epoch was due after 120 s (135 s), and 180 s later the old one was over.
    assert!((Duration::from_secs(290)..Duration::from_secs(320)).contains(&lived), "{lived:?}");
    assert_eq!(two.hosts[1].state(two.now), PeerState::Unreachable, "not connected but dead");
    assert_ne!(two.hosts[0].state(two.now), PeerState::Connected);
    two.drops = Drops::Nothing;
    let before = two.arrived[0];
    for _ in 0..10 {
        two.says(1);
        two.run(Duration::from_millis(500));
    }
    assert!(two.arrived[0] > before, "it goes on once they pass again");
}

/// What was sealed with keys that carried data can soon not be opened any more by who steals what is in memory, though
/// nobody says anything from then on.
#[test]
fn keys_that_carried_data_do_not_outlive_it_for_long() {
    let mut two = Two::new(0);
    two.run(Duration::from_secs(1));
    let mut frame = [0x45; DATA_OVERHEAD + 400];
    let now = two.now;
    assert!(matches!(two.hosts[1].seal_data(now, &mut frame, Flags::NONE), Outgoing::Send(_)));
    let recorded = frame;
    for minutes in 0..60 {
        let (now, path) = (two.now, two.path(0, two.at[1]));
        let received = two.hosts[0].handle_datagram(now, path, &mut recorded.clone());
        if minutes >= 8 {
            assert_eq!(received, Received::Dropped(Drop::UnknownEpoch), "after {minutes} min");
        }
        two.run(Duration::from_secs(60));
        assert_eq!(two.hosts[0].state(two.now), PeerState::Connected);
    }
}

/// A host that sleeps does not count the time, but its keys grow old.
#[test]
fn keys_grow_old_in_sleep() {
    let mut two = Two::new(0);
    two.run(Duration::from_secs(1));
    two.says(1);
    let now = two.now;
    two.hosts[1].handle_sleep(now, Duration::from_secs(100));
    assert_eq!(two.hosts[1].state(now), PeerState::Connected);
    two.hosts[1].handle_sleep(now, Duration::from_secs(8 * 3600));
    let mut frame = [0x45; DATA_OVERHEAD + 400];
    assert_eq!(two.hosts[1].seal_data(now, &mut frame, Flags::NONE), Outgoing::Held);
    two.run(Duration::from_secs(3));
    assert_eq!(two.hosts[1].state(two.now), PeerState::Connected);
}
