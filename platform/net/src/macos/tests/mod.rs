//! A played macOS: announcements that are missed, late or a flood, calls that are refused, an interface that vanishes, a
//! sleep, others who change pf and the dynamic store.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod played;

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mast_conformance::suite;
use mast_engine::api::LeftOut;
use mast_engine::declared::{Declared, Dns, Guard, Host, Step};
use mast_engine::os::{Family, InterfaceList, Offload, Platform, Prefix, Tun, TunWish};
use mast_engine::surroundings::Surroundings;
use mast_engine::{Outcome, Reconciler};
use mast_proto::{Interface, InterfaceKind};
use tokio::sync::watch;

use super::On;
use super::routing::{self, Address, Route, tests as written};
use super::system::{DEPRECATED, Detail};
use crate::Overrides;
use played::{Played, PlayedWorld, State, ip, link, prefix};

/// Longer than the slow poll.
const PATIENCE: Duration = Duration::from_secs(20);

fn route(index: u16, text: &str, gateway: Option<&str>, flags: u32) -> (Route, Option<IpAddr>) {
    let gateway = gateway.map(ip);
    let flags = routing::UP | flags | if gateway.is_some() { routing::GATEWAY } else { 0 };
    (Route { prefix: prefix(text), index, gateway, flags }, None)
}

/// A laptop as there are many.
fn laptop() -> Played {
    let played = Played::default();
    let mut state = played.state();
    let (_, mut loopback) = link(1, "lo0", 1, &["127.0.0.1"]);
    loopback.flags |= routing::LOOPBACK;
    let (_, mut vpn) = link(8, "utun3", 0, &["10.8.0.2"]);
    vpn.flags |= routing::POINT_TO_POINT;
    let (_, mut modem) = link(6, "pdp_ip0", Detail::CELLULAR, &["203.0.113.6"]);
    modem.flags |= routing::POINT_TO_POINT;
    modem.kind = routing::KIND_CELLULAR;
    let (_, mut bridge) = link(7, "bridge100", 0, &["192.168.64.1"]);
    bridge.kind = 0xd1;
    state.links.extend([
        (1, loopback),
        link(4, "en0", Detail::WIFI, &["fe80::4", "192.0.2.4", "2001:db8::4"]),
        link(5, "en7", Detail::WIRED, &["198.51.100.5"]),
        (6, modem),
        (7, bridge),
        (8, vpn),
        link(10, "awdl0", Detail::WIFI_DIRECT, &["fe80::a"]),
        link(11, "en8", Detail::WIRED, &["169.254.7.7"]),
    ]);
    state.routes = vec![
        route(4, "0.0.0.0/0", Some("192.0.2.1"), routing::STATIC),
        route(4, "192.0.2.0/24", None, 0),
        route(5, "0.0.0.0/0", Some("198.51.100.1"), routing::SCOPED),
        // A neighbour, as it comes and goes.
        route(4, "192.0.2.77/32", None, routing::HOST | routing::NEIGHBOUR | routing::CLONED),
    ];
    state.servers = vec![ip("192.168.99.53")];
    drop(state);
    played
}

fn wish() -> TunWish {
    TunWish { name: "mast0".into(), mtu: 1280 }
}

async fn wait(
    list: &mut watch::Receiver<InterfaceList>,
    what: &str,
    is: impl Fn(&InterfaceList) -> bool,
) -> InterfaceList {
    let found = tokio::time::timeout(PATIENCE, list.wait_for(is)).await;
    found.unwrap_or_else(|_| panic!("{what}")).unwrap().clone()
}

fn interface<'a>(list: &'a InterfaceList, name: &str) -> Option<&'a Interface> {
    list.interfaces.iter().find(|i| i.name == name)
}

fn addresses<'a>(state: &'a mut State, name: &str) -> &'a mut Vec<Address> {
    &mut state.links.values_mut().find(|link| link.name == name).unwrap().addresses
}

#[tokio::test]
async fn it_does_what_every_system_must_with_what_is_declared() {
    suite::declared(&PlayedWorld::default()).await;
}

#[tokio::test]
async fn it_does_what_every_system_must_with_frames_and_surroundings() {
    suite::tun(&PlayedWorld::default()).await;
    suite::surroundings(&PlayedWorld::default()).await;
}

#[tokio::test]
async fn it_does_what_every_system_must_with_uplinks() {
    suite::uplinks(&PlayedWorld::default(), ip("192.0.2.21"), ip("192.0.2.22")).await;
}

#[tokio::test]
async fn uplinks_are_told_from_what_leads_nowhere() {
    let played = laptop();
    let list = played.platform().watch_interfaces().unwrap().borrow().clone();
    let names: Vec<&str> = list.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["en0", "en7", "pdp_ip0", "en8"]);
    let wifi = interface(&list, "en0").unwrap();
    assert_eq!((wifi.kind, wifi.id.0, wifi.metered), (InterfaceKind::Wifi, 4, false));
    assert_eq!(wifi.addresses, [ip("192.0.2.4"), ip("2001:db8::4")]);
    assert_eq!(wifi.link_local.map(IpAddr::V6), Some(ip("fe80::4")));
    let modem = interface(&list, "pdp_ip0").unwrap();
    assert_eq!((modem.kind, modem.metered), (InterfaceKind::Cellular, true));
    assert!(!interface(&list, "en8").unwrap().usable, "an address that it gave itself leads nowhere");
    let left: Vec<_> = list.left_out.iter().map(|(name, why)| (name.as_str(), *why)).collect();
    assert_eq!(left, [("bridge100", LeftOut::Inside), ("utun3", LeftOut::Tunnel)]);
    for (range, what) in [
        ("192.168.64.0/24", "the network on bridge100"),
        ("192.0.2.1/32", "the gateway on en0"),
        ("192.168.99.53/32", "a name server"),
    ] {
        assert_eq!(list.occupied.get(&prefix(range)).map(String::as_str), Some(what));
    }

    // What the user says counts.
    let overrides = Overrides {
        ignore: vec!["en7".into()],
        named: vec!["bridge100".into()],
        metered: [("en0".to_owned(), true)].into(),
        ..Overrides::default()
    };
    let list = On::over(played, overrides).watch_interfaces().unwrap().borrow().clone();
    assert!(interface(&list, "en7").is_none());
    assert!(interface(&list, "bridge100").is_some());
    assert!(interface(&list, "en0").unwrap().metered);
}

#[tokio::test]
async fn a_hotspot_and_low_data_mode_are_metered_and_addresses_come_in_their_order() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    for detail in [
        Detail { functional: Detail::WIFI, expensive: true, constrained: false },
        Detail { functional: Detail::WIFI, expensive: false, constrained: true },
    ] {
        played.change(|state| state.links.get_mut(&4).unwrap().detail = detail);
        wait(&mut list, "metered", |l| interface(l, "en0").unwrap().metered).await;
        played.change(|state| state.links.get_mut(&4).unwrap().detail.expensive = false);
        played.change(|state| state.links.get_mut(&4).unwrap().detail.constrained = false);
        wait(&mut list, "not metered", |l| !interface(l, "en0").unwrap().metered).await;
    }
    played.change(|state| {
        let new = |text| Address { index: 4, ip: ip(text), prefix: 64 };
        addresses(state, "en0").extend([new("2001:db8::5"), new("2001:db8::6")]);
        state.flags = [(ip("2001:db8::4"), DEPRECATED), (ip("2001:db8::6"), 0x2)].into();
    });
    let now = wait(&mut list, "more", |l| interface(l, "en0").unwrap().addresses.len() == 3).await;
    let expected = [ip("192.0.2.4"), ip("2001:db8::5"), ip("2001:db8::4")];
    assert_eq!(interface(&now, "en0").unwrap().addresses, expected, "a tentative one is none");
}

#[tokio::test]
async fn a_wifi_has_the_name_of_its_network_where_the_system_tells() {
    let played = laptop();
    played.state().networks =
        [("en0".to_owned(), "Office".to_owned()), ("en7".to_owned(), "No cable".to_owned())].into();
    let mut list = played.platform().watch_interfaces().unwrap();
    let now = list.borrow_and_update().clone();
    assert_eq!(interface(&now, "en0").unwrap().network.as_deref(), Some("Office"));
    assert_eq!(interface(&now, "en7").unwrap().network, None, "a cable has none");
    let name = |l: &InterfaceList| interface(l, "en0").unwrap().network.clone();
    played.change(|state| _ = state.networks.insert("en0".into(), "Home".into()));
    wait(&mut list, "another", |l| name(l).as_deref() == Some("Home")).await;
    played.change(|state| _ = state.networks.insert("en0".into(), "<SSID Redacted>".into()));
    wait(&mut list, "hidden", |l| name(l).is_none()).await;
    played.change(|state| state.refuse = Some(("store", io::ErrorKind::Other)));
    wait(&mut list, "no answer", |l| name(l).is_none() && interface(l, "en0").is_some()).await;
    // What the user says counts.
    let overrides =
        Overrides { network: [("en0".to_owned(), "mine".to_owned())].into(), ..Overrides::default() };
    let list = On::over(played, overrides).watch_interfaces().unwrap().borrow().clone();
    assert_eq!(name(&list).as_deref(), Some("mine"));
}

#[tokio::test]
async fn what_is_not_announced_is_found_and_what_is_late_is_nothing_new() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    played.change(|state| addresses(state, "en7").clear());
    wait(&mut list, "announced", |l| !interface(l, "en7").unwrap().usable).await;
    played.state().announces = false;
    played.change(|state| state.links.get_mut(&4).unwrap().flags &= !routing::RUNNING);
    wait(&mut list, "polled", |l| !interface(l, "en0").unwrap().usable).await;
    let before = list.borrow_and_update().clone();
    played.state().announces = true;
    played.change(|_| {});
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*list.borrow(), before);
}

#[tokio::test]
async fn a_system_that_announces_nothing_or_fails_to_is_polled() {
    for word in ["announced", "next"] {
        let played = laptop();
        played.state().refuse = Some((word, io::ErrorKind::Other));
        let mut list = played.platform().watch_interfaces().unwrap();
        played.change(|state| state.links.retain(|_, link| link.name != "en7"));
        wait(&mut list, word, |l| interface(l, "en7").is_none()).await;
    }
}

#[tokio::test]
async fn a_flood_of_misses_costs_little_and_hides_nothing_for_long() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    let mut miss = written::listed_route(&route(4, "203.0.113.0/24", None, 0).0);
    miss[3] = routing::MISS;
    let flooding = played.clone();
    let begun = Instant::now();
    let flood = std::thread::spawn(move || {
        // As many as a kernel writes into a buffer that is never empty.
        while begun.elapsed() < Duration::from_secs(5) {
            let mut state = flooding.state();
            while state.announced.len() < 500 {
                state.announced.push_back(miss.clone());
            }
            drop(state);
            flooding.shared_changed();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Its announcement is lost in the flood.
    played.state().links.retain(|_, link| link.name != "en7");
    wait(&mut list, "found by the clock", |l| interface(l, "en7").is_none()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "while the flood went on");
    let (heard, seconds) = (played.state().heard, begun.elapsed().as_secs_f64());
    assert!((heard as f64) < 10_000.0 * seconds, "{heard} in {seconds} s");
    flood.join().unwrap();
}

#[tokio::test]
async fn interfaces_that_cannot_be_read_are_read_again() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    played.state().refuse = Some(("interfaces", io::ErrorKind::Other));
    played.change(|state| state.links.retain(|_, link| link.name != "en7"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(interface(&list.borrow_and_update(), "en7").is_some(), "what was known stays");
    played.state().refuse = None;
    wait(&mut list, "read again", |l| interface(l, "en7").is_none()).await;
    played.state().refuse = Some(("interfaces", io::ErrorKind::Other));
    let error = played.platform().watch_interfaces().unwrap_err();
    assert!(error.to_string().contains("restart"), "{error}");
}

#[tokio::test]
async fn a_sleep_is_noticed_and_counted_and_a_rounding_error_is_none() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    played.change(|state| state.asleep += Duration::from_millis(20));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(list.borrow_and_update().resumed, 0);
    played.change(|state| state.asleep += Duration::from_secs(3600));
    let now = wait(&mut list, "awake", |l| l.resumed == 1).await;
    assert_eq!(now.asleep, Duration::from_millis(3_600_020));
}

#[tokio::test]
async fn what_comes_and_goes_as_it_is_used_is_no_change_of_routes() {
    let played = laptop();
    let mut list = played.platform().watch_interfaces().unwrap();
    let before = list.borrow_and_update().routes_changed;
    played.change(|state| state.routes.retain(|(r, _)| r.flags & routing::NEIGHBOUR == 0));
    played.change(|state| state.routes.push(route(4, "203.0.113.0/24", Some("192.0.2.1"), 0)));
    let now = wait(&mut list, "a route", |l| l.routes_changed > before).await;
    assert_eq!(now.routes_changed, before + 1);
}

fn fine(outcome: &Outcome) {
    assert!(outcome.refused.is_empty(), "{outcome:?}");
}

fn routes_into(played: &Played, name: &str) -> Vec<Prefix> {
    let state = played.state();
    let index = state.links.iter().find(|(_, link)| link.name == name).map(|(index, _)| *index);
    let own = state.routes.iter().filter(|(r, _)| Some(r.index) == index && r.flags & routing::HOST == 0);
    let mut all: Vec<Prefix> = own.map(|(r, _)| r.prefix).collect();
    all.sort();
    all
}

#[tokio::test]
async fn of_two_halves_a_refused_one_takes_the_other_with_it() {
    let played = laptop();
    let platform = played.platform();
    let tun = platform.create_tun(&wish()).await.unwrap();
    let mut host = platform.host().unwrap();
    played.state().refuse = Some(("second half", io::ErrorKind::PermissionDenied));
    let steps = [Step::AddRoute(prefix("0.0.0.0/0"), None), Step::AddRoute(prefix("10.9.0.0/16"), None)];
    let results = host.take(Some(tun.name()), &steps);
    assert_eq!(results[0].as_ref().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(results[1].is_ok());
    assert_eq!(routes_into(&played, tun.name()), [prefix("10.9.0.0/16")]);
}

#[tokio::test]
async fn a_route_of_another_interface_is_never_taken_away() {
    let played = laptop();
    let platform = played.platform();
    let tun = platform.create_tun(&wish()).await.unwrap();
    played.change(|state| state.routes.push(route(5, "10.9.0.0/16", None, 0)));
    let mut host = platform.host().unwrap();
    let results = host.take(Some(tun.name()), &[Step::RemoveRoute(prefix("10.9.0.0/16"), None)]);
    assert!(results[0].is_ok(), "there is none of this one");
    assert_eq!(routes_into(&played, "en7"), [prefix("0.0.0.0/0"), prefix("10.9.0.0/16")]);
}

#[tokio::test]
async fn another_half_beside_the_tunnel_is_told_of() {
    let played = laptop();
    let platform = played.platform();
    let tun = platform.create_tun(&wish()).await.unwrap();
    let mut host = platform.host().unwrap();
    assert_eq!(host.around(tun.name(), Family::V4).unwrap(), None);
    played.change(|state| state.routes.push(route(8, "0.0.0.0/1", None, 0)));
    let told = host.around(tun.name(), Family::V4).unwrap().unwrap();
    assert!(told.contains("utun3") && told.contains("0.0.0.0/1"), "{told}");
    assert_eq!(host.around(tun.name(), Family::V6).unwrap(), None);
}

fn guarded() -> Declared {
    let interfaces = ["mast0".to_owned(), "utun4".to_owned()].into();
    let guard = Guard { families: [Family::V4, Family::V6].into(), interfaces, local_network: true };
    Declared { guard: Some(guard), ..Declared::default() }
}

#[tokio::test]
async fn protection_switches_pf_on_once_and_gives_it_back() {
    let played = laptop();
    let mut keeper = Reconciler::new(played.platform().host().unwrap());
    fine(&keeper.apply(&guarded(), false));
    let both = Declared { protection: [Family::V4].into(), ..guarded() };
    fine(&keeper.apply(&both, false));
    assert_eq!(played.state().on.len(), 1);
    assert_eq!(played.state().flushed, 1);
    assert_eq!(keeper.apply(&both, true).taken, 0);
    // A service that died, and the next.
    drop(keeper);
    let mut next = Reconciler::new(played.platform().host().unwrap());
    fine(&next.apply(&Declared::default(), false));
    assert!(played.state().anchor.is_empty() && played.state().on.is_empty());
}

#[tokio::test]
async fn what_others_do_to_pf_is_mended() {
    let played = laptop();
    let mut keeper = Reconciler::new(played.platform().host().unwrap());
    fine(&keeper.apply(&guarded(), false));
    let whole = played.state().anchor.clone();
    let lines = |text: &str| {
        text.lines().filter(|l| !l.contains("mast token")).map(str::to_owned).collect::<Vec<_>>()
    };
    for damage in [
        (|state: &mut State| state.anchor.clear()) as fn(&mut State),
        |state| state.anchor = state.anchor.lines().skip(1).map(|l| format!("{l}\n")).collect(),
        |state| state.anchor.push_str("pass out quick all\n"),
        // Somebody switched it off whatever others want.
        |state| state.on.clear(),
    ] {
        played.change(damage);
        let outcome = keeper.apply(&guarded(), true);
        fine(&outcome);
        assert!(!outcome.mended.is_empty());
        assert_eq!(lines(&played.state().anchor), lines(&whole));
        assert_eq!(played.state().on.len(), 1);
        assert_eq!(keeper.apply(&guarded(), true).taken, 0);
    }
}

#[tokio::test]
async fn what_keeps_pf_from_protecting_is_said_and_no_other_protection_takes_its_place() {
    let played = laptop();
    let mut host = played.platform().host().unwrap();
    let guard = Step::SetGuard(guarded().guard.unwrap());
    let mut refusal = |change: fn(&mut State)| {
        played.change(change);
        let mut results = host.take(None, std::slice::from_ref(&guard));
        let error = results.remove(0).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::Unsupported, "that would mean that routes protect");
        assert!(played.state().anchor.is_empty() && played.state().on.is_empty());
        error.to_string()
    };
    assert!(refusal(|state| state.main = "block all\n".into()).contains("pfctl -f /etc/pf.conf"));
    assert!(refusal(|state| state.group = None).contains("install the package"));
    assert!(refusal(|state| state.refuse = Some(("pfctl", io::ErrorKind::Other))).contains("played"));
    // Whoever may not ask did not set any.
    played.state().refuse = Some(("pfctl", io::ErrorKind::PermissionDenied));
    assert_eq!(host.present(None).unwrap().guard, None);
}

#[tokio::test]
async fn names_are_asked_of_the_tunnel_for_as_long_as_the_session_lives() {
    let played = laptop();
    let mut keeper = Reconciler::new(played.platform().host().unwrap());
    let wanted = Declared {
        dns: Some(Dns { servers: vec![ip("10.77.0.53"), ip("fd77::53")] }),
        ..Declared::default()
    };
    fine(&keeper.apply(&wanted, false));
    assert!(
        played.state().session.as_ref().unwrap().contains("d.add ServerAddresses * 10.77.0.53 fd77::53\n")
    );
    assert_eq!(keeper.apply(&wanted, true).taken, 0);
    // Somebody ended it.
    played.change(|state| state.session = None);
    assert!(!keeper.apply(&wanted, true).mended.is_empty());
    assert!(played.state().session.is_some());
    fine(&keeper.apply(&Declared::default(), false));
    assert!(played.state().session.is_none());
}

#[tokio::test]
async fn frames_carry_their_version_of_ip_and_an_interface_that_vanishes_is_seen() {
    let played = laptop();
    let platform = played.platform();
    let tun = platform.create_tun(&wish()).await.unwrap();
    assert_eq!(tun.name(), "utun4", "the name is the system's");
    let six: &[u8] = &[0x60, 1, 2];
    played.change(|state| {
        state.to_engine.extend([vec![0, 0, 0, 2, 0x45, 9], [&[0, 0, 0, 30], six].concat(), vec![0, 0]]);
    });
    let mut buffer = [0; 100];
    let mut got = Vec::new();
    while got.len() < 3 {
        tokio::time::timeout(PATIENCE, tun.readable()).await.expect("a frame").unwrap();
        while let Ok((length, offload)) = tun.try_recv(&mut buffer) {
            assert_eq!(offload, Offload::default());
            got.push(buffer[..length].to_vec());
        }
    }
    assert_eq!(got, [vec![0x45, 9], six.to_vec(), vec![]], "what is too short is empty");
    tun.try_send(&[IoSlice::new(&[]), IoSlice::new(&[0x45, 1]), IoSlice::new(&[2])], Offload::default())
        .unwrap();
    tun.try_send(&[IoSlice::new(&[0x60])], Offload::default()).unwrap();
    assert_eq!(played.state().from_engine, [vec![0, 0, 0, 2, 0x45, 1, 2], vec![0, 0, 0, 30, 0x60]]);
    for nothing in [&[][..], &[0x10]] {
        let error = tun.try_send(&[IoSlice::new(nothing)], Offload::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    played.change(|state| state.lost = true);
    tokio::time::timeout(PATIENCE, tun.readable()).await.expect("told").unwrap();
    assert_eq!(tun.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    drop(tun);
    let mut host = platform.host().unwrap();
    let error = host.present(Some("utun4")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    // Made again.
    let again = platform.create_tun(&wish()).await.unwrap();
    assert!(host.present(Some(again.name())).is_ok());
}

#[tokio::test]
async fn what_is_refused_is_said_and_the_doctor_knows_what_is_missing() {
    let played = laptop();
    let platform = played.platform();
    assert!(platform.checks().iter().all(|check| check.ok));
    for (word, check) in [("make utun", "tun-device"), ("interfaces", "interfaces"), ("routes", "routes")] {
        played.state().refuse = Some((word, io::ErrorKind::PermissionDenied));
        let checks = platform.checks();
        let found = checks.iter().find(|c| c.name == check).unwrap();
        assert!(!found.ok, "{found:?}");
    }
    for word in ["make utun", "mtu", "raise"] {
        played.state().refuse = Some((word, io::ErrorKind::PermissionDenied));
        let error = platform.create_tun(&wish()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{word}");
        assert!(!played.state().links.values().any(|link| link.name == "utun4"), "{word}: nothing is left");
    }
}
