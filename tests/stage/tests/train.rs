//! The network alone, without a daemon.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use mast_netlab::isolated_test;
use mast_stage::{Addressing, Net, Train, TrainProfile, Uplink};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::BindToDevice;

/// Longer than any round trip here.
const PATIENCE: Duration = Duration::from_millis(300);

/// A socket at each end of an uplink, in one version of IP.
struct Line {
    laptop: UdpSocket,
    server: UdpSocket,
    /// Where the server sees the laptop.
    seen: SocketAddr,
}

impl Line {
    fn open(train: &Train, uplink: &Uplink, local: IpAddr, remote: IpAddr) -> Self {
        let laptop = train
            .laptop
            .run(|| {
                let socket = UdpSocket::bind((local, 0)).unwrap();
                let interface = std::ffi::OsString::from(uplink.name);
                setsockopt(&socket, BindToDevice, &interface).unwrap();
                socket
            })
            .unwrap();
        let server = train.server.run(|| UdpSocket::bind((remote, 0)).unwrap()).unwrap();
        for socket in [&laptop, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut line = Self { laptop, server, seen: SocketAddr::new(local, 0) };
        line.seen = line.up().expect("the first packet arrives");
        line
    }

    fn up(&self) -> Option<SocketAddr> {
        self.laptop.send_to(b"up", self.server.local_addr().unwrap()).unwrap();
        Some(self.server.recv_from(&mut [0; 8]).ok()?.1)
    }

    fn down(&self) -> bool {
        self.server.send_to(b"down", self.seen).unwrap();
        self.laptop.recv(&mut [0; 8]).is_ok()
    }
}

#[test]
fn an_uplink_falls_silent_one_way_or_both_in_each_version_of_ip() {
    isolated_test("an_uplink_falls_silent_one_way_or_both_in_each_version_of_ip", || {
        for profile in [TrainProfile::default(), TrainProfile::default().behind_nat()] {
            let train = Train::new(&profile).unwrap();
            let ends = |uplink: &Uplink| {
                let own = train.addressing.addresses(uplink.net(), 2);
                own.into_iter().zip(train.addressing.addresses(Train::SITE, 2))
            };
            let open =
                |uplink| ends(uplink).map(|(a, b)| Line::open(&train, uplink, a, b)).collect::<Vec<_>>();
            let (wifi, cell) = (open(&train.wifi), open(&train.cell));
            assert_eq!(wifi.len(), 2);
            for line in &wifi {
                let outside = IpAddr::from(train.wifi.outside().v4(2));
                assert_eq!(line.seen.ip() == outside, profile.nat && line.seen.is_ipv4());
            }
            for (up, down) in [(false, false), (true, false), (false, true), (true, true), (false, false)] {
                train.wifi.blackhole(up, down).unwrap();
                for line in &wifi {
                    let name = line.seen;
                    assert_eq!(line.up().is_none(), up, "up, {name}, black hole {up} {down}");
                    assert_eq!(!line.down(), down, "down, {name}, black hole {up} {down}");
                }
                assert!(
                    cell.iter().all(|line| line.up().is_some() && line.down()),
                    "cellular has no part in it"
                );
            }
        }
    });
}

#[test]
fn an_uplink_is_renumbered_and_comes_back() {
    isolated_test("an_uplink_is_renumbered_and_comes_back", || {
        for addressing in Addressing::ALL {
            let train = Train::new(&TrainProfile::default().with(addressing)).unwrap();
            let works = || {
                let own = train.addressing.addresses(train.wifi.net(), 2).into_iter();
                for (local, remote) in own.zip(train.addressing.addresses(Train::SITE, 2)) {
                    assert!(Line::open(&train, &train.wifi, local, remote).down(), "{addressing}: {local}");
                }
            };
            works();
            train.renumber_wifi(5).unwrap();
            works();
            train.set_wifi(false).unwrap();
            train.set_wifi(true).unwrap();
            works();
            train.set_wifi(false).unwrap();
            train.wifi.return_elsewhere(7).unwrap();
            works();
            for old in addressing.addresses(Net(1, 5), 2) {
                assert!(train.laptop.run(|| UdpSocket::bind((old, 0))).unwrap().is_err(), "{old} is gone");
            }
        }
    });
}
