//! A peer that does not play by the rules: it has a key that the other end accepts, and says what it likes, from where it
//! likes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::Packet;
use gotatun::x25519::{PublicKey, StaticSecret};
use mast_netlab::Host;
use mast_proto::wire::{
    Address, AddressFlags, AddressId, AddressKind, Capabilities, ContextIndex, Epoch, Flags, HEADER_LEN,
    Header, Init, Kind, Message, PathId, ProbeAck, Set, SetAck, VERSION,
};
use mast_proto::{Aead, EpochKeys, Role, TAG_LEN};

use crate::Tap;

/// MAST's own messages travel inside WireGuard between these two, port 6278 (PROTOCOL.md, section 5).
const RESERVED: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, 1),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, 2),
];
const RESERVED_PORT: u16 = 6278;

/// A UDP datagram over IPv6.
pub fn udp_v6(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 8).unwrap();
    let mut out = vec![0x60, 0, 0, 0];
    out.extend(length.to_be_bytes());
    out.extend([17, 64]);
    out.extend(from.0.octets());
    out.extend(to.0.octets());
    out.extend(from.1.to_be_bytes());
    out.extend(to.1.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    let mut sum = u32::from(length) + 17;
    for pair in out[8..].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    };
    out[46..48].copy_from_slice(&sum.to_be_bytes());
    out
}

/// The keys that it has agreed on, and what the other end calls the context.
struct Agreed {
    keys: EpochKeys,
    index: ContextIndex,
    counters: HashMap<u8, u64>,
    sequence: u32,
}

/// A hostile peer on a host.
pub struct Rogue {
    host: Host,
    private: StaticSecret,
    other: PublicKey,
    server: SocketAddr,
    /// Where it really is.
    pub own: SocketAddr,
    sockets: HashMap<SocketAddr, UdpSocket>,
    tunn: Tunn,
    instance: u64,
    agreed: Option<Agreed>,
    set: u64,
    /// Bytes that it sent, with the headers of IP and UDP.
    pub sent: usize,
    /// Bytes of data that came to it, with the headers of IP and UDP.
    pub data: usize,
    /// It answers PROBEs at its own address.
    pub answers: bool,
}

impl Rogue {
    /// The private key of rogues, and what a daemon's configuration names as the public one.
    pub fn keys() -> ([u8; 32], [u8; 32]) {
        let private = [0x5a; 32];
        (private, *PublicKey::from(&StaticSecret::from(private)).as_bytes())
    }

    /// On a host with this address, against the service with this key at that address.
    pub fn new(host: &Host, own: SocketAddr, server: SocketAddr, key: [u8; 32]) -> Self {
        let private = StaticSecret::from(Self::keys().0);
        let other = PublicKey::from(key);
        let tunn = Self::tunn(&private, other);
        Self {
            host: host.clone(),
            private,
            other,
            server,
            own,
            sockets: HashMap::new(),
            tunn,
            instance: 1,
            agreed: None,
            set: 0,
            sent: 0,
            data: 0,
            answers: true,
        }
    }

    fn tunn(private: &StaticSecret, other: PublicKey) -> Tunn {
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(private), 1_000));
        Tunn::new(private.clone(), other, None, None, IndexTable::from_os_rng(), limiter)
    }

    /// Sends from an address, whosever it is: it must be one of the host's, on `lo` for example.
    pub fn send(&mut self, from: SocketAddr, bytes: &[u8]) {
        let host = &self.host;
        let socket = self.sockets.entry(from).or_insert_with(|| {
            let socket = host.run(|| UdpSocket::bind(from).unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        if socket.send_to(bytes, self.server).is_ok() {
            self.sent += bytes.len() + if from.is_ipv4() { 28 } else { 48 };
        }
    }

    /// What came to its own address, if anything does in that time.
    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            let socket = self.sockets.get(&self.own)?;
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) => return Some(buffer[..length].to_vec()),
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_micros(300)),
                Err(_) => return None,
            }
        }
    }

    /// Begins anew as another instance: a WireGuard handshake from its own address, confirmed from `confirm`, then INIT from
    /// its own.
    ///
    /// Whether the other end agreed.
    pub fn begin(&mut self, confirm: SocketAddr) -> bool {
        self.instance += 1;
        self.tunn = Self::tunn(&self.private, self.other);
        self.agreed = None;
        self.set = 0;
        let own = self.own;
        let initiation: Packet = self.tunn.format_handshake_initiation(true).unwrap().into_bytes();
        self.send(own, &initiation);
        let until = Instant::now() + Duration::from_secs(2);
        let mut up = false;
        while !up && Instant::now() < until {
            let Some(heard) = self.receive(Duration::from_millis(200)) else { continue };
            let Ok(message) = Packet::copy_from(&heard[..]).try_into_wg() else { continue };
            if let TunnResult::WriteToNetwork(reply) = self.tunn.handle_incoming_packet(message) {
                let reply: Packet = reply.into();
                self.send(confirm, &reply);
                up = true;
            }
        }
        up && self.init()
    }

    fn init(&mut self) -> bool {
        let own = self.own;
        let random = [self.instance as u8; 32];
        let eid = mast_proto::eid_v6(PublicKey::from(&self.private).as_bytes());
        let lower = PublicKey::from(&self.private).as_bytes() < self.other.as_bytes();
        let init = Init {
            version: VERSION,
            instance: self.instance,
            index: 77,
            random,
            aeads: vec![Aead::ChaCha20Poly1305.number()],
            capabilities: Capabilities::default(),
            epoch: u8::from(!lower),
            eid_v6: eid,
            eid_v4: None,
            name: "rogue".into(),
            further: None,
        };
        let epoch = init.epoch;
        let bytes = Message::Init(init).encode();
        let inner = udp_v6((RESERVED[0], RESERVED_PORT), (RESERVED[1], RESERVED_PORT), &bytes);
        let until = Instant::now() + Duration::from_secs(2);
        let mut next = Instant::now();
        while Instant::now() < until {
            if Instant::now() >= next {
                // Again and again, as an answer may be worth more bytes than were heard from here.
                next += Duration::from_millis(200);
                let Ok(sealed) = self.tunn.encapsulate_with_session(Packet::copy_from(&inner[..])) else {
                    return false;
                };
                let sealed: Packet = sealed.into();
                self.send(own, &sealed);
            }
            let Some(heard) = self.receive(Duration::from_millis(50)) else { continue };
            let Ok(message) = Packet::copy_from(&heard[..]).try_into_wg() else { continue };
            let TunnResult::WriteToTunnel(inner) = self.tunn.handle_incoming_packet(message) else {
                continue;
            };
            let length = usize::from(u16::from_be_bytes([inner[4], inner[5]]));
            let Some(content) = inner.get(48..40 + length) else { continue };
            let Ok(Message::InitAck(ack)) = Message::decode(content) else { continue };
            let keys = EpochKeys::derive(
                Role::Initiator,
                Aead::ChaCha20Poly1305,
                Epoch(epoch),
                (&bytes, &random),
                (content, &ack.random),
            );
            self.agreed = Some(Agreed {
                keys: keys.unwrap(),
                index: ContextIndex(ack.index),
                counters: HashMap::new(),
                sequence: 0,
            });
            return true;
        }
        false
    }

    /// Whether it has keys.
    pub fn agrees(&self) -> bool {
        self.agreed.is_some()
    }

    fn seal(&mut self, kind: Kind, path: u8, content: &[u8]) -> Vec<u8> {
        let lower = PublicKey::from(&self.private).as_bytes() < self.other.as_bytes();
        let agreed = self.agreed.as_mut().unwrap();
        let counter = agreed.counters.entry(path).or_default();
        let header = Header {
            kind,
            flags: Flags::NONE,
            path: PathId(path),
            epoch: Epoch(u8::from(!lower)),
            index: agreed.index,
            counter: *counter,
        };
        *counter += 1;
        let mut datagram = vec![0; HEADER_LEN];
        datagram.extend(content);
        datagram.resize(datagram.len() + TAG_LEN, 0);
        agreed.keys.seal(&header, &mut datagram).unwrap();
        datagram
    }

    /// Says something, sealed, from an address.
    pub fn say(&mut self, from: SocketAddr, message: &Message) {
        let datagram = self.seal(Kind::Control, 0, &message.encode());
        self.send(from, &datagram);
    }

    /// Tells these as its addresses, the first as the one it wishes most.
    pub fn list(&mut self, from: SocketAddr, addresses: &[SocketAddr]) {
        self.set += 1;
        let addresses = addresses.iter().zip(0_u8..).map(|(at, n)| Address {
            id: AddressId(n),
            at: *at,
            kind: AddressKind::Host,
            priority: 200_u8.saturating_sub(n * 10),
            metered: false,
            flags: AddressFlags::default(),
            link: Some(n),
        });
        let set = Set { sequence: self.set, addresses: addresses.collect(), mode: None };
        self.say(from, &Message::Set(set));
    }

    /// Asks a program at the other end for something, over UDP between the EIDs.
    pub fn ask(&mut self, from: SocketAddr, port: u16, payload: &[u8]) {
        let own = mast_proto::eid_v6(PublicKey::from(&self.private).as_bytes());
        let eid = mast_proto::eid_v6(self.other.as_bytes());
        let agreed = self.agreed.as_mut().unwrap();
        let mut content = agreed.sequence.to_be_bytes().to_vec();
        agreed.sequence += 1;
        content.extend(udp_v6((own, 4000), (eid, port), payload));
        let datagram = self.seal(Kind::Data, 0, &content);
        self.send(from, &datagram);
    }

    /// Hears what comes to its own address for so long; answers PROBEs and SETs, if it does, and reports nothing.
    pub fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let own = self.own;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let Some(mut heard) = self.receive(left) else { break };
            let Some(agreed) = &self.agreed else { continue };
            let Ok(header) = Header::decode(&heard) else { continue };
            if header.kind == Kind::Data {
                self.data += heard.len() + if self.own.is_ipv4() { 28 } else { 48 };
                continue;
            }
            let Ok(content) = agreed.keys.open(&header, &mut heard) else { continue };
            let answer = match Message::decode(content) {
                Ok(Message::Probe(probe)) if self.answers => Message::ProbeAck(ProbeAck {
                    nonce: probe.nonce,
                    observed: self.server,
                    time: probe.time,
                    reports: vec![],
                }),
                Ok(Message::Set(set)) => Message::SetAck(SetAck { sequence: set.sequence }),
                _ => continue,
            };
            self.say(own, &answer);
        }
    }
}

/// Somebody who has nothing to do with it, and what comes to them.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicUsize>,
    data: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bystander {
    /// Counts what comes to an address of a host.
    pub fn watch(host: &Host, interface: &str, address: IpAddr) -> Self {
        let tap = Tap::open(host, interface);
        let (stop, bytes, data) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (ended, all, of_data) = (Arc::clone(&stop), Arc::clone(&bytes), Arc::clone(&data));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Some(frame) = tap.next() else { continue };
                let Some(packet) = frame.get(14..) else { continue };
                let (to, payload) = match (address, packet.first().map(|b| b >> 4)) {
                    (IpAddr::V4(at), Some(4)) => (packet.get(16..20) == Some(&at.octets()), packet.get(28)),
                    (IpAddr::V6(at), Some(6)) => (packet.get(24..40) == Some(&at.octets()), packet.get(48)),
                    _ => continue,
                };
                // Neighbour discovery and the like are the network's own.
                let udp = if packet[0] >> 4 == 4 { packet.get(9) } else { packet.get(6) } == Some(&17);
                if to && udp {
                    all.fetch_add(packet.len(), Ordering::Relaxed);
                    if payload == Some(&0x60) {
                        of_data.fetch_add(packet.len(), Ordering::Relaxed);
                    }
                }
            }
        });
        Self { stop, bytes, data, thread: Some(thread) }
    }

    /// Bytes that came, with the headers of IP and UDP; and how many of them were somebody's data.
    pub fn got(&self) -> (usize, usize) {
        (self.bytes.load(Ordering::Relaxed), self.data.load(Ordering::Relaxed))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
