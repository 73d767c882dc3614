//! Very many pairs of contexts in virtual time: what each costs in memory and in wakeups.
//!
//! Nothing is lost here and every datagram takes the same time; [`World`](crate::World) is for the rest. What is due
//! next is found in a heap, so that the number of pairs does not slow down the clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_proto::wire::EidPair;
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, EidBook, EidPool, HoldLimits, IndexKey, Interface,
    InterfaceId, InterfaceKind, PathKey, PathState, PeerKind, PeerState, Policy, Received, Role, Transmit,
    eid_v6,
};

use crate::network::Rng;

/// Every datagram takes this long.
const DELAY: Duration = Duration::from_millis(10);
const PORT: u16 = 6278;
/// Interfaces of each client, and so paths of each context.
const PATHS: u8 = 2;

/// What travels, instead of WireGuard's messages or as it is.
enum Frame {
    Initiation,
    Response,
    Keepalive,
    Secure(Vec<u8>),
    Mast(Vec<u8>),
}

struct Flight {
    /// The context that it is for.
    to: usize,
    path: PathKey,
    frame: Frame,
}

/// Pairs of a client with two interfaces and the context that a server with one has for it.
pub struct Crowd {
    now: Instant,
    rng: Rng,
    key: IndexKey,
    /// Client and server of the first pair, of the second, and so on.
    contexts: Vec<Context>,
    client: Arc<[Interface]>,
    server: Arc<[Interface]>,
    /// When a context must be looked at; others than its latest are out of date.
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    latest: Vec<Option<Instant>>,
    /// All take as long, so the first sent is the first to arrive.
    flights: std::collections::VecDeque<(Instant, Flight)>,
    wakes: u64,
    sent: u64,
}

struct Book(Rng);

impl EidBook for Book {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }

    fn propose(&mut self) -> Option<EidPair> {
        EidPool::default().propose(|| self.0.draw(), |_| false)
    }
}

fn interfaces(count: u8, host: u8) -> Arc<[Interface]> {
    let interface = |n: u8| Interface {
        id: InterfaceId(u32::from(n)),
        name: format!("eth{n}"),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: vec![[10, n, 0, host].into()],
        link_local: None,
        usable: true,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    };
    (1..=count).map(interface).collect()
}

impl Crowd {
    /// So many pairs, of which nobody has said anything yet.
    pub fn new(pairs: usize, seed: u64) -> Self {
        let mut crowd = Self {
            now: Instant::now(),
            rng: Rng::new(seed),
            key: IndexKey::new([1; 32]),
            contexts: Vec::with_capacity(2 * pairs),
            client: interfaces(PATHS, 1),
            server: interfaces(1, 2),
            alarms: BinaryHeap::with_capacity(4 * pairs),
            latest: vec![None; 2 * pairs],
            flights: std::collections::VecDeque::new(),
            wakes: 0,
            sent: 0,
        };
        for at in 0..2 * pairs {
            let context = crowd.context(at);
            crowd.contexts.push(context);
        }
        crowd
    }

    fn context(&mut self, at: usize) -> Context {
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.draw().to_be_bytes());
        }
        let is_client = at.is_multiple_of(2);
        let config = ContextConfig {
            indices: self.key.indices(at as u32),
            instance: at as u64 + 1,
            lower: is_client,
            name: "host".into(),
            aeads: vec![Aead::Aes256Gcm, Aead::ChaCha20Poly1305],
            eid_v6: eid_v6(&seed),
            eid_v4: None,
            port: PORT,
            expect: Some(PeerKind::Mast),
            disclosure: Default::default(),
            policy: Policy::Auto,
            hold: HoldLimits::default(),
            seed,
        };
        let mut context = Context::new(config, self.now);
        let interfaces = if is_client { &self.client } else { &self.server };
        context.handle_interfaces(self.now, Arc::clone(interfaces));
        context
    }

    /// The clients make first contact, so many a second.
    pub fn connect(&mut self, per_second: u32) {
        let server = SocketAddr::from(([10, 1, 0, 2], PORT));
        for client in (0..self.contexts.len()).step_by(2) {
            let now = self.now;
            let contexts = self.contexts.get_mut(client..client + 2);
            for context in contexts.into_iter().flatten() {
                context.connect(now);
            }
            if let Some(context) = self.contexts.get_mut(client) {
                context.set_addresses(now, AddressSource::Configuration, [server]);
            }
            self.settle(client);
            self.settle(client + 1);
            self.run(Duration::from_secs(1) / per_second);
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, for_: Duration) {
        let end = self.now + for_;
        loop {
            let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
            let arrival = self.flights.front().map(|(at, _)| *at);
            let Some(next) = [alarm, arrival].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                if let Some((_, flight)) = self.flights.pop_front() {
                    let to = flight.to;
                    self.arrive(flight);
                    self.settle(to);
                }
            } else if let Some(Reverse((at, id))) = self.alarms.pop()
                && self.latest.get(id).copied().flatten() == Some(at)
            {
                self.wakes += 1;
                if let (Some(context), Some(latest)) = (self.contexts.get_mut(id), self.latest.get_mut(id)) {
                    context.handle_timeout(self.now);
                    *latest = None;
                }
                self.settle(id);
            }
        }
        self.now = end;
    }

    /// Contexts that are connected, and have as many validated paths as a client has interfaces.
    pub fn established(&self) -> usize {
        let whole = |c: &&Context| {
            let validated = c.paths().filter(|p| p.state == PathState::Validated).count();
            c.state(self.now) == PeerState::Connected && validated == usize::from(PATHS)
        };
        self.contexts.iter().filter(whole).count()
    }

    /// How often a context had its timer due, all of them together.
    pub fn wakes(&self) -> u64 {
        self.wakes
    }

    /// Datagrams sent, by all contexts together.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn arrive(&mut self, flight: Flight) {
        let Flight { to, path, frame } = flight;
        let now = self.now;
        match frame {
            Frame::Initiation => self.send(to, path, Frame::Response),
            Frame::Response => {
                self.send(to, path, Frame::Keepalive);
                if let Some(context) = self.contexts.get_mut(to) {
                    context.secure_up(now, path, Role::Initiator, true);
                }
            }
            Frame::Keepalive => {
                if let Some(context) = self.contexts.get_mut(to) {
                    context.secure_up(now, path, Role::Target, true);
                }
            }
            Frame::Secure(payload) => {
                let mut book = Book(Rng::new(self.rng.draw()));
                if let Some(context) = self.contexts.get_mut(to) {
                    context.handle_secure(now, path, &payload, &mut book);
                }
            }
            Frame::Mast(mut datagram) => {
                if let Some(context) = self.contexts.get_mut(to) {
                    let received = context.handle_datagram(now, path, &mut datagram);
                    assert_eq!(received, Received::Control, "nothing is lost or sent twice here");
                }
            }
        }
    }

    /// Sends what a context has to send, and notes when it wants to be called.
    fn settle(&mut self, at: usize) {
        while let Some(transmit) = self.contexts.get_mut(at).and_then(|c| c.poll_transmit(self.now)) {
            match transmit {
                Transmit::Datagram { path, payload } => self.send(at, path, Frame::Mast(payload)),
                Transmit::Contact { path, .. } => self.send(at, path, Frame::Initiation),
                // To plain WireGuard peers only.
                Transmit::Keepalive { .. } => {}
                Transmit::Secure { path, payload } => self.send(at, path, Frame::Secure(payload)),
            }
        }
        let (Some(context), Some(latest)) = (self.contexts.get_mut(at), self.latest.get_mut(at)) else {
            return;
        };
        while context.poll_event().is_some() {}
        let due = context.poll_timeout(self.now);
        if let Some(due) = due.filter(|due| Some(*due) != *latest) {
            self.alarms.push(Reverse((due, at)));
        }
        *latest = due;
    }

    /// From a context to the other of its pair. The client's address tells over which of its interfaces.
    fn send(&mut self, from: usize, path: PathKey, frame: Frame) {
        let to = from ^ 1;
        let path = if from.is_multiple_of(2) {
            let n = path.interface.0 as u8;
            PathKey::direct(InterfaceId(1), [10, 1, 0, 2].into(), SocketAddr::from(([10, n, 0, 1], PORT)))
        } else {
            let SocketAddr::V4(remote) = path.remote else { return };
            let interface = InterfaceId(u32::from(remote.ip().octets()[1]));
            PathKey::direct(interface, IpAddr::V4(*remote.ip()), SocketAddr::from(([10, 1, 0, 2], PORT)))
        };
        self.sent += 1;
        self.flights.push_back((self.now + DELAY, Flight { to, path, frame }));
    }
}
