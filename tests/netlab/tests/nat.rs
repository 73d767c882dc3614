//! NATs map and filter as their kinds promise. Needs the program `nft`.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use mast_netlab::{Host, Lab, LinkProfile, Nat, NatKind, isolated_test};

/// A client behind a NAT, and two servers outside.
struct Net {
    _lab: Lab,
    client: Host,
    outside: Host,
    nat: Nat,
}

fn net(kind: NatKind) -> Net {
    let lab = Lab::new().unwrap();
    let client = lab.host("client").unwrap();
    let router = lab.router("router").unwrap();
    let outside = lab.host("outside").unwrap();
    let profile = LinkProfile::delay(Duration::from_millis(1));
    lab.link(&client, "eth0", &router, "lan", &profile).unwrap();
    lab.link(&router, "wan", &outside, "eth0", &profile).unwrap();
    client.add_address("eth0", "192.168.1.2/24").unwrap();
    router.add_address("lan", "192.168.1.1/24").unwrap();
    router.add_address("wan", "203.0.113.1/24").unwrap();
    for address in ["203.0.113.10/24", "203.0.113.11/24"] {
        outside.add_address("eth0", address).unwrap();
    }
    outside.add_route("192.168.1.0/24", Some("203.0.113.1"), "eth0", 0).unwrap();
    client.add_route("default", Some("192.168.1.1"), "eth0", 0).unwrap();
    let nat = lab.nat(&router, "lan", "wan", kind).unwrap_or_else(|error| panic!("{error}"));
    Net { _lab: lab, client, outside, nat }
}

fn bind(host: &Host, address: &str) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    socket
}

/// Sends from one socket to another, and returns the sender's address as the receiver sees it.
fn seen(from: &UdpSocket, to: &UdpSocket) -> SocketAddr {
    from.send_to(b"x", to.local_addr().unwrap()).unwrap();
    to.recv_from(&mut [0; 16]).expect("the datagram arrives").1
}

fn reaches(from: &UdpSocket, target: SocketAddr, to: &UdpSocket) -> bool {
    from.send_to(b"y", target).unwrap();
    to.recv_from(&mut [0; 16]).is_ok()
}

/// Checks a kind: whether mappings are the same for all destinations, and whether strangers get in.
fn check(kind: NatKind, same_mapping: bool, strangers: bool) {
    let net = net(kind);
    let inside = bind(&net.client, "0.0.0.0:5000");
    let first = bind(&net.outside, "203.0.113.10:1000");
    let second = bind(&net.outside, "203.0.113.11:2000");
    let stranger = bind(&net.outside, "203.0.113.11:3000");

    let mapping = seen(&inside, &first);
    assert_eq!(mapping.ip().to_string(), "203.0.113.1");
    assert!(reaches(&first, mapping, &inside), "answers get in");
    assert_eq!(seen(&inside, &first), mapping, "a mapping lasts");
    assert_eq!(reaches(&stranger, mapping, &inside), strangers, "filtering of {kind:?}");
    assert_eq!(seen(&inside, &second) == mapping, same_mapping, "mapping of {kind:?}");

    // Two clients with the same port do not share a mapping.
    let other = bind(&net.client, "0.0.0.0:5001");
    assert_ne!(seen(&other, &first), mapping);

    // The inside is not reachable by its own address.
    let direct = "192.168.1.2:5000".parse().unwrap();
    assert!(!reaches(&stranger, direct, &inside), "the inside address is hidden");

    net.nat.rebind().unwrap();
    assert!(!reaches(&first, mapping, &inside), "the old mapping is gone");
    let moved = seen(&inside, &first);
    assert_ne!(moved, mapping, "another port after rebinding");
    assert!(reaches(&first, moved, &inside));
}

#[test]
fn endpoint_independent() {
    isolated_test("endpoint_independent", || check(NatKind::EndpointIndependent, true, false));
}

#[test]
fn full_cone() {
    isolated_test("full_cone", || check(NatKind::FullCone, true, true));
}

#[test]
fn symmetric() {
    isolated_test("symmetric", || check(NatKind::Symmetric, false, false));
}

#[test]
fn preserving() {
    isolated_test("preserving", || {
        let net = net(NatKind::Preserving { own: 5000 });
        let inside = bind(&net.client, "0.0.0.0:5000");
        let [first, second] = ["203.0.113.10:3478", "203.0.113.11:3478"].map(|at| bind(&net.outside, at));
        let [peer, other] = ["203.0.113.10:1000", "203.0.113.11:2000"].map(|at| bind(&net.outside, at));
        let asked = [seen(&inside, &first), seen(&inside, &second)];
        assert!(asked[0] != asked[1] && asked.iter().all(|at| at.port() != 5000), "{asked:?}");
        for peer in [&peer, &other] {
            let mapping = seen(&inside, peer);
            assert_eq!(mapping.port(), 5000);
            assert!(reaches(peer, mapping, &inside), "answers get in");
        }
        let stranger = bind(&net.outside, "203.0.113.11:3000");
        assert!(!reaches(&stranger, "203.0.113.1:5000".parse().unwrap(), &inside));
        // What a stranger sent before has not taken the place of what comes.
        assert_eq!(seen(&inside, &stranger).port(), 5000);
    });
}

#[test]
fn sequential() {
    isolated_test("sequential", || {
        let net = net(NatKind::Sequential);
        let inside = bind(&net.client, "0.0.0.0:5000");
        let outside: Vec<_> =
            (0..4).map(|n| bind(&net.outside, &format!("203.0.113.1{}:{}", n % 2, 1000 + n))).collect();
        let ports: Vec<u16> = outside.iter().map(|to| seen(&inside, to).port()).collect();
        assert!(ports.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ports:?}");
        assert_eq!(seen(&inside, &outside[0]).port(), ports[0], "a mapping lasts");
    });
}

#[test]
fn carrier_grade() {
    isolated_test("carrier_grade", || {
        let kind = NatKind::Cgnat { ports: 512, udp_timeout: Duration::from_secs(1) };
        check(kind, true, false);

        let net = net(kind);
        let inside = bind(&net.client, "0.0.0.0:5000");
        let first = bind(&net.outside, "203.0.113.10:1000");
        let mapping = seen(&inside, &first);
        std::thread::sleep(Duration::from_millis(3500));
        assert!(!reaches(&first, mapping, &inside), "an idle mapping ends");
    });
}
