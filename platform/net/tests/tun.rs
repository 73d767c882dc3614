//! The virtual interface, against the real kernel.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::{INSIDE, again, eventually, in_namespace, ip, may_open_tun, pair};
use mast_engine::Reconciler;
use mast_engine::declared::Declared;
use mast_engine::os::{Offload, Platform, Prefix, Tun, TunWish};
use mast_engine::surroundings::Surroundings;
use mast_platform::linux::LinuxTun;
use mast_platform::{Native, Overrides};

async fn create(name: &str) -> std::io::Result<LinuxTun> {
    Native::new(Overrides::default()).create_tun(&TunWish { name: name.to_owned(), mtu: 1280 }).await
}

/// Sets what is declared; what is refused fails the test.
fn configure(network: &Declared) {
    let mut keeper = Reconciler::new(Native::new(Overrides::default()).host().unwrap());
    let outcome = keeper.apply(network, true);
    assert!(outcome.refused.is_empty(), "{outcome:?}");
}

fn network(addresses: &[&str], routes: &[(&str, u8, Option<&str>)]) -> Declared {
    Declared {
        interface: Some("mast0".to_owned()),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        routes: routes
            .iter()
            .map(|&(address, length, source)| {
                (Prefix { address: address.parse().unwrap(), length }, source.map(|s| s.parse().unwrap()))
            })
            .collect(),
        ..Declared::default()
    }
}

/// Addresses and routes of the device, as the `ip` command shows them.
fn shown(name: &str) -> Vec<String> {
    let addresses = ip(&format!("-o addr show dev {name}"));
    let addresses = addresses.lines().map(|l| l.split_whitespace().nth(3).unwrap().to_owned());
    let routes = ip(&format!("route show dev {name}")) + &ip(&format!("-6 route show dev {name}"));
    let mut all: Vec<String> =
        addresses.chain(routes.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))).collect();
    all.sort();
    all
}

/// The next datagram that is not the kernel's multicast listener report.
async fn next(tun: &LinuxTun) -> (Vec<u8>, Offload) {
    let mut buffer = [0; 2000];
    loop {
        match tun.try_recv(&mut buffer) {
            Ok(_) if buffer[0] >> 4 == 6 && buffer[24] == 0xff => {
                assert_ne!(buffer[40], 133, "a router solicitation");
            }
            Ok((length, offload)) => return (buffer[..length].to_vec(), offload),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::time::timeout(Duration::from_secs(5), tun.readable())
                    .await
                    .expect("a datagram")
                    .unwrap();
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

#[test]
fn datagrams_go_both_ways() {
    in_namespace("datagrams_go_both_ways", || async {
        if !may_open_tun() {
            return;
        }
        let tun = create("mast0").await.unwrap();
        assert_eq!(tun.name(), "mast0");
        let link = ip("link show mast0");
        assert!(link.contains("mtu 1280") && link.contains("UP"), "{link}");
        configure(&network(
            &["10.77.0.1", "fd77::1"],
            &[("10.77.0.0", 16, Some("10.77.0.1")), ("fd77::", 16, Some("fd77::1"))],
        ));
        for (any, peer, own) in
            [("0.0.0.0:0", "10.77.5.5:700", "10.77.0.1"), ("[::]:0", "[fd77::5]:700", "fd77::1")]
        {
            let (peer, own): (SocketAddr, IpAddr) = (peer.parse().unwrap(), own.parse().unwrap());
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(b"out", peer).unwrap();
            let (datagram, offload) = next(&tun).await;
            assert!(datagram.ends_with(b"out"));
            let source = if own.is_ipv4() {
                IpAddr::from(<[u8; 4]>::try_from(&datagram[12..16]).unwrap())
            } else {
                IpAddr::from(<[u8; 16]>::try_from(&datagram[8..24]).unwrap())
            };
            assert_eq!(source, own);
            let reply = answer(&datagram);
            tun.try_send(&[IoSlice::new(&reply)], offload).unwrap();
            let mut buffer = [0; 10];
            let answered = socket.recv_from(&mut buffer);
            assert!(matches!(answered, Ok((3, from)) if from == peer), "{peer}: {answered:?}");
        }
        // Nothing but what was sent: no link-local address, no router solicitation.
        assert!(!shown("mast0").iter().any(|line| line.starts_with("fe80")), "{:?}", shown("mast0"));
        drop(tun);
        eventually("the device is gone", || !ip("link").contains("mast0"));
    });
}

#[test]
fn configuration_follows_what_is_wanted() {
    in_namespace("configuration_follows_what_is_wanted", || async {
        if !may_open_tun() {
            return;
        }
        pair("eth0", "peer0", "192.0.2.2/24");
        ip("route add default via 192.0.2.1");
        let _tun = create("mast0").await.unwrap();
        configure(&network(
            &["10.77.0.1", "fd77::1"],
            &[
                ("10.77.0.9", 16, None),
                ("fd77::", 16, None),
                ("0.0.0.0", 0, Some("10.77.0.1")),
                ("::", 0, None),
            ],
        ));
        assert_eq!(
            shown("mast0"),
            [
                "0.0.0.0/1 scope link src 10.77.0.1",
                "10.77.0.0/16 scope link",
                "10.77.0.1/32",
                "128.0.0.0/1 scope link src 10.77.0.1",
                "8000::/1 metric 1024 pref medium",
                "::/1 metric 1024 pref medium",
                "fd77::/16 metric 1024 pref medium",
                "fd77::1/128",
            ]
            .map(with_protocol),
        );
        assert!(ip("route show default").contains("via 192.0.2.1 dev eth0"));
    });
}

/// `ip` shows the protocol of a route after the prefix, or after that of IPv4.
fn with_protocol(line: &str) -> String {
    match line.split_once(' ') {
        Some((prefix, rest)) => format!("{prefix} proto static {rest}"),
        None => line.to_owned(),
    }
}

#[test]
fn an_interface_that_somebody_removes_says_so() {
    in_namespace("an_interface_that_somebody_removes_says_so", || async {
        if !may_open_tun() {
            return;
        }
        let tun = create("mast0").await.unwrap();
        ip("link del mast0");
        tokio::time::timeout(Duration::from_secs(5), tun.readable()).await.expect("told of it").unwrap();
        let error = tun.try_recv(&mut [0; 100]).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
    });
}

#[test]
fn half_a_default_route_is_made_whole_or_goes() {
    in_namespace("half_a_default_route_is_made_whole_or_goes", || async {
        if !may_open_tun() {
            return;
        }
        let tun = create("mast0").await.unwrap();
        let mut keeper = Reconciler::new(Native::new(Overrides::default()).host().unwrap());
        let all = network(&[], &[("0.0.0.0", 0, None), ("::", 0, None)]);
        assert!(keeper.apply(&all, false).refused.is_empty());
        let whole = shown("mast0");
        assert_eq!(whole.len(), 4, "{whole:?}");
        ip("route del 128.0.0.0/1 dev mast0");
        ip("-6 route del ::/1 dev mast0");
        assert!(keeper.apply(&all, true).refused.is_empty());
        assert_eq!(shown("mast0"), whole);
        // Where the one half cannot be had, there is not the other.
        ip("route flush dev mast0");
        ip("-6 route flush dev mast0");
        ip("link add other type veth peer name another");
        ip("link set other up");
        ip("route add 128.0.0.0/1 dev other");
        // One that had it before has it back; to one that is new it is another's.
        let mut keeper = Reconciler::new(Native::new(Overrides::default()).host().unwrap());
        let refused = keeper.apply(&all, true).refused;
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].text.contains("0.0.0.0/0"), "{refused:?}");
        assert!(!ip("route show dev mast0").contains("0.0.0.0/1"));
        drop(tun);
    });
}

#[test]
fn a_name_that_is_taken_is_refused() {
    in_namespace("a_name_that_is_taken_is_refused", || async {
        if !may_open_tun() {
            return;
        }
        let first = create("mast0").await.unwrap();
        let error = create("mast0").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("another mastd"), "{error}");
        drop(first);
        while create("mast0").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        ip("link add eth7 type veth peer name peer7");
        let error = create("eth7").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("of another type"), "{error}");
        for name in ["", "a/b", "a b", "longer-than-15-bytes"] {
            assert_eq!(create(name).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
    });
}

#[test]
fn leftovers_are_removed_and_nothing_else() {
    in_namespace("leftovers_are_removed_and_nothing_else", || async {
        if !may_open_tun() {
            return;
        }
        assert!(Native::default().clear_leftovers("mast0").unwrap().is_empty());
        ip("tuntap add dev mast0 mode tun");
        let removed = Native::default().clear_leftovers("mast0").unwrap();
        assert!(removed.len() == 1 && removed[0].contains("mast0"), "{removed:?}");
        assert!(!ip("link").contains("mast0"));

        let held = create("mast0").await.unwrap();
        ip("link add mast1 type veth peer name peer1");
        ip("tuntap add dev mast2 mode tap");
        for name in ["mast0", "mast1", "mast2"] {
            assert!(Native::default().clear_leftovers(name).unwrap().is_empty());
            assert!(ip("link").contains(name));
        }
        drop(held);
    });
}

#[test]
fn without_privilege_the_remedy_is_told() {
    const NAME: &str = "without_privilege_the_remedy_is_told";
    if std::env::var_os(INSIDE).is_none() {
        // A user namespace without a map: this process is nobody there.
        return again(NAME, &["--user"]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async { create("mast0").await.unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    let checks = Native::default().checks();
    assert!(
        checks.iter().any(|c| c.name == "tun-create" && !c.ok && c.explanation.contains("root")),
        "{checks:#?}"
    );
}

#[test]
fn the_checks_pass_where_tunnels_work() {
    in_namespace("the_checks_pass_where_tunnels_work", || async {
        if !may_open_tun() {
            return;
        }
        let checks = Native::default().checks();
        for name in ["tun-device", "tun-create", "interface-events", "ipv6"] {
            assert!(checks.iter().any(|c| c.name == name && c.ok), "{checks:#?}");
        }
        eventually("the device is gone", || !ip("link").contains("mastprobe"));
    });
}
