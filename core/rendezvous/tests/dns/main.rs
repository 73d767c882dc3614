//! Rendezvous by DNS with a real name server (knot), each host in a network of its own.
#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]
#![cfg(target_os = "linux")]

mod knot;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use knot::{Running, SECRET, SERVER, Scene, on, publish};
use mast_netlab::isolated_test;
use mast_rendezvous::{Health, MOST_ADDRESSES};

const LAPTOP: [u8; 32] = [7; 32];
const OTHER: [u8; 32] = [9; 32];
const GOOD: (&str, &str) = ("laptop", SECRET);

/// Has the laptop publish where it is.
fn publishes(scene: &Scene, at: &[&str]) {
    on(&scene.laptop, async || {
        let mut running = Running::start(&[SERVER], publish("laptop.example.org", SERVER, GOOD));
        running.tell(LAPTOP, at);
        running.works().await;
    });
}

/// Where the desk finds a peer by a name, and what is told of it.
fn finds(scene: &Scene, servers: &[&str], peer: [u8; 32], name: &str) -> (Vec<String>, Health) {
    on(&scene.desk, async || {
        let mut running = Running::start(servers, None);
        running.want(peer, &[name]);
        let found = running.next().await;
        let health = running.health.borrow().clone();
        (found.addresses.iter().map(ToString::to_string).collect(), health)
    })
}

#[test]
fn what_one_host_publishes_another_finds_and_finds_again_when_it_moved() {
    isolated_test("what_one_host_publishes_another_finds_and_finds_again_when_it_moved", || {
        let scene = Scene::new("");
        let first = ["[2001:db8::7]:6278", "198.51.100.7:6278", "192.0.2.200:40000"];
        let second = ["203.0.113.99:6278"];
        publishes(&scene, &first);
        let (found, health) = finds(&scene, &[SERVER], LAPTOP, "laptop.example.org");
        assert_eq!((found, health), (first.map(str::to_owned).to_vec(), Health::Working));
        thread::scope(|threads| {
            let (tell, told) = mpsc::channel();
            let desk = &scene.desk;
            threads.spawn(move || {
                on(desk, async || {
                    let mut running = Running::start(&[SERVER], None);
                    running.want(LAPTOP, &["laptop.example.org"]);
                    let mut times = Vec::new();
                    for at in [&first[..], &second, &[]] {
                        times.push(running.until(at).await);
                        tell.send(()).unwrap();
                    }
                    println!("found, found again, and gone after {times:?}");
                });
            });
            told.recv().unwrap();
            publishes(&scene, &second);
            told.recv().unwrap();
            publishes(&scene, &[]);
            told.recv().unwrap();
        });
    });
}

#[test]
fn a_lost_peer_is_looked_up_at_once_and_an_address_is_published_as_soon_as_it_is_there() {
    isolated_test(
        "a_lost_peer_is_looked_up_at_once_and_an_address_is_published_as_soon_as_it_is_there",
        || {
            let scene = Scene::new(
                "_mast._udp.far 3600 SRV 0 0 6278 far\nfar 3600 A 192.0.2.99\n_mast._udp.far 3600 TXT other\n",
            );
            on(&scene.desk, async || {
                let mut running = Running::start(&[SERVER], None);
                running.want(LAPTOP, &["far.example.org"]);
                running.until(&["192.0.2.99:6278"]).await;
                // A minute is left, and two seconds must be.
                let begun = Instant::now();
                for _ in 0..10 {
                    running.wanted.lost.send(LAPTOP).await.unwrap();
                }
                running.until(&["192.0.2.99:6278"]).await;
                let took = begun.elapsed();
                assert!(took < Duration::from_secs(4), "{took:?}");
                let again = tokio::time::timeout(Duration::from_secs(3), running.next()).await;
                assert!(again.is_err(), "ten times lost is lost once: {again:?}");
            });
            on(&scene.laptop, async || {
                let mut running = Running::start(&[SERVER], publish("laptop.example.org", SERVER, GOOD));
                running.want(LAPTOP, &["laptop.example.org"]);
                for n in 1..4 {
                    let at = format!("192.0.2.{n}:6278");
                    let begun = Instant::now();
                    running.tell(LAPTOP, &[&at]);
                    running.wanted.lost.send(LAPTOP).await.unwrap();
                    running.until(&[&at]).await;
                    println!("published and found after {:?}", begun.elapsed());
                }
            });
        },
    );
}

#[test]
fn a_name_with_the_key_of_another_peer_is_not_used() {
    isolated_test("a_name_with_the_key_of_another_peer_is_not_used", || {
        let scene = Scene::new("");
        publishes(&scene, &["198.51.100.7:6278"]);
        let (found, _) = finds(&scene, &[SERVER], OTHER, "laptop.example.org");
        assert!(found.is_empty(), "{found:?}");
        on(&scene.desk, async || {
            let mut running = Running::start(&[SERVER], None);
            running.want(OTHER, &["laptop.example.org"]);
            let why = running.fails().await;
            assert!(
                why.contains("has the key of another host") && why.contains("_mast._udp.laptop"),
                "{why}"
            );
        });
    });
}

#[test]
fn what_a_server_refuses_is_told_with_the_reason_and_the_remedy() {
    isolated_test("what_a_server_refuses_is_told_with_the_reason_and_the_remedy", || {
        let scene = Scene::new("");
        let other = "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q=";
        for (name, server, key, expected, remedy) in [
            ("laptop.example.org", SERVER, ("nobody", SECRET), "BADKEY", "key_name"),
            ("laptop.example.org", SERVER, ("laptop", other), "BADSIG", "key_file"),
            (
                "laptop.example.org",
                SERVER,
                ("guest", SECRET),
                "not for `laptop.example.org`",
                "allow the key",
            ),
            ("laptop.example.net", SERVER, GOOD, "in no zone", "publish"),
            ("laptop.example.org", "192.0.2.53:54", GOOD, "cannot be reached", "server"),
        ] {
            on(&scene.laptop, async || {
                let mut running = Running::start(&[SERVER], publish(name, server, key));
                running.tell(LAPTOP, &["198.51.100.7:6278"]);
                let why = running.fails().await;
                println!("{why}");
                assert!(why.contains(expected) && why.contains(remedy), "{name} {key:?}: {why}");
            });
        }
        let (found, _) = finds(&scene, &[SERVER], LAPTOP, "laptop.example.org");
        assert!(found.is_empty(), "{found:?}");
    });
}

#[test]
fn a_server_that_hangs_holds_up_neither_another_nor_the_end() {
    isolated_test("a_server_that_hangs_holds_up_neither_another_nor_the_end", || {
        let scene = Scene::new("");
        publishes(&scene, &["198.51.100.7:6278"]);
        // Whatever comes is taken, and never answered.
        let (_udp, _tcp) = scene
            .server
            .run(|| {
                (UdpSocket::bind("192.0.2.53:5353").unwrap(), TcpListener::bind("192.0.2.53:5353").unwrap())
            })
            .unwrap();
        let hangs = "192.0.2.53:5353";
        let begun = Instant::now();
        let (found, _) = finds(&scene, &[hangs, SERVER], LAPTOP, "laptop.example.org");
        assert_eq!(found, ["198.51.100.7:6278"], "another knows");
        println!("beside one that hangs: {:?}", begun.elapsed());
        on(&scene.desk, async || {
            let begun = Instant::now();
            let mut running = Running::start(&[hangs], publish("laptop.example.org", hangs, GOOD));
            running.want(LAPTOP, &["laptop.example.org"]);
            let why = running.fails().await;
            assert!(why.contains("cannot be looked up"), "{why}");
            running.tell(LAPTOP, &["198.51.100.7:6278"]);
            let published = |health: &Health| matches!(health, Health::Failed { why, .. } if why.contains("does not answer"));
            knot::soon("a failure to publish", running.health.wait_for(published)).await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        });
    });
}

#[test]
fn several_targets_are_tried_in_their_order_and_junk_is_left_out() {
    isolated_test("several_targets_are_tried_in_their_order_and_junk_is_left_out", || {
        let mut records = "_mast._udp.many SRV 20 0 3 third\n_mast._udp.many SRV 10 0 1 first\n\
             _mast._udp.many SRV 15 0 2 second\n_mast._udp.many SRV 1 0 0 first\n_mast._udp.many SRV 1 0 9 nowhere\n\
             _mast._udp.many SRV 1 0 9 .\n\
             first A 192.0.2.1\nfirst A 127.0.0.1\nfirst A 224.0.0.1\nfirst A 255.255.255.255\nfirst A 0.0.0.0\n\
             second AAAA 2001:db8::2\nsecond AAAA ::1\nsecond AAAA fe80::1\nsecond AAAA ff02::1\nsecond A 192.0.2.2\n\
             third CNAME alias\nalias CNAME last\nlast A 192.0.2.3\n\
             _mast._udp.crowd SRV 0 0 6278 crowd\n"
            .to_owned();
        // More than a datagram has room for.
        for n in 0..200 {
            records += &format!("crowd A 192.0.2.{n}\n");
        }
        let scene = Scene::new(&records);
        let (found, health) = finds(&scene, &[SERVER], LAPTOP, "many.example.org");
        assert_eq!(found, ["192.0.2.1:1", "[2001:db8::2]:2", "192.0.2.2:2", "192.0.2.3:3"]);
        assert_eq!(health, Health::Working);
        let (found, _) = finds(&scene, &[SERVER], LAPTOP, "crowd.example.org");
        assert!(!found.is_empty() && found.len() <= MOST_ADDRESSES, "{found:?}");
        let (found, _) = finds(&scene, &[SERVER], LAPTOP, "nobody.example.org");
        assert!(found.is_empty(), "a name that is not there leads nowhere: {found:?}");
    });
}

#[test]
fn loops_end_and_garbage_is_no_answer() {
    isolated_test("loops_end_and_garbage_is_no_answer", || {
        let records = "_mast._udp.loop SRV 0 0 6278 _mast._udp.loop\n_mast._udp.ring SRV 0 0 6278 ring\nring CNAME gnir\n\
             gnir CNAME ring\n_mast._udp.odd SRV 0 0 6278 odd\nodd A 192.0.2.1\n_mast._udp.odd TXT \"v=mast1 k=!\" \"\\255\\000\"\n";
        let scene = Scene::new(records);
        let begun = Instant::now();
        for name in ["loop.example.org", "ring.example.org"] {
            on(&scene.desk, async || {
                let mut running = Running::start(&[SERVER], None);
                running.want(LAPTOP, &[name]);
                let ended = running.health.wait_for(|health| *health != Health::Starting);
                let health = knot::soon("an end", ended).await.unwrap().clone();
                println!("{name}: {health:?}");
                let found = running.found.try_recv().map(|found| found.addresses).unwrap_or_default();
                assert!(found.is_empty(), "{found:?}");
            });
        }
        let (found, _) = finds(&scene, &[SERVER], LAPTOP, "odd.example.org");
        assert_eq!(found, ["192.0.2.1:6278"], "a record that is none says nothing");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        scene
            .server
            .run(|| {
                let udp = UdpSocket::bind("192.0.2.53:5353").unwrap();
                let tcp = TcpListener::bind("192.0.2.53:5353").unwrap();
                thread::spawn(move || {
                    let mut bytes = [0; 2048];
                    while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                        // The right number, and then nonsense.
                        bytes[2..].fill(0xff);
                        let _ = udp.send_to(&bytes[..length.max(12)], from);
                    }
                });
                thread::spawn(move || {
                    for stream in tcp.incoming().flatten() {
                        let mut stream = stream;
                        let _ = stream.read(&mut [0; 512]);
                        let _ = stream.write_all(&[0xff; 70_000]);
                    }
                });
            })
            .unwrap();
        on(&scene.desk, async || {
            let garbage = "192.0.2.53:5353";
            let mut running = Running::start(&[garbage], publish("laptop.example.org", garbage, GOOD));
            running.want(LAPTOP, &["laptop.example.org"]);
            let why = running.fails().await;
            assert!(why.contains("cannot be looked up"), "{why}");
            running.tell(LAPTOP, &["198.51.100.7:6278"]);
            let nonsense =
                |health: &Health| matches!(health, Health::Failed { why, .. } if why.contains("nonsense"));
            knot::soon("nonsense", running.health.wait_for(nonsense)).await.unwrap();
        });
    });
}
