//! Plain WireGuard peers: what one end alone can find out.
//!
//! Such a peer answers no PROBE and tells nothing of what arrives. What can be known is this: a handshake is answered at
//! once, over the path that it came over, and whoever receives data and sends none says so after 10 s. So
//!
//! - *silence* is judged by what this peer answered so far, for each kind of datagram by itself: what was answered within
//!   a round trip is missed soon, what never was is not missed before WireGuard's own keepalive would have come;
//! - a silent path is *tried* by a handshake over it, and given its own round trip for the answer, twice. Only then
//!   handshakes race over the others, and the first that is answered takes over;
//! - *what went into the silence* goes again, as far as that is TCP, which drops what it has. Nobody else may get a datagram
//!   twice, and whether it arrived is not known: so from the suspicion on it waits for the verdict, for a moment;
//! - a path that nobody tried is a *candidate*: where it would be better than the one that carries data, by the user's
//!   policy or by cost, a handshake goes over it, when it appears and now and then. Any other is left in peace: it is
//!   tried when it is needed.
//!
//! A server sends to where the latest authentic message came from, a handshake among them. So after each try of another
//! path it is called back by a message over the one that carries data. And it holds one unconfirmed session, that of the
//! latest handshake: so there is one try at a time, and where an earlier handshake is answered after a later one left, as
//! in a race, another one follows at once.

use std::time::{Duration, Instant};

use super::path::{Outstanding, Path};
use super::{Context, PathKey, PathState, Reason, Transmit, timing};
use crate::crypto::Role;
use crate::estimate::RttEstimator;
use crate::policy::Merit;
use crate::wire::{Epoch, Flags, PathId};

/// What a datagram of the host lets one expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    /// A segment that the other host acknowledges: with data, or one that opens or closes a connection.
    Acknowledgement,
    /// The answer to an echo request.
    Echo,
    /// Nobody knows: UDP, fragments, and the rest.
    Unknown,
}

impl Expects {
    const KINDS: usize = 3;

    /// What this IP datagram lets one expect; nothing of an acknowledgement alone, or of an answer.
    fn of(datagram: &[u8]) -> Option<Self> {
        let (protocol, rest, fragment) = match datagram.first()? >> 4 {
            4 => {
                let length = usize::from(datagram.first()? & 15) * 4;
                let total = usize::from(u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]));
                let fragment = datagram.get(6)? & 0x3f != 0 || *datagram.get(7)? != 0;
                (*datagram.get(9)?, datagram.get(length..total.min(datagram.len()))?, fragment)
            }
            6 => {
                let length = usize::from(u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]));
                (*datagram.get(6)?, datagram.get(40..(40 + length).min(datagram.len()))?, false)
            }
            _ => return None,
        };
        match protocol {
            _ if fragment => Some(Self::Unknown),
            6 => {
                let (offset, flags) = (usize::from(rest.get(12)? >> 4) * 4, *rest.get(13)?);
                // SYN or FIN, or data.
                (flags & 3 != 0 || rest.len() > offset).then_some(Self::Acknowledgement)
            }
            1 => (*rest.first()? == 8).then_some(Self::Echo),
            58 => (*rest.first()? == 128).then_some(Self::Echo),
            _ => Some(Self::Unknown),
        }
    }
}

fn is_tcp(datagram: &[u8]) -> bool {
    let protocol = match datagram.first().map(|b| b >> 4) {
        Some(4) => datagram.get(9),
        _ => datagram.get(6),
    };
    protocol == Some(&6)
}

/// How soon one kind of datagram was answered lately.
#[derive(Debug, Default)]
struct Tempo {
    /// Milliseconds from the first datagram after something was heard until something was heard again.
    lately: [u16; Self::MEMORY],
    next: u8,
    known: u8,
    /// Since when such a datagram waits for anything to come.
    awaiting: Option<Instant>,
    /// Its silence turned out to be none: until then it is not judged by it.
    lenient: Option<Instant>,
    /// How often in a row.
    mistakes: u8,
}

impl Tempo {
    /// So many answers are looked at; the slowest decides.
    const MEMORY: usize = 8;
    /// So many make a habit.
    const HABIT: u8 = 3;

    fn note(&mut self, took: Duration) {
        let took = took.as_millis().min(u16::MAX.into()) as u16;
        if let Some(place) = self.lately.get_mut(usize::from(self.next)) {
            *place = took;
        }
        self.next = (self.next + 1) % Self::MEMORY as u8;
        self.known = (self.known + 1).min(Self::MEMORY as u8);
    }

    fn is_habit(&self) -> bool {
        self.known >= Self::HABIT
    }

    /// For how long silence is no reason to doubt, over a path of this round trip.
    fn patience(&self, rtt: Duration) -> Duration {
        if !self.is_habit() {
            return timing::PLAIN_LAWFUL.max(rtt * 2);
        }
        let slowest = self.lately.iter().take(usize::from(self.known)).max().copied().unwrap_or(0);
        let by_habit = Duration::from_millis(u64::from(slowest) * 2) + timing::MIN_SILENCE;
        // In a steady stream something comes all the time, which says nothing of the round trip.
        let by_path = rtt.mul_f64(1.5) + timing::MIN_SILENCE;
        by_habit.max(by_path).max(timing::PLAIN_SILENCE).min(timing::PLAIN_LAWFUL.max(rtt * 2))
    }

    /// When its silence is a reason to doubt the path, if `habit` tells how soon this kind is answered.
    fn due(&self, habit: &Self, rtt: Duration) -> Option<Instant> {
        let awaiting = self.awaiting?;
        let due = awaiting + habit.patience(rtt);
        // A keepalive comes from any peer that gets data.
        let lawful = awaiting + timing::PLAIN_LAWFUL.max(rtt * 2);
        Some(self.lenient.map_or(due, |until| due.max(until)).min(lawful))
    }

    /// The path works, and what it waits for does not come all the same.
    fn mistaken(&mut self, now: Instant) {
        self.lenient = Some(now + timing::PLAIN_LENIENCE * (1 << self.mistakes.min(2)));
        self.mistakes = self.mistakes.saturating_add(1);
        self.awaiting = None;
    }
}

/// What is known of a plain WireGuard peer.
#[derive(Debug, Default)]
pub(super) struct Plain {
    tempo: [Tempo; Expects::KINDS],
    /// A handshake under way, over one path alone.
    trial: Option<Trial>,
    /// When the peer is called back to the path that carries data.
    recall: Option<Instant>,
    /// The peer may not hold the session that this end seals with.
    unsure: bool,
}

impl Plain {
    /// When the silence of each kind is a reason to doubt a path of this round trip. What any host answers by its nature
    /// is judged by what the other such kind taught, until it has a habit of its own.
    fn due(&self, rtt: Duration) -> [Option<Instant>; Expects::KINDS] {
        let [segment, echo, unknown] = &self.tempo;
        let by = |own: &Tempo, other: &Tempo| own.due(if own.is_habit() { own } else { other }, rtt);
        [by(segment, echo), by(echo, segment), unknown.due(unknown, rtt)]
    }
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    path: PathId,
    until: Instant,
    tries: u32,
}

/// How long the answer to a handshake over a path may take.
fn wait(path: &Path) -> Duration {
    match path.rtt.smoothed() {
        None => timing::PLAIN_WAIT.1,
        Some(_) => (path.rtt.expected() + timing::SCHEDULING * 2).max(timing::PLAIN_WAIT.0),
    }
}

impl Context {
    /// Where data for a plain WireGuard peer shall go.
    pub fn plain_path(&mut self, now: Instant) -> Option<PathKey> {
        if self.selection.active().is_none() {
            self.select(now, Reason::Better);
        }
        self.active_path()
    }

    /// A datagram of the host is about to go to a plain WireGuard peer. Where no path works, or it is better not sent into
    /// a silence, it is held for [`Context::poll_plain`], and `false` comes back.
    pub fn take_plain(&mut self, now: Instant, flags: Flags, datagram: &[u8]) -> bool {
        self.last_data = Some(now);
        if self.plain_path(now).is_none() {
            self.outflow.hold(now, flags, datagram);
            self.hurry(now);
            return false;
        }
        if self.plain_waits(now) && !is_tcp(datagram) {
            self.outflow.hold(now, flags, datagram);
            return false;
        }
        true
    }

    /// Whether a verdict on the active path is about to come.
    fn plain_waits(&self, now: Instant) -> bool {
        let active = self.active_at().and_then(|at| self.paths.get(at));
        let suspect = active.filter(|p| p.state == PathState::Suspect).and_then(|p| p.suspect_since);
        suspect.is_some_and(|since| now.saturating_duration_since(since) < timing::PLAIN_UNREACHABLE)
    }

    /// Notes what was inside a message to a plain WireGuard peer: what is to be expected, and what goes again should the
    /// path die. Checksums are complete.
    pub fn note_plain_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Some(id) = self.selection.active() else { return };
        if let Some(expects) = Expects::of(datagram) {
            let plain = self.plain.get_or_insert_default();
            if let Some(tempo) = plain.tempo.get_mut(expects as usize) {
                tempo.awaiting.get_or_insert(now);
            }
        }
        if is_tcp(datagram) {
            self.outflow.keep(now, id, (Epoch(0), 0), (0, Flags::NONE), datagram);
        }
    }

    /// A datagram of the host for a plain WireGuard peer that was held, or goes again, if a path works.
    pub fn poll_plain(&mut self, now: Instant) -> Option<(Vec<u8>, Flags)> {
        if !self.peer.is_plain() || self.outflow.is_clear() || self.selection.active().is_none() {
            return None;
        }
        if self.plain_waits(now) {
            return None;
        }
        self.outflow.next_length(now)?;
        self.outflow.next(now).map(|waited| (waited.datagram, waited.flags))
    }

    /// Notes that a message went to a plain WireGuard peer.
    pub fn note_plain_sent(&mut self, now: Instant, key: PathKey, bytes: usize) {
        if let Some(path) = self.paths.iter_mut().find(|p| p.key == key) {
            path.tx_bytes += bytes as u64;
            path.awaiting.get_or_insert(now);
        }
    }

    /// Notes that an authentic message came from the peer in a WireGuard session.
    pub fn note_plain_received(&mut self, now: Instant, key: PathKey, bytes: usize) {
        let Some(at) = self.add_path(key) else { return };
        self.note_heard(now, at, bytes, None);
        self.close_gap(now, Some(key));
        if !self.peer.is_plain() {
            return;
        }
        self.plain_heard(now, at, true);
        let Some(path) = self.paths.get_mut(at) else { return };
        path.note_validated(now);
        let paths = &self.paths;
        let used = |at| paths.iter().any(|p| p.key.remote == at && p.carries());
        self.remotes.note_answer(key.remote, used);
        if self.selection.active().is_none() {
            self.select(now, Reason::Restored);
        }
    }

    /// Something came over a path: an answer to a handshake, or `data`, in the session.
    fn plain_heard(&mut self, now: Instant, at: usize, data: bool) {
        let Some(path) = self.paths.get_mut(at) else { return };
        let active = self.selection.is_active(path.id);
        if path.probe.take().is_some() && active {
            path.retry = None;
        }
        let (id, arrived) = (path.id, path.rtt.expected() + timing::OVERTAKING_MARGIN);
        let rtt = path.rtt.expected();
        if let Some(plain) = &mut self.plain {
            plain.trial.take_if(|trial| trial.path == id);
            plain.unsure = false;
            if active {
                let due = plain.due(rtt);
                for (tempo, due) in plain.tempo.iter_mut().zip(due) {
                    match tempo.awaiting {
                        Some(since) if data => {
                            tempo.note(now.saturating_duration_since(since));
                            tempo.awaiting = None;
                        }
                        Some(_) if due.is_some_and(|due| due <= now) => tempo.mistaken(now),
                        _ => {}
                    }
                }
            }
        }
        if active {
            // It lives: the others need not be asked.
            self.contact.call_off();
            if let Some(arrived) = now.checked_sub(arrived) {
                self.outflow.confirm_before(arrived);
            }
        }
    }

    /// A handshake with a plain WireGuard peer was completed over the path at `at`; `began` if this end began it.
    pub(super) fn plain_secure(&mut self, now: Instant, at: usize, began: bool) {
        let Some(path) = self.paths.get_mut(at) else { return };
        let once = path.probe.is_none_or(|o| o.tries == 1);
        // When a handshake was last sent over it, if that was not answered before.
        let sent = path.probed.filter(|sent| began && once && path.acknowledged.is_none_or(|a| a < *sent));
        let took = sent.map(|sent| now.saturating_duration_since(sent));
        // A longer one is that of a handshake which WireGuard's own timers began.
        if let Some(took) = took.filter(|took| *took < RttEstimator::MAX_RTO) {
            path.rtt.sample(took);
        }
        self.plain_heard(now, at, false);
    }

    /// [`Context::secure_up`] as the initiator, by a handshake that was not the latest that left. A plain WireGuard peer may
    /// hold the session of the latest alone, so that whatever is sent in this one is lost: once more, over the path that
    /// answers, and with all the time that it needs.
    pub fn secure_superseded(&mut self, now: Instant, key: PathKey) {
        if self.peer.is_plain()
            && let Some(path) = self.paths.iter_mut().find(|p| p.key == key)
        {
            // When that handshake left is not known any more.
            path.probed = None;
        }
        let under_way = self.plain.as_ref().and_then(|p| p.trial);
        self.secure_up(now, key, Role::Initiator);
        let Some(at) = self.paths.iter().position(|p| p.key == key && self.peer.is_plain()) else { return };
        let id = self.paths.get(at).map(|p| p.id);
        if under_way.is_none() {
            self.plain_try(now, at, 1);
        }
        let plain = self.plain.get_or_insert_default();
        // Another handshake for each such answer would supersede the next one: the latest is waited for.
        plain.unsure = under_way.is_some();
        plain.trial = under_way.or(plain.trial);
        if let Some(trial) = plain.trial.as_mut().filter(|trial| Some(trial.path) == id) {
            trial.until = now + RttEstimator::MAX_RTO;
        }
    }

    /// A handshake over a path was answered: the active one, if that is another and did not answer in its own time, has
    /// failed.
    pub(super) fn plain_answer(&mut self, now: Instant, key: PathKey) {
        let Some(active) = self.active_at().filter(|_| self.peer.is_plain()) else { return };
        let silent = |p: &Path| p.key != key && matches!(p.state, PathState::Suspect | PathState::Candidate);
        let waits = self.plain.as_ref().is_some_and(|p| p.trial.is_some());
        if self.paths.get(active).is_some_and(silent) && !waits {
            self.plain_fail(now, active);
        }
    }

    fn plain_fail(&mut self, now: Instant, at: usize) {
        if let Some(plain) = &mut self.plain {
            for tempo in &mut plain.tempo {
                tempo.awaiting = None;
            }
        }
        self.fail(now, at, Reason::Silent);
    }

    /// The peer is told to send over the active path, if what it heard last came over another.
    pub(super) fn plain_recall(&mut self, over: PathKey) {
        if self.peer.is_plain()
            && let Some(path) = self.active_path().filter(|path| *path != over)
        {
            self.transmits.push_back(Transmit::Keepalive { path });
        }
    }

    /// A path is to be tried, if there is any use in that.
    pub(super) fn plain_probe(&mut self, now: Instant, at: usize) {
        let useful = |p: &Path| self.selection.is_active(p.id) || self.plain_attractive(p);
        if self.paths.get(at).is_some_and(useful) {
            self.plain_ask(now, at);
        }
    }

    /// A path is to be tried.
    pub(super) fn plain_ask(&mut self, now: Instant, at: usize) {
        if let Some(path) = self.paths.get_mut(at) {
            path.retry = Some(now);
        }
    }

    /// Whether a path would be better than the active one: by the user's policy, by cost, or by its round trip, which is to be
    /// found out where that costs nothing.
    fn plain_attractive(&self, path: &Path) -> bool {
        let Some(active) = self.active_at().and_then(|at| self.paths.get(at)) else { return true };
        let (merit, now) = (self.merit(path), self.merit(active));
        let rtt = match path.rtt.smoothed() {
            Some(rtt) => rtt,
            None if merit.metered => now.rtt,
            None => Duration::ZERO,
        };
        let like = Merit { rank: merit.rank, wish: merit.wish, metered: merit.metered, rtt, ..now };
        like.advantage_over(&now).is_some()
    }

    /// Whether what is known of a path beside the active one is too old to move there without asking.
    pub(super) fn plain_stale(&self, now: Instant, path: &Path) -> bool {
        let known = path.acknowledged.max(path.heard);
        self.peer.is_plain() && known.is_none_or(|at| now.saturating_duration_since(at) > timing::PLAIN_FRESH)
    }

    /// When a path is to be tried.
    fn plain_try_due(&self, path: &Path) -> Option<Instant> {
        if !self.permitted(path) {
            return None;
        }
        let asked = path.retry.unwrap_or(self.started);
        if self.selection.is_active(path.id) {
            return path.retry;
        }
        if path.state == PathState::Validated {
            return path.retry;
        }
        if !self.plain_attractive(path) {
            return None;
        }
        // Of several addresses of the peer, one that answers over the interface is enough.
        let enough = self.paths.iter().any(|p| {
            p.key.interface == path.key.interface && p.state == PathState::Validated && self.permitted(p)
        });
        (!enough).then_some(asked)
    }

    /// When there is something to be done for a plain WireGuard peer.
    pub(super) fn plain_due(&self) -> Option<Instant> {
        if !self.peer.is_plain() || !self.wanted {
            return None;
        }
        let plain = self.plain.as_deref();
        let recall = plain.and_then(|p| p.recall);
        if let Some(trial) = plain.and_then(|p| p.trial) {
            return [Some(trial.until), recall].into_iter().flatten().min();
        }
        if self.contact.race_at().is_some() {
            // All paths are asked anyway.
            return recall;
        }
        let active = self.active_at().and_then(|at| self.paths.get(at)).filter(|p| self.permitted(p))?;
        let rtt = active.rtt.expected();
        let silence = plain.and_then(|p| p.due(rtt).into_iter().flatten().min());
        let tries = self.paths.iter().filter_map(|p| self.plain_try_due(p)).min();
        let unsure = plain.filter(|p| p.unsure).map(|_| self.started);
        let next = [silence, tries, unsure].into_iter().flatten().min();
        let next = next.map(|at| self.contact.fresh_from().map_or(at, |from| at.max(from)));
        [next, recall].into_iter().flatten().min()
    }

    /// Does what is due for a plain WireGuard peer.
    pub(super) fn plain_drive(&mut self, now: Instant) {
        if let Some(plain) = &mut self.plain
            && plain.recall.take_if(|at| *at <= now).is_some()
            && let Some(path) = self.active_path()
        {
            self.transmits.push_back(Transmit::Keepalive { path });
        }
        let Some(trial) = self.plain.as_ref().and_then(|p| p.trial) else {
            self.plain_begin(now);
            return;
        };
        if trial.until > now {
            return;
        }
        if let Some(plain) = &mut self.plain {
            plain.trial = None;
        }
        let Some(at) = self.paths.iter().position(|p| p.id == trial.path) else { return };
        if !self.selection.is_active(trial.path) {
            self.fail(now, at, Reason::Silent);
            if let Some(path) = self.active_path() {
                self.transmits.push_back(Transmit::Keepalive { path });
            }
            self.plain_begin(now);
            return;
        }
        if trial.tries < timing::PLAIN_TRIES {
            self.plain_try(now, at, trial.tries + 1);
            return;
        }
        let Some(path) = self.paths.get_mut(at) else { return };
        path.probe = None;
        path.retry = None;
        if path.state == PathState::Validated {
            path.state = PathState::Suspect;
            path.suspect_since = Some(now);
            let heard = path.heard;
            self.selection.open_gap(heard);
        }
        let since = self.paths.get(at).and_then(|p| p.suspect_since);
        // Another may have answered meanwhile, for a reason of its own.
        let other = self.paths.iter().any(|p| {
            p.id != trial.path
                && p.state == PathState::Validated
                && self.permitted(p)
                && since.is_some_and(|since| p.acknowledged.is_some_and(|at| at >= since))
        });
        if other {
            self.plain_fail(now, at);
        } else {
            self.contact_elsewhere(now, trial.path);
        }
    }

    /// Begins what is due: the active path is silent, or another is to be tried.
    fn plain_begin(&mut self, now: Instant) {
        if self.plain_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(active) = self.active_at() else { return };
        let rtt = self.paths.get(active).map_or(Duration::ZERO, |p| p.rtt.expected());
        let plain = self.plain.get_or_insert_default();
        let silent = plain.due(rtt).into_iter().flatten().any(|due| due <= now);
        if silent && let Some(path) = self.paths.get_mut(active) {
            let heard = path.heard;
            if path.state == PathState::Validated {
                path.state = PathState::Suspect;
                path.suspect_since = Some(now);
            }
            self.selection.open_gap(heard);
            self.plain_try(now, active, 1);
            return;
        }
        if std::mem::take(&mut plain.unsure) {
            self.plain_try(now, active, 1);
            return;
        }
        let due = |at: &usize| {
            let path = self.paths.get(*at);
            path.and_then(|p| self.plain_try_due(p)).is_some_and(|due| due <= now)
        };
        let merit =
            |at: &usize| self.paths.get(*at).map(|p| (!self.selection.is_active(p.id), self.merit(p).key()));
        let next = (0..self.paths.len()).filter(due).min_by_key(merit);
        if let Some(at) = next {
            self.plain_try(now, at, 1);
        }
    }

    /// Sends a handshake over one path alone.
    fn plain_try(&mut self, now: Instant, at: usize, tries: u32) {
        let Some(path) = self.paths.get_mut(at) else { return };
        let wait = wait(path);
        path.probe = Some(Outstanding { sent: now, timeout: wait, tries });
        path.probed = Some(now);
        path.retry = None;
        let (id, key) = (path.id, path.key);
        let there = path.rtt.smoothed().unwrap_or_default() / 2 + timing::OVERTAKING_MARGIN;
        self.note_fresh(now);
        self.transmits.push_back(Transmit::Contact { path: key, fresh: true });
        let active = self.selection.is_active(id);
        let plain = self.plain.get_or_insert_default();
        plain.trial = Some(Trial { path: id, until: now + wait, tries });
        plain.recall = (!active).then_some(now + there.max(timing::PLAIN_RECALL));
    }

    /// Whether nothing tells that the peer is there.
    pub(super) fn plain_silent(&self, now: Instant) -> bool {
        let active = self.active_at().and_then(|at| self.paths.get(at));
        active.is_none_or(|path| match path.state {
            PathState::Validated => false,
            _ => {
                let since = path.suspect_since.or(self.selection.moved());
                since.is_none_or(|at| now.saturating_duration_since(at) > timing::PLAIN_UNREACHABLE)
            }
        })
    }

    /// No path works with a plain WireGuard peer: all are asked at once.
    pub(super) fn plain_lost(&mut self, now: Instant) {
        let lost = self.peer.is_plain() && self.selection.active().is_none() && self.last_heard.is_some();
        if lost
            && self.wanted
            && self.contact.race_at().is_none()
            && self.paths.iter().any(|p| self.permitted(p))
        {
            self.start_contact(now);
        }
    }

    /// No PROBE can validate a path, so one that was not tried is as good as any, once there is a session.
    pub(super) fn plain_candidate(&self) -> Option<PathId> {
        if !self.peer.is_plain() || self.last_heard.is_none() {
            return None;
        }
        let untried = self.paths.iter().filter(|p| p.state != PathState::Failed && self.permitted(p));
        untried.min_by_key(|p| (self.merit(p).key(), p.id)).map(|p| p.id)
    }
}
