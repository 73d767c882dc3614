//! Addresses of peers come from sources, each of which replaces its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Host, config, loopback, pair, v6};
use mast_engine::api::{AddressSource, Addresses, Change, PeerConfig, What, public_key};
use mast_proto::{PeerKind, PeerState};

fn peer(name: &str, key: u8, addresses: Addresses) -> PeerConfig {
    PeerConfig {
        name: name.into(),
        public_key: public_key(&[key; 32]),
        preshared_key: None,
        addresses,
        kind: Some(PeerKind::Mast),
        disclosure: Default::default(),
        eid_v4: None,
        plain: None,
        policy: None,
        account: None,
    }
}

/// Addresses at which nobody is.
fn nobody(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|n| (loopback(250, n), 9).into()).collect()
}

/// The UDP port of a host, as another knows it from its invite.
async fn port(host: &Host) -> u16 {
    let link = host.engine.invite(Duration::from_secs(600), None).await.unwrap().link;
    let probe = Host::start(249, "probe", 1).await;
    probe.engine.join(&link, None).await.unwrap();
    let remote = probe.until_connected().await.peers[0].paths[0].remote;
    probe.engine.stop().await.unwrap();
    remote.port()
}

#[tokio::test]
async fn a_connection_does_not_notice_that_a_name_leads_elsewhere() {
    let (mut a, b) = pair(31, 32, 1).await;
    let before = a.snapshot().await.peers.remove(0);
    let name = before.name.clone();
    while a.changes.try_recv().is_ok() {}
    for list in [nobody(40), nobody(1), vec![], nobody(3)] {
        a.engine.set_addresses(&name, AddressSource::Dns, list).await.unwrap();
        let (own, other) = before.eid_v6.unwrap();
        let datagram = v6(own, other, b"x");
        a.wire.send(datagram.clone());
        assert_eq!(b.wire.receive().await, Some(datagram));
    }
    let after = a.snapshot().await.peers.remove(0);
    assert_eq!((after.state, after.eid_v4), (PeerState::Connected, before.eid_v4));
    while let Ok(change) = a.changes.try_recv() {
        assert!(matches!(change, Change::Peer(_)), "{change:?}");
    }
    let left = |what: &What| matches!(what, What::PeerOff | What::RemovedByPeer);
    assert!(!b.recent().await.iter().any(|h| left(&h.what)), "{:?}", b.recent().await);
    assert!(a.engine.set_addresses(&name, AddressSource::Set, nobody(1)).await.is_err());
    assert!(a.engine.set_addresses("nobody", AddressSource::Dns, vec![]).await.is_err());
}

#[tokio::test]
async fn a_peer_is_found_by_any_source_and_kept_when_that_withdraws() {
    let a = Host::start(33, "gate", 1).await;
    let port = port(&a).await;
    let right: SocketAddr = (loopback(33, 1), port).into();
    let mut settings = config(34, "laptop");
    settings.peers = vec![peer("gate", 33, Addresses::of(AddressSource::Configuration, nobody(2)))];
    let mut b = Host::start_with(34, settings, 1).await;
    a.engine.add_peer(peer("laptop", 34, Addresses::default())).await.unwrap();
    assert_ne!(b.snapshot().await.peers[0].state, PeerState::Connected);
    // A name with forty addresses does not keep it from being found by another source.
    b.engine.set_addresses("gate", AddressSource::Dns, nobody(40)).await.unwrap();
    b.engine.set_addresses("gate", AddressSource::Lan, vec![right]).await.unwrap();
    b.until_connected().await;
    b.engine.set_addresses("gate", AddressSource::Lan, vec![]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(b.snapshot().await.peers[0].state, PeerState::Connected, "a path that carries goes on");
    // What answered is what the next run begins with, beside what each source says.
    let mut kept = None;
    while let Ok(change) = b.changes.try_recv() {
        if let Change::Peer(peer) = change {
            kept = Some(peer.addresses);
        }
    }
    let kept = kept.unwrap();
    assert_eq!(kept.get(AddressSource::EarlierRun), [right]);
    assert_eq!(kept.get(AddressSource::Configuration), nobody(2));
    assert_eq!((kept.get(AddressSource::Dns).len(), kept.get(AddressSource::Lan)), (40, &[][..]));
}

#[tokio::test]
async fn what_is_withdrawn_is_not_tried_any_more() {
    let mut settings = config(35, "laptop");
    settings.peers = vec![peer("gate", 36, Addresses::of(AddressSource::Dns, nobody(3)))];
    let b = Host::start_with(35, settings, 1).await;
    let paths = |host: Host| async move {
        let remotes = host.snapshot().await.peers[0].paths.iter().map(|p| p.remote).collect::<Vec<_>>();
        (host, remotes)
    };
    let (b, tried) = paths(b).await;
    assert_eq!(tried.len(), 3);
    b.engine.set_addresses("gate", AddressSource::Dns, nobody(1)).await.unwrap();
    let (b, tried) = paths(b).await;
    assert_eq!(tried, nobody(1));
    // Also while MAST is down.
    b.engine.down().await.unwrap();
    b.engine.set_addresses("gate", AddressSource::Dns, vec![]).await.unwrap();
    b.engine.set_addresses("gate", AddressSource::Configuration, nobody(2)[1..].to_vec()).await.unwrap();
    b.engine.up().await.unwrap();
    let (_, tried) = paths(b).await;
    assert_eq!(tried, nobody(2)[1..]);
}
