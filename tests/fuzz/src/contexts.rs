//! Two contexts, the network between them and somebody who rules it, as the bytes of the input say.
//!
//! The first host is honest; whoever has the second one's keys may also send what no context would. Datagrams are
//! delivered, lost, delayed, said twice, changed, and given another sender; time goes on or leaps; interfaces come, go and
//! change their addresses; keys are renewed, contexts ended and made anew. What holds all the while is in [`World::check`],
//! [`World::leaves`] and [`World::arrives`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use mast_proto::wire::{ContextIndex, EidPair, Epoch, Flags, Header, Kind, Message, ShutReason};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, DATA_HEADROOM, DATA_OVERHEAD, DATA_TAILROOM, Disclosure,
    EidBook, EidPool, EpochKeys, HoldLimits, IndexKey, Interface, InterfaceId, InterfaceKind, Link, Outgoing,
    Outlook, PathKey, PeerKind, Policy, Received, Role, Selector, SendError, Transmit, eid_v6,
};

use crate::evil;

const PORT: u16 = 6278;
/// Of IP and UDP, in bytes: what the wire carries beside the payload.
const HEADERS: usize = 28;
/// WireGuard's handshake messages and its empty message, in bytes.
const INITIATION: usize = 148;
const RESPONSE: usize = 92;
const EMPTY: usize = 32;
/// Around what is inside a WireGuard session: its own header and tag, and the reserved encapsulation, at least.
const AROUND: usize = 68;
/// The least bytes of a datagram of the host: its number, and what tells it from others.
const LEAST_DATA: usize = 28;
/// The most steps of a story.
const STEPS: usize = 250;
/// The most that is under way.
const FLIGHTS: usize = 512;
/// So many calls a context may need to have done what is due.
const TURNS: usize = 4;
/// A context must not have more to send at one moment than this: twice what it may hold back, in small datagrams.
const BURST: usize = 40_000;
/// How many timers may fire in a virtual second: reports and paced batches, each every millisecond at the most.
const WAKES: u32 = 6_000;

pub(crate) struct Free;

impl EidBook for Free {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<EidPair> {
        Some(EidPool::default().pick(1, true))
    }
}

/// What travels.
#[derive(Clone)]
enum Frame {
    Initiation(u64),
    Response(u64),
    Keepalive(u64),
    Secure(u64, Vec<u8>),
    Mast(Vec<u8>),
}

impl Frame {
    fn length(&self) -> usize {
        HEADERS
            + match self {
                Self::Initiation(_) => INITIATION,
                Self::Response(_) => RESPONSE,
                Self::Keepalive(_) => EMPTY,
                Self::Secure(_, payload) => payload.len() + AROUND,
                Self::Mast(payload) => payload.len(),
            }
    }
}

#[derive(Clone)]
struct Flight {
    from: usize,
    source: SocketAddr,
    to: SocketAddr,
    frame: Frame,
}

struct Access {
    up: bool,
    /// How often it was renumbered.
    number: u8,
    v6: bool,
    metered: bool,
    weak: bool,
}

struct Host {
    context: Context,
    instance: u64,
    access: Vec<Access>,
    /// WireGuard sessions, the newest last.
    sessions: Vec<u64>,
    offered: Option<(u64, PathKey)>,
    initiation: Option<u64>,
    seen: u64,
    /// Numbers of the data that it was handed since it was made.
    delivered: BTreeSet<u64>,
    /// All bytes that came to it.
    heard: usize,
    /// All bytes that it sent to where its peer never was.
    astray: usize,
}

/// Keys that two ends agreed on, as whoever saw INIT and INIT-ACK knows them.
pub(crate) struct Agreed {
    epoch: Epoch,
    /// By the host that sealed: what opens it.
    open: [EpochKeys; 2],
}

pub(crate) struct World<'a, 'b> {
    pub(crate) input: &'a mut Unstructured<'b>,
    pub(crate) now: Instant,
    start: Instant,
    hosts: [Host; 2],
    flights: VecDeque<Flight>,
    /// What each host's addresses are and were.
    homes: [BTreeSet<SocketAddr>; 2],
    /// Every INIT by its random value, and who said it.
    pub(crate) inits: BTreeMap<[u8; 32], Vec<(usize, Vec<u8>)>>,
    agreed: Vec<Agreed>,
    /// Each nonce under which something left: host, keys, path, counter.
    nonces: BTreeSet<(usize, usize, u8, u64)>,
    /// Each nonce under which something was taken in.
    taken: BTreeSet<(usize, usize, u8, u64)>,
    session: u64,
    number: u64,
    /// Somebody with the keys of the second host spoke in its stead: of what it says nothing holds, nor of what it hears.
    pub(crate) hostile: bool,
    /// The counter of what they seal.
    pub(crate) counter: u64,
}

/// Runs the story that the bytes tell.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    World::new(&mut input).play();
}

fn ip(host: usize, interface: usize, number: u8, v6: bool) -> IpAddr {
    if v6 {
        let (host, interface) = (host as u16 + 1, interface as u16 + 1);
        Ipv6Addr::new(0x2001, 0xdb8, host, interface, 0, 0, 0, u16::from(number) + 1).into()
    } else {
        Ipv4Addr::new(192, 0, 2, (host * 120 + interface * 40) as u8 + number % 40 + 1).into()
    }
}

/// A victim, or somebody else on the way.
fn stranger(number: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, number % 32], 1_000 + u16::from(number / 32)))
}

fn make(host: usize, instance: u64, now: Instant, aeads: Vec<Aead>) -> Context {
    let config = ContextConfig {
        indices: IndexKey::new([host as u8; 32]).indices(instance as u32),
        instance,
        lower: host == 0,
        name: format!("host {host}"),
        aeads,
        eid_v6: eid_v6(&[host as u8; 32]),
        eid_v4: None,
        port: PORT,
        expect: None,
        disclosure: Disclosure::default(),
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: std::array::from_fn(|at| (instance as u8).wrapping_mul(7) ^ (host as u8 * 0x55) ^ at as u8),
    };
    Context::new(config, now)
}

impl<'a, 'b> World<'a, 'b> {
    fn new(input: &'a mut Unstructured<'b>) -> Self {
        let now = Instant::now();
        let aeads = [Aead::ChaCha20Poly1305, Aead::Aes256Gcm];
        let which = input.arbitrary::<u8>().unwrap_or_default();
        let hosts = [0, 1].map(|host| Host {
            context: make(host, host as u64 + 1, now, aeads[usize::from(which >> host & 1)..].to_vec()),
            instance: host as u64 + 1,
            access: (0..1 + usize::from(which >> (2 + host * 2) & 3) % 3)
                .map(|at| Access { up: true, number: 0, v6: at == 1, metered: at == 2, weak: false })
                .collect(),
            sessions: Vec::new(),
            offered: None,
            initiation: None,
            seen: 0,
            delivered: BTreeSet::new(),
            heard: 0,
            astray: 0,
        });
        let mut world = Self {
            input,
            now,
            start: now,
            hosts,
            flights: VecDeque::new(),
            homes: Default::default(),
            inits: BTreeMap::new(),
            agreed: Vec::new(),
            nonces: BTreeSet::new(),
            taken: BTreeSet::new(),
            session: 1,
            number: 0,
            hostile: false,
            counter: 0,
        };
        world.tell(0);
        world.tell(1);
        let first = world.addresses(1);
        world.hosts[0].context.set_addresses(now, AddressSource::Configuration, first);
        world.hosts[0].context.connect(now);
        if which & 0x80 == 0 {
            // As most stories begin; the others say it themselves.
            world.settle(400);
            world.settle(400);
        }
        world
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.input.arbitrary().unwrap_or_default()
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    fn play(&mut self) {
        for _ in 0..STEPS {
            if self.input.is_empty() {
                break;
            }
            self.step();
            self.pump();
            self.check();
        }
        // In the end the network is quiet.
        self.settle(3_000);
        self.check();
    }

    fn step(&mut self) {
        let host = self.below(2);
        match self.below(26) {
            0..=2 => {
                let millis = 1 + u64::from(self.byte());
                self.settle(millis);
            }
            3 => self.deliver(0),
            4 => self.deliver_all(),
            5 => drop(self.pick()),
            6 => {
                if let Some(flight) = self.pick() {
                    self.flights.push_front(flight.clone());
                    self.flights.push_back(flight);
                }
            }
            7 => {
                // Somebody on the way gives it another sender.
                let number = self.byte();
                if let Some(mut flight) = self.pick() {
                    flight.source = stranger(number);
                    self.flights.push_front(flight);
                    self.deliver(0);
                }
            }
            8 => self.tamper(),
            9 => {
                if let Some(flight) = self.pick() {
                    self.flights.push_back(flight);
                }
            }
            10..=12 => {
                let size = LEAST_DATA + usize::from(self.byte()) * 6;
                let count = 1 + self.below(8);
                self.say(host, size, count);
            }
            13 => {
                let at = self.below(self.hosts[host].access.len());
                if let Some(access) = self.hosts[host].access.get_mut(at) {
                    access.up = !access.up;
                }
                self.tell(host);
            }
            14 => {
                let (at, more) = (self.below(self.hosts[host].access.len()), self.byte());
                if let Some(access) = self.hosts[host].access.get_mut(at) {
                    access.number = access.number.wrapping_add(1);
                    access.metered = more & 1 == 1;
                    access.weak = more & 2 == 2;
                }
                self.tell(host);
            }
            15 => {
                let policy = self.policy();
                self.hosts[host].context.set_policy(self.now, policy);
            }
            16 => {
                let now = self.now;
                match self.below(4) {
                    0 => self.hosts[host].context.shut(now, ShutReason::Down),
                    1 => self.hosts[host].context.shut(now, ShutReason::Removed),
                    _ => self.hosts[host].context.connect(now),
                }
            }
            17 => self.restart(host),
            18 | 19 => {
                evil::act(self);
                self.pump();
            }
            20 => {
                let leap = [121_000, 5_000, 15_000, 61_000, 181_000, 3_600_000][self.below(6)];
                self.leap(leap);
            }
            21 => {
                let key = self.some_path(host);
                let size = usize::from(self.byte()) * 8;
                let error = if size & 8 == 0 { SendError::Unreachable } else { SendError::TooBig { size } };
                if let Some(key) = key {
                    self.hosts[host].context.handle_send_error(self.now, key, error);
                }
            }
            22 => {
                let now = self.now;
                let context = &mut self.hosts[host].context;
                match self.input.arbitrary::<u8>().unwrap_or_default() % 4 {
                    0 => context.revalidate(now),
                    1 => context.check(now),
                    2 => context.silence(now, Some(Link::Own(InterfaceId(1)))),
                    _ => context.silence(now, None),
                }
            }
            23 => {
                // A handshake that this end did not ask for.
                let (number, role) = (self.byte(), self.byte());
                let to = PathKey::direct(InterfaceId(1), ip(host, 0, 0, false), stranger(number));
                let role = if role & 1 == 0 { Role::Target } else { Role::Initiator };
                self.hosts[host].heard += RESPONSE + HEADERS;
                self.hosts[host].context.secure_up(self.now, to, role, false);
            }
            24 => {
                let list = if self.below(2) == 0 { self.addresses(1 - host) } else { Vec::new() };
                let source = AddressSource::ALL[self.below(8)];
                if source != AddressSource::Set {
                    self.hosts[host].context.set_addresses(self.now, source, list);
                }
            }
            _ => {
                let pair = EidPool::default().pick(u64::from(self.byte()), host == 0);
                self.hosts[host].context.propose_eids(Some(pair));
            }
        }
    }

    fn policy(&mut self) -> Policy {
        let flag = self.byte() & 1 == 1;
        match self.below(5) {
            0 => Policy::Auto,
            1 => Policy::Redundant { small: flag, metered: true },
            2 => Policy::Bonded { metered: flag },
            3 => Policy::Pin { order: vec![Selector::parse("if1")], fallback: flag },
            _ => Policy::Pin {
                order: vec![Selector::parse("ethernet"), Selector::parse("if0")],
                fallback: flag,
            },
        }
    }

    fn addresses(&self, host: usize) -> Vec<SocketAddr> {
        let access = self.hosts[host].access.iter().enumerate();
        access.map(|(at, a)| SocketAddr::new(ip(host, at, a.number, a.v6), PORT)).collect()
    }

    fn tell(&mut self, host: usize) {
        let list: Vec<Interface> = self.hosts[host]
            .access
            .iter()
            .enumerate()
            .map(|(at, access)| Interface {
                id: InterfaceId(at as u32 + 1),
                name: format!("if{at}"),
                kind: [InterfaceKind::Ethernet, InterfaceKind::Wifi, InterfaceKind::Cellular][at % 3],
                network: None,
                metered: access.metered,
                addresses: vec![ip(host, at, access.number, access.v6)],
                link_local: None,
                usable: access.up,
                outlook: Outlook { weak: access.weak, spent: false },
                relayed: Vec::new(),
                reflexive: Vec::new(),
            })
            .collect();
        let homes = self.addresses(host);
        self.homes[host].extend(homes);
        self.hosts[host].context.handle_interfaces(self.now, list.into());
    }

    fn restart(&mut self, host: usize) {
        let old = &mut self.hosts[host];
        old.instance += 2;
        old.context = make(host, old.instance, self.now, vec![Aead::ChaCha20Poly1305, Aead::Aes256Gcm]);
        old.sessions.clear();
        old.offered = None;
        old.initiation = None;
        old.delivered.clear();
        self.tell(host);
        let others = self.addresses(1 - host);
        let now = self.now;
        let context = &mut self.hosts[host].context;
        context.set_addresses(now, AddressSource::Configuration, if host == 0 { others } else { Vec::new() });
        if host == 0 {
            context.connect(now);
        }
    }

    fn some_path(&mut self, host: usize) -> Option<PathKey> {
        let keys: Vec<_> = self.hosts[host].context.paths().map(|path| path.key).collect();
        let at = self.below(keys.len());
        keys.get(at).copied()
    }

    /// The host's programs send datagrams, each with a number of its own.
    fn say(&mut self, host: usize, size: usize, count: usize) {
        let stride = size + DATA_OVERHEAD;
        let mut frames = vec![0; stride * count];
        for frame in frames.chunks_mut(stride) {
            self.number += 1;
            let content = &mut frame[DATA_HEADROOM..];
            content[0] = 0x45;
            content[9] = if self.number & 1 == 0 { 6 } else { 17 };
            content[12..20].copy_from_slice(&[10, 0, 0, host as u8, 10, 0, 0, 1 - host as u8]);
            content[20..28].copy_from_slice(&self.number.to_be_bytes());
        }
        let mut rest = &mut frames[..];
        while !rest.is_empty() {
            let later = self.number & 2 == 0;
            let now = self.now;
            let context = &mut self.hosts[host].context;
            let (done, outcome) = if later {
                let (done, outcome, unsealed) = context.prepare_run(now, rest, stride, Flags::NONE);
                if let Some(unsealed) = unsealed {
                    unsealed.seal(rest, stride);
                }
                (done, outcome)
            } else {
                context.seal_run(now, rest, stride, Flags::NONE)
            };
            assert!(done > 0, "a run goes on");
            let (these, after) = rest.split_at_mut((done * stride).min(rest.len()));
            match outcome {
                Outgoing::Send(path) => {
                    for frame in these.chunks(stride) {
                        self.leaves(host, path, Frame::Mast(frame.to_vec()));
                    }
                }
                Outgoing::Held => {}
                Outgoing::TooBig { mtu } => assert!(mtu < size, "{size} bytes do not fit {mtu}"),
            }
            rest = after;
        }
    }

    /// Takes something out of what is under way.
    fn pick(&mut self) -> Option<Flight> {
        let at = self.below(self.flights.len());
        self.flights.remove(at)
    }

    /// Lets time pass, and what is under way arrive.
    fn settle(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        let mut wakes = 0;
        self.pump();
        loop {
            self.deliver_all();
            let due = self.hosts.iter().filter_map(|h| h.context.poll_timeout(self.now)).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.wake();
            wakes += 1;
            assert!(wakes < WAKES + WAKES * (millis / 1_000) as u32, "{wakes} timers in {millis} ms");
        }
        self.now = end;
    }

    /// The machines slept, or nobody was scheduled: all that was due comes at once.
    fn leap(&mut self, millis: u64) {
        self.flights.clear();
        self.now += Duration::from_millis(millis);
        self.wake();
        self.pump();
    }

    fn wake(&mut self) {
        let now = self.now;
        for host in 0..2 {
            let context = &mut self.hosts[host].context;
            if context.poll_timeout(now).is_none_or(|due| due > now) {
                continue;
            }
            let mut turns = 0;
            while context.poll_timeout(now).is_some_and(|due| due <= now) {
                context.handle_timeout(now);
                turns += 1;
                assert!(turns <= TURNS, "a timer stays due: {:#?}", context.paths().collect::<Vec<_>>());
            }
        }
        self.pump();
    }

    fn deliver_all(&mut self) {
        // Answers are delivered as well.
        for _ in 0..4_000 {
            if self.flights.is_empty() {
                return;
            }
            self.deliver(0);
            self.pump();
        }
        let paths = self.hosts.each_ref().map(|h| h.context.paths().collect::<Vec<_>>());
        panic!("two hosts answer each other for ever: {paths:#?}");
    }

    fn deliver(&mut self, at: usize) {
        if let Some(flight) = self.flights.remove(at) {
            self.arrives(flight);
        }
    }

    /// Where a datagram comes to: a host, and the path as that host sees it.
    fn target(&self, to: SocketAddr, source: SocketAddr) -> Option<(usize, PathKey)> {
        (0..2).find_map(|host| {
            let mut access = self.hosts[host].access.iter().enumerate();
            let (at, _) =
                access.find(|(at, a)| a.up && SocketAddr::new(ip(host, *at, a.number, a.v6), PORT) == to)?;
            Some((host, PathKey::direct(InterfaceId(at as u32 + 1), to.ip(), source)))
        })
    }

    fn arrives(&mut self, flight: Flight) {
        let Some((own, path)) = self.target(flight.to, flight.source) else { return };
        if own == flight.from {
            return;
        }
        let now = self.now;
        let length = flight.frame.length();
        let host = &mut self.hosts[own];
        host.heard += length;
        match flight.frame {
            Frame::Initiation(id) => {
                // An initiation that is not newer than the last is a replay.
                if id > host.seen {
                    host.seen = id;
                    host.offered = Some((id, path));
                    self.leaves(own, path, Frame::Response(id));
                }
            }
            Frame::Response(id) => {
                if host.initiation == Some(id) && !host.sessions.contains(&id) {
                    host.sessions.push(id);
                    host.context.secure_up(now, path, Role::Initiator, false);
                    self.leaves(own, path, Frame::Keepalive(id));
                }
            }
            Frame::Keepalive(id) | Frame::Secure(id, _) => {
                if let Some((_, responded)) = host.offered.take_if(|(offered, _)| *offered == id) {
                    host.sessions.push(id);
                    host.context.secure_up(now, path, Role::Target, responded == path);
                }
                if host.sessions.contains(&id)
                    && let Frame::Secure(_, payload) = flight.frame
                {
                    self.secure(own, path, &payload);
                }
            }
            Frame::Mast(bytes) => self.mast(own, path, bytes, false),
        }
    }

    /// What came inside the WireGuard session, by an honest host or not.
    pub(crate) fn secure(&mut self, own: usize, path: PathKey, payload: &[u8]) {
        self.hosts[own].context.handle_secure(self.now, path, payload, &mut Free);
    }

    /// A sealed datagram, as it left or changed.
    pub(crate) fn mast(&mut self, own: usize, path: PathKey, mut bytes: Vec<u8>, changed: bool) {
        let nonce = self.nonce(1 - own, &bytes);
        let verdict = self.hosts[own].context.handle_datagram(self.now, path, &mut bytes);
        if changed {
            assert!(matches!(verdict, Received::Dropped(_)), "what was changed is taken in: {verdict:?}");
        }
        match verdict {
            Received::Dropped(_) => return,
            Received::Data(range, _) => {
                let content = bytes.get(range).unwrap_or_else(|| panic!("outside the datagram")).to_vec();
                self.delivered(own, &content);
            }
            Received::Control => {}
        }
        let Some(nonce) = nonce else { panic!("taken in without keys that were agreed") };
        assert!(self.taken.insert(nonce), "taken in twice: {nonce:?}");
    }

    fn delivered(&mut self, own: usize, content: &[u8]) {
        if self.hostile {
            return;
        }
        let number = content.get(20..28).and_then(|n| n.try_into().ok()).map(u64::from_be_bytes);
        let number = number.unwrap_or_else(|| panic!("{} bytes that nobody sent", content.len()));
        assert!(number <= self.number, "data that nobody sent");
        assert!(self.hosts[own].delivered.insert(number), "{number} is delivered twice");
    }

    /// Under which keys a datagram was sealed, and its nonce.
    fn nonce(&self, sender: usize, bytes: &[u8]) -> Option<(usize, usize, u8, u64)> {
        let header = Header::decode(bytes).ok()?;
        let newest = self.agreed.iter().enumerate().rev().filter(|(_, keys)| keys.epoch == header.epoch);
        for (at, keys) in newest {
            if keys.open[sender].open(&header, &mut bytes.to_vec()).is_ok() {
                return Some((sender, at, header.path.0, header.counter));
            }
        }
        None
    }

    /// Something leaves a host.
    fn leaves(&mut self, own: usize, path: PathKey, frame: Frame) {
        let astray = !self.homes[1 - own].contains(&path.remote);
        if let Frame::Mast(bytes) = &frame {
            match self.nonce(own, bytes) {
                Some(nonce) => assert!(self.nonces.insert(nonce), "a nonce is used twice: {nonce:?}"),
                // Of keys whose INIT-ACK was not sent, nobody knows.
                None => assert!(self.hostile, "sealed with keys that were not agreed"),
            }
            let data = Header::decode(bytes).is_ok_and(|header| header.kind == Kind::Data);
            // Where none works, one that is being validated may carry as much as came from it.
            let carries = self.hosts[own].context.active_path();
            assert!(!(astray && data && carries.is_some()), "data to {}, who never answered", path.remote);
        }
        if astray {
            // Of a plain WireGuard peer nothing tells where it is but where its messages come from (SECURITY 3).
            if self.hosts[own].context.kind() != Some(PeerKind::WireGuard) {
                self.hosts[own].astray += frame.length();
            }
            return;
        }
        let access = self.hosts[own].access.get((path.interface.0 as usize).wrapping_sub(1));
        let local = SocketAddr::new(path.local, PORT);
        if access.is_some_and(|a| a.up) && self.homes[own].contains(&local) && self.flights.len() < FLIGHTS {
            self.flights.push_back(Flight { from: own, source: local, to: path.remote, frame });
        }
    }

    /// Remembers what keys come of an INIT and its INIT-ACK.
    pub(crate) fn note_secure(&mut self, own: usize, payload: &[u8]) {
        match Message::decode(payload) {
            Ok(Message::Init(init)) => {
                let said = self.inits.entry(init.random).or_default();
                if said.iter().all(|(_, bytes)| bytes != payload) {
                    said.push((own, payload.to_vec()));
                }
            }
            Ok(Message::InitAck(ack)) => {
                let Some(aead) = Aead::from_number(ack.aead) else { return };
                let epoch = Epoch(ack.epoch);
                for (initiator, init) in self.inits.get(&ack.answers).into_iter().flatten() {
                    let (asked, said) = ((&init[..], &ack.answers), (payload, &ack.random));
                    let derive = |role| EpochKeys::derive(role, aead, epoch, asked, said);
                    let (Ok(by_initiator), Ok(by_target)) = (derive(Role::Target), derive(Role::Initiator))
                    else {
                        panic!("no keys")
                    };
                    let open =
                        if *initiator == 0 { [by_initiator, by_target] } else { [by_target, by_initiator] };
                    self.agreed.push(Agreed { epoch, open });
                }
            }
            _ => {}
        }
    }

    /// Seals as the second host would, for whoever has its keys.
    pub(crate) fn seal_as_second(&mut self, path: u8, content: &[u8]) -> Option<Vec<u8>> {
        let index = ContextIndex(5);
        let keys = self.agreed.last()?;
        self.counter += 1;
        let header = Header {
            kind: Kind::Control,
            flags: Flags::NONE,
            path: mast_proto::wire::PathId(path),
            epoch: keys.epoch,
            index,
            counter: (1 << 40) + self.counter,
        };
        let mut datagram = [&[0; 16][..], content, &[0; 16]].concat();
        // What opens the first host's seals what it opens.
        keys.open[0].seal(&header, &mut datagram).ok()?;
        Some(datagram)
    }

    /// Something that whoever has the second host's keys says, from one of its addresses or from elsewhere.
    pub(crate) fn path_to_first(&mut self) -> PathKey {
        let number = self.byte();
        let remote = if number & 1 == 0 {
            let all = self.addresses(1);
            all.get(usize::from(number / 2) % all.len().max(1)).copied().unwrap_or(stranger(0))
        } else {
            stranger(number / 2)
        };
        PathKey::direct(InterfaceId(1), ip(0, 0, self.hosts[0].access[0].number, false), remote)
    }

    pub(crate) fn hear(&mut self, bytes: usize) {
        self.hosts[0].heard += bytes + HEADERS;
    }

    /// Any bit of a datagram, any byte of a handshake's content: nothing of it is taken in.
    fn tamper(&mut self) {
        let (bits, cut) = (self.byte(), self.byte());
        let at = usize::from(self.input.arbitrary::<u16>().unwrap_or_default());
        let Some(Flight { frame: Frame::Mast(mut bytes), to, source, .. }) = self.pick() else { return };
        let length = bytes.len();
        bytes[at % length] ^= bits | 1;
        if cut & 3 == 3 {
            bytes.truncate(at % length);
        }
        if let Some((own, path)) = self.target(to, source) {
            let context = &self.hosts[own].context;
            let before = (context.poll_timeout(self.now), context.state(self.now), context.paths().count());
            self.hosts[own].heard += bytes.len() + HEADERS;
            self.mast(own, path, bytes, true);
            let context = &self.hosts[own].context;
            let after = (context.poll_timeout(self.now), context.state(self.now), context.paths().count());
            assert_eq!(before, after, "what was changed changes something");
        }
    }

    /// Takes what the contexts have to send and to tell.
    pub(crate) fn pump(&mut self) {
        let now = self.now;
        for own in 0..2 {
            let mut sent = 0;
            while let Some(transmit) = self.hosts[own].context.poll_transmit(now) {
                sent += 1;
                assert!(sent < BURST, "{sent} things to send at one moment");
                match transmit {
                    Transmit::Datagram { path, payload } => self.leaves(own, path, Frame::Mast(payload)),
                    Transmit::Contact { path, fresh } => {
                        if fresh || self.hosts[own].initiation.is_none() {
                            self.session += 1;
                            self.hosts[own].initiation = Some(self.session);
                        }
                        if let Some(id) = self.hosts[own].initiation {
                            self.leaves(own, path, Frame::Initiation(id));
                        }
                    }
                    Transmit::Keepalive { path } => {
                        if let Some(id) = self.hosts[own].sessions.last().copied() {
                            self.leaves(own, path, Frame::Keepalive(id));
                        }
                    }
                    Transmit::Secure { path, payload } => {
                        self.note_secure(own, &payload);
                        if let Some(id) = self.hosts[own].sessions.last().copied() {
                            self.leaves(own, path, Frame::Secure(id, payload));
                        }
                    }
                }
            }
            let mut delivered = 0;
            while let Some((content, ..)) = self.hosts[own].context.poll_deliver(now) {
                delivered += 1;
                assert!(delivered < BURST);
                self.delivered(own, &content);
                self.hosts[own].context.recycle(content);
            }
            let mut told = 0;
            while self.hosts[own].context.poll_event().is_some() {
                told += 1;
                assert!(told <= 256, "{told} events at one moment");
            }
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        for host in &self.hosts {
            let context = &host.context;
            assert!(context.paths().count() <= Context::MAX_PATHS);
            let bound = 3 * HoldLimits::default().bytes + 2 * 1024 * 1024;
            assert!(context.held().0 <= bound, "{} bytes are held", context.held().0);
            assert!(
                host.astray <= host.heard,
                "{} bytes to strangers, {} heard, after {:?}",
                host.astray,
                host.heard,
                self.now - self.start
            );
            let active = context.active_path();
            assert!(active.is_none_or(|key| context.paths().any(|path| path.key == key)));
            assert!(context.known_remotes().len() <= 9);
        }
    }
}

const _: () = assert!(DATA_TAILROOM == 16);
