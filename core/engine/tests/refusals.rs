//! A system that refuses one call after another: a clear error each time, nothing half-applied, and the engine goes on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Host, config, interface, loopback};
use mast_conformance::fake::FakeSystem;
use mast_engine::api::{EngineConfig, PeerConfig, PlainPeer};
use mast_engine::os::{Family, Prefix};
use mast_engine::{Engine, EngineHandle};
use mast_proto::PeerKind;

/// More calls than anything here makes.
const MANY: usize = 60;

fn range(address: &str, length: u8) -> Prefix {
    Prefix { address: address.parse().unwrap(), length }
}

/// A host with a plain WireGuard peer to which everything goes, protected.
fn full_tunnel(number: u8) -> EngineConfig {
    let mut config = config(number, "laptop");
    config.protect = true;
    config.peers = vec![PeerConfig {
        name: "server".into(),
        public_key: mast_engine::api::public_key(&[99; 32]),
        preshared_key: None,
        addresses: mast_engine::api::Addresses::default(),
        kind: Some(PeerKind::WireGuard),
        disclosure: mast_proto::Disclosure::WIREGUARD,
        eid_v4: None,
        plain: Some(PlainPeer {
            addresses: vec![range("10.8.0.2", 32), range("fd08::2", 128)],
            allowed: vec![range("0.0.0.0", 0), range("::", 0)],
            ..PlainPeer::default()
        }),
        policy: None,
        account: None,
    }];
    config
}

fn system(number: u8) -> FakeSystem {
    FakeSystem::new(vec![
        interface(1, "eth1", loopback(number, 1)),
        interface(2, "eth2", loopback(number, 2)),
    ])
}

/// Waits until all that is declared is there.
async fn whole(system: &FakeSystem, what: &str) {
    for _ in 0..1000 {
        let there = system.interface().unwrap_or_default();
        if there.addresses.len() == 2
            && there.routes.len() == 2
            && system.protection() == [Family::V4, Family::V6].into()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never whole again after: {what}\n{:?} {:?}", system.interface(), system.protection());
}

/// What is there fits together: no route prefers an address that is missing.
fn consistent(system: &FakeSystem, what: &str) {
    let there = system.interface().unwrap_or_default();
    for source in there.routes.values().flatten() {
        assert!(there.addresses.contains(source), "{what}: {there:?}");
    }
}

/// The reason is told to the user, in the words of the system.
async fn told(engine: &EngineHandle, what: &str) {
    for _ in 0..300 {
        if engine.recent().await.unwrap().iter().any(|h| format!("{:?}", h.what).contains("the fake refuses"))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody was told of: {what}; {:?}", engine.recent().await.unwrap());
}

/// One story for each number: start, down, up; the call of that number is refused once. False when none was left.
async fn story(number: usize) -> bool {
    let host = 100 + number as u8;
    let system = system(host);
    system.refuse_call(number);
    let engine = match Engine::start(system.clone(), full_tunnel(host)).await {
        Ok((engine, changes)) => {
            // They are kept by nobody.
            tokio::spawn(async move {
                let mut changes = changes;
                while changes.recv().await.is_some() {}
            });
            engine
        }
        Err(error) => {
            assert!(error.to_string().contains("the fake refuses"), "{error}");
            assert_eq!(system.interface(), None, "nothing is left of {:?}", system.refused());
            return true;
        }
    };
    if let Some(refused) = system.refused() {
        consistent(&system, &refused);
        told(&engine, &refused).await;
        whole(&system, &refused).await;
        return true;
    }
    whole(&system, "the start").await;
    assert!(engine.applied().await.is_ok());
    engine.down().await.unwrap();
    let unprotected = engine.applied().await;
    assert_eq!(system.interface(), None);
    if let Some(refused) = system.refused() {
        if refused.contains("answers") {
            assert!(unprotected.is_ok(), "it keeps nobody from the world");
        } else {
            let error = unprotected.unwrap_err();
            assert!(error.to_string().contains("the fake refuses"), "{refused}: {error}");
        }
        told(&engine, &refused).await;
        while !system.protection().is_empty() || system.answers().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        return true;
    }
    assert!(system.protection().is_empty());
    if let Err(error) = engine.up().await {
        assert!(error.to_string().contains("the fake refuses"), "{error}");
        assert_eq!(system.interface(), None, "nothing is left of {:?}", system.refused());
        engine.up().await.unwrap();
        whole(&system, "up").await;
        return true;
    }
    let Some(refused) = system.refused() else { return false };
    consistent(&system, &refused);
    told(&engine, &refused).await;
    whole(&system, &refused).await;
    true
}

#[tokio::test]
async fn every_call_in_turn() {
    let stories: Vec<_> = (0..MANY).map(|number| tokio::spawn(story(number))).collect();
    let mut refused = 0;
    for story in stories {
        refused += usize::from(story.await.unwrap());
    }
    assert!((20..MANY).contains(&refused), "{refused}");
}

#[tokio::test]
async fn ipv6_refused_leaves_ipv4_and_one_note() {
    use mast_conformance::World;
    let system = system(200);
    system.refuse_v6("", true);
    let (engine, _changes) = Engine::start(system.clone(), full_tunnel(200)).await.unwrap();
    let there = system.interface().unwrap();
    assert_eq!(there.addresses, ["10.8.0.2".parse().unwrap()].into());
    assert_eq!(there.routes.keys().copied().collect::<Vec<_>>(), [range("0.0.0.0", 0)]);
    assert_eq!(system.protection(), [Family::V4, Family::V6].into(), "no way around the tunnel");
    let notes: Vec<_> = engine
        .recent()
        .await
        .unwrap()
        .into_iter()
        .filter(|h| format!("{:?}", h.what).contains("IPv6"))
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(engine.applied().await.is_ok(), "what was asked for is done as far as can be");
    system.refuse_v6("", false);
    whole(&system, "IPv6 was refused").await;
}

#[tokio::test]
async fn what_others_take_is_set_again_at_once() {
    use mast_conformance::World;
    let host = Host::start_with(201, full_tunnel(201), 1).await;
    whole(&host.wire, "the start").await;
    let before = host.wire.interface();
    host.wire.take_address("", "10.8.0.2".parse().unwrap());
    host.wire.take_route("", range("::", 0));
    whole(&host.wire, "somebody took something").await;
    assert_eq!(host.wire.interface(), before);
    let answers = host.wire.answers().unwrap();
    assert!(answers.covered && answers.port != 0 && answers.uplinks.len() == 1, "{answers:?}");
    host.wire.unplug(&answers.uplinks.values().next().unwrap().clone());
    whole(&host.wire, "an uplink went").await;
    let gone = || host.wire.answers().is_some_and(|a| a.uplinks.is_empty());
    for _ in 0..200 {
        if gone() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(gone(), "answers come by the uplinks that there are");
    // When the service ends, protection stays, and is taken over by the next.
    host.engine.stop().await.unwrap();
    assert_eq!((host.wire.interface(), host.wire.answers()), (None, None));
    assert_eq!(host.wire.protection(), [Family::V4, Family::V6].into());
    let mut off = config(201, "laptop");
    off.up = false;
    let (engine, _changes) = Engine::start(host.wire.clone(), off).await.unwrap();
    engine.applied().await.unwrap();
    assert!(host.wire.protection().is_empty());
}

#[tokio::test]
async fn a_lost_interface_is_made_again_beside_the_traffic() {
    let host = Host::start_with(202, full_tunnel(202), 1).await;
    whole(&host.wire, "the start").await;
    host.wire.lose_tun();
    while host.wire.interface().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(host.wire.protection(), [Family::V4, Family::V6].into(), "nothing leaks meanwhile");
    host.engine.applied().await.unwrap();
    host.wire.refuse_call(0);
    told(&host.engine, "making the interface").await;
    assert!(host.wire.refused().unwrap().contains("make the virtual interface"), "{:?}", host.wire.refused());
    assert!(host.snapshot().await.up, "the engine goes on");
    whole(&host.wire, "the interface was lost").await;
    assert_eq!(host.wire.protection(), [Family::V4, Family::V6].into());
}

/// What the snapshot says of the only peer: what is missing, and whether that leaves the full tunnel open.
async fn standing(engine: &EngineHandle) -> (Vec<String>, bool) {
    let peer = engine.peer("server").await.unwrap();
    (peer.troubles, peer.partial)
}

/// Waits until the peer's standing is so.
async fn stands(engine: &EngineHandle, what: &str, wanted: impl Fn(&[String], bool) -> bool) {
    for _ in 0..400 {
        let (troubles, partial) = standing(engine).await;
        if wanted(&troubles, partial) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: {:?}", standing(engine).await);
}

#[tokio::test]
async fn a_full_tunnel_that_is_not_in_force_is_known() {
    use mast_conformance::World;
    for (number, family, any) in [(203, Family::V4, "0.0.0.0"), (204, Family::V6, "::")] {
        let host = Host::start_with(number, full_tunnel(number), 1).await;
        let engine = &host.engine;
        whole(&host.wire, "the start").await;
        stands(engine, "nothing is wrong", |troubles, partial| troubles.is_empty() && !partial).await;
        // Rules of another program come first.
        host.wire.overrule(Some((family, "what goes anywhere leaves over `other`".into())));
        stands(engine, "overruled", |troubles, partial| partial && troubles[0].contains("`other`")).await;
        assert!(engine.snapshot().await.unwrap().refused[0].contains("`other`"));
        host.wire.overrule(None);
        stands(engine, "no more", |troubles, partial| troubles.is_empty() && !partial).await;
        // A route that cannot be had while another has it, and is had when that goes.
        host.wire.occupy(range(any, 0));
        host.wire.take_route("", range(any, 0));
        stands(engine, "occupied", |troubles, partial| partial && troubles[0].contains(any)).await;
        host.wire.vacate(range(any, 0));
        stands(engine, "vacated", |troubles, partial| troubles.is_empty() && !partial).await;
        whole(&host.wire, "all is over").await;
    }
}

#[tokio::test]
async fn who_fights_over_it_is_told_of_twice_and_does_not_keep_the_machine_busy() {
    use mast_conformance::World;
    let host = Host::start_with(205, full_tunnel(205), 1).await;
    whole(&host.wire, "the start").await;
    let begun = std::time::Instant::now();
    let mut taken = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        if host.wire.interface().is_some_and(|i| i.routes.len() == 2) {
            host.wire.take_route("", range("::", 0));
            taken += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told: Vec<_> = host.engine.recent().await.unwrap();
    let told = told.iter().filter(|h| format!("{:?}", h.what).contains("PutBack")).count();
    assert_eq!(told, 2);
    assert!((3..8).contains(&taken), "{taken}");
    let (troubles, partial) = standing(&host.engine).await;
    assert!(partial && troubles.iter().any(|t| t.contains("another program keeps")), "{troubles:?}");
    whole(&host.wire, "the other program has ended").await;
}

#[tokio::test]
async fn a_peer_gives_way_to_the_networks_own_gateway() {
    use std::sync::Arc;
    let pair = mast_proto::wire::EidPair {
        own: "100.64.0.8".parse().unwrap(),
        other: "100.64.0.9".parse().unwrap(),
    };
    let mut config = full_tunnel(206);
    config.protect = false;
    config.peers[0].plain = None;
    config.peers[0].kind = Some(PeerKind::Mast);
    config.peers[0].disclosure = mast_proto::Disclosure::default();
    config.peers[0].eid_v4 = Some(pair);
    let host = Host::start_with(206, config, 1).await;
    let routed = || host.wire.interface().is_some_and(|i| i.routes.contains_key(&range("100.64.0.9", 32)));
    let addressed = || host.wire.interface().is_some_and(|i| i.addresses.contains(&pair.own.into()));
    stands(&host.engine, "the start", |troubles, _| troubles.is_empty() && routed() && addressed()).await;
    let occupied = |all: &[(Prefix, &str)]| {
        let all = all.iter().map(|(prefix, what)| (*prefix, (*what).to_owned())).collect();
        host.wire.uplinks().send_modify(|list| list.occupied = Arc::new(all));
    };
    // So wide that nobody can tell; then the gateway itself, and this host's own address there.
    occupied(&[(range("100.64.0.0", 10), "in the network of wwan0")]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(routed());
    for address in ["100.64.0.9", "100.64.0.8"] {
        occupied(&[(range(address, 32), "the gateway of wwan0")]);
        let told = |t: &[String], partial: bool| {
            !partial && t.len() == 1 && t[0].contains(&format!("{address} is the gateway of wwan0"))
        };
        stands(&host.engine, address, |t, partial| told(t, partial) && !routed() && !addressed()).await;
        assert!(
            host.wire.interface().unwrap().routes.keys().any(|p| p.address.is_ipv6()),
            "by IPv6 it is reached"
        );
        occupied(&[]);
        stands(&host.engine, "elsewhere", |troubles, _| troubles.is_empty() && routed() && addressed()).await;
    }
}
