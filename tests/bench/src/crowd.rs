//! Many peers of one gateway in one process: real engines with real sockets, each with a virtual interface that
//! carries nothing.

use std::future::pending;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mast_engine::api::{
    AddressSource, Addresses, Change, EngineConfig, Happening, PeerConfig, PublicKey, What, public_key,
};
use mast_engine::declared::{Host as Settings, Present, Step};
use mast_engine::os::{Family, InterfaceList, Offload, Offloads, PlainUdp, Platform, Tun, TunWish};
use mast_engine::{Engine, Heard};
use mast_netlab::Host;
use mast_proto::{EidPool, Interface, InterfaceId, InterfaceKind, PeerKind, Policy, Random};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{Result, io as system};

/// Addresses of the host that the peers share: a gateway answers only so many handshakes a second from one address
/// without asking it to prove itself.
pub const ADDRESSES: usize = 200;
const NAME: &str = "eth0";

/// The address that a peer sends from.
pub fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 1, (at % ADDRESSES) as u8 + 1)
}

/// The private key of a peer, always the same.
fn private_key(at: usize) -> [u8; 32] {
    let mut seed = *b"a peer in a crowd, for benchmark";
    seed[..8].copy_from_slice(&(at as u64).to_be_bytes());
    Random::new(seed).bytes()
}

/// The public key of a peer.
pub fn key(at: usize) -> PublicKey {
    public_key(&private_key(at))
}

struct NoTun;

impl Tun for NoTun {
    fn name(&self) -> &str {
        "none"
    }

    async fn readable(&self) -> io::Result<()> {
        pending().await
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn try_recv(&self, _: &mut [u8]) -> io::Result<(usize, Offload)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_send(&self, _: &[IoSlice<'_>], _: Offload) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing is set for what carries nothing.
struct NoSettings;

impl Settings for NoSettings {
    fn present(&mut self, _: Option<&str>) -> io::Result<Present> {
        Ok(Present::default())
    }

    fn take(&mut self, _: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
        steps.iter().map(|_| Ok(())).collect()
    }
}

struct OneSocket(watch::Receiver<InterfaceList>);

impl Platform for OneSocket {
    type Tun = NoTun;
    type Udp = PlainUdp;
    type Host = NoSettings;

    async fn create_tun(&self, _: &TunWish) -> io::Result<NoTun> {
        Ok(NoTun)
    }

    fn host(&self) -> io::Result<NoSettings> {
        Ok(NoSettings)
    }

    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<PlainUdp> {
        let ip = interface.addresses.iter().find(|a| Family::of(**a) == family);
        let socket = UdpSocket::bind((*ip.ok_or(io::ErrorKind::NotFound)?, port))?;
        socket.set_nonblocking(true)?;
        PlainUdp::new(socket)
    }

    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        Ok(self.0.clone())
    }
}

/// What the peers have seen so far.
#[derive(Debug, Default)]
struct Seen {
    started: AtomicUsize,
    connected: AtomicUsize,
    renewed: AtomicUsize,
    stop: AtomicBool,
}

/// Peers of a gateway. Dropping it ends them.
pub struct Crowd {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Starts so many peers on a host that has their addresses; each makes first contact at once.
    pub fn start(host: &Host, count: usize, gateway: PublicKey, at: SocketAddr) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let (host, shared) = (host.clone(), Arc::clone(&seen));
        let live = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(&shared, count, gateway, at)),
                Err(error) => eprintln!("scale: cannot start a runtime: {error}"),
            }
        };
        let thread = thread::Builder::new()
            .spawn(move || {
                if let Err(error) = host.run(live) {
                    eprintln!("scale: {error}");
                }
            })
            .map_err(system("start a thread"))?;
        Ok(Self { seen, thread: Some(thread) })
    }

    /// How many have started.
    pub fn started(&self) -> usize {
        self.seen.started.load(Ordering::Relaxed)
    }

    /// How many have agreed on a context with the gateway.
    pub fn connected(&self) -> usize {
        self.seen.connected.load(Ordering::Relaxed)
    }

    /// How many have agreed on another with it after it started anew.
    pub fn renewed(&self) -> usize {
        self.seen.renewed.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(seen: &Arc<Seen>, count: usize, gateway: PublicKey, at: SocketAddr) {
    let mut handles = Vec::with_capacity(count);
    let mut watches = Vec::with_capacity(count);
    for peer in 0..count {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        let interface = Interface {
            id: InterfaceId(1),
            name: NAME.into(),
            kind: InterfaceKind::Ethernet,
            network: None,
            metered: false,
            addresses: vec![IpAddr::V4(address(peer))],
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        };
        let list = InterfaceList { interfaces: vec![interface], ..InterfaceList::default() };
        let (sender, interfaces) = watch::channel(list);
        watches.push(sender);
        match Engine::start(OneSocket(interfaces), config(peer, gateway, at)).await {
            Ok((handle, mut changes)) => {
                let mut happenings = handle.happenings();
                let told = Arc::clone(seen);
                tokio::spawn(async move {
                    while let Some(change) = changes.recv().await {
                        // It is kept when the other end has answered.
                        if matches!(change, Change::Peer(peer) if peer.eid_v4.is_some()) {
                            told.connected.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    }
                    while let Some(heard) = happenings.next().await {
                        if matches!(heard, Heard::Told(Happening { what: What::Restarted, .. })) {
                            told.renewed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
                handles.push(handle);
                seen.started.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                eprintln!("scale: peer {peer} does not start: {error}");
                return;
            }
        }
        // Those that run already have their turn.
        tokio::task::yield_now().await;
    }
    while !seen.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn config(at: usize, gateway: PublicKey, address: SocketAddr) -> EngineConfig {
    EngineConfig {
        private_key: Zeroizing::new(private_key(at)),
        name: format!("peer{at}"),
        port: 0,
        tun_name: "none".into(),
        mtu: 1400,
        pool: EidPool::default(),
        policy: Policy::Auto,
        peers: vec![PeerConfig {
            name: "gateway".into(),
            public_key: gateway,
            preshared_key: None,
            addresses: Addresses::of(AddressSource::Configuration, [address]),
            kind: Some(PeerKind::Mast),
            disclosure: Default::default(),
            eid_v4: None,
            plain: None,
            policy: None,
            account: None,
        }],
        invites: vec![],
        choices: std::collections::BTreeMap::new(),
        protect: false,
        local_network: true,
        up: true,
        relays: false,
        confirms: false,
    }
}
