//! Two contexts in memory: runs of datagrams, what is agreed at first contact, and beginning anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mast_proto::wire::{EidPair, Flags, ShutReason};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, DATA_HEADROOM, DATA_OVERHEAD, DATA_TAILROOM, Drop, EidBook,
    Event, Fitness, HoldLimits, IndexKey, Interface, InterfaceId, InterfaceKind, LeftOut, Outgoing, Outlook,
    Part, PathKey, PathState, PeerKind, PeerState, Policy, Reason, Received, Role, Transmit,
};

/// Which IPv4 EIDs a host can use: all but some, and what it proposes.
#[derive(Default)]
struct Book {
    taken: Vec<EidPair>,
    proposals: Vec<EidPair>,
}

impl EidBook for Book {
    fn is_free(&self, pair: EidPair) -> bool {
        !self.taken.contains(&pair)
    }

    fn propose(&mut self) -> Option<EidPair> {
        self.proposals.pop()
    }
}

fn pair(n: u8) -> EidPair {
    EidPair { own: [100, 64, n, 0].into(), other: [100, 64, n, 1].into() }
}

/// The address of a host on one of two networks, which lead to each other's of the same number.
fn at(host: usize, network: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, network, host as u8 + 1], 6278))
}

fn interface(host: usize, network: u8) -> Interface {
    let kind = if network == 1 { InterfaceKind::Ethernet } else { InterfaceKind::Wifi };
    Interface {
        id: InterfaceId(network.into()),
        name: format!("if{network}"),
        kind,
        network: None,
        metered: false,
        addresses: vec![at(host, network).ip()],
        link_local: None,
        usable: true,
        outlook: Outlook::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    }
}

fn context(now: Instant, host: usize, instance: u64, policy: Policy) -> Context {
    let config = ContextConfig {
        indices: IndexKey::new([host as u8; 32]).indices(1),
        instance,
        lower: host == 0,
        name: format!("host {host}"),
        aeads: vec![Aead::ChaCha20Poly1305],
        eid_v6: mast_proto::eid_v6(&[host as u8; 32]),
        eid_v4: None,
        port: 6278,
        expect: Some(PeerKind::Mast),
        disclosure: Default::default(),
        policy,
        hold: HoldLimits::default(),
        seed: [instance as u8; 32],
    };
    let mut context = Context::new(config, now);
    context.handle_interfaces(now, [interface(host, 1), interface(host, 2)].into());
    context
}

/// Two hosts with two networks between them, which take `DELAY` each way, and whose time is the test's.
struct Two {
    now: Instant,
    hosts: [Context; 2],
    books: [Book; 2],
    /// When it arrives, at whom, over which network, and what.
    flying: Vec<(Instant, usize, u8, Transmit)>,
    events: [Vec<Event>; 2],
    /// What arrived for the host's own stack.
    arrived: [Vec<Vec<u8>>; 2],
    duplicates: usize,
    /// Where host 0 seems to be in network 1, by a NAT that gave it another address: nothing else leads there.
    mapped: Option<SocketAddr>,
    /// So many datagrams left.
    left: usize,
    /// How long each network takes, each way.
    delay: [Duration; 2],
}

const DELAY: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(25)];

impl Two {
    fn of(policies: [Policy; 2], now: Instant) -> Self {
        let [a, b] = policies;
        let mut hosts = [context(now, 0, 7, a), context(now, 1, 8, b)];
        hosts[0].set_addresses(now, AddressSource::Configuration, [at(1, 1), at(1, 2)]);
        hosts[0].connect(now);
        Self {
            now,
            hosts,
            books: Default::default(),
            flying: Vec::new(),
            events: Default::default(),
            arrived: Default::default(),
            duplicates: 0,
            mapped: None,
            left: 0,
            delay: DELAY,
        }
    }

    fn connected(policy: Policy) -> Self {
        let mut two = Self::of([policy, Policy::Auto], Instant::now());
        two.run(2_000);
        assert!(two.hosts.iter().all(|h| h.state(two.now) == PeerState::Connected));
        two
    }

    fn path(own: usize, network: u8) -> PathKey {
        PathKey::direct(InterfaceId(network.into()), at(own, network).ip(), at(1 - own, network))
    }

    /// Where a host is for the other.
    fn home(&self, host: usize, network: u8) -> SocketAddr {
        self.mapped.filter(|_| (host, network) == (0, 1)).unwrap_or(at(host, network))
    }

    fn collect(&mut self) {
        for from in 0..2 {
            while let Some(transmit) = self.hosts[from].poll_transmit(self.now) {
                let path = match &transmit {
                    Transmit::Datagram { path, .. }
                    | Transmit::Contact { path, .. }
                    | Transmit::Keepalive { path }
                    | Transmit::Secure { path, .. } => *path,
                };
                let network = path.interface.0 as u8;
                self.left += 1;
                if path.remote == self.home(1 - from, network) {
                    let arrives = self.now + self.delay[usize::from(network) - 1];
                    self.flying.push((arrives, 1 - from, network, transmit));
                }
            }
            while let Some(event) = self.hosts[from].poll_event() {
                self.events[from].push(event);
            }
        }
    }

    fn arrive(&mut self, to: usize, network: u8, transmit: Transmit) {
        let path = PathKey { remote: self.home(1 - to, network), ..Self::path(to, network) };
        match transmit {
            Transmit::Contact { .. } => {
                self.hosts[to].secure_up(self.now, path, Role::Target, true);
                self.hosts[1 - to].secure_up(self.now, Self::path(1 - to, network), Role::Initiator, true);
            }
            Transmit::Keepalive { .. } => {}
            Transmit::Secure { payload, .. } => {
                self.hosts[to].handle_secure(self.now, path, &payload, &mut self.books[to]);
            }
            Transmit::Datagram { mut payload, .. } => {
                match self.hosts[to].handle_datagram(self.now, path, &mut payload) {
                    Received::Data(range, _) => self.arrived[to].push(payload[range].to_vec()),
                    Received::Dropped(Drop::Duplicate) => self.duplicates += 1,
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            self.collect();
            self.flying.sort_by_key(|flight| flight.0);
            let due = self.hosts.iter().filter_map(|h| h.poll_timeout(self.now)).min();
            let next = self.flying.first().map(|flight| flight.0).into_iter().chain(due).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if self.flying.first().is_some_and(|flight| flight.0 <= self.now) {
                let (_, to, network, transmit) = self.flying.remove(0);
                self.arrive(to, network, transmit);
            }
            for host in &mut self.hosts {
                if host.poll_timeout(self.now).is_some_and(|due| due <= self.now) {
                    host.handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    /// One datagram, at once.
    fn says(&mut self, host: usize, text: &[u8]) -> Outgoing {
        let mut frame = frame(text);
        let outcome = self.hosts[host].seal_data(self.now, &mut frame, Flags::NONE);
        if let Outgoing::Send(path) = outcome {
            self.arrive(1 - host, path.interface.0 as u8, Transmit::Datagram { path, payload: frame });
        }
        outcome
    }
}

fn frame(text: &[u8]) -> Vec<u8> {
    [&[0; DATA_HEADROOM][..], text, &[0; DATA_TAILROOM]].concat()
}

/// So many frames of `stride` bytes in a row; the last is shorter.
fn frames(count: usize, stride: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for n in 0..count {
        let short = if n + 1 == count { 7 } else { 0 };
        all.extend(frame(&vec![n as u8 + 1; stride - DATA_OVERHEAD - short]));
    }
    all
}

const STRIDE: usize = 300;

/// Has one host seal a run: either at once, or prepared first and sealed later.
fn sealed(two: &mut Two, count: usize, later: bool) -> (Vec<u8>, PathKey) {
    let (mut frames, now) = (frames(count, STRIDE), two.now);
    let (sealed, outcome) = if later {
        let (sealed, outcome, rest) = two.hosts[0].prepare_run(now, &mut frames, STRIDE, Flags::NONE);
        rest.expect("it is left to be sealed").seal(&mut frames, STRIDE);
        (sealed, outcome)
    } else {
        two.hosts[0].seal_run(now, &mut frames, STRIDE, Flags::NONE)
    };
    let Outgoing::Send(path) = outcome else { panic!("{outcome:?}") };
    assert_eq!(sealed, count, "nothing is in the way");
    (frames, path)
}

#[test]
fn a_run_arrives_whole_whether_it_is_sealed_at_once_or_later() {
    for later in [false, true] {
        let mut two = Two::connected(Policy::Auto);
        let (mut datagrams, path) = sealed(&mut two, 9, later);
        assert_eq!(path, Two::path(0, 1), "the quicker one");
        let (now, to) = (two.now, Two::path(1, 1));
        let mut out = Vec::new();
        let mut again = datagrams.clone();
        two.hosts[1].handle_run(now, to, &mut datagrams, STRIDE, &mut out);
        assert_eq!(out.len(), 9);
        for (n, (place, received)) in out.iter().enumerate() {
            let Received::Data(range, flags) = received else { panic!("{received:?}") };
            assert_eq!(*flags, Flags::NONE);
            let text = &datagrams[place.clone()][range.clone()];
            let length = STRIDE - DATA_OVERHEAD - if n == 8 { 7 } else { 0 };
            assert_eq!(text, vec![n as u8 + 1; length], "datagram {n}");
        }
        // What is captured and sent again is known.
        out.clear();
        two.hosts[1].handle_run(now, to, &mut again, STRIDE, &mut out);
        assert!(out.iter().all(|(_, r)| *r == Received::Dropped(Drop::Replayed)), "{out:?}");
    }
}

/// Many at once are nothing else than one after the other.
#[test]
fn a_run_is_taken_as_its_datagrams_are() {
    let begun = Instant::now();
    let make = || {
        let mut two = Two::of([Policy::Auto, Policy::Auto], begun);
        two.run(2_000);
        two
    };
    let spoilt = |two: &mut Two| {
        let (mut datagrams, _) = sealed(two, 12, false);
        let place = |n: usize| n * STRIDE..(n + 1) * STRIDE;
        // One is changed, one comes twice, one has another header, one is for somebody else, one is nothing.
        datagrams[3 * STRIDE + 40] ^= 1;
        datagrams.copy_within(place(1), 4 * STRIDE);
        datagrams[6 * STRIDE + 3] ^= 2;
        datagrams[8 * STRIDE + 7] ^= 1;
        datagrams[place(9)].fill(0);
        // One carries no data, not even its number.
        let (now, mut empty) = (two.now, vec![0; STRIDE]);
        let length = datagrams.len();
        two.hosts[0].seal_run(now, &mut empty, STRIDE, Flags::NONE);
        datagrams.truncate(length);
        datagrams
    };
    let (mut run, mut one) = (make(), make());
    let mut together = spoilt(&mut run);
    let mut apart = spoilt(&mut one);
    assert_eq!(together, apart, "both are the same");
    let (now, to, mut out) = (run.now, Two::path(1, 1), Vec::new());
    run.hosts[1].handle_run(now, to, &mut together, STRIDE, &mut out);
    let mut dropped = Vec::new();
    for (n, (datagram, (place, received))) in apart.chunks_mut(STRIDE).zip(&out).enumerate() {
        assert_eq!(place.start, n * STRIDE);
        let alone = one.hosts[1].handle_datagram(now, to, datagram);
        assert_eq!(*received, alone, "datagram {n}");
        if let Received::Dropped(why) = alone {
            dropped.push((n, why));
        }
    }
    let expected = [
        (3, Drop::NotAuthentic),
        (4, Drop::Replayed),
        (6, Drop::NotAuthentic),
        (8, Drop::NotAuthentic),
        (9, Drop::Malformed),
    ];
    assert_eq!(dropped, expected);
    assert_eq!(run.hosts[1].poll_timeout(now), one.hosts[1].poll_timeout(now));
}

#[test]
fn a_run_that_nothing_carries_yet_is_held_and_comes_with_the_path() {
    let mut two = Two::of([Policy::Auto, Policy::Auto], Instant::now());
    let (mut all, now) = (frames(4, STRIDE), two.now);
    let mut from = 0;
    while from < all.len() {
        let (count, outcome) = two.hosts[0].seal_run(now, &mut all[from..], STRIDE, Flags::NONE);
        assert_eq!((count, outcome), (1, Outgoing::Held), "each by itself");
        from += STRIDE;
    }
    two.run(2_000);
    let first: Vec<u8> = two.arrived[1].iter().map(|datagram| datagram[0]).collect();
    assert_eq!(first, [1, 2, 3, 4]);
}

/// In the redundant mode a run goes out twice, and each datagram is delivered once.
#[test]
fn copies_of_a_run_are_known_for_what_they_are() {
    let mut two = Two::connected(Policy::Redundant { small: false, metered: false });
    let (mut datagrams, path) = sealed(&mut two, 6, false);
    let (now, network, mut out) = (two.now, path.interface.0 as u8, Vec::new());
    // The copies overtake: the others come too late.
    two.run(100);
    assert_eq!(two.arrived[1].len(), 6, "over the other path");
    two.hosts[1].handle_run(now, Two::path(1, network), &mut datagrams, STRIDE, &mut out);
    assert_eq!(out.len(), 6);
    assert!(out.iter().all(|(_, r)| *r == Received::Dropped(Drop::Duplicate)), "{out:?}");

    // Small ones alone, where that is the wish: a run of larger ones is not copied.
    let small = Policy::Redundant { small: true, metered: false };
    let now = two.now;
    two.hosts[0].set_policy(now, small);
    two.run(500);
    two.arrived[1].clear();
    let mut large = frames(3, 1_000);
    let (_, outcome) = two.hosts[0].seal_run(two.now, &mut large, 1_000, Flags::NONE);
    assert!(matches!(outcome, Outgoing::Send(_)));
    two.run(100);
    assert_eq!(two.arrived[1].len(), 0);
    assert!(matches!(two.says(0, &[9; 100]), Outgoing::Send(_)));
    two.run(100);
    assert_eq!((two.arrived[1].len(), two.duplicates), (1, 1), "the small one came twice");
}

/// After a snapshot was restored somebody else may have the keys: nothing that was sealed before is taken after.
#[test]
fn beginning_anew_leaves_the_old_keys_behind() {
    let mut two = Two::connected(Policy::Auto);
    let (recorded, _) = sealed(&mut two, 1, false);
    assert!(matches!(two.says(0, b"before"), Outgoing::Send(_)));
    two.events = Default::default();
    let now = two.now;
    two.hosts[0].begin_anew(now, 9, [9; 32]);
    assert_eq!(two.says(0, b"held meanwhile"), Outgoing::Held);
    two.run(3_000);
    assert!(two.hosts.iter().all(|h| h.state(two.now) == PeerState::Connected));
    assert_eq!(two.arrived[1].last().unwrap(), b"held meanwhile");
    let restarted = |e: &Event| matches!(e, Event::Established { restarted: true, .. });
    assert!(two.events[1].iter().any(restarted), "{:?}", two.events[1]);
    assert!(!two.events[0].iter().any(restarted), "this end knows the other");
    let (now, path) = (two.now, Two::path(1, 1));
    let received = two.hosts[1].handle_datagram(now, path, &mut recorded.clone());
    assert!(matches!(received, Received::Dropped(_)), "{received:?}");

    // Who has no keys has nothing to begin, and who ended stays so.
    let mut idle = context(now, 1, 20, Policy::Auto);
    idle.begin_anew(now, 21, [1; 32]);
    assert_eq!((idle.poll_transmit(now), idle.state(now)), (None, PeerState::Down));
    two.hosts[0].shut(now, ShutReason::Down);
    two.hosts[0].begin_anew(now, 10, [10; 32]);
    two.run(5_000);
    assert_eq!(two.hosts[0].state(two.now), PeerState::Down);
}

/// What either end knows of the other is what the other says.
#[test]
fn both_ends_know_each_other() {
    let mut two = Two::of([Policy::Auto, Policy::Auto], Instant::now());
    two.hosts[0].propose_eids(Some(pair(7)));
    assert_eq!(two.hosts[0].last_heard(), None);
    assert_eq!(two.hosts[0].state(two.now), PeerState::Connecting);
    assert_eq!(two.hosts[1].state(two.now), PeerState::Down);
    two.run(2_000);
    for (n, host) in two.hosts.iter().enumerate() {
        assert_eq!(host.kind(), Some(PeerKind::Mast));
        assert_eq!(host.peer_name(), format!("host {}", 1 - n));
        assert_eq!(host.peer_eid_v6(), Some(mast_proto::eid_v6(&[1 - n as u8; 32])));
        assert_eq!(host.indices().context(), 1);
        assert!(host.last_heard().is_some_and(|at| at <= two.now));
        assert!(host.knows(at(1 - n, 1)), "it answered from there");
        assert!(!host.knows(at(1 - n, 9)));
    }
    assert_eq!(two.hosts[0].eid_v4(), Some(pair(7)), "what the initiator proposed");
    assert_eq!(two.hosts[1].eid_v4(), Some(pair(7).flipped()));
    assert!(two.hosts[0].reported(&Two::path(0, 9)).is_none());
}

/// Somebody looks: a path of which nothing was heard lately is tried, and one that was heard just now is left alone.
#[test]
fn a_look_tries_a_path_that_was_quiet() {
    let mut two = Two::connected(Policy::Auto);
    two.says(1, b"hello");
    let now = two.now;
    two.hosts[0].check(now);
    assert_eq!(two.hosts[0].poll_transmit(now), None, "heard just now");
    let quiet = |two: &Two| two.now - two.hosts[0].last_heard().unwrap();
    for _ in 0..600 {
        two.run(100);
        if quiet(&two) > Duration::from_secs(4) {
            break;
        }
    }
    assert!(quiet(&two) > Duration::from_secs(4), "only {:?}", quiet(&two));
    let now = two.now;
    two.hosts[0].check(now);
    assert!(matches!(two.hosts[0].poll_transmit(now), Some(Transmit::Datagram { .. })));
    two.run(100);
    assert!(two.hosts[0].last_heard().unwrap() > now, "it answers");
}

/// Two hosts that begin at once, or the first of which begins, settle on one pair of IPv4 EIDs.
fn settled(both: bool, proposed: [Option<u8>; 2], taken: [&[u8]; 2], spare: [&[u8]; 2]) -> Option<u8> {
    let mut two = Two::of([Policy::Auto, Policy::Auto], Instant::now());
    let now = two.now;
    for n in 0..2 {
        let seen = |m: &u8| if n == 0 { pair(*m) } else { pair(*m).flipped() };
        two.hosts[n].propose_eids(proposed[n].as_ref().map(seen));
        two.books[n].taken = taken[n].iter().map(seen).collect();
        two.books[n].proposals = spare[n].iter().rev().map(seen).collect();
    }
    if both {
        two.hosts[1].set_addresses(now, AddressSource::Configuration, [at(0, 1)]);
        two.hosts[1].connect(now);
    }
    two.run(4_000);
    assert!(two.hosts.iter().all(|h| h.state(two.now) == PeerState::Connected));
    let [a, b] = [0, 1].map(|n| two.hosts[n].eid_v4());
    assert_eq!(a, b.map(EidPair::flipped), "both ends use the same pair");
    a.map(|a| a.own.octets()[2])
}

#[test]
fn eids_are_settled_whoever_proposes() {
    assert_eq!(settled(true, [Some(1), Some(2)], [&[], &[]], [&[], &[]]), Some(1), "the lower key's");
    assert_eq!(settled(false, [Some(1), None], [&[], &[]], [&[], &[]]), Some(1), "the initiator's");
    assert_eq!(settled(false, [Some(1), None], [&[], &[1]], [&[], &[3]]), Some(3), "the other cannot use it");
    assert_eq!(
        settled(false, [None, None], [&[], &[]], [&[], &[4]]),
        Some(4),
        "one has something to propose"
    );
    assert_eq!(settled(false, [None, None], [&[], &[]], [&[], &[]]), None, "nobody has");
    let neither = settled(false, [Some(1), None], [&[3], &[1]], [&[5], &[3]]);
    assert_eq!(neither, Some(5), "neither can use what the other has");
}

/// Two first contacts cross, and what one end has agreed to is not what the other end has.
#[test]
fn eids_are_settled_where_contacts_cross() {
    assert_eq!(settled(true, [Some(1), None], [&[], &[1]], [&[], &[3]]), Some(3), "the other cannot use it");
    assert_eq!(settled(true, [Some(1), None], [&[], &[1]], [&[6], &[3]]), Some(3));
    assert_eq!(settled(true, [Some(1), Some(2)], [&[], &[1]], [&[6], &[3]]), Some(3));
    assert!(settled(true, [None, Some(2)], [&[2], &[]], [&[6], &[3]]).is_some());
}

/// A weak radio is an ailment before anything is lost, and the other path is looked after.
/// Where the peer was before is silent, and where it is now is not: neither end asks the other about it over and over.
#[test]
fn a_nat_that_gives_a_new_address_is_followed_without_a_storm() {
    for (data, policy) in
        [(false, Policy::Auto), (true, Policy::Auto), (true, Policy::Bonded { metered: false })]
    {
        let mut two = Two::connected(policy.clone());
        two.delay = [Duration::from_micros(100), Duration::from_micros(300)];
        let say = |two: &mut Two, times: usize| {
            for _ in 0..times {
                if data {
                    let text = [0x45; 40];
                    // Over network 1 nothing reaches host 0 at its old address.
                    for host in 0..2 {
                        let mut frame = frame(&text);
                        let outcome = two.hosts[host].seal_data(two.now, &mut frame, Flags::NONE);
                        if let Outgoing::Send(path) = outcome
                            && path.remote == two.home(1 - host, path.interface.0 as u8)
                        {
                            let sent = Transmit::Datagram { path, payload: frame };
                            two.arrive(1 - host, path.interface.0 as u8, sent);
                        }
                    }
                }
                two.run(20);
            }
        };
        say(&mut two, 100);
        let before = std::mem::take(&mut two.left);
        two.mapped = Some(SocketAddr::from(([203, 0, 113, 9], 1_024)));
        say(&mut two, 100);
        let moving = std::mem::take(&mut two.left);
        assert!(moving < before + 60, "{policy:?}, data {data}: {moving} in 2 s, {before} in the 2 s before");
        assert!(two.hosts.iter().all(|h| h.state(two.now) == PeerState::Connected));
    }
}

#[test]
fn a_weak_radio_is_an_ailment() {
    let mut two = Two::connected(Policy::Auto);
    let busy = |two: &mut Two, turns: usize| {
        for _ in 0..turns {
            two.says(0, &[1; 200]);
            two.says(1, &[1; 200]);
            two.run(20);
        }
    };
    let part = |two: &Two, network: u8| {
        let id = two.hosts[0].paths().find(|view| view.key == Two::path(0, network)).unwrap().id;
        two.hosts[0].parts().into_iter().find(|part| part.id == id).unwrap()
    };
    busy(&mut two, 100);
    assert_eq!((part(&two, 1).part, part(&two, 1).ailment), (Part::Carries, None));
    let answered = part(&two, 2).answered;
    let weak = Outlook { weak: true, spent: false };
    let now = two.now;
    two.hosts[0]
        .handle_interfaces(now, [Interface { outlook: weak, ..interface(0, 1) }, interface(0, 2)].into());
    two.run(100);
    assert!(part(&two, 1).ailment.is_some());
    assert!(part(&two, 2).answered > answered, "it may be needed soon");
    two.hosts[0].handle_interfaces(now, [interface(0, 1), interface(0, 2)].into());
    busy(&mut two, 10);
    assert_eq!((part(&two, 1).part, part(&two, 1).ailment), (Part::Carries, None));
}

/// A path that costs is asked seldom; more often where the one that carries is strained, as it may be needed soon.
#[test]
fn a_path_that_costs_is_asked_seldom_unless_it_may_be_needed() {
    let asked = |weak: bool| {
        let mut two = Two::connected(Policy::Auto);
        let outlook = Outlook { weak, spent: false };
        let costly = Interface { metered: true, ..interface(0, 2) };
        let now = two.now;
        two.hosts[0].handle_interfaces(now, [Interface { outlook, ..interface(0, 1) }, costly].into());
        let (mut asked, mut known) = (0, None);
        for _ in 0..1_500 {
            two.says(0, &[1; 200]);
            two.says(1, &[1; 200]);
            two.run(20);
            let id = two.hosts[0].paths().find(|view| view.key == Two::path(0, 2)).unwrap().id;
            let answered = two.hosts[0].parts().into_iter().find(|part| part.id == id).unwrap().answered;
            asked += usize::from(std::mem::replace(&mut known, answered) != answered);
        }
        asked
    };
    let (fit, weak) = (asked(false), asked(true));
    assert!((1..=5).contains(&fit), "{fit} times in half a minute");
    assert!((10..=40).contains(&weak), "{weak} times in half a minute");
}

/// The end is said more than once where nobody answers, with a pause between, and then it is the end.
#[test]
fn an_end_that_nobody_hears_is_said_again_and_then_is_one() {
    let mut two = Two::connected(Policy::Auto);
    let begun = two.now;
    two.hosts[0].shut(begun, ShutReason::Down);
    let mut said = Vec::new();
    while two.hosts[0].is_shutting() {
        let now = two.now;
        let count = std::iter::from_fn(|| two.hosts[0].poll_transmit(now)).count();
        if count > 0 {
            said.push(now);
        }
        two.now = two.hosts[0].poll_timeout(now).unwrap().max(now);
        let now = two.now;
        two.hosts[0].handle_timeout(now);
        assert!(now - begun < Duration::from_secs(10), "it ends");
    }
    assert!(said.len() > 1, "{said:?}");
    for times in said.windows(2) {
        assert!(times[1] - times[0] >= 2 * DELAY[0], "no sooner than an answer can be there: {said:?}");
    }
    assert_eq!(two.hosts[0].state(two.now), PeerState::Down);
    // Who hears it answers, and both are done at once.
    let mut two = Two::connected(Policy::Auto);
    let now = two.now;
    two.hosts[0].shut(now, ShutReason::Down);
    two.run(100);
    assert!(!two.hosts[0].is_shutting() && two.hosts[1].was_shut());
}

fn all_differ(words: &[&str]) {
    for (n, word) in words.iter().enumerate() {
        assert!(!word.is_empty() && !words[..n].contains(word), "{word:?} among {words:?}");
    }
}

/// Words of output and of files say one thing each, and are read as they are written.
#[test]
fn words_say_one_thing_each() {
    let drops = [
        Drop::Malformed,
        Drop::UnknownEpoch,
        Drop::Replayed,
        Drop::NotAuthentic,
        Drop::Duplicate,
        Drop::BadMessage,
    ];
    all_differ(&drops.map(Drop::as_str));
    use LeftOut::*;
    let left = [
        Drill,
        Policy,
        PeerRefuses,
        Untried,
        Silent,
        Unfit,
        Order,
        PeerWish,
        Metered,
        Strained,
        Alike,
        Slower,
        Spare,
    ];
    let mut words = vec![Part::Carries.as_str()];
    words.extend(left.map(|why| Part::Left(why).as_str()));
    all_differ(&words);
    all_differ(&[Fitness::Fit, Fitness::Strained, Fitness::Unfit].map(Fitness::as_str));
    use PathState::*;
    all_differ(&[Candidate, Validating, Validated, Suspect, Failed].map(PathState::as_str));
    let reasons = [
        Reason::InterfaceDown,
        Reason::AddressGone,
        Reason::Silent,
        Reason::PeerSilent,
        Reason::PeerAddressGone,
        Reason::Unreachable,
        Reason::Policy,
        Reason::PeerWish,
        Reason::Better,
        Reason::Connected,
        Reason::Restored,
        Reason::Drill,
        Reason::Unfit(Default::default()),
    ];
    all_differ(&reasons.map(Reason::as_str));
    let sources = AddressSource::ALL.map(AddressSource::as_str);
    all_differ(&sources);
    for source in AddressSource::ALL {
        assert_eq!(AddressSource::from_word(source.as_str()), Some(source));
    }
    assert_eq!(AddressSource::from_word("elsewhere"), None);
    let modes = [
        mast_proto::Policy::Auto,
        mast_proto::Policy::Pin { order: Vec::new(), fallback: true },
        mast_proto::Policy::Redundant { small: true, metered: false },
        mast_proto::Policy::Bonded { metered: false },
    ];
    let modes: Vec<&str> = modes.iter().map(mast_proto::Policy::mode).collect();
    all_differ(&modes);
}
