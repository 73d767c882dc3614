//! Sockets that keep to one interface.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{find, in_namespace, ip, pair, wait_for};
use mast_engine::os::{Family, NotReceived, NotSent, Platform, SendRefused, Udp};
use mast_platform::linux::LinuxUdp;
use mast_platform::{Native, Overrides};
use mast_proto::{Interface, InterfaceId};
use socket2::SockRef;

async fn interfaces(names: &[&str]) -> Vec<Interface> {
    let mut receiver = Native::new(Overrides::default()).watch_interfaces().unwrap();
    let list = wait_for(&mut receiver, "all", |list| names.iter().all(|n| find(list, n).is_some())).await;
    names.iter().map(|n| find(&list, n).unwrap().clone()).collect()
}

fn bind(interface: &Interface, family: Family, port: u16) -> std::io::Result<LinuxUdp> {
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
                let view = SockRef::from(&socket);
                let address = view.local_addr().unwrap().as_socket().unwrap();
                assert_eq!((address.port(), address.ip().is_unspecified()), (4242, true));
                assert_eq!(Family::of(address.ip()), family);
                assert_eq!(view.device().unwrap().as_deref(), Some(interface.name.as_bytes()));
                assert_eq!(socket.try_recv(&mut [0; 9]), Err(NotReceived::Empty));
                sockets.push(socket);
            }
        }
        let error = bind(&list[0], Family::V4, 4242).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("4242") && error.to_string().contains("eth0"), "{error}");
        let socket = bind(&list[0], Family::V6, 0).unwrap();
        assert_ne!(SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap().port(), 0);
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
        let far = "198.51.100.1:9".parse().unwrap();
        let own = "10.2.0.2".parse().unwrap();
        let before = (received("peer0"), received("peer1"));
        for _ in 0..50 {
            socket.try_send(own, far, 0, 1000, &[0; 1000]).unwrap();
        }
        assert!(received("peer1") >= before.1 + 50_000);
        assert!(received("peer0") < before.0 + 50_000);
        // Larger than the link: refused, not fragmented.
        let too_big = Err(NotSent { sent: 0, why: SendRefused::TooBig });
        assert_eq!(socket.try_send(own, far, 0, 3000, &[0; 3000]), too_big);
        // The same where several go at once, and smaller ones still may.
        let before = format!("{socket:?}");
        assert_eq!(socket.try_send(own, far, 0, 3000, &[0; 9000]), too_big);
        assert_eq!(format!("{socket:?}"), before, "what is too large says nothing about several at once");
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
        let socket = bind(&interface, Family::V4, 0).unwrap();
        ip("link del eth0");
        let (own, far) = ("10.1.0.2".parse().unwrap(), "198.51.100.1:9".parse().unwrap());
        for payload in [&[0; 400][..], &[0; 1200]] {
            let refused = socket.try_send(own, far, 0, 400, payload);
            // Its address went with it, which is what the kernel looks at first.
            assert_eq!(refused, Err(NotSent { sent: 0, why: SendRefused::Unreachable }));
        }
        for family in [Family::V4, Family::V6] {
            let error = bind(&interface, family, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    });
}

/// Datagrams that go out with one call arrive one by one, in order, in the class they were given; also where the
/// kernel or the interface cannot do several at once.
#[test]
fn several_at_once() {
    in_namespace("several_at_once", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let list = interfaces(&["eth0"]).await;
        let plain = UdpSocket::bind("10.1.0.2:0").unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for offload in [true, false] {
            let socket = bind(&list[0], Family::V4, 0).unwrap();
            if !offload {
                // No checksums: then the kernel refuses several at once with EIO.
                set_no_check(&socket);
            }
            let payload: Vec<u8> = (0..2_500_u32).map(|n| (n / 10) as u8).collect();
            let to = plain.local_addr().unwrap();
            socket.try_send([10, 1, 0, 2].into(), to, 0xb8, 1_000, &payload).unwrap();
            let mut buffer = [0; 2_000];
            for part in payload.chunks(1_000) {
                let (length, _) = plain.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], part);
            }
        }
        // Inward the kernel may join them; whether or not, lengths and order are told.
        let socket = bind(&list[0], Family::V4, 0).unwrap();
        let port = SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap().port();
        let to = SocketAddr::from(([10, 1, 0, 2], port));
        let sender = bind(&list[0], Family::V4, 0).unwrap();
        sender.try_send([10, 1, 0, 2].into(), to, 0x02, 1_000, &[7; 2_500]).unwrap();
        let mut lengths = Vec::new();
        let mut buffer = vec![0; 70_000];
        for _ in 0..100 {
            match socket.try_recv(&mut buffer) {
                Ok(arrival) => {
                    assert_eq!((arrival.remote.ip().to_string().as_str(), arrival.class), ("10.1.0.2", 2));
                    let mut left = arrival.length;
                    while left > 0 {
                        lengths.push(left.min(arrival.stride));
                        left -= left.min(arrival.stride);
                    }
                }
                Err(error) => assert_eq!(error, NotReceived::Empty),
            }
            if lengths.len() == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(lengths, [1_000, 1_000, 500]);
    });
}

/// Of several addresses of one interface each datagram names the one it leaves from, and each that arrives tells which
/// one it came to; one that is not there (any more) is refused as such, and several datagrams still go out at once.
#[test]
fn sources_are_chosen_and_told() {
    in_namespace("sources_are_chosen_and_told", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        for address in ["10.1.0.3/24", "2001:db8:1::2/64", "2001:db8:2::2/64"] {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("address add {address} dev eth0{nodad}"));
        }
        let list = interfaces(&["eth0"]).await;
        for (family, sources, gone) in [
            (Family::V4, ["10.1.0.2", "10.1.0.3"], "10.1.0.9"),
            (Family::V6, ["2001:db8:1::2", "2001:db8:2::2"], "2001:db8:1::9"),
        ] {
            let (sender, receiver) = (bind(&list[0], family, 0).unwrap(), bind(&list[0], family, 0).unwrap());
            let port = SockRef::from(&receiver).local_addr().unwrap().as_socket().unwrap().port();
            let [first, second] = sources.map(|a| a.parse::<std::net::IpAddr>().unwrap());
            for (source, target) in [(first, second), (second, first)] {
                let gone = gone.parse().unwrap();
                for payload in [&[1; 400][..], &[1; 1200]] {
                    let to = SocketAddr::new(target, port);
                    let refused = sender.try_send(gone, to, 0, 400, payload);
                    assert_eq!(refused, Err(NotSent { sent: 0, why: SendRefused::Unreachable }));
                    sender.try_send(source, to, 0, 400, payload).unwrap();
                    let mut left = payload.len();
                    for _ in 0..100 {
                        match receiver.try_recv(&mut vec![0; 70_000]) {
                            Ok(arrival) => {
                                assert_eq!((arrival.remote.ip(), arrival.local), (source, Some(target)));
                                left -= arrival.length;
                            }
                            Err(error) => assert_eq!(error, NotReceived::Empty),
                        }
                        if left == 0 {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    assert_eq!(left, 0, "{source} to {target}");
                }
            }
            assert!(format!("{sender:?}").contains("segments: true"), "{sender:?}");
        }
    });
}

fn set_no_check(socket: &LinuxUdp) {
    use std::os::fd::{AsFd, AsRawFd};
    let on: nix::libc::c_int = 1;
    // SAFETY: the descriptor is open, and the value is an `int` that outlives the call.
    let result = unsafe {
        nix::libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            nix::libc::SOL_SOCKET,
            nix::libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of_val(&on) as _,
        )
    };
    assert_eq!(result, 0);
}
