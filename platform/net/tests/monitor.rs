//! The interface monitor, against real devices.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::{find, in_namespace, ip, may_open_tun, pair, usable, wait_for};
use mast_engine::api::LeftOut;
use mast_engine::os::{InterfaceList, Platform};
use mast_platform::{Native, Overrides};
use mast_proto::InterfaceKind;
use tokio::sync::watch;

fn ignoring(names: &[&str]) -> Overrides {
    Overrides { ignore: names.iter().map(|&n| n.to_owned()).collect(), ..Overrides::default() }
}

fn watch(overrides: Overrides) -> watch::Receiver<InterfaceList> {
    Native::new(overrides).watch_interfaces().unwrap()
}

fn has(list: &InterfaceList, name: &str, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    find(list, name).is_some_and(|i| i.addresses.contains(&address))
}

#[test]
fn the_first_list_is_there_at_once() {
    in_namespace("the_first_list_is_there_at_once", || async {
        pair("wifi0", "peer0", "10.1.0.2/24");
        let mut receiver = watch(ignoring(&["peer0"]));
        let list = wait_for(&mut receiver, "wifi0", |list| usable(list, "wifi0")).await;
        assert_eq!(list.interfaces.len(), 1, "{list:#?}");
        let wifi = &list.interfaces[0];
        assert_eq!(wifi.kind, InterfaceKind::Wifi);
        assert_eq!((wifi.metered, wifi.network.as_deref()), (false, None));
        assert_eq!((list.routes_changed, list.resumed), (list.routes_changed, 0));
    });
}

#[test]
fn link_down_and_up_are_seen_at_once() {
    in_namespace("link_down_and_up_are_seen_at_once", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let mut receiver = watch(ignoring(&["peer0"]));
        wait_for(&mut receiver, "up", |list| usable(list, "eth0")).await;
        for _ in 0..5 {
            ip("link set eth0 down");
            let before = Instant::now();
            let list = wait_for(&mut receiver, "down", |list| !usable(list, "eth0")).await;
            let late = before.elapsed();
            println!("down seen {late:?} after `ip` had ended");
            assert!(late < Duration::from_secs(3), "{late:?}");
            assert!(find(&list, "eth0").is_some());
            ip("link set eth0 up");
            wait_for(&mut receiver, "up again", |list| usable(list, "eth0")).await;
        }
    });
}

#[test]
fn carrier_loss_is_seen() {
    in_namespace("carrier_loss_is_seen", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let mut receiver = watch(ignoring(&["peer0"]));
        wait_for(&mut receiver, "carrier", |list| usable(list, "eth0")).await;
        ip("link set peer0 down");
        let list = wait_for(&mut receiver, "no carrier", |list| !usable(list, "eth0")).await;
        assert!(has(&list, "eth0", "10.1.0.2"), "the address stays");
        ip("link set peer0 up");
        wait_for(&mut receiver, "carrier again", |list| usable(list, "eth0")).await;
    });
}

#[test]
fn addresses_come_go_and_change() {
    in_namespace("addresses_come_go_and_change", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let mut receiver = watch(ignoring(&["peer0"]));
        ip("addr add 2001:db8::2/64 dev eth0 nodad");
        wait_for(&mut receiver, "the IPv6 address", |list| has(list, "eth0", "2001:db8::2")).await;
        // What a DHCP server that renumbers brings about.
        ip("addr del 10.1.0.2/24 dev eth0");
        ip("addr add 10.2.0.7/24 dev eth0");
        let list = wait_for(&mut receiver, "the new address", |list| has(list, "eth0", "10.2.0.7")).await;
        assert!(!has(&list, "eth0", "10.1.0.2"));
        ip("addr flush dev eth0 scope global");
        let list = wait_for(&mut receiver, "no address", |l| {
            find(l, "eth0").is_some_and(|i| i.addresses.is_empty())
        })
        .await;
        assert!(!usable(&list, "eth0"));
    });
}

#[test]
fn addresses_that_cannot_source_are_left_out() {
    in_namespace("addresses_that_cannot_source_are_left_out", || async {
        pair("eth0", "peer0", "169.254.7.7/16");
        ip("addr add 2001:db8::d/64 dev eth0 nodad preferred_lft 0");
        ip("addr add 127.9.9.9/32 dev eth0");
        let mut receiver = watch(ignoring(&["peer0"]));
        // The kernel first makes sure that nobody else has it.
        ip("addr add 2001:db8::5/64 dev eth0");
        assert!(!has(&receiver.borrow(), "eth0", "2001:db8::5"));
        let list =
            wait_for(&mut receiver, "the checked address", |list| has(list, "eth0", "2001:db8::5")).await;
        assert_eq!(find(&list, "eth0").unwrap().addresses.len(), 1, "{list:#?}");
        let link_local = wait_for(&mut receiver, "the link-local address", |l| {
            find(l, "eth0").unwrap().link_local.is_some()
        });
        let link_local = find(&link_local.await, "eth0").unwrap().link_local.unwrap();
        assert!(link_local.is_unicast_link_local());
        ip(&format!("addr del {link_local}/64 dev eth0"));
        let gone = |list: &InterfaceList| find(list, "eth0").unwrap().link_local.is_none();
        wait_for(&mut receiver, "no link-local address", gone).await;
    });
}

/// A deprecated address is a last resort, and in use until it goes.
#[test]
fn deprecated_addresses_count_while_they_are_used_or_there_is_no_other() {
    in_namespace("deprecated_addresses_count_while_they_are_used_or_there_is_no_other", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        ip("addr add 2001:db8::d/64 dev eth0 nodad preferred_lft 0");
        let mut receiver = watch(ignoring(&["peer0"]));
        wait_for(&mut receiver, "the last resort", |list| has(list, "eth0", "2001:db8::d")).await;
        ip("addr add 2001:db8::a/64 dev eth0 nodad");
        let list = wait_for(&mut receiver, "a better one", |list| has(list, "eth0", "2001:db8::a")).await;
        assert!(!has(&list, "eth0", "2001:db8::d"), "it was never used but for want of another");

        // Privacy addresses, one a day: the newest comes first, and what uses an older one goes on.
        for (new, old) in [("b", "a"), ("c", "b"), ("e", "c")] {
            ip(&format!("addr add 2001:db8::{new}/64 dev eth0 nodad"));
            ip(&format!("addr change 2001:db8::{old}/64 dev eth0 preferred_lft 0"));
            let both = |list: &InterfaceList| {
                let addresses = &find(list, "eth0").unwrap().addresses;
                let place = |a: &str| addresses.iter().position(|b| *b == a.parse::<IpAddr>().unwrap());
                place(&format!("2001:db8::{new}")) < place(&format!("2001:db8::{old}"))
                    && place(&format!("2001:db8::{new}")).is_some()
            };
            wait_for(&mut receiver, "the new one before the old one", both).await;
        }
        // A list may have come between an address and the end of the one before.
        wait_for(&mut receiver, "not for ever", |list| !has(list, "eth0", "2001:db8::a")).await;
        ip("addr del 2001:db8::c/64 dev eth0");
        wait_for(&mut receiver, "an end", |list| !has(list, "eth0", "2001:db8::c")).await;
    });
}

#[test]
fn routes_are_counted() {
    in_namespace("routes_are_counted", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        pair("eth1", "peer1", "10.9.0.2/24");
        let mut receiver = watch(ignoring(&["peer0", "peer1", "eth1"]));
        wait_for(&mut receiver, "eth0", |list| usable(list, "eth0")).await;
        for change in ["add default via 10.1.0.1", "del default", "add 10.5.0.0/16 via 10.1.0.1"] {
            let before = receiver.borrow().routes_changed;
            ip(&format!("route {change} dev eth0"));
            wait_for(&mut receiver, change, |list| list.routes_changed > before).await;
        }
        // Going down takes the routes along in silence.
        let before = receiver.borrow().routes_changed;
        ip("link set eth0 down");
        wait_for(&mut receiver, "routes lost", |list| list.routes_changed > before).await;
        tokio::time::sleep(Duration::from_millis(300)).await;

        let before = receiver.borrow_and_update().clone();
        // Whose range is on a link is known of every link.
        ip("route add 10.6.0.0/16 dev eth1");
        wait_for(&mut receiver, "a range", |list| list.occupied != before.occupied).await;
        // And what other tables lead to, where it is no way of an uplink.
        let known = receiver.borrow().occupied.clone();
        ip("route add 10.7.0.0/16 dev eth1 table 7");
        wait_for(&mut receiver, "a range of another table", |list| list.occupied != known).await;
        receiver.mark_unchanged();
        ip("route add blackhole 10.8.0.0/16");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!receiver.has_changed().unwrap(), "{:#?}", *receiver.borrow());
        let after = receiver.borrow().clone();
        assert_eq!((after.routes_changed, after.interfaces), (before.routes_changed, before.interfaces));
    });
}

#[test]
fn only_uplinks_are_listed() {
    in_namespace("only_uplinks_are_listed", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let mut receiver = watch(ignoring(&["peer0"]));
        ip("link add docker0 type bridge");
        ip("addr add 172.17.0.1/16 dev docker0");
        ip("link set docker0 up");
        pair("port0", "inner0", "10.4.0.1/24");
        ip("link set port0 master docker0");
        if may_open_tun() {
            ip("tuntap add dev tun9 mode tun");
        }
        ip("link add cell0 type veth peer name peer1");
        let list = wait_for(&mut receiver, "cell0", |list| find(list, "cell0").is_some()).await;
        let names: Vec<&str> = list.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert!(names.is_sorted_by_key(|n| find(&list, n).unwrap().id));
        for absent in ["lo", "docker0", "port0", "tun9"] {
            assert!(!names.contains(&absent), "{names:?}");
        }
        let cell = find(&list, "cell0").unwrap();
        assert_eq!((cell.kind, cell.metered, cell.usable), (InterfaceKind::Cellular, true, false));

        ip("route add default dev docker0");
        wait_for(&mut receiver, "the bridge that leads out", |list| find(list, "docker0").is_some()).await;
        ip("link del cell0");
        wait_for(&mut receiver, "cell0 gone", |list| find(list, "cell0").is_none()).await;
    });
}

#[test]
fn configuration_wins() {
    in_namespace("configuration_wins", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let overrides = Overrides {
            metered: [("eth0".to_owned(), true)].into(),
            kind: [("eth0".to_owned(), InterfaceKind::Wifi)].into(),
            network: [("eth0".to_owned(), "Train".to_owned())].into(),
            ignore: vec!["peer0".to_owned()],
            ..Overrides::default()
        };
        let mut receiver = watch(overrides);
        let list = wait_for(&mut receiver, "eth0", |list| usable(list, "eth0")).await;
        let interface = find(&list, "eth0").unwrap();
        assert_eq!((interface.kind, interface.metered), (InterfaceKind::Wifi, true));
        assert_eq!(interface.network.as_deref(), Some("Train"));
    });
}

#[test]
fn what_is_named_is_used_whatever_it_is_and_the_rest_is_told() {
    in_namespace("what_is_named_is_used_whatever_it_is_and_the_rest_is_told", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        for bridge in ["wan0", "lab0"] {
            ip(&format!("link add {bridge} type bridge"));
            ip(&format!("link add {bridge}-p type veth peer name {bridge}-q"));
            ip(&format!("link set {bridge}-p master {bridge} up"));
            ip(&format!("link set {bridge}-q up"));
        }
        ip("tuntap add dev tun9 mode tun");
        for (number, name) in ["wan0", "lab0", "tun9"].into_iter().enumerate() {
            ip(&format!("addr add 10.2.{number}.2/24 dev {name}"));
            ip(&format!("link set {name} up"));
        }
        let named = ["wan0", "tun9", "lo"].map(str::to_owned).to_vec();
        let overrides = Overrides { named, ignore: vec!["peer0".to_owned()], ..Overrides::default() };
        let mut receiver = watch(overrides);
        let list = wait_for(&mut receiver, "wan0", |list| usable(list, "wan0")).await;
        assert!(
            find(&list, "tun9").is_some() && find(&list, "lab0").is_none() && find(&list, "lo").is_none()
        );
        let told = |list: &InterfaceList| {
            list.left_out.iter().any(|(name, why)| name == "lab0" && *why == LeftOut::Inside)
        };
        let list = if told(&list) { list } else { wait_for(&mut receiver, "lab0 told", told).await };
        assert!(list.left_out.iter().all(|(name, _)| name == "lab0"), "no address: {:?}", list.left_out);
        ip("addr add 10.2.7.2/24 dev tun9");
        wait_for(&mut receiver, "another address of tun9", |list| {
            find(list, "tun9").is_some_and(|i| i.addresses.len() == 2)
        })
        .await;
    });
}

#[test]
fn a_flood_of_changes_ends_in_the_truth() {
    in_namespace("a_flood_of_changes_ends_in_the_truth", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let mut receiver = watch(ignoring(&["peer0"]));
        let directory = tempfile::tempdir().unwrap();
        let batch = directory.path().join("batch");
        let mut lines = String::new();
        for n in 0..3000 {
            let address = format!("10.{}.{}.1/32", 100 + n / 250, n % 250);
            lines += &format!("addr add {address} dev eth0\n");
            if n != 2999 {
                lines += &format!("addr del {address} dev eth0\n");
            }
        }
        std::fs::write(&batch, lines).unwrap();
        ip(&format!("-batch {}", batch.display()));
        let list =
            wait_for(&mut receiver, "the last address", |list| has(list, "eth0", "10.111.249.1")).await;
        assert_eq!(find(&list, "eth0").unwrap().addresses.len(), 2);
    });
}

#[test]
fn watching_ends_with_the_last_receiver() {
    in_namespace("watching_ends_with_the_last_receiver", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let sockets = || std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap().lines().count();
        let before = sockets();
        let receiver = watch(Overrides::default());
        let second = receiver.clone();
        assert!(sockets() >= before + 2);
        drop((receiver, second));
        let deadline = Instant::now() + Duration::from_secs(10);
        while sockets() > before {
            assert!(Instant::now() < deadline, "the watching thread still has its sockets");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn what_belongs_to_the_networks_is_known() {
    in_namespace("what_belongs_to_the_networks_is_known", || async {
        use mast_engine::os::{Platform, Prefix, TunWish};
        let platform = mast_platform::Native::new(Overrides::default());
        let mut list = platform.watch_interfaces().unwrap();
        pair("eth0", "far", "100.64.0.2/30");
        ip("route add default via 100.64.0.1 dev eth0");
        ip("link add vpn type veth peer name vpn-far");
        ip("addr add 100.70.0.7/32 dev vpn");
        // As Tailscale has its peers, and a carrier its gateway.
        ip("link set vpn up");
        ip("route add 100.101.102.103/32 dev vpn table 52");
        ip("addr add 100.72.1.2 peer 100.72.9.9/32 dev vpn noprefixroute");
        let range = |text: &str, length| Prefix { address: text.parse().unwrap(), length };
        let wanted = [
            range("100.64.0.1", 32),
            range("100.64.0.2", 32),
            range("100.64.0.0", 30),
            range("100.70.0.7", 32),
            range("100.101.102.103", 32),
            range("100.72.1.2", 32),
            range("100.72.9.9", 32),
        ];
        let all = |list: &InterfaceList| wanted.iter().all(|prefix| list.occupied.contains_key(prefix));
        let seen = wait_for(&mut list, "gateway, range, addresses", all).await;
        assert_eq!(seen.occupied[&wanted[0]], "the gateway of eth0");
        assert!(seen.occupied.keys().all(|prefix| prefix.address.is_ipv4() && prefix.length > 1));
        if common::may_open_tun() {
            let tun = platform.create_tun(&TunWish { name: "mast0".into(), mtu: 1280 }).await.unwrap();
            ip("addr add 100.99.0.1/32 dev mast0");
            ip("route add 100.99.0.2/32 dev mast0");
            ip("addr add 10.3.0.2/24 dev eth0");
            let seen =
                wait_for(&mut list, "another", |l| l.occupied.contains_key(&range("10.3.0.2", 32))).await;
            assert!(
                !seen.occupied.keys().any(|p| p.contains("100.99.0.1".parse().unwrap())),
                "its own are not others'"
            );
            assert!(!seen.occupied.contains_key(&range("100.99.0.2", 32)));
            drop(tun);
        }
        ip("link del eth0");
        wait_for(&mut list, "gone", |l| !l.occupied.contains_key(&wanted[0])).await;
    });
}
