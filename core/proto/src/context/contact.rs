//! First contact: a race of WireGuard handshakes over all addresses, round after round, until one is answered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::path::Path;
use super::{Context, PathKey, Transmit, timing};
use crate::interface::InterfaceId;
use crate::wire::PathId;

/// The race for first contact.
#[derive(Default)]
pub(super) struct Contact {
    /// Addresses that this round has still to try.
    queue: VecDeque<PathKey>,
    next: Option<Instant>,
    round: u32,
    /// The interface of the latest initiation.
    over: Option<InterfaceId>,
    /// The next message begins a new handshake.
    fresh: bool,
    last_fresh: Option<Instant>,
}

impl Contact {
    /// Asks these, in this order but for one thing: those of one interface come together.
    fn order(&mut self, paths: &[PathKey]) {
        let first = |key: &PathKey| paths.iter().position(|p| p.interface == key.interface);
        let mut order = paths.to_vec();
        order.sort_by_key(first);
        // A quick path that brings no answer overtakes a slow one that would, and its later handshake makes the other a
        // replay: so each is the last now and then.
        if self.round > 0 && self.round.is_multiple_of(2) {
            order.reverse();
        }
        self.queue = order.into();
    }

    pub(super) fn stop(&mut self) {
        self.queue.clear();
        self.next = None;
        self.round = 0;
    }

    /// Gives room back.
    pub(super) fn rest(&mut self) {
        super::idle::shrink(&mut self.queue);
    }

    /// The race is over.
    pub(super) fn call_off(&mut self) {
        self.queue.clear();
        self.next = None;
    }

    /// A handshake led to keys: what comes next is no longer a round in vain.
    pub(super) fn succeeded(&mut self) {
        self.round = 0;
    }

    /// When the latest handshake began.
    pub(super) fn last_fresh(&self) -> Option<Instant> {
        self.last_fresh
    }

    /// When another handshake may be begun.
    pub(super) fn fresh_from(&self) -> Option<Instant> {
        self.last_fresh.map(|at| at + timing::CONTACT_MIN)
    }

    /// When the next handshake of the race is due.
    pub(super) fn race_at(&self) -> Option<Instant> {
        self.next
    }
}

impl Context {
    /// Begins a race over all addresses, or begins it anew because there are others now.
    pub(super) fn start_contact(&mut self, now: Instant) {
        self.contact.round = 0;
        // An INIT under way goes on: the other end may have answered it, and would seal with keys unknown here.
        self.begin_round(now);
    }

    /// After the other end ended the context it is asked again now and then: it may be back, and not know where
    /// this host is now.
    pub(super) fn contact_later(&mut self, now: Instant) {
        self.contact.next = Some(now + timing::SHUT_PAUSE);
    }

    /// Somebody sends to a peer that is not there: ask now rather than at the end of a long pause.
    pub(super) fn hurry(&mut self, now: Instant) {
        let idle = self.contact.queue.is_empty() && !self.agreement.is_running();
        let waited =
            self.contact.last_fresh.is_none_or(|at| now.saturating_duration_since(at) > timing::HURRY);
        if self.wanted && idle && waited && !self.answers() {
            self.begin_round(now);
        }
    }

    /// Begins a race over all paths but one, which had its chance; the next round has that one, too.
    pub(super) fn contact_elsewhere(&mut self, now: Instant, silent: PathId) {
        self.contact.round = 0;
        self.contact.order(&self.order(Some(silent)));
        if self.contact.queue.is_empty() {
            self.begin_round(now);
        } else {
            self.contact.fresh = true;
            self.race(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.contact.order(&self.order(None));
        self.start_round(now);
    }

    /// Bytes of a handshake initiation.
    const INITIATION: usize = 148;

    /// The paths to ask, in the order in which they are asked.
    fn order(&self, but: Option<PathId>) -> Vec<PathKey> {
        let mut order: Vec<_> = self.paths.iter().collect();
        // What worked last comes first, then what the policy prefers, then the rest.
        order.sort_by_key(|p| {
            let rank = self.locals.interface(p.key.interface).and_then(|i| self.config.policy.rank(i));
            (!self.selection.is_active(p.id), rank.is_none(), p.heard.is_none(), rank, !p.remote_known)
        });
        order.retain(|p| Some(p.id) != but && self.permitted(p));
        // To what the peer alone names, or what somebody made it seem to come from, goes no more than the peer has earned.
        let mut left = self.allowance;
        let affordable = |p: &&Path| {
            let free = p.remote_known || self.remotes.is_own(p.key.remote);
            let cost = Path::cost(p.key.remote, Self::INITIATION);
            free || left.checked_sub(cost).map(|rest| left = rest).is_some()
        };
        order.into_iter().filter(affordable).map(|p| p.key).take(Self::MAX_PATHS).collect()
    }

    fn start_round(&mut self, now: Instant) {
        self.contact.fresh = true;
        let earliest = self.contact.last_fresh.map_or(now, |at| at + timing::CONTACT_MIN);
        self.contact.next = if !self.contact.queue.is_empty() {
            Some(now.max(earliest))
        } else if self.paths.iter().any(|p| self.permitted(p)) {
            // There is nothing left that may go to any of them: in the next round there may be.
            Some(now + self.round_pause())
        } else {
            None
        };
        if self.contact.race_at().is_some_and(|at| at <= now) {
            self.race(now);
        }
    }

    pub(super) fn note_fresh(&mut self, now: Instant) {
        self.contact.last_fresh = Some(now);
    }

    /// Whether a handshake or an INIT is under way.
    pub(super) fn contact_running(&self) -> bool {
        self.contact.next.is_some() || self.agreement.is_running()
    }

    pub(super) fn race(&mut self, now: Instant) {
        let Some(path) = self.contact.queue.pop_front() else {
            self.begin_round(now);
            return;
        };
        // The other end answers the first copy that it gets and takes the others for replays. Where that answer is lost on
        // its way back, the first round brings nothing, nor would any other: so then each interface has its own.
        let later = self.contact.round > 0;
        let own = later && self.contact.over != Some(path.interface);
        let fresh = std::mem::take(&mut self.contact.fresh) || own;
        if fresh {
            self.contact.last_fresh = Some(now);
        }
        self.contact.over = Some(path.interface);
        let own = self.remotes.is_own(path.remote);
        if let Some(path) = self.paths.iter_mut().find(|p| p.key == path) {
            path.probed = Some(now);
            if !own && !path.remote_known {
                self.allowance = self.allowance.saturating_sub(Path::cost(path.key.remote, Self::INITIATION));
            }
        }
        self.transmits.push_back(Transmit::Contact { path, fresh });
        let pause = match self.contact.queue.front() {
            None => self.round_pause(),
            Some(next) if later && next.interface != path.interface => timing::OWN_STAGGER,
            Some(_) => timing::STAGGER,
        };
        self.contact.next = Some(now + pause);
    }

    /// A handshake was answered, and led to nothing: the pauses grow all the same.
    pub(super) fn next_round_later(&mut self, now: Instant) {
        let pause = self.round_pause();
        self.contact.next = Some(now + pause);
    }

    /// The pause after a round without an answer.
    fn round_pause(&mut self) -> Duration {
        let (mut first, most) = timing::CONTACT_RETRY;
        if self
            .active_at()
            .is_some_and(|at| self.peer.is_plain() && self.paths.get(at).is_some_and(Path::carries))
        {
            let slowest = self.paths.iter().map(|p| p.rtt.expected()).max();
            first = first.min(slowest.unwrap_or_default().max(timing::PLAIN_ROUND));
        }
        let most = if self.contact.round > timing::PATIENT_ROUNDS { timing::CONTACT_PATIENT } else { most };
        let pause = (first * (1 << self.contact.round.min(6))).min(most);
        self.contact.round = self.contact.round.saturating_add(1);
        // Two hosts that were cut off together must not call in step.
        pause + pause.mul_f64(0.2 * (self.random.u64() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// Nothing is agreed and nothing under way, as after an answer that made no sense: begin again, in time.
    pub(super) fn stalled_due(&self) -> Option<Instant> {
        if self.keys.can_seal()
            || self.agreement.own_init_at().is_some()
            || self.peer.is_plain()
            || self.peer.is_shut()
        {
            return None;
        }
        Some(self.contact.last_fresh.map_or(self.started, |at| at + timing::CONTACT_RETRY.1))
    }

    /// Whether a remote address is one that some source names for the peer, or that it answered from.
    pub fn knows(&self, remote: SocketAddr) -> bool {
        self.remotes.vouches(remote)
    }
}
