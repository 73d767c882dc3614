//! What every backend must do.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::net::IpAddr;
use std::time::Duration;

use mast_engine::declared::{Declared, Guard};
use mast_engine::os::{Family, InterfaceList, NotReceived, Offload, Platform, Prefix, Tun, TunWish, Udp};
use mast_engine::surroundings::Surroundings;
use mast_engine::{Outcome, Part, Reconciler};
use tokio::sync::watch;

use crate::{Seen, World};

/// Far longer than anything takes on an idle machine.
const PATIENCE: Duration = Duration::from_secs(10);
const BOTH: [Family; 2] = [Family::V4, Family::V6];

type TunOf<W> = <<W as World>::Platform as Platform>::Tun;
type Keeper<W> = Reconciler<<<W as World>::Platform as Platform>::Host>;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: ip(address), length: length.parse().unwrap() }
}

fn wish() -> TunWish {
    TunWish { name: "mast0".into(), mtu: 1280 }
}

async fn make<W: World>(world: &W) -> TunOf<W> {
    world.platform().create_tun(&wish()).await.unwrap()
}

fn network(name: &str, addresses: &[&str], routes: &[(&str, Option<&str>)]) -> Declared {
    Declared {
        interface: Some(name.to_owned()),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        routes: routes.iter().map(|(p, source)| (prefix(p), source.map(ip))).collect(),
        ..Declared::default()
    }
}

fn fine(outcome: &Outcome) {
    assert!(outcome.refused.is_empty(), "{outcome:?}");
}

/// Whether a route into the interface covers an address.
fn leads(seen: &Seen, address: &str) -> bool {
    seen.routes.keys().any(|prefix| prefix.contains(ip(address)))
}

/// Addresses, routes and protection: everything below.
pub async fn declared<W: World>(world: &W) {
    only_what_is_declared_is_there(world).await;
    what_others_change_is_mended(world).await;
    one_refusal_takes_nothing_along(world).await;
    protection_outlives_whoever_set_it(world).await;
    what_may_leave_outlives_whoever_set_it(world).await;
}

async fn only_what_is_declared_is_there<W: World>(world: &W) {
    let tun = make(world).await;
    let name = tun.name();
    let mut keeper: Keeper<W> = Reconciler::new(world.platform().host().unwrap());
    let mut all = network(
        name,
        &["10.77.0.1", "fd77::1"],
        &[
            ("10.77.0.9/16", None),
            ("fd77::/16", Some("fd77::1")),
            ("0.0.0.0/0", Some("10.77.0.1")),
            ("::/0", None),
        ],
    );
    all.protection = BOTH.into();
    fine(&keeper.apply(&all, false));
    let seen = world.seen(name);
    assert_eq!(seen.addresses, [ip("10.77.0.1"), ip("fd77::1")].into());
    assert_eq!(seen.routes.get(&prefix("10.77.0.0/16")), Some(&None));
    assert_eq!(seen.routes.get(&prefix("fd77::/16")), Some(&Some(ip("fd77::1"))));
    for far in ["192.0.2.1", "8.8.8.8", "2001:db8::1", "fe00::1"] {
        assert!(leads(&seen, far), "{far}: {seen:?}");
    }
    assert_eq!(seen.protection, BOTH.into());
    assert_eq!(keeper.apply(&all, true).taken, 0, "nothing differs");

    // Less, and another source; what somebody else set stays.
    world.give_address(name, ip("10.99.0.1"));
    let less = network(name, &["10.77.0.2"], &[("10.77.0.0/16", Some("10.77.0.2"))]);
    fine(&keeper.apply(&less, false));
    let seen = world.seen(name);
    assert_eq!(seen.addresses, [ip("10.77.0.2"), ip("10.99.0.1")].into());
    assert_eq!(seen.routes, [(prefix("10.77.0.0/16"), Some(ip("10.77.0.2")))].into());
    assert!(seen.protection.is_empty());

    fine(&keeper.apply(&network(name, &[], &[]), false));
    let seen = world.seen(name);
    assert_eq!((seen.addresses, seen.routes.len()), ([ip("10.99.0.1")].into(), 0));
    drop(tun);
    gone(world).await;
}

async fn what_others_change_is_mended<W: World>(world: &W) {
    let mut list = world.platform().watch_interfaces().unwrap();
    let tun = make(world).await;
    let name = tun.name();
    let mut keeper: Keeper<W> = Reconciler::new(world.platform().host().unwrap());
    let mut wanted = network(
        name,
        &["10.77.0.1", "fd77::1"],
        &[
            ("10.77.0.0/16", Some("10.77.0.1")),
            ("10.78.0.0/16", None),
            ("fd78::/16", None),
            ("0.0.0.0/0", None),
            ("::/0", None),
        ],
    );
    wanted.mtu = Some(1280);
    fine(&keeper.apply(&wanted, false));
    let before = world.seen(name);
    let full = *before.routes.keys().find(|p| p.length <= 1).unwrap();
    // The watcher must have seen the interface before it can tell of changes to it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let damage: [(&str, &dyn Fn()); 6] = [
        ("the MTU", &|| world.set_mtu(name, 1400)),
        ("a full tunnel, or a part of it", &|| world.take_route(name, full)),
        ("an address", &|| world.take_address(name, ip("10.77.0.1"))),
        ("an address of IPv6", &|| world.take_address(name, ip("fd77::1"))),
        ("a route", &|| world.take_route(name, prefix("10.78.0.0/16"))),
        ("the interface", &|| world.take_down(name)),
    ];
    for (what, damage) in damage {
        let noticed = list.borrow_and_update().disturbed;
        damage();
        assert_ne!(world.seen(name), before, "{what} was taken");
        wait_for(&mut list, what, |l| l.disturbed > noticed).await;
        let outcome = keeper.apply(&wanted, true);
        fine(&outcome);
        assert!(!outcome.mended.is_empty(), "{what}: it is known what was mended");
        assert_eq!(world.seen(name), before, "{what}");
        assert!(keeper.apply(&wanted, true).mended.is_empty(), "{what}");
        // What was just mended is told of, too, on some systems.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(tun);
    gone(world).await;
    let outcome = keeper.apply(&wanted, true);
    assert!(outcome.refused.iter().any(|r| r.kind == ErrorKind::NotFound), "{outcome:?}");
}

async fn one_refusal_takes_nothing_along<W: World>(world: &W) {
    let tun = make(world).await;
    let name = tun.name();
    let mut keeper: Keeper<W> = Reconciler::new(world.platform().host().unwrap());
    let taken = ["10.200.0.0/16", "fdcc::/16"];
    for route in taken {
        world.occupy(prefix(route));
    }
    let wanted = network(
        name,
        &["10.77.0.1", "fd77::1"],
        &[
            ("10.77.0.0/16", Some("10.77.0.1")),
            (taken[0], Some("10.77.0.1")),
            ("fd77::/16", Some("fd77::1")),
            (taken[1], None),
        ],
    );
    let outcome = keeper.apply(&wanted, false);
    assert_eq!(outcome.refused.len(), 2, "{outcome:?}");
    for (refusal, route) in outcome.refused.iter().zip(taken) {
        assert_eq!(refusal.kind, ErrorKind::AlreadyExists);
        assert!(refusal.text.contains(route), "{refusal:?}");
    }
    let seen = world.seen(name);
    assert_eq!((seen.addresses.len(), seen.routes.len()), (2, 2), "{seen:?}");
    for route in taken {
        world.vacate(prefix(route));
    }
    fine(&keeper.apply(&wanted, false));
    assert_eq!(world.seen(name).routes.len(), 4, "{:?}", world.seen(name));
    fine(&keeper.apply(&network(name, &[], &[]), false));

    // A host without IPv6: one note, and IPv4 works.
    world.refuse_v6(name, true);
    let outcome = keeper.apply(&wanted, true);
    assert!(outcome.refused.iter().all(|r| r.part == Part::Network(Family::V6)), "{outcome:?}");
    assert_eq!(outcome.notes().len(), 1);
    let seen = world.seen(name);
    assert_eq!(seen.addresses, [ip("10.77.0.1")].into());
    assert!(leads(&seen, "10.77.0.2") && leads(&seen, "10.200.0.2"), "{seen:?}");
    assert!(!seen.routes.values().any(|source| *source == Some(ip("fd77::1"))), "{seen:?}");
    world.refuse_v6(name, false);
    fine(&keeper.apply(&wanted, false));
    assert_eq!(world.seen(name).addresses.len(), 2);
    drop(tun);
    gone(world).await;
}

async fn protection_outlives_whoever_set_it<W: World>(world: &W) {
    let keeper = || -> Keeper<W> { Reconciler::new(world.platform().host().unwrap()) };
    let protect = |families: &[Family]| Declared {
        protection: families.iter().copied().collect::<BTreeSet<_>>(),
        ..Declared::default()
    };
    fine(&keeper().apply(&protect(&BOTH), false));
    assert_eq!(world.seen("").protection, BOTH.into());
    assert_eq!(keeper().apply(&protect(&BOTH), false).taken, 0, "it is there from before");
    fine(&keeper().apply(&protect(&[Family::V6]), false));
    assert_eq!(world.seen("").protection, [Family::V6].into());
    fine(&keeper().apply(&protect(&[]), false));
    assert!(world.seen("").protection.is_empty());
}

async fn what_may_leave_outlives_whoever_set_it<W: World>(world: &W) {
    let keeper = || -> Keeper<W> { Reconciler::new(world.platform().host().unwrap()) };
    let guard = |families: &[Family], local_network| {
        let families = families.iter().copied().collect();
        let guard = Guard { families, interfaces: ["mast0".to_owned()].into(), local_network };
        Declared { guard: Some(guard), ..Declared::default() }
    };
    let mut first = keeper();
    let outcome = first.apply(&guard(&BOTH, true), false);
    fine(&outcome);
    if outcome.lacking.is_some() {
        return;
    }
    assert!(world.seen("").guarded);
    assert_eq!(first.apply(&guard(&BOTH, true), true).taken, 0, "it is there");
    assert_eq!(first.apply(&guard(&BOTH, false), false).taken, 1);
    drop(first);
    assert!(world.seen("").guarded);
    let mut second = keeper();
    let outcome = second.apply(&guard(&[Family::V6], true), false);
    fine(&outcome);
    assert!(outcome.mended.is_empty(), "nobody had taken it away");
    assert!(world.seen("").guarded);
    fine(&second.apply(&Declared::default(), false));
    assert!(!world.seen("").guarded);
    drop(second);
    fine(&keeper().apply(&guard(&BOTH, true), false));
    fine(&keeper().apply(&Declared::default(), false));
    assert!(!world.seen("").guarded, "what a dead service left");
}

async fn gone<W: World>(world: &W) {
    let wait = async {
        // The name of the next is free again.
        while world.platform().create_tun(&wish()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the interface goes with its owner");
}

/// What surrounds the tunnel can be asked for at any time, and asking leaves nothing.
pub async fn surroundings<W: World>(world: &W) {
    let system = world.platform();
    let checks = system.checks();
    assert!(!checks.is_empty() && checks.iter().all(|c| !c.name.is_empty() && !c.explanation.is_empty()));
    assert_eq!(system.sessions(&[], &[ip("192.0.2.77")]), 0);
    // One that is in use is not left over.
    let tun = make(world).await;
    assert!(system.clear_leftovers(tun.name()).unwrap().is_empty());
    let mut keeper: Keeper<W> = Reconciler::new(system.host().unwrap());
    fine(&keeper.apply(&network(tun.name(), &["10.77.0.1"], &[]), false));
    assert_eq!(world.seen(tun.name()).addresses, [ip("10.77.0.1")].into());
    drop(tun);
    gone(world).await;
}

/// The virtual interface carries datagrams both ways.
pub async fn tun<W: World>(world: &W) {
    let tun = make(world).await;
    let again = world.platform().create_tun(&TunWish { name: tun.name().to_owned(), mtu: 1280 }).await;
    assert!(again.is_err_and(|e| e.kind() == ErrorKind::AlreadyExists));
    let mut keeper: Keeper<W> = Reconciler::new(world.platform().host().unwrap());
    let wanted = network(
        tun.name(),
        &["10.77.0.1", "fd77::1"],
        &[("10.77.0.0/16", Some("10.77.0.1")), ("fd77::/16", Some("fd77::1"))],
    );
    fine(&keeper.apply(&wanted, false));
    for (peer, own) in [("10.77.5.5:700", "10.77.0.1"), ("[fd77::5]:700", "fd77::1")] {
        let from = world.host_sends(peer.parse().unwrap(), b"out").unwrap();
        assert_eq!(from.ip(), ip(own), "the preferred source");
        let (datagram, offload) = next(&tun).await;
        tun.try_send(&[IoSlice::new(&answer(&datagram))], offload).unwrap();
        assert!(world.host_got(from, b"out"), "{peer}");
    }
    let mut buffer = [0; 2000];
    let empty = loop {
        match tun.try_recv(&mut buffer) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(empty.kind(), ErrorKind::WouldBlock);
    drop(tun);
    gone(world).await;
}

/// The next UDP datagram: systems send some of their own.
async fn next(tun: &impl Tun) -> (Vec<u8>, Offload) {
    let mut buffer = [0; 2000];
    loop {
        match tun.try_recv(&mut buffer) {
            Ok((length, offload)) if buffer[..length].ends_with(b"out") => {
                return (buffer[..length].to_vec(), offload);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::time::timeout(PATIENCE, tun.readable()).await.expect("a datagram").unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Swaps the ends of a UDP datagram. Neither checksum changes by that, nor whether the UDP one is complete.
fn answer(datagram: &[u8]) -> Vec<u8> {
    let mut reply = datagram.to_vec();
    let (source, length, udp) = if datagram[0] >> 4 == 4 { (12, 4, 20) } else { (8, 16, 40) };
    reply[source..source + length].copy_from_slice(&datagram[source + length..source + 2 * length]);
    reply[source + length..source + 2 * length].copy_from_slice(&datagram[source..source + length]);
    reply[udp..udp + 2].copy_from_slice(&datagram[udp + 2..udp + 4]);
    reply[udp + 2..udp + 4].copy_from_slice(&datagram[udp..udp + 2]);
    reply
}

/// Uplinks and the sockets on them. `first` and `second` are addresses that this host may have.
pub async fn uplinks<W: World>(world: &W, first: IpAddr, second: IpAddr) {
    let mut list = world.platform().watch_interfaces().unwrap();
    let has = |list: &InterfaceList, name: &str, address: IpAddr| {
        list.interfaces.iter().any(|i| i.name == name && i.usable && i.addresses == [address])
    };
    world.uplink("eth0", &[first]);
    world.uplink("wlan0", &[second]);
    wait_for(&mut list, "two uplinks", |l| has(l, "eth0", first) && has(l, "wlan0", second)).await;

    // Two addresses that change places at once.
    world.uplink("eth0", &[second]);
    world.uplink("wlan0", &[first]);
    let swapped = wait_for(&mut list, "swapped", |l| has(l, "eth0", second) && has(l, "wlan0", first)).await;
    let number =
        |list: &InterfaceList, name: &str| list.interfaces.iter().find(|i| i.name == name).map(|i| i.id);
    let eth0 = number(&swapped, "eth0");
    world.rename("eth0", "lan0");
    let renamed = wait_for(&mut list, "renamed", |l| has(l, "lan0", second)).await;
    assert_eq!(number(&renamed, "lan0"), eth0, "the same interface under another name");
    assert_eq!(number(&renamed, "eth0"), None);

    let lan0 = renamed.interfaces.iter().find(|i| i.name == "lan0").unwrap().clone();
    let family = Family::of(second);
    let socket = world.platform().bind_udp(&lan0, family, 45_454).unwrap();
    assert_eq!(socket.try_recv(&mut [0; 2000]), Err(NotReceived::Empty));
    let again = world.platform().bind_udp(&lan0, family, 45_454).map(drop).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    drop(socket);
    world.platform().bind_udp(&lan0, family, 45_454).unwrap();

    world.unplug("lan0");
    wait_for(&mut list, "gone", |l| number(l, "lan0").is_none()).await;
    let error = world.platform().bind_udp(&lan0, family, 45_454).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    world.unplug("wlan0");
}

async fn wait_for(
    receiver: &mut watch::Receiver<InterfaceList>,
    what: &str,
    wanted: impl FnMut(&InterfaceList) -> bool,
) -> InterfaceList {
    let seen = tokio::time::timeout(PATIENCE, receiver.wait_for(wanted)).await;
    if let Ok(list) = seen {
        return list.unwrap().clone();
    }
    drop(seen);
    panic!("not seen: {what}; last: {:#?}", *receiver.borrow());
}
