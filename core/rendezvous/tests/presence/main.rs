//! Rendezvous by presence with a real server (prosody), each host in a network of its own.
#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]
#![cfg(target_os = "linux")]

mod prosody;

use std::time::{Duration, Instant};

use mast_netlab::isolated_test;
use prosody::{DESK, LAPTOP, Login, Running, STRANGER, Scene, TABLET, holds_items, on, own, soon};

/// Told to peers, and no host's here: so they can be looked for in what the server saw.
const FIRST: [&str; 2] = ["203.0.113.201:6278", "[2001:db8::201]:6278"];
const SECOND: [&str; 1] = ["203.0.113.202:6278"];

#[test]
fn what_one_machine_publishes_its_peer_hears_at_once_and_nobody_else_can_read() {
    isolated_test("what_one_machine_publishes_its_peer_hears_at_once_and_nobody_else_can_read", || {
        let scene = Scene::new();
        on(&scene.laptop, async || {
            let (alice, bob, eve) = (
                Login::new("alice", &scene.server),
                Login::new("bob", &scene.server),
                Login::new("eve", &scene.server),
            );
            // The peer listens before anything is there.
            let mut desk = Running::start(
                &bob,
                own(DESK, &[(LAPTOP, &SECOND), (TABLET, &[])]),
                &[(LAPTOP, "alice"), (TABLET, "alice")],
            );
            desk.works().await;
            let mut laptop = Running::start(&alice, own(LAPTOP, &[(DESK, &FIRST)]), &[(DESK, "bob")]);
            laptop.works().await;
            laptop.until(DESK, &SECOND).await;
            println!("a peer that is new is found after {:?}", desk.until(LAPTOP, &FIRST).await);
            let mut stranger =
                Running::start(&eve, own(STRANGER, &[(LAPTOP, &[])]), &[(LAPTOP, "alice"), (DESK, "bob")]);
            stranger.works().await;

            // Another machine of the same account does not displace the first.
            let mut tablet = Running::start(&alice, own(TABLET, &[(DESK, &SECOND)]), &[(DESK, "bob")]);
            tablet.works().await;
            desk.until(TABLET, &SECOND).await;
            laptop.own.send_replace(own(LAPTOP, &[(DESK, &SECOND)]));
            let took = desk.until(LAPTOP, &SECOND).await;
            println!("new addresses are heard after {took:?}");
            assert!(took < Duration::from_secs(2), "{took:?}");
            laptop.own.send_replace(own(LAPTOP, &[(DESK, &[])]));
            desk.until(LAPTOP, &[]).await;

            stranger.finds_nothing(Duration::from_millis(500)).await;
        });
        let (log, kept) = (scene.server.log(), scene.server.kept().unwrap());
        assert!(log.contains("urn:mast:addresses:1"), "what was said is in the log");
        assert!(kept.keys().any(|path| holds_items(path)), "what was published was kept");
        for secret in ["203.0.113.20", "2001:db8", "6278"] {
            assert!(!log.contains(secret), "{secret} was said");
            assert!(kept.iter().all(|(path, text)| !holds_items(path) || !text.contains(secret)), "{secret}");
        }
    });
}

#[test]
fn an_address_that_is_taken_away_is_made_up_for_within_two_seconds() {
    isolated_test("an_address_that_is_taken_away_is_made_up_for_within_two_seconds", || {
        let scene = Scene::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<Instant>();
        std::thread::scope(|threads| {
            let scene = &scene;
            threads.spawn(move || {
                on(&scene.desk, async || {
                    let bob = Login::new("bob", &scene.server);
                    let mut desk = Running::start(&bob, own(DESK, &[(LAPTOP, &[])]), &[(LAPTOP, "alice")]);
                    for at in ["198.51.100.7:6278", "198.51.100.8:6278", "198.51.100.9:6278"] {
                        desk.until(LAPTOP, &[at]).await;
                        tell.send(Instant::now()).unwrap();
                    }
                });
            });
            on(&scene.laptop, async || {
                // TLS from the first byte; the other begins without.
                let alice = Login { server: "192.0.2.5:5223", ..Login::new("alice", &scene.server) };
                let at = |last: u8| format!("198.51.100.{last}:6278");
                let mut laptop = Running::start(&alice, own(LAPTOP, &[(DESK, &[&at(7)])]), &[(DESK, "bob")]);
                laptop.works().await;
                soon("sign of the desk", told.recv()).await.unwrap();
                for last in [8, 9] {
                    // Publications are a second apart at least.
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    let begun = Instant::now();
                    scene.laptop.del_address("eth0", &format!("198.51.100.{}/24", last - 1)).unwrap();
                    scene.laptop.add_address("eth0", &format!("198.51.100.{last}/24")).unwrap();
                    scene.laptop.add_route("default", Some("198.51.100.1"), "eth0", 0).unwrap();
                    laptop.own.send_replace(own(LAPTOP, &[(DESK, &[&at(last)])]));
                    let took = soon("sign of the desk", told.recv()).await.unwrap().duration_since(begun);
                    println!("moved, and found again after {took:?}, at a round trip of 20 ms to the server");
                    assert!(took < Duration::from_secs(2), "{took:?}");
                }
            });
        });
        assert!(scene.server.log().contains("<resumed"), "the session went on");
    });
}

#[test]
fn a_wrong_password_is_said_and_not_tried_often() {
    isolated_test("a_wrong_password_is_said_and_not_tried_often", || {
        let scene = Scene::new();
        on(&scene.laptop, async || {
            let login = Login { password: "wrong", ..Login::new("alice", &scene.server) };
            let mut laptop = Running::start(&login, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            let why = laptop.fails().await;
            assert_eq!(
                why,
                "The presence server does not accept the password of alice@example.org. \
                 Log in again: mast presence login alice@example.org."
            );
            // New addresses do not make it right.
            for _ in 0..20 {
                laptop.own.send_replace(own(LAPTOP, &[(DESK, &SECOND)]));
                laptop.own.send_replace(own(LAPTOP, &[(DESK, &FIRST)]));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        // Each is in the log twice.
        let tries = scene.server.log().matches("<failure").count();
        assert!((1..=4).contains(&tries), "{tries} tries in 2 s");
    });
}

#[test]
fn a_certificate_that_is_not_trusted_is_said_and_nothing_told() {
    isolated_test("a_certificate_that_is_not_trusted_is_said_and_nothing_told", || {
        let scene = Scene::new();
        for server in ["192.0.2.5", "192.0.2.5:5223"] {
            let why = on(&scene.laptop, async || {
                let login = Login { authority: None, server, ..Login::new("alice", &scene.server) };
                Running::start(&login, own(LAPTOP, &[(DESK, &FIRST)]), &[]).fails().await
            });
            let begins =
                "The presence server's certificate is not trusted for example.org (no known authority";
            assert!(why.starts_with(begins), "{why}");
        }
        assert!(!scene.server.log().contains("<auth"), "nothing of the account was told");
    });
}

#[test]
fn servers_that_are_not_there_or_keep_nothing_are_said() {
    isolated_test("servers_that_are_not_there_or_keep_nothing_are_said", || {
        let scene = Scene::without_pep();
        on(&scene.laptop, async || {
            let alice = Login::new("alice", &scene.server);
            let mut laptop = Running::start(&alice, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            let why = laptop.fails().await;
            assert!(why.contains("does not keep what accounts publish (PEP, XEP-0163)"), "{why}");
            let login = Login { server: "192.0.2.5:5555", ..alice };
            let mut laptop = Running::start(&login, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            let why = laptop.fails().await;
            assert!(why.contains("cannot be reached (connection refused)"), "{why}");
        });
    });
}

#[test]
fn a_server_that_was_gone_is_told_again_when_it_is_back() {
    isolated_test("a_server_that_was_gone_is_told_again_when_it_is_back", || {
        let mut scene = Scene::new();
        let (laptop, server) = (scene.laptop.clone(), &mut scene.server);
        on(&laptop, async || {
            let (alice, bob) = (Login::new("alice", server), Login::new("bob", server));
            let mut laptop = Running::start(&alice, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            laptop.works().await;
            let mut desk = Running::start(&bob, own(DESK, &[(LAPTOP, &[])]), &[(LAPTOP, "alice")]);
            desk.until(LAPTOP, &FIRST).await;
            server.stop().unwrap();
            let why = laptop.fails().await;
            assert!(why.contains("presence server"), "{why}");
            laptop.own.send_replace(own(LAPTOP, &[(DESK, &SECOND)]));
            tokio::time::sleep(Duration::from_secs(2)).await;
            let begun = Instant::now();
            server.resume().unwrap();
            desk.until(LAPTOP, &SECOND).await;
            laptop.works().await;
            println!("found {:?} after the server is back", begun.elapsed());
        });
    });
}

#[test]
fn a_dishonest_server_can_neither_forge_nor_bring_back_what_was() {
    isolated_test("a_dishonest_server_can_neither_forge_nor_bring_back_what_was", || {
        let mut scene = Scene::new();
        let (host, server) = (scene.laptop.clone(), &mut scene.server);
        on(&host, async || {
            let (alice, bob) = (Login::new("alice", server), Login::new("bob", server));
            let mut laptop = Running::start(&alice, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            laptop.works().await;
            let mut desk = Running::start(&bob, own(DESK, &[(LAPTOP, &[])]), &[(LAPTOP, "alice")]);
            desk.until(LAPTOP, &FIRST).await;
            let old = server.kept().unwrap();
            laptop.own.send_replace(own(LAPTOP, &[(DESK, &SECOND)]));
            desk.until(LAPTOP, &SECOND).await;
            let new = server.kept().unwrap();
            laptop.end().await;

            // As it was before; with other bytes in each box; far too long; no base64 at all.
            let with = |change: &dyn Fn(&str) -> String| {
                let changed = |text: &str| {
                    let publication = text.split('"').find(|piece| piece.len() > 1000)?;
                    Some(text.replace(publication, &change(publication)))
                };
                let items = new.iter().filter(|(path, _)| holds_items(path));
                items.filter_map(|(path, text)| Some((path.clone(), changed(text)?))).collect()
            };
            let forged = with(&|text| text.replace('k', "l").replace('B', "C"));
            let oversized = with(&|text| "QUJD".repeat(60_000) + text);
            let nonsense = with(&|text| format!("??{text}"));
            for (what, kept) in
                [("old", old), ("forged", forged), ("oversized", oversized), ("nonsense", nonsense)]
            {
                assert!(!kept.is_empty(), "{what}");
                server.change(&kept).unwrap();
                desk.fails().await;
                desk.works().await;
                desk.finds_nothing(Duration::from_secs(1)).await;
                println!("{what}: not believed");
            }
            // The desk still listens, and the laptop's number goes on after what it finds.
            server.change(&new).unwrap();
            let laptop = Running::start(&alice, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            desk.until(LAPTOP, &FIRST).await;
            laptop.end().await;
        });
    });
}

#[test]
fn a_node_that_was_made_otherwise_is_made_right() {
    isolated_test("a_node_that_was_made_otherwise_is_made_right", || {
        let mut scene = Scene::new();
        let (host, server) = (scene.laptop.clone(), &mut scene.server);
        on(&host, async || {
            let (alice, bob) = (Login::new("alice", server), Login::new("bob", server));
            let laptop = || Running::start(&alice, own(LAPTOP, &[(DESK, &FIRST)]), &[]);
            let mut first = laptop();
            first.works().await;
            first.end().await;
            let mut kept = server.kept().unwrap();
            kept.retain(|path, text| holds_items(path) && text.contains("\"open\""));
            assert!(!kept.is_empty(), "the node's settings are kept");
            kept.values_mut().for_each(|text| *text = text.replace("\"open\"", "\"whitelist\""));
            server.change(&kept).unwrap();
            let mut desk = Running::start(&bob, own(DESK, &[(LAPTOP, &[])]), &[(LAPTOP, "alice")]);
            desk.works().await;
            desk.finds_nothing(Duration::from_secs(1)).await;
            desk.end().await;
            let mut second = laptop();
            second.works().await;
            let mut desk = Running::start(&bob, own(DESK, &[(LAPTOP, &[])]), &[(LAPTOP, "alice")]);
            desk.until(LAPTOP, &FIRST).await;
        });
    });
}
