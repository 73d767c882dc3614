//! Hosts and routers: addresses, routes, black holes, processes.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::{
    io::ErrorKind,
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};

use mast_netlab::{Error, Host, Lab, LinkProfile, Signal, isolated_test};
use nix::sys::socket::{
    setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};

/// 10.0.1.2 - router - 10.0.2.2, and the same in fd00:1::/64 and fd00:2::/64.
fn routed() -> (Lab, Host, Host, Host) {
    let lab = Lab::new().unwrap();
    let (a, router, b) = (lab.host("a").unwrap(), lab.router("r").unwrap(), lab.host("b").unwrap());
    lab.link(&a, "eth0", &router, "r0", &LinkProfile::default()).unwrap();
    lab.link(&router, "r1", &b, "eth0", &LinkProfile::default()).unwrap();
    for (host, interface, net, last) in
        [(&a, "eth0", 1, 2), (&router, "r0", 1, 1), (&router, "r1", 2, 1), (&b, "eth0", 2, 2)]
    {
        host.add_address(interface, &format!("10.0.{net}.{last}/24")).unwrap();
        host.add_address(interface, &format!("fd00:{net}::{last}/64")).unwrap();
    }
    for (host, net) in [(&a, 1), (&b, 2)] {
        host.add_route("default", Some(&format!("10.0.{net}.1")), "eth0", 0).unwrap();
        host.add_route("default", Some(&format!("fd00:{net}::1")), "eth0", 100).unwrap();
    }
    (lab, a, router, b)
}

fn connected(host: &Host, from: &str, to: &str) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(from).unwrap()).unwrap();
    socket.connect(to).unwrap();
    // All ICMP errors are to be seen.
    if from.starts_with('[') {
        setsockopt(&socket, Ipv6RecvErr, &true).unwrap();
    } else {
        setsockopt(&socket, Ipv4RecvErr, &true).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

const PATHS: [(&str, &str, &str); 2] = [
    ("10.0.1.2:1000", "10.0.2.2:1000", "10.0.2.0/24"),
    ("[fd00:1::2]:1000", "[fd00:2::2]:1000", "fd00:2::/64"),
];

#[test]
fn routers_forward_and_black_holes_are_silent() {
    isolated_test("routers_forward_and_black_holes_are_silent", || {
        let (_lab, a, router, b) = routed();
        for (from, to, prefix) in PATHS {
            let (x, y) = (connected(&a, from, to), connected(&b, to, from));
            x.send(b"x").unwrap();
            assert_eq!(y.recv(&mut [0; 9]).unwrap(), 1);

            router.blackhole(prefix).unwrap();
            x.send(b"x").unwrap();
            assert_eq!(y.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(x.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock, "no ICMP message");
            router.unblackhole(prefix).unwrap();
            x.send(b"x").unwrap();
            assert_eq!(y.recv(&mut [0; 9]).unwrap(), 1);

            // Without a route, on the other hand, the router says so.
            router.del_route(prefix, None, "r1", if from.starts_with('[') { 256 } else { 0 }).unwrap();
            x.send(b"x").unwrap();
            let error = x.recv(&mut [0; 9]).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
    });
}

#[test]
fn a_host_can_be_renumbered() {
    isolated_test("a_host_can_be_renumbered", || {
        let (_lab, a, router, b) = routed();
        a.del_address("eth0", "10.0.1.2/24").unwrap();
        let lost = a.run(|| UdpSocket::bind("10.0.1.2:5")).unwrap();
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        router.add_address("r0", "10.0.7.1/24").unwrap();
        a.add_address("eth0", "10.0.7.2/24").unwrap();
        assert_eq!(a.ipv4_address("eth0").unwrap(), Some([10, 0, 7, 2].into()));
        a.add_route("default", Some("10.0.7.1"), "eth0", 50).unwrap();
        let (x, y) = (
            connected(&a, "0.0.0.0:0", "10.0.2.2:1000"),
            b.run(|| UdpSocket::bind("10.0.2.2:1000").unwrap()).unwrap(),
        );
        x.send(b"x").unwrap();
        y.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert_eq!(y.recv_from(&mut [0; 9]).unwrap().1.ip().to_string(), "10.0.7.2");
        a.del_route("default", Some("10.0.7.1"), "eth0", 50).unwrap();
        assert!(x.send(b"x").is_err());
    });
}

#[test]
fn mistakes_are_explained() {
    isolated_test("mistakes_are_explained", || {
        let lab = Lab::new().unwrap();
        let host = lab.host("h").unwrap();
        let message = |result: Result<(), Error>| result.unwrap_err().to_string();
        assert_eq!(message(host.add_address("wifi", "10.0.0.1/24")), "host \"h\" has no interface \"wifi\"");
        assert!(message(host.add_address("lo", "10.0.0.1/33")).contains("is not an IP address or prefix"));
        assert!(message(host.add_route("10.0.0.0/8", Some("fd00::1"), "lo", 0)).contains("family"));
        assert!(
            message(host.add_route("10.0.0.0/8", Some("9.9.9.9"), "lo", 0)).contains("add route 10.0.0.0/8")
        );
        assert!(message(host.sysctl("net/no/such", "1")).contains("/proc/sys/net/no/such"));
        let missing = host.spawn(Command::new("no-such-program")).unwrap_err().to_string();
        assert!(missing.contains("start no-such-program on host h"), "{missing}");
    });
}

#[test]
fn processes_live_in_their_host() {
    isolated_test("processes_live_in_their_host", || {
        let lab = Lab::new().unwrap();
        let host = lab.host("h").unwrap();
        let names = host.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/net").stdout(std::process::Stdio::piped());
        let mut process = host.spawn(command).unwrap();
        let mut output = String::new();
        std::io::Read::read_to_string(&mut process.child().stdout.take().unwrap(), &mut output).unwrap();
        assert_eq!(output.trim(), names.to_str().unwrap());
        assert!(process.wait(Duration::from_secs(5)).unwrap().success());

        let mut command = Command::new("sleep");
        command.arg("1000");
        let mut process = host.spawn(command).unwrap();
        assert!(matches!(process.wait(Duration::from_millis(50)), Err(Error::Deadline { .. })));
        process.kill(Signal::SIGTERM).unwrap();
        assert!(!process.wait(Duration::from_secs(5)).unwrap().success());
        process.kill(Signal::SIGTERM).unwrap();
    });
}

#[test]
fn labs_do_not_disturb_each_other() {
    isolated_test("labs_do_not_disturb_each_other", || {
        let (one, other) = (routed(), routed());
        let check = |(_lab, a, _router, b): &(Lab, Host, Host, Host)| {
            let (from, to, _) = PATHS[0];
            let (x, y) = (connected(a, from, to), connected(b, to, from));
            x.send(b"x").unwrap();
            assert_eq!(y.recv(&mut [0; 9]).unwrap(), 1);
        };
        check(&one);
        check(&other);
        drop(one);
        check(&other);
    });
}

#[test]
fn building_is_fast() {
    isolated_test("building_is_fast", || {
        let start = Instant::now();
        let net = routed();
        let built = start.elapsed();
        drop(net);
        println!("built in {built:?}, dropped after {:?}", start.elapsed() - built);
        assert!(start.elapsed() < Duration::from_secs(30));
    });
}

#[test]
fn a_source_may_have_a_table_of_its_own() {
    isolated_test("a_source_may_have_a_table_of_its_own", || {
        let lab = Lab::new().unwrap();
        let (a, router) = (lab.host("a").unwrap(), lab.router("r").unwrap());
        for (interface, net) in [("eth0", 1), ("eth1", 2)] {
            lab.wire(&a, interface, &router, interface).unwrap();
            a.add_address(interface, &format!("10.0.{net}.2/24")).unwrap();
            a.add_address(interface, &format!("fd00:{net}::2/64")).unwrap();
            router.add_address(interface, &format!("10.0.{net}.1/24")).unwrap();
            router.add_address(interface, &format!("fd00:{net}::1/64")).unwrap();
        }
        for (source, all, via, target) in [
            ("10.0.2.2", "0.0.0.0/0", "10.0.2.1", "192.0.2.1:9"),
            ("fd00:2::2", "::/0", "fd00:2::1", "[2001:db8::1]:9"),
        ] {
            let send = || a.run(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"x", target)).unwrap();
            assert_eq!(send().unwrap_err().kind(), ErrorKind::NetworkUnreachable);
            a.add_route_in(102, all, Some(via), "eth1").unwrap();
            assert_eq!(send().unwrap_err().kind(), ErrorKind::NetworkUnreachable);
            a.add_source_rule(source, 102).unwrap();
            assert_eq!(send().unwrap(), 1);
        }
    });
}

#[test]
fn addresses_and_names_and_numbers_move() {
    isolated_test("addresses_and_names_and_numbers_move", || {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
        let link = lab.link(&a, "eth0", &b, "eth0", &LinkProfile::default()).unwrap();
        lab.wire(&a, "eth1", &b, "eth1").unwrap();
        for (interface, net) in [("eth0", 1), ("eth1", 2)] {
            a.add_address(interface, &format!("10.0.{net}.1/24")).unwrap();
        }
        a.move_addresses(&[("eth0", "eth1", "10.0.1.1/24"), ("eth1", "eth0", "10.0.2.1/24")]).unwrap();
        assert_eq!(a.ipv4_address("eth0").unwrap(), Some("10.0.2.1".parse().unwrap()));
        assert_eq!(a.ipv4_address("eth1").unwrap(), Some("10.0.1.1".parse().unwrap()));
        // What is not there is told, and the rest was done.
        let error = a.move_addresses(&[("eth0", "eth1", "10.0.9.1/24")]).unwrap_err();
        assert!(error.to_string().contains("move addresses"), "{error}");

        a.rename("eth1", "lan").unwrap();
        assert!(a.is_running("lan").unwrap() && a.is_running("eth1").is_err());
        let number = a.index("eth0").unwrap();
        link.remove().unwrap();
        assert!(a.index("eth0").is_err());
        lab.link_at(&a, ("usb0", number), &b, "usb0", &LinkProfile::default()).unwrap();
        assert_eq!(a.index("usb0").unwrap(), number);
    });
}
