//! What a peer may say of what arrived, and of where it wants to be reached, that is not so.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::crypto::{IndexKey, Role};
use crate::interface::{InterfaceId, InterfaceKind};
use crate::wire::{Flags, Message, PathId, PathReport, Report};

struct NoBook;

impl crate::eid::EidBook for NoBook {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<EidPair> {
        None
    }
}

/// A host and a liar, who has two interfaces and tells its wishes by the first octets of a list.
struct Pair {
    now: Instant,
    honest: Context,
    liar: Context,
    /// Bytes of data that the honest one sent.
    data: usize,
    /// The liar hears nothing.
    mute: bool,
}

const HONEST: [u8; 4] = [192, 0, 2, 1];
const LIAR: [[u8; 4]; 2] = [[198, 51, 100, 1], [198, 51, 100, 2]];

fn host(now: Instant, liar: bool) -> Context {
    let mut context = Context::new(
        ContextConfig {
            indices: IndexKey::new([u8::from(liar); 32]).indices(1),
            instance: 1 + u64::from(liar),
            lower: !liar,
            name: String::new(),
            aeads: vec![Aead::ChaCha20Poly1305],
            eid_v6: crate::eid::eid_v6(&[u8::from(liar); 32]),
            eid_v4: None,
            port: 6278,
            expect: Some(PeerKind::Mast),
            disclosure: Default::default(),
            policy: Policy::Auto,
            hold: HoldLimits::default(),
            seed: [u8::from(liar); 32],
        },
        now,
    );
    let of = |id: u32, address: [u8; 4]| Interface {
        id: InterfaceId(id),
        name: format!("eth{id}"),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: vec![address.into()],
        link_local: None,
        usable: true,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    };
    let interfaces = if liar { vec![of(1, LIAR[0]), of(2, LIAR[1])] } else { vec![of(1, HONEST)] };
    context.handle_interfaces(now, interfaces.into());
    let remote = if liar { HONEST } else { LIAR[0] };
    context.set_addresses(now, AddressSource::Configuration, [SocketAddr::from((remote, 6278))]);
    context.connect(now);
    context
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut pair = Self { now, honest: host(now, false), liar: host(now, true), data: 0, mute: false };
        pair.run(Duration::from_secs(2));
        assert_eq!(pair.honest.state(pair.now), PeerState::Connected);
        assert_eq!(pair.honest.paths().filter(|p| p.state == PathState::Validated).count(), 2);
        pair
    }

    fn back(path: PathKey) -> PathKey {
        let id = match path.remote.ip() {
            ip if ip == IpAddr::from(LIAR[1]) => 2,
            _ => 1,
        };
        PathKey::direct(InterfaceId(id), path.remote.ip(), SocketAddr::new(path.local, 6278))
    }

    fn settle(&mut self) {
        loop {
            let now = self.now;
            let (to_liar, transmit) = match self.honest.poll_transmit(now) {
                Some(transmit) => (true, transmit),
                None => match self.liar.poll_transmit(now) {
                    Some(transmit) => (false, transmit),
                    None => break,
                },
            };
            let (from, to) = match to_liar {
                true => (&mut self.honest, &mut self.liar),
                false => (&mut self.liar, &mut self.honest),
            };
            match transmit {
                Transmit::Contact { path, .. } => {
                    to.secure_up(now, Self::back(path), Role::Target, true);
                    from.secure_up(now, path, Role::Initiator, true);
                }
                Transmit::Secure { path, payload } => {
                    to.handle_secure(now, Self::back(path), &payload, &mut NoBook);
                }
                Transmit::Datagram { path, mut payload } => {
                    if to_liar && payload[0] == 0x60 {
                        self.data += payload.len();
                    }
                    if !(to_liar && self.mute) {
                        to.handle_datagram(now, Self::back(path), &mut payload);
                    }
                }
                Transmit::Keepalive { .. } => {}
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let now = self.now;
            let due = [&self.honest, &self.liar].into_iter().filter_map(|h| h.poll_timeout(now)).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = now.max(due);
            for host in [&mut self.honest, &mut self.liar] {
                host.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// The honest one sends one datagram of this length.
    fn data(&mut self, length: usize) {
        let mut frame = vec![0x45; DATA_OVERHEAD + length];
        if let Outgoing::Send(path) = self.honest.seal_data(self.now, &mut frame, Flags::NONE) {
            self.data += frame.len();
            if !self.mute {
                self.liar.handle_datagram(self.now, Self::back(path), &mut frame);
            }
        }
    }

    fn says(&mut self, reports: Vec<PathReport>) {
        let at = self.liar.active_at().unwrap_or(0);
        let now = self.now;
        self.liar.send_message(now, at, &Message::Report(Report { reports, missing: None }));
        self.settle();
    }
}

fn any_report() -> impl Strategy<Value = PathReport> {
    let number = prop_oneof![0_u64..200, any::<u64>()];
    (0_u8..4, prop_oneof![0_u8..4, any::<u8>()], number.clone(), number.clone(), number, any::<bool>())
        .prop_map(|(path, epoch, highest, received, reordered, silent)| PathReport {
            path,
            epoch,
            highest,
            received,
            reordered,
            silent,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a peer says of what arrived, the paths to it work on, and the truth counts again.
    #[test]
    fn a_peer_may_report_anything(lies in proptest::collection::vec(proptest::collection::vec(any_report(), 0..6), 1..30)) {
        let mut pair = Pair::new();
        for lie in lies {
            pair.data(600);
            pair.says(lie);
            pair.run(Duration::from_millis(20));
            prop_assert!(pair.honest.paths.iter().all(|p| p.mtu() >= 1_280 - 48));
        }
        pair.run(Duration::from_secs(30));
        prop_assert_eq!(pair.honest.state(pair.now), PeerState::Connected);
        let before = pair.liar.last_data;
        pair.data(600);
        pair.run(Duration::from_secs(1));
        prop_assert!(pair.liar.last_data > before);
        prop_assert_eq!(pair.honest.outflow.unconfirmed(), 0, "what arrived is confirmed");
    }
}

/// Nothing that was never sent is confirmed, makes a path look good, or a size proved.
#[test]
fn what_was_not_sent_did_not_arrive() {
    let mut pair = Pair::new();
    pair.mute = true;
    for _ in 0..20 {
        pair.data(600);
    }
    let kept = pair.honest.outflow.unconfirmed();
    assert!(kept > 0);
    let path = pair.honest.active_at().map(|at| pair.honest.paths[at].id.0).unwrap_or(0);
    let epoch = pair.honest.keys.heard().map_or(0, |e| e.id.0);
    let of = |epoch: u8, highest: u64, received: u64, reordered: u64| PathReport {
        path,
        epoch,
        highest,
        received,
        reordered,
        silent: false,
    };
    for (what, lie) in [
        ("counters that are not reached", of(epoch, 1 << 40, 1, 0)),
        ("the largest", of(epoch, u64::MAX, u64::MAX, 0)),
        ("more than there can be", of(epoch, 3, 5, 0)),
        ("more late than arrived", of(epoch, 3, 3, 4)),
        ("keys that never were", of(epoch.wrapping_add(7), 3, 3, 0)),
    ] {
        let before = pair.honest.paths.iter().map(|p| p.reported).collect::<Vec<_>>();
        let at = pair.honest.active_at();
        pair.honest.handle_reports(pair.now, at, false, &[lie]);
        assert_eq!(pair.honest.outflow.unconfirmed(), kept, "{what}");
        assert_eq!(pair.honest.paths.iter().map(|p| p.reported).collect::<Vec<_>>(), before, "{what}");
    }
}

/// A peer that says nothing of what arrived and moves its wish to and fro is sent everything again once, and not each time.
#[test]
fn what_goes_again_goes_once_on_the_peers_word() {
    let mut pair = Pair::new();
    pair.mute = true;
    for _ in 0..400 {
        pair.data(1_200);
    }
    let sent = pair.data;
    let at = pair.honest.active_at().unwrap_or(0);
    let remotes = [0, 1].map(|n| SocketAddr::from((LIAR[n], 6278)));
    let started = pair.now;
    let mut moves = 0;
    for round in 0..60_u64 {
        // Its wish, as its SET would say it.
        let before = pair.honest.active_path();
        let list = pair.liar.own_addresses();
        let wanted = remotes[(round % 2) as usize];
        let addresses = list
            .into_iter()
            .map(|mut a| {
                a.priority = if a.at == wanted { 200 } else { 1 };
                a
            })
            .collect();
        let set = crate::wire::Set { sequence: 1_000 + round, addresses, mode: None };
        pair.honest.handle_control(pair.now, Some(at), pair.honest.paths[at].key, Message::Set(set));
        pair.settle();
        moves += usize::from(pair.honest.active_path() != before);
        pair.run(Duration::from_millis(20));
    }
    assert!(moves > 20, "{moves}");
    assert!(pair.now - started < Duration::from_secs(7));
    assert!(pair.data <= 2 * sent + 10_000, "{} for {sent}", pair.data);
}

/// What goes again ages from when it was sent first.
#[test]
fn what_goes_again_does_not_grow_young() {
    let mut now = Instant::now();
    let mut outflow = Outflow::new(HoldLimits::default());
    let past = crate::recent::Past::new(now);
    outflow.keep(now, PathId(0), (crate::wire::Epoch(0), 0), (0, Flags::NONE, past), &[0x45; 40]);
    let mut times = 0;
    for round in 0..40_u8 {
        now += Duration::from_millis(200);
        outflow.rescue(false, |path| path == PathId(round % 2 + 1));
        while outflow.next_length(now).is_some() {
            let Some(waited) = outflow.next(now) else { break };
            times += 1;
            let number = (waited.sequence.unwrap_or(0), waited.flags, waited.past);
            let path = PathId(round % 2 + 1);
            outflow.keep(now, path, (crate::wire::Epoch(0), u64::from(round)), number, &waited.datagram);
        }
    }
    assert!((1..=15).contains(&times), "{times}");
}

/// A number that the other end uses again, and one of a path that a NAT moved, is that of two paths here. Where it was is
/// silent, where it is now is not, and a report tells of that.
#[test]
fn a_number_that_two_paths_had_is_reported_as_the_later_is() {
    for order in [[0, 1], [1, 0]] {
        let mut pair = Pair::new();
        let id = pair.honest.paths[order[0]].peer_path;
        let now = pair.now;
        let [now_there, was_there] = order;
        pair.honest.paths[now_there].heard = Some(now);
        let was = &mut pair.honest.paths[was_there];
        (was.peer_path, was.heard) = (id, now.checked_sub(Duration::from_millis(300)));
        (was.state, was.suspect_since) = (PathState::Suspect, Some(now));
        let reports = pair.honest.reports();
        let of: Vec<_> = reports.iter().filter(|r| Some(r.path) == id.map(|id| id.0)).collect();
        assert_eq!(of.len(), 1, "{order:?}");
        assert!(!of[0].silent, "{order:?}");
    }
}

/// An answer that comes over a path shows that it is not silent, whatever it says.
#[test]
fn an_answer_that_calls_its_own_path_silent_asks_no_question() {
    let mut pair = Pair::new();
    let at = pair.honest.active_at().unwrap_or(0);
    let path = pair.honest.paths[at].id.0;
    let epoch = pair.honest.keys.heard().map_or(0, |e| e.id.0);
    let report = PathReport { path, epoch, highest: 1, received: 2, reordered: 0, silent: true };
    pair.honest.handle_reports(pair.now, Some(at), true, &[report]);
    assert_eq!(pair.honest.paths[at].state, PathState::Validated);
    // Over another path, or unasked, it may be so.
    pair.honest.handle_reports(pair.now, Some(at), false, &[report]);
    assert_eq!(pair.honest.paths[at].state, PathState::Suspect);
}
