//! What every backend must do, done by this kernel.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{in_namespace, ip, may_open_tun};
use mast_conformance::{Seen, World, suite};
use mast_engine::Reconciler;
use mast_engine::declared::Declared;
use mast_engine::os::{Family, Platform, Prefix, Tun, TunWish};
use mast_platform::{Native, Overrides};

#[derive(Default)]
struct LinuxWorld {
    platform: Native,
    sockets: Mutex<BTreeMap<SocketAddr, UdpSocket>>,
}

fn version(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "-4" } else { "-6" }
}

fn exists(name: &str) -> bool {
    ip("-o link").lines().any(|l| l.split(&[':', '@', ' '][..]).any(|word| word == name))
}

/// `10.0.0.0/8 …`, `default …`, `10.0.0.1 …`
fn route(line: &str, any: &str) -> (Prefix, Option<IpAddr>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let text = if words[0] == "default" { any } else { words[0] };
    let (address, length) = text.split_once('/').unwrap_or((text, if any == "::/0" { "128" } else { "32" }));
    let source = words.windows(2).find(|w| w[0] == "src").map(|w| w[1].parse().unwrap());
    (Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }, source)
}

impl World for LinuxWorld {
    type Platform = Native;

    fn platform(&self) -> &Native {
        &self.platform
    }

    fn seen(&self, interface: &str) -> Seen {
        let mut seen = Seen::default();
        for (family, version) in [(Family::V4, "-4"), (Family::V6, "-6")] {
            let ours = ip(&format!("{version} rule")).lines().filter(|l| l.contains("proto 109")).count();
            if ours == 2 {
                seen.protection.insert(family);
            }
        }
        let table = Command::new("nft").args(["list", "table", "inet", "mast-protection"]).output();
        seen.guarded = table.is_ok_and(|listed| listed.status.success());
        if interface.is_empty() {
            return seen;
        }
        let link = ip(&format!("-o link show dev {interface}"));
        seen.mtu = link.split_whitespace().skip_while(|w| *w != "mtu").nth(1).unwrap().parse().unwrap();
        let lines = ip(&format!("-o addr show dev {interface}"));
        let addresses = lines.lines().map(|l| l.split_whitespace().nth(3).unwrap());
        seen.addresses = addresses.map(|a| a.split('/').next().unwrap().parse().unwrap()).collect();
        for (version, any) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
            let lines = ip(&format!("{version} route show dev {interface}"));
            seen.routes.extend(lines.lines().map(|line| route(line, any)));
        }
        seen
    }

    fn take_address(&self, interface: &str, address: IpAddr) {
        ip(&format!("addr del {}/{} dev {interface}", address, Prefix::host(address).length));
    }

    fn take_route(&self, interface: &str, prefix: Prefix) {
        ip(&format!("{} route del {prefix} dev {interface}", version(prefix.address)));
    }

    fn take_down(&self, interface: &str) {
        ip(&format!("link set {interface} down"));
    }

    fn set_mtu(&self, interface: &str, mtu: u16) {
        ip(&format!("link set {interface} mtu {mtu}"));
    }

    fn give_address(&self, interface: &str, address: IpAddr) {
        ip(&format!("addr add {}/{} dev {interface}", address, Prefix::host(address).length));
    }

    fn occupy(&self, prefix: Prefix) {
        if !exists("other") {
            ip("link add other type veth peer name another");
            ip("link set another up");
            ip("link set other up");
        }
        ip(&format!("{} route add {prefix} dev other", version(prefix.address)));
    }

    fn vacate(&self, prefix: Prefix) {
        ip(&format!("{} route del {prefix} dev other", version(prefix.address)));
    }

    fn refuse_v6(&self, interface: &str, refuse: bool) {
        let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        std::fs::write(file, if refuse { "1" } else { "0" }).unwrap();
    }

    fn uplink(&self, name: &str, addresses: &[IpAddr]) {
        if !exists(name) {
            ip(&format!("link add {name} type veth peer name far-{name}"));
            ip(&format!("link set far-{name} up"));
            ip(&format!("link set {name} up"));
        }
        ip(&format!("-4 addr flush dev {name}"));
        for address in addresses {
            ip(&format!("addr add {address}/24 dev {name}"));
        }
    }

    fn rename(&self, from: &str, to: &str) {
        ip(&format!("link set {from} name {to}"));
    }

    fn unplug(&self, name: &str) {
        ip(&format!("link del {name}"));
    }

    fn host_sends(&self, to: SocketAddr, payload: &[u8]) -> Option<SocketAddr> {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(to).ok()?;
        socket.send(payload).ok()?;
        let from = socket.local_addr().unwrap();
        self.sockets.lock().unwrap().insert(from, socket);
        Some(from)
    }

    fn host_got(&self, from: SocketAddr, payload: &[u8]) -> bool {
        let sockets = self.sockets.lock().unwrap();
        let mut buffer = [0; 2000];
        sockets[&from].recv(&mut buffer).is_ok_and(|length| &buffer[..length] == payload)
    }
}

#[test]
fn declared() {
    in_namespace("declared", || async {
        if may_open_tun() {
            suite::declared(&LinuxWorld::default()).await;
        }
    });
}

#[test]
fn surroundings() {
    in_namespace("surroundings", || async {
        if may_open_tun() {
            suite::surroundings(&LinuxWorld::default()).await;
        }
    });
}

#[test]
fn tun() {
    in_namespace("tun", || async {
        if may_open_tun() {
            suite::tun(&LinuxWorld::default()).await;
        }
    });
}

#[test]
fn uplinks() {
    in_namespace("uplinks", || async {
        suite::uplinks(&LinuxWorld::default(), "10.1.0.2".parse().unwrap(), "10.2.0.2".parse().unwrap())
            .await;
    });
}

/// A gateway of ten thousand peers has an address and two routes for each.
#[test]
fn ten_thousand_are_set_in_a_moment() {
    in_namespace("ten_thousand_are_set_in_a_moment", || async {
        if !may_open_tun() {
            return;
        }
        let platform = Native::new(Overrides::default());
        let tun = platform.create_tun(&TunWish { name: "mast0".into(), mtu: 1280 }).await.unwrap();
        let own = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x6440_0000 + 2 * n));
        let other = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x6440_0001 + 2 * n));
        let other6 = |n: u32| IpAddr::from(std::net::Ipv6Addr::from((0xfd4d << 112) | u128::from(n + 2)));
        let own6: IpAddr = "fd4d::1".parse().unwrap();
        let name = tun.name().to_owned();
        let of = |count: u32| Declared {
            interface: Some(name.clone()),
            addresses: (0..count).map(own).chain([own6]).collect(),
            routes: (0..count)
                .flat_map(|n| [(Prefix::host(other(n)), Some(own(n))), (Prefix::host(other6(n)), Some(own6))])
                .collect(),
            ..Declared::default()
        };
        let mut reconciler = Reconciler::new(platform.host().unwrap());
        let mut took = |declared: &Declared, verify: bool| {
            let begun = Instant::now();
            let outcome = reconciler.apply(declared, verify);
            assert!(outcome.refused.is_empty(), "{:?}", outcome.notes());
            (outcome.taken, begun.elapsed())
        };
        let mut times = BTreeMap::new();
        for count in [1_000, 2_000, 5_000, 10_000] {
            times.insert(count, took(&of(count), false));
        }
        // Few addresses are listed, all are the host's own: something may be bound to each, and comes from it.
        assert_eq!(ip("-4 -o addr show dev mast0").lines().count(), 256);
        for n in [0, 255, 256, 9_999] {
            let socket = UdpSocket::bind((own(n), 0)).unwrap();
            socket.connect((own(n), 7)).unwrap();
            let asker = UdpSocket::bind("0.0.0.0:0").unwrap();
            asker.connect((other(n), 7)).unwrap();
            assert_eq!(asker.local_addr().unwrap().ip(), own(n));
        }
        // Ten times as many take little more than ten times as long: the rest is the kernel's own memory.
        let each = |count: u32| times[&count].1.as_secs_f64() / times[&count].0 as f64;
        assert!(each(10_000) < 4.0 * each(1_000), "{times:?}");
        let again = took(&of(10_000), true);
        let one_more = took(&of(10_001), false);
        let none = took(&of(0), false);
        println!("{times:?}; looked at again {again:?}; one more {one_more:?}; all gone {none:?}");
        assert_eq!((again.0, one_more.0, none.0), (0, 3, 30_003));
        let seen = |what: &str| ip(what).lines().count();
        assert_eq!((seen("-4 route show dev mast0"), seen("-o addr show dev mast0")), (0, 1));
        assert_eq!(seen("route show table local dev mast0"), 0);
        took(&of(10_000), false);
        let begun = Instant::now();
        drop(tun);
        println!("with everything on it, the interface goes in {:?}", begun.elapsed());
    });
}
