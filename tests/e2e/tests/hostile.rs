//! Datagrams of people who mean no good: counted, and otherwise without effect.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use mast_e2e::{
    PATIENCE, Scene, Session, Tap, active, lab, mast, raw_datagram, resident_bytes, send_raw, sleep, within,
};
use mast_stage::{Addressing, Daemon};
use serde_json::Value;

const PORT: u16 = 6278;

const SERVER: [u8; 4] = [10, 9, 0, 2];

/// Between two datagrams of a flood, so that the kernel's own queues hold them.
fn pause() {
    std::thread::sleep(Duration::from_micros(100));
}

/// A counter of `mast doctor`, or all of them.
fn counters(daemon: &Daemon) -> Value {
    let answer = mast(daemon, &["doctor", "--json"]);
    let report: Value = serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer}"));
    report["counters"].clone()
}

fn count(counters: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| counters[*name].as_u64().unwrap_or(0)).sum()
}

fn sum(counters: &Value) -> u64 {
    counters.as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

/// What must be the same afterwards.
fn state(daemon: &Daemon) -> (Option<String>, Vec<String>) {
    let peer = daemon.peer().unwrap();
    let active = peer.paths.iter().find(|p| p.active).map(|p| format!("{} {}", p.interface, p.remote));
    let mut paths: Vec<_> =
        peer.paths.iter().map(|p| format!("{} {} {}", p.interface, p.remote, p.state)).collect();
    paths.sort();
    (active, paths)
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    lab(|| {
        let scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        let (before, counted) = (state(&scene.server), counters(&scene.server));
        let memory = resident_bytes(scene.server.id().unwrap());
        let mark = session.mark();
        let socket = scene.train.wifi.isp.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut sent = 0;
        for round in 0..4000_usize {
            // Of every length, most of them with a first byte that means something.
            let length = [0, 1, 7, 8, 15, 16, 31, 32, 64, 92, 148, 149, 1200, 1472, round % 1472][round % 15];
            let mut datagram = vec![0_u8; length];
            for byte in &mut datagram {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (noise >> 56) as u8;
            }
            if let Some(first) = datagram.first_mut() {
                *first = [1, 2, 3, 4, 0x60, 0x61, 0x62, *first][round % 8];
            }
            if round % 2 == 0 && length >= 4 && datagram[0] <= 4 {
                // As WireGuard has it.
                datagram[1..4].fill(0);
            }
            sent += usize::from(socket.send_to(&datagram, ("10.9.0.2", PORT)).is_ok());
            if round % 20 == 0 {
                sleep(2);
            }
        }
        // The largest that UDP can carry comes in pieces.
        for _ in 0..20 {
            let _ = socket.send_to(&vec![0x60; 65_000], ("10.9.0.2", PORT));
        }
        session.without_loss(&format!("{sent} datagrams of garbage"), mark);
        let after = counters(&scene.server);
        println!("garbage: {after}");
        let grown = sum(&after) - sum(&counted);
        assert!(grown >= sent as u64 * 9 / 10, "{sent} sent, {grown} counted: {after}");
        assert_eq!(state(&scene.server), before);
        let grown = resident_bytes(scene.server.id().unwrap()).saturating_sub(memory);
        assert!(grown < 8_000_000, "{grown} bytes more");
        session.survives();
    });
}

#[test]
fn replayed_datagrams_are_counted_and_change_nothing() {
    lab(|| {
        // What is recorded is read as IPv4.
        let scene = Scene::with(Addressing::V4);
        let session = Session::start(&scene.laptop, &scene.server);
        let before = state(&scene.server);
        // What arrives at the server, recorded there, and sent once more by its router.
        let mut recorded = Tap::open(scene.server.host(), "eth0").udp_to(PORT, Duration::from_secs(1));
        recorded.retain(|frame| frame[30..34] == SERVER);
        assert!(recorded.len() > 100, "only {} datagrams were recorded", recorded.len());
        let router = Tap::open(&scene.train.core, "server");
        let counted = counters(&scene.server);
        let mark = session.mark();
        for _ in 0..3 {
            for frame in &recorded {
                router.send(frame);
                pause();
            }
        }
        let replayed = recorded.len() as u64 * 3;
        within(PATIENCE, "all are counted", || {
            let names = ["replayed", "wireguard_not_authentic", "wireguard_replayed", "not_authentic"];
            count(&counters(&scene.server), &names) - count(&counted, &names) >= replayed * 9 / 10
        });
        println!("{replayed} replayed: {}", counters(&scene.server));
        session.without_loss("replayed datagrams", mark);

        // The same from elsewhere: the sender of what is not new must not become an address of the peer.
        let socket = scene.train.cell.isp.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        for frame in &recorded {
            socket.send_to(&frame[42..], ("10.9.0.2", PORT)).unwrap();
            pause();
        }
        session.without_loss("replayed datagrams from elsewhere", mark);
        assert_eq!(state(&scene.server), before);
        session.survives();
    });
}

#[test]
fn reflected_datagrams_are_counted_and_change_nothing() {
    lab(|| {
        // What is recorded is read as IPv4.
        let scene = Scene::with(Addressing::V4);
        let session = Session::start(&scene.laptop, &scene.server);
        let before = state(&scene.server);
        // What the server sends comes back to it, with the addresses exchanged.
        let tap = Tap::open(&scene.train.core, "server");
        let frames: Vec<_> = tap.udp_to(PORT, Duration::from_secs(1));
        let own: Vec<_> = frames.into_iter().filter(|f| f[26..30] == SERVER).collect();
        assert!(own.len() > 50, "only {} datagrams were recorded", own.len());
        let counted = counters(&scene.server);
        let mark = session.mark();
        for frame in &own {
            let mut back = frame.clone();
            back[..6].copy_from_slice(&frame[6..12]);
            back[6..12].copy_from_slice(&frame[..6]);
            back[26..30].copy_from_slice(&frame[30..34]);
            back[30..34].copy_from_slice(&frame[26..30]);
            back[34..36].copy_from_slice(&frame[36..38]);
            back[36..38].copy_from_slice(&frame[34..36]);
            tap.send(&back);
            pause();
        }
        session.without_loss("reflected datagrams", mark);
        let after = counters(&scene.server);
        println!("{} reflected: {after}", own.len());
        assert!(sum(&after) - sum(&counted) >= own.len() as u64 * 9 / 10, "before {counted}, after {after}");
        assert_eq!(state(&scene.server), before);
        session.survives();
    });
}

#[test]
fn a_peer_cannot_speak_in_the_name_of_others() {
    lab(|| {
        let scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        let eid = scene.laptop.peer().unwrap().eid;
        let remote: Ipv4Addr = eid.remote_v4.as_ref().unwrap().parse().unwrap();
        let local: Ipv4Addr = eid.local_v4.as_ref().unwrap().parse().unwrap();
        let socket = scene.server.host().run(|| UdpSocket::bind("0.0.0.0:7777").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let to = SocketAddrV4::new(remote, 7777);
        let counted = counters(&scene.server);

        send_raw(scene.laptop.host(), remote, &raw_datagram(SocketAddrV4::new(local, 1), to, b"honest"));
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).expect("the honest one arrives");
        assert_eq!((&buffer[..length], from.ip()), (&b"honest"[..], local.into()));

        let lies = ["192.0.2.1", "10.9.0.1", "127.0.0.1", "100.127.255.254", "255.255.255.255"];
        for lie in lies.iter().map(|l| l.parse::<Ipv4Addr>().unwrap()).chain([remote]) {
            send_raw(scene.laptop.host(), remote, &raw_datagram(SocketAddrV4::new(lie, 1), to, b"lie"));
        }
        let heard = socket.recv_from(&mut buffer);
        assert!(heard.is_err(), "delivered: {heard:?}");
        let after = [counters(&scene.server), counters(&scene.laptop)];
        println!("spoofed: {after:?}");
        let seen = count(&after[0], &["spoofed_source"]) - count(&counted, &["spoofed_source"]);
        let kept = count(&after[1], &["spoofed_source", "host_malformed", "host_source", "no_route"]);
        assert!(seen + kept > 0, "nobody counted anything: {after:?}");
        session.survives();
    });
}

#[test]
fn a_flood_of_handshakes_does_not_starve_a_session() {
    lab(|| {
        let scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        // A real initiation, over and over, and with other senders.
        let mut initiation = vec![0_u8; 148];
        initiation[0] = 1;
        let memory = resident_bytes(scene.server.id().unwrap());
        let mark = session.mark();
        let socket = scene.train.wifi.isp.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        for round in 0..10_000_u32 {
            initiation[4..8].copy_from_slice(&round.to_be_bytes());
            let _ = socket.send_to(&initiation, ("10.9.0.2", PORT));
            if round % 20 == 0 {
                sleep(2);
            }
        }
        let notice = session.without_loss("10,000 handshakes", mark);
        assert!(notice.gap() < Duration::from_millis(500), "{:?}", notice.echo);
        let grown = resident_bytes(scene.server.id().unwrap()).saturating_sub(memory);
        assert!(grown < 8_000_000, "{grown} bytes more");
        session.survives();
    });
}

/// The Internet checksum of a header.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

/// An initiation that a peer has sent, recorded on the way, from very many senders: its MAC is right.
#[test]
fn a_flood_of_recorded_handshakes_is_answered_with_cookies_and_noticed_by_nobody() {
    lab(|| {
        let mut scene = Scene::with(Addressing::V4);
        let tap = Tap::open(&scene.train.core, "server");
        // The laptop begins anew, and is heard by somebody on the way.
        let recorded = std::thread::scope(|scope| {
            let listener = scope.spawn(|| tap.udp_to(PORT, Duration::from_secs(4)));
            sleep(300);
            scene.laptop.stop().unwrap();
            scene.laptop.launch().unwrap();
            listener.join().unwrap()
        });
        let initiation = recorded.iter().find(|f| f.len() == 42 + 148 && f[42] == 1 && f[30..34] == SERVER);
        let mut frame = initiation.expect("an initiation was recorded").clone();
        within(PATIENCE, "connected again", || active(&scene.laptop).is_some());
        let session = Session::start(&scene.laptop, &scene.server);
        let counted = counters(&scene.server);
        let mark = session.mark();
        let began = std::time::Instant::now();
        // 20,000 a second for three seconds.
        let mut sent = 0_u32;
        while began.elapsed() < Duration::from_secs(3) {
            let due = (began.elapsed().as_secs_f64() * 20_000.0) as u32;
            while sent < due {
                sent += 1;
                let from = (sent.wrapping_mul(2_654_435_761) & 0x00ff_ffff) | 0x0b00_0000;
                frame[26..30].copy_from_slice(&from.to_be_bytes());
                frame[24..26].fill(0);
                let sum = checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                // No checksum of UDP.
                frame[40..42].fill(0);
                tap.send(&frame);
            }
            sleep(1);
        }
        let notice = session.without_loss(&format!("{sent} recorded handshakes"), mark);
        let after = counters(&scene.server);
        println!("recorded handshakes: {:?}, {after}", notice.echo);
        let cookies = count(&after, &["handshake_cookie"]) - count(&counted, &["handshake_cookie"]);
        assert!(cookies > u64::from(sent) / 4, "{cookies} cookies for {sent}: {after}");
        assert!(notice.gap() < Duration::from_millis(300), "{:?}", notice.echo);
        session.survives();
    });
}
