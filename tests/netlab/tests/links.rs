//! Links do what their profiles say.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::{
    io::IoSlice,
    net::UdpSocket,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use mast_netlab::{Direction, Error, Host, Lab, Link, LinkProfile, isolated_test, when_calm};
use nix::sys::{
    socket::{
        AddressFamily, ControlMessage, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
        sendmsg, setsockopt, socket as nix_socket,
        sockopt::{self, ReceiveTimeout},
    },
    time::TimeVal,
};

/// Two hosts, 10.0.0.1 and 10.0.0.2, with one link.
fn pair(profile: &LinkProfile) -> (Lab, Host, Host, Link) {
    let lab = Lab::new().unwrap();
    let a = lab.host("a").unwrap();
    let b = lab.host("b").unwrap();
    let link = lab.link(&a, "eth0", &b, "eth0", profile).unwrap();
    a.add_address("eth0", "10.0.0.1/24").unwrap();
    b.add_address("eth0", "10.0.0.2/24").unwrap();
    a.add_address("eth0", "fd00::1/64").unwrap();
    b.add_address("eth0", "fd00::2/64").unwrap();
    (lab, a, b, link)
}

fn socket(host: &Host, address: &str) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

#[test]
fn delay_is_precise() {
    isolated_test("delay_is_precise", || {
        let (_lab, a, b, _link) = pair(&LinkProfile::delay(Duration::from_millis(20)));
        for (from, to) in [("10.0.0.1:0", "10.0.0.2:7"), ("[fd00::1]:0", "[fd00::2]:7")] {
            let (client, server) = (socket(&a, from), socket(&b, to));
            std::thread::spawn(move || {
                let mut data = [0; 64];
                while let Ok((length, peer)) = server.recv_from(&mut data) {
                    server.send_to(&data[..length], peer).unwrap();
                }
            });
            when_calm("the delay of a link", || {
                let mut times: Vec<_> = (0..60)
                    .map(|_| {
                        let start = Instant::now();
                        client.send_to(b"ping", to).unwrap();
                        client.recv(&mut [0; 64]).unwrap();
                        start.elapsed()
                    })
                    .collect();
                times.sort();
                println!("{to}: min {:?} median {:?} max {:?}", times[0], times[30], times[59]);
                assert!(times[0] >= Duration::from_millis(40));
                (times[30] < Duration::from_micros(41_500))
                    .then_some(())
                    .ok_or(format!("median {:?}", times[30]))
            });
        }
    });
}

/// Room for whatever arrives while the receiver is not woken.
fn with_room(socket: &UdpSocket) {
    let room = 4 << 20;
    if setsockopt(socket, sockopt::RcvBufForce, &room).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &room).unwrap();
    }
}

/// Has the addresses of the link layer found, which may lose what is sent meanwhile.
fn resolve(from: &UdpSocket, to: &UdpSocket) {
    to.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for _ in 0..50 {
        from.send_to(b"resolve", to.local_addr().unwrap()).unwrap();
        if to.recv(&mut [0; 64]).is_ok() {
            // Whatever is late must not be counted.
            while to.recv(&mut [0; 64]).is_ok() {}
            return;
        }
    }
    panic!("nothing arrives");
}

/// A socket of a, and a thread that counts what comes from it to b until nothing does for a second.
fn listening(a: &Host, b: &Host) -> (UdpSocket, std::thread::JoinHandle<usize>) {
    let (from, to) = (socket(a, "10.0.0.1:0"), socket(b, "10.0.0.2:9"));
    with_room(&to);
    resolve(&from, &to);
    to.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut arrived = 0;
        while to.recv(&mut [0; 64]).is_ok() {
            arrived += 1;
        }
        arrived
    });
    (from, receiver)
}

/// Sends `count` datagrams from a to b, `gap` apart, and returns how many arrive.
fn arrivals(a: &Host, b: &Host, count: usize, gap: Duration) -> usize {
    let (from, receiver) = listening(a, b);
    for _ in 0..count {
        from.send_to(b"x", "10.0.0.2:9").unwrap();
        std::thread::sleep(gap);
    }
    receiver.join().unwrap()
}

#[test]
fn loss_is_as_asked() {
    isolated_test("loss_is_as_asked", || {
        let (_lab, a, b, link) = pair(&LinkProfile::default().with_loss(0.2));
        when_calm("the loss of a link", || {
            let before = link.stats().a_to_b;
            let arrived = arrivals(&a, &b, 4000, Duration::from_micros(50));
            let stats = link.stats().a_to_b;
            println!("{arrived} of 4000 arrived; {stats:?}");
            if stats.overrun > before.overrun {
                return Err(format!("{} came while the link was not woken", stats.overrun - before.overrun));
            }
            // Five standard deviations, which are 25 packets each.
            assert!((3075..=3325).contains(&arrived), "{arrived} of 4000 arrived");
            assert!(stats.lost - before.lost >= 4000 - arrived as u64);
            Ok(())
        });
    });
}

#[test]
fn nothing_is_lost_otherwise() {
    isolated_test("nothing_is_lost_otherwise", || {
        let (_lab, a, b, link) = pair(&LinkProfile::delay(Duration::from_millis(3)));
        when_calm("a link without losses", || {
            let before = link.stats();
            let arrived = arrivals(&a, &b, 2000, Duration::from_micros(50));
            let stats = link.stats();
            if stats.a_to_b.overrun > before.a_to_b.overrun {
                return Err(format!("{arrived} of 2000 arrived, and the link was not woken for others"));
            }
            assert_eq!(arrived, 2000);
            assert_eq!((stats.a_to_b.dropped(), stats.b_to_a.dropped()), (before.a_to_b.dropped(), 0));
            let (there, back) = (stats.a_to_b.packets - before.a_to_b.packets, stats.b_to_a.packets);
            assert!(there >= 2000 && back < 200, "{stats:?}");
            Ok(())
        });
    });
}

#[test]
fn rate_is_as_asked() {
    isolated_test("rate_is_as_asked", || {
        let (_lab, a, b, link) = pair(&LinkProfile::default().with_rate(20_000_000, 60_000));
        when_calm("the rate of a link", || {
            let (from, to) = (socket(&a, "10.0.0.1:0"), socket(&b, "10.0.0.2:9"));
            resolve(&from, &to);
            to.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let stop = Instant::now() + Duration::from_millis(1500);
            let sender = std::thread::spawn(move || {
                while Instant::now() < stop {
                    for _ in 0..10 {
                        from.send_to(&[0; 1200], "10.0.0.2:9").unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let (mut data, mut bytes, mut start, mut last) = ([0; 2000], 0, None, Instant::now());
            while let Ok(length) = to.recv(&mut data) {
                last = Instant::now();
                if start.is_some() {
                    bytes += length + 8 + 20 + 14;
                }
                start.get_or_insert(last);
            }
            sender.join().unwrap();
            let start = start.ok_or("nothing came within the time")?;
            let rate = bytes as f64 * 8.0 / last.duration_since(start).as_secs_f64();
            println!("{:.2} Mbit/s, {:?}", rate / 1e6, link.stats().a_to_b);
            (18e6..22e6).contains(&rate).then_some(()).ok_or(format!("{rate} bit/s"))
        });
        assert!(link.stats().a_to_b.queue_full > 0);
    });
}

#[test]
fn a_direction_can_be_silenced() {
    isolated_test("a_direction_can_be_silenced", || {
        let (_lab, a, b, link) = pair(&LinkProfile::default());
        let (x, y) = (socket(&a, "10.0.0.1:1"), socket(&b, "10.0.0.2:2"));
        for socket in [&x, &y] {
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        let works = || {
            x.send_to(b"x", "10.0.0.2:2").unwrap();
            y.send_to(b"y", "10.0.0.1:1").unwrap();
            (y.recv(&mut [0; 9]).is_ok(), x.recv(&mut [0; 9]).is_ok())
        };
        assert_eq!(works(), (true, true));
        link.set_drop(true, false);
        assert_eq!(works(), (false, true));
        link.set_drop(false, true);
        assert_eq!(works(), (true, false));
        link.set_drop(false, false);
        assert_eq!(works(), (true, true));
        assert!(link.stats().a_to_b.discarded >= 1);
        assert!(a.is_running("eth0").unwrap(), "a silent loss leaves the carrier");
    });
}

#[test]
fn a_profile_can_be_changed() {
    isolated_test("a_profile_can_be_changed", || {
        let (_lab, a, b, link) = pair(&LinkProfile::default());
        let (x, y) = (socket(&a, "10.0.0.1:1"), socket(&b, "10.0.0.2:2"));
        let one_way = |from: &UdpSocket, to: &UdpSocket| {
            let start = Instant::now();
            from.send_to(b"x", to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 9]).unwrap();
            start.elapsed()
        };
        one_way(&x, &y);
        link.set_profile(&LinkProfile::delay(Duration::from_millis(80)));
        assert!(one_way(&x, &y) >= Duration::from_millis(80));
        link.set_profile_towards(Direction::BToA, &LinkProfile::delay(Duration::from_millis(30)));
        when_calm("the delay of one direction", || {
            let (there, back) = (one_way(&x, &y), one_way(&y, &x));
            assert!(there >= Duration::from_millis(80), "{there:?}");
            assert!(back >= Duration::from_millis(30), "{back:?}");
            (back < Duration::from_millis(75)).then_some(()).ok_or(format!("{back:?}"))
        });
        link.set_profile(&LinkProfile { max_packet: Some(600), ..LinkProfile::default() });
        x.send_to(&[0; 600], "10.0.0.2:2").unwrap();
        when_calm("a link without a delay", || {
            let there = one_way(&x, &y);
            (there < Duration::from_millis(60)).then_some(()).ok_or(format!("{there:?}"))
        });
        assert_eq!(link.stats().a_to_b.undeliverable, 1);
    });
}

/// The next news about an interface: whether it is administratively up, and whether it has carrier.
fn link_news(socket: &impl AsRawFd) -> Option<(bool, bool)> {
    let mut data = [0; 8192];
    let length = recv(socket.as_raw_fd(), &mut data, MsgFlags::empty()).ok()?;
    assert!(length >= 32);
    let flags = u32::from_ne_bytes(data[24..28].try_into().unwrap());
    Some((flags & libc::IFF_UP as u32 != 0, flags & libc::IFF_LOWER_UP as u32 != 0))
}

#[test]
fn carrier_can_be_taken() {
    isolated_test("carrier_can_be_taken", || {
        let (_lab, a, b, link) = pair(&LinkProfile::delay(Duration::from_millis(1)));
        let news = a
            .run(|| {
                let socket = nix_socket(
                    AddressFamily::Netlink,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::NetlinkRoute,
                )
                .unwrap();
                bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1)).unwrap();
                setsockopt(&socket, ReceiveTimeout, &TimeVal::new(1, 0)).unwrap();
                socket
            })
            .unwrap();
        for _ in 0..3 {
            let start = Instant::now();
            link.set_carrier_a(false).unwrap();
            while link_news(&news).expect("news of the lost carrier") != (true, false) {}
            println!("lost after {:?}", start.elapsed());
            assert!(!a.is_running("eth0").unwrap() && b.is_running("eth0").unwrap());
            let start = Instant::now();
            link.set_carrier_a(true).unwrap();
            while link_news(&news).expect("news of the regained carrier") != (true, true) {}
            println!("back after {:?}", start.elapsed());
        }
        link.set_carrier(false).unwrap();
        assert!(!a.is_running("eth0").unwrap() && !b.is_running("eth0").unwrap());
        link.set_carrier(true).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(arrivals(&a, &b, 20, Duration::from_millis(1)), 20);
    });
}

#[test]
fn an_adapter_can_be_pulled_out() {
    isolated_test("an_adapter_can_be_pulled_out", || {
        let (_lab, a, b, link) = pair(&LinkProfile::default());
        link.remove().unwrap();
        for host in [a, b] {
            assert!(matches!(host.is_running("eth0"), Err(Error::NoInterface { .. })));
        }
    });
}

#[test]
fn a_wire_needs_no_emulation() {
    isolated_test("a_wire_needs_no_emulation", || {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
        lab.wire(&a, "eth0", &b, "eth0").unwrap();
        a.add_address("eth0", "10.0.0.1/24").unwrap();
        b.add_address("eth0", "10.0.0.2/24").unwrap();
        assert_eq!(arrivals(&a, &b, 100, Duration::from_micros(50)), 100);
    });
}

#[test]
fn a_link_carries_many_small_packets() {
    isolated_test("a_link_carries_many_small_packets", || {
        let (_lab, a, b, link) = pair(&LinkProfile::delay(Duration::from_millis(20)));
        // 20 000 a second, in bursts of 20, beside whatever else the machine does.
        when_calm("many small packets", || {
            let (from, receiver) = listening(&a, &b);
            let mut next = Instant::now();
            for _ in 0..1000 {
                for _ in 0..20 {
                    from.send_to(b"x", "10.0.0.2:9").unwrap();
                }
                next += Duration::from_millis(1);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            let arrived = receiver.join().unwrap();
            println!("{arrived} of 20000, {:?}", link.stats().a_to_b);
            (arrived > 19_000).then_some(()).ok_or(format!("{arrived} of 20000 arrived"))
        });
    });
}

/// Packets that an interface has received.
fn received(host: &Host, interface: &str) -> u64 {
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{interface}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn offloads_make_many_segments_one_packet() {
    isolated_test("offloads_make_many_segments_one_packet", || {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
        lab.wire(&a, "eth0", &b, "eth0").unwrap();
        a.add_address("eth0", "10.0.0.1/24").unwrap();
        b.add_address("eth0", "10.0.0.2/24").unwrap();
        let (from, to) = (socket(&a, "10.0.0.1:0"), socket(&b, "10.0.0.2:7"));
        from.connect("10.0.0.2:7").unwrap();
        // Resolves the address.
        from.send(b"first").unwrap();
        to.recv(&mut [0; 64]).unwrap();
        for (on, packets) in [(false, 10), (true, 1), (false, 10)] {
            for host in [&a, &b] {
                host.set_offloads("eth0", on).unwrap();
            }
            let before = received(&b, "eth0");
            let segment = ControlMessage::UdpGsoSegments(&100);
            let data = [IoSlice::new(&[0; 1000])];
            sendmsg::<()>(from.as_raw_fd(), &data, &[segment], MsgFlags::empty(), None).unwrap();
            for _ in 0..10 {
                assert_eq!(to.recv(&mut [0; 2000]).unwrap(), 100, "offloads {on}");
            }
            assert_eq!(received(&b, "eth0") - before, packets, "offloads {on}");
        }
    });
}
