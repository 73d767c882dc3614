//! The agreement on keys: from a WireGuard handshake to an epoch of MAST.
//!
//! ```text
//! initiator                                             target
//!   handshake initiation, raced over all addresses  ──►
//!                                                   ◄──  handshake response         (WireGuard)
//!   INIT {index, random, AEADs, EIDs}               ──►
//!                                                   ◄──  INIT-ACK {index, random, AEAD, EIDs}
//!   PROBE, sealed with the new epoch                ──►  (confirms the epoch)
//! ```
//!
//! A new epoch is made the same way inside the context: a new handshake, for forward secrecy, then INIT.

use std::time::{Duration, Instant};

use super::epoch::{EpochState, Offer};
use super::path::Path;
use super::peer::Meeting;
use super::{Context, Event, PathKey, PeerKind, Transmit, timing};
use crate::crypto::{Aead, EpochKeys, Role};
use crate::eid::EidBook;
use crate::wire::{Capabilities, EidPair, Epoch, Init, InitAck, Message, VERSION};

/// An INIT under way, and those that were answered.
#[derive(Default)]
pub(super) struct Agreement {
    /// Where the WireGuard session answers.
    secure: Option<PathKey>,
    /// In a place of its own: it is there for a round trip.
    init: Option<Box<PendingInit>>,
    /// When to send an INIT although the other end began.
    init_due: Option<Instant>,
    /// Answers given lately, to be repeated when their INITs are.
    answered: Vec<Answer>,
    next_epoch: Option<u8>,
    /// A proposal of EIDs clashed; INIT is tried again with another, this many times so far.
    counters: u8,
    /// Handshakes for a new epoch since there was one.
    rekeys: u8,
}

struct PendingInit {
    /// Over which it went, as long as that was always the same: an answer to what went over several tells of none of them.
    path: Option<PathKey>,
    bytes: Vec<u8>,
    random: [u8; 32],
    epoch: Epoch,
    eid_v4: Option<EidPair>,
    tries: usize,
    next: Instant,
}

struct Answer {
    to: [u8; 32],
    bytes: Vec<u8>,
    at: Instant,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Both hold inputs of the key schedule.
        zeroize::Zeroize::zeroize(&mut self.to);
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

impl Drop for PendingInit {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.random);
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

impl Agreement {
    pub(super) fn stop(&mut self) {
        self.init = None;
        self.init_due = None;
    }

    /// Gives room back.
    pub(super) fn rest(&mut self) {
        self.answered.shrink_to_fit();
    }

    /// The next handshake brings an INIT, although the peer did not answer one.
    pub(super) fn ask_again(&mut self) {
        self.next_epoch = None;
    }

    pub(super) fn is_running(&self) -> bool {
        self.init.is_some()
    }

    /// When the INIT under way is sent again, or given up.
    pub(super) fn init_at(&self) -> Option<Instant> {
        self.init.as_ref().map(|init| init.next)
    }

    /// When this end sends an INIT although the other made the handshake.
    pub(super) fn own_init_at(&self) -> Option<Instant> {
        self.init_due
    }

    /// When the oldest answer need not be repeated any more.
    pub(super) fn answers_until(&self) -> Option<Instant> {
        self.answered.first().map(|a| a.at + timing::ANSWER_KEPT)
    }

    pub(super) fn forget_answers(&mut self, now: Instant) {
        self.answered.retain(|a| now.saturating_duration_since(a.at) < timing::ANSWER_KEPT);
    }
}

impl Context {
    /// A WireGuard handshake was completed over `path`: both ends are who they claim to be. That the path works both ways
    /// is known to a target where it is `proven`: what confirms the handshake came over the path over which the response
    /// went. To an initiator INIT-ACK tells, and what a plain WireGuard peer sends is all that there will be.
    pub fn secure_up(&mut self, now: Instant, path: PathKey, role: Role, proven: bool) {
        let plain = self.peer.is_plain();
        // Somebody on the way may have given a response another sender: INIT goes where this end has asked.
        // What somebody else made it ask does not count.
        let vouched = |p: &Path| self.remotes.vouches(p.key.remote);
        let asked = |p: &&Path| p.carries() || p.probed.is_some() && vouched(p);
        let other = match role {
            Role::Initiator if !plain => {
                let here = self.paths.iter().filter(asked).any(|p| p.key == path);
                let latest = || self.paths.iter().filter(asked).max_by_key(|p| p.probed).map(|p| p.key);
                if here { None } else { latest() }
            }
            _ => None,
        };
        self.contact.call_off();
        self.agreement.secure = Some(other.unwrap_or(path));
        if let Some(at) = self.add_path(path) {
            self.note_heard(now, at, 0, None);
            if plain {
                self.plain_secure(now, at, role == Role::Initiator);
            }
            if plain || proven && role == Role::Target {
                self.note_answer(now, at);
            }
            self.plain_answer(now, path);
        }
        match role {
            Role::Initiator if !self.peer.is_plain() || self.last_init_was_long_ago() => {
                self.send_init(now);
            }
            Role::Initiator => {}
            Role::Target => {
                // The other end's INIT is due now; whoever sent the handshake may be gone.
                if !self.keys.can_seal() && !self.peer.is_plain() {
                    self.agreement.init_due = Some(now + timing::TARGET_INIT);
                }
            }
        }
        self.select(now, super::Reason::Better);
        self.plain_recall(path);
    }

    /// A peer that spoke plain WireGuard is asked again on each connect only: it would say INIT itself.
    fn last_init_was_long_ago(&self) -> bool {
        self.agreement.next_epoch.is_none()
    }

    pub(super) fn send_init(&mut self, now: Instant) {
        self.agreement.init_due = None;
        if !self.config.disclosure.mast {
            return;
        }
        let Some(path) = self.agreement.secure else { return };
        let mut number = self.agreement.next_epoch.unwrap_or(u8::from(!self.config.lower));
        // After many tries the numbers come round.
        while self.keys.has(number) {
            number = number.wrapping_add(2);
        }
        self.agreement.next_epoch = Some(number.wrapping_add(2));
        let random = self.random.bytes();
        let indices = self.offer();
        let init = Init {
            version: VERSION,
            instance: self.config.instance,
            index: indices.first,
            random,
            aeads: self.config.aeads.iter().map(|a| a.number()).collect(),
            capabilities: Capabilities::default(),
            epoch: number,
            eid_v6: self.config.eid_v6,
            eid_v4: self.eid_v4.or(self.proposal),
            name: self.config.name.clone(),
            further: Some(indices.further),
        };
        let eid_v4 = init.eid_v4;
        let bytes = Message::Init(init).encode();
        self.send_secure(path, bytes.clone());
        self.agreement.init_due = None;
        self.agreement.init = Some(Box::new(PendingInit {
            path: Some(path),
            bytes,
            random,
            epoch: Epoch(number),
            eid_v4,
            tries: 1,
            next: now + timing::INIT_RETRY[0],
        }));
    }

    /// Sends something in the WireGuard session: to an address that did not answer no more than came from it, or, if the peer
    /// names it, than it has earned. Whether it went.
    fn send_secure(&mut self, path: PathKey, payload: Vec<u8>) -> bool {
        if !self.remotes.is_own(path.remote) {
            // Of a path that gave way to others nobody knows any more what came from there.
            let Some(to) = self.paths.iter_mut().find(|p| p.key == path) else { return false };
            if !to.remote_known {
                if to.may_take(payload.len()) {
                    to.note_spent(payload.len());
                } else if self.remotes.names(path.remote) {
                    let cost = Path::cost(path.remote, payload.len());
                    let Some(left) = self.allowance.checked_sub(cost) else { return false };
                    self.allowance = left;
                } else {
                    return false;
                }
            }
        }
        self.transmits.push_back(Transmit::Secure { path, payload });
        true
    }

    pub(super) fn retry_init(&mut self, now: Instant) {
        let Some(init) = self.agreement.init.as_mut() else { return };
        if let Some(&pause) = timing::INIT_RETRY.get(init.tries) {
            init.tries += 1;
            init.next = now + pause;
            let payload = init.bytes.clone();
            if let Some(path) = self.agreement.secure {
                init.path = init.path.filter(|first| *first == path);
                self.send_secure(path, payload);
            }
            return;
        }
        self.agreement.init = None;
        if !self.peer.is_mast() && self.config.expect != Some(PeerKind::Mast) {
            if self.peer.speaks(PeerKind::WireGuard) {
                self.emit(Event::Kind(PeerKind::WireGuard));
            }
            // More than the handshake such a peer does not answer. That came from a stranger's address is no answer: it may be a
            // MAST peer after all, whose datagrams somebody on the way gave another sender.
            let answered = self.paths.iter().position(|p| Some(p.key) == self.agreement.secure);
            let answered =
                answered.filter(|at| self.paths.get(*at).is_some_and(|p| self.remotes.vouches(p.key.remote)));
            if let Some(at) = answered {
                self.note_answer(now, at);
            }
            self.select(now, super::Reason::Better);
        } else if self.wanted && self.keys.heard().is_none() {
            // The handshake was answered, and still the pauses grow.
            self.next_round_later(now);
        }
    }

    /// Takes in a message from inside the WireGuard session.
    pub fn handle_secure(&mut self, now: Instant, path: PathKey, payload: &[u8], eids: &mut dyn EidBook) {
        if let Some(at) = self.add_path(path) {
            self.note_heard(now, at, payload.len(), None);
        }
        if !self.config.disclosure.mast {
            // Nothing is told to whom nothing is to be told: not even that this is MAST.
            return;
        }
        match Message::decode(payload) {
            Ok(Message::Init(init)) => self.handle_init(now, path, &init, payload, eids),
            Ok(Message::InitAck(ack)) => self.handle_init_ack(now, path, &ack, payload, eids),
            // Whatever else may travel here is for a later version, or for the owner.
            _ => {}
        }
        if self.eid_v4.is_none() && self.proposal.is_none() {
            self.proposal = eids.propose();
        }
    }

    /// Proposes IPv4 EIDs in the next INIT, where none were agreed earlier.
    pub fn propose_eids(&mut self, pair: Option<EidPair>) {
        self.proposal = pair;
    }

    fn handle_init(
        &mut self,
        now: Instant,
        path: PathKey,
        init: &Init,
        init_bytes: &[u8],
        eids: &mut dyn EidBook,
    ) {
        self.agreement.secure = Some(path);
        self.agreement.init_due = None;
        if let Some(answer) = self.agreement.answered.iter().find(|a| a.to == init.random) {
            let payload = answer.bytes.clone();
            self.send_secure(path, payload);
            return;
        }
        let offered: Vec<_> = init.aeads.iter().filter_map(|n| Aead::from_number(*n)).collect();
        // The initiator's order counts: it is most likely the smaller machine.
        let Some(&aead) = offered.iter().find(|a| self.config.aeads.contains(a)) else { return };
        // Epochs of this end's own parity are its own to begin.
        let theirs = u8::from(self.config.lower);
        if init.version == 0
            || init.index == 0
            || init.epoch & 1 != theirs
            || init.instance == self.config.instance
        {
            return;
        }
        // A copy that the network held back for long must not change the keys in use, nor end them. Keys that are
        // not heard in are not worth keeping: if in doubt, what comes is the truth.
        let heard = self.keys.heard().and_then(|e| e.heard);
        let lives = heard.is_some_and(|at| now.saturating_duration_since(at) < timing::FRESH);
        let known = self.peer.is_now(init.instance) && self.keys.has(init.epoch);
        if known || lives && self.peer.was(init.instance) {
            return;
        }
        // Each makes a context anew, and has its addresses tried.
        let oldest = self.agreement.answered.first().filter(|_| self.agreement.answered.len() >= 4);
        if oldest.is_some_and(|a| now.saturating_duration_since(a.at) < timing::INITS_IN) {
            return;
        }
        let eid_v4 = self.settle_eids(init.instance, init.eid_v4.map(EidPair::flipped), eids);
        let random = self.random.bytes();
        let indices = self.offer();
        let ack = InitAck {
            version: VERSION,
            instance: self.config.instance,
            index: indices.first,
            random,
            aead: aead.number(),
            capabilities: Capabilities::default(),
            epoch: init.epoch,
            eid_v6: self.config.eid_v6,
            eid_v4,
            name: self.config.name.clone(),
            answers: init.random,
            further: Some(indices.further),
        };
        let ack_bytes = Message::InitAck(ack).encode();
        let keys = EpochKeys::derive(
            Role::Target,
            aead,
            Epoch(init.epoch),
            (init_bytes, &init.random),
            (&ack_bytes, &random),
        );
        let Ok(keys) = keys else { return };
        // Keys whose agreement does not go out, nobody has: the INIT comes again.
        if !self.send_secure(path, ack_bytes.clone()) {
            return;
        }
        if self.agreement.answered.len() >= 4 {
            self.agreement.answered.remove(0);
        }
        self.agreement.answered.push(Answer { to: init.random, bytes: ack_bytes, at: now });
        let peer = (init.instance, init.name.as_str(), init.eid_v6);
        let indices = Offer { first: init.index, further: init.further.clone().unwrap_or_default() };
        let epoch = EpochState::new(Epoch(init.epoch), keys, indices, now, false);
        self.establish(now, peer, eid_v4, epoch);
    }

    fn handle_init_ack(
        &mut self,
        now: Instant,
        path: PathKey,
        ack: &InitAck,
        ack_bytes: &[u8],
        eids: &mut dyn EidBook,
    ) {
        let aead = Aead::from_number(ack.aead).filter(|a| self.config.aeads.contains(a));
        let sane = ack.version == VERSION && ack.index != 0 && ack.instance != self.config.instance;
        let (Some(aead), true) = (aead, sane) else { return };
        let Some(init) = self.agreement.init.take_if(|i| i.random == ack.answers && i.epoch.0 == ack.epoch)
        else {
            return;
        };
        let keys = EpochKeys::derive(
            Role::Initiator,
            aead,
            init.epoch,
            (&init.bytes, &init.random),
            (ack_bytes, &ack.random),
        );
        let Ok(keys) = keys else { return };
        let mut eid_v4 = ack.eid_v4.map(EidPair::flipped);
        let mut clash = false;
        if eid_v4 != init.eid_v4
            && let Some(countered) = eid_v4
            && self.eid_v4 != Some(countered)
            && !eids.is_free(countered)
        {
            // Neither end can use what the other proposes: another INIT proposes another pair.
            eid_v4 = None;
            self.eid_v4 = None;
            self.proposal = eids.propose();
            self.agreement.counters += 1;
            clash = self.agreement.counters < 4;
        } else if !self.config.lower && self.eid_v4.is_some() && self.eid_v4 != init.eid_v4 {
            // Another pair was agreed on since, in a contact that the lower end began: that one counts.
            eid_v4 = self.eid_v4;
        }
        let peer = (ack.instance, ack.name.as_str(), ack.eid_v6);
        let indices = Offer { first: ack.index, further: ack.further.clone().unwrap_or_default() };
        self.establish(now, peer, eid_v4, EpochState::new(init.epoch, keys, indices, now, true));
        if let Some(at) = self.paths.iter().position(|p| p.key == path) {
            if init.path == Some(path) {
                self.note_answer(now, at);
            }
            // It confirms the epoch to the target, and measures the path.
            self.send_probe(now, at);
        }
        if clash {
            self.send_init(now);
        }
    }

    /// Indices that the other end shall put into its datagrams: one for each path, so that none links two networks.
    fn offer(&mut self) -> Offer {
        let mut draw = || self.config.indices.draw().0;
        Offer { first: draw(), further: (1..Offer::MOST).map(|_| draw()).collect() }
    }

    /// The pair that both ends shall use, given what the initiator proposes (seen from this end).
    fn settle_eids(
        &mut self,
        instance: u64,
        proposed: Option<EidPair>,
        eids: &mut dyn EidBook,
    ) -> Option<EidPair> {
        match proposed {
            Some(pair) if self.eid_v4 == Some(pair) => return Some(pair),
            Some(pair) if self.eid_v4.is_none() || self.peer.is_now(instance) && self.told_eids() => {
                // Both ends proposed at once: the proposal of the lower key wins.
                let own = self.agreement.init.as_ref().and_then(|i| i.eid_v4);
                if let Some(own) = own
                    && self.config.lower
                {
                    return Some(own);
                }
                if eids.is_free(pair) {
                    return Some(pair);
                }
                if self.eid_v4.is_some() {
                    return eids.propose();
                }
            }
            _ => {}
        }
        self.eid_v4.or_else(|| eids.propose())
    }

    /// Whether the pair known here was an answer to an INIT already: who then proposes another cannot use it.
    fn told_eids(&self) -> bool {
        let said = |answer: &Answer| match Message::decode(&answer.bytes) {
            Ok(Message::InitAck(ack)) => ack.eid_v4 == self.eid_v4,
            _ => false,
        };
        self.agreement.answered.iter().any(said)
    }

    fn establish(
        &mut self,
        now: Instant,
        (instance, name, eid_v6): (u64, &str, std::net::Ipv6Addr),
        eid_v4: Option<EidPair>,
        epoch: EpochState,
    ) {
        let Meeting { first, restarted, changed } = self.peer.meet(instance, name, eid_v6);
        if restarted || first {
            self.keys.clear();
            self.set.unacknowledged();
            // The other end numbers what it sends from its start on, whatever contexts come and go.
            self.received.of(instance);
            for path in &mut self.paths {
                path.peer_path = None;
                path.peer_address = None;
                path.reported = None;
                path.peer_silent = false;
            }
            // A new context no longer knows what it has.
            self.outflow.forget_sent();
        }
        self.contact.succeeded();
        let changed = changed || self.eid_v4 != eid_v4;
        self.eid_v4 = eid_v4;
        let was_plain = self.peer.is_plain();
        if self.peer.speaks(PeerKind::Mast) {
            self.emit(Event::Kind(PeerKind::Mast));
        }
        if was_plain {
            self.doubt_given_senders(now);
        }
        self.agreement.rekeys = 0;
        self.keys.agree(now, epoch);
        if restarted || first || changed {
            let name = self.peer.name().to_owned();
            self.emit(Event::Established { name, eid_v6, eid_v4, restarted });
        }
        if restarted || first {
            for at in 0..self.paths.len() {
                self.send_probe(now, at);
            }
        }
        self.announce(now);
        self.select(now, super::Reason::Better);
    }

    /// A peer that was taken for a plain WireGuard one speaks MAST: where its messages seemed to come from is no proof of an
    /// address any more. What a source names may go on.
    fn doubt_given_senders(&mut self, now: Instant) {
        let given: Vec<_> = self.remotes.known().filter(|at| !self.remotes.names(*at)).collect();
        for remote in &given {
            self.remotes.forget(*remote);
        }
        let paths = self.paths.iter().map(|p| p.key).filter(|key| given.contains(&key.remote));
        for key in paths.collect::<Vec<_>>() {
            if let Some(at) = self.paths.iter().position(|p| p.key == key) {
                self.remove_path(now, at);
                self.add_path(key);
            }
        }
    }

    pub(super) fn rekey_due(&self) -> Option<Instant> {
        let epoch = self.keys.sealing()?;
        if !self.wanted || self.contact_running() || self.selection.active().is_none() {
            return None;
        }
        let due = epoch.due(self.paths.len());
        Some(self.contact.last_fresh().map_or(due, |at| due.max(at + timing::REKEY_RETRY)))
    }

    pub(super) fn rekey(&mut self, now: Instant) {
        let Some(mut path) = self.active_path() else { return };
        // Somebody may drop the handshakes of one path, and nothing else: so each that works has its turn.
        let tries = self.agreement.rekeys;
        self.agreement.rekeys = tries.wrapping_add(1);
        if tries > 0 {
            let works = |p: &&Path| p.carries() && self.permitted(p);
            let count = self.paths.iter().filter(works).count().max(1);
            let turn = self.paths.iter().filter(works).nth(usize::from(tries) % count);
            path = turn.map_or(path, |p| p.key);
        }
        self.note_fresh(now);
        self.transmits.push_back(Transmit::Contact { path, fresh: true });
    }

    /// Forgets the epochs whose end has come. Without any the host pair begins anew: what still arrives was sealed with keys
    /// that should not be there.
    pub(super) fn end_epochs(&mut self, now: Instant) {
        if self.keys.expire(now) {
            self.without_keys(now);
        }
    }

    /// There is nothing to seal with any more: no path works until there is.
    fn without_keys(&mut self, now: Instant) {
        for at in 0..self.paths.len() {
            if self.paths.get(at).is_some_and(Path::carries) {
                self.fail(now, at, super::Reason::Silent);
            }
        }
        if self.wanted && !self.contact_running() {
            self.start_contact(now);
        }
    }

    /// Begins anew as another instance, with other randomness: somebody else may have the keys and the numbers of this one,
    /// as where a virtual machine was restored from a snapshot. The other end takes it for a restart.
    pub fn begin_anew(&mut self, now: Instant, instance: u64, seed: [u8; 32]) {
        self.config.instance = instance;
        self.random = crate::crypto::Random::new(seed);
        self.contact.stop();
        self.agreement.stop();
        self.agreement.answered.clear();
        self.agreement.secure = None;
        self.outflow.forget_sent();
        if self.shutting.is_some() || self.keys.is_empty() {
            self.keys.clear();
            return;
        }
        self.keys.clear();
        self.set.unacknowledged();
        self.without_keys(now);
    }

    /// The host slept: so much time has passed that `now` has not counted, and keys age all the same.
    pub fn handle_sleep(&mut self, now: Instant, slept: Duration) {
        self.keys.age(slept);
        self.end_epochs(now);
    }
}
