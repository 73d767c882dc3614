//! What peers learn of a host, and what of it they can reach.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use mast_control::{PeerKind, PeerState};
use mast_e2e::{PATIENCE, Tap, ip, lab, mast, mast_program, pair, raw_datagram, send_raw, sleep, within};
use mast_netlab::{Host, Lab, LinkProfile, Nat, NatKind};
use mast_stage::{Daemon, Net, Train, TrainProfile};
use serde_json::Value;

use crate::wireguard::{keys, net_of};

/// Long enough for each INIT that there would be: the own ones, and the answer to a peer's.
const ALL_TRIES: Duration = Duration::from_secs(6);

fn counter(daemon: &Daemon, name: &str) -> u64 {
    let answer = mast(daemon, &["doctor", "--json"]);
    let report: Value = serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer}"));
    report["counters"][name].as_u64().unwrap_or(0)
}

/// The start of a service that has the peer of a WireGuard file, as its provider sees it: handshakes, and what keeps the
/// session open. No message has anything in it.
#[test]
fn a_wireguard_server_is_sent_nothing_of_mast() {
    lab(|| {
        let mut net = net_of("10.66.0.1/32", &mast_program(), "");
        assert!(net.laptop.stop().unwrap().success());
        let tap = Tap::open(&net.train.core, "server");
        let frames = std::thread::scope(|scope| {
            let listener = scope.spawn(|| tap.udp_to(51_820, ALL_TRIES));
            sleep(200);
            net.laptop.launch().unwrap();
            listener.join().unwrap()
        });
        let of = |kind: u8| frames.iter().filter(move |f| f[42] == kind).map(|f| f.len() - 42);
        assert!(of(1).count() > 0, "no handshake was seen");
        // 16 bytes of header and as many of the tag.
        let full: Vec<usize> = of(4).filter(|length| *length > 32).collect();
        println!("{} messages, of which with content: {full:?}", frames.len());
        assert_eq!(full, [0_usize; 0], "of these lengths");
        assert!(frames.iter().all(|f| (1..=4).contains(&f[42])), "sealed by MAST");
    });
}

/// The provider of a WireGuard file speaks MAST, and asks by its own INIT.
#[test]
fn a_provider_that_speaks_mast_learns_nothing_unless_told_by_name() {
    lab(|| {
        let train = Train::new(&TrainProfile::default()).unwrap();
        let (private, public) = keys();
        let config = format!("[[peer]]\nname = \"victim\"\npublic_key = \"{public}\"\n");
        let server = Daemon::start(&mast_program(), &train.server, &config).unwrap();
        let mut laptop = Daemon::start(&mast_program(), &train.laptop, "").unwrap();
        let file = laptop.directory().join("office.conf");
        let text = format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 10.66.0.2/24\n[Peer]\nPublicKey = {}\n\
             Endpoint = 10.9.0.2:6278\nAllowedIPs = 10.66.0.1/32\nPersistentKeepalive = 1\n",
            server.status().unwrap().public_key
        );
        std::fs::write(&file, text).unwrap();
        mast(&laptop, &["peer", "add", file.to_str().unwrap()]).good();
        within(PATIENCE, "the provider asked, and was not heard", || counter(&laptop, "mast_not_wanted") > 0);
        std::thread::sleep(ALL_TRIES);
        let (here, there) = (laptop.peer().unwrap(), server.peer().unwrap());
        assert_eq!((here.kind, here.mast), (PeerKind::Wireguard, Some(false)));
        assert_ne!(there.kind, PeerKind::Mast, "{there:#?}");
        assert_eq!(there.eid.remote_v4, None);

        mast(&laptop, &["peer", "set", "office", "--mast", "on"]).good();
        within(PATIENCE, "both speak MAST", || {
            let both = [&laptop, &server].map(|d| d.peer().unwrap());
            both.iter().all(|p| p.kind == PeerKind::Mast && p.state == PeerState::Connected)
        });
        laptop.stop().unwrap();
        laptop.launch().unwrap();
        assert_eq!(laptop.peer().unwrap().mast, Some(true), "it was forgotten");
        within(PATIENCE, "both speak MAST again", || {
            let both = [&laptop, &server].map(|d| d.peer().unwrap());
            both.iter().all(|p| p.kind == PeerKind::Mast && p.state == PeerState::Connected)
        });

        mast(&laptop, &["peer", "set", "office", "--mast", "off"]).good();
        within(PATIENCE, "WireGuard alone", || laptop.peer().unwrap().kind == PeerKind::Wireguard);
        within(PATIENCE, "the provider hears no MAST any more", || {
            server.peer().unwrap().state != PeerState::Connected
        });
        mast(&laptop, &["peer", "set", "office"]).bad(2, &["--mast"]);
        mast(&laptop, &["peer", "set", "nobody", "--mast", "on"]).bad(1, &["nobody"]);
        mast(&server, &["peer", "set", "victim", "--mast", "off"]).bad(1, &["WireGuard files"]);
    });
}

/// A laptop at home and in a carrier's network, each with a NAT, and a server on the Internet.
struct Abroad {
    laptop: Daemon,
    server: Daemon,
    _nats: Vec<(Nat, Host)>,
    _core: Host,
    _lab: Lab,
}

const PRIVATE: [&str; 2] = ["192.168.1.5", "10.20.0.7"];

fn abroad() -> Abroad {
    let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
    let (laptop, server) = (lab.host("laptop").unwrap(), lab.host("server").unwrap());
    let core = lab.router("core").unwrap();
    lab.wire(&core, "server", &server, "eth0").unwrap();
    core.add_address("server", "192.0.2.1/24").unwrap();
    server.add_address("eth0", "192.0.2.2/24").unwrap();
    server.add_route("0.0.0.0/0", Some("192.0.2.1"), "eth0", 0).unwrap();
    let uplinks = [("wifi", "192.168.1", "198.51.100", 100), ("cell", "10.20.0", "203.0.113", 200)];
    let nats = [("home", 5), ("carrier", 7)].into_iter().zip(uplinks).map(|((name, host), uplink)| {
        let (interface, inside, outside, metric) = uplink;
        let router = lab.router(name).unwrap();
        lab.link(&laptop, interface, &router, "down", &LinkProfile::delay(Duration::from_millis(10)))
            .unwrap();
        lab.wire(&router, "up", &core, name).unwrap();
        router.add_address("up", &format!("{outside}.2/24")).unwrap();
        core.add_address(name, &format!("{outside}.1/24")).unwrap();
        router.add_route("0.0.0.0/0", Some(&format!("{outside}.1")), "up", 0).unwrap();
        router.add_address("down", &format!("{inside}.1/24")).unwrap();
        laptop.add_address(interface, &format!("{inside}.{host}/24")).unwrap();
        laptop.add_route("0.0.0.0/0", Some(&format!("{inside}.1")), interface, metric).unwrap();
        (lab.nat(&router, "down", "up", NatKind::EndpointIndependent).unwrap(), router)
    });
    let nats = nats.collect();
    let start = |host: &Host| Daemon::start(&mast_program(), host, "").unwrap_or_else(|e| panic!("{e}"));
    let (laptop, server) = (start(&laptop), start(&server));
    pair(&server, &laptop);
    Abroad { laptop, server, _nats: nats, _core: core, _lab: lab }
}

impl Abroad {
    /// Which addresses of the laptop the server tries or uses.
    fn known(&self) -> Vec<String> {
        let paths = self.server.peer().unwrap().paths;
        let mut known: Vec<String> =
            paths.iter().filter_map(|p| ip(&p.remote)).map(|a| a.to_string()).collect();
        known.sort();
        known.dedup();
        known
    }

    fn knows(&self, address: &str) -> bool {
        self.known().iter().any(|a| a == address)
    }
}

/// Addresses behind a NAT are of no use to a server elsewhere, and say where a laptop is.
#[test]
fn a_server_elsewhere_is_told_no_private_addresses() {
    lab(|| {
        let net = abroad();
        let seen = ["198.51.100.2", "203.0.113.2"];
        within(PATIENCE, "both uplinks are seen", || seen.iter().all(|a| net.knows(a)));
        sleep(2_000);
        assert_eq!(net.known(), seen, "by default");

        mast(&net.laptop, &["peer", "set", "server", "--own", "on"]).good();
        within(PATIENCE, "its own server is told all", || PRIVATE.iter().all(|a| net.knows(a)));

        for told in ["public-only", "relayed-only"] {
            mast(&net.laptop, &["peer", "set", "server", "--addresses", told]).good();
            within(PATIENCE, &format!("{told}: private ones are withdrawn"), || {
                PRIVATE.iter().all(|a| !net.knows(a))
            });
            assert!(mast(&net.laptop, &["peers"]).good().out.contains("is told no"));
            // What the server sees by itself serves as well: the move is as quick as ever.
            let status = net.laptop.peer().unwrap();
            assert_eq!((status.addresses.as_str(), status.own), (told, true));
            assert_eq!(status.state, PeerState::Connected);
        }
        mast(&net.laptop, &["peer", "set", "server", "--own", "off", "--addresses", "all"]).good();
        sleep(1_000);
        assert_eq!(net.known(), seen, "at last");
    });
}

/// The provider of a WireGuard file sends to the address of the laptop that another peer knows it by.
#[test]
fn a_peer_reaches_only_what_is_for_it() {
    lab(|| {
        let net = net_of("10.66.0.1/32", &mast_program(), "");
        let train = &net.train;
        let gate = train.lab.host("gate").unwrap();
        train.lab.wire(&train.core, "gate", &gate, "eth0").unwrap();
        let (at, site) = (train.addressing, Net(8, 0));
        at.add(&train.core, "gate", site, 1).unwrap();
        at.add(&gate, "eth0", site, 2).unwrap();
        at.add_default(&gate, "eth0", site, 1, 0).unwrap();
        let gate = Daemon::start(&mast_program(), &gate, "").unwrap();
        let invite = mast(&gate, &["invite"]).good().out.trim().to_owned();
        mast(&net.laptop, &["peer", "add", &invite, "--name", "gate"]).good();
        let eid = || {
            let peers = net.laptop.status().unwrap().peers;
            peers.into_iter().find(|p| p.name == "gate").and_then(|p| p.eid.local_v4)
        };
        within(PATIENCE, "an EID", || eid().is_some());
        let eid: Ipv4Addr = eid().unwrap().parse().unwrap();

        let socket = net.laptop.host().run(|| UdpSocket::bind("0.0.0.0:7777").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let server = &train.server;
        let run = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
            assert!(server.spawn(command).unwrap().wait(PATIENCE).unwrap().success(), "{program} {words:?}");
        };
        run("ip", &["route", "add", &format!("{eid}/32"), "dev", "wg0"]);
        net.allow_at_the_server(&format!("10.66.0.2/32,{eid}/32"));
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 1);
        let send = |to: Ipv4Addr, what: &[u8]| {
            send_raw(server, to, &raw_datagram(from, SocketAddrV4::new(to, 7777), what));
        };
        let mut buffer = [0; 64];
        within(PATIENCE, "what is for it is reached", || {
            send(Ipv4Addr::new(10, 66, 0, 2), b"honest");
            socket.recv_from(&mut buffer).is_ok_and(|(length, _)| &buffer[..length] == b"honest")
        });
        while socket.recv_from(&mut buffer).is_ok() {}
        let before = counter(&net.laptop, "foreign_destination");
        for _ in 0..5 {
            send(eid, b"who are you");
        }
        let heard = socket.recv_from(&mut buffer);
        assert!(heard.is_err(), "delivered at {eid}: {heard:?}");
        within(PATIENCE, "it is counted", || counter(&net.laptop, "foreign_destination") >= before + 5);
    });
}
