//! Each way in which a path can be lost, chosen, or come back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mast_e2e::{
    GAP, PATIENCE, Scene, Session, Tap, active, each_addressing, ip, lab, pair, remote, sends_to, sleep,
    told, within,
};
use mast_netlab::NatKind;
use mast_stage::{Addressing, Net, Train, TrainProfile};

each_addressing!(
    a_link_that_goes_down_is_left_at_once,
    a_link_without_carrier_is_left_at_once,
    a_silent_blackhole_is_left,
    a_blackhole_towards_the_server_is_left,
    a_blackhole_towards_the_laptop_is_left,
    a_renumbered_link_is_left_and_comes_back,
    a_link_without_default_route_is_left_at_once,
    a_pin_moves_data_there_and_back_without_loss,
    a_pin_with_only_lets_nothing_else_carry,
    five_seconds_without_any_path_are_survived,
    two_networks_show_nothing_in_common,
);

/// A link that goes down takes its IPv6 addresses along; either may be seen first.
const DOWN: [&str; 2] = ["link down", "address gone"];
/// What is said when nothing comes back.
const SILENCE: [&str; 2] = ["went silent", "peer hears nothing"];

struct Trip {
    session: Session,
    scene: Scene,
}

impl Trip {
    fn new(addressing: Addressing) -> Self {
        Self::of(Scene::with(addressing))
    }

    fn of(scene: Scene) -> Self {
        Self { session: Session::start(&scene.laptop, &scene.server), scene }
    }

    /// Something happens to Wi-Fi, data moves to the cellular path, and it is told why.
    fn loses_wifi(&self, what: &str, reasons: &[&str], act: impl FnOnce(&Train)) {
        let mark = self.session.mark();
        act(&self.scene.train);
        self.scene.wait_active("cell");
        let notice = self.session.with_gap(what, mark, GAP);
        let event = told(&self.scene.laptop, "wifi", "cell", reasons);
        if let Some(gap) = event.gap_ms {
            let noticed = notice.gap().as_secs_f64() * 1e3;
            assert!(gap < noticed + 300.0, "{what}: told {gap:.0} ms, noticed {noticed:.0} ms");
        }
    }

    /// Wi-Fi works again, and gets the data back without loss.
    fn wifi_returns(&self, what: &str, act: impl FnOnce(&Train)) {
        let mark = self.session.mark();
        act(&self.scene.train);
        self.scene.wait_active("wifi");
        println!("{what}: took over again after {:.1} s", mark.elapsed().as_secs_f64());
        assert!(mark.elapsed() > Duration::from_secs(1), "{what}: at once, without proving itself");
        self.session.without_loss(what, mark);
    }
}

fn a_link_that_goes_down_is_left_at_once(addressing: Addressing) {
    let trip = Trip::new(addressing);
    trip.loses_wifi("link down", &DOWN, |t| t.set_wifi(false).unwrap());
    trip.wifi_returns("link up", |t| t.set_wifi(true).unwrap());
    trip.session.survives();
}

fn a_link_without_carrier_is_left_at_once(addressing: Addressing) {
    let trip = Trip::new(addressing);
    trip.loses_wifi("carrier lost", &DOWN, |t| t.wifi.link.set_carrier_a(false).unwrap());
    trip.session.survives();
}

fn a_silent_blackhole_is_left(addressing: Addressing) {
    let trip = Trip::new(addressing);
    trip.loses_wifi("blackhole both ways", &SILENCE, |t| t.blackhole_wifi(true).unwrap());
    trip.wifi_returns("the blackhole is mended", |t| t.blackhole_wifi(false).unwrap());
    trip.session.survives();
}

fn a_blackhole_towards_the_server_is_left(addressing: Addressing) {
    let trip = Trip::new(addressing);
    trip.loses_wifi("blackhole towards the server", &SILENCE, |t| t.wifi.blackhole(true, false).unwrap());
    trip.session.survives();
}

fn a_blackhole_towards_the_laptop_is_left(addressing: Addressing) {
    let trip = Trip::new(addressing);
    trip.loses_wifi("blackhole towards the laptop", &SILENCE, |t| t.wifi.blackhole(false, true).unwrap());
    trip.session.survives();
}

fn a_renumbered_link_is_left_and_comes_back(addressing: Addressing) {
    let trip = Trip::new(addressing);
    let mark = trip.session.mark();
    trip.scene.train.renumber_wifi(5).unwrap();
    trip.session.with_gap("renumbered", mark, GAP);
    trip.scene.wait_active("wifi");
    let peer = trip.scene.laptop.peer().unwrap();
    let wifi: Vec<_> = peer.paths.iter().filter(|p| p.interface == "wifi").map(|p| ip(&p.local)).collect();
    let own = addressing.addresses(Net(1, 5), 2);
    let new = |local: &Option<std::net::IpAddr>| local.is_some_and(|ip| own.contains(&ip));
    assert!(wifi.iter().all(new), "paths from old addresses: {wifi:?}");
    trip.session.survives();
}

fn a_link_without_default_route_is_left_at_once(addressing: Addressing) {
    let trip = Trip::new(addressing);
    // Of a socket that is bound to it the kernel then thinks that every address is on the link: silence again.
    trip.loses_wifi("default route lost", &["no route", SILENCE[0], SILENCE[1]], |t| {
        t.wifi.del_routes().unwrap();
    });
    trip.wifi_returns("default route back", |t| {
        t.wifi.add_routes().unwrap();
    });
    trip.session.survives();
}

/// What is in clear in a datagram of MAST's at either end: whether it comes from the laptop, the laptop's address, the
/// context index, and the epoch with the number of the path.
fn clear(frame: &[u8], server: IpAddr) -> Option<(bool, IpAddr, u32, u16)> {
    let ip = |range| frame.get::<std::ops::Range<usize>>(range);
    let (source, to, udp) = match frame.get(12..14)? {
        [0x08, 0x00] if frame.get(23) == Some(&17) => {
            let ip = |at| ip(at..at + 4).map(|b| IpAddr::from(<[u8; 4]>::try_from(b).unwrap()));
            (ip(26)?, ip(30)?, 34)
        }
        [0x86, 0xdd] if frame.get(20) == Some(&17) => {
            let ip = |at| ip(at..at + 16).map(|b| IpAddr::from(<[u8; 16]>::try_from(b).unwrap()));
            (ip(22)?, ip(38)?, 54)
        }
        _ => return None,
    };
    let header = frame.get(udp + 8..udp + 16)?;
    if !matches!(header[0], 0x60 | 0x61) {
        return None;
    }
    let index = u32::from_be_bytes(header[4..8].try_into().unwrap());
    let up = to == server;
    Some((up, if up { source } else { to }, index, u16::from_be_bytes([header[2], header[1]])))
}

/// Somebody before the server sees all networks that the laptop uses, and not by what is in clear that they are one's.
fn two_networks_show_nothing_in_common(addressing: Addressing) {
    let trip = Trip::new(addressing);
    let servers = addressing.addresses(Train::SITE, 2);
    let tap = Tap::open(&trip.scene.train.core, "server");
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let frame = tap.next().unwrap_or_default();
                seen.extend(
                    servers
                        .iter()
                        .filter_map(|server| clear(&frame, *server))
                        .filter(|s| !servers.contains(&s.1)),
                );
            }
            seen
        });
        trip.loses_wifi("blackhole", &SILENCE, |train| train.blackhole_wifi(true).unwrap());
        trip.wifi_returns("back", |train| train.blackhole_wifi(false).unwrap());
        trip.scene.train.renumber_wifi(5).unwrap();
        trip.scene.wait_active("cell");
        trip.scene.wait_active("wifi");
        sleep(500);
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    let networks: BTreeSet<IpAddr> = seen.iter().map(|s| s.1).collect();
    println!("{} networks: {seen:#x?}", networks.len());
    assert!(networks.len() >= 3, "Wi-Fi, Wi-Fi renumbered, cellular: {networks:?}");
    for (up, network, index, path) in &seen {
        let others = seen.iter().filter(|o| o.0 == *up && o.1 != *network);
        let linked: Vec<_> = others.filter(|o| o.2 == *index || o.3 == *path).collect();
        assert!(linked.is_empty(), "{network} is linked to {linked:x?}");
    }
    let sent: BTreeSet<bool> = seen.iter().map(|s| s.0).collect();
    assert_eq!(sent.len(), 2, "both directions were seen");
}

fn a_pin_moves_data_there_and_back_without_loss(addressing: Addressing) {
    let trip = Trip::new(addressing);
    let Trip { scene, session } = &trip;
    for (pin, to) in
        [(&["cell"][..], "cell"), (&["wifi"], "wifi"), (&["cell", "wifi"], "cell"), (&[], "wifi")]
    {
        let mark = session.mark();
        scene.laptop.pin(pin, false).unwrap();
        scene.wait_active(to);
        println!("pin {pin:?}: moved after {:?}", mark.elapsed());
        session.without_loss(&format!("pin {pin:?}"), mark);
    }
    told(&scene.laptop, "cell", "wifi", &["better path", "policy"]);
    sends_to(&scene.server, Net(1, 0));
    trip.session.survives();
}

fn a_pin_with_only_lets_nothing_else_carry(addressing: Addressing) {
    let trip = Trip::new(addressing);
    let Trip { scene, session } = &trip;
    scene.laptop.pin(&["cell"], true).unwrap();
    scene.wait_active("cell");
    session.wait_running();
    let mark = session.mark();
    scene.train.set_cell(false).unwrap();
    within(PATIENCE, "it says that nothing carries", || active(&scene.laptop).is_none());
    let before = scene.train.wifi.link.stats().a_to_b.bytes;
    sleep(2000);
    let over_wifi = scene.train.wifi.link.stats().a_to_b.bytes - before;
    println!("--only: {over_wifi} bytes left over Wi-Fi in 2 s");
    // 200 probes of the echo alone would be 40 kB; what may pass is talk between the daemons.
    assert!(over_wifi < 10_000, "{over_wifi} bytes over Wi-Fi, which is not allowed");
    assert_ne!(scene.laptop.peer().unwrap().state.as_str(), "connected");
    assert!(session.since(mark).echo.lost > 0);
    let mark = session.mark();
    scene.train.set_cell(true).unwrap();
    scene.wait_active("cell");
    session.with_gap("--only: the one allowed is back", mark, GAP);
    scene.laptop.pin(&[], false).unwrap();
    scene.wait_active("wifi");
    trip.session.survives();
}

fn five_seconds_without_any_path_are_survived(addressing: Addressing) {
    let trip = Trip::new(addressing);
    let Trip { scene, session } = &trip;
    scene.train.set_wifi(false).unwrap();
    scene.train.set_cell(false).unwrap();
    within(PATIENCE, "the laptop does not claim to be connected", || {
        scene.laptop.peer().unwrap().state.as_str() != "connected"
    });
    within(PATIENCE, "nor does the server", || scene.server.peer().unwrap().state.as_str() != "connected");
    sleep(4500);
    let mark = session.mark();
    scene.train.set_cell(true).unwrap();
    scene.wait_active("cell");
    within(PATIENCE, "TCP goes on", || {
        session.stream.longest_stall(session.mark()) < Duration::from_millis(50)
            && session.since(mark).echo.received > 20
    });
    session.with_gap("all paths away for 5 s, one comes back", mark, GAP);
    trip.session.survives();
}

#[test]
fn a_silent_blackhole_is_left_whatever_the_round_trips() {
    lab(|| {
        for (wifi, cell) in [(10, 25), (100, 180)] {
            let [wifi_rtt, cell_rtt] = [wifi, cell].map(Duration::from_millis);
            let trip = Trip::of(Scene::of(&TrainProfile::round_trips(wifi_rtt, cell_rtt)));
            trip.loses_wifi(&format!("{wifi} and {cell} ms"), &SILENCE, |t| t.blackhole_wifi(true).unwrap());
            trip.session.survives();
        }
    });
}

#[test]
fn a_silent_blackhole_behind_nats_is_left() {
    lab(|| {
        for addressing in [Addressing::Both, Addressing::V4] {
            for (up, down) in [(true, true), (true, false), (false, true)] {
                let profile = TrainProfile::default().with(addressing).behind_nat();
                let trip = Trip::of(Scene::of(&profile));
                let what = format!("{addressing}, NATs, up {up}, down {down}");
                trip.loses_wifi(&what, &SILENCE, |t| t.wifi.blackhole(up, down).unwrap());
                trip.session.survives();
            }
        }
    });
}

#[test]
fn a_nat_that_forgets_its_mappings_is_no_obstacle() {
    lab(|| {
        for kind in [NatKind::EndpointIndependent, NatKind::Symmetric] {
            // With IPv6 beside it, nobody would need the NAT.
            let profile = TrainProfile::default().with(Addressing::V4);
            let train = Train::new(&profile).unwrap_or_else(|e| panic!("{e}"));
            let nat = train.lab.nat(&train.wifi.isp, "down", "up", kind).unwrap_or_else(|e| panic!("{e}"));
            let scene = Scene::apart(train);
            pair(&scene.server, &scene.laptop);
            scene.wait_for_both_uplinks();
            let trip = Trip::of(scene);
            let Trip { scene, session } = &trip;
            let mark = session.mark();
            nat.rebind().unwrap();
            session.with_gap(&format!("{kind:?} rebinds"), mark, GAP);
            scene.wait_active("wifi");
            // With nowhere else to go.
            scene.train.set_cell(false).unwrap();
            session.wait_running();
            let mark = session.mark();
            nat.rebind().unwrap();
            session.with_gap(&format!("{kind:?} rebinds, no other uplink"), mark, GAP * 2);
            trip.session.survives();
        }
    });
}

#[test]
fn a_server_behind_a_nat_follows_the_laptop() {
    lab(|| {
        let profile = TrainProfile::default().with(Addressing::V4);
        let train = Train::new(&profile).unwrap_or_else(|e| panic!("{e}"));
        // Without a rendezvous one end must be reachable: here it is the laptop, which invites.
        for outside in ["wifi", "cell"] {
            let kind = NatKind::EndpointIndependent;
            train.lab.nat(&train.core, "server", outside, kind).unwrap_or_else(|e| panic!("{e}"));
        }
        let scene = Scene::apart(train);
        pair(&scene.laptop, &scene.server);
        scene.wait_for_both_uplinks();
        let trip = Trip::of(scene);
        trip.loses_wifi("the reachable end loses its link", &DOWN, |t| t.set_wifi(false).unwrap());
        trip.session.survives();
    });
}

#[test]
fn either_version_of_ip_may_fail_alone() {
    lab(|| {
        let scene = Scene::with(Addressing::Both);
        let eid = scene.laptop.peer().unwrap().eid;
        // And the session itself is one of IPv6.
        let session = Session::between_v6(scene.laptop.host(), scene.server.host(), &eid);
        let is_v6 = || remote(&scene.laptop).map(|ip| ip.is_ipv6());
        let over_v6 = is_v6().expect("a path");
        let failing = if over_v6 { Addressing::V6 } else { Addressing::V4 };
        let mark = session.mark();
        for first in [1, 2, 9] {
            failing.silence(&scene.train.core, first, true).unwrap();
        }
        within(PATIENCE, "the other version carries", || is_v6() == Some(!over_v6));
        session.with_gap("one version of IP fails everywhere", mark, GAP);
        session.survives();
    });
}
