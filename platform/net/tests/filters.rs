//! What peers answer passes strict reverse-path filters on every uplink, while routes of the tunnel cover the peers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{eventually, in_namespace, ip, may_open_tun};
use mast_engine::declared::{Answers, Declared};
use mast_engine::os::{Platform, Prefix, Tun, TunWish};
use mast_engine::{Outcome, Reconciler};
use mast_platform::{Native, Overrides};
use mast_proto::InterfaceId;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::gettid;

const PORT: u16 = 6278;
const SERVERS: [&str; 2] = ["203.0.113.1", "2001:db8:cafe::1"];
const UPLINKS: [&str; 2] = ["wifi0", "cell0"];

/// Another host, behind both uplinks, that sends back what comes to it.
fn world() {
    let (ready, started) = mpsc::channel();
    let (linked, links) = mpsc::channel::<()>();
    let (served, serving) = mpsc::channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(gettid()).unwrap();
        links.recv().unwrap();
        ip("link set lo up");
        for (n, far) in ["w", "c"].into_iter().enumerate() {
            ip(&format!("link set {far} up"));
            ip(&format!("addr add 10.{}.0.1/24 dev {far}", n + 1));
            ip(&format!("addr add 2001:db8:{}::1/64 dev {far} nodad", n + 1));
        }
        for server in SERVERS {
            ip(&format!("addr add {server} dev lo"));
            // An IPv6 address comes into effect a little after it is there.
            let mut socket = None;
            eventually("a socket of the server", || {
                socket = UdpSocket::bind((server.parse::<IpAddr>().unwrap(), 51820)).ok();
                socket.is_some()
            });
            let socket = socket.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 100];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // Nobody is there any more when the test has ended.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            });
        }
        served.send(()).unwrap();
    });
    let other = started.recv().unwrap();
    for (n, (uplink, far)) in UPLINKS.into_iter().zip(["w", "c"]).enumerate() {
        ip(&format!("link add {uplink} type veth peer name {far} netns {other}"));
        ip(&format!("link set {uplink} up"));
        ip(&format!("addr add 10.{}.0.2/24 dev {uplink}", n + 1));
        ip(&format!("addr add 2001:db8:{}::2/64 dev {uplink} nodad", n + 1));
    }
    linked.send(()).unwrap();
    serving.recv().unwrap();
    for (n, uplink) in UPLINKS.into_iter().enumerate() {
        let metric = 100 * (n + 1);
        ip(&format!("route add default via 10.{}.0.1 dev {uplink} metric {metric}", n + 1));
        ip(&format!("-6 route add default via 2001:db8:{}::1 dev {uplink} metric {metric}", n + 1));
    }
    for uplink in UPLINKS.into_iter().chain(["all"]) {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{uplink}/rp_filter"), "1").unwrap();
    }
}

/// Whether the server's answer comes to one of the service's sockets.
fn answered(uplink: &str, server: &str) -> bool {
    let any: IpAddr = if server.contains(':') { "::" } else { "0.0.0.0" }.parse().unwrap();
    let kind = socket2::Domain::for_address(SocketAddr::new(any, 0));
    let socket = socket2::Socket::new(kind, socket2::Type::DGRAM, None).unwrap();
    if any.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    setsockopt(&socket, sockopt::Mark, &0x6d61_7374).unwrap();
    setsockopt(&socket, sockopt::BindToDevice, &uplink.into()).unwrap();
    let begun = std::time::Instant::now();
    // The one before lives on for a moment in a process that another test just started, until that becomes a program.
    while let Err(error) = socket.bind(&SocketAddr::new(any, PORT).into()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // Neighbours are found first.
    (0..3).any(|_| {
        let _ = socket.send_to(b"ask", (server.parse::<IpAddr>().unwrap(), 51820));
        socket.recv(&mut [0; 100]).is_ok()
    })
}

/// The rules of leak protection have another number.
fn rules() -> usize {
    ["-4", "-6"]
        .map(|v| ip(&format!("{v} rule")).lines().filter(|l| l.contains("proto 77")).count())
        .iter()
        .sum()
}

fn answers(covered: bool) -> Answers {
    let number =
        |name: &str| ip(&format!("-o link show dev {name}")).split(':').next().unwrap().parse().unwrap();
    let uplinks = UPLINKS.map(|name| (InterfaceId(number(name)), name.to_owned()));
    Answers { port: PORT, uplinks: uplinks.into(), covered }
}

fn full_tunnel(name: &str) -> Declared {
    let range = |text: &str| (Prefix { address: text.parse().unwrap(), length: 0 }, None);
    Declared {
        interface: Some(name.to_owned()),
        addresses: ["10.66.0.2", "fd66::2"].map(|a| a.parse().unwrap()).to_vec(),
        routes: vec![range("0.0.0.0"), range("::")],
        ..Declared::default()
    }
}

fn fine(outcome: &Outcome) {
    assert!(outcome.refused.is_empty(), "{:?}", outcome.notes());
}

/// As firewalld has it with `IPv6_rpfilter=strict`, here for both versions of IP.
fn filter() -> bool {
    let rules = "table inet f { chain pre { type filter hook prerouting priority -140; \
                 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; \
                 fib saddr . mark . iif oif missing drop; }; }";
    let nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
    let Ok(mut nft) = nft else {
        eprintln!("left out, since there is no `nft` command");
        return false;
    };
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    true
}

fn keeper() -> Reconciler<<Native as Platform>::Host> {
    Reconciler::new(Native::new(Overrides::default()).host().unwrap())
}

async fn tun() -> impl Tun {
    let platform = Native::new(Overrides::default());
    platform.create_tun(&TunWish { name: "mast0".into(), mtu: 1280 }).await.unwrap()
}

#[test]
fn answers_pass_the_kernels_own_filter() {
    in_namespace("answers_pass_the_kernels_own_filter", || async {
        if !may_open_tun() {
            return;
        }
        world();
        assert!(answered("wifi0", SERVERS[0]));
        assert!(!answered("cell0", SERVERS[0]), "the filter is strict");
        let tun = tun().await;
        let mut keeper = keeper();
        let mut declared = Declared { answers: Some(answers(false)), ..Declared::default() };
        fine(&keeper.apply(&declared, false));
        assert!(answered("cell0", SERVERS[0]), "by the worse uplink, without any tunnel");

        declared = full_tunnel(tun.name());
        fine(&keeper.apply(&declared, false));
        assert!(!answered("wifi0", SERVERS[0]) && rules() == 0);
        declared.answers = Some(answers(true));
        fine(&keeper.apply(&declared, false));
        for uplink in UPLINKS {
            for server in SERVERS {
                assert!(answered(uplink, server), "{uplink} {server}");
            }
        }
        assert_eq!(keeper.apply(&declared, true).taken, 0, "nothing differs");
        // What others take away is there again, and what is not declared any more is not.
        ip("rule del priority 27790");
        let table = ip("route show table all").lines().find(|l| l.contains("proto 109")).unwrap().to_owned();
        ip(&format!("route del {}", table.replace("proto 109", "")));
        fine(&keeper.apply(&declared, true));
        assert!(UPLINKS.into_iter().all(|uplink| answered(uplink, SERVERS[0])));
        declared.answers.as_mut().unwrap().uplinks.pop_last();
        fine(&keeper.apply(&declared, false));
        assert!(answered("wifi0", SERVERS[0]) && !answered("cell0", SERVERS[0]));
        keeper.leave();
        assert_eq!(rules(), 0);
        assert!(!ip("route show table all").contains("proto 109"));
    });
}

#[test]
fn answers_pass_filters_of_nftables() {
    in_namespace("answers_pass_filters_of_nftables", || async {
        if !may_open_tun() {
            return;
        }
        world();
        if !filter() {
            return;
        }
        let tun = tun().await;
        let mut keeper = keeper();
        let mut declared = full_tunnel(tun.name());
        fine(&keeper.apply(&declared, false));
        for server in SERVERS {
            assert!(!answered("wifi0", server), "{server}: the filter is strict");
        }
        declared.answers = Some(answers(true));
        fine(&keeper.apply(&declared, false));
        for uplink in UPLINKS {
            for server in SERVERS {
                assert!(answered(uplink, server), "{uplink} {server}");
            }
        }
        // Whoever flushes all of nftables leaves it, or it is there again.
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        assert!(filter());
        fine(&keeper.apply(&declared, true));
        assert!(answered("cell0", SERVERS[1]));
        drop(keeper);
        let left = Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert!(!String::from_utf8(left.stdout).unwrap().contains("mast"));
    });
}

#[test]
fn what_a_killed_service_left_is_found_and_what_others_have_stays() {
    in_namespace("what_a_killed_service_left_is_found_and_what_others_have_stays", || async {
        world();
        // As other VPNs have them.
        ip("rule add not fwmark 51820 table 51820 priority 32764");
        ip("rule add fwmark 0x80000/0xff0000 table main priority 5210");
        ip("route add default dev wifi0 table 51820");
        let before = (ip("rule"), ip("-6 rule"), ip("route show table all"), ip("-6 route show table all"));
        let declared = Declared { answers: Some(answers(true)), ..Declared::default() };
        fine(&keeper().apply(&declared, false));
        assert!(rules() > 0);
        fine(&keeper().apply(&declared, false));
        assert!(answered("cell0", SERVERS[0]));
        assert!(keeper().apply(&Declared::default(), true).taken > 0);
        assert_eq!(rules(), 0);
        let after = (ip("rule"), ip("-6 rule"), ip("route show table all"), ip("-6 route show table all"));
        assert_eq!(after, before);
    });
}
