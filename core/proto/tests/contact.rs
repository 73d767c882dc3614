//! First contact and plain WireGuard peers, one context alone.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mast_proto::wire::{EidPair, Flags, InitAck, Message};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, DATA_OVERHEAD, EidBook, HoldLimits, IndexKey, Interface,
    InterfaceId, InterfaceKind, Outgoing, PathKey, PathState, PeerKind, Policy, Role, Transmit,
};
use proptest::prelude::*;

struct NoBook;

impl EidBook for NoBook {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<EidPair> {
        None
    }
}

fn interface(id: u8, usable: bool) -> Interface {
    Interface {
        id: InterfaceId(u32::from(id)),
        name: format!("eth{id}"),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: vec![IpAddr::from([198, 51, 100, id])],
        link_local: None,
        usable,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    }
}

fn key(interface: u8, host: u8) -> PathKey {
    let local = IpAddr::from([198, 51, 100, interface]);
    let remote = SocketAddr::from(([192, 0, 2, host], 6278));
    PathKey::direct(InterfaceId(u32::from(interface)), local, remote)
}

/// A context with two interfaces that wants a peer at one address.
fn wanting(now: Instant, expect: PeerKind) -> Context {
    let config = ContextConfig {
        indices: IndexKey::new([1; 32]).indices(1),
        instance: 1,
        lower: true,
        name: "host".into(),
        aeads: vec![Aead::ChaCha20Poly1305],
        eid_v6: "fd4d:6173:7400::1".parse().expect("an address"),
        eid_v4: None,
        port: 6278,
        expect: Some(expect),
        disclosure: Default::default(),
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: [3; 32],
    };
    let mut context = Context::new(config, now);
    context.handle_interfaces(now, [interface(1, true), interface(2, true)].into());
    context.set_addresses(now, AddressSource::Configuration, [key(1, 1).remote]);
    context.connect(now);
    context
}

/// Does what is due until `now`, and hands over what is to be sent. Timers must move.
fn until(context: &mut Context, from: Instant, now: Instant) -> Vec<Transmit> {
    let mut at = from;
    let mut sent = Vec::new();
    loop {
        sent.extend(std::iter::from_fn(|| context.poll_transmit(at)));
        while context.poll_event().is_some() {}
        match context.poll_timeout(at) {
            Some(due) if due <= now => at = at.max(due),
            _ => break,
        }
        for turn in 0.. {
            context.handle_timeout(at);
            if context.poll_timeout(at).is_none_or(|due| due > at) {
                break;
            }
            assert!(turn < 4, "a timer stays due");
        }
    }
    sent
}

/// An answer to INIT that makes no sense is not the end: INIT goes on, and contact after it.
#[test]
fn senseless_answers_change_nothing() {
    let start = Instant::now();
    let mut context = wanting(start, PeerKind::Mast);
    until(&mut context, start, start);
    context.secure_up(start, key(1, 1), Role::Initiator, true);
    let sent = until(&mut context, start, start);
    let Some(Transmit::Secure { payload, .. }) = sent.last() else { panic!("{sent:?}") };
    let Ok(Message::Init(init)) = Message::decode(payload) else { panic!("INIT is due") };
    for (version, index, aead, instance) in
        [(2, 7, 2, 9), (1, 0, 2, 9), (1, 7, 1, 9), (1, 7, 77, 9), (1, 7, 2, 1)]
    {
        let ack = InitAck {
            version,
            instance,
            index,
            random: [5; 32],
            aead,
            capabilities: init.capabilities,
            epoch: init.epoch,
            eid_v6: init.eid_v6,
            eid_v4: None,
            name: String::new(),
            answers: init.random,
            further: None,
        };
        context.handle_secure(start, key(1, 1), &Message::InitAck(ack).encode(), &mut NoBook);
    }
    let later = start + Duration::from_secs(20);
    let sent = until(&mut context, start, later);
    let inits =
        sent.iter().filter(|t| matches!(t, Transmit::Secure { payload: p, .. } if p == payload)).count();
    assert_eq!(inits, 3, "the same INIT three times more");
    assert!(sent.iter().any(|t| matches!(t, Transmit::Contact { fresh: true, .. })), "and a new handshake");
}

/// An echo request.
const ECHO: [u8; 28] =
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0, 0, 0, 0, 0];

/// Its answer.
const ECHO_REPLY: [u8; 28] =
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_silent_path_to_a_plain_peer_has_its_own_round_trip_before_others_are_asked() {
    let start = Instant::now();
    let mut context = wanting(start, PeerKind::WireGuard);
    let ms = Duration::from_millis;
    let mut sent = until(&mut context, start, start);
    assert!(matches!(sent[..], [Transmit::Contact { path, fresh: true }] if path == key(1, 1)), "{sent:?}");
    let mut now = start + ms(40);
    context.secure_up(now, key(1, 1), Role::Initiator, true);
    let room = context.inner_mtu().expect("there is a path");
    assert!(room.is_multiple_of(16) && (1_100..=1_500 - 28 - 32).contains(&room), "{room}: WireGuard pads");
    until(&mut context, start, now + ms(3_000));
    now += ms(3_000);
    for _ in 0..5 {
        context.note_plain_datagram(now, &ECHO);
        sent = until(&mut context, now, now + ms(40));
        assert!(sent.is_empty(), "{sent:?}");
        now += ms(40);
        context.note_plain_received(now, key(1, 1), 60, Some(&ECHO_REPLY));
    }
    context.note_plain_datagram(now, &ECHO);
    let mut segment = [0_u8; 48];
    segment[..12].copy_from_slice(&[0x45, 0, 0, 48, 0, 0, 0, 0, 64, 6, 0, 0]);
    segment[32] = 0x50;
    context.note_plain_datagram(now, &segment);
    let state = |c: &Context| c.paths().find(|p| p.active).map(|p| (p.key, p.state));
    sent = until(&mut context, now, now + ms(199));
    assert!(sent.is_empty(), "{sent:?}");
    assert_eq!(state(&context), Some((key(1, 1), PathState::Validated)));
    let silent = now;
    sent = until(&mut context, silent, silent + ms(390));
    assert_eq!(state(&context), Some((key(1, 1), PathState::Suspect)));
    assert!(!context.take_plain(silent + ms(390), Flags::NONE, &ECHO), "it waits");
    assert!(context.take_plain(silent + ms(390), Flags::NONE, &segment), "a copy of this does no harm");
    let over = |t: &Transmit| match t {
        Transmit::Contact { path, fresh: true } => Some(*path),
        _ => None,
    };
    assert_eq!(sent.iter().map(over).collect::<Vec<_>>(), [Some(key(1, 1)), Some(key(1, 1))], "by itself");
    sent = until(&mut context, silent + ms(390), silent + ms(450));
    assert_eq!(sent.iter().map(over).collect::<Vec<_>>(), [Some(key(2, 1))], "then the other");
    assert_eq!(state(&context), Some((key(1, 1), PathState::Suspect)), "nothing else works yet");
    context.secure_up(silent + ms(480), key(2, 1), Role::Initiator, true);
    assert_eq!(state(&context), Some((key(2, 1), PathState::Validated)));
    let next = |context: &mut Context| context.poll_plain(silent + ms(480)).map(|(datagram, _)| datagram);
    assert_eq!(next(&mut context).as_deref(), Some(&segment[..]), "TCP that went into the silence");
    assert_eq!(next(&mut context).as_deref(), Some(&ECHO[..]), "what waited for the verdict");
    assert_eq!(next(&mut context), None, "and nothing that may have arrived");
}

proptest! {
    /// Whatever happens to a plain WireGuard peer, its timers move, and little is sent.
    #[test]
    fn timers_of_plain_peers_move(story in proptest::collection::vec((0_u8..8, 1_u8..3, 1_u8..4, 0_u64..40_000), 1..60)) {
        let mut now = Instant::now();
        let mut context = wanting(now, PeerKind::WireGuard);
        let mut up = [true; 2];
        let mut sent = 0;
        let start = now;
        for (what, interface_id, host, pause) in story.iter().copied() {
            let path = key(interface_id, host);
            match what {
                0 if host == 1 => context.note_plain_datagram(now, &ECHO),
                0 => context.note_plain_sent(now, path, 100),
                1 => context.note_plain_received(now, path, 100, [None, Some(&ECHO_REPLY[..])][usize::from(host % 2)]),
                2 => context.secure_up(now, path, Role::Initiator, true),
                3 => context.secure_up(now, path, Role::Target, true),
                4 => {
                    up[usize::from(interface_id - 1)] ^= true;
                    context.handle_interfaces(now, [interface(1, up[0]), interface(2, up[1])].into());
                }
                5 => context.handle_send_error(now, path, mast_proto::SendError::Unreachable),
                6 => drop(context.plain_path(now)),
                _ => context.revalidate(now),
            }
            let later = now + Duration::from_millis(if what == 6 { pause * 50 } else { pause / 100 });
            sent += until(&mut context, now, later).len();
            now = later;
        }
        let seconds = (now - start).as_secs() as usize;
        prop_assert!(sent <= 8 * (story.len() + seconds + 8), "{sent} in {seconds} s");
    }
}

/// A path that answered the handshake is there before any key for data is: what the host sends meanwhile is held.
#[test]
fn what_is_sent_between_handshake_and_keys_is_held() {
    let now = Instant::now();
    let mut context = wanting(now, PeerKind::Mast);
    context.connect(now);
    context.secure_up(now, key(1, 1), Role::Initiator, true);
    let mut frames = [0; 3 * (DATA_OVERHEAD + 40)];
    let mut rest = &mut frames[..];
    while !rest.is_empty() {
        let (count, outcome) = context.seal_run(now, rest, DATA_OVERHEAD + 40, Flags::NONE);
        assert_eq!(outcome, Outgoing::Held);
        rest = &mut rest[count * (DATA_OVERHEAD + 40)..];
    }
    assert_eq!(context.held(), (3 * 40, 0));
}

#[test]
fn a_link_local_address_is_reached_over_its_own_link_alone() {
    let now = Instant::now();
    let mut context = wanting(now, PeerKind::Mast);
    let remote: SocketAddr = "[fe80::9%2]:6278".parse().expect("an address");
    let keys = |context: &Context| context.paths().map(|p| p.key).collect::<Vec<_>>();
    context.set_addresses(now, AddressSource::Configuration, [remote]);
    assert_eq!(keys(&context), [], "the interface has no link-local address yet");
    let with = |own: Option<&str>| {
        let mut list = [interface(1, true), interface(2, true)];
        for interface in &mut list {
            interface.addresses.push("2001:db8::7".parse().expect("an address"));
            interface.link_local = own.map(|own| own.parse().expect("an address"));
        }
        list
    };
    let [one, two] = with(Some("fe80::7"));
    context.handle_interfaces(now, [one, two].into());
    let expected = PathKey::direct(InterfaceId(2), "fe80::7".parse().expect("an address"), remote);
    assert_eq!(keys(&context), [expected]);
    // Another address is reached from addresses of its own scope.
    context.set_addresses(now, AddressSource::Dns, ["[2001:db8::9]:6278".parse().expect("an address")]);
    let of_global = |p: &&PathKey| p.remote != remote;
    let all = keys(&context);
    assert_eq!(all.iter().filter(of_global).count(), 2, "{all:?}");
    assert!(all.iter().filter(of_global).all(|p| p.local.to_string() == "2001:db8::7"), "{all:?}");
    context.set_addresses(now, AddressSource::Dns, []);
    // It goes with the address, or with the interface.
    context.handle_interfaces(now, with(None).into());
    assert_eq!(keys(&context), []);
    context.handle_interfaces(now, with(Some("fe80::7")).into());
    assert_eq!(keys(&context), [expected]);
    let [one, _] = with(Some("fe80::7"));
    context.handle_interfaces(now, [one].into());
    assert_eq!(keys(&context), []);
}

/// A plain peer that answers over two interfaces; data goes over the first.
fn plain_over_two(start: Instant) -> (Context, Instant) {
    let mut context = wanting(start, PeerKind::WireGuard);
    let ms = Duration::from_millis;
    until(&mut context, start, start);
    let mut now = start + ms(40);
    context.secure_up(now, key(1, 1), Role::Initiator, true);
    let asked = |t: &Transmit| matches!(t, Transmit::Contact { path, .. } if *path == key(2, 1));
    let mut tried = false;
    for _ in 0..200 {
        let sent = until(&mut context, now, now + ms(50));
        now += ms(50);
        if sent.iter().any(asked) {
            now += ms(40);
            context.secure_up(now, key(2, 1), Role::Initiator, true);
            tried = true;
            break;
        }
    }
    assert!(tried, "what may be better is tried");
    (context, now)
}

fn carries(context: &Context) -> Option<(PathKey, PathState)> {
    context.paths().find(|p| p.active).map(|p| (p.key, p.state))
}

/// What is known of a path to a plain peer grows old: it is asked before data moves there.
#[test]
fn a_path_to_a_plain_peer_is_asked_again_before_data_moves_there() {
    let ms = Duration::from_millis;
    for age in [2_000, 60_000] {
        let (mut context, mut now) = plain_over_two(Instant::now());
        assert_eq!(carries(&context).map(|(path, _)| path), Some(key(1, 1)));
        for _ in 0..age / 500 {
            context.note_plain_datagram(now, &ECHO);
            until(&mut context, now, now + ms(40));
            context.note_plain_received(now + ms(40), key(1, 1), 60, Some(&ECHO_REPLY));
            until(&mut context, now + ms(40), now + ms(500));
            now += ms(500);
        }
        assert_eq!(carries(&context), Some((key(1, 1), PathState::Validated)));
        let order = vec![mast_proto::Selector::Interface("eth2".into())];
        context.set_policy(now, Policy::Pin { order, fallback: true });
        let sent = until(&mut context, now, now + ms(20));
        let asked = sent.iter().any(|t| matches!(t, Transmit::Contact { path, .. } if *path == key(2, 1)));
        let old = age > 10_000;
        assert_eq!(asked, old, "{sent:?}");
        assert_eq!(carries(&context).map(|(path, _)| path), Some(key(if old { 1 } else { 2 }, 1)));
        context.secure_up(now + ms(60), key(2, 1), Role::Initiator, true);
        assert_eq!(carries(&context).map(|(path, _)| path), Some(key(2, 1)));
    }
}

/// Another path answers while the active one is being tried, for a reason of its own: data moves there, unasked.
#[test]
fn a_plain_peer_that_answers_elsewhere_meanwhile_is_not_asked_there() {
    let ms = Duration::from_millis;
    let (mut context, mut now) = plain_over_two(Instant::now());
    for _ in 0..5 {
        context.note_plain_datagram(now, &ECHO);
        until(&mut context, now, now + ms(40));
        now += ms(40);
        context.note_plain_received(now, key(1, 1), 60, Some(&ECHO_REPLY));
    }
    context.note_plain_datagram(now, &ECHO);
    let mut answered = false;
    let mut asked = 0;
    for _ in 0..200 {
        let sent = until(&mut context, now, now + ms(10));
        now += ms(10);
        let to = |n: u8| {
            let there = |t: &&Transmit| matches!(t, Transmit::Contact { path, .. } if *path == key(n, 1));
            sent.iter().filter(there).count()
        };
        asked += to(1);
        assert!(!answered || to(2) == 0, "{sent:?}");
        if asked > 0 && !answered {
            assert_eq!(carries(&context), Some((key(1, 1), PathState::Suspect)));
            context.secure_up(now, key(2, 1), Role::Target, true);
            answered = true;
        }
        if carries(&context).is_some_and(|(path, _)| path == key(2, 1)) {
            break;
        }
    }
    assert!(answered && asked > 0);
    assert_eq!(carries(&context), Some((key(2, 1), PathState::Validated)));
}

/// Addresses that are known already are no reason to begin anew.
#[test]
fn what_is_known_already_begins_no_contact() {
    let start = Instant::now();
    let mut context = wanting(start, PeerKind::Mast);
    let sent = until(&mut context, start, start);
    assert!(sent.iter().any(|t| matches!(t, Transmit::Contact { .. })), "{sent:?}");
    let soon = start + Duration::from_millis(5);
    context.set_addresses(soon, AddressSource::Configuration, [key(1, 1).remote]);
    assert_eq!(until(&mut context, soon, soon), [], "it is under way");
    context.set_addresses(soon, AddressSource::Configuration, [key(1, 1).remote, key(1, 2).remote]);
    let sent = until(&mut context, soon, soon + Duration::from_secs(5));
    let new = |t: &Transmit| matches!(t, Transmit::Contact { path, .. } if path.remote == key(1, 2).remote);
    assert!(sent.iter().any(new), "{sent:?}");
}

/// What a peer says of itself by a presence service is tried before anything came from it, and a little goes there: not
/// more than some forty datagrams in ten seconds, however often it says so.
#[test]
fn a_word_by_presence_is_tried_and_earns_little() {
    let start = Instant::now();
    let mut context = wanting(start, PeerKind::Mast);
    context.set_addresses(start, AddressSource::Configuration, []);
    until(&mut context, start, start);
    let named = |round: u8| SocketAddr::from(([203, 0, 113, round], 6278));
    let mut now = start;
    let mut contacts = |context: &mut Context, time: Duration| {
        let end = now + time;
        let sent = until(context, now, end);
        now = end;
        sent.iter()
            .filter(
                |t| matches!(t, Transmit::Contact { path, .. } if path.remote.ip() != key(1, 1).remote.ip()),
            )
            .count()
    };
    context.set_addresses(start, AddressSource::Presence, [named(1)]);
    let first = contacts(&mut context, Duration::from_secs(9));
    assert!((4..=47).contains(&first), "{first}");
    // Somebody else's addresses, one after the other.
    let mut sent = first;
    for second in 1..=60_u8 {
        context.set_addresses(
            start + Duration::from_secs(8 + u64::from(second)),
            AddressSource::Presence,
            [named(second)],
        );
        sent += contacts(&mut context, Duration::from_secs(1));
    }
    assert!(sent <= 47 * 8, "{sent} in 69 s");
}
