//! How this host is seen from outside: asked of STUN servers (RFC 8489) over the very sockets that carry data, since a NAT
//! may show another address to each of them.
//!
//! A peer that answers says so itself, in PROBE-ACK, and costs nothing. Servers are for the time before: what they say is
//! told where peers find each other. They are asked when addresses change, and again every 25 s while a peer is
//! missed, which keeps the NAT's mapping open for it; otherwise never. A server that lies leads peers to an address that does not
//! answer, and no further: nothing here is believed but as a candidate.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mast_proto::{Interface, InterfaceId, PathKey, PeerState};
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteVec};

use crate::engine::Engine;
use crate::filtering::{Filtering, Questions, other_address};
use crate::os::{Family, Platform};
use crate::sockets::is_plausible;

/// The most servers that are asked.
pub(crate) const MOST_SERVERS: usize = 4;
/// The most addresses of this host of which it is asked.
const MOST_ADDRESSES: usize = 16;
/// The first pause without an answer; it doubles (RFC 8489, 6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// So often it is sent.
const TRIES: u32 = 7;
/// After that, the pause until all of it begins anew.
const PAUSE: Duration = Duration::from_secs(120);
/// As often a mapping is refreshed while it is needed: NATs keep one for 30 s at least (RFC 4787 asks for two minutes).
const REFRESH: Duration = Duration::from_secs(25);
/// A NAT that gives each destination the port after that of the one before: the next is so much higher at most. Hosts beside
/// this one have mappings, too.
const LONGEST_STEP: u16 = 4;
/// So many ports after the last are guesses worth telling: each costs the other end a path to try.
const GUESSES: u16 = 8;
/// The most places that are kept in reserve to ask which port is the next.
const MOST_SPARE: usize = 16;
/// A request is 20 bytes; an answer with more than that is of no use.
const LONGEST: usize = 548;

/// What a NAT does with one address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// It is seen as it is: there is no NAT.
    None,
    /// Everybody sees the same (RFC 4787, endpoint-independent mapping), as far as two servers can tell.
    Same,
    /// Every peer sees another port: what a server sees is of no use to others.
    ByDestination,
    /// The same, and each port is so much higher than the one before: the next can be guessed (RFC 5128, 3.5.1).
    InTurn {
        /// The port that the last of the servers saw.
        last: u16,
        /// From one to the next.
        step: u16,
    },
    /// One server alone answered.
    Unknown,
}

/// How one address of this host is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The interface.
    pub interface: InterfaceId,
    /// The address.
    pub local: IpAddr,
    /// How a server saw it.
    pub at: SocketAddr,
    /// Which one.
    pub server: SocketAddr,
    /// When.
    pub when: Instant,
    /// What stands between.
    pub mapping: Mapping,
    /// Who is let in.
    pub filtering: Filtering,
}

/// What one server is asked of one address.
#[derive(Debug)]
struct Ask {
    over: PathKey,
    /// The request under way, and how often it was sent.
    id: Option<u128>,
    tries: u32,
    due: Instant,
    seen: Option<(SocketAddr, Instant)>,
    /// It is asked to learn how far a NAT got that gives one port after the other.
    late: bool,
}

/// All that is asked.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    port: u16,
    servers: Vec<SocketAddr>,
    asks: Vec<Ask>,
    questions: Questions,
    /// Where else servers are, to whom nothing went yet: a NAT gives each of them a new port.
    spare: Vec<PathKey>,
}

/// Whether a datagram is one of STUN, which WireGuard's messages and MAST's never are (RFC 8489, 5: the magic cookie).
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= 20 && datagram[0] & 0xc0 == 0 && datagram[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

impl Outside {
    pub fn new(port: u16) -> Self {
        Self { port, ..Self::default() }
    }

    /// Whom to ask from now on, at most [`MOST_SERVERS`].
    pub fn set_servers(&mut self, now: Instant, mut servers: Vec<SocketAddr>, interfaces: &[Interface]) {
        servers.retain(is_plausible);
        servers.truncate(MOST_SERVERS);
        self.servers = servers;
        self.sync(now, interfaces);
    }

    /// Asks of the addresses that there are now: of new ones at once, of those that are gone no more.
    pub fn sync(&mut self, now: Instant, interfaces: &[Interface]) {
        let first = |interface: &Interface, family: Family| {
            interface.addresses.iter().copied().find(|address| Family::of(*address) == family)
        };
        let mut wanted: Vec<PathKey> = Vec::new();
        let mut addresses = 0;
        for interface in interfaces.iter().filter(|i| i.usable) {
            for family in [Family::V4, Family::V6] {
                let Some(local) = first(interface, family).filter(|_| addresses < MOST_ADDRESSES) else {
                    continue;
                };
                addresses += 1;
                let servers = self.servers.iter().filter(|server| Family::of(server.ip()) == family);
                wanted.extend(servers.map(|server| PathKey::direct(interface.id, local, *server)));
            }
        }
        let alike =
            |over: &PathKey| wanted.iter().any(|w| (w.interface, w.local) == (over.interface, over.local));
        self.asks.retain(|ask| wanted.contains(&ask.over) || ask.late && alike(&ask.over));
        self.spare.retain(alike);
        self.questions.retain(&wanted);
        for over in wanted {
            if !self.asks.iter().any(|ask| ask.over == over) {
                self.asks.push(Ask { over, id: None, tries: 0, due: now, seen: None, late: false });
            }
        }
    }

    /// This host is about to speak to whom it did not speak to before. Where its NAT gives each the next port, it is asked now
    /// how far that got: a moment later it gives the port that the other sees.
    pub fn freshen(&mut self, now: Instant) {
        for Seen { interface, local, mapping, .. } in self.seen() {
            let of_it = |over: &PathKey| (over.interface, over.local) == (interface, local);
            let spare = self.spare.iter().position(of_it);
            if let (Mapping::InTurn { .. }, Some(spare)) = (mapping, spare) {
                let over = self.spare.remove(spare);
                self.questions.close(interface, local);
                self.asks.push(Ask { over, id: None, tries: 0, due: now, seen: None, late: true });
            }
        }
    }

    /// Asks again of everything: routes changed, or the machine woke.
    pub fn ask_again(&mut self, now: Instant) {
        for ask in &mut self.asks {
            (ask.id, ask.tries, ask.due) = (None, 0, now);
        }
    }

    /// When something is due.
    pub fn due(&self) -> Option<Instant> {
        self.asks.iter().map(|ask| ask.due).chain(self.questions.due()).min()
    }

    /// What is to be sent now. `missed`: a peer does not answer, and may come by what is told of this host.
    pub fn take_due(
        &mut self,
        now: Instant,
        missed: bool,
        mut random: impl FnMut() -> u64,
    ) -> Vec<(PathKey, Vec<u8>)> {
        let mut number = || (u128::from(random()) << 64 | u128::from(random())) & ((1 << 96) - 1);
        let mut requests = self.questions.take_due(now, &mut number);
        for at in 0..self.asks.len() {
            // One server keeps a mapping open.
            let alone =
                !self.asks.iter().take(at).any(|other| other.is_as(&self.asks[at]) && other.seen.is_some());
            let Some(ask) = self.asks.get_mut(at).filter(|ask| now >= ask.due) else { continue };
            let refresh = ask.tries == 0 && ask.seen.is_some();
            if refresh && !(missed && alone) {
                ask.due = now + REFRESH;
                continue;
            }
            if ask.tries == TRIES {
                // What was seen no longer holds for sure.
                (ask.id, ask.tries, ask.seen, ask.due) = (None, 0, None, now + PAUSE);
                continue;
            }
            let id = *ask.id.get_or_insert_with(&mut number);
            ask.due = now + RTO * 2_u32.pow(ask.tries);
            ask.tries += 1;
            requests.push((ask.over, request(id)));
        }
        requests
    }

    /// Takes in a datagram. Whether it was an answer that was waited for.
    pub fn handle(&mut self, now: Instant, over: PathKey, datagram: &[u8]) -> bool {
        if datagram.len() > LONGEST {
            return false;
        }
        if self.questions.handle(over, datagram) {
            return true;
        }
        let Some(ask) = self.asks.iter_mut().find(|ask| ask.over == over && ask.id.is_some()) else {
            return false;
        };
        let Ok(message) = Message::from_bytes(datagram) else { return false };
        let id = message.transaction_id();
        if message.method() != BINDING || Some(u128::from(id)) != ask.id {
            return false;
        }
        if message.class() != MessageClass::Success {
            // It will not say; another request would not help.
            (ask.id, ask.tries, ask.due) = (None, 0, now + PAUSE);
            return true;
        }
        let seen = message.attribute::<XorMappedAddress>().ok().map(|mapped| mapped.addr(id));
        let same_family = |at: &SocketAddr| at.is_ipv4() == over.remote.is_ipv4();
        let Some(seen) = seen.filter(|at| is_plausible(at) && same_family(at)) else { return false };
        let before = ask.seen.replace((seen, now)).map(|(at, _)| at);
        (ask.id, ask.tries, ask.due) = (None, 0, now + REFRESH);
        if before.is_some_and(|before| before != seen) {
            // The other servers' words are as old.
            for other in self.asks.iter_mut().filter(|o| o.over != over && o.over.local == over.local) {
                (other.id, other.tries, other.due) = (None, 0, now);
                other.seen = None;
            }
            self.asks.retain(|ask| !ask.late || ask.over.local != over.local);
            self.questions.forget(over.interface, over.local);
        }
        self.questions.begin(now, over, &message);
        if let Some(other) = other_address(&message) {
            self.keep(over, [SocketAddr::new(over.remote.ip(), other.port()), other]);
        }
        true
    }

    /// Keeps where a server is besides.
    fn keep(&mut self, over: PathKey, others: [SocketAddr; 2]) {
        for remote in others {
            let other = PathKey { remote, ..over };
            let fit = is_plausible(&remote) && remote.is_ipv4() == over.remote.is_ipv4();
            let new = !self.spare.contains(&other) && !self.asks.iter().any(|ask| ask.over == other);
            if fit && new && self.spare.len() < MOST_SPARE {
                self.spare.push(other);
            }
        }
    }

    /// How each address is seen, by the server that said so first.
    pub fn seen(&self) -> Vec<Seen> {
        let mut all: Vec<Seen> = Vec::new();
        for ask in self.asks.iter().filter(|ask| !ask.late) {
            let Some((at, when)) = ask.seen else { continue };
            let PathKey { interface, local, remote: server, .. } = ask.over;
            match all.iter_mut().find(|seen| seen.interface == interface && seen.local == local) {
                None => {
                    let mapping = if at == SocketAddr::new(local, self.port) {
                        Mapping::None
                    } else {
                        Mapping::Unknown
                    };
                    let filtering = self.questions.of(interface, local);
                    all.push(Seen { interface, local, at, server, when, mapping, filtering });
                }
                // Two ports of one server say less: a NAT may tell apart hosts alone.
                Some(first) if first.server.ip() == server.ip() => {}
                Some(first) if first.at != at => first.mapping = first.after(at),
                Some(first) if first.mapping == Mapping::Unknown => first.mapping = Mapping::Same,
                Some(first) if matches!(first.mapping, Mapping::InTurn { .. }) => {
                    first.mapping = Mapping::ByDestination;
                }
                Some(_) => {}
            }
        }
        for ask in self.asks.iter().filter(|ask| ask.late) {
            let of_it =
                |seen: &&mut Seen| (seen.interface, seen.local) == (ask.over.interface, ask.over.local);
            if let (Some(first), Some((at, _))) = (all.iter_mut().find(of_it), ask.seen)
                && let Mapping::InTurn { last, .. } = &mut first.mapping
                && at.ip() == first.at.ip()
            {
                *last = at.port().max(*last);
            }
        }
        all
    }

    /// What peers are told of it: for each address the best that is known. Where each peer sees another port, many NATs still
    /// keep the host's own port for the first that asks (RFC 4787, 4.2.1: port preservation). Where the next port can be guessed,
    /// the first is followed by more guesses.
    pub fn told(&self) -> Vec<(InterfaceId, IpAddr, SocketAddr)> {
        let mut told = Vec::new();
        for seen in self.seen() {
            let ip = seen.at.ip();
            let mut tell = |at| told.push((seen.interface, seen.local, at));
            match seen.mapping {
                Mapping::None => {}
                Mapping::ByDestination => tell(SocketAddr::new(ip, self.port)),
                Mapping::InTurn { last, step } => {
                    let next = (1..=GUESSES).filter_map(|n| last.checked_add(step.checked_mul(n)?));
                    next.for_each(|port| tell(SocketAddr::new(ip, port)));
                }
                Mapping::Same | Mapping::Unknown => tell(seen.at),
            }
        }
        told
    }
}

impl Seen {
    /// What a NAT does that showed the next server this.
    fn after(&self, next: SocketAddr) -> Mapping {
        let last = match self.mapping {
            Mapping::Unknown => self.at.port(),
            Mapping::InTurn { last, .. } => last,
            _ => return Mapping::ByDestination,
        };
        match next.port().checked_sub(last) {
            Some(step @ 1..=LONGEST_STEP) if next.ip() == self.at.ip() => {
                Mapping::InTurn { last: next.port(), step }
            }
            _ => Mapping::ByDestination,
        }
    }
}

impl Ask {
    /// Whether it is about the same address.
    fn is_as(&self, other: &Self) -> bool {
        (self.over.interface, self.over.local) == (other.over.interface, other.over.local)
    }
}

impl<P: Platform> Engine<P> {
    /// Whom to ask from now on.
    pub(crate) fn set_stun_servers(&mut self, now: Instant, servers: Vec<SocketAddr>) {
        self.outside.set_servers(now, servers, self.uplinks.interfaces());
        if self.uplinks.see(self.outside.told()) {
            self.tell_interfaces(now);
        }
    }

    /// Asks what is due, as far as anybody needs to know.
    pub(crate) fn ask_outside(&mut self, now: Instant) {
        let misses = |state| matches!(state, PeerState::Connecting | PeerState::Unreachable);
        let missed = self.peers.present().any(|peer| misses(peer.context.state(now)));
        for (over, request) in self.outside.take_due(now, missed, || self.random.u64()) {
            // What does not leave now is sent again.
            let _ = self.net.sockets.send(over, &request);
            self.net.traffic.sent(over, 1, request.len(), 0);
        }
        // What was not confirmed for long is no longer told.
        if self.uplinks.see(self.outside.told()) {
            self.tell_interfaces(now);
        }
    }

    /// Takes in what may be a server's answer.
    pub(crate) fn heed_outside(&mut self, now: Instant, over: PathKey, answer: &[u8]) {
        if !self.outside.handle(now, over, answer) {
            self.net.counters.add("stun_unasked");
        } else if self.uplinks.see(self.outside.told()) {
            self.tell_interfaces(now);
        }
    }
}

fn request(id: u128) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    Message::builder(kind, id.into(), MessageWriteVec::new()).finish()
}

#[cfg(test)]
mod tests {
    use mast_proto::InterfaceKind;
    use stun_types::message::MessageWriteExt;

    use super::*;

    fn interface(id: u32, addresses: &[&str]) -> Interface {
        Interface {
            id: InterfaceId(id),
            name: format!("eth{id}"),
            kind: InterfaceKind::Ethernet,
            network: None,
            metered: false,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What a server answers to a request that it sees coming from there.
    fn answer(request: &[u8], from: SocketAddr) -> Vec<u8> {
        let request = Message::from_bytes(request).unwrap();
        let mut answer = Message::builder_success(&request, MessageWriteVec::new());
        answer.add_attribute(&XorMappedAddress::new(from, request.transaction_id())).unwrap();
        answer.finish()
    }

    struct Host {
        now: Instant,
        outside: Outside,
        random: u64,
        missed: bool,
    }

    impl Host {
        fn new(servers: &[&str], interfaces: &[Interface]) -> Self {
            let now = Instant::now();
            let mut outside = Outside::new(6278);
            outside.set_servers(now, servers.iter().map(|s| at(s)).collect(), interfaces);
            Self { now, outside, random: 0, missed: true }
        }

        fn due(&mut self) -> Vec<(PathKey, Vec<u8>)> {
            let (random, missed) = (&mut self.random, self.missed);
            self.outside.take_due(self.now, missed, || {
                *random += 1;
                *random
            })
        }

        /// Every server answers what it sees.
        fn round(&mut self, sees: impl Fn(&PathKey) -> Option<SocketAddr>) -> usize {
            let requests = self.due();
            for (over, request) in &requests {
                assert!(is_stun(request) && request.len() == 20);
                if let Some(seen) = sees(over) {
                    self.outside.handle(self.now, *over, &answer(request, seen));
                }
            }
            requests.len()
        }
    }

    const ONE: &str = "192.0.2.10:3478";
    const TWO: &str = "198.51.100.10:3478";

    #[test]
    fn a_nat_is_known_by_what_two_servers_see() {
        let laptop = [interface(1, &["10.0.0.2"])];
        let cases: [(&str, &str, Mapping, Option<&str>); 4] = [
            ("10.0.0.2:6278", "10.0.0.2:6278", Mapping::None, None),
            ("203.0.113.1:40000", "203.0.113.1:40000", Mapping::Same, Some("203.0.113.1:40000")),
            // What is told then is the port that it may have kept.
            ("203.0.113.1:40000", "203.0.113.1:40009", Mapping::ByDestination, Some("203.0.113.1:6278")),
            ("203.0.113.1:40000", "", Mapping::Unknown, Some("203.0.113.1:40000")),
        ];
        for (first, second, mapping, told) in cases {
            let mut host = Host::new(&[ONE, TWO], &laptop);
            host.round(|over| {
                Some(if over.remote == at(ONE) { first } else { second }).filter(|s| !s.is_empty()).map(at)
            });
            let seen = host.outside.seen();
            assert_eq!((seen.len(), seen[0].mapping), (1, mapping));
            let expected = told.map(|told| (InterfaceId(1), "10.0.0.2".parse().unwrap(), at(told)));
            assert_eq!(host.outside.told(), Vec::from_iter(expected));
        }
    }

    #[test]
    fn the_next_ports_are_guessed_of_a_nat_that_gives_them_in_turn() {
        let laptop = [interface(1, &["10.0.0.2"])];
        let see = |first: &'static str, second: &'static str| {
            let mut host = Host::new(&[ONE, TWO], &laptop);
            host.round(|over| Some(at(if over.remote == at(ONE) { first } else { second })));
            let told: Vec<u16> = host.outside.told().iter().map(|(.., at)| at.port()).collect();
            (host.outside.seen()[0].mapping, told)
        };
        let turn = |last, step| Mapping::InTurn { last, step };
        let ports = |first: u16, step: usize| (0..8).map(|n| first + n * step as u16).collect::<Vec<_>>();
        assert_eq!(see("203.0.113.1:7", "203.0.113.1:8"), (turn(8, 1), ports(9, 1)));
        assert_eq!(see("203.0.113.1:7", "203.0.113.1:11"), (turn(11, 4), ports(15, 4)));
        // There are no ports beyond the last.
        assert_eq!(see("203.0.113.1:65531", "203.0.113.1:65533").1, [65535]);
        for other in ["203.0.113.1:12", "203.0.113.1:6", "203.0.113.2:8"] {
            assert_eq!(see("203.0.113.1:7", other), (Mapping::ByDestination, vec![6278]), "{other}");
        }
    }

    #[test]
    fn how_far_a_nat_got_is_asked_elsewhere_before_a_peer_is_spoken_to() {
        let mut host = Host::new(&[ONE, TWO], &[interface(1, &["10.0.0.2"])]);
        let mut port = 40_000;
        let mut round = |host: &mut Host, more: u16| {
            port += more;
            let requests = host.due();
            for (over, request) in &requests {
                port += 1;
                let mut answer = answer(request, SocketAddr::new("203.0.113.1".parse().unwrap(), port));
                // Where the server is besides: RFC 5780, 7.4.
                answer.extend([0x80, 0x2c, 0, 8, 0, 1, 0x0d, 0x97, 203, 0, 113, 77]);
                answer[3] += 12;
                host.outside.handle(host.now, *over, &answer);
            }
            requests.into_iter().map(|(over, _)| over.remote).collect::<Vec<_>>()
        };
        assert_eq!(round(&mut host, 0), [at(ONE), at(TWO)]);
        let first = |host: &Host| host.outside.told()[0].2.port();
        assert_eq!(first(&host), 40_003);
        // Others behind the NAT had 20 ports meanwhile.
        let mut asked = Vec::new();
        for next in [40_024, 40_045, 40_066] {
            host.outside.freshen(host.now);
            asked.extend(round(&mut host, 20));
            assert_eq!(first(&host), next);
        }
        asked.sort();
        asked.dedup();
        assert_eq!(asked.len(), 3, "each another, as a mapping lasts: {asked:?}");
        host.outside.freshen(host.now);
        assert!(round(&mut host, 0).is_empty(), "there are no more");
        host.outside.sync(host.now, &[]);
        assert_eq!((host.outside.due(), host.outside.spare.len()), (None, 0));
    }

    #[test]
    fn only_the_answer_to_a_request_counts_and_only_once() {
        let mut host = Host::new(&[ONE], &[interface(1, &["10.0.0.2"])]);
        let requests = host.due();
        let (over, request) = &requests[0];
        let good = answer(request, at("203.0.113.1:40000"));
        let other = PathKey { remote: at(TWO), ..*over };
        assert!(!host.outside.handle(host.now, other, &good), "from somebody else");
        let mut forged = good.clone();
        forged[19] ^= 1;
        assert!(!host.outside.handle(host.now, *over, &forged), "another number");
        for lie in ["0.0.0.0:1", "224.0.0.1:1", "203.0.113.1:0", "[2001:db8::1]:1"] {
            assert!(!host.outside.handle(host.now, *over, &answer(request, at(lie))), "{lie}");
        }
        for length in 0..good.len() {
            assert!(!host.outside.handle(host.now, *over, &good[..length]), "{length}");
        }
        assert!(host.outside.handle(host.now, *over, &good));
        assert!(!host.outside.handle(host.now, *over, &answer(request, at("203.0.113.9:1"))), "once more");
        assert_eq!(host.outside.seen()[0].at, at("203.0.113.1:40000"));
    }

    #[test]
    fn a_server_that_is_silent_is_asked_seven_times_and_then_seldom() {
        let mut host = Host::new(&[ONE], &[interface(1, &["10.0.0.2"])]);
        let (start, mut sent) = (host.now, Vec::new());
        while host.now < start + Duration::from_secs(240) {
            host.now = host.outside.due().unwrap().max(host.now);
            sent.extend(host.due().iter().map(|_| host.now - start));
        }
        let seconds: Vec<f64> = sent.iter().take(8).map(Duration::as_secs_f64).collect();
        assert_eq!(seconds[..7], [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]);
        assert!(seconds[7] > 180.0 && sent.len() <= 14, "{sent:?}");
    }

    #[test]
    fn a_mapping_is_refreshed_while_a_peer_is_missed_and_else_it_costs_nothing() {
        let mut host = Host::new(&[ONE, TWO], &[interface(1, &["10.0.0.2"])]);
        let nat = |_: &PathKey| Some(at("203.0.113.1:40000"));
        assert_eq!(host.round(nat), 2);
        let minutes = |host: &mut Host| {
            let end = host.now + Duration::from_secs(300);
            let mut sent = 0;
            while host.outside.due().unwrap() < end {
                host.now = host.outside.due().unwrap();
                sent += host.round(nat);
            }
            sent
        };
        let kept = minutes(&mut host);
        assert!((10..=13).contains(&kept), "{kept}: one server, every 25 s");
        host.missed = false;
        assert_eq!(minutes(&mut host), 0);
        // Another port: the other server is asked as well.
        host.missed = true;
        host.now = host.outside.due().unwrap();
        let moved = |_: &PathKey| Some(at("203.0.113.1:50000"));
        host.round(moved);
        host.round(moved);
        assert_eq!(host.outside.seen()[0].at, at("203.0.113.1:50000"));
        assert_eq!(host.outside.seen()[0].mapping, Mapping::Same);
    }

    #[test]
    fn addresses_that_come_are_asked_about_and_those_that_go_are_forgotten() {
        let both = interface(1, &["10.0.0.2", "fd00::2"]);
        let mut host = Host::new(&[ONE, "[2001:db8::10]:3478"], std::slice::from_ref(&both));
        assert_eq!(host.round(|over| Some(SocketAddr::new(over.local, 7))), 2, "each version its own server");
        assert_eq!(host.outside.seen().len(), 2);
        let other = interface(2, &["10.9.0.2"]);
        host.outside.sync(host.now, &[Interface { usable: false, ..both }, other]);
        assert!(host.outside.seen().is_empty());
        assert_eq!(host.round(|_| None), 1);
        host.outside.set_servers(host.now, vec![at("224.0.0.1:1")], &[]);
        assert_eq!(host.outside.due(), None);
    }
}
