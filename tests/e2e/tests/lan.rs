//! Peers that find each other in the local network, with nothing else that they know of each other than a key.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mast_control::PeerState;
use mast_e2e::{PATIENCE, Tap, cpu_time, lab, mast, mast_program, sleep, within};
use mast_netlab::{Host, Lab};
use mast_stage::{Daemon, Program};
use socket2::{Domain, Protocol, Socket, Type};

const PORT: u16 = 5353;
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// What hosts have beside link-local addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addresses {
    Both,
    V4,
    /// Nobody gives any: a cable between two laptops, or a switch.
    LinkLocal,
}

/// Two laptops and somebody else at one switch.
struct Home {
    hosts: [Host; 2],
    stranger: Host,
    lab: Lab,
    _switch: Host,
}

impl Home {
    fn new(addresses: Addresses) -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let switch = lab.host("switch").unwrap();
        let hosts = ["ada", "bea", "eve"].map(|name| lab.host(name).unwrap());
        ip(&switch, "link add br0 type bridge mcast_snooping 0");
        for (n, host) in (1..).zip(&hosts) {
            let port = format!("p{n}");
            lab.wire(&switch, &port, host, "eth0").unwrap();
            ip(&switch, &format!("link set {port} master br0"));
            match addresses {
                Addresses::Both => {
                    host.add_address("eth0", &format!("10.0.0.{n}/24")).unwrap();
                    host.add_address("eth0", &format!("fd00::{n}/64")).unwrap();
                }
                Addresses::V4 => {
                    host.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
                    host.add_address("eth0", &format!("10.0.0.{n}/24")).unwrap();
                }
                Addresses::LinkLocal => {}
            }
        }
        ip(&switch, "link set br0 up");
        let [ada, bea, stranger] = hosts;
        if addresses != Addresses::LinkLocal {
            stranger.add_route("224.0.0.0/4", None, "eth0", 0).unwrap();
        }
        Self { hosts: [ada, bea], stranger, lab, _switch: switch }
    }

    fn tap(&self) -> Tap {
        Tap::open(&self.stranger, "eth0")
    }

    /// Both services, which know nothing of each other.
    fn start(&self, programs: [&Program; 2]) -> [Daemon; 2] {
        let start =
            |n: usize| Daemon::start(programs[n], &self.hosts[n], "").unwrap_or_else(|e| panic!("{e}"));
        [start(0), start(1)]
    }

    /// Both services, which know each other's key, and `more` of it.
    fn introduced(&self, programs: [&Program; 2], more: [&str; 2]) -> [Daemon; 2] {
        let mut daemons = self.start(programs);
        introduce(&mut daemons, more);
        daemons
    }
}

/// Has both start anew, with each other's key.
fn introduce(daemons: &mut [Daemon; 2], more: [&str; 2]) {
    let keys = [0, 1].map(|n| daemons[n].status().unwrap().public_key);
    for (n, name) in ["bea", "ada"].into_iter().enumerate() {
        let text = format!("[[peer]]\nname = \"{name}\"\npublic_key = \"{}\"\n{}", keys[1 - n], more[n]);
        daemons[n].stop().unwrap();
        std::fs::write(daemons[n].directory().join("mastd.toml"), text).unwrap();
    }
    for daemon in daemons {
        daemon.launch().unwrap_or_else(|e| panic!("{e}"));
    }
}

fn ip(host: &Host, words: &str) {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    assert!(host.spawn(command).unwrap().wait(PATIENCE).unwrap().success(), "ip {words}");
}

fn connected(daemon: &Daemon) -> bool {
    daemon.peer().unwrap().state == PeerState::Connected
}

fn logs(daemons: &[Daemon; 2]) -> String {
    daemons.iter().map(|daemon| format!("{:#?}\n{}\n", daemon.peer(), daemon.log())).collect()
}

/// Waits until both have found each other.
fn meet(daemons: &[Daemon; 2]) {
    let start = Instant::now();
    while !daemons.iter().all(connected) {
        assert!(start.elapsed() < PATIENCE, "they do not find each other:\n{}", logs(daemons));
        sleep(10);
    }
}

/// What the doctor says of it.
fn doctor(daemon: &Daemon) -> String {
    let said = mast(daemon, &["doctor"]).out;
    let mut lines = said.lines().skip_while(|line| !line.contains("rendezvous by lan"));
    [lines.next(), lines.next()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A message of multicast DNS in a frame, and who sent it.
fn message(frame: &[u8]) -> Option<(IpAddr, Vec<u8>)> {
    let kind = frame.get(12..14)?;
    let (from, udp) = match kind {
        [8, 0] if frame.get(23) == Some(&17) => {
            (IpAddr::from(<[u8; 4]>::try_from(frame.get(26..30)?).ok()?), frame.get(34..)?)
        }
        [0x86, 0xdd] if frame.get(20) == Some(&17) => {
            (IpAddr::from(<[u8; 16]>::try_from(frame.get(22..38)?).ok()?), frame.get(54..)?)
        }
        _ => return None,
    };
    (udp.get(2..4)? == PORT.to_be_bytes()).then(|| Some((from, udp.get(8..)?.to_vec())))?
}

/// What is said at the switch within a time.
fn listen(tap: &Tap, time: Duration) -> Vec<(IpAddr, Vec<u8>)> {
    let end = Instant::now() + time;
    let mut all = Vec::new();
    while Instant::now() < end {
        all.extend(tap.next().as_deref().and_then(message));
    }
    all
}

/// The names in a message.
fn tags(message: &[u8]) -> BTreeSet<Vec<u8>> {
    let starts = message.iter().enumerate().filter(|(_, byte)| **byte == 32);
    let labels = starts.filter_map(|(at, _)| message.get(at + 1..at + 33));
    labels.filter(|label| label.iter().all(u8::is_ascii_hexdigit)).map(<[u8]>::to_vec).collect()
}

/// Whether pieces that are longer than what every message has alike come in both.
fn shares(one: &[(IpAddr, Vec<u8>)], other: &[(IpAddr, Vec<u8>)]) -> bool {
    let pieces = |all: &[(IpAddr, Vec<u8>)]| -> BTreeSet<Vec<u8>> {
        all.iter().flat_map(|(_, message)| message.windows(24).map(<[u8]>::to_vec)).collect()
    };
    !pieces(one).is_disjoint(&pieces(other))
}

fn find_each_other(addresses: Addresses) {
    let home = Home::new(addresses);
    let program = mast_program();
    let tap = home.tap();
    let mut daemons = home.start([&program, &program]);
    let keys = daemons.each_ref().map(|daemon| daemon.status().unwrap().public_key);
    let start = Instant::now();
    let heard = std::thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&tap, Duration::from_secs(8)));
        introduce(&mut daemons, ["", ""]);
        meet(&daemons);
        println!("found each other {:?} after both began to start", start.elapsed());
        listener.join().unwrap()
    });
    let paths = daemons[0].peer().unwrap().paths;
    assert!(paths.iter().all(|path| path.interface == "eth0"), "{paths:#?}");
    if addresses == Addresses::LinkLocal {
        assert!(paths.iter().all(|path| path.remote.starts_with("[fe80:")), "{paths:#?}");
    }
    let told = |d: &Daemon| doctor(d).contains("on eth0: 1 peers; heard there lately: 1");
    let end = Instant::now() + PATIENCE;
    while !daemons.iter().all(told) {
        assert!(Instant::now() < end, "{:?}\n{}", daemons.each_ref().map(doctor), logs(&daemons));
    }

    // Eve hears that somebody speaks, and not who.
    println!(
        "{} messages were heard, {} bytes",
        heard.len(),
        heard.iter().map(|(_, m)| m.len()).sum::<usize>()
    );
    assert!(heard.len() >= 2, "{heard:?}");
    let key = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    for (_, message) in &heard {
        assert!(message.len() < 1200);
        let secrets = keys.iter().map(|k| key(k)[..8].to_vec()).chain([
            b"mast".to_vec(),
            b"MAST".to_vec(),
            b"eth0".to_vec(),
        ]);
        for secret in secrets {
            assert!(!message.windows(secret.len()).any(|window| window == secret), "{secret:?}");
        }
    }
    // And then all is quiet.
    within(PATIENCE * 2, "silence", || listen(&tap, Duration::from_secs(6)).is_empty());
    // Who restarts is found again.
    daemons[1].stop().unwrap();
    daemons[1].launch().unwrap();
    meet(&daemons);
}

#[test]
fn two_laptops_in_one_network_find_each_other() {
    lab(|| find_each_other(Addresses::Both));
}

#[test]
fn two_laptops_in_one_network_find_each_other_without_ipv6() {
    lab(|| find_each_other(Addresses::V4));
}

#[test]
fn two_laptops_with_a_cable_between_them_and_nothing_else_find_each_other() {
    lab(|| find_each_other(Addresses::LinkLocal));
}

/// `mast`, whose clock is ahead.
fn ahead(seconds: u32) -> Program {
    let script = format!(
        "export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1) FAKETIME=+{seconds}s \
         FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1"
    );
    mast_program().prepared(&script)
}

#[test]
fn nobody_can_follow_a_host_from_one_epoch_to_another() {
    lab(|| {
        let home = Home::new(Addresses::Both);
        let tap = home.tap();
        let mut heard = Vec::new();
        let mut daemons = home.start([&mast_program(), &mast_program()]);
        for seconds in [0, 3600] {
            let program = ahead(seconds);
            for daemon in &mut daemons {
                // Nothing of the hour before comes late.
                daemon.stop().unwrap();
                daemon.set_program(&program);
                daemon.launch().unwrap();
            }
            let all = std::thread::scope(|scope| {
                let listener = scope.spawn(|| listen(&tap, Duration::from_secs(6)));
                introduce(&mut daemons, ["", ""]);
                listener.join().unwrap()
            });
            meet(&daemons);
            heard.push(all);
        }
        let names = heard.iter().map(|all| all.iter().flat_map(|(_, m)| tags(m)).collect::<BTreeSet<_>>());
        let names: Vec<_> = names.collect();
        println!("{} and {} names were heard", names[0].len(), names[1].len());
        assert!(names.iter().all(|names| names.len() >= 4));
        assert!(names[0].is_disjoint(&names[1]), "a name of another hour returns");
        assert!(!shares(&heard[0], &heard[1]), "something else of another hour returns");
    });
}

#[test]
fn clocks_that_are_ten_minutes_apart_do_no_harm() {
    lab(|| {
        let home = Home::new(Addresses::Both);
        let daemons = home.introduced([&mast_program(), &ahead(600)], ["", ""]);
        meet(&daemons);
    });
}

#[test]
fn who_tells_a_peer_less_than_all_is_silent_in_the_local_network() {
    lab(|| {
        for told in ["relayed-only", "public-only"] {
            let home = Home::new(Addresses::Both);
            let (tap, program) = (home.tap(), mast_program());
            let hidden = format!("addresses = \"{told}\"\n");
            let mut daemons = home.start([&program, &program]);
            let heard = std::thread::scope(|scope| {
                let listener = scope.spawn(|| listen(&tap, Duration::from_secs(8)));
                introduce(&mut daemons, ["", &hidden]);
                listener.join().unwrap()
            });
            let own = home.hosts[1].run(|| std::fs::read_to_string("/proc/net/if_inet6").unwrap()).unwrap();
            let own: Vec<IpAddr> = own
                .lines()
                .filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok())
                .map(|bits| Ipv6Addr::from_bits(bits).into())
                .chain(["10.0.0.2".parse().unwrap()])
                .collect();
            let of_hidden = heard.iter().filter(|(from, _)| own.contains(from)).count();
            println!(
                "{told}: {} messages of the other, {of_hidden} of the hidden one",
                heard.len() - of_hidden
            );
            assert!(heard.len() >= 4, "the other asks");
            assert_eq!(of_hidden, 0, "{told}");
            assert!(!daemons.iter().any(connected), "{told}: nobody told it");
            assert_eq!(doctor(&daemons[1]), "", "nobody is looked for");
        }
    });
}

#[test]
fn a_flood_of_forged_and_repeated_messages_harms_nothing() {
    lab(|| {
        let home = Home::new(Addresses::Both);
        let (tap, program) = (home.tap(), mast_program());
        let mut daemons = home.start([&program, &program]);
        let heard = std::thread::scope(|scope| {
            let listener = scope.spawn(|| listen(&tap, Duration::from_secs(6)));
            introduce(&mut daemons, ["", ""]);
            listener.join().unwrap()
        });
        meet(&daemons);
        let real: Vec<Vec<u8>> = heard.into_iter().map(|(_, message)| message).collect();
        let socket = home.stranger.run(|| UdpSocket::bind(("10.0.0.3", 0)).unwrap()).unwrap();
        let ids = daemons.each_ref().map(|daemon| daemon.id().unwrap());
        let (before, start, over) = (ids.map(cpu_time), Instant::now(), AtomicBool::new(false));
        let said = std::thread::scope(|scope| {
            let over = &over;
            let flood = scope.spawn(move || {
                let mut sent = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    for message in &real {
                        let mut forged = message.clone();
                        let at = sent as usize % forged.len();
                        if !sent.is_multiple_of(3) {
                            forged[at] ^= 0x55;
                        }
                        // What finds no room is lost.
                        let _ = socket.send_to(&forged, (GROUP, PORT));
                        sent += 1;
                    }
                    if sent.is_multiple_of(64) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                sent
            });
            let said = listen(&tap, Duration::from_secs(3));
            let used = ids.into_iter().zip(before).map(|(id, before)| cpu_time(id) - before).max();
            let time = start.elapsed();
            // In the midst of it, one restarts, and has nothing but this.
            daemons[1].stop().unwrap();
            daemons[1].launch().unwrap();
            meet(&daemons);
            over.store(true, Ordering::Relaxed);
            println!("{} messages; {used:?} of CPU in {time:?}", flood.join().unwrap());
            said
        });
        let own = |answers: bool| {
            let is_own = |(from, message): &&(IpAddr, Vec<u8>)| {
                *from != IpAddr::from([10, 0, 0, 3]) && (message[2] & 0x80 != 0) == answers
            };
            said.iter().filter(is_own).count()
        };
        // On a machine with too little time they may lose each other, and ask.
        assert!(
            own(true) <= own(false),
            "{} answers to {} questions: who only repeats is answered",
            own(true),
            own(false)
        );
    });
}

/// A responder as every desktop has one.
fn responder(host: &Host, shared: bool) -> UdpSocket {
    let socket = host.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_reuse_address(shared).unwrap();
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], PORT)).into()).unwrap();
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        UdpSocket::from(socket)
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

#[test]
fn another_responder_on_the_host_loses_nothing_and_takes_nothing_away() {
    lab(|| {
        let home = Home::new(Addresses::V4);
        let other = responder(&home.hosts[0], true);
        let program = mast_program();
        let daemons = home.introduced([&program, &program], ["", ""]);
        meet(&daemons);
        let stranger = home.stranger.run(|| UdpSocket::bind(("10.0.0.3", 0)).unwrap()).unwrap();
        let mut buffer = [0; 2000];
        for (to, what) in [(Ipv4Addr::new(10, 0, 0, 1), b"to the host"), (GROUP, b"to everyone")] {
            stranger.send_to(what, (to, PORT)).unwrap();
            let mut heard = || other.recv_from(&mut buffer).map(|(length, _)| buffer[..length].to_vec());
            let all: Vec<Vec<u8>> = std::iter::from_fn(|| heard().ok()).collect();
            assert!(all.iter().any(|one| one == what), "{what:?}");
        }
    });
}

#[test]
fn a_port_that_somebody_has_alone_is_told_with_what_helps() {
    lab(|| {
        let home = Home::new(Addresses::V4);
        let _other = responder(&home.hosts[0], false);
        let program = mast_program();
        let daemons = home.introduced([&program, &program], ["", ""]);
        within(PATIENCE, "the doctor tells", || {
            let said = doctor(&daemons[0]);
            said.contains("5353") && said.contains("share it")
        });
    });
}

#[test]
fn peers_that_met_elsewhere_go_direct_when_they_come_home() {
    lab(|| {
        let home = Home::new(Addresses::LinkLocal);
        let router = home.lab.router("internet").unwrap();
        for (n, host) in (1..).zip(&home.hosts) {
            let port = format!("r{n}");
            home.lab.wire(&router, &port, host, "wan0").unwrap();
            router.add_address(&port, &format!("198.51.10{n}.1/24")).unwrap();
            host.add_address("wan0", &format!("198.51.10{n}.2/24")).unwrap();
            host.add_route("default", Some(&format!("198.51.10{n}.1")), "wan0", 0).unwrap();
            host.set_up("eth0", false).unwrap();
        }
        let program = mast_program();
        let daemons = home.introduced([&program, &program], ["endpoints = [\"198.51.102.2:6278\"]\n", ""]);
        meet(&daemons);
        // Both leave, and come to the same switch, where nobody gives addresses.
        for host in &home.hosts {
            host.set_up("wan0", false).unwrap();
        }
        for host in &home.hosts {
            host.set_up("eth0", true).unwrap();
        }
        let start = Instant::now();
        within(PATIENCE, "both go over the switch", || {
            daemons.iter().all(|daemon| {
                let peer = daemon.peer().unwrap();
                peer.paths.iter().any(|path| path.active && path.interface == "eth0")
            })
        });
        println!("direct {:?} after both came home", start.elapsed());
    });
}

#[test]
fn nobody_is_looked_for_where_it_is_switched_off_or_costs_money() {
    lab(|| {
        for off in ["[rendezvous]\nlan = false\n", "[interfaces.eth0]\nmetered = true\n"] {
            let home = Home::new(Addresses::Both);
            let (tap, program) = (home.tap(), mast_program());
            let mut daemons = home.start([&program, &program]);
            let heard = std::thread::scope(|scope| {
                let listener = scope.spawn(|| listen(&tap, Duration::from_secs(5)));
                introduce(&mut daemons, [off, off]);
                listener.join().unwrap()
            });
            assert!(heard.is_empty(), "{off}: {}", heard.len());
        }
    });
}
