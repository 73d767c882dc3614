//! Invites: they can be listed and revoked, and who used one hears of it when that is kept.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Host, config};
use mast_engine::api::{Change, EngineConfig, EngineError, InviteId, InviteProblem};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn whoever_used_an_invite_hears_of_it_when_that_is_kept() {
    let config = EngineConfig { confirms: true, ..config(80, "gate") };
    let mut a = Host::start_with(80, config, 1).await;
    let b = Host::start(81, "laptop", 1).await;
    let link = a.engine.invite(LONG, None).await.unwrap().link;
    let joining = tokio::spawn({
        let (engine, link) = (b.engine.clone(), link.clone());
        async move { engine.join(&link, None).await }
    });
    // First the peer, then that the invite was used: the order in which they are kept.
    let (mut peer, mut marked) = (false, false);
    let used = loop {
        match a.changes.recv().await.unwrap() {
            Change::Peer(_) => peer = true,
            Change::Invites(invites) if invites.iter().any(|invite| invite.used) => {
                assert!(peer, "an invite that was used, and nobody who used it");
                marked = true;
            }
            Change::InviteUsed(id) => break id,
            _ => {}
        }
    };
    assert!(peer && marked);
    // The disk takes its time, and the other end asks again and again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!joining.is_finished(), "it was told before that was kept");
    a.engine.invite_kept(used).await.unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(5), joining).await.unwrap().unwrap().unwrap();
    assert_eq!(joined.name, "gate");
    b.until_connected().await;
    // Once: another is told that it was used.
    let c = Host::start(82, "thief", 1).await;
    let Err(EngineError::Invite { problem, .. }) = c.engine.join(&link, None).await else { panic!() };
    assert_eq!(problem, InviteProblem::SaidUsed);
}

#[tokio::test]
async fn an_invite_that_was_revoked_is_of_no_use() {
    let mut a = Host::start(83, "gate", 1).await;
    let b = Host::start(84, "laptop", 1).await;
    let link = a.engine.invite(LONG, Some("laptop".into())).await.unwrap().link;
    let other = a.engine.invite(LONG, None).await.unwrap().link;
    let invites = a.engine.invites().await.unwrap();
    let (id, kept) = (invites[0].id(), invites[1].id());
    assert_ne!(id, kept);
    assert_eq!(id.to_string().parse::<InviteId>().unwrap(), id);
    a.engine.revoke_invite(id).await.unwrap();
    let Err(EngineError::Invite { problem, .. }) = b.engine.join(&link, None).await else { panic!() };
    assert_eq!(problem, InviteProblem::SaidExpired);
    assert!(a.snapshot().await.peers.is_empty());
    b.engine.join(&other, None).await.unwrap();
    // A restart knows it, too.
    let mut records = Vec::new();
    while let Ok(change) = a.changes.try_recv() {
        if let Change::Invites(invites) = change {
            records = invites;
        }
    }
    assert!(records[0].revoked && !records[0].used && !records[1].revoked && records[1].used);
    a.engine.stop().await.unwrap();
    let a = Host::start_with(83, EngineConfig { invites: records, ..config(83, "gate") }, 1).await;
    assert_eq!(a.engine.invites().await.unwrap()[0].id(), id);
    assert!(b.engine.join(&link, None).await.is_err());
    let none = a.engine.revoke_invite("00000000".parse().unwrap()).await;
    assert!(matches!(none, Err(EngineError::NoInvite { id }) if id == "00000000"));
    assert!("0".parse::<InviteId>().is_err());
}

/// Who is found by an account says so in its invites, and hears of the account of who accepts one.
#[tokio::test]
async fn accounts_travel_with_an_invite_both_ways() {
    let mut a = Host::start(86, "gate", 1).await;
    let mut b = Host::start(87, "laptop", 1).await;
    a.engine.set_account(Some("alice@example.org".to_owned())).await.unwrap();
    b.engine.set_account(Some("bob@example.org".to_owned())).await.unwrap();
    let link = a.engine.invite(LONG, None).await.unwrap().link;
    b.engine.join(&link, None).await.unwrap();
    for (host, account) in [(&mut a, "bob@example.org"), (&mut b, "alice@example.org")] {
        loop {
            if let Change::Peer(peer) = host.changes.recv().await.unwrap() {
                assert_eq!(peer.account.as_deref(), Some(account));
                break;
            }
        }
    }
    b.engine.set_peer_account("gate", None).await.unwrap();
    loop {
        if let Change::Peer(peer) = b.changes.recv().await.unwrap()
            && peer.account.is_none()
        {
            break;
        }
    }
    assert!(matches!(b.engine.set_peer_account("nobody", None).await, Err(EngineError::NoPeer { .. })));
}
