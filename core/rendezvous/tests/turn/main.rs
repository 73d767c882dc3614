//! Relays against coturn, in networks of their own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod hostile;
mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mast_rendezvous::turn::{State, Transport};
use world::{DEAF, RELAY, World, ip, lab, within};

const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

/// Two behind the strictest NATs, who have nothing but the relay: datagrams of all lengths, both ways.
async fn two_exchange(world: &World, transport: Transport) {
    let mut a = world.client(0, world.server(transport));
    let mut b = world.client(1, world.server(transport));
    let ((at_a, took), (at_b, _)) = (a.allocated().await, b.allocated().await);
    let start = Instant::now();
    // The first of each opens the way for the other, as probes do.
    a.send(at_b, b"knock").await;
    b.send(at_a, b"knock").await;
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    let first = loop {
        tokio::select! {
            _ = pause.tick() => a.send(at_b, b"knock").await,
            got = b.from.recv() => break got.unwrap(),
        }
    };
    assert_eq!((first.peer, first.payload.as_slice()), (at_a, b"knock".as_slice()));
    println!(
        "{transport}: an address after {took:.1?}, the first datagram {:.1?} after it was sent",
        start.elapsed()
    );
    // Lengths of all kinds, so that what stands behind another on a stream begins at the right place.
    for round in 0..3_u8 {
        for length in [0, 1, 2, 3, 4, 5, 148, 1279, 1280, 1400] {
            let payload: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_add(round)).collect();
            for (from, to, at_from, at_to) in [(&a, &mut b, at_a, at_b)] {
                from.send(at_to, &payload).await;
                loop {
                    let parcel = to.receive().await;
                    assert_eq!(parcel.peer, at_from);
                    if parcel.payload != b"knock" {
                        assert_eq!(parcel.payload, payload, "of {length} bytes over {transport}");
                        break;
                    }
                }
            }
            b.send(at_a, &payload).await;
            loop {
                let parcel = a.receive().await;
                if parcel.payload != b"knock" {
                    assert_eq!(parcel.payload, payload, "back, of {length} bytes over {transport}");
                    break;
                }
            }
        }
    }
    a.end().await;
    b.end().await;
}

#[test]
fn two_hosts_exchange_datagrams_by_every_transport() {
    lab("two_hosts_exchange_datagrams_by_every_transport", || async {
        let world = World::new();
        world.start(&[]);
        for transport in ALL {
            two_exchange(&world, transport).await;
        }
    });
}

#[test]
fn a_host_without_a_relay_is_reached_from_one_with() {
    lab("a_host_without_a_relay_is_reached_from_one_with", || async {
        let world = World::new();
        world.start(&[]);
        for transport in ALL {
            let mut a = world.client(0, world.server(transport));
            let (relayed, _) = a.allocated().await;
            let plain = world.plain_socket();
            let start = Instant::now();
            a.send(plain.local_addr().unwrap(), b"there").await;
            let mut buffer = [0; 2000];
            let (length, from) = within(5, "there", plain.recv_from(&mut buffer)).await.unwrap();
            assert_eq!((&buffer[..length], from), (b"there".as_slice(), relayed));
            println!("{transport}: to a plain host in {:.1?}, the permission with it", start.elapsed());
            plain.send_to(b"back", relayed).await.unwrap();
            let parcel = a.receive().await;
            assert_eq!(
                (parcel.payload.as_slice(), parcel.peer),
                (b"back".as_slice(), plain.local_addr().unwrap())
            );
            // More than anybody asked for: left out, and what comes next is not.
            plain.send_to(&[7; 9000], relayed).await.unwrap();
            plain.send_to(b"next", relayed).await.unwrap();
            assert_eq!(a.receive().await.payload, b"next");
            a.end().await;
        }
    });
}

#[test]
fn where_udp_is_blocked_tcp_and_tls_work() {
    lab("where_udp_is_blocked_tcp_and_tls_work", || async {
        let world = World::new();
        world.start(&[]);
        world.block_udp(0);
        let start = Instant::now();
        let mut udp = world.client(0, world.server(Transport::Udp));
        let (why, remedy) = udp.failed().await;
        println!("{why}: {remedy}; after {:.1?}", start.elapsed());
        assert!(why.contains("does not answer over udp"), "{why}");
        assert!(start.elapsed() < Duration::from_secs(10));
        for transport in [Transport::Tcp, Transport::Tls] {
            let mut a = world.client(0, world.server(transport));
            let (relayed, took) = a.allocated().await;
            println!("{transport} where UDP is blocked: after {took:.1?}");
            let plain = world.plain_socket();
            a.send(plain.local_addr().unwrap(), b"there").await;
            plain.recv_from(&mut [0; 100]).await.unwrap();
            plain.send_to(b"back", relayed).await.unwrap();
            assert_eq!(a.receive().await.payload, b"back");
        }
    });
}

#[test]
fn what_a_user_has_to_mend_is_told() {
    lab("what_a_user_has_to_mend_is_told", || async {
        let world = World::new();
        world.start(&["--user-quota=1"]);
        for transport in ALL {
            let mut server = world.server(transport);
            server.password = "wrong".to_owned().into();
            let (why, remedy) = world.client(0, server).failed().await;
            println!("{why}: {remedy}");
            assert!(why.contains("(401)") && remedy.contains("password"), "{why}. {remedy}");
        }
        let stranger = rcgen::generate_simple_self_signed(vec!["other.example".to_owned()]).unwrap();
        let mut server = world.server(Transport::Tls);
        server.roots = vec![stranger.cert.der().clone()];
        let (why, remedy) = world.client(0, server).failed().await;
        println!("{why}: {remedy}");
        assert!(why.contains("signed by nobody"), "{why}");
        let mut server = world.server(Transport::Tls);
        server.host = "other.example".to_owned();
        let (why, remedy) = world.client(0, server).failed().await;
        println!("{why}: {remedy}");
        assert!(why.contains("not for the name other.example"), "{why}");
        let mut server = world.server(Transport::Udp);
        server.at[0].set_port(9);
        let (why, remedy) = world.client(0, server).failed().await;
        println!("{why}: {remedy}");
        assert!(why.contains("nothing listens"), "{why}");
        let mut first = world.client(0, world.server(Transport::Tcp));
        first.allocated().await;
        let (why, remedy) = world.client(1, world.server(Transport::Tcp)).failed().await;
        println!("{why}: {remedy}");
        assert!(why.contains("(486)"), "{why}");
    });
}

#[test]
fn an_address_is_asked_for_anew_when_the_relay_starts_again() {
    lab("an_address_is_asked_for_anew_when_the_relay_starts_again", || async {
        let world = World::new();
        world.start(&[]);
        let mut clients = Vec::new();
        for transport in ALL {
            let mut client = world.client(0, world.server(transport));
            client.allocated().await;
            clients.push((transport, client));
        }
        world.stop();
        let start = Instant::now();
        world.start(&[]);
        let plain = world.plain_socket();
        let at = plain.local_addr().unwrap();
        let again = clients.into_iter().map(|(transport, mut client)| async move {
            let not = |state: &State| !matches!(state, State::Allocated { .. });
            // Over UDP nothing tells but the answer to what keeps the NAT's mapping, each 25 s.
            let state = within(40, "the loss", client.state.wait_for(not)).await.unwrap().clone();
            let lost = start.elapsed();
            client.allocated().await;
            println!(
                "{transport}: {state:?} after {lost:.1?}, another {:.1?} after the relay ended",
                start.elapsed()
            );
            client.send(at, transport.to_string().as_bytes()).await;
            client
        });
        let tasks: Vec<_> = again.map(tokio::spawn).collect();
        let mut missing: BTreeSet<String> = ALL.map(|transport| transport.to_string()).into();
        while !missing.is_empty() {
            let mut buffer = [0; 100];
            let (length, _) = within(60, "again", plain.recv_from(&mut buffer)).await.unwrap();
            missing.remove(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        for task in tasks {
            task.await.unwrap().end().await;
        }
    });
}

#[test]
fn of_several_addresses_the_one_that_answers_is_taken() {
    lab("of_several_addresses_the_one_that_answers_is_taken", || async {
        let world = World::new();
        world.start(&[]);
        for transport in ALL {
            let mut server = world.server(transport);
            let port = server.at[0].port();
            // Nobody there, nothing routed there, and the right one.
            server.at.insert(0, SocketAddr::new(ip("192.0.2.99"), port));
            server.at.insert(1, SocketAddr::new(ip("2001:db8::1"), port));
            server.at.insert(2, SocketAddr::new(ip(DEAF), port));
            let mut a = world.client(0, server);
            let (_, took) = a.allocated().await;
            println!("{transport}, the fourth of four addresses: after {took:.1?}");
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
    });
}

/// What passes between a host and its relay, seen in between.
#[derive(Default)]
struct Seen {
    out: Vec<Vec<u8>>,
    back: Vec<Vec<u8>>,
}

#[test]
fn a_peer_gets_a_channel_after_a_while() {
    lab("a_peer_gets_a_channel_after_a_while", || async {
        let world = World::new();
        world.start(&[]);
        let between = world.relay.run(|| std::net::UdpSocket::bind((DEAF, 3478)).unwrap()).unwrap();
        between.set_nonblocking(true).unwrap();
        let between = tokio::net::UdpSocket::from_std(between).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sees = Arc::clone(&seen);
        let relay = SocketAddr::new(ip(RELAY), 3478);
        let pass_on = async move {
            let (mut host, mut buffer) = (None, [0; 2048]);
            loop {
                let (length, from) = between.recv_from(&mut buffer).await.unwrap();
                let bytes = buffer[..length].to_vec();
                if from == relay {
                    between.send_to(&bytes, host.unwrap()).await.unwrap();
                    sees.lock().unwrap().back.push(bytes);
                } else {
                    host = Some(from);
                    between.send_to(&bytes, relay).await.unwrap();
                    sees.lock().unwrap().out.push(bytes);
                }
            }
        };
        let passing = tokio::spawn(pass_on);
        let mut server = world.server(Transport::Udp);
        server.at[0].set_ip(ip(DEAF));
        let a = world.client(0, server);
        let (to, _) = (world.plain_socket(), ());
        let mut state = a.state.clone();
        state.wait_for(|state| matches!(state, State::Allocated { .. })).await.unwrap();
        let payload = [9; 1400];
        let mut buffer = [0; 2000];
        for _ in 0..20 {
            a.send(to.local_addr().unwrap(), &payload).await;
            let (length, from) = within(5, "a datagram", to.recv_from(&mut buffer)).await.unwrap();
            assert_eq!(buffer[..length], payload);
            to.send_to(&payload, from).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = seen.lock().unwrap();
        let lengths =
            |all: &[Vec<u8>]| all.iter().filter(|b| b.len() > 1400).map(Vec::len).collect::<Vec<_>>();
        println!(
            "of 1,400 bytes, to the relay: {:?}; from it: {:?}",
            lengths(&seen.out),
            lengths(&seen.back)
        );
        let late = |all: &[Vec<u8>]| {
            let mut all: Vec<_> = all.iter().filter(|bytes| bytes.len() > 1400).cloned().collect();
            let late = all.split_off(10);
            late.iter().map(|bytes| (bytes[0] >> 6, bytes.len())).collect::<BTreeSet<_>>()
        };
        assert_eq!(late(&seen.out), BTreeSet::from([(1, 1404)]));
        assert_eq!(late(&seen.back), BTreeSet::from([(1, 1404)]));
        passing.abort();
    });
}
