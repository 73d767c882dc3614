//! A peer that lies about where it is, against a real daemon: nobody else gets what was meant for it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mast_e2e::{Bystander, Rogue, lab, mast_program, sleep};
use mast_netlab::{Host, Lab, LinkProfile};
use mast_stage::Daemon;

/// Of the service.
const PORT: u16 = 6278;
/// Of a program at the server that sends twenty times as much as it is asked with.
const LAVISH: u16 = 909;

/// A server, a peer of it that is hostile, somebody who has nothing to do with either, and a router between them that checks
/// nobody's sender.
struct Town {
    server: Daemon,
    rogue: Rogue,
    victim: Bystander,
    at: IpAddr,
    _lavish: std::thread::JoinHandle<()>,
    _lab: Lab,
}

fn connect(lab: &Lab, router: &Host, name: &str, number: u8) -> Host {
    let host = lab.host(name).unwrap();
    let port = format!("to-{name}");
    lab.link(&host, "eth0", router, &port, &LinkProfile::delay(Duration::from_millis(5))).unwrap();
    for (interface, end) in [("eth0", 2), (port.as_str(), 1)] {
        let at = if end == 2 { &host } else { router };
        at.add_address(interface, &format!("198.51.{number}.{end}/24")).unwrap();
        at.add_address(interface, &format!("2001:db8:{number}::{end}/64")).unwrap();
        at.set_up(interface, true).unwrap();
    }
    host.add_route("0.0.0.0/0", Some(&format!("198.51.{number}.1")), "eth0", 0).unwrap();
    host.add_route("::/0", Some(&format!("2001:db8:{number}::1")), "eth0", 0).unwrap();
    host
}

fn town(v6: bool) -> Town {
    let lab = Lab::new().unwrap();
    let router = lab.router("router").unwrap();
    let [server, rogue, victim] =
        [("server", 1), ("rogue", 2), ("victim", 3)].map(|(n, i)| connect(&lab, &router, n, i));
    let of = |number: u8| -> IpAddr {
        let text = if v6 { format!("2001:db8:{number}::2") } else { format!("198.51.{number}.2") };
        text.parse().unwrap()
    };
    let at = of(3);
    // It can send in the victim's name.
    rogue.set_up("lo", true).unwrap();
    rogue.add_address("lo", &format!("{at}/{}", if v6 { 128 } else { 32 })).unwrap();
    let key = STANDARD.encode(Rogue::keys().1);
    let config = format!("[[peer]]\nname = \"rogue\"\npublic_key = \"{key}\"\n");
    let server_daemon = Daemon::start(&mast_program(), &server, &config).unwrap_or_else(|e| panic!("{e}"));
    let own: [u8; 32] =
        STANDARD.decode(server_daemon.status().unwrap().public_key).unwrap().try_into().unwrap();
    // Duplicate address detection takes its time.
    sleep(1_500);
    let lavish = server.run(|| UdpSocket::bind(("::", LAVISH)).unwrap()).unwrap();
    lavish.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let serving = std::thread::spawn(move || {
        let mut buffer = [0; 2_000];
        while let Ok((_, from)) = lavish.recv_from(&mut buffer) {
            let _ = lavish.send_to(&[7; 1_200], from);
        }
    });
    let hostile = Rogue::new(&rogue, SocketAddr::new(of(2), 4_500), SocketAddr::new(of(1), PORT), own);
    let victim = Bystander::watch(&victim, "eth0", at);
    Town { server: server_daemon, rogue: hostile, victim, at, _lavish: serving, _lab: lab }
}

impl Town {
    /// Nothing of what is told must be so because the attack did not come about.
    fn is_peer(&self) -> bool {
        self.server.peer().is_ok_and(|peer| peer.rx_bytes > 0)
    }

    fn judge(&self, what: &str, began: Instant) {
        let (bytes, data) = self.victim.got();
        println!(
            "{what}: {} bytes from the peer, {bytes} at the victim, {data} of them data, {} data at the peer, in {:?}",
            self.rogue.sent,
            self.rogue.data,
            began.elapsed()
        );
        assert_eq!(data, 0, "{what}: data to an address that never answered");
        assert!(bytes <= self.rogue.sent, "{what}: {bytes} bytes for {}", self.rogue.sent);
        assert!(self.is_peer(), "{what}: the peer never was one");
    }
}

/// A handshake from its own address, confirmed in the name of somebody else, who gets neither data nor more than was heard.
/// `honest`: it answers at its own address, too.
fn spoofed_validation(v6: bool, honest: bool) {
    let mut town = town(v6);
    let began = Instant::now();
    let victims = [7_001, 7_002].map(|port| SocketAddr::new(town.at, port));
    let own = town.rogue.own;
    town.rogue.answers = honest;
    let mut agreed = 0;
    for victim in victims {
        agreed += usize::from(town.rogue.begin(victim));
    }
    assert!(agreed > 0, "the daemon agreed to nothing");
    town.rogue.list(own, &[victims[0], victims[1], own]);
    town.rogue.listen(Duration::from_millis(300));
    for n in 0..1_400_u32 {
        town.rogue.ask(own, LAVISH, &n.to_be_bytes());
        if n % 20 == 0 {
            town.rogue.listen(Duration::from_millis(2));
        }
    }
    // Its wish moves to and fro, and its own address is withdrawn and named again.
    for round in 0..60 {
        let mut list = [victims[round % 2], victims[(round + 1) % 2], own];
        if round % 7 == 3 {
            list.swap(0, 2);
        }
        town.rogue.list(own, &list);
        // Messages that are fresh, in the victim's name.
        town.rogue.list(victims[round % 2], &list);
        town.rogue.listen(Duration::from_millis(100));
    }
    town.judge(&format!("spoofed validation, IPv6 {v6}, honest {honest}"), began);
    if honest {
        assert!(town.rogue.data > 1_000, "what it asked for comes to itself: {}", town.rogue.data);
    } else {
        // Its own address did not answer either.
        assert!(town.rogue.data <= town.rogue.sent, "{} bytes for {}", town.rogue.data, town.rogue.sent);
    }
}

#[test]
fn who_confirms_in_anothers_name_sends_no_data_there() {
    lab(|| {
        for v6 in [false, true] {
            for honest in [false, true] {
                spoofed_validation(v6, honest);
            }
        }
    });
}

/// Fourteen ports of somebody else as its own addresses, again and again, in a life of its own each time.
#[test]
fn a_list_of_anothers_addresses_sends_them_no_more_than_was_heard() {
    lab(|| {
        for v6 in [false, true] {
            for restarts in [0, 12] {
                let mut town = town(v6);
                let began = Instant::now();
                let own = town.rogue.own;
                let mut agreed = 0;
                for life in 0..=restarts {
                    agreed += usize::from(town.rogue.begin(own));
                    let ports = (0..14).map(|n| SocketAddr::new(town.at, 8_000 + 100 * life + n));
                    let list: Vec<_> = [own].into_iter().chain(ports).collect();
                    if agreed > 0 && town.rogue.agrees() {
                        town.rogue.list(own, &list);
                    }
                    town.rogue.listen(Duration::from_millis(if restarts == 0 { 6_000 } else { 500 }));
                }
                assert!(agreed > 0, "the daemon agreed to nothing");
                town.judge(&format!("{restarts} restarts, IPv6 {v6}, {agreed} agreed"), began);
            }
        }
    });
}

/// Somebody on the way gives what is fresh another sender each time: no more than a few of them have a place, and the peer
/// stays where it is.
#[test]
fn what_is_heard_from_everywhere_does_not_crowd_out_the_peer() {
    lab(|| {
        for v6 in [false, true] {
            let mut town = town(v6);
            let own = town.rogue.own;
            assert!(town.rogue.begin(own));
            town.rogue.list(own, &[own]);
            town.rogue.listen(Duration::from_millis(500));
            for port in 9_000..9_200 {
                let lie = SocketAddr::new(town.at, port);
                town.rogue.list(lie, &[own]);
                if port % 10 == 0 {
                    town.rogue.listen(Duration::from_millis(10));
                }
            }
            let paths = town.server.peer().unwrap().paths;
            let strays = paths.iter().filter(|p| p.remote != own.to_string()).count();
            let active = paths.iter().find(|p| p.active).map(|p| p.remote.clone());
            println!("IPv6 {v6}: {strays} strays, active {active:?}");
            assert!(strays <= 4, "{strays}");
            assert_eq!(active, Some(own.to_string()));
            town.judge("re-sourced", Instant::now());
        }
    });
}
