//! Peers that reach each other through a relay alone, by a real TURN server.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mast_control::Via;
use mast_e2e::anywhere::{Between, SERVICES, World};
use mast_e2e::{PATIENCE, Session, Tap, lab, mast, mast_program, pair, within};
use mast_netlab::{Host, NatKind};
use mast_stage::Daemon;

const DELAY: Duration = Duration::from_millis(10);

fn start(host: &Host, config: &str) -> Daemon {
    Daemon::start(&mast_program(), host, config).unwrap_or_else(|e| panic!("{e}"))
}

/// How the active path goes, if there is one.
fn via(daemon: &Daemon) -> Option<Via> {
    let peer = daemon.peer().ok()?;
    peer.paths.iter().find(|path| path.active).map(|path| path.via)
}

fn is_relayed(daemon: &Daemon) -> bool {
    via(daemon).is_some_and(|via| via != Via::Direct)
}

/// A network that lets nothing but the web out: by TLS on 443 it goes on, and directly again once that works.
#[test]
fn a_network_that_blocks_udp_is_survived() {
    lab(|| {
        let world = World::new();
        let relay = world.turn();
        let away = world.site(Between::Nat(NatKind::EndpointIndependent), DELAY);
        let home = world.site(Between::Nothing, DELAY);
        let laptop = start(&away.host, &relay.section("tls"));
        let server = start(&home.host, "");
        pair(&server, &laptop);
        assert_eq!(via(&laptop), Some(Via::Direct));
        let session = Session::start(&laptop, &server);
        for round in 0..2 {
            let mark = session.mark();
            away.only_443(true);
            within(PATIENCE, &format!("a relayed path, round {round}"), || is_relayed(&laptop));
            session.with_gap("UDP is blocked", mark, Duration::from_secs(8));
            let mark = session.mark();
            away.only_443(false);
            within(PATIENCE, "a direct path", || via(&laptop) == Some(Via::Direct));
            let back = session.since(mark);
            println!("back to a direct path: {back}");
            assert_eq!(back.echo.lost, 0, "{back}");
        }
        session.survives();
    });
}

/// Each transport; the far end has no relay, and does not know of one.
#[test]
fn a_relay_is_used_by_udp_and_by_tcp() {
    lab(|| {
        for transport in ["udp", "tcp"] {
            let world = World::new();
            let relay = world.turn();
            let away = world.site(Between::Nat(NatKind::EndpointIndependent), DELAY);
            let home = world.site(Between::Nothing, DELAY);
            let laptop = start(&away.host, &relay.section(transport));
            let server = start(&home.host, "");
            pair(&server, &laptop);
            let session = Session::start(&laptop, &server);
            // Nothing comes from the other any more, but through the relay.
            away.refuse(&home, true);
            within(PATIENCE, &format!("a path through a relay by {transport}"), || is_relayed(&laptop));
            session.wait_running();
            away.refuse(&home, false);
            within(PATIENCE, "a direct path", || via(&laptop) == Some(Via::Direct));
            session.survives();
            assert!(mast(&laptop, &["doctor"]).out.contains("lends this host the address"));
        }
    });
}

#[test]
fn what_is_wrong_with_a_relay_is_said_and_harms_nothing_else() {
    lab(|| {
        let world = World::new();
        let relay = world.turn();
        let away = world.site(Between::Nat(NatKind::EndpointIndependent), DELAY);
        let home = world.site(Between::Nothing, DELAY);
        let wrong = relay.section("udp").replace("lovelace", "byron");
        let unknown = relay.section("tcp").replace(SERVICES[0], "nosuch.example");
        let laptop = start(&away.host, &format!("{wrong}{unknown}"));
        // It is missed only where there is a peer.
        let server = start(&home.host, "");
        pair(&server, &laptop);
        away.refuse(&home, true);
        within(PATIENCE, "both are told of", || {
            let doctor = mast(&laptop, &["doctor"]).out;
            doctor.contains("password") && doctor.contains("cannot be looked up")
        });
        away.refuse(&home, false);
        within(PATIENCE, "a direct path", || via(&laptop) == Some(Via::Direct));
        relay.end();
    });
}

/// Who may learn relayed addresses alone sees nothing come from anywhere else, in any datagram.
#[test]
fn a_peer_that_may_know_relayed_addresses_alone_sees_no_other() {
    lab(|| {
        let world = World::new();
        let relay = world.turn();
        let away = world.site(Between::Nat(NatKind::EndpointIndependent), DELAY);
        let home = world.site(Between::Nothing, DELAY);
        let laptop = start(&away.host, &relay.section("udp"));
        let server = start(&home.host, "");
        pair(&server, &laptop);
        let session = Session::start(&laptop, &server);
        let peer = laptop.peer().unwrap().name;
        mast(&laptop, &["peer", "set", &peer, "--addresses", "relayed-only"]).good();
        within(PATIENCE, "a relayed path", || is_relayed(&laptop));
        session.wait_running();
        let tap = Tap::open(&home.host, "eth0");
        let (own, mut relayed) = (away.outside.parse::<Ipv4Addr>().unwrap(), 0);
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end {
            let Some(frame) = tap.next() else { continue };
            // Ethernet, IPv4, UDP; the source is at 12 of the header.
            if frame.len() < 34 || frame[12..14] != [8, 0] || frame[23] != 17 {
                continue;
            }
            let from = Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]);
            assert_ne!(from, own, "it came straight");
            relayed += usize::from(from.to_string() == SERVICES[0]);
        }
        assert!(relayed > 100, "{relayed} datagrams by the relay");
        session.survives();
    });
}

/// Two that a third machine knows reach each other through it where nothing else leads, and it alone is asked.
#[test]
fn a_peer_that_both_know_relays_for_them() {
    lab(|| {
        let world = World::new();
        let home = world.site(Between::Nothing, DELAY);
        let sites = [0, 1].map(|_| world.site(Between::Nat(NatKind::EndpointIndependent), DELAY));
        let server = start(&home.host, "relay_for_peers = true\n");
        let laptops = [0, 1].map(|n: usize| start(&sites[n].host, ""));
        for laptop in &laptops {
            pair(&server, laptop);
        }
        // Each knows the other's key, and no address.
        let [first, second] = &laptops;
        let keys = laptops.each_ref().map(|laptop| laptop.status().unwrap().public_key);
        for (laptop, key, name) in [(first, &keys[1], "second"), (second, &keys[0], "first")] {
            let config = laptop.directory().join("mastd.toml");
            let text = std::fs::read_to_string(&config).unwrap();
            let peer = format!("[[peer]]\nname = \"{name}\"\npublic_key = \"{key}\"\n");
            std::fs::write(&config, format!("{text}\n{peer}")).unwrap();
        }
        let [mut first, mut second] = laptops;
        for laptop in [&mut first, &mut second] {
            laptop.stop().unwrap();
            laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        }
        let started = Instant::now();
        let known = first
            .wait("the other laptop", PATIENCE, |s| {
                s.peers.iter().any(|p| {
                    p.name == "second" && p.state.as_str() == "connected" && p.eid.remote_v4.is_some()
                })
            })
            .unwrap_or_else(|e| panic!("{e}"));
        println!("after {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
        let peer = known.peers.iter().find(|p| p.name == "second").unwrap();
        assert!(peer.paths.iter().any(|p| p.active && p.via == Via::Relay), "{:#?}", peer.paths);
        let session = Session::between(first.host(), second.host(), &peer.eid);
        session.wait_running();
        assert!(mast(&first, &["doctor"]).out.contains("asked to hand on datagrams"));
        assert!(mast(&server, &["doctor"]).out.contains("hands on datagrams between its peers"));
        session.survives();
    });
}
