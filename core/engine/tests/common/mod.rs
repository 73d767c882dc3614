//! Hosts on a fake operating system.

#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mast_conformance::fake::FakeSystem;
#[allow(unused_imports, reason = "not every test needs all of it")]
pub use mast_conformance::fake::{v4, v6};
use mast_engine::api::{Change, EngineConfig, Happening, Snapshot};
use mast_engine::os::InterfaceList;
use mast_engine::{Engine, EngineHandle};
use mast_proto::{EidPool, Interface, PeerState, Policy};
use tokio::sync::{mpsc, watch};

/// A host: its engine, its virtual interface, its interfaces.
pub struct Host {
    pub engine: EngineHandle,
    pub wire: FakeSystem,
    pub interfaces: watch::Sender<InterfaceList>,
    pub changes: mpsc::UnboundedReceiver<Change>,
    pub port: u16,
}

pub fn interface(id: u32, name: &str, address: IpAddr) -> Interface {
    mast_conformance::fake::uplink(id, name, &[address])
}

/// An address of this machine alone: of 127.0.0.0/8, or of the IPv6 network that `MAST_LOOPBACK` names. There must be one
/// where the system has not every address of 127.0.0.0/8 a socket of its own, as under wine.
pub fn loopback(host: u8, interface: u8) -> IpAddr {
    match std::env::var("MAST_LOOPBACK") {
        Ok(network) => format!("{network}{host:x}:{interface:x}").parse().unwrap(),
        Err(_) => Ipv4Addr::new(127, 77, host, interface).into(),
    }
}

pub fn config(key: u8, name: &str) -> EngineConfig {
    EngineConfig {
        private_key: zeroize::Zeroizing::new([key; 32]),
        name: name.into(),
        port: 0,
        tun_name: "mast0".into(),
        mtu: 1280,
        pool: EidPool::default(),
        policy: Policy::Auto,
        peers: vec![],
        invites: vec![],
        choices: Default::default(),
        protect: false,
        local_network: true,
        up: true,
        relays: false,
        confirms: false,
    }
}

impl Host {
    /// A host with so many interfaces, called eth1, eth2, …
    pub async fn start(number: u8, name: &str, interfaces: u8) -> Self {
        Self::start_with(number, config(number, name), interfaces).await
    }

    pub async fn start_with(number: u8, config: EngineConfig, interfaces: u8) -> Self {
        let list =
            (1..=interfaces).map(|i| interface(i.into(), &format!("eth{i}"), loopback(number, i))).collect();
        let wire = FakeSystem::new(list);
        let (engine, changes) = Engine::start(wire.clone(), config).await.unwrap();
        let interfaces = wire.uplinks().clone();
        Self { engine, wire, interfaces, changes, port: 0 }
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.engine.snapshot().await.unwrap()
    }

    /// Waits up to ten seconds for something to be true of the snapshot.
    pub async fn until(&self, what: &str, test: impl Fn(&Snapshot) -> bool) -> Snapshot {
        for _ in 0..1000 {
            let snapshot = self.snapshot().await;
            if test(&snapshot) {
                return snapshot;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}\n{:#?}\n{:#?}", self.snapshot().await, self.recent().await);
    }

    pub async fn recent(&self) -> Vec<Happening> {
        self.engine.recent().await.unwrap()
    }

    pub async fn until_connected(&self) -> Snapshot {
        self.until("connected", |s| {
            s.peers.iter().any(|p| p.state == PeerState::Connected && p.eid_v4.is_some())
        })
        .await
    }

    pub fn counter(snapshot: &Snapshot, name: &str) -> u64 {
        snapshot.counters.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count)
    }
}

/// Two hosts that are peers by an invite.
pub async fn pair(first: u8, second: u8, interfaces: u8) -> (Host, Host) {
    let a = Host::start(first, "gate", interfaces).await;
    let b = Host::start(second, "laptop", interfaces).await;
    let invite = a.engine.invite(Duration::from_secs(600), None).await.unwrap();
    let peer = b.engine.join(&invite.link, None).await.unwrap();
    assert_eq!(peer.name, "gate");
    a.until_connected().await;
    b.until_connected().await;
    (a, b)
}
