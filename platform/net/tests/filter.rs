//! The packet filter of leak protection, against the kernel: what leaves an uplink is counted behind it. Needs `nft`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{in_namespace, ip};
use mast_engine::Reconciler;
use mast_engine::declared::{Declared, Guard};
use mast_engine::os::{Family, Platform};
use mast_platform::{Native, Overrides};
use socket2::{Domain, Protocol, Socket, Type};

const TABLE: &str = "inet mast-protection";
const BOTH: [Family; 2] = [Family::V4, Family::V6];
/// The mark of the service's own sockets.
const MARK: u32 = 0x6d61_7374;

fn nft(script: &str) -> (bool, String) {
    let output =
        Command::new("nft").arg(script).output().expect("nft is not installed: apt-get install nftables");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn platform(shared_filter: bool) -> Native {
    Native::new(Overrides { shared_filter, ..Overrides::default() })
}

fn declared(families: &[Family], local_network: bool) -> Declared {
    let families = families.iter().copied().collect();
    let interfaces = ["mast0".to_owned()].into();
    Declared { guard: Some(Guard { families, interfaces, local_network }), ..Declared::default() }
}

fn apply(keeper: &mut Reconciler<<Native as Platform>::Host>, declared: &Declared) -> usize {
    let outcome = keeper.apply(declared, true);
    assert!(outcome.refused.is_empty() && outcome.lacking.is_none(), "{outcome:?}");
    outcome.taken
}

/// An uplink with everything a hostile network can set: routes of a quarter each, all of IPv6 on the link, a leased
/// range over public space. Whatever arrives behind it is counted, by its mark in the payload.
fn hostile_network() {
    ip("link add wlan0 type veth peer name router");
    ip("link set router up");
    ip("link set wlan0 up");
    for address in ["10.1.0.2/24", "198.51.0.2/16"] {
        ip(&format!("addr add {address} dev wlan0"));
    }
    ip("addr add 2001:db8:1::2/64 dev wlan0 nodad");
    ip("addr add fd01::2/64 dev wlan0 nodad");
    for quarter in ["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"] {
        ip(&format!("route add {quarter} via 10.1.0.1 dev wlan0"));
    }
    ip("route add 2000::/3 dev wlan0");
    let mac = ip("-o link show router");
    let mac = mac.split_whitespace().skip_while(|w| *w != "link/ether").nth(1).unwrap().to_owned();
    for neighbour in
        ["10.1.0.1", "10.1.0.9", "198.51.100.9", "192.0.2.9", "2001:db8:77::9", "fd01::9", "fe80::9"]
    {
        ip(&format!("neigh replace {neighbour} lladdr {mac} dev wlan0 nud permanent"));
    }
    // The virtual interface, from which nobody reads.
    ip("link add mast0 type veth peer name far");
    ip("link set far up");
    ip("link set mast0 up");
    ip("addr add 10.66.0.2/24 dev mast0");
    let count = "table netdev seen {
        counter hits { }
        chain arriving {
            type filter hook ingress device router priority 0;
            udp length 25 counter name hits
        }
    }";
    assert!(nft(count).0);
}

/// Whether what is sent arrives behind the uplink. Seventeen bytes, which nothing else has.
fn leaves(to: &str, send: impl FnOnce(&Socket, SocketAddr) -> std::io::Result<()>) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    let count = || {
        let text = nft("list counter netdev seen hits").1;
        text.split_whitespace().skip_while(|w| *w != "packets").nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = count();
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    // A refusal and silence are the same here.
    let _ = send(&socket, to);
    std::thread::sleep(Duration::from_millis(20));
    count() > before
}

fn plainly(to: &str) -> bool {
    leaves(to, |socket, to| socket.send_to(&[7; 17], &to.into()).map(drop))
}

fn bound(to: &str) -> bool {
    leaves(to, |socket, to| {
        socket.bind_device(Some(b"wlan0"))?;
        socket.send_to(&[7; 17], &to.into()).map(drop)
    })
}

fn from_port(port: u16, to: &str) -> bool {
    leaves(to, |socket, to| {
        socket.bind_device(Some(b"wlan0"))?;
        socket.set_broadcast(true)?;
        let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
        socket.bind(&SocketAddr::new(any, port).into())?;
        socket.send_to(&[7; 17], &to.into()).map(drop)
    })
}

/// By the interface that is named with each datagram.
fn told_each_time(to: &str) -> bool {
    leaves(to, |socket, to| {
        let index = nix::net::if_::if_nametoindex("wlan0").unwrap().cast_signed();
        let payload = [std::io::IoSlice::new(&[7; 17])];
        use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
        use std::os::fd::AsRawFd;
        let v4 = libc::in_pktinfo {
            ipi_ifindex: index,
            ipi_spec_dst: libc::in_addr { s_addr: 0 },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let v6 =
            libc::in6_pktinfo { ipi6_ifindex: index as u32, ipi6_addr: libc::in6_addr { s6_addr: [0; 16] } };
        let control = if to.is_ipv4() {
            ControlMessage::Ipv4PacketInfo(&v4)
        } else {
            ControlMessage::Ipv6PacketInfo(&v6)
        };
        let to = SockaddrStorage::from(to);
        sendmsg(socket.as_raw_fd(), &payload, &[control], MsgFlags::empty(), Some(&to)).map(drop)?;
        Ok(())
    })
}

fn marked(to: &str) -> bool {
    leaves(to, |socket, to| {
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Mark, &MARK)?;
        socket.send_to(&[7; 17], &to.into()).map(drop)
    })
}

/// Whether something sent in one way to an address arrives behind the uplink.
type Way = fn(&str) -> bool;

/// Public addresses that the network leads over itself.
const PUBLIC: [&str; 3] = ["192.0.2.9:9", "198.51.100.9:9", "[2001:db8:77::9]:9"];
/// Of the local network.
const LOCAL: [&str; 3] = ["10.1.0.9:9", "[fd01::9]:9", "[fe80::9%2]:9"];
/// Name servers there.
const NAMES: [&str; 4] = ["10.1.0.1:53", "10.1.0.9:853", "[fd01::9]:53", "[fd01::9]:853"];

fn local() -> [String; 3] {
    let index = nix::net::if_::if_nametoindex("wlan0").unwrap();
    LOCAL.map(|at| at.replace("%2", &format!("%{index}")))
}

#[test]
fn nothing_leaves_but_what_may_whatever_the_network_sets() {
    in_namespace("nothing_leaves_but_what_may_whatever_the_network_sets", || async {
        hostile_network();
        let mut keeper = Reconciler::new(platform(false).host().unwrap());
        let every_way: [(&str, Way); 3] =
            [("plainly", plainly), ("bound to the uplink", bound), ("told with each", told_each_time)];
        // Each of them is an attack that works without.
        for (how, way) in every_way {
            for to in PUBLIC {
                assert!(way(to), "{to} {how}: the test sees nothing");
            }
        }

        assert_eq!(apply(&mut keeper, &declared(&BOTH, true)), 1);
        assert_eq!(apply(&mut keeper, &declared(&BOTH, true)), 0, "a second time it changes nothing");
        for (how, way) in every_way {
            for to in PUBLIC {
                assert!(!way(to), "{to} {how}");
            }
            for to in NAMES {
                assert!(!way(to), "{to} {how}");
            }
        }
        for to in local() {
            assert!(bound(&to), "{to}: the local network is allowed");
        }
        for to in PUBLIC {
            assert!(marked(to), "{to}: the service's own");
        }
        assert!(from_port(68, "255.255.255.255:67") && from_port(68, "192.0.2.9:67"));
        assert!(!from_port(69, "192.0.2.9:67") && !from_port(68, "192.0.2.9:68"));
        assert!(from_port(546, "[2001:db8:77::9]:547") && !from_port(547, "[2001:db8:77::9]:547"));
        // A neighbour is looked for, as the kernel does for the service's own datagrams.
        ip("neigh flush dev wlan0 nud permanent");
        let router = ip("-o -6 addr show dev router scope link");
        let router = router.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
        let index = nix::net::if_::if_nametoindex("wlan0").unwrap();
        let limit = Instant::now() + Duration::from_secs(5);
        while !bound(&format!("[{router}%{index}]:9")) {
            assert!(Instant::now() < limit, "no neighbour is found");
        }

        apply(&mut keeper, &declared(&BOTH, false));
        for to in local() {
            assert!(!bound(&to), "{to}: the local network is not allowed");
        }
        let mut on = apply(&mut keeper, &declared(&[Family::V6], false));
        on += usize::from(plainly("[2001:db8:77::9]:9"));
        assert_eq!(on, 1);
        ip("neigh replace 10.1.0.1 lladdr 02:00:00:00:00:01 dev wlan0 nud permanent");
        assert!(plainly("192.0.2.9:9"), "the other version of IP is left alone");
        apply(&mut keeper, &Declared::default());
        assert!(plainly("192.0.2.9:9") && !nft(&format!("list table {TABLE}")).0);
    });
}

/// Whether this kernel has tables that outlive their owner and belong to nobody else before.
fn has_owners() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(9))
}

#[test]
fn nobody_takes_it_away_while_the_service_runs_and_it_stays_when_that_is_gone() {
    in_namespace("nobody_takes_it_away_while_the_service_runs_and_it_stays_when_that_is_gone", || async {
        hostile_network();
        let mut keeper = Reconciler::new(platform(false).host().unwrap());
        apply(&mut keeper, &declared(&BOTH, true));
        if has_owners() {
            for removal in [format!("delete table {TABLE}"), format!("flush table {TABLE}")] {
                assert!(!nft(&removal).0, "{removal}");
            }
            nft("flush ruleset");
            assert_eq!(apply(&mut keeper, &declared(&BOTH, true)), 0, "it is whole");
        }
        // The service is killed.
        drop(keeper);
        assert!(nft(&format!("list table {TABLE}")).0);
        let next = || Reconciler::new(platform(false).host().unwrap());
        let mut keeper = next();
        assert_eq!(apply(&mut keeper, &declared(&BOTH, true)), 1, "it is set in its place, and watched");
        drop(keeper);
        // And one that does not want it.
        apply(&mut next(), &Declared::default());
        assert!(!nft(&format!("list table {TABLE}")).0);
    });
}

#[test]
fn what_others_take_away_is_told_of_and_put_back() {
    in_namespace("what_others_take_away_is_told_of_and_put_back", || async {
        hostile_network();
        let platform = platform(true);
        let mut list = platform.watch_interfaces().unwrap();
        let mut keeper = Reconciler::new(platform.host().unwrap());
        apply(&mut keeper, &declared(&BOTH, true));
        let handle = || {
            let mut list = Command::new("nft");
            list.args(["-a", "list", "chain", "inet", "mast-protection", "near"]);
            let text = String::from_utf8(list.output().unwrap().stdout).unwrap();
            let line = text.lines().find(|l| l.contains("dport 53 drop")).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        let damage = [
            format!("delete table {TABLE}"),
            format!("flush chain {TABLE} forwarded"),
            format!("chain {TABLE} leaving {{ policy accept; }}"),
            format!("insert rule {TABLE} leaving accept"),
            format!("delete rule {TABLE} near handle {}", handle()),
        ];
        for damage in damage {
            // Its own changes are told of, too.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let before = list.borrow_and_update().disturbed;
            let since = Instant::now();
            assert!(nft(&damage).0, "{damage}");
            let told = async {
                while list.borrow_and_update().disturbed == before {
                    list.changed().await.unwrap();
                }
            };
            tokio::time::timeout(Duration::from_secs(1), told)
                .await
                .unwrap_or_else(|_| panic!("untold: {damage}"));
            let outcome = keeper.apply(&declared(&BOTH, true), true);
            assert_eq!(outcome.mended, ["the packet filter of leak protection"], "{damage}");
            println!("{damage}: put back after {:?}", since.elapsed());
            assert!(!bound(PUBLIC[0]) && !bound(NAMES[0]), "{damage}");
        }
    });
}
