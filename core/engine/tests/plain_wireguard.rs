//! An engine and a peer that speaks WireGuard and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Host, config, loopback, v4};
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519::{PublicKey, StaticSecret};
use mast_engine::Disclose;
use mast_engine::api::{AddressSource, Addresses, EngineError, PeerConfig, PlainPeer};
use mast_engine::os::Prefix;
use mast_proto::wire::{Capabilities, Init, Message};
use mast_proto::{PeerKind, PeerState, Policy, Selector};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const PSK: [u8; 32] = [77; 32];

/// A WireGuard server that sends every IPv4 datagram back to where it came from, and drops the rest.
struct Server {
    at: SocketAddr,
    key: [u8; 32],
    handshakes: Arc<AtomicU32>,
    /// What came from inside the session.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    fn start(address: IpAddr, peer: &[u8; 32]) -> Self {
        Self::asking(address, peer, None)
    }

    /// One that says this in each session, as often as it hears something.
    fn asking(address: IpAddr, peer: &[u8; 32], asks: Option<Vec<u8>>) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        let private = StaticSecret::from([200; 32]);
        let public = PublicKey::from(&private);
        let limiter = Arc::new(RateLimiter::new(&public, 100));
        let table = IndexTable::from_os_rng();
        let mut tunn =
            Tunn::new(private, PublicKey::from(*peer), Some(PSK), None, table, Arc::clone(&limiter));
        let handshakes = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&handshakes);
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let log = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let Ok(message) = limiter.verify_packet(from, Packet::copy_from(&buffer[..length])) else {
                    continue;
                };
                if matches!(message, WgKind::HandshakeInit(_)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let is_data = matches!(message, WgKind::Data(_));
                let result = tunn.handle_incoming_packet(message);
                if let TunnResult::WriteToTunnel(inner) = &result {
                    log.lock().unwrap().push(inner.to_vec());
                }
                if let Some(asks) = asks.as_ref().filter(|_| is_data)
                    && let Some(message) = tunn.handle_outgoing_packet(Packet::copy_from(asks), None)
                {
                    socket.send_to(&Packet::from(message), from).unwrap();
                }
                let reply = match result {
                    TunnResult::WriteToNetwork(reply) => Some(reply),
                    TunnResult::WriteToTunnel(inner) if inner.first() == Some(&0x45) => {
                        let mut inner = inner.to_vec();
                        let (source, destination) = (inner[12..16].to_vec(), inner[16..20].to_vec());
                        inner[12..16].copy_from_slice(&destination);
                        inner[16..20].copy_from_slice(&source);
                        tunn.handle_outgoing_packet(Packet::copy_from(&inner), None)
                    }
                    _ => None,
                };
                if let Some(reply) = reply {
                    socket.send_to(&Packet::from(reply), from).unwrap();
                }
            }
        });
        Self { at, key: *public.as_bytes(), handshakes, heard }
    }

    fn peer(&self, kind: Option<PeerKind>) -> PeerConfig {
        PeerConfig {
            name: "server".into(),
            public_key: self.key,
            preshared_key: Some(PSK.into()),
            addresses: Addresses::of(AddressSource::Configuration, [self.at]),
            kind,
            disclosure: mast_proto::Disclosure::WIREGUARD,
            eid_v4: None,
            plain: Some(PlainPeer {
                split: false,
                unrouted: false,
                mtu: None,
                dns: Vec::new(),
                addresses: vec![Prefix { address: OWN.into(), length: 24 }],
                allowed: vec![Prefix { address: SERVER.into(), length: 24 }],
                keepalive: None,
                private_key: Some(zeroize::Zeroizing::new([55; 32])),
            }),
            policy: None,
            account: None,
        }
    }
}

fn key_of(private: u8) -> [u8; 32] {
    *PublicKey::from(&StaticSecret::from([private; 32])).as_bytes()
}

#[tokio::test]
async fn it_is_found_out_and_carries_data() {
    let server = Server::start(loopback(31, 1), &key_of(55));
    let host = Host::start(30, "laptop", 1).await;
    let mut peer = server.peer(None);
    peer.disclosure.mast = true;
    host.engine.add_peer(peer).await.unwrap();
    // Held until it is known what the peer speaks.
    let datagram = |n: u8| (v4(OWN, SERVER, &[n]), v4(SERVER, OWN, &[n]));
    let (mut first, mut answer) = datagram(0);
    // As of TCP, which is held longest.
    first[9] = 6;
    answer[9] = 6;
    host.wire.send(first);
    host.until("known", |s| s.peers[0].kind == Some(PeerKind::WireGuard)).await;
    assert_eq!(host.wire.receive().await, Some(answer));
    for n in 1..100 {
        let (datagram, answer) = datagram(n);
        host.wire.send(datagram);
        assert_eq!(host.wire.receive().await, Some(answer), "{n}");
    }
    let snapshot = host.snapshot().await;
    let peer = &snapshot.peers[0];
    assert_eq!((peer.state, peer.eid_v6, peer.eid_v4), (PeerState::Connected, None, None));
    assert!(peer.rx_bytes > 99 * 32 && peer.tx_bytes > 99 * 32);
    let network = host.wire.interface().unwrap();
    assert_eq!(network.addresses, [IpAddr::from(OWN)].into());
    // What is not allowed does not come in: the server sends back from wherever it was sent to.
    host.wire.send(v4(Ipv4Addr::new(192, 0, 2, 9), SERVER, b"x"));
    host.until("foreign", |s| Host::counter(s, "foreign_destination") == 1).await;
    assert_eq!(server.handshakes.load(Ordering::Relaxed), 1, "one handshake is enough");
}

/// A message of MAST as it travels inside a session.
fn wrapped(message: &[u8]) -> Vec<u8> {
    let reserved = |n: u16| std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, n).octets();
    let length = u16::try_from(8 + message.len()).unwrap().to_be_bytes();
    let port = 6278_u16.to_be_bytes();
    let head = [&[0x60, 0, 0, 0][..], &length, &[17, 1], &reserved(1), &reserved(2)].concat();
    [&head[..], &port, &port, &length, &[0, 0], message].concat()
}

fn init(public: &[u8; 32]) -> Vec<u8> {
    let init = Init {
        version: 1,
        instance: 7,
        index: 9,
        random: [3; 32],
        aeads: vec![1, 2],
        capabilities: Capabilities::default(),
        // Of either parity, one is right.
        epoch: u8::from(public > &key_of(55)),
        eid_v6: mast_proto::eid_v6(public),
        eid_v4: None,
        name: "provider".into(),
        further: None,
    };
    Message::Init(init).encode()
}

fn holds(datagrams: &[Vec<u8>], bytes: &[u8]) -> bool {
    datagrams.iter().any(|d| d.windows(bytes.len()).any(|w| w == bytes))
}

/// The provider of a WireGuard file speaks MAST, and asks. It learns nothing but that WireGuard is spoken, until the user
/// says otherwise by the peer's name; and then neither what this host is called, nor the identity that others know.
#[tokio::test]
async fn a_wireguard_server_that_asks_is_told_nothing() {
    const NAME: &str = "the-name-of-this-host";
    let public = key_of(200);
    let server = Server::asking(loopback(39, 1), &key_of(55), Some(wrapped(&init(&public))));
    let host = Host::start(38, NAME, 1).await;
    host.engine.add_peer(server.peer(Some(PeerKind::WireGuard))).await.unwrap();
    host.wire.send(v4(OWN, SERVER, b"hello"));
    assert_eq!(host.wire.receive().await, Some(v4(SERVER, OWN, b"hello")));
    // So long whoever answered a handshake waits for an INIT, and all tries of one take.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    host.wire.send(v4(OWN, SERVER, b"again"));
    assert_eq!(host.wire.receive().await, Some(v4(SERVER, OWN, b"again")));
    host.until("it asked", |s| Host::counter(s, "mast_not_wanted") > 0).await;
    let heard = || server.heard.lock().unwrap().clone();
    let (reserved, main) = (&wrapped(b"")[8..40], mast_proto::eid_v6(&key_of(38)).octets());
    let told = heard();
    assert!(told.len() >= 2 && told.iter().all(|d| d.is_empty() || d[0] == 0x45), "{told:02x?}");
    assert!(!holds(&told, reserved) && !holds(&told, &main) && !holds(&told, NAME.as_bytes()));
    let peer = &host.snapshot().await.peers[0];
    assert_eq!((peer.kind, peer.state), (Some(PeerKind::WireGuard), PeerState::Connected));

    let disclose = Disclose { mast: Some(true), ..Disclose::default() };
    host.engine.disclose("server", disclose).await.unwrap();
    for _ in 0..500 {
        if holds(&heard(), reserved) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = heard();
    let own = mast_proto::eid_v6(&key_of(55)).octets();
    assert!(holds(&told, reserved) && holds(&told, &own), "{told:02x?}");
    assert!(!holds(&told, &main) && !holds(&told, NAME.as_bytes()), "{told:02x?}");
    // And by no other name.
    assert!(host.engine.disclose("provider", disclose).await.is_err());
}

#[tokio::test]
async fn a_full_tunnel_is_switched_within_the_session() {
    let server = Server::start(loopback(35, 1), &key_of(55));
    let host = Host::start(34, "laptop", 1).await;
    let mut peer = server.peer(Some(PeerKind::WireGuard));
    let all = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 };
    peer.plain.as_mut().unwrap().allowed.push(all);
    host.engine.add_peer(peer).await.unwrap();
    let outside = Ipv4Addr::new(192, 0, 2, 9);
    let routed = || host.wire.interface().unwrap().routes.contains_key(&all);
    for on in [true, false, false, true] {
        host.engine.set_full_tunnel("server", on).await.unwrap();
        host.until("switched", |s| s.peers[0].full_tunnel == Some(on) && routed() == on).await;
        // What belongs elsewhere is not sent there; what is its own is.
        host.wire.send(v4(OWN, outside, b"x"));
        host.wire.send(v4(OWN, SERVER, b"y"));
        if on {
            assert_eq!(host.wire.receive().await, Some(v4(outside, OWN, b"x")));
        }
        assert_eq!(host.wire.receive().await, Some(v4(SERVER, OWN, b"y")));
    }
    assert_eq!(server.handshakes.load(Ordering::Relaxed), 1, "the session was kept");
    let refused = host.engine.set_full_tunnel("nobody", true).await.unwrap_err().to_string();
    assert!(refused.contains("nobody"), "{refused}");
}

#[tokio::test]
async fn several_paths_at_once_are_for_other_peers() {
    let server = Server::start(loopback(37, 1), &key_of(55));
    let mut config = config(36, "laptop");
    config.policy = Policy::Bonded { metered: false };
    // Told by an older file: no reason not to start.
    let mut peer = server.peer(None);
    peer.policy = Some(Policy::Redundant { small: true, metered: false });
    config.peers.push(peer);
    let host = Host::start_with(36, config, 1).await;
    assert_eq!(host.snapshot().await.peers[0].policy, Policy::Auto);
    let bonded = Policy::Bonded { metered: true };
    let refused = host.engine.set_policy(Some("server"), bonded.clone()).await.unwrap_err();
    let EngineError::PlainMode { peer, policy } = refused else { panic!("{refused:?}") };
    assert_eq!((peer.as_str(), &policy), ("server", &bonded));
    host.engine.set_policy(None, bonded).await.unwrap();
    host.until("known", |s| s.peers[0].kind == Some(PeerKind::WireGuard)).await;
    let snapshot = host.snapshot().await;
    // What it was told by the file stays its own, whatever is chosen for all.
    assert_eq!((&snapshot.peers[0].policy, snapshot.peers[0].own_policy), (&Policy::Auto, true));
    let pin = Policy::Pin { order: vec![Selector::parse("eth1")], fallback: true };
    host.engine.set_policy(Some("server"), pin.clone()).await.unwrap();
    assert_eq!(host.snapshot().await.peers[0].policy, pin);
}

#[tokio::test]
async fn a_known_one_is_reached_at_once() {
    let server = Server::start(loopback(33, 1), &key_of(55));
    let mut config = config(32, "laptop");
    config.peers.push(server.peer(Some(PeerKind::WireGuard)));
    let host = Host::start_with(32, config, 1).await;
    host.wire.send(v4(OWN, SERVER, b"hello"));
    assert_eq!(host.wire.receive().await, Some(v4(SERVER, OWN, b"hello")));
    host.until("connected", |s| s.peers[0].state == PeerState::Connected).await;
    host.engine.down().await.unwrap();
    host.engine.up().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    host.wire.send(v4(OWN, SERVER, b"again"));
    assert_eq!(host.wire.receive().await, Some(v4(SERVER, OWN, b"again")));
}
