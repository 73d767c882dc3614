//! Hosts, their contexts, and the clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_proto::wire::{EidPair, Flags, Header, ShutReason};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, DATA_HEADROOM, DATA_TAILROOM, EidBook, EidPool, Event,
    HoldLimits, IndexKey, Interface, InterfaceId, InterfaceKind, Link, Outgoing, PathKey, PeerKind,
    PeerState, Policy, Received, Role, Selector, Transmit, eid_v6,
};

use crate::bulk::{Bulk, BulkReport};
use crate::network::{Access, Rng};
use crate::traffic::{self, Echo, EchoReport, Role as Datagram};

const PORT: u16 = 6278;

/// A host of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(usize);

struct Host {
    access: Vec<Access>,
    instance: u64,
    peers: BTreeMap<HostId, Peer>,
}

struct Peer {
    context: Context,
    /// The latest WireGuard sessions, newest last: agreed by both ends, gone with a restart. As WireGuard, it
    /// accepts what comes by any of them, and sends with the newest.
    sessions: Vec<u64>,
    /// A session that this end has answered for and the other has not used yet.
    offered: Option<(u64, PathKey)>,
    initiation: Option<u64>,
    seen_initiation: u64,
    switches: Vec<(Instant, Event)>,
    transmitted: u64,
    dropped: u64,
    wakes: u64,
    /// The largest datagram of an application that fits, as the host was told.
    host_mtu: usize,
    /// The largest IP packet that it sent, in bytes.
    largest: usize,
    /// Addresses from configuration.
    told: Vec<SocketAddr>,
    /// Every INIT that arrived.
    inits: Vec<(PathKey, Vec<u8>)>,
}

impl Peer {
    /// The timer is due. What is due is done then: a context whose timer stays in the past would never let its owner
    /// sleep.
    fn wake(&mut self, now: Instant) {
        self.wakes += 1;
        for _ in 0..World::TURNS {
            self.context.handle_timeout(now);
            if self.context.poll_timeout(now).is_none_or(|at| at > now) {
                return;
            }
        }
        let late = self.context.poll_timeout(now).map(|at| now - at);
        let paths: Vec<_> = self.context.paths().collect();
        panic!("a timer stays due, {late:?} in the past: {paths:#?}");
    }

    fn agree(&mut self, session: u64) {
        self.sessions.push(session);
        if self.sessions.len() > 4 {
            self.sessions.remove(0);
        }
    }
}

/// What travels.
#[derive(Debug, Clone)]
enum Frame {
    Initiation(u64),
    Response(u64),
    Keepalive(u64),
    Secure(u64, Vec<u8>),
    Mast(Vec<u8>),
}

impl Frame {
    /// The size of the IP packet in bytes; WireGuard's handshake fits everywhere.
    fn packet(&self) -> usize {
        match self {
            Self::Mast(payload) => payload.len() + 28,
            Self::Initiation(_) | Self::Response(_) | Self::Keepalive(_) | Self::Secure(..) => 0,
        }
    }
}

struct Flight {
    from: HostId,
    source: SocketAddr,
    to: SocketAddr,
    frame: Frame,
}

/// The whole simulation.
pub struct World {
    now: Instant,
    start: Instant,
    rng: Rng,
    hosts: Vec<Host>,
    numbers: u32,
    flights: BinaryHeap<Reverse<(Instant, u64)>>,
    in_flight: BTreeMap<u64, Flight>,
    next_flight: u64,
    echoes: BTreeMap<(HostId, HostId), Echo>,
    bulks: BTreeMap<(HostId, HostId), Bulk>,
    /// Share of delivered datagrams that an adversary sends again, bent, or back.
    pub hostility: f64,
    /// INIT and INIT-ACK vanish; handshakes do not.
    pub no_inits: bool,
    /// What an observer of every network sees of what arrives: sender, source, destination, header. `None`: nobody looks.
    pub seen: Option<Vec<(HostId, SocketAddr, SocketAddr, Header)>>,
    /// Datagrams that the adversary sent, all of which were refused.
    pub refused: u64,
    datagram_size: usize,
}

struct Book<'a>(&'a mut Rng, Vec<EidPair>);

impl EidBook for Book<'_> {
    fn is_free(&self, pair: EidPair) -> bool {
        self.1
            .iter()
            .all(|p| ![pair.own, pair.other].contains(&p.own) && ![pair.own, pair.other].contains(&p.other))
    }
    fn propose(&mut self) -> Option<EidPair> {
        let taken = self.1.clone();
        EidPool::default().propose(|| self.0.draw(), |a| taken.iter().any(|p| p.own == a || p.other == a))
    }
}

impl World {
    /// The size of a bulk transfer's IP datagrams in bytes.
    pub const SEGMENT: usize = 1_400;
    /// One thing that is done may make another due at once, but not for long.
    const TURNS: usize = 4;

    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            rng: Rng::new(seed),
            hosts: Vec::new(),
            numbers: 0,
            flights: BinaryHeap::new(),
            in_flight: BTreeMap::new(),
            next_flight: 0,
            echoes: BTreeMap::new(),
            bulks: BTreeMap::new(),
            hostility: 0.0,
            no_inits: false,
            seen: None,
            refused: 0,
            datagram_size: 200,
        }
    }

    /// Adds a host with interfaces.
    pub fn host(&mut self, access: &[Access]) -> HostId {
        let mut access = access.to_vec();
        for (i, a) in access.iter_mut().enumerate() {
            self.numbers += 1;
            a.renumber(self.numbers);
            a.id = i as u32 + 1;
        }
        let instance = self.rng.draw();
        self.hosts.push(Host { access, instance, peers: BTreeMap::new() });
        HostId(self.hosts.len() - 1)
    }

    /// Makes two hosts peers; the first knows the addresses of the second, as from an invite.
    pub fn introduce(&mut self, a: HostId, b: HostId) {
        for (own, other) in [(a, b), (b, a)] {
            self.make_context(own, other);
        }
        let remotes = self.addresses(b);
        self.suggest(a, b, &remotes);
        let now = self.now;
        for (own, other) in [(a, b), (b, a)] {
            self.with(own, other, |c| c.connect(now));
        }
    }

    /// The second host learns the addresses of the first as well, so that both make first contact at once.
    pub fn introduce_back(&mut self, a: HostId, b: HostId) {
        let remotes = self.addresses(a);
        self.suggest(b, a, &remotes);
    }

    fn make_context(&mut self, own: HostId, other: HostId) {
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.draw().to_be_bytes());
        }
        let config = ContextConfig {
            indices: IndexKey::new([self.rng.draw() as u8; 32]).indices(1),
            instance: self.hosts[own.0].instance,
            lower: own < other,
            name: format!("host{}", own.0),
            aeads: vec![Aead::Aes256Gcm, Aead::ChaCha20Poly1305],
            eid_v6: eid_v6(&[own.0 as u8; 32]),
            eid_v4: None,
            port: PORT,
            expect: Some(PeerKind::Mast),
            disclosure: Default::default(),
            policy: Policy::Auto,
            hold: HoldLimits::default(),
            seed,
        };
        let mut context = Context::new(config, self.now);
        context.handle_interfaces(self.now, self.interfaces(own).into());
        let peer = Peer {
            context,
            sessions: Vec::new(),
            offered: None,
            initiation: None,
            seen_initiation: 0,
            switches: Vec::new(),
            transmitted: 0,
            dropped: 0,
            wakes: 0,
            host_mtu: usize::MAX,
            largest: 0,
            told: Vec::new(),
            inits: Vec::new(),
        };
        self.hosts[own.0].peers.insert(other, peer);
    }

    /// The host's process dies and starts again: contexts, sessions and keys are gone, known addresses are kept.
    pub fn restart(&mut self, host: HostId) {
        self.hosts[host.0].instance = self.rng.draw();
        let others: Vec<_> = self.hosts[host.0].peers.keys().copied().collect();
        for other in others {
            let mut remotes = self.context(host, other).known_remotes();
            let told = self.hosts[host.0].peers[&other].told.clone();
            remotes.extend(&told);
            let policy = self.context(host, other).policy().clone();
            self.make_context(host, other);
            if let Some(peer) = self.hosts[host.0].peers.get_mut(&other) {
                peer.told = told;
            }
            let now = self.now;
            self.with(host, other, |c| {
                c.set_policy(now, policy);
                c.set_addresses(now, AddressSource::EarlierRun, remotes);
                c.connect(now);
            });
        }
    }

    /// Current time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A host's context with another.
    pub fn context(&self, own: HostId, other: HostId) -> &Context {
        &self.hosts[own.0].peers[&other].context
    }

    /// Datagrams from the second host that the first dropped, but for the adversary's and duplicates of the network.
    pub fn dropped(&self, own: HostId, other: HostId) -> u64 {
        self.hosts[own.0].peers[&other].dropped
    }

    /// How the first host sees the second.
    pub fn state(&self, own: HostId, other: HostId) -> PeerState {
        self.context(own, other).state(self.now)
    }

    /// The name of the interface that carries the first host's data to the second.
    pub fn active(&self, own: HostId, other: HostId) -> Option<String> {
        let key = self.context(own, other).active_path()?;
        self.hosts[own.0].access.iter().find(|a| a.id == key.interface.0).map(|a| a.name.clone())
    }

    /// Every move of data that the first host reported, with its time since the start.
    pub fn switches(&self, own: HostId, other: HostId) -> Vec<(Duration, Event)> {
        let list = &self.hosts[own.0].peers[&other].switches;
        list.iter()
            .filter(|(_, e)| matches!(e, Event::Switched { .. }))
            .map(|(at, e)| (*at - self.start, e.clone()))
            .collect()
    }

    /// Datagrams that the first host sent to the second.
    pub fn transmitted(&self, own: HostId, other: HostId) -> u64 {
        self.hosts[own.0].peers[&other].transmitted
    }

    /// The largest IP packet that the first host sent to the second since this was asked before, in bytes.
    pub fn take_largest(&mut self, own: HostId, other: HostId) -> usize {
        let peer = self.hosts[own.0].peers.get_mut(&other);
        peer.map_or(0, |peer| std::mem::take(&mut peer.largest))
    }

    /// The application of the first host forgets what MTU it was told, as hosts do after ten minutes.
    pub fn forget_mtu(&mut self, own: HostId, other: HostId) {
        if let Some(peer) = self.hosts[own.0].peers.get_mut(&other) {
            peer.host_mtu = usize::MAX;
        }
    }

    /// How often the first host's context with the second had its timer due.
    pub fn wakes(&self, own: HostId, other: HostId) -> u64 {
        self.hosts[own.0].peers[&other].wakes
    }

    /// The link behind an interface, to change it; the host is not told.
    pub fn access(&mut self, host: HostId, name: &str) -> &mut Access {
        self.hosts[host.0].access.iter_mut().find(|a| a.name == name).expect("the interface exists")
    }

    /// Everything sent over the interface, both ways, vanishes; the host is not told.
    pub fn blackhole(&mut self, host: HostId, name: &str, on: bool) {
        let access = self.access(host, name);
        access.deaf_in = on;
        access.deaf_out = on;
    }

    /// The interface goes down or comes up; the host is told.
    pub fn set_up(&mut self, host: HostId, name: &str, up: bool) {
        self.access(host, name).up = up;
        self.tell(host);
    }

    /// The system says something else of the interface; the host is told.
    pub fn set_outlook(&mut self, host: HostId, name: &str, outlook: mast_proto::Outlook) {
        self.access(host, name).outlook = outlook;
        self.tell(host);
    }

    /// The interface moves to another subnet; the host is told.
    pub fn renumber(&mut self, host: HostId, name: &str) {
        self.numbers += 1;
        let number = self.numbers;
        self.access(host, name).renumber(number);
        self.tell(host);
    }

    /// The NAT before the interface gives out another mapping; nobody is told.
    pub fn rebind(&mut self, host: HostId, name: &str) {
        self.access(host, name).rebind();
    }

    /// Sets the policy of the first host towards the second.
    pub fn set_policy(&mut self, own: HostId, other: HostId, policy: Policy) {
        let now = self.now;
        self.with(own, other, |c| c.set_policy(now, policy));
    }

    /// Sets the size of an echo's datagrams in bytes.
    pub fn set_size(&mut self, bytes: usize) {
        self.datagram_size = bytes;
    }

    /// Pins interfaces: `only` without fallback.
    pub fn pin(&mut self, own: HostId, other: HostId, order: &[&str], only: bool) {
        let order: Vec<_> = order.iter().map(|w| Selector::parse(w)).collect();
        let policy = if order.is_empty() { Policy::Auto } else { Policy::Pin { order, fallback: !only } };
        self.set_policy(own, other, policy);
    }

    /// The network held back copies of every INIT that the first host got from the second, and delivers them now.
    pub fn repeat_inits(&mut self, own: HostId, other: HostId) {
        for (path, payload) in self.hosts[own.0].peers[&other].inits.clone() {
            self.secure(own, other, path, &payload);
        }
        self.pump();
    }

    /// The first host learns more addresses at which the second may be.
    pub fn suggest(&mut self, own: HostId, other: HostId, addresses: &[SocketAddr]) {
        let now = self.now;
        if let Some(peer) = self.hosts[own.0].peers.get_mut(&other) {
            peer.told.extend(addresses);
        }
        let told = self.hosts[own.0].peers[&other].told.clone();
        self.with(own, other, |c| c.set_addresses(now, AddressSource::Configuration, told));
    }

    /// A drill takes away this end's link of the path that carries the first host's data.
    pub fn drill(&mut self, own: HostId, other: HostId) {
        let now = self.now;
        self.with(own, other, |c| c.silence(now, c.active_path().map(|p| Link::Own(p.interface))));
    }

    /// The drill is over.
    pub fn end_drill(&mut self, own: HostId, other: HostId) {
        let now = self.now;
        self.with(own, other, |c| c.silence(now, None));
    }

    /// Ends a context.
    pub fn shut(&mut self, own: HostId, other: HostId) {
        let now = self.now;
        self.with(own, other, |c| c.shut(now, ShutReason::Down));
    }

    /// Wants a context again.
    pub fn connect(&mut self, own: HostId, other: HostId) {
        let now = self.now;
        self.with(own, other, |c| c.connect(now));
    }

    /// Starts an echo from `a` to `b`, or begins its figures anew.
    pub fn echo(&mut self, a: HostId, b: HostId, interval: Duration) {
        let now = self.now;
        let echo = self.echoes.entry((a, b)).or_insert_with(|| Echo::new(now, interval));
        echo.interval = interval;
        echo.next = echo.next.max(now);
        echo.mark(now);
    }

    /// Starts a bulk transfer from `a` to `b`, or begins its figures anew.
    pub fn bulk(&mut self, a: HostId, b: HostId) {
        let now = self.now;
        self.bulks.entry((a, b)).or_insert_with(|| Bulk::new(now)).mark(now);
        self.feed(a, b);
    }

    /// What a bulk transfer did since it was begun.
    pub fn bulk_report(&self, a: HostId, b: HostId) -> BulkReport {
        self.bulks[&(a, b)].report
    }

    /// Sends what the window of a bulk transfer allows, in runs as a host with segmentation offload does.
    fn feed(&mut self, a: HostId, b: HostId) {
        const STRIDE: usize = DATA_HEADROOM + World::SEGMENT + DATA_TAILROOM;
        let now = self.now;
        loop {
            let Some(bulk) = self.bulks.get_mut(&(a, b)) else { return };
            let mut frames = Vec::new();
            while frames.len() < 16 * STRIDE
                && let Some(number) = bulk.send(now)
            {
                frames.resize(frames.len() + DATA_HEADROOM, 0);
                frames.extend(traffic::datagram(number, Datagram::Segment, Self::SEGMENT));
                frames.resize(frames.len() + DATA_TAILROOM, 0);
            }
            if frames.is_empty() {
                return;
            }
            let mut rest = &mut frames[..];
            while !rest.is_empty() {
                let Some(peer) = self.hosts[a.0].peers.get_mut(&b) else { return };
                let (count, outcome) = peer.context.seal_run(now, rest, STRIDE, Flags::NONE);
                let (run, others) = rest.split_at_mut((count * STRIDE).min(rest.len()));
                match outcome {
                    Outgoing::Send(path) => {
                        for frame in run.chunks(STRIDE) {
                            self.transmit(a, b, path, Frame::Mast(frame.to_vec()));
                        }
                    }
                    Outgoing::Held => {}
                    Outgoing::TooBig { .. } => panic!("a segment fits every path"),
                }
                rest = others;
            }
            self.pump();
        }
    }

    /// Stops an echo.
    pub fn stop_echo(&mut self, a: HostId, b: HostId) {
        if let Some(echo) = self.echoes.get_mut(&(a, b)) {
            echo.next = self.now + Duration::from_secs(1 << 40);
        }
    }

    /// What an echo saw since it was begun; a silence that still lasts counts.
    pub fn echo_report(&self, a: HostId, b: HostId) -> EchoReport {
        let echo = &self.echoes[&(a, b)];
        let mut report = echo.report.clone();
        report.longest_gap = report.longest_gap.max(self.now - echo.last);
        report
    }

    /// The number that the next request of an echo has, for [`World::unanswered`].
    pub fn echo_number(&self, a: HostId, b: HostId) -> u64 {
        self.echoes[&(a, b)].number
    }

    /// How many requests of a range stayed without answer.
    pub fn unanswered(&self, a: HostId, b: HostId, range: std::ops::Range<u64>) -> usize {
        let echo = &self.echoes[&(a, b)];
        range.filter(|n| !echo.answered(*n)).count()
    }

    /// Whether a datagram could travel both ways between the two hosts over some pair of interfaces now.
    pub fn connected(&self, a: HostId, b: HostId) -> bool {
        let works = |h: HostId| {
            self.hosts[h.0].access.iter().any(|x| x.up && !x.deaf_in && !x.deaf_out && x.loss < 0.3)
        };
        works(a) && works(b)
    }

    /// Lets time pass.
    pub fn run(&mut self, for_: Duration) {
        let end = self.now + for_;
        loop {
            self.pump();
            let mut next = end;
            if let Some(Reverse((at, _))) = self.flights.peek() {
                next = next.min(*at);
            }
            for echo in self.echoes.values() {
                next = next.min(echo.next);
            }
            for bulk in self.bulks.values() {
                next = bulk.timeout().map_or(next, |at| next.min(at));
            }
            for host in &self.hosts {
                for peer in host.peers.values() {
                    if let Some(at) = peer.context.poll_timeout(self.now) {
                        next = next.min(at);
                    }
                }
            }
            // A timer that is always due would stop the clock: the engine's resolution is a millisecond, too.
            let moved = next.max(self.now + Duration::from_micros(100)).min(end);
            if next >= end && self.now >= end {
                break;
            }
            self.now = moved;
            self.step();
            if self.now >= end {
                self.pump();
                break;
            }
        }
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(Reverse((at, id))) = self.flights.peek().copied() {
            if at > now {
                break;
            }
            self.flights.pop();
            if let Some(flight) = self.in_flight.remove(&id) {
                self.arrive(flight);
                self.pump();
            }
        }
        for host in 0..self.hosts.len() {
            let mut touched = false;
            for peer in self.hosts[host].peers.values_mut() {
                if peer.context.poll_timeout(now).is_some_and(|at| at <= now) {
                    peer.wake(now);
                    touched = true;
                }
                assert!(peer.context.paths().count() <= Context::MAX_PATHS, "paths grow without bound");
                assert!(
                    peer.context.held().0 <= 3 * HoldLimits::default().bytes + 2 * 1024 * 1024,
                    "held bytes grow without bound"
                );
            }
            if touched {
                self.pump();
            }
        }
        let due: Vec<_> = self.echoes.iter().filter(|(_, e)| e.next <= now).map(|(k, _)| *k).collect();
        for (a, b) in due {
            let Some(echo) = self.echoes.get_mut(&(a, b)) else { continue };
            echo.next = now + echo.interval;
            let number = echo.number;
            echo.number += 1;
            echo.report.sent += 1;
            self.send_data(a, b, number, Datagram::Request, self.datagram_size);
        }
        let due = self.bulks.iter().filter(|(_, bulk)| bulk.timeout().is_some_and(|at| at <= now));
        for (a, b) in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            if let Some(bulk) = self.bulks.get_mut(&(a, b)) {
                bulk.expire(now);
            }
            self.feed(a, b);
        }
    }

    fn send_data(&mut self, a: HostId, b: HostId, number: u64, role: Datagram, size: usize) {
        loop {
            let now = self.now;
            let Some(peer) = self.hosts[a.0].peers.get_mut(&b) else { return };
            let size = size.min(peer.host_mtu);
            let mut frame = vec![0; DATA_HEADROOM];
            frame.extend(traffic::datagram(number, role, size));
            frame.resize(frame.len() + DATA_TAILROOM, 0);
            match peer.context.seal_data(now, &mut frame, Flags::NONE) {
                Outgoing::Send(path) => self.transmit(a, b, path, Frame::Mast(frame)),
                Outgoing::Held => {}
                Outgoing::TooBig { mtu } => {
                    assert!(mtu < size, "{size} bytes do not fit {mtu}");
                    // As TCP does when it gets the ICMP message.
                    peer.host_mtu = mtu;
                    continue;
                }
            }
            break;
        }
        self.pump();
    }

    fn pump(&mut self) {
        let now = self.now;
        for own in 0..self.hosts.len() {
            let own = HostId(own);
            let others: Vec<_> = self.hosts[own.0].peers.keys().copied().collect();
            for other in others {
                while let Some(peer) = self.hosts[own.0].peers.get_mut(&other)
                    && let Some(transmit) = peer.context.poll_transmit(now)
                {
                    match transmit {
                        Transmit::Datagram { path, payload } => {
                            self.transmit(own, other, path, Frame::Mast(payload));
                        }
                        Transmit::Contact { path, fresh } => {
                            let number = self.rng.draw();
                            let Some(peer) = self.hosts[own.0].peers.get_mut(&other) else { break };
                            if fresh {
                                peer.initiation = Some(self.next_flight.max(1) << 16 | (number & 0xffff));
                            }
                            if let Some(id) = peer.initiation {
                                self.transmit(own, other, path, Frame::Initiation(id));
                            }
                        }
                        // To plain WireGuard peers only.
                        Transmit::Keepalive { .. } => {}
                        Transmit::Secure { path, payload } => {
                            if let Some(&session) = peer.sessions.last() {
                                self.transmit(own, other, path, Frame::Secure(session, payload));
                            }
                        }
                    }
                }
                while let Some(peer) = self.hosts[own.0].peers.get_mut(&other)
                    && let Some((bytes, ..)) = peer.context.poll_deliver(now)
                {
                    let (number, role) = traffic::read(&bytes);
                    let size = bytes.len();
                    peer.context.recycle(bytes);
                    self.delivered(own, other, number, role, size);
                }
                let Some(peer) = self.hosts[own.0].peers.get_mut(&other) else { break };
                while let Some(event) = peer.context.poll_event() {
                    peer.switches.push((now, event));
                }
            }
        }
    }

    fn transmit(&mut self, from: HostId, to_host: HostId, path: PathKey, frame: Frame) {
        let size = frame.packet();
        if let Some(peer) = self.hosts[from.0].peers.get_mut(&to_host) {
            peer.transmitted += 1;
            peer.largest = peer.largest.max(size);
        }
        let host = &mut self.hosts[from.0];
        let Some(access) = host.access.iter_mut().find(|a| a.id == path.interface.0) else { return };
        if !access.up || access.deaf_out {
            return;
        }
        if size > access.mtu_out {
            access.too_large += 1;
            return;
        }
        let Some(source) = access.outside(SocketAddr::new(path.local, PORT)) else { return };
        let (loss, delay, jitter, duplication) =
            (access.loss, access.delay, access.jitter, access.duplication);
        if self.rng.chance(loss) {
            return;
        }
        let now = self.now;
        let queued = match (&frame, &mut access.bottleneck) {
            (Frame::Mast(payload), Some(bottleneck)) => bottleneck.pass(now, false, payload.len()),
            _ => Some(Duration::ZERO),
        };
        let Some(queued) = queued else { return };
        let copies = if self.rng.chance(duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let extra = jitter.mul_f64(self.rng.below(1000) as f64 / 1000.0);
            self.launch(
                queued + delay + extra,
                Flight { from, source, to: path.remote, frame: frame.clone() },
            );
        }
    }

    fn launch(&mut self, after: Duration, flight: Flight) {
        // The receiver's link adds its own delay on arrival.
        let to = flight.to;
        let now = self.now;
        let far = self.hosts.iter_mut().flat_map(|h| &mut h.access).find(|a| a.inside(to).is_some());
        let (delay, jitter, queued) =
            far.map_or((Duration::ZERO, Duration::ZERO, Some(Duration::ZERO)), |a| {
                let queued = match (&flight.frame, &mut a.bottleneck) {
                    (Frame::Mast(payload), Some(bottleneck)) => {
                        bottleneck.pass(now + after, true, payload.len())
                    }
                    _ => Some(Duration::ZERO),
                };
                (a.delay, a.jitter, queued)
            });
        let Some(queued) = queued else { return };
        let extra = queued + jitter.mul_f64(self.rng.below(1000) as f64 / 1000.0);
        let id = self.next_flight;
        self.next_flight += 1;
        self.flights.push(Reverse((self.now + after + delay + extra, id)));
        self.in_flight.insert(id, flight);
    }

    fn arrive(&mut self, flight: Flight) {
        let size = flight.frame.packet();
        let found = self.hosts.iter_mut().enumerate().find_map(|(h, host)| {
            let mut living = host.access.iter_mut().filter(|a| a.up && !a.deaf_in);
            let (access, local) = living.find_map(|a| a.inside(flight.to).map(|local| (a, local)))?;
            if size > access.mtu_in {
                access.too_large += 1;
                return None;
            }
            Some((HostId(h), PathKey::direct(InterfaceId(access.id), local, flight.source), access.loss))
        });
        let Some((own, path, loss)) = found else { return };
        if self.rng.chance(loss) {
            return;
        }
        let (now, other) = (self.now, flight.from);
        let Some(peer) = self.hosts[own.0].peers.get_mut(&other) else { return };
        match flight.frame {
            Frame::Initiation(id) => {
                // As WireGuard: an initiation not newer than the last is a replay.
                if id <= peer.seen_initiation {
                    return;
                }
                peer.seen_initiation = id;
                peer.offered = Some((id, path));
                self.transmit(own, other, path, Frame::Response(id));
            }
            Frame::Response(id) => {
                if peer.initiation != Some(id) || peer.sessions.contains(&id) {
                    return;
                }
                peer.agree(id);
                peer.context.secure_up(now, path, Role::Initiator, false);
                self.transmit(own, other, path, Frame::Keepalive(id));
            }
            Frame::Keepalive(id) | Frame::Secure(id, _) => {
                if let Some((_, responded)) = peer.offered.take_if(|(offered, _)| *offered == id) {
                    peer.agree(id);
                    peer.context.secure_up(now, path, Role::Target, responded == path);
                }
                if !peer.sessions.contains(&id) {
                    return;
                }
                if let Frame::Secure(_, payload) = flight.frame {
                    if self.no_inits {
                        return;
                    }
                    if payload.starts_with(&[0x82, 1]) {
                        peer.inits.push((path, payload.clone()));
                    }
                    self.secure(own, other, path, &payload);
                }
            }
            Frame::Mast(mut bytes) => {
                let original = bytes.clone();
                if let Ok(header) = Header::decode(&bytes) {
                    if !peer.context.indices().has(header.index) {
                        // Of a life before this one, as after a restart: it is of no context here.
                        peer.dropped += 1;
                        return;
                    }
                    if let Some(seen) = &mut self.seen {
                        seen.push((flight.from, flight.source, flight.to, header));
                    }
                }
                match peer.context.handle_datagram(now, path, &mut bytes) {
                    Received::Data(range, _) => {
                        let size = range.len();
                        let (number, role) = traffic::read(&bytes[range]);
                        self.delivered(own, other, number, role, size);
                    }
                    Received::Control => {}
                    Received::Dropped(_) => peer.dropped += 1,
                }
                if self.rng.chance(self.hostility) {
                    self.attack(own, other, path, &original);
                }
            }
        }
    }

    fn secure(&mut self, own: HostId, other: HostId, path: PathKey, payload: &[u8]) {
        let taken = self.hosts[own.0]
            .peers
            .iter()
            .filter(|(h, _)| **h != other)
            .filter_map(|(_, p)| p.context.eid_v4())
            .collect();
        let mut book = Book(&mut self.rng, taken);
        if let Some(peer) = self.hosts[own.0].peers.get_mut(&other) {
            peer.context.handle_secure(self.now, path, payload, &mut book);
        }
    }

    fn delivered(&mut self, own: HostId, other: HostId, number: u64, role: Datagram, size: usize) {
        let now = self.now;
        match role {
            Datagram::Answer => {
                if let Some(echo) = self.echoes.get_mut(&(own, other)) {
                    echo.answer_arrived(now, number);
                }
            }
            Datagram::Request => {
                if let Some(echo) = self.echoes.get_mut(&(other, own)) {
                    echo.request_arrived(number);
                }
                self.send_data(own, other, number, Datagram::Answer, self.datagram_size);
            }
            Datagram::Segment => {
                let Some(bulk) = self.bulks.get_mut(&(other, own)) else { return };
                let (complete, number) = bulk.arrive(now, number, size);
                self.send_data(own, other, complete << 32 | number, Datagram::Acknowledgement, 52);
            }
            Datagram::Acknowledgement => {
                let Some(bulk) = self.bulks.get_mut(&(own, other)) else { return };
                bulk.acknowledge(now, number >> 32, number & 0xffff_ffff);
                self.feed(own, other);
            }
        }
    }

    /// Sends what was just delivered again, bent, from elsewhere, or back. Nothing of it may be delivered, or
    /// change anything.
    fn attack(&mut self, own: HostId, other: HostId, path: PathKey, original: &[u8]) {
        let elsewhere = SocketAddr::new(IpAddr::from([192, 0, 2, 66]), 666);
        for kind in 0..4 {
            let mut bytes = original.to_vec();
            let mut victim = (own, other);
            let mut from = path;
            match kind {
                0 => {}
                1 => from.remote = elsewhere,
                2 => {
                    let at = self.rng.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << self.rng.below(8);
                    if self.rng.chance(0.3) {
                        bytes.truncate(self.rng.below(bytes.len() as u64) as usize);
                    }
                    from.remote = elsewhere;
                }
                _ => victim = (other, own),
            }
            let now = self.now;
            let Some(peer) = self.hosts[victim.0.0].peers.get_mut(&victim.1) else { continue };
            if kind == 3 {
                // The other end has its own indices; an adversary who knows one writes it into the header.
                let index = peer.context.indices().clone().draw();
                if let Some(room) = bytes.get_mut(4..8) {
                    room.copy_from_slice(&index.0.to_be_bytes());
                }
            }
            let before: Vec<_> = peer.context.paths().collect();
            let timeout = peer.context.poll_timeout(now);
            let state = peer.context.state(now);
            let verdict = peer.context.handle_datagram(now, from, &mut bytes);
            assert!(matches!(verdict, Received::Dropped(_)), "attack {kind} was accepted: {verdict:?}");
            assert_eq!(before, peer.context.paths().collect::<Vec<_>>(), "attack {kind} changed the paths");
            assert_eq!(timeout, peer.context.poll_timeout(now), "attack {kind} changed a timer");
            assert_eq!(state, peer.context.state(now), "attack {kind} changed the state");
            self.refused += 1;
        }
    }

    fn with(&mut self, own: HostId, other: HostId, f: impl FnOnce(&mut Context)) {
        if let Some(peer) = self.hosts[own.0].peers.get_mut(&other) {
            f(&mut peer.context);
        }
        self.pump();
    }

    fn tell(&mut self, host: HostId) {
        let interfaces: Arc<[Interface]> = self.interfaces(host).into();
        let now = self.now;
        for peer in self.hosts[host.0].peers.values_mut() {
            peer.context.handle_interfaces(now, Arc::clone(&interfaces));
        }
        self.pump();
    }

    fn addresses(&self, host: HostId) -> Vec<SocketAddr> {
        let ips = self.hosts[host.0].access.iter().flat_map(|a| &a.ips);
        ips.map(|ip| SocketAddr::new(*ip, PORT)).collect()
    }

    fn interfaces(&self, host: HostId) -> Vec<Interface> {
        self.hosts[host.0]
            .access
            .iter()
            .map(|a| Interface {
                id: InterfaceId(a.id),
                name: a.name.clone(),
                kind: if a.name.starts_with("wifi") {
                    InterfaceKind::Wifi
                } else if a.name.starts_with("cell") {
                    InterfaceKind::Cellular
                } else {
                    InterfaceKind::Ethernet
                },
                network: None,
                metered: a.metered,
                addresses: a.ips.clone(),
                link_local: None,
                usable: a.up,
                outlook: a.outlook,
                relayed: Vec::new(),
                reflexive: Vec::new(),
            })
            .collect()
    }
}
