//! Sockets that keep to one interface.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::io::ErrorKind;
use std::net::UdpSocket;

use common::{find, in_namespace, ip, pair, wait_for};
use mast_engine::os::{Family, Platform};
use mast_platform::{Native, Overrides};
use mast_proto::{Interface, InterfaceId};
use socket2::SockRef;

async fn interfaces(names: &[&str]) -> Vec<Interface> {
    let mut receiver = Native::new(Overrides::default()).watch_interfaces("mast0").unwrap();
    let list = wait_for(&mut receiver, "all", |list| names.iter().all(|n| find(list, n).is_some())).await;
    names.iter().map(|n| find(&list, n).unwrap().clone()).collect()
}

fn bind(interface: &Interface, family: Family, port: u16) -> std::io::Result<UdpSocket> {
    Native::new(Overrides::default()).bind_udp(interface, family, port)
}

/// Bytes that an interface has received so far.
fn received(name: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|l| l.trim().strip_prefix(&format!("{name}:"))).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn every_interface_can_have_the_same_port() {
    in_namespace("every_interface_can_have_the_same_port", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        pair("wifi0", "peer1", "10.2.0.2/24");
        let list = interfaces(&["eth0", "wifi0"]).await;
        let mut sockets = Vec::new();
        for interface in &list {
            for family in [Family::V4, Family::V6] {
                let socket = bind(interface, family, 4242).unwrap();
                let address = socket.local_addr().unwrap();
                assert_eq!((address.port(), address.ip().is_unspecified()), (4242, true));
                assert_eq!(Family::of(address.ip()), family);
                let view = SockRef::from(&socket);
                assert_eq!(view.device().unwrap().as_deref(), Some(interface.name.as_bytes()));
                assert_eq!(socket.recv_from(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
                sockets.push(socket);
            }
        }
        let error = bind(&list[0], Family::V4, 4242).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("4242") && error.to_string().contains("eth0"), "{error}");
        assert_ne!(bind(&list[0], Family::V6, 0).unwrap().local_addr().unwrap().port(), 0);
    });
}

#[test]
fn routes_do_not_decide() {
    in_namespace("routes_do_not_decide", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        pair("wifi0", "peer1", "10.2.0.2/24");
        let list = interfaces(&["eth0", "wifi0"]).await;
        for (name, gateway, metric) in [("eth0", "10.1.0.1", 10), ("wifi0", "10.2.0.1", 20)] {
            ip(&format!("neigh add {gateway} lladdr 02:00:00:00:00:09 dev {name}"));
            ip(&format!("route add default via {gateway} dev {name} metric {metric}"));
        }
        let socket = bind(&list[1], Family::V4, 0).unwrap();
        let before = (received("peer0"), received("peer1"));
        for _ in 0..50 {
            socket.send_to(&[0; 1000], "198.51.100.1:9").unwrap();
        }
        assert!(received("peer1") >= before.1 + 50_000);
        assert!(received("peer0") < before.0 + 50_000);
        // Larger than the link: refused, not fragmented.
        let error = socket.send_to(&[0; 3000], "198.51.100.1:9").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EMSGSIZE));
    });
}

#[test]
fn an_interface_that_is_gone_is_not_found() {
    in_namespace("an_interface_that_is_gone_is_not_found", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let interface = interfaces(&["eth0"]).await.remove(0);
        // The same name, but another device.
        let other = Interface { id: InterfaceId(interface.id.0 + 100), ..interface.clone() };
        assert_eq!(bind(&other, Family::V4, 0).unwrap_err().kind(), ErrorKind::NotFound);
        ip("link del eth0");
        for family in [Family::V4, Family::V6] {
            let error = bind(&interface, family, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    });
}
