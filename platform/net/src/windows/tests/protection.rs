//! What leak protection lets through, packet by packet, and how it outlives what it protects.

use std::collections::BTreeMap;
use std::sync::Arc;

use mast_engine::declared::Guard;

use super::*;
use crate::windows::filters::{self, Condition, Filter, InForce, Layer, Life, Rules};

const PROGRAM: &[u8] = b"\\device\\harddiskvolume3\\program files\\mast\\mastd.exe";
const TUNNEL: u64 = 77;
const UPLINK: u64 = 5;

/// What the system asks filters about.
#[derive(Debug, Clone)]
struct Packet {
    layer: Layer,
    adapter: u64,
    leaves: u64,
    program: &'static [u8],
    administrator: bool,
    protocol: u8,
    own: u16,
    other: u16,
    to: IpAddr,
}

fn packet(layer: fn(Family) -> Layer, protocol: u8, to: &str, other: u16) -> Packet {
    let to = ip(to);
    Packet {
        layer: layer(Family::of(to)),
        adapter: UPLINK,
        leaves: UPLINK,
        program: b"browser.exe",
        administrator: false,
        protocol,
        own: 50_000,
        other,
        to,
    }
}

fn tcp(to: &str, port: u16) -> Packet {
    packet(Layer::Connect, 6, to, port)
}

fn udp(to: &str, port: u16) -> Packet {
    packet(Layer::Connect, 17, to, port)
}

fn icmp(layer: fn(Family) -> Layer, kind: u16, to: &str) -> Packet {
    Packet { own: kind, ..packet(layer, 58, to, 0) }
}

/// As the system does it: of conditions about the same field one must hold, and of those about different ones all.
fn fits(filter: &Filter, packet: &Packet) -> bool {
    let mut fields: BTreeMap<&str, bool> = BTreeMap::new();
    for condition in &filter.conditions {
        let (field, holds) = match condition {
            Condition::Loopback => ("flags", packet.to.is_loopback()),
            Condition::Adapter(luid) => ("adapter", packet.adapter == *luid),
            Condition::Leaves(luid) => ("leaves", packet.leaves == *luid),
            Condition::Program(program) => ("program", packet.program == &**program),
            Condition::Users(words) => {
                assert!(words.contains(";;;SY)") && words.contains(";;;BA)"));
                ("users", packet.administrator)
            }
            Condition::Protocol(protocol) => ("protocol", packet.protocol == *protocol),
            Condition::Own(port) => ("own port", packet.own == *port),
            // The same field, of another protocol.
            Condition::Icmp(kind) => ("own port", packet.own == u16::from(*kind)),
            Condition::Other(port) => ("other port", packet.other == *port),
            Condition::To(range) => ("to", range.contains(packet.to)),
        };
        *fields.entry(field).or_default() |= holds;
    }
    filter.layer == packet.layer && fields.values().all(|holds| *holds)
}

/// What the first one that fits says; what none fits is let through.
fn passes(all: &[Filter], life: Life, packet: &Packet) -> bool {
    all.iter().filter(|f| f.life == life).find(|f| fits(f, packet)).is_none_or(|f| f.permit)
}

const BOTH: [Family; 2] = [Family::V4, Family::V6];

fn guard(families: &[Family], local_network: bool) -> Guard {
    let interfaces = ["mast0".to_owned(), "My Tunnel 2".to_owned()].into();
    Guard { families: families.iter().copied().collect(), interfaces, local_network }
}

fn rules(protect: &[Family], guard: Option<Guard>) -> Rules {
    let adapters = [("mast0".to_owned(), Some(TUNNEL)), ("My Tunnel 2".to_owned(), None)].into();
    Rules { protect: protect.iter().copied().collect(), guard, adapters, program: filters::mark(PROGRAM) }
}

fn list(rules: &Rules) -> Vec<Filter> {
    rules.filters(&Arc::from(PROGRAM)).unwrap()
}

#[test]
fn what_may_leave_is_let_through_and_nothing_else() {
    let all = list(&rules(&BOTH, Some(guard(&BOTH, true))));
    let may = |packet: &Packet| passes(&all, Life::Persistent, packet);
    for far in ["203.0.113.9", "2001:db8::9"] {
        for packet in [tcp(far, 443), udp(far, 443), udp(far, 53), packet(Layer::Connect, 1, far, 0)] {
            assert!(!may(&packet), "{packet:?}");
            assert!(may(&Packet { adapter: TUNNEL, ..packet.clone() }), "into the tunnel: {packet:?}");
        }
        let mut own = Packet { program: PROGRAM, administrator: true, ..udp(far, 6278) };
        assert!(may(&own) && may(&Packet { layer: Layer::Accept(Family::of(own.to)), ..own.clone() }));
        assert!(may(&Packet { other: 53, ..own.clone() }), "names of peers are asked for");
        own.protocol = 6;
        assert!(may(&own), "relays are connected to");
        assert!(
            !may(&Packet { layer: Layer::Accept(Family::of(own.to)), ..own.clone() }),
            "nobody connects to it"
        );
        own.protocol = 17;
        assert!(!may(&Packet { administrator: false, ..own.clone() }), "a user runs the same program");
        assert!(!may(&Packet { program: b"other.exe", ..own }));
        assert!(!may(&packet(Layer::Accept, 6, far, 50_000)), "somebody connects, whom it would answer");
    }
    for loopback in ["127.0.0.1", "::1"] {
        assert!(may(&tcp(loopback, 80)) && may(&packet(Layer::Accept, 6, loopback, 80)));
    }
}

#[test]
fn addresses_and_neighbours_are_found() {
    // Not even the local network is allowed.
    let all = list(&rules(&[], Some(guard(&BOTH, false))));
    let ask = |to: &str, own, other| Packet { own, ..udp(to, other) };
    let told = |from: &str, own, other| Packet { own, ..packet(Layer::Accept, 17, from, other) };
    let yes = [
        ask("255.255.255.255", 68, 67),
        ask("192.168.1.1", 68, 67),
        told("203.0.113.1", 68, 67),
        ask("ff02::1:2", 546, 547),
        ask("fe80::1", 546, 547),
        told("fe80::1", 546, 547),
        icmp(Layer::Connect, 133, "ff02::2"),
        icmp(Layer::Connect, 135, "ff02::1:ff00:1"),
        icmp(Layer::Connect, 136, "2001:db8::7"),
        icmp(Layer::Connect, 143, "ff02::16"),
        icmp(Layer::Accept, 134, "fe80::1"),
        icmp(Layer::Accept, 135, "2001:db8::7"),
        icmp(Layer::Accept, 130, "fe80::1"),
    ];
    let no = [
        ask("203.0.113.1", 68, 67),
        ask("192.168.1.1", 50_000, 67),
        ask("192.168.1.1", 68, 80),
        ask("2001:db8::9", 546, 547),
        told("2001:db8::9", 546, 547),
        icmp(Layer::Connect, 128, "2001:db8::9"),
        icmp(Layer::Connect, 134, "ff02::1"),
        icmp(Layer::Accept, 134, "2001:db8::9"),
        icmp(Layer::Accept, 128, "fe80::1"),
        tcp("192.168.1.1", 80),
        tcp("fe80::1", 80),
    ];
    for life in [Life::Persistent, Life::Boot] {
        for packet in &yes {
            assert!(passes(&all, life, packet), "{life:?} {packet:?}");
        }
        for packet in &no {
            assert!(!passes(&all, life, packet), "{life:?} {packet:?}");
        }
    }
    // At a boot the program and the adapter are not known.
    let own = Packet { program: PROGRAM, administrator: true, ..udp("203.0.113.9", 6278) };
    assert!(!passes(&all, Life::Boot, &own));
}

#[test]
fn the_local_network_is_near_and_is_asked_for_no_names() {
    let open = list(&rules(&BOTH, Some(guard(&BOTH, true))));
    let shut = list(&rules(&BOTH, Some(guard(&BOTH, false))));
    let alone = list(&rules(&BOTH, None));
    for near in ["10.1.2.3", "172.31.0.1", "192.168.1.2", "169.254.1.1", "224.0.0.251", "fe80::1", "fd00::1"]
    {
        let comes = packet(Layer::Accept, 6, near, 50_000);
        for packet in [tcp(near, 445), udp(near, 5353), comes] {
            assert!(passes(&open, Life::Persistent, &packet), "{packet:?}");
            assert!(!passes(&shut, Life::Persistent, &packet), "{packet:?}");
            assert!(passes(&alone, Life::Persistent, &packet), "{packet:?}");
        }
        for port in [53, 853] {
            for packet in [udp(near, port), tcp(near, port)] {
                assert!(!passes(&open, Life::Persistent, &packet), "{packet:?}");
            }
        }
    }
    // Private ranges end where they end.
    for far in ["172.32.0.1", "11.0.0.1", "192.169.0.1", "224.0.1.1", "fec0::1", "ff05::1"] {
        assert!(!passes(&open, Life::Persistent, &tcp(far, 445)), "{far}");
    }
}

#[test]
fn a_version_that_is_not_held_back_goes_as_it_likes() {
    let all = list(&rules(&[], Some(guard(&[Family::V6], true))));
    assert!(passes(&all, Life::Persistent, &tcp("203.0.113.9", 443)));
    assert!(passes(&all, Life::Boot, &tcp("203.0.113.9", 443)));
    assert!(!passes(&all, Life::Persistent, &tcp("2001:db8::9", 443)));
}

#[test]
fn what_is_passed_on_for_others_goes_into_the_tunnel_and_out_of_it() {
    let all = list(&rules(&BOTH, Some(guard(&BOTH, true))));
    for far in ["203.0.113.9", "2001:db8::9", "192.168.1.2"] {
        let passed = packet(Layer::Forward, 17, far, 53);
        assert!(!passes(&all, Life::Persistent, &passed));
        assert!(passes(&all, Life::Persistent, &Packet { leaves: TUNNEL, ..passed.clone() }));
        assert!(passes(&all, Life::Persistent, &Packet { adapter: TUNNEL, ..passed }));
    }
}

#[test]
fn what_is_in_force_is_read_from_the_labels() {
    for rules in [
        rules(&BOTH, Some(guard(&BOTH, true))),
        rules(&[], Some(guard(&[Family::V6], false))),
        Rules { adapters: BTreeMap::new(), ..rules(&[Family::V4], None) },
    ] {
        let all = list(&rules);
        let labels: Vec<&str> = all.iter().map(|f| f.label.as_str()).collect();
        assert_eq!(filters::read(labels.iter().copied()), InForce::Whole(rules.clone()), "{labels:?}");
        let lasting: Vec<&str> = labels.iter().copied().filter(|label| *label != "mast boot").collect();
        assert!(lasting.len() < labels.len());
        assert_eq!(
            filters::read(lasting.iter().copied()),
            InForce::Whole(rules),
            "those of a boot are not told"
        );
        for gone in 0..lasting.len() {
            let rest = lasting.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, label)| *label);
            assert_eq!(filters::read(rest), InForce::Part, "{gone}");
        }
        let more = labels.iter().copied().chain(["mast 1/1 p4 g- 0 "]);
        assert_eq!(filters::read(more), InForce::Part);
        // One that was switched off has none.
        assert_eq!(filters::read(labels.iter().copied().chain([""])), InForce::Part);
    }
    assert_eq!(filters::read([]), InForce::Nothing);
    for odd in
        ["mast boot", "something", "mast 1/1 p7 g- 0 ", "mast 1/1 p4 g4x 0 ", "mast 1/1 p4 g4l 0 a|g|x"]
    {
        assert_eq!(filters::read([odd]), InForce::Part, "{odd}");
    }
    let named = |name: &str| Rules { adapters: [(name.to_owned(), None)].into(), ..rules(&BOTH, None) };
    for name in ["", "a|b", "a/b"] {
        assert!(named(name).filters(&Arc::from(PROGRAM)).is_err(), "{name}");
    }
    // There is room for all of them under the names that they have.
    assert!(list(&rules(&BOTH, Some(guard(&BOTH, true)))).len() < 100);
}

fn declared(interface: Option<&str>, local_network: bool) -> Declared {
    Declared {
        interface: interface.map(str::to_owned),
        protection: BOTH.into(),
        guard: Some(Guard { interfaces: ["mast0".to_owned()].into(), ..guard(&BOTH, local_network) }),
        ..Declared::default()
    }
}

fn in_force(played: &Played) -> InForce {
    let state = played.0.0.lock().unwrap();
    filters::read(state.filters.iter().map(|f| f.label.as_str()))
}

fn may(played: &Played, packet: &Packet) -> bool {
    passes(&played.0.0.lock().unwrap().filters, Life::Persistent, packet)
}

#[tokio::test]
async fn it_outlives_the_service_and_lets_the_next_adapter_through_without_a_moment_between() {
    let played = laptop();
    played.change(|state| state.program = PROGRAM);
    let far = tcp("203.0.113.9", 443);
    // Before there is an adapter.
    let mut early = Reconciler::new(played.platform().host().unwrap());
    fine(&early.apply(&declared(None, true), true));
    assert!(!may(&played, &far));
    drop(early);

    let through = |played: &Played| {
        let luid = played.0.0.lock().unwrap().adapters.iter().find(|a| a.name == "mast0").unwrap().luid;
        may(played, &Packet { adapter: luid, ..tcp("203.0.113.9", 443) })
    };
    for round in 0..2 {
        let platform = played.platform();
        let tun = platform.create_tun(&wish()).await.unwrap();
        let mut keeper = Reconciler::new(platform.host().unwrap());
        fine(&keeper.apply(&declared(Some("mast0"), true), round == 0));
        assert!(through(&played) && !may(&played, &far), "{round}");
        assert_eq!(keeper.apply(&declared(Some("mast0"), true), true).taken, 0, "nothing differs");
        // The service is killed: the adapter goes, the filters stay.
        drop((keeper, tun));
        assert!(!may(&played, &far));
    }
    assert_eq!(played.0.0.lock().unwrap().unfiltered, 0);

    // Another program in its place, as after an installation elsewhere.
    played.change(|state| state.program = b"elsewhere\\mastd.exe");
    let own = Packet { program: b"elsewhere\\mastd.exe", administrator: true, ..udp("203.0.113.9", 6278) };
    assert!(!may(&played, &own));
    let mut keeper = Reconciler::new(played.platform().host().unwrap());
    fine(&keeper.apply(&declared(None, true), true));
    assert!(may(&played, &own));

    // Shut for the local network, and ended by the next who does not want it, such as `mastd --clear`.
    fine(&keeper.apply(&declared(None, false), false));
    assert!(!may(&played, &tcp("192.168.1.2", 80)));
    assert_eq!(played.0.0.lock().unwrap().unfiltered, 0);
    let mut host = played.platform().host().unwrap();
    let present = host.present(None).unwrap();
    assert!(present.protection == BOTH.into() && present.guard.is_some());
    fine(&Reconciler::new(host).apply(&Declared::default(), true));
    assert_eq!(in_force(&played), InForce::Nothing);
}

#[tokio::test]
async fn what_an_adapter_that_is_gone_left_is_told_and_taken_away() {
    let played = laptop();
    let tun = played.platform().create_tun(&wish()).await.unwrap();
    fine(&Reconciler::new(played.platform().host().unwrap()).apply(&declared(Some("mast0"), true), true));
    drop(tun);
    let mut host = played.platform().host().unwrap();
    assert_eq!(host.present(None).unwrap().protection, BOTH.into(), "`--clear` says so");
    fine(&Reconciler::new(host).apply(&Declared::default(), true));
    assert_eq!(in_force(&played), InForce::Nothing);
    // Once more there is nothing to do.
    let before = played.0.0.lock().unwrap().unfiltered;
    assert_eq!(Reconciler::new(played.platform().host().unwrap()).apply(&Declared::default(), true).taken, 0);
    assert_eq!(played.0.0.lock().unwrap().unfiltered, before);
}

#[tokio::test]
async fn what_somebody_took_away_is_put_back_and_told() {
    let played = laptop();
    let mut keeper = Reconciler::new(played.platform().host().unwrap());
    fine(&keeper.apply(&declared(None, true), true));
    for damage in [
        (|state: &mut State| _ = state.filters.pop()) as fn(&mut State),
        |state| state.filters.clear(),
        |state| state.filters[3].label = "something".to_owned(),
    ] {
        // Those of a boot are last, and are not looked for.
        played.change(|state| state.filters.retain(|f| f.life == Life::Persistent));
        played.change(damage);
        let outcome = keeper.apply(&declared(None, true), true);
        fine(&outcome);
        assert!(outcome.mended.iter().any(|text| text.contains("leak protection")), "{outcome:?}");
        assert!(!may(&played, &tcp("203.0.113.9", 443)));
        assert!(matches!(in_force(&played), InForce::Whole(_)));
    }
    assert_eq!(played.0.0.lock().unwrap().unfiltered, 0);
    // A part of it, and nobody wants it.
    played.change(|state| drop(state.filters.remove(0)));
    fine(&Reconciler::new(played.platform().host().unwrap()).apply(&Declared::default(), true));
    assert_eq!(in_force(&played), InForce::Nothing);
}

#[tokio::test]
async fn a_refusal_is_told_with_what_to_do_and_leaves_what_was_there() {
    let played = laptop();
    let mut keeper = Reconciler::new(played.platform().host().unwrap());
    fine(&keeper.apply(&declared(None, true), true));
    let before = in_force(&played);
    played.change(|state| state.refuse = Some(("set them", io::ErrorKind::PermissionDenied)));
    let outcome = keeper.apply(&declared(None, false), false);
    assert!(outcome.refused.iter().any(|r| r.text.contains("run as administrator")), "{outcome:?}");
    assert!(outcome.lacking.is_none(), "no other protection takes its place");
    assert_eq!(in_force(&played), before);
    // Whoever may not even ask did not set any.
    played.change(|state| state.refuse = Some(("filters", io::ErrorKind::PermissionDenied)));
    assert_eq!(played.platform().host().unwrap().present(None).unwrap().guard, None);

    let check = |played: &Played| {
        let checks = played.platform().checks();
        checks.into_iter().find(|check| check.name == "protection").unwrap()
    };
    played.change(|state| state.refuse = None);
    let told = check(&played);
    assert!(told.ok && told.explanation.contains("Hyper-V"), "{told:?}");
    played.change(|state| state.blockers = vec!["OtherVPN".into()]);
    let told = check(&played);
    assert!(told.ok && told.explanation.contains("OtherVPN"), "{told:?}");
    played.change(|state| state.refuse = Some(("blockers", io::ErrorKind::PermissionDenied)));
    let told = check(&played);
    assert!(!told.ok && told.explanation.contains("run as administrator"), "{told:?}");
}
