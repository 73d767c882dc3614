//! One context and a plain WireGuard server, in virtual time: links with delays and losses of their own each way.
//!
//! The server does what Linux and wireguard-go do: it answers a handshake that is newer than the last one, to where it
//! came from; holds one session that is not confirmed, that of the latest handshake; sends to where the latest authentic
//! message came from; and says so 10 s after it received data and sent none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mast_proto::wire::Flags;
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, Event, HoldLimits, IndexKey, Interface, InterfaceId,
    InterfaceKind, PathKey, PeerKind, Policy, Role, Transmit,
};

/// WireGuard's KEEPALIVE-TIMEOUT.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How soon a handshake may follow another at the server.
const SERVER_PACE: Duration = Duration::from_millis(20);

/// A link of the client.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its interface.
    pub interface: Interface,
    /// From client to server, and back.
    pub delay: Duration,
    /// Nothing reaches the server.
    pub deaf_out: bool,
    /// Nothing reaches the client.
    pub deaf_in: bool,
    /// Share of datagrams lost each way, from 0 to 1.
    pub loss: f64,
}

/// What the host sends and hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// An echo request, which the server answers.
    Echo,
    /// UDP that nobody answers.
    OneWay,
    /// A segment of TCP with data, which the server acknowledges.
    Segment,
    /// UDP of the server's own.
    Down,
    /// A download: segments of the server's own, each sent again until it is acknowledged.
    Stream,
}

#[derive(Debug, Clone)]
enum Frame {
    Initiation(u64),
    Response(u64),
    /// In a session: what it holds, and its number.
    Data(u64, Option<(Says, u32)>),
}

type Flight = (Duration, u64, bool, usize, Frame);

/// The server's end of a download: it has ten segments on their way at most, and sends the latest again when nothing is
/// acknowledged, as the tail loss probe of RFC 8985 does, then the first that is missing, ever more seldom.
#[derive(Default)]
struct Stream {
    sent: u32,
    acknowledged: u32,
    again: Duration,
    tries: u32,
}

impl Stream {
    const WINDOW: u32 = 10;

    /// The number of the segment to be sent now, if any.
    fn next(&mut self, now: Duration, rtt: Duration) -> Option<u32> {
        if self.sent - self.acknowledged < Self::WINDOW {
            self.sent += 1;
            self.again = now + (rtt * 2).max(Duration::from_millis(100));
            return Some(self.sent);
        }
        if now < self.again {
            return None;
        }
        self.tries += 1;
        self.again = now + (rtt + Duration::from_millis(100)) * (1 << self.tries.min(8));
        Some(if self.tries == 1 { self.sent } else { self.acknowledged + 1 })
    }

    fn note_acknowledged(&mut self, number: u32) {
        if number > self.acknowledged {
            (self.acknowledged, self.tries) = (number, 0);
        }
    }
}

/// The client, the server, and what is between them.
pub struct Plain {
    start: Instant,
    now: Duration,
    /// The client's context.
    pub context: Context,
    /// The client's links.
    pub links: Vec<Link>,
    remote: SocketAddr,
    flights: BinaryHeap<Reverse<(Duration, u64)>>,
    frames: Vec<Option<Flight>>,
    rng: u64,
    // The client's sessions.
    initiated: Vec<u64>,
    session: Option<u64>,
    next_initiation: u64,
    // The server's.
    seen: u64,
    seen_at: Option<Duration>,
    offered: Option<u64>,
    current: Option<u64>,
    previous: Option<u64>,
    endpoint: Option<usize>,
    owes: Option<Duration>,
    stream: Stream,
    /// Handshakes that left, by link.
    pub handshakes: Vec<(Duration, usize)>,
    /// Datagrams of the host that left, by link.
    pub data: Vec<(Duration, usize)>,
    /// When the host heard an answer, or what the server sent of its own.
    pub heard: Vec<(Duration, Says)>,
    /// Numbers of what the server received, as they came.
    pub arrived: Vec<u32>,
    /// What was told.
    pub events: Vec<Event>,
    numbers: u32,
}

/// An interface with one address of the version of IP.
pub fn interface(id: u8, v6: bool, metered: bool) -> Interface {
    let address = if v6 {
        IpAddr::from([0x2001, 0xdb8, 0, u16::from(id), 0, 0, 0, 2])
    } else {
        IpAddr::from([10, id, 0, 2])
    };
    Interface {
        id: InterfaceId(u32::from(id)),
        name: format!("if{id}"),
        kind: if metered { InterfaceKind::Cellular } else { InterfaceKind::Wifi },
        network: None,
        metered,
        addresses: vec![address],
        link_local: None,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
        usable: true,
    }
}

/// Between the hosts inside the tunnel; the number at its end is as long as TCP counts it.
fn datagram(says: Says, number: u32, back: bool) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[0] = 0x45;
    let (near, far) = if back { (2, 1) } else { (1, 2) };
    (bytes[15], bytes[19]) = (near, far);
    match says {
        Says::Echo => {
            bytes[9] = 1;
            bytes.extend([if back { 0 } else { 8 }, 0, 0, 0, 0, 7]);
            bytes.extend((number as u16).to_be_bytes());
        }
        Says::Segment | Says::Stream => {
            bytes[9] = 6;
            let ports = if says == Says::Stream { [0, 81] } else { [0, 80] };
            bytes.extend(if back { [ports[0], ports[1], 9, 9] } else { [9, 9, ports[0], ports[1]] });
            // Each segment has five bytes of data, which end at five times its number.
            let (seq, ack) = match (says, back) {
                (Says::Stream, true) => (number * 5, 0),
                (_, false) => (number * 5, 1),
                (_, true) => (1, number * 5 + 5),
            };
            bytes.extend(seq.to_be_bytes());
            bytes.extend(ack.to_be_bytes());
            bytes.extend([0x50, 16, 0, 0, 0, 0, 0, 0]);
        }
        Says::OneWay | Says::Down => {
            bytes[9] = 17;
            bytes.extend([0; 8]);
        }
    }
    // An acknowledgement has no data of its own.
    if (says, back) != (Says::Segment, true) {
        bytes.push(says as u8);
        bytes.extend(number.to_be_bytes());
    }
    let length = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn read(bytes: &[u8]) -> (Says, u32) {
    let at = bytes.len() - 5;
    let number = u32::from_be_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]]);
    let says = [Says::Echo, Says::OneWay, Says::Segment, Says::Down, Says::Stream]
        .into_iter()
        .find(|s| *s as u8 == bytes[at]);
    (says.unwrap_or(Says::OneWay), number)
}

impl Plain {
    /// A client with these links that wants the server.
    pub fn new(links: Vec<Link>, seed: u64) -> Self {
        let start = Instant::now();
        let config = ContextConfig {
            indices: IndexKey::new([1; 32]).indices(1),
            instance: 1,
            lower: true,
            name: "host".into(),
            aeads: vec![Aead::ChaCha20Poly1305],
            eid_v6: std::net::Ipv6Addr::new(0xfd4d, 0x6173, 0x7400, 0, 0, 0, 0, 1),
            eid_v4: None,
            port: 6278,
            expect: Some(PeerKind::WireGuard),
            disclosure: Default::default(),
            policy: Policy::Auto,
            hold: HoldLimits::default(),
            seed: [seed as u8; 32],
        };
        let v6 = links.iter().any(|l| l.interface.addresses.iter().any(IpAddr::is_ipv6));
        let ip =
            if v6 { IpAddr::from([0x2001, 0xdb8, 9, 0, 0, 0, 0, 1]) } else { IpAddr::from([192, 0, 2, 1]) };
        let remote = SocketAddr::new(ip, 51_820);
        let mut plain = Self {
            start,
            now: Duration::ZERO,
            context: Context::new(config, start),
            links,
            remote,
            flights: BinaryHeap::new(),
            frames: Vec::new(),
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            initiated: Vec::new(),
            session: None,
            next_initiation: 1,
            seen: 0,
            seen_at: None,
            offered: None,
            current: None,
            previous: None,
            endpoint: None,
            owes: None,
            stream: Stream::default(),
            handshakes: Vec::new(),
            data: Vec::new(),
            heard: Vec::new(),
            arrived: Vec::new(),
            events: Vec::new(),
            numbers: 0,
        };
        plain.tell_links();
        plain.context.set_addresses(start, AddressSource::Configuration, [remote]);
        plain.context.connect(start);
        plain.settle();
        plain
    }

    /// The number of what the host said last.
    pub fn said(&self) -> u32 {
        self.numbers
    }

    /// The client's session, and those that the server takes: not confirmed, current, before that.
    pub fn sessions(&self) -> (Option<u64>, [Option<u64>; 3]) {
        (self.session, [self.offered, self.current, self.previous])
    }

    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The same as the context knows it.
    pub fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// The link that carries data.
    pub fn active(&self) -> Option<usize> {
        self.context.active_path().and_then(|key| self.link_of(key))
    }

    fn link_of(&self, key: PathKey) -> Option<usize> {
        self.links.iter().position(|l| l.interface.id == key.interface)
    }

    fn key(&self, link: usize) -> Option<PathKey> {
        let interface = &self.links.get(link)?.interface;
        Some(PathKey::direct(interface.id, *interface.addresses.first()?, self.remote))
    }

    /// A link goes away or comes back, as the system tells.
    pub fn set_up(&mut self, link: usize, up: bool) {
        self.links[link].interface.usable = up;
        self.tell_links();
        self.settle();
    }

    /// The user chose a policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.context.set_policy(self.instant(), policy);
        self.settle();
    }

    fn tell_links(&mut self) {
        let list: Vec<_> = self.links.iter().map(|l| l.interface.clone()).collect();
        self.context.handle_interfaces(self.start + self.now, list.into());
    }

    fn chance(&mut self, share: f64) -> bool {
        // xorshift64
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 11) as f64 / ((1_u64 << 53) as f64) < share
    }

    fn fly(&mut self, out: bool, link: usize, frame: Frame) {
        let Some(l) = self.links.get(link) else { return };
        let (delay, loss) = (l.delay, l.loss);
        if !l.interface.usable || if out { l.deaf_out } else { l.deaf_in } {
            return;
        }
        if self.chance(loss) {
            return;
        }
        let number = self.frames.len() as u64;
        self.flights.push(Reverse((self.now + delay, number)));
        self.frames.push(Some((self.now + delay, number, out, link, frame)));
    }

    /// The host sends something.
    pub fn say(&mut self, says: Says) {
        self.numbers += 1;
        let bytes = datagram(says, self.numbers, false);
        let now = self.instant();
        if self.context.take_plain(now, Flags::NONE, &bytes) {
            self.send(&bytes);
        }
        self.settle();
    }

    /// The server sends something of its own.
    pub fn say_down(&mut self) {
        if let (Some(link), Some(session)) = (self.endpoint, self.current) {
            self.owes = None;
            self.fly(false, link, Frame::Data(session, Some((Says::Down, 0))));
        }
    }

    /// The server goes on with its download.
    fn say_stream(&mut self) {
        if let (Some(link), Some(session)) = (self.endpoint, self.current)
            && let Some(rtt) = self.links.get(link).map(|l| l.delay * 2)
            && let Some(number) = self.stream.next(self.now, rtt)
        {
            self.owes = None;
            self.fly(false, link, Frame::Data(session, Some((Says::Stream, number))));
        }
    }

    /// The host acknowledges a segment of the download.
    fn acknowledge(&mut self, number: u32) {
        let now = self.instant();
        let mut bytes = datagram(Says::Stream, number, false);
        bytes.truncate(40);
        bytes[3] = 40;
        if !self.context.take_plain(now, Flags::NONE, &bytes) {
            return;
        }
        self.context.note_plain_datagram(now, &bytes);
        let (Some(key), Some(session)) = (self.context.plain_path(now), self.session) else { return };
        self.context.note_plain_sent(now, key, bytes.len() + 32);
        let Some(link) = self.link_of(key) else { return };
        self.data.push((self.now, link));
        self.fly(true, link, Frame::Data(session, Some((Says::Stream, number))));
    }

    fn send(&mut self, bytes: &[u8]) {
        let now = self.instant();
        self.context.note_plain_datagram(now, bytes);
        let (Some(key), Some(session)) = (self.context.plain_path(now), self.session) else { return };
        self.context.note_plain_sent(now, key, bytes.len() + 32);
        let Some(link) = self.link_of(key) else { return };
        self.data.push((self.now, link));
        self.fly(true, link, Frame::Data(session, Some(read(bytes))));
    }

    fn settle(&mut self) {
        let now = self.instant();
        loop {
            while let Some((bytes, _)) = self.context.poll_plain(now) {
                self.send(&bytes);
            }
            let Some(transmit) = self.context.poll_transmit(now) else { break };
            match transmit {
                Transmit::Contact { path, fresh } => {
                    if fresh {
                        self.initiated.push(self.next_initiation);
                        self.next_initiation += 1;
                        // gotatun knows the latest two.
                        if self.initiated.len() > 2 {
                            self.initiated.remove(0);
                        }
                    }
                    let Some(link) = self.link_of(path) else { continue };
                    self.handshakes.push((self.now, link));
                    let id = self.next_initiation - 1;
                    self.fly(true, link, Frame::Initiation(id));
                }
                Transmit::Keepalive { path } => {
                    if let (Some(session), Some(link)) = (self.session, self.link_of(path)) {
                        self.fly(true, link, Frame::Data(session, None));
                    }
                }
                Transmit::Secure { path, .. } => {
                    // INIT: data to an address that the server allows nobody.
                    if let (Some(session), Some(link)) = (self.session, self.link_of(path)) {
                        self.fly(true, link, Frame::Data(session, Some((Says::OneWay, 0))));
                    }
                }
                Transmit::Datagram { .. } => {}
            }
        }
        while let Some(event) = self.context.poll_event() {
            self.events.push(event);
        }
    }

    fn at_server(&mut self, link: usize, frame: Frame) {
        match frame {
            Frame::Initiation(id) => {
                let soon = self.seen_at.is_some_and(|at| self.now < at + SERVER_PACE);
                if id <= self.seen || soon {
                    return;
                }
                (self.seen, self.seen_at, self.offered) = (id, Some(self.now), Some(id));
                self.endpoint = Some(link);
                self.fly(false, link, Frame::Response(id));
            }
            Frame::Data(session, inside) => {
                if self.offered == Some(session) {
                    self.offered = None;
                    self.previous = self.current.replace(session);
                }
                if self.current != Some(session) && self.previous != Some(session) {
                    return;
                }
                self.endpoint = Some(link);
                let Some((says, number)) = inside else { return };
                if says == Says::Stream {
                    self.stream.note_acknowledged(number);
                    return;
                }
                self.arrived.push(number);
                match (says, self.current) {
                    (Says::Echo | Says::Segment, Some(session)) => {
                        self.owes = None;
                        self.fly(false, link, Frame::Data(session, Some((says, number))));
                    }
                    _ => {
                        self.owes.get_or_insert(self.now + KEEPALIVE);
                    }
                }
            }
            Frame::Response(_) => {}
        }
    }

    fn at_client(&mut self, link: usize, frame: Frame) {
        let Some(key) = self.key(link) else { return };
        let now = self.instant();
        match frame {
            Frame::Response(id) => {
                let Some(at) = self.initiated.iter().position(|i| *i == id) else { return };
                self.initiated.remove(at);
                self.session = Some(id);
                // It must use the session at once.
                self.fly(true, link, Frame::Data(id, None));
                if id + 1 == self.next_initiation {
                    self.context.secure_up(now, key, Role::Initiator, true);
                } else {
                    self.context.secure_superseded(now, key);
                }
            }
            Frame::Data(_, inside) => {
                let inner = inside.map(|(says, number)| datagram(says, number, true));
                self.context.note_plain_received(now, key, 100, inner.as_deref());
                if let Some((says, number)) = inside {
                    self.heard.push((self.now, says));
                    if says == Says::Stream {
                        self.acknowledge(number);
                    }
                }
            }
            Frame::Initiation(_) => {}
        }
        self.settle();
    }

    /// Runs until this time. The host sends `says` each `every`.
    pub fn run(&mut self, until: Duration, says: &[(Says, Duration)]) {
        let mut next: Vec<_> = says.iter().map(|(says, every)| (self.now + *every, *says, *every)).collect();
        loop {
            let due =
                self.context.poll_timeout(self.instant()).map(|at| at.saturating_duration_since(self.start));
            let flight = self.flights.peek().map(|Reverse((at, _))| *at);
            let talk = next.iter().map(|(at, ..)| *at).min();
            let at =
                [due, flight, talk, self.owes].into_iter().flatten().min().unwrap_or(until).max(self.now);
            if at > until {
                self.now = until;
                return;
            }
            self.now = at;
            if due.is_some_and(|due| due <= at) {
                let now = self.instant();
                self.context.handle_timeout(now);
                let again = self.context.poll_timeout(now);
                assert!(again.is_none_or(|again| again > now), "what was due is done, at {at:?}");
                self.settle();
            }
            while let Some(Reverse((at, number))) = self.flights.peek().copied()
                && at <= self.now
            {
                self.flights.pop();
                let Some((_, _, out, link, frame)) = self.frames[number as usize].take() else { continue };
                if out { self.at_server(link, frame) } else { self.at_client(link, frame) }
            }
            if self.owes.is_some_and(|at| at <= self.now) {
                self.owes = None;
                if let (Some(link), Some(session)) = (self.endpoint, self.current) {
                    self.fly(false, link, Frame::Data(session, None));
                }
            }
            let mut said = Vec::new();
            for (at, says, every) in &mut next {
                if *at <= self.now {
                    *at += *every;
                    said.push(*says);
                }
            }
            for says in said {
                match says {
                    Says::Down => self.say_down(),
                    Says::Stream => self.say_stream(),
                    _ => self.say(says),
                }
            }
        }
    }

    /// The longest time without an answer to the host since then, and until now.
    pub fn longest_silence(&self, since: Duration) -> Duration {
        let mut last = since;
        let mut longest = Duration::ZERO;
        for (at, _) in self.heard.iter().filter(|(at, _)| *at >= since) {
            longest = longest.max(*at - last);
            last = *at;
        }
        longest.max(self.now - last)
    }
}
