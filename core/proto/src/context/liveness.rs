//! Whether paths live: probing, suspicion, failure, and trying again.
//!
//! Silence is judged per path. Whoever receives data over a path sends *something* over it within
//! [`timing::REPORT_DELAY`]; so whoever sends data over a path and hears nothing over it for a round trip and that
//! delay has reason to suspect it. Suspicion costs little and decides nothing: PROBEs go out over the suspect path
//! and all others, and data is copied to the best standby. Only when another path has answered since and the
//! suspect one has not, data moves.

use std::time::{Duration, Instant};

use super::path::{Outstanding, Path};
use super::{Context, PathKey, PathState, Reason, timing};
use crate::estimate::RttEstimator;
use crate::fitness::Fitness;
use crate::wire::{Flags, Message, Probe};

/// What the system said when a datagram was handed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// Larger than what the path's interface sends.
    TooBig {
        /// The UDP payload in bytes.
        size: usize,
    },
    /// No route, or no such address any more.
    Unreachable,
}

impl Context {
    /// Notes that something authentic came over a path.
    /// `data` says how many data frames, with which flags.
    pub(super) fn note_heard(&mut self, now: Instant, at: usize, length: usize, data: Option<(Flags, u32)>) {
        self.last_heard = Some(now);
        let active = self.active_at() == Some(at);
        let moved = self.selection.moved();
        let Some(path) = self.paths.get_mut(at) else { return };
        let proven = active && path.heard < moved && path.state == PathState::Validated;
        if let Some((steady, before)) = path.steady.as_mut().zip(path.heard) {
            steady.note_heard(now, before);
        }
        path.heard = Some(now);
        path.awaiting = None;
        if !path.peer_silent {
            path.doubt = 0;
        }
        path.rx_bytes += length as u64;
        // Enough for any number of probes; a bound, so that it cannot overflow.
        let credit = Path::cost(path.key.remote, length);
        path.credit = path.credit.saturating_add(credit).min(1 << 20);
        // What came from where no answer came from may be anybody's: it is worth something there alone.
        if path.remote_known {
            self.allowance = self.allowance.saturating_add(credit).min(timing::ALLOWANCE);
        }
        let mut full = false;
        if let Some((flags, count)) = data {
            let ordered = flags.contains(Flags::ORDERED);
            let most = if ordered { timing::REPORT_AFTER } else { timing::REPORT_AT_ONCE };
            path.owed.get_or_insert(now + timing::REPORT_DELAY);
            path.unreported = path.unreported.saturating_add(count);
            path.unreported_ordered |= ordered;
            full = path.unreported >= most;
        }
        if proven {
            self.outflow.forget_unsure();
        } else if path.state == PathState::Suspect && !path.peer_silent {
            let since = path.suspect_since.take();
            path.state = PathState::Validated;
            path.probe = None;
            if active {
                self.unfounded(now, since);
            }
        }
        if full {
            self.send_report(now, at);
        }
        if data.is_some() {
            self.assess(now, at);
        }
    }

    /// The active path is not suspect after all.
    fn unfounded(&mut self, now: Instant, since: Option<Instant>) {
        self.selection.discard_gap();
        // Small things pass: it may have been the size of what was sent.
        if let Some(path) = self.active_at().and_then(|at| self.paths.get_mut(at)) {
            path.pmtu.doubt(now);
            // One datagram that was lost is answered for by the first PROBE.
            let answered = path.rtt.expected() + 2 * timing::SUSPECT_SPACING;
            if since.is_some_and(|since| now.saturating_duration_since(since) > answered)
                && let Some(watch) = &mut path.watch
            {
                watch.silent();
            }
        }
        // After a real silence what went into it may be lost; after a false alarm it is not.
        if since.is_some_and(|since| now.saturating_duration_since(since) > timing::REAL_SILENCE) {
            self.outflow.resend_unsure(None, false);
        } else {
            self.outflow.forget_unsure();
        }
    }

    /// Notes that a round trip over a path was completed.
    pub(super) fn note_answer(&mut self, now: Instant, at: usize) {
        let outage = self.selection.active().is_none();
        let from = self.paths.get(at).and_then(|p| self.keys.next_of(p.id));
        let Some(path) = self.paths.get_mut(at) else { return };
        let new = !path.carries();
        let (key, peer_path, suspect_since) = (path.key, path.peer_path, path.suspect_since);
        if path.state == PathState::Failed {
            path.note_retried(from);
        }
        path.note_validated(now);
        path.acknowledged = Some(now);
        path.probed = Some(now);
        if suspect_since.is_some() && self.active_at() == Some(at) {
            self.unfounded(now, suspect_since);
        }
        let paths = &self.paths;
        self.remotes.note_answer(key.remote, |at| paths.iter().any(|p| p.key.remote == at && p.carries()));
        if new || self.set.given_up() {
            self.send_set(now, Some(at));
        }
        if new {
            // The other end's path came from elsewhere before and has not since: a NAT moved it.
            let old = self.paths.iter().find(|p| {
                p.key.interface == key.interface
                    && p.key.local == key.local
                    && p.key != key
                    && p.peer_path.is_some()
                    && p.peer_path == peer_path
                    && p.heard < self.paths.get(at).and_then(|n| n.heard)
                    && p.awaiting.is_some() | (p.state != PathState::Validated)
            });
            if let Some(old) = old.map(|p| p.key)
                && let Some(gone) = self.paths.iter().position(|p| p.key == old)
            {
                self.remove_path(now, gone);
                self.remotes.forget(old.remote);
                self.select(now, Reason::PeerAddressGone);
            }
        }
        self.judge(now);
        self.select(now, if outage { Reason::Restored } else { Reason::Better });
    }

    /// Sends a PROBE over a path.
    pub(super) fn send_probe(&mut self, now: Instant, at: usize) {
        if self.peer.is_plain() {
            self.plain_probe(now, at);
            return;
        }
        if !self.keys.can_seal() {
            return;
        }
        let nonce = self.random.u64();
        if self.paths.get(at).is_some_and(|p| self.is_silenced(p)) {
            return;
        }
        let reports = self.reports();
        let active = self.active_at() == Some(at);
        let Some(path) = self.paths.get_mut(at) else { return };
        if path.state == PathState::Candidate {
            path.state = PathState::Validating;
        }
        let tries = path.probe.map_or(0, |o| o.tries) + 1;
        let burst = active && path.state == PathState::Suspect && tries < timing::SUSPECT_BURST;
        // Where something was to be heard, an answer is due soon or not at all.
        let patience = if path.state == PathState::Suspect { 1 } else { 4 };
        let timeout = if burst {
            timing::SUSPECT_SPACING
        } else {
            (path.rtt.rto() * (1 << (tries - 1).min(patience))).min(RttEstimator::MAX_RTO)
        };
        path.probe = Some(Outstanding { sent: now, timeout, tries });
        path.probed = Some(now);
        path.nonces.push_back((nonce, now));
        if path.nonces.len() > 6 {
            path.nonces.pop_front();
        }
        let address = path.address;
        let time = now.saturating_duration_since(self.started).as_micros() as u64;
        let sent = self.send_message(now, at, &Message::Probe(Probe { nonce, address, time, reports }));
        if let Some(path) = self.paths.get_mut(at) {
            path.unsent = !sent;
        }
    }

    /// A path fell silent, as this end (`peer` false) or the other (`peer` true) sees it.
    pub(super) fn suspect(&mut self, now: Instant, at: usize, peer: bool) {
        let active = self.active_at() == Some(at);
        let Some(path) = self.paths.get_mut(at) else { return };
        path.peer_silent |= peer && path.carries();
        if path.state != PathState::Validated {
            return;
        }
        path.state = PathState::Suspect;
        path.suspect_since = Some(now);
        path.probe = None;
        let heard = path.heard;
        self.send_probe(now, at);
        if self.is_bonded() {
            // Others carry the data on, and the receiver waits for what is missing.
            self.rescue(None, false);
        }
        let used = active || self.paths.get(at).is_some_and(|p| self.takes_part(p));
        if !used {
            return;
        }
        self.doubt_alike(at);
        // What shares the least with it is most likely to answer, and comes first.
        let mut others: Vec<_> = (0..self.paths.len()).filter(|other| *other != at).collect();
        if !active {
            others.retain(|other| self.paths.get(*other).is_some_and(|p| p.doubt > 0));
        }
        others.sort_by_key(|other| match (self.paths.get(*other), self.paths.get(at)) {
            (Some(other), Some(silent)) => self.likeness(other, silent),
            _ => (u8::MAX, true),
        });
        for other in others {
            let standby = self.paths.get(other).is_some_and(|p| {
                p.state == PathState::Validated
                    && p.probe.is_none_or(|o| now > o.sent + timing::SUSPECT_SPACING)
            });
            if standby {
                self.send_probe(now, other);
            }
        }
        if active {
            self.selection.open_gap(heard);
            self.copy_recent(now, at);
        }
    }

    /// When the suspect active path has had its time, if another path has answered since it fell silent: the last PROBE of
    /// the burst, too, might have been answered by then.
    pub(super) fn verdict_due(&self) -> Option<Instant> {
        if self.peer.is_plain() {
            return None;
        }
        let path = self.paths.get(self.active_at()?)?;
        let since = path.suspect_since?;
        let answered = self.paths.iter().any(|p| {
            p.id != path.id
                && p.state == PathState::Validated
                && self.permitted(p)
                && p.acknowledged.is_some_and(|a| a >= since)
        });
        let burst = timing::SUSPECT_SPACING * (timing::SUSPECT_BURST - 1);
        answered
            .then(|| since + burst + (path.rtt.expected() + timing::SCHEDULING).max(RttEstimator::MIN_RTO))
    }

    /// Leaves the active path if it had its time and another has answered since.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.verdict_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(at) = self.active_at() else { return };
        let peer_silent = self.paths.get(at).is_some_and(|p| p.peer_silent);
        self.fail(now, at, if peer_silent { Reason::PeerSilent } else { Reason::Silent });
    }

    pub(super) fn fail(&mut self, now: Instant, at: usize, reason: Reason) {
        let active = self.active_at() == Some(at);
        let Some(path) = self.paths.get_mut(at) else { return };
        let (heard, key) = (path.heard, path.key);
        let tries = path.probe.map_or(0, |o| o.tries);
        path.note_failed(now);
        path.loss.sample(u64::from(tries), u64::from(tries));
        self.schedule_retry(now, at);
        if active {
            self.selection.open_gap(heard);
            self.selection.lose(key);
            self.select(now, reason);
        } else {
            // Data left it a moment ago: what was on its way then.
            self.rescue(None, false);
            self.select(now, Reason::Better);
        }
        self.announce(now);
    }

    fn schedule_retry(&mut self, now: Instant, at: usize) {
        let outage = self.selection.outage_since().or((!self.answers()).then_some(now));
        let busy = self.busy(now);
        let vouched = self.paths.get(at).is_some_and(|p| self.remotes.vouches(p.key.remote));
        let Some(path) = self.paths.get_mut(at) else { return };
        if path.acknowledged.is_none() && !vouched {
            // Nobody vouches for the address, and it never answered: forget it.
            let id = path.id;
            self.paths.retain(|p| p.id != id);
            return;
        }
        let (first, most) = timing::RETRY;
        let hopeless = path.acknowledged.is_none();
        path.retry_pause = match outage {
            Some(since) if !hopeless => {
                let lasted = now.saturating_duration_since(since);
                timing::OUTAGE_RETRY
                    .iter()
                    .find(|(until, _)| lasted < *until)
                    .map_or(most, |(_, pause)| *pause)
            }
            _ => {
                let most = match (hopeless, busy) {
                    (true, _) => timing::HOPELESS_RETRY,
                    (false, true) => most,
                    (false, false) => timing::IDLE_RETRY,
                };
                (path.retry_pause * 2).clamp(first, most)
            }
        };
        path.retry = Some(now + path.retry_pause);
    }

    pub(super) fn probe_due(&self, now: Instant, path: &Path) -> Option<Instant> {
        // With a plain WireGuard peer handshakes take their place: `plain_due`.
        if !self.keys.can_seal() || self.peer.is_plain() || self.is_silenced(path) {
            return None;
        }
        if let Some(outstanding) = path.probe {
            return Some(outstanding.sent + outstanding.timeout);
        }
        match path.state {
            PathState::Candidate | PathState::Validating => Some(now),
            PathState::Failed => path.retry,
            PathState::Validated | PathState::Suspect => {
                let since = path.probed.unwrap_or(self.started);
                let metered = self.is_metered_here(path);
                // Of several paths of the same links one is watched closely: the others most often live and die with
                // it, and each costs as much.
                let spared = if self.is_second_of_its_links(path) { timing::ALIKE_FACTOR } else { 1 };
                if self.busy(now) && self.permitted(path) {
                    let unfit = path.fitness() == Fitness::Unfit;
                    let questionable = path.watch.as_ref().is_some_and(|watch| watch.is_questionable());
                    let interval = match (self.selection.is_active(path.id) || self.takes_part(path), metered)
                    {
                        (true, _) if questionable => timing::QUESTION_INTERVAL,
                        (true, _) if path.rtt.is_young() => timing::YOUNG_INTERVAL,
                        (true, _) => timing::ACTIVE_INTERVAL,
                        (false, false) if unfit => timing::RECOVERY_INTERVAL * spared,
                        (false, true) if unfit => timing::METERED_RECOVERY_INTERVAL * spared,
                        // It may be needed soon.
                        (false, true) if self.is_strained() => timing::STANDBY_INTERVAL * spared,
                        (false, false) => timing::STANDBY_INTERVAL * spared,
                        (false, true) => timing::METERED_INTERVAL * spared,
                    };
                    return Some(since + interval);
                }
                let extra = if self.config.lower { Duration::ZERO } else { timing::TARGET_EXTRA };
                Some(path.heard.map_or(since, |h| h.max(since)) + timing::KEEPALIVE * spared + extra)
            }
        }
    }

    pub(super) fn silence_due(&self, path: &Path) -> Option<Instant> {
        // A plain WireGuard peer need not answer data so soon: `plain_due`.
        let plain = self.peer.is_plain();
        if plain || path.state != PathState::Validated {
            return None;
        }
        // Set for paths that carry data only: the active one, and those that take part in a mode of several.
        path.silence_due()
    }

    pub(super) fn recontact_due(&self) -> Option<Instant> {
        if !self.wanted || self.contact_running() || !self.paths.iter().any(|p| self.permitted(p)) {
            return None;
        }
        let outage = self.selection.outage_since().map(|at| at + timing::RECONTACT);
        [outage, self.stalled_due()].into_iter().flatten().min()
    }

    /// A PROBE is due, either the first or because the one before was not answered in time.
    pub(super) fn probe_timeout(&mut self, now: Instant, at: usize) {
        let active = self.active_at() == Some(at);
        let Some(path) = self.paths.get_mut(at) else { return };
        let Some(outstanding) = path.probe else {
            self.send_probe(now, at);
            return;
        };
        let tries = timing::PROBE_TRIES + if active { timing::SUSPECT_BURST - 1 } else { 0 };
        let exhausted = outstanding.tries >= tries;
        match path.state {
            PathState::Failed => {
                path.probe = None;
                self.schedule_retry(now, at);
            }
            PathState::Candidate | PathState::Validating | PathState::Suspect if exhausted => {
                self.fail(now, at, Reason::Silent);
            }
            PathState::Validated => {
                let weight = timing::probe_weight(active);
                path.loss.sample(weight, weight);
                // Heard since: the path lives, only the PROBE or its answer was lost; unless that goes on, for
                // then only one direction lives.
                if path.heard.is_some_and(|h| h >= outstanding.sent) && !exhausted {
                    self.send_probe(now, at);
                } else {
                    self.suspect(now, at, exhausted);
                }
            }
            _ => self.send_probe(now, at),
        }
    }

    /// Takes in what the system said when a datagram was to be sent over a path.
    pub fn handle_send_error(&mut self, now: Instant, key: PathKey, error: SendError) {
        let Some(at) = self.paths.iter().position(|p| p.key == key) else { return };
        match error {
            SendError::TooBig { size } => {
                if let Some(path) = self.paths.get_mut(at) {
                    path.pmtu.refuse(now, size);
                }
            }
            SendError::Unreachable => {
                if self.paths.get(at).is_some_and(|p| p.state != PathState::Failed) {
                    self.fail(now, at, Reason::Unreachable);
                }
            }
        }
    }
}
