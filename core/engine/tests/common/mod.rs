//! A fake operating system: loopback addresses for interfaces, channels for the virtual interface.

#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mast_engine::api::{Change, EngineConfig, Happening, Snapshot};
use mast_engine::os::{Family, InterfaceList, Offload, Offloads, PlainUdp, Platform, Tun, VirtualNetwork};
use mast_engine::{Engine, EngineHandle};
use mast_proto::{EidPool, Interface, InterfaceId, InterfaceKind, PeerState, Policy};
use tokio::sync::{Notify, mpsc, watch};

/// Both ends of a virtual interface.
#[derive(Default)]
pub struct Wire {
    to_engine: Mutex<VecDeque<Vec<u8>>>,
    ready: Notify,
    from_engine: Mutex<VecDeque<Vec<u8>>>,
    arrived: Notify,
    pub network: Mutex<VirtualNetwork>,
    pub present: Mutex<bool>,
}

impl Wire {
    /// The host sends.
    pub fn send(&self, datagram: Vec<u8>) {
        self.to_engine.lock().unwrap().push_back(datagram);
        self.ready.notify_one();
    }

    /// The host receives, within two seconds.
    pub async fn receive(&self) -> Option<Vec<u8>> {
        let wait = async {
            loop {
                if let Some(datagram) = self.from_engine.lock().unwrap().pop_front() {
                    return datagram;
                }
                self.arrived.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), wait).await.ok()
    }
}

pub struct FakeTun(Arc<Wire>);

impl Drop for FakeTun {
    fn drop(&mut self) {
        *self.0.present.lock().unwrap() = false;
    }
}

impl Tun for FakeTun {
    fn name(&self) -> &str {
        "mast0"
    }

    async fn readable(&self) -> io::Result<()> {
        while self.0.to_engine.lock().unwrap().is_empty() {
            self.0.ready.notified().await;
        }
        Ok(())
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let datagram = self.0.to_engine.lock().unwrap().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok((datagram.len(), Offload::default()))
    }

    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        assert_eq!(offload, Offload::default());
        let datagram: Vec<u8> = parts.iter().flat_map(|p| p.iter().copied()).collect();
        // A host that answers echo requests.
        if datagram.len() >= 48 && datagram[0] >> 4 == 6 && datagram[6] == 58 && datagram[40] == 128 {
            let mut reply = datagram.to_vec();
            reply[40] = 129;
            let (source, destination) = (datagram[8..24].to_vec(), datagram[24..40].to_vec());
            reply[8..24].copy_from_slice(&destination);
            reply[24..40].copy_from_slice(&source);
            self.0.to_engine.lock().unwrap().push_back(reply);
            self.0.ready.notify_one();
            return Ok(());
        }
        self.0.from_engine.lock().unwrap().push_back(datagram);
        self.0.arrived.notify_one();
        Ok(())
    }

    async fn configure(&self, network: &VirtualNetwork) -> io::Result<()> {
        *self.0.network.lock().unwrap() = network.clone();
        Ok(())
    }
}

pub struct FakePlatform {
    pub wire: Arc<Wire>,
    pub interfaces: watch::Receiver<InterfaceList>,
}

impl Platform for FakePlatform {
    type Tun = FakeTun;
    type Udp = PlainUdp;

    fn create_tun(&self, _: &str, _: u16) -> io::Result<FakeTun> {
        *self.wire.present.lock().unwrap() = true;
        Ok(FakeTun(Arc::clone(&self.wire)))
    }

    /// Bound to the interface's first address, which is what tells the interfaces of a loopback apart.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<PlainUdp> {
        let ip =
            interface.addresses.iter().find(|a| Family::of(**a) == family).ok_or(io::ErrorKind::NotFound)?;
        let socket = UdpSocket::bind((*ip, port))?;
        socket.set_nonblocking(true)?;
        PlainUdp::new(socket)
    }

    fn watch_interfaces(&self, _: &str) -> io::Result<watch::Receiver<InterfaceList>> {
        Ok(self.interfaces.clone())
    }
}

/// A host: its engine, its virtual interface, its interfaces.
pub struct Host {
    pub engine: EngineHandle,
    pub wire: Arc<Wire>,
    pub interfaces: watch::Sender<InterfaceList>,
    pub changes: mpsc::UnboundedReceiver<Change>,
    pub port: u16,
}

pub fn interface(id: u32, name: &str, address: IpAddr) -> Interface {
    Interface {
        id: InterfaceId(id),
        name: name.into(),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: vec![address],
        usable: true,
    }
}

/// An address of the loopback network.
pub fn loopback(host: u8, interface: u8) -> IpAddr {
    Ipv4Addr::new(127, 77, host, interface).into()
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
        up: true,
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
        let (sender, receiver) =
            watch::channel(InterfaceList { interfaces: list, routes_changed: 0, resumed: 0 });
        let wire = Arc::new(Wire::default());
        let platform = FakePlatform { wire: Arc::clone(&wire), interfaces: receiver };
        let (engine, changes) = Engine::start(platform, config).await.unwrap();
        Self { engine, wire, interfaces: sender, changes, port: 0 }
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

/// A UDP datagram over IPv6; its payload is all that differs.
pub fn v6(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len() as u16 + 8).to_be_bytes());
    out.extend([17, 64]);
    out.extend(source.octets());
    out.extend(destination.octets());
    out.extend([0x10, 0, 0x20, 0]);
    out.extend((payload.len() as u16 + 8).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

/// The same over IPv4.
pub fn v4(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x45, 0];
    out.extend((payload.len() as u16 + 28).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    out.extend(source.octets());
    out.extend(destination.octets());
    out.extend([0x10, 0, 0x20, 0]);
    out.extend((payload.len() as u16 + 8).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}
