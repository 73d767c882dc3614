//! Two engines over real UDP sockets on the loopback interface.

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{Host, config, interface, loopback, pair, v4, v6};
use mast_engine::Heard;
use mast_engine::api::{Change, EngineError, InviteProblem, PeerConfig, What};
use mast_proto::{PeerKind, PeerState, Policy, Selector};

#[tokio::test]
async fn datagrams_go_both_ways() {
    let (a, b) = pair(1, 2, 1).await;
    let (sa, sb) = (a.snapshot().await, b.snapshot().await);
    assert_eq!((sa.peers[0].name.as_str(), sb.peers[0].name.as_str()), ("laptop", "gate"));
    assert_eq!(sa.peers[0].kind, Some(PeerKind::Mast));
    let (own, other) = sa.peers[0].eid_v6.unwrap();
    assert_eq!(sb.peers[0].eid_v6, Some((other, own)));
    let pair = sa.peers[0].eid_v4.unwrap();
    assert_eq!(sb.peers[0].eid_v4, Some(pair.flipped()));

    for n in 0..300_u32 {
        let (datagram, answer) = if n % 2 == 0 {
            (v6(own, other, &n.to_be_bytes()), v6(other, own, &n.to_be_bytes()))
        } else {
            (v4(pair.own, pair.other, &n.to_be_bytes()), v4(pair.other, pair.own, &n.to_be_bytes()))
        };
        a.wire.send(datagram.clone());
        assert_eq!(b.wire.receive().await, Some(datagram));
        b.wire.send(answer.clone());
        assert_eq!(a.wire.receive().await, Some(answer));
    }
    // The host's routes lead into the virtual interface.
    let network = a.wire.interface().unwrap();
    assert!(network.addresses.contains(&own.into()) && network.addresses.contains(&pair.own.into()));
    assert_eq!(network.routes.len(), 2);
}

#[tokio::test]
async fn down_and_up() {
    let (a, b) = pair(3, 4, 1).await;
    let (own, other) = a.snapshot().await.peers[0].eid_v6.unwrap();
    let before = std::time::Instant::now();
    b.engine.down().await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(250), "the leave was acknowledged");
    assert!(b.wire.interface().is_none(), "the virtual interface is gone");
    a.until("told", |s| s.peers[0].state == PeerState::Down).await;
    assert_eq!(b.snapshot().await.peers[0].state, PeerState::Down);
    b.engine.up().await.unwrap();
    a.until_connected().await;
    b.until_connected().await;
    let datagram = v6(own, other, b"again");
    a.wire.send(datagram.clone());
    assert_eq!(b.wire.receive().await, Some(datagram));
    a.engine.stop().await.unwrap();
    assert!(matches!(a.engine.snapshot().await, Err(EngineError::Stopped)));
    b.until("told", |s| s.peers[0].state == PeerState::Down).await;
}

/// A machine that was restored from a snapshot goes on from memory that somebody has used before: nothing of it is used
/// again, and the session goes on all the same.
#[tokio::test]
async fn a_copy_of_a_machine_uses_no_key_twice() {
    let (a, b) = pair(24, 25, 1).await;
    let (own, other) = a.snapshot().await.peers[0].eid_v6.unwrap();
    for life in 1..=3 {
        a.wire.uplinks().send_modify(|list| list.restored += 1);
        let mut restarts = 0;
        for _ in 0..500 {
            let told = b.recent().await;
            restarts = told.iter().filter(|h| matches!(h.what, What::Restarted)).count();
            if restarts == life {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(restarts, life, "another instance met the peer");
        let datagram = v6(own, other, &life.to_be_bytes());
        a.wire.send(datagram.clone());
        assert_eq!(b.wire.receive().await, Some(datagram));
        let answer = v6(other, own, &life.to_be_bytes());
        b.wire.send(answer.clone());
        assert_eq!(a.wire.receive().await, Some(answer));
    }
}

/// Keys grow old in sleep, though the clock does not count it.
#[tokio::test]
async fn keys_do_not_survive_a_long_sleep() {
    let (a, b) = pair(26, 27, 1).await;
    let (own, other) = a.snapshot().await.peers[0].eid_v6.unwrap();
    let first = v6(own, other, b"before");
    a.wire.send(first.clone());
    assert_eq!(b.wire.receive().await, Some(first));
    let moves = |told: &[mast_engine::api::Happening]| {
        told.iter().filter(|h| matches!(h.what, What::Moved(_))).count()
    };
    let before = moves(&a.recent().await);
    a.wire.uplinks().send_modify(|list| {
        list.asleep += Duration::from_secs(3600);
        list.resumed += 1;
    });
    for _ in 0..500 {
        if moves(&a.recent().await) > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(moves(&a.recent().await) > before, "without keys there is no path");
    let datagram = v6(own, other, b"after");
    a.wire.send(datagram.clone());
    assert_eq!(b.wire.receive().await, Some(datagram));
    let told = b.recent().await;
    assert!(!told.iter().any(|h| matches!(h.what, What::Restarted)), "it is the same instance");
}

#[tokio::test]
async fn the_engine_ends_with_its_last_handle() {
    let (a, b) = pair(22, 23, 1).await;
    drop(a.engine);
    b.until("told", |s| s.peers[0].state == PeerState::Down).await;
    assert!(a.wire.interface().is_none());
}

#[tokio::test]
async fn garbage_is_counted_and_dropped() {
    let (a, b) = pair(5, 6, 1).await;
    let (own, other) = a.snapshot().await.peers[0].eid_v6.unwrap();
    let remote = b.snapshot().await.peers[0].paths[0].remote;
    let socket = UdpSocket::bind((loopback(99, 1), 0)).unwrap();
    let mut random = 1_u64;
    let mut sent = 0;
    for first in [0_u8, 1, 2, 3, 4, 5, 0x60, 0x61, 0xff] {
        for length in [0_usize, 1, 7, 8, 31, 32, 64, 92, 148, 400, 1400] {
            let mut datagram = vec![first; length.min(1)];
            datagram.extend((1..length).map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as u8
            }));
            socket.send_to(&datagram, remote).unwrap();
            sent += 1;
        }
    }
    let counted = |s: &mast_engine::api::Snapshot| {
        ["foreign_datagram", "unknown_index", "wireguard_unknown_session", "wireguard_not_authentic"]
            .iter()
            .map(|n| Host::counter(s, n))
            .sum::<u64>()
    };
    a.until("all counted", |s| counted(s) == sent).await;
    // Still alive, and nothing got through.
    let datagram = v6(other, own, b"still here");
    b.wire.send(datagram.clone());
    assert_eq!(a.wire.receive().await, Some(datagram));
}

#[tokio::test]
async fn a_peer_cannot_forge_addresses() {
    let (a, b) = pair(7, 8, 1).await;
    let (own, other) = a.snapshot().await.peers[0].eid_v6.unwrap();
    // From the host of b, but with a source that is not b's; and to an address that is not a's.
    b.wire.send(v6("fd4d:6173:7400::1".parse().unwrap(), own, b"x"));
    a.until("spoofed", |s| Host::counter(s, "spoofed_source") == 1).await;
    b.wire.send(v6(other, "2001:db8::1".parse().unwrap(), b"x"));
    b.until("no route", |s| Host::counter(s, "no_route") == 1).await;
    b.wire.send(vec![0x60; 12]);
    b.until("malformed", |s| Host::counter(s, "host_malformed") == 1).await;
}

#[tokio::test]
async fn invites_are_refused_for_clear_reasons() {
    let (a, b) = pair(9, 10, 1).await;
    let say = |e: Result<mast_engine::NewPeer, EngineError>| match e {
        Err(EngineError::Invite { problem, inviter, .. }) => (problem, inviter),
        other => panic!("{other:?}"),
    };
    let invite = a.engine.invite(Duration::from_secs(600), None).await.unwrap().link;
    assert_eq!(say(a.engine.join(&invite, None).await).0, InviteProblem::Own);
    assert_eq!(say(b.engine.join(&invite, None).await), (InviteProblem::Known, Some("gate".into())));
    assert_eq!(say(b.engine.join("https://example.com/", None).await).0, InviteProblem::Foreign);
    let c = Host::start(11, "third", 1).await;
    assert_eq!(say(c.engine.join(&invite[..invite.len() - 3], None).await).0, InviteProblem::Damaged);
    c.engine.join(&invite, Some("router".into())).await.unwrap();
    let d = Host::start(12, "third", 1).await;
    assert_eq!(say(d.engine.join(&invite, None).await), (InviteProblem::SaidUsed, Some("gate".into())));
    let short = a.engine.invite(Duration::from_secs(1), Some("fourth".into())).await.unwrap().link;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(say(d.engine.join(&short, None).await).0, InviteProblem::Expired);
    // Two of the same name.
    let next = a.engine.invite(Duration::from_secs(600), None).await.unwrap().link;
    d.engine.join(&next, None).await.unwrap();
    let names: Vec<_> = a.snapshot().await.peers.iter().map(|p| p.name.clone()).collect();
    assert_eq!(names, ["laptop", "third", "third-2"]);
    assert_eq!(c.snapshot().await.peers[0].name, "router");
}

#[tokio::test]
async fn nobody_answers_an_invite_of_a_dead_host() {
    let a = Host::start(13, "gate", 1).await;
    let invite = a.engine.invite(Duration::from_secs(600), None).await.unwrap().link;
    a.engine.stop().await.unwrap();
    let b = Host::start(14, "laptop", 1).await;
    let Err(EngineError::Invite { problem, inviter, port }) = b.engine.join(&invite, None).await else {
        panic!()
    };
    assert_eq!((problem, inviter.as_deref()), (InviteProblem::NoAnswer, Some("gate")));
    assert!(port.is_some());
}

#[tokio::test]
async fn what_was_agreed_survives_a_restart() {
    let (a, mut b) = pair(15, 16, 1).await;
    let agreed = b.snapshot().await.peers[0].eid_v4;
    let mut kept = None;
    b.engine.stop().await.unwrap();
    while let Some(change) = b.changes.recv().await {
        if let Change::Peer(peer) = change {
            kept = Some(peer);
        }
    }
    let kept = kept.unwrap();
    assert_eq!(kept.kind, Some(PeerKind::Mast));
    assert_eq!(kept.eid_v4, agreed);
    let mut config = config(16, "laptop");
    config.peers.push(kept);
    let b = Host::start_with(16, config, 1).await;
    b.until_connected().await;
    a.until_connected().await;
    assert_eq!(b.snapshot().await.peers[0].eid_v4, agreed);
    // Removing a peer is told to it.
    b.engine.remove_peer("gate").await.unwrap();
    assert!(b.snapshot().await.peers.is_empty());
    a.until("told", |s| s.peers[0].state == PeerState::Down).await;
    assert!(matches!(b.engine.remove_peer("gate").await, Err(EngineError::NoPeer { .. })));
}

#[tokio::test]
async fn data_moves_to_another_interface() {
    let (a, b) = pair(17, 18, 2).await;
    let (own, other) = b.snapshot().await.peers[0].eid_v6.unwrap();
    let both = |s: &mast_engine::api::Snapshot| {
        let validated = s.peers[0].paths.iter().filter(|p| p.state == mast_proto::PathState::Validated);
        let mut names: Vec<_> = validated.map(|p| p.interface.clone()).collect();
        names.sort();
        names.dedup();
        names.len() == 2
    };
    b.until("two interfaces", both).await;
    b.engine
        .set_policy(Some("gate"), Policy::Pin { order: vec![Selector::parse("eth2")], fallback: true })
        .await
        .unwrap();
    let on = |name: &'static str| {
        move |s: &mast_engine::api::Snapshot| s.peers[0].paths.iter().any(|p| p.active && p.interface == name)
    };
    b.until("pinned", on("eth2")).await;
    let wrong = Policy::Pin { order: vec![Selector::parse("eth7")], fallback: false };
    let Err(EngineError::NoInterface { known, .. }) = b.engine.set_policy(None, wrong).await else {
        panic!()
    };
    assert_eq!(known, ["eth1", "eth2"]);

    let mut happenings = b.engine.happenings();
    b.interfaces.send_modify(|list| {
        list.interfaces = vec![interface(1, "eth1", loopback(18, 1))];
    });
    b.until("moved", on("eth1")).await;
    let Some(Heard::Told(happening)) = happenings.next().await else { panic!() };
    let What::Moved(moved) = happening.what else { panic!("{happening:?}") };
    let (from, to) = (moved.from.unwrap(), moved.to.unwrap());
    assert_eq!((from.interface.as_str(), to.interface.as_str()), ("eth2", "eth1"));
    assert_eq!(to.local, Some(loopback(18, 1)));
    let datagram = v6(own, other, b"over the other one");
    b.wire.send(datagram.clone());
    assert_eq!(a.wire.receive().await, Some(datagram));
    let Err(EngineError::NoPeer { .. }) = b.engine.drill("nobody").await else { panic!() };
}

#[tokio::test]
async fn asking_how_things_stand_sends_nothing_and_checking_does() {
    let (a, b) = pair(23, 24, 1).await;
    let sent = async |host: &Host| host.engine.peer("gate").await.unwrap().tx_bytes;
    // Past the age at which a check tries a path anew, and well before the next keepalive.
    b.until("an idle moment", |s| s.peers[0].last_heard.is_some_and(|ago| ago > Duration::from_millis(3500)))
        .await;
    let before = sent(&b).await;
    for _ in 0..20 {
        b.snapshot().await;
        b.engine.glance(9).await.unwrap();
        b.engine.outline().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sent(&b).await, before, "a look made a path be tried");
    b.engine.check(Some("gate")).await.unwrap();
    b.until("a probe", |s| s.peers[0].tx_bytes > before).await;
    assert!(matches!(b.engine.check(Some("nobody")).await, Err(EngineError::NoPeer { .. })));
    let Err(EngineError::NoPeer { known, .. }) = a.engine.peer("nobody").await else { panic!() };
    assert_eq!(known, ["laptop"]);
}

#[tokio::test]
async fn however_many_peers_each_is_told_of_once_and_in_order() {
    let mut config = config(25, "gateway");
    config.up = false;
    config.peers = (0..700_u16)
        .map(|number| {
            let mut key = [9; 32];
            key[1..3].copy_from_slice(&number.to_be_bytes());
            PeerConfig {
                name: format!("peer {number}"),
                public_key: mast_engine::api::public_key(&key),
                preshared_key: None,
                addresses: mast_engine::api::Addresses::default(),
                kind: None,
                disclosure: Default::default(),
                eid_v4: None,
                plain: None,
                policy: None,
                account: None,
            }
        })
        .collect();
    let names: Vec<_> = config.peers.iter().map(|peer| peer.name.clone()).collect();
    let host = Host::start_with(25, config, 1).await;
    let told = host.snapshot().await.peers;
    assert_eq!(told.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>(), names);
    assert_eq!(host.engine.peer("peer 699").await.unwrap().public_key, told[699].public_key);
}

#[tokio::test]
async fn a_drill_takes_each_path_away() {
    let (_a, b) = pair(19, 20, 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    b.until("paths", |s| {
        s.peers[0].paths.iter().filter(|p| p.state == mast_proto::PathState::Validated).count() >= 2
    })
    .await;
    let (links, mut steps) = b.engine.drill("gate").await.unwrap();
    assert!(matches!(b.engine.drill("gate").await, Err(EngineError::DrillRuns)));
    let mut seen = 0;
    while let Some(step) = steps.recv().await {
        seen += 1;
        assert!(step.sent > 100, "{step:?}");
        assert!(step.gap < Duration::from_millis(400), "{step:?}");
        assert!(step.to.is_some(), "{step:?}");
    }
    assert_eq!(seen, links);
    assert!(b.wire.receive().await.is_none(), "no reply reaches the host");
}

#[tokio::test]
async fn a_port_in_use_is_told_with_its_remedy() {
    let taken = UdpSocket::bind((loopback(21, 1), 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = config(21, "gate");
    config.port = port;
    config.up = false;
    let host = Host::start_with(21, config, 1).await;
    let Err(EngineError::NoSocket { interface, port: told, error }) = host.engine.up().await else {
        panic!()
    };
    assert_eq!((interface.as_str(), told, error.kind()), ("eth1", port, std::io::ErrorKind::AddrInUse));
    drop(taken);
    host.engine.up().await.unwrap();
}
