//! Plain WireGuard peers: what one end alone can find out.
//!
//! Such a peer answers no PROBE and tells nothing of what arrives. What can be known is this: a handshake is answered at
//! once, over the path that it came over, and whoever receives data and sends none says so after 10 s. So
//!
//! - *silence* is judged by what this peer answered so far, for each kind of datagram by itself: what was answered within
//!   a round trip is missed soon, what never was is not missed before WireGuard's own keepalive would have come. An answer
//!   is what [`super::answers`] takes for one: what the peer sends of its own tells of its direction alone;
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

use super::answers::{Answer, Expects, Question, is_tcp, segment};
use super::path::{Outstanding, Path};
use super::{Context, PathKey, PathState, Reason, Transmit, timing};
use crate::crypto::Role;
use crate::estimate::RttEstimator;
use crate::policy::Merit;
use crate::recent::Past;
use crate::wire::{Epoch, Flags, PathId};

/// How soon one kind of datagram was answered lately.
#[derive(Debug, Default)]
struct Tempo {
    /// Milliseconds from the first datagram after something was heard until something was heard again.
    lately: [u16; Self::MEMORY],
    next: u8,
    known: u8,
    /// Such datagrams that wait for their answer, and since when: one of each flow, the first since the path was proven.
    asked: [Option<(Instant, Question)>; Self::FLOWS],
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
    /// So many flows are followed at once.
    const FLOWS: usize = 4;
    /// So many of them may be such as only open a connection: hosts that do not exist must not crowd out those that do.
    const OPENING: usize = 2;

    /// Since when something waits for its answer.
    fn awaiting(&self) -> Option<Instant> {
        self.asked.iter().flatten().map(|(at, _)| *at).min()
    }

    /// A datagram leaves that is to be answered.
    fn ask(&mut self, now: Instant, question: Question, opens: bool) {
        if self.asked.iter().flatten().any(|(_, asked)| asked.is_like(&question)) {
            return;
        }
        let rooms = if opens { Self::OPENING } else { Self::FLOWS };
        if let Some(room) = self.asked.iter_mut().take(rooms).find(|room| room.is_none()) {
            *room = Some((now, question));
        }
    }

    /// Something came: when the latest of what it answers left.
    fn settle(&mut self, now: Instant, answer: &Answer) -> Option<Instant> {
        let settled = self.asked.iter().flatten().filter(|(_, question)| answer.settles(question));
        let left = settled.map(|(at, _)| *at).max()?;
        self.note(now.saturating_duration_since(left));
        Some(left)
    }

    /// Both directions worked at that time: what left before is not waited for.
    fn proven(&mut self, at: Instant) {
        for room in &mut self.asked {
            room.take_if(|(asked, _)| *asked <= at);
        }
    }

    /// Nothing is waited for.
    fn forget(&mut self) {
        self.asked = Default::default();
    }

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
        let awaiting = self.awaiting()?;
        let due = awaiting + habit.patience(rtt);
        // A keepalive comes from any peer that gets data.
        let lawful = awaiting + timing::PLAIN_LAWFUL.max(rtt * 2);
        Some(self.lenient.map_or(due, |until| due.max(until)).min(lawful))
    }

    /// The path works, and what it waits for does not come all the same.
    fn mistaken(&mut self, now: Instant) {
        self.lenient = Some(now + timing::PLAIN_LENIENCE * (1 << self.mistakes.min(2)));
        self.mistakes = self.mistakes.saturating_add(1);
        self.forget();
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
    /// The latest segment of TCP with data that came, and whether it came again: as where no acknowledgement arrives.
    last_segment: u64,
    repeated: Option<Repeated>,
    /// No look for the sake of that before then.
    repeats_from: Option<Instant>,
}

impl Plain {
    /// Something came in the session over the active path: whether this end is still owed an answer by now.
    fn hear(&mut self, now: Instant, datagram: Option<&[u8]>, rtt: Duration) -> bool {
        let answer = datagram.map_or(Answer::Nothing, Answer::of);
        if let Some(number) = datagram.and_then(segment) {
            self.hear_segment(now, number);
        }
        let [segments, echoes, unknown] = &mut self.tempo;
        let proven = segments.settle(now, &answer).max(echoes.settle(now, &answer));
        if let Some(since) = unknown.awaiting() {
            unknown.note(now.saturating_duration_since(since));
            unknown.forget();
        }
        if let Some(at) = proven {
            segments.proven(at);
            echoes.proven(at);
        }
        let late = self.due(rtt).into_iter().flatten().any(|due| due <= now);
        late || self.repeated == Some(Repeated::Asked)
    }

    /// A segment of TCP with data came.
    fn hear_segment(&mut self, now: Instant, number: u64) {
        let before = self.last_segment;
        let same_flow = number >> 32 == before >> 32;
        let ahead = (number as u32).wrapping_sub(before as u32);
        if number == before {
            if self.repeated.is_none() && self.repeats_from.is_none_or(|from| from <= now) {
                self.repeated = Some(Repeated::Seen);
            }
        } else if same_flow && ahead < 0x8000_0000 {
            // It goes on: what this end says arrives.
            (self.last_segment, self.repeated) = (number, None);
        } else if self.repeated.is_none() {
            self.last_segment = number;
        }
    }

    /// Since when something waits for its answer.
    fn awaiting(&self) -> Option<Instant> {
        self.tempo.iter().filter_map(Tempo::awaiting).min()
    }

    /// When the silence of each kind is a reason to doubt a path of this round trip. What any host answers by its nature
    /// is judged by what the other such kind taught, until it has a habit of its own.
    fn due(&self, rtt: Duration) -> [Option<Instant>; Expects::KINDS] {
        let [segment, echo, unknown] = &self.tempo;
        let by = |own: &Tempo, other: &Tempo| own.due(if own.is_habit() { own } else { other }, rtt);
        [by(segment, echo), by(echo, segment), unknown.due(unknown, rtt)]
    }
}

/// The peer sends again what it has sent, and nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeated {
    /// It does.
    Seen,
    /// And a handshake is under way because of that.
    Asked,
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
        if let Some(question) = Question::of(datagram) {
            let plain = self.plain.get_or_insert_default();
            if let Some(tempo) = plain.tempo.get_mut(question.expects as usize) {
                tempo.ask(now, question, Question::opens(datagram));
            }
        }
        if is_tcp(datagram) {
            self.outflow.keep(now, id, (Epoch(0), 0), (0, Flags::NONE, Past::new(now)), datagram);
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

    /// Notes that an authentic message came from the peer in a WireGuard session, and what was in it: nothing, if it only
    /// says that the peer is there.
    pub fn note_plain_received(&mut self, now: Instant, key: PathKey, bytes: usize, datagram: Option<&[u8]>) {
        let Some(at) = self.add_path(key) else { return };
        let owed = self.peer.is_plain() && self.plain_owed(now, at, datagram);
        if let Some(path) = self.paths.get_mut(at) {
            // It hears the peer, and the peer does not hear it.
            path.peer_silent = owed && path.carries();
        }
        self.note_heard(now, at, bytes, None);
        if !self.peer.is_plain() {
            return;
        }
        if owed {
            return;
        }
        let elsewhere = self.active_at().is_some_and(|active| active != at);
        let Some(path) = self.paths.get_mut(at) else { return };
        if elsewhere && path.state == PathState::Failed {
            // What the peer sent before it heard of the move tells of that direction alone.
            return;
        }
        self.close_gap(now, Some(key));
        self.plain_heard(now, at);
        let Some(path) = self.paths.get_mut(at) else { return };
        path.note_validated(now);
        let paths = &self.paths;
        let used = |at| paths.iter().any(|p| p.key.remote == at && p.carries());
        self.remotes.note_answer(key.remote, used);
        if self.selection.active().is_none() {
            self.select(now, Reason::Restored);
        }
    }

    /// Whether this end is owed an answer over a path, whatever came over it.
    fn plain_owed(&mut self, now: Instant, at: usize, datagram: Option<&[u8]>) -> bool {
        let Some(path) = self.paths.get(at).filter(|p| self.selection.is_active(p.id)) else { return false };
        let rtt = path.rtt.expected();
        self.plain.as_mut().is_some_and(|plain| plain.hear(now, datagram, rtt))
    }

    /// A path works: a handshake was answered over it, or nothing is owed.
    fn plain_heard(&mut self, now: Instant, at: usize) {
        let Some(path) = self.paths.get_mut(at) else { return };
        let active = self.selection.is_active(path.id);
        if path.probe.take().is_some() && active {
            path.retry = None;
        }
        let (id, arrived) = (path.id, path.rtt.expected() + timing::OVERTAKING_MARGIN);
        let mut owed = None;
        if let Some(plain) = &mut self.plain {
            plain.trial.take_if(|trial| trial.path == id);
            plain.unsure = false;
            owed = plain.awaiting();
        }
        if active {
            // It lives: the others need not be asked.
            self.contact.call_off();
            if let Some(arrived) = now.checked_sub(arrived) {
                self.outflow.confirm_before(owed.map_or(arrived, |owed| arrived.min(owed)));
            }
        }
    }

    /// A handshake was answered over the active path: what was missed was no silence of it.
    fn plain_mistaken(&mut self, now: Instant, at: usize) {
        let Some(path) = self.paths.get(at).filter(|p| self.selection.is_active(p.id)) else { return };
        let rtt = path.rtt.expected();
        let Some(plain) = &mut self.plain else { return };
        let due = plain.due(rtt);
        for (tempo, due) in plain.tempo.iter_mut().zip(due) {
            if due.is_some_and(|due| due <= now) {
                tempo.mistaken(now);
            }
        }
        plain.repeated = None;
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
        self.plain_mistaken(now, at);
        self.plain_heard(now, at);
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
        self.secure_up(now, key, Role::Initiator, true);
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
            plain.tempo.iter_mut().for_each(Tempo::forget);
            plain.repeated = None;
        }
        let deaf = self.paths.get(at).is_some_and(|p| p.peer_silent);
        self.fail(now, at, if deaf { Reason::PeerSilent } else { Reason::Silent });
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
        let unsure = plain.filter(|p| p.unsure || p.repeated == Some(Repeated::Seen)).map(|_| self.started);
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
        let repeated = plain.repeated == Some(Repeated::Seen);
        if repeated {
            plain.repeated = Some(Repeated::Asked);
            plain.repeats_from = Some(now + timing::PLAIN_REPEATS);
        }
        if std::mem::take(&mut plain.unsure) || repeated {
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

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
