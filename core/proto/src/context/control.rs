//! The control exchange inside an established context: SET, PROBE, REPORT, SHUT, and their acknowledgements.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::bonded::Bond;
use super::locals::OwnAddress;
use super::path::Path;
use super::{AddressSource, Context, Event, PathKey, Reason, Via, timing};
use crate::crypto::TAG_LEN;
use crate::disclosure::{AddressesTold, Disclosure, is_of_use, private_block};
use crate::wire::{
    Address, AddressFlags, AddressId, AddressKind, Epoch, Flags, HEADER_LEN, Kind, MAX_ADDRESSES,
    MAX_REPORTS, Message, ModeWish, PathReport, ProbeAck, Report, Set, SetAck, Shut, ShutAck, ShutReason,
};

/// The priority of an address at a relay over which a path works: less than that of any other that works.
const RELAYED: u8 = 8;

/// In place of an address that is not told.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Whether an address can be another host's: a peer must not make this host talk to itself, or to everybody.
fn is_far(at: SocketAddr) -> bool {
    match at.ip() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_broadcast() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

/// This end's list of addresses and its wish for a mode, as told to the other.
#[derive(Debug, Default)]
pub(super) struct OwnSet {
    sequence: u64,
    acknowledged: bool,
    sent: Option<Instant>,
    tries: u32,
    list: Vec<Address>,
    mode: Option<ModeWish>,
}

impl OwnSet {
    /// The other end has forgotten the list.
    pub fn unacknowledged(&mut self) {
        self.acknowledged = false;
        self.sent = None;
        self.tries = 0;
        self.list.clear();
        self.mode = None;
    }

    /// After so many tries only an answered PROBE brings another.
    const TRIES: u32 = 8;

    fn pending(&self) -> bool {
        self.sequence > 0 && !self.acknowledged
    }

    /// It was sent in vain: it goes again with what proves that a path works.
    pub fn given_up(&self) -> bool {
        self.pending() && self.tries >= Self::TRIES
    }
}

impl Context {
    /// Seals a control message and queues it; `false` when it cannot go over this path now.
    pub(super) fn send_message(&mut self, now: Instant, at: usize, message: &Message) -> bool {
        self.send_content(now, at, &message.encode())
    }

    /// The same of a message's bytes.
    pub(super) fn send_content(&mut self, now: Instant, at: usize, content: &[u8]) -> bool {
        let mut payload = vec![0; HEADER_LEN];
        payload.extend(content);
        payload.resize(payload.len() + TAG_LEN, 0);
        let Some(path) = self.paths.get(at) else { return false };
        if self.is_silenced(path) {
            return false;
        }
        let cost = Path::cost(path.key.remote, payload.len());
        // An address that did not answer gets no more than came from it; or, if the peer names it, than came from the
        // peer at all and was spent on no other. What this end's user names is asked for by the user.
        let free = path.remote_known || self.remotes.is_own(path.key.remote) || path.may_take(payload.len());
        if !free && (!self.remotes.names(path.key.remote) || self.allowance < cost) {
            return false;
        }
        match self.seal(now, at, (Kind::Control, Flags::NONE), &mut payload) {
            Some(path) => {
                if !free {
                    self.allowance -= cost;
                }
                self.transmits.push_back(super::Transmit::Datagram { path, payload });
                true
            }
            None => false,
        }
    }

    /// What has arrived over the other end's paths, in the epoch that it seals with.
    pub(super) fn reports(&mut self) -> Vec<PathReport> {
        for path in &mut self.paths {
            path.unreported = 0;
            path.unreported_ordered = false;
        }
        let Some(epoch) = self.keys.heard() else { return Vec::new() };
        let mut seen = Vec::new();
        // Where a path came from before a NAT moved it, it is silent; where it comes from now, it need not be.
        let moved = |p: &Path| self.paths.iter().any(|o| o.peer_path == p.peer_path && o.heard > p.heard);
        self.paths
            .iter()
            .filter_map(|p| {
                let id = p.peer_path.filter(|id| !seen.contains(id) && !moved(p))?;
                seen.push(id);
                epoch.report(id, p.suspect_since.is_some() && !p.peer_silent)
            })
            .take(MAX_REPORTS)
            .collect()
    }

    /// Sends what is owed over a path: a REPORT of it.
    pub(super) fn send_report(&mut self, now: Instant, at: usize) {
        let reports = self.reports();
        let missing = self.received.missing(now);
        let missing = (!missing.is_empty()).then_some(missing);
        self.send_message(now, at, &Message::Report(Report { reports, missing }));
        // It went or cannot go, and is not due again for what has come until now.
        if let Some(path) = self.paths.get_mut(at) {
            path.owed = None;
        }
    }

    pub(super) fn handle_control(&mut self, now: Instant, at: Option<usize>, key: PathKey, message: Message) {
        match message {
            Message::Probe(probe) => {
                if let Some(path) = at.and_then(|at| self.paths.get_mut(at)) {
                    path.peer_address = Some(probe.address);
                    path.probed = Some(now);
                }
                self.handle_reports(now, at, false, &probe.reports);
                if let Some(at) = at {
                    let ack = ProbeAck {
                        nonce: probe.nonce,
                        observed: key.remote,
                        time: probe.time,
                        reports: self.reports(),
                    };
                    self.send_message(now, at, &Message::ProbeAck(ack));
                }
                self.select(now, Reason::Better);
            }
            Message::ProbeAck(ack) => {
                self.handle_reports(now, at, true, &ack.reports);
                if let Some(at) = at {
                    self.handle_probe_ack(now, at, &ack);
                }
            }
            Message::Set(set) => self.handle_set(now, at, set),
            Message::SetAck(ack) => {
                if ack.sequence == self.set.sequence {
                    self.set.acknowledged = true;
                    self.set.sent = None;
                }
            }
            Message::Report(report) => {
                self.handle_reports(now, at, false, &report.reports);
                self.repair(&report.missing.unwrap_or_default());
            }
            Message::Shut(shut) => {
                if let Some(at) = at {
                    self.send_message(now, at, &Message::ShutAck(ShutAck {}));
                }
                self.emit(Event::Shut(shut.reason));
                self.forget();
                self.peer.set_shut(true);
                if self.wanted && shut.reason != ShutReason::Removed {
                    self.contact_later(now);
                }
            }
            Message::ShutAck(_) => {
                if self.shutting.is_some() {
                    self.forget();
                }
            }
            // INIT belongs into the WireGuard session: only there it is bound to the other end's identity anew.
            Message::Init(_) | Message::InitAck(_) => {}
        }
    }

    fn handle_probe_ack(&mut self, now: Instant, at: usize, ack: &ProbeAck) {
        let active = self.active_at() == Some(at);
        let Some(path) = self.paths.get_mut(at) else { return };
        if path.pmtu.acknowledge(now, ack.nonce) {
            return;
        }
        let Some(asked) = path.nonces.iter().position(|(nonce, _)| *nonce == ack.nonce) else { return };
        let Some((_, sent)) = path.nonces.remove(asked) else { return };
        let rtt = now.saturating_duration_since(sent);
        path.rtt.sample(rtt);
        if let Some(watch) = &mut path.watch {
            watch.round_trip(now, rtt);
        }
        path.loss.sample(timing::probe_weight(active), 0);
        let (local, id) = (path.key.local, path.address);
        let mapped = ack.observed.ip() != local || ack.observed.port() != self.config.port;
        if path.key.via == Via::Direct {
            self.locals.set_reflexive(id, mapped.then_some(ack.observed));
        }
        self.note_answer(now, at);
        self.announce(now);
        let rtts = || self.paths.iter().filter(|p| p.carries()).filter_map(|p| p.rtt.smoothed());
        if let (Some(most), Some(least)) = (rtts().max(), rtts().min()) {
            let again = least + timing::REPORT_DELAY + timing::SCHEDULING;
            self.received.set_delays(most - least, again);
        }
    }

    /// What the other end reports of this end's paths, in a message that came over one of them; `answers` what went there.
    pub(super) fn handle_reports(
        &mut self,
        now: Instant,
        over: Option<usize>,
        answers: bool,
        reports: &[PathReport],
    ) {
        let bonded = self.is_bonded();
        for report in reports {
            let Some(at) = self.paths.iter().position(|p| p.id.0 == report.path) else { continue };
            // What was never sent did not arrive, whatever is said of it.
            if !self.keys.is_plausible(report) {
                continue;
            }
            self.bond.note_report(now, report);
            let before = self.outflow.unconfirmed();
            if let Some(path) = self.paths.get_mut(at) {
                path.note_report(report);
                path.pmtu.note_report(now, Epoch(report.epoch), report.highest, report.received);
                let id = path.id;
                // What the other end will find to be missing is sent again, so it is kept a little longer.
                let kept = if bonded { Bond::KEPT } else { 0 };
                if let Some(highest) = report.highest.checked_sub(kept) {
                    let sent = self
                        .outflow
                        .confirm(id, Epoch(report.epoch), highest)
                        .filter(|_| kept == 0 && over == Some(at));
                    if let (Some(sent), Some(path)) = (sent, self.paths.get_mut(at))
                        && let Some(watch) = &mut path.watch
                    {
                        watch.round_trip(now, now.saturating_duration_since(sent));
                    }
                }
                if self.selection.is_active(id) {
                    let confirmed = before.saturating_sub(self.outflow.unconfirmed());
                    self.outflow.grant(Epoch(report.epoch), report.highest, confirmed);
                }
            }
            self.assess(now, at);
            let used = self.active_at() == Some(at) || self.paths.get(at).is_some_and(|p| self.takes_part(p));
            // An answer over the path tells that it was heard over it; asking again for what the answer says would make the
            // two ends answer each other for ever.
            let heard = answers && over == Some(at);
            if report.silent && used && !heard {
                self.suspect(now, at, true);
            }
        }
    }

    fn handle_set(&mut self, now: Instant, at: Option<usize>, set: Set) {
        let sequence = set.sequence;
        if self.peer.take(set) {
            self.apply_peer_set(now);
        }
        if let Some(at) = at.filter(|at| *at < self.paths.len()) {
            self.send_message(now, at, &Message::SetAck(SetAck { sequence }));
        }
    }

    fn apply_peer_set(&mut self, now: Instant) {
        let list = self.peer.addresses().to_vec();
        let usable = |address: &&Address| {
            let leads =
                matches!(address.kind, AddressKind::Host | AddressKind::Reflexive | AddressKind::Relayed);
            leads && !address.flags.contains(AddressFlags::DO_NOT_USE) && is_far(address.at)
        };
        let withdrawn = self.remotes.set(AddressSource::Set, list.iter().filter(usable).map(|a| a.at));
        self.withdraw(now, &withdrawn);
        let mut why = Reason::PeerWish;
        let gone: Vec<_> = self
            .paths
            .iter()
            .filter(|p| p.peer_address.is_some_and(|id| !list.iter().any(|a| a.id == id)))
            .map(|p| p.key)
            .collect();
        for key in gone {
            if self.active_path() == Some(key) {
                why = Reason::PeerAddressGone;
            }
            self.remotes.forget(key.remote);
            if let Some(at) = self.paths.iter().position(|p| p.key == key) {
                self.remove_path(now, at);
            }
        }
        self.make_paths(now);
        self.select(now, why);
        // Where it is decides what it is told.
        self.announce(now);
    }

    /// Tells the other end this end's addresses, if the list or the wishes in it have changed.
    pub(super) fn announce(&mut self, now: Instant) {
        if !self.keys.can_seal() || !self.peer.is_mast() {
            return;
        }
        let (list, mode) = (self.listed_addresses(), self.config.policy.wish());
        if list == self.set.list && mode == self.set.mode && self.set.sequence > 0 {
            return;
        }
        let elsewhere = list.iter().any(|new| !self.set.list.iter().any(|old| old.at == new.at));
        self.set.list = list;
        self.set.mode = mode;
        self.set.sequence += 1;
        self.set.acknowledged = false;
        self.set.tries = 0;
        self.send_set(now, None);
        if elsewhere {
            self.try_together(now);
        }
    }

    /// All that SET lists: after this end's addresses those that it may be seen at, where its NAT gives each destination the next
    /// port and no direct path works. They are of use to somebody who tries them at once, and are told to nobody else.
    fn listed_addresses(&self) -> Vec<Address> {
        let mut list = self.own_addresses();
        for own in self.locals.addresses() {
            let seen = AddressId(own.id.0 | AddressId::REFLEXIVE);
            let Some(entry) = list.iter().find(|address| address.id == seen).copied() else { continue };
            if self.paths.iter().any(|path| path.address == own.id && path.carries()) {
                continue;
            }
            for at in self.locals.guesses(own).filter(|at| self.may_tell_seen(at.ip())) {
                let taken = |id: &u8| list.iter().any(|address| address.id.0 == *id);
                let free = (AddressId::REFLEXIVE..=u8::MAX).rev().find(|id| !taken(id));
                let Some(id) = free.filter(|_| list.len() < MAX_ADDRESSES) else { return list };
                list.push(Address { id: AddressId(id), at, ..entry });
            }
        }
        list
    }

    pub(super) fn own_addresses(&self) -> Vec<Address> {
        let preferred = self.paths.iter().find(|p| Some(p.id) == self.selection.preferred());
        let theirs = self.their_addresses();
        let mut list = Vec::new();
        let mut reflexive = Vec::new();
        for own in self.locals.addresses() {
            let interface = self.locals.interface(own.interface);
            let rank = interface.and_then(|i| self.config.policy.rank(i));
            let mut paths = self.paths.iter().filter(|p| p.address == own.id).peekable();
            let silenced = paths.peek().is_some() && paths.clone().all(|p| self.is_silenced(p));
            let carries = paths.any(Path::carries);
            // All of the preferred path's link alike: which version of IP is quicker there, each end sees for itself.
            // What goes through a relay only where nothing else works.
            let alike = |p: &Path| carries && p.key.interface == own.interface && own.relay.is_none();
            let wished =
                preferred.is_some_and(|p| p.address == own.id || alike(p) && p.key.via == Via::Direct);
            let priority = if wished {
                200
            } else if carries && own.relay.is_some() {
                RELAYED
            } else if carries {
                100_u8.saturating_sub(u8::try_from(rank.unwrap_or(90).min(90)).unwrap_or(90))
            } else {
                5
            };
            let mut flags = AddressFlags::default();
            if rank.is_none() || silenced {
                flags = AddressFlags::DO_NOT_USE;
            }
            let (at, kind) = if let Some(at) = self.locals.at_relay(own) {
                (at, AddressKind::Relayed)
            } else if self.may_tell(own, &theirs) {
                (SocketAddr::new(own.ip, self.config.port), AddressKind::Host)
            } else {
                (NOWHERE, AddressKind::Outward)
            };
            let metered = interface.is_some_and(|i| i.metered);
            let entry = Address { id: own.id, at, kind, priority, metered, flags, link: Some(own.link) };
            list.push(entry);
            // Seen from outside; its number keeps apart from the host's.
            if let Some(at) = self.locals.seen(own).filter(|at| self.may_tell_seen(at.ip())) {
                let id = AddressId(own.id.0 | AddressId::REFLEXIVE);
                reflexive.push(Address { id, at, kind: AddressKind::Reflexive, ..entry });
            }
        }
        // A host's address that is not listed counts as gone: if not all fit, these are left out.
        list.append(&mut reflexive);
        list.truncate(MAX_ADDRESSES);
        list
    }

    /// The addresses of this end that the other end is told, or would be if it could be reached; the best first. Nothing
    /// else may be told it by whatever way.
    pub fn told_addresses(&self) -> Vec<SocketAddr> {
        let mut list = self.own_addresses();
        list.sort_by_key(|own| std::cmp::Reverse(own.priority));
        let mut told: Vec<SocketAddr> = Vec::new();
        for own in list {
            let hidden = own.at == NOWHERE || own.flags.contains(AddressFlags::DO_NOT_USE);
            if !hidden && !told.contains(&own.at) {
                told.push(own.at);
            }
        }
        told
    }

    /// Where the other end may be, as far as that decides what it is told.
    fn their_addresses(&self) -> Vec<SocketAddr> {
        let Disclosure { addresses, own, .. } = self.config.disclosure;
        let asked = addresses == AddressesTold::All && !own;
        let any = asked && self.locals.addresses().iter().any(|own| private_block(own.ip).is_some());
        if any { self.remotes.candidates() } else { Vec::new() }
    }

    /// Whether the other end is told an address that is configured on this host.
    ///
    /// A private one is, where it may lead here from there: the other end has an address of the same block, or is behind
    /// the same NAT. To everybody else it says where this host's user is, and nothing more.
    fn may_tell(&self, own: &OwnAddress, theirs: &[SocketAddr]) -> bool {
        let disclosure = self.config.disclosure;
        let block = private_block(own.ip);
        is_of_use(own.ip)
            && match disclosure.addresses {
                AddressesTold::All if disclosure.own || block.is_none() => true,
                AddressesTold::All => theirs.iter().any(|at| {
                    let nat =
                        |o: &OwnAddress| o.link == own.link && o.reflexive.map(|r| r.ip()) == Some(at.ip());
                    private_block(at.ip()) == block || self.locals.addresses().iter().any(nat)
                }),
                AddressesTold::PublicOnly => block.is_none(),
                AddressesTold::RelayedOnly => false,
            }
    }

    /// Whether the other end is told how it sees this host: it has seen it, but not which address of this host that is.
    fn may_tell_seen(&self, ip: IpAddr) -> bool {
        match self.config.disclosure.addresses {
            AddressesTold::All => true,
            AddressesTold::PublicOnly => is_of_use(ip) && private_block(ip).is_none(),
            AddressesTold::RelayedOnly => false,
        }
    }

    /// Sends SET over one path, or over all that carry.
    pub(super) fn send_set(&mut self, now: Instant, only: Option<usize>) {
        if !self.set.pending() {
            return;
        }
        let OwnSet { sequence, mode, .. } = self.set;
        let message = Message::Set(Set { sequence, addresses: self.set.list.clone(), mode });
        let mut order: Vec<usize> = match only {
            Some(at) => vec![at],
            None => {
                (0..self.paths.len()).filter(|at| self.paths.get(*at).is_some_and(Path::carries)).collect()
            }
        };
        let active = self.active_at();
        order.sort_by_key(|at| Some(*at) != active);
        let sent = order.into_iter().filter(|at| self.send_message(now, *at, &message)).count();
        if sent > 0 {
            self.set.sent = Some(now);
            self.set.tries += 1;
        }
    }

    fn control_pause(&self, tries: u32) -> std::time::Duration {
        let rto =
            self.active_at().and_then(|at| self.paths.get(at)).map_or(timing::CONTROL_RETRY, |p| p.rtt.rto());
        rto * (1 << tries.saturating_sub(1).min(6))
    }

    /// When SET is sent again.
    pub(super) fn set_due(&self) -> Option<Instant> {
        let repeated = self.set.pending() && self.set.tries < OwnSet::TRIES && self.answers();
        self.set.sent.filter(|_| repeated).map(|at| at + self.control_pause(self.set.tries))
    }

    pub(super) fn repeat_set(&mut self, now: Instant) {
        self.set.sent = Some(now);
        self.send_set(now, None);
    }

    /// When SHUT is sent again, or given up.
    pub(super) fn shut_due(&self) -> Option<Instant> {
        self.shutting.map(|(at, tries, _)| at + self.control_pause(tries))
    }

    pub(super) fn send_shut(&mut self, now: Instant) {
        let Some((_, tries, reason)) = self.shutting else { return };
        if tries >= timing::SHUT_TRIES {
            self.forget();
            return;
        }
        self.shutting = Some((now, tries + 1, reason));
        let message = Message::Shut(Shut { reason });
        for at in 0..self.paths.len() {
            if self.paths.get(at).is_some_and(Path::carries) {
                self.send_message(now, at, &message);
            }
        }
    }

    /// Whether a SHUT is still waiting for its acknowledgement.
    pub fn is_shutting(&self) -> bool {
        self.shutting.is_some()
    }

    /// Why the other end ended the context, while it has not come back.
    pub fn was_shut(&self) -> bool {
        self.peer.is_shut()
    }
}
