//! Datagrams between EIDs: sealed on the way out, opened on the way in.
//!
//! A data frame is the header, a 32-bit sequence number of the whole context, the IP datagram, and the tag. The
//! sequence number lets the receiver drop what came twice: by copy, or by being sent again over another path.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::outflow::Waited;
use super::path::Path;
use super::{Context, PathKey, PathState, Transmit, timing};
use crate::crypto::{Replay, SequenceWindow, TAG_LEN};
use crate::recent::{Past, Sealed};
use crate::resequence::{Early, Order, Resequencer};
use crate::wire::{Flags, HEADER_LEN, Header, Kind, PathId};

const SEQUENCE_LEN: usize = 4;
/// Room that [`Context::seal_data`] needs before the datagram, in bytes.
pub const DATA_HEADROOM: usize = HEADER_LEN + SEQUENCE_LEN;
/// Room that it needs after the datagram, in bytes.
pub const DATA_TAILROOM: usize = TAG_LEN;
/// What a data frame adds to a datagram, in bytes of UDP payload.
pub const DATA_OVERHEAD: usize = DATA_HEADROOM + DATA_TAILROOM;

/// What became of a datagram from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// The frame is sealed: send it over this path.
    Send(PathKey),
    /// No path works: it is held, or something older gave way to it.
    Held,
    /// It fits no frame of the active path, which carries datagrams of up to `mtu` bytes.
    TooBig {
        /// In bytes.
        mtu: usize,
    },
}

/// What became of a datagram from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It holds an IP datagram, in this range of the buffer.
    Data(Range<usize>, Flags),
    /// It was a control message; or it came early and is kept to be put in order: see [`Context::poll_deliver`].
    Control,
    /// It was dropped.
    Dropped(Drop),
}

/// Why a datagram from the network was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// Too short, of another type, or with unknown flags.
    Malformed,
    /// Of an epoch that is over or was never agreed.
    UnknownEpoch,
    /// Its counter was seen before, or is too old to tell.
    Replayed,
    /// Not sealed by the other end.
    NotAuthentic,
    /// Authentic, but came before by another path.
    Duplicate,
    /// Authentic, but not to be understood.
    BadMessage,
}

impl Drop {
    /// The name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownEpoch => "unknown_epoch",
            Self::Replayed => "replayed",
            Self::NotAuthentic => "not_authentic",
            Self::Duplicate => "duplicate",
            Self::BadMessage => "bad_message",
        }
    }
}

/// What the datagrams of a run have in common, and what is noted of them at its end.
struct Common {
    header: Header,
    /// Among the context's epochs.
    epoch: usize,
    /// Among its paths.
    at: usize,
    count: u32,
    bytes: usize,
}

/// The numbers of the data that arrived. They outlive the end of a context, as the other end counts on.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    instance: Option<u64>,
    window: SequenceWindow,
    /// What came early.
    order: Resequencer<PathKey>,
    /// Those of the instance before: an INIT that the network held back may make it seem to be there once more.
    former: Option<Box<(u64, SequenceWindow)>>,
}

impl Arrived {
    /// What comes from now on is of this instance of the other end.
    pub fn of(&mut self, instance: u64) {
        let Some(before) = self.instance.replace(instance).filter(|before| *before != instance) else {
            return;
        };
        let window = match self.former.take() {
            Some(former) if former.0 == instance => former.1,
            _ => SequenceWindow::default(),
        };
        self.former = Some(Box::new((before, std::mem::replace(&mut self.window, window))));
        self.order.restart();
    }

    /// A path of the other end lives.
    pub fn note_alive(&mut self, now: Instant, path: PathId) {
        self.order.note_alive(now, path);
    }

    /// By how much the round trips of the paths differ, and how long it takes to have something sent again.
    pub fn set_delays(&mut self, spread: Duration, again: Duration) {
        self.order.set_delays(spread, again);
    }

    /// What is missing and not on its way.
    pub fn missing(&mut self, now: Instant) -> Vec<u32> {
        self.order.missing(now, &self.window)
    }

    /// When what came early is not waited for any longer.
    pub fn deadline(&self) -> Option<Instant> {
        self.order.deadline()
    }

    /// When the other end must hear of what is missing.
    pub fn ask_at(&self) -> Option<Instant> {
        self.order.ask_at()
    }

    /// Does not wait any longer for what is overdue.
    pub fn drive(&mut self, now: Instant) {
        self.order.expire(now);
    }

    /// Nothing that was sent earlier can come any more, but from the instance before.
    pub fn rest(&mut self) {
        self.window.rest();
        if let Some((_, window)) = self.former.as_deref_mut() {
            window.rest();
        }
    }
}

/// The IP datagram in a frame.
pub(super) fn content(frame: &[u8]) -> &[u8] {
    frame.get(DATA_HEADROOM..frame.len().saturating_sub(DATA_TAILROOM)).unwrap_or_default()
}

impl Context {
    /// Takes in a sealed datagram that came over `path`, and opens it in place.
    pub fn handle_datagram(&mut self, now: Instant, path: PathKey, datagram: &mut [u8]) -> Received {
        let Ok(header) = Header::decode(datagram) else { return Received::Dropped(Drop::Malformed) };
        let length = datagram.len();
        let silent = self.is_silent(now);
        let Some(epoch) = self.keys.position(header.epoch).and_then(|at| self.keys.at(at)) else {
            return Received::Dropped(Drop::UnknownEpoch);
        };
        if !epoch.may_be_new(header.path, header.counter) {
            return Received::Dropped(Drop::Replayed);
        }
        let Ok(content) = epoch.keys.open(&header, datagram) else {
            return Received::Dropped(Drop::NotAuthentic);
        };
        if silent {
            epoch.rest();
        }
        if !epoch.accept(header.path, header.counter) {
            return Received::Dropped(Drop::Replayed);
        }
        // From here on the datagram is authentic and new.
        let fresh_epoch = !std::mem::replace(&mut epoch.confirmed, true);
        if header.kind == Kind::Data {
            epoch.note_used(now);
        }
        epoch.heard = Some(now);
        let end = HEADER_LEN + content.len();
        if fresh_epoch {
            self.keys.use_for_sealing(now, header.epoch);
        }
        if silent {
            self.shrink(now);
        }
        let data = (header.kind == Kind::Data).then_some(header.flags);
        let Some(at) = self.learn_path(now, path, header.path, length, data) else {
            // A drill silences its link.
            return Received::Control;
        };
        match header.kind {
            Kind::Control => {
                self.received.note_alive(now, header.path);
                let Some(content) = datagram.get(HEADER_LEN..end) else {
                    return Received::Dropped(Drop::Malformed);
                };
                match crate::wire::Message::decode(content) {
                    Ok(message) => {
                        self.handle_control(now, at, path, message);
                        Received::Control
                    }
                    Err(crate::wire::MessageError::Unknown(_)) => Received::Control,
                    Err(_) => Received::Dropped(Drop::BadMessage),
                }
            }
            Kind::Data => {
                let Some(sequence) = datagram.get(HEADER_LEN..end).and_then(|c| c.first_chunk()) else {
                    return Received::Dropped(Drop::Malformed);
                };
                self.last_data = Some(now);
                self.close_gap(now, at.and_then(|at| self.paths.get(at)).map(|p| p.key));
                let (verdict, number) = self.received.window.accept_full(u32::from_be_bytes(*sequence));
                self.received.order.note(now, header.path, number);
                if verdict == Replay::Replayed {
                    return Received::Dropped(Drop::Duplicate);
                }
                let range = DATA_HEADROOM..end;
                if header.flags.contains(Flags::ORDERED) {
                    let Arrived { order, window, .. } = &mut self.received;
                    if order.arrive(now, number, range.len(), window) == Order::Keep {
                        let datagram = self.spare.filled(datagram.get(range).unwrap_or_default());
                        order.keep(now, number, Early { datagram, flags: header.flags, origin: path });
                        return Received::Control;
                    }
                }
                Received::Data(range, header.flags)
            }
        }
    }

    /// [`Context::handle_datagram`] of datagrams that came together over `path`: each of `stride` bytes, only the last may
    /// be shorter. Adds to `out` where each lies in the buffer, and what became of it; the range in [`Received::Data`]
    /// counts from there. What they have in common is noted once, so that a long run costs little more than to open it.
    pub fn handle_run(
        &mut self,
        now: Instant,
        path: PathKey,
        datagrams: &mut [u8],
        stride: usize,
        out: &mut Vec<(Range<usize>, Received)>,
    ) {
        let length = datagrams.len();
        if length <= stride {
            let received = self.handle_datagram(now, path, datagrams);
            out.push((0..length, received));
            return;
        }
        let mut common: Option<Common> = None;
        let mut from = 0;
        for datagram in datagrams.chunks_mut(stride.max(1)) {
            let to = from + datagram.len();
            let quick = common.as_mut().and_then(|common| self.handle_next(now, common, datagram));
            let received = quick.unwrap_or_else(|| {
                self.note_common(now, common.take());
                let header = Header::decode(datagram);
                let received = self.handle_datagram(now, path, datagram);
                if to < length && matches!(received, Received::Data(..)) {
                    common = header.ok().and_then(|header| self.common(path, header));
                }
                received
            });
            out.push((from..to, received));
            from = to;
        }
        self.note_common(now, common);
    }

    /// What the datagrams of a run have in common with the one of this header, which was just opened.
    fn common(&self, path: PathKey, header: Header) -> Option<Common> {
        if header.flags.contains(Flags::ORDERED) {
            return None;
        }
        let epoch = self.keys.position(header.epoch)?;
        let at = self.paths.iter().position(|p| p.key == path)?;
        Some(Common { header, epoch, at, count: 0, bytes: 0 })
    }

    /// [`Context::handle_datagram`] of one that differs from the one before in nothing but its counter and its content.
    /// `None` when it does, and is to be handled as any other.
    fn handle_next(&mut self, now: Instant, common: &mut Common, datagram: &mut [u8]) -> Option<Received> {
        let length = datagram.len();
        let header = Header::decode(datagram).ok()?;
        let alike = Header { counter: header.counter, ..common.header };
        if header != alike {
            return None;
        }
        let epoch = self.keys.at(common.epoch)?;
        if !epoch.may_be_new(header.path, header.counter) {
            return Some(Received::Dropped(Drop::Replayed));
        }
        let Ok(content) = epoch.keys.open(&header, datagram) else {
            return Some(Received::Dropped(Drop::NotAuthentic));
        };
        let end = HEADER_LEN + content.len();
        if !epoch.accept(header.path, header.counter) {
            return Some(Received::Dropped(Drop::Replayed));
        }
        common.count += 1;
        common.bytes += length;
        let sequence = datagram.get(HEADER_LEN..end).and_then(|c| c.first_chunk());
        let Some(sequence) = sequence else { return Some(Received::Dropped(Drop::Malformed)) };
        let (verdict, number) = self.received.window.accept_full(u32::from_be_bytes(*sequence));
        self.received.order.note(now, header.path, number);
        Some(if verdict == Replay::Replayed {
            Received::Dropped(Drop::Duplicate)
        } else {
            Received::Data(DATA_HEADROOM..end, header.flags)
        })
    }

    /// Notes for all datagrams of a run but the first that they were heard.
    fn note_common(&mut self, now: Instant, common: Option<Common>) {
        if let Some(common) = common.filter(|c| c.count > 0) {
            self.note_heard(now, common.at, common.bytes, Some((common.header.flags, common.count)));
        }
    }

    /// Whether anything waits for [`Context::poll_deliver`], now or later.
    pub fn holds_early(&self) -> bool {
        !self.received.order.is_empty()
    }

    /// The next IP datagram that came early, was kept, and is to be delivered now, with how to treat it and the path
    /// that it came over. Ask after each batch of [`Context::handle_datagram`] and after [`Context::handle_timeout`],
    /// until there is none; what comes meanwhile stays behind it. See [`Context::recycle`].
    pub fn poll_deliver(&mut self, now: Instant) -> Option<(Vec<u8>, Flags, PathKey)> {
        let Arrived { order, window, .. } = &mut self.received;
        order.pop(now, window).map(|early| (early.datagram, early.flags, early.origin))
    }

    /// [`Context::seal_run`] of one frame.
    pub fn seal_data(&mut self, now: Instant, frame: &mut [u8], flags: Flags) -> Outgoing {
        if self.is_bonded() {
            let length = frame.len();
            return self.seal_bonded(now, frame, length, flags).1;
        }
        let flags = self.selection.ordered(now, flags);
        let Some(at) = self.data_path(frame.len()) else {
            self.outflow.hold(now, flags, content(frame));
            self.last_data = Some(now);
            self.hurry(now);
            return Outgoing::Held;
        };
        // What goes again, and what was held, goes first; it is about to be released.
        let passes = self.outflow.must_wait() && content(frame).len() <= super::SMALL_DATAGRAM;
        if !self.outflow.is_clear() && !passes {
            self.outflow.hold(now, flags, content(frame));
            return Outgoing::Held;
        }
        let Some(path) = self.paths.get_mut(at) else { return Outgoing::Held };
        if frame.len() > path.mtu() {
            path.pmtu.want(now, frame.len());
            return Outgoing::TooBig { mtu: path.mtu() - DATA_OVERHEAD };
        }
        let id = path.id;
        let suspect = path.state == PathState::Suspect && self.selection.is_active(id);
        let sequence = self.outflow.next_sequence();
        if let Some(room) = frame.get_mut(HEADER_LEN..DATA_HEADROOM) {
            room.copy_from_slice(&sequence.to_be_bytes());
        }
        let doubtful = suspect || self.is_unproven(at);
        if let Some(next) = self.keys.next_of(id).filter(|_| !doubtful) {
            let second = self.second(at);
            let copy = self.copy_over(now, second, (sequence, flags), frame);
            self.outflow.keep(now, id, next, (sequence, flags, Past::new(now)), content(frame));
            let copy = copy.or_else(|| self.copy_of_small(now, at, frame, flags));
            if let Some(copy) = copy {
                self.outflow.note_copy(sequence, copy);
            }
        }
        if doubtful {
            // It goes into the silence, and again over the next path that works; unless that is the one which got
            // a copy at once, and lives.
            let second = self.second(at);
            let copied = self.copy_over(now, second, (sequence, flags), frame).is_some()
                || suspect && self.copy(now, frame, flags).is_some();
            self.outflow.keep_unsure(now, copied, (sequence, flags, Past::new(now)), content(frame));
        }
        match self.seal(now, at, (Kind::Data, flags), frame) {
            Some(key) => {
                self.note_data_sent(now, at);
                Outgoing::Send(key)
            }
            None => {
                self.outflow.hold(now, flags, content(frame));
                Outgoing::Held
            }
        }
    }

    /// Whether nothing was heard over a path since data moved to it: it may have died together with the one before.
    pub(super) fn is_unproven(&self, at: usize) -> bool {
        self.paths.get(at).is_some_and(|p| p.heard < self.selection.moved())
    }

    /// What was on its way over a path that does not work goes again, as far as no report confirmed it. `left` is a
    /// path that the other end had left before: it may know of a silence that does not show here yet. `on_word` tells that
    /// what is wrong is what the other end says.
    pub(super) fn rescue(&mut self, left: Option<PathId>, on_word: bool) {
        let paths = &self.paths;
        self.outflow.rescue(on_word, |id| {
            let works = |p: &Path| p.id == id && p.state == PathState::Validated && p.doubt == 0;
            Some(id) != left && paths.iter().any(works)
        });
    }

    /// Releases one datagram that goes again or was held, if a path works now.
    pub(super) fn release(&mut self, now: Instant) -> Option<Transmit> {
        if self.outflow.is_clear() || !self.keys.can_seal() {
            return None;
        }
        if self.outflow.must_wait() {
            return None;
        }
        loop {
            let length = self.outflow.next_length(now)?;
            self.data_path(length + DATA_OVERHEAD)?;
            let Waited { datagram, flags, sequence: sent, past, .. } = self.outflow.next(now)?;
            let mut payload = vec![0; DATA_HEADROOM];
            payload.extend(&datagram);
            payload.resize(payload.len() + DATA_TAILROOM, 0);
            let at = self.data_path(payload.len())?;
            if self.paths.get(at).is_none_or(|p| payload.len() > p.mtu()) {
                continue;
            }
            let sequence = sent.unwrap_or_else(|| self.outflow.next_sequence());
            if let Some(room) = payload.get_mut(HEADER_LEN..DATA_HEADROOM) {
                room.copy_from_slice(&sequence.to_be_bytes());
            }
            let id = self.paths.get(at)?.id;
            let flags = if sent.is_some() { flags } else { self.selection.ordered(now, flags) };
            let second = if sent.is_none() { self.second(at) } else { None };
            let copy = self.copy_over(now, second, (sequence, flags), &payload);
            if self.is_unproven(at) {
                self.outflow.keep_unsure(now, false, (sequence, flags, past), &datagram);
            } else if let Some(next) = self.keys.next_of(id) {
                self.outflow.keep(now, id, next, (sequence, flags, past), &datagram);
                if let Some(copy) = copy {
                    self.outflow.note_copy(sequence, copy);
                }
            }
            if let Some(path) = self.seal(now, at, (Kind::Data, flags), &mut payload) {
                self.note_data_sent(now, at);
                self.outflow.spend(payload.len());
                return Some(Transmit::Datagram { path, payload });
            }
        }
    }

    /// The next datagram that was held before it was known that the peer speaks plain WireGuard.
    pub fn take_held(&mut self, now: Instant) -> Option<(Vec<u8>, Flags)> {
        self.outflow.take_held(now)
    }

    /// The path that data takes: the active one; or, while none is validated, one that is being validated, as far
    /// as that can flood nobody.
    fn data_path(&self, length: usize) -> Option<usize> {
        if !self.keys.can_seal() {
            return None;
        }
        if let Some(at) = self.active_at() {
            return Some(at);
        }
        let usable = |p: &&Path| {
            p.state == PathState::Validating
                && p.probe.is_some_and(|o| o.tries <= 2)
                && self.permitted(p)
                && (p.remote_known || p.may_take(length))
        };
        let best = self.paths.iter().filter(usable).min_by_key(|p| self.merit(p).key())?.id;
        self.paths.iter().position(|p| p.id == best)
    }

    pub(super) fn note_data_sent(&mut self, now: Instant, at: usize) {
        self.last_data = Some(now);
        if let Some(epoch) = self.keys.sealing_mut() {
            epoch.note_used(now);
        }
        if let Some(path) = self.paths.get_mut(at) {
            path.note_data(now);
        }
    }

    /// Sends a copy of a frame over the best standby path, if there is one.
    pub(super) fn copy(&mut self, now: Instant, frame: &[u8], flags: Flags) -> Option<Sealed> {
        let at = self.standby()?;
        let path = self.paths.get_mut(at)?;
        let copied = path.copied.saturating_add(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        if copied > Path::MAX_COPIED || frame.len() > path.mtu() {
            return None;
        }
        path.copied = copied;
        let id = path.id;
        let (epoch, counter) = self.keys.next_of(id)?;
        let mut payload = frame.to_vec();
        let path = self.seal(now, at, (Kind::Data, flags), &mut payload)?;
        self.transmits.push_back(Transmit::Datagram { path, payload });
        Some(Sealed { path: id, epoch, counter })
    }

    /// What was on its way over a path that fell silent goes over the best standby as well, as far as no report
    /// confirmed it and it has no copy yet: should the path be dead, whoever waits need not wait for the verdict. The
    /// receiver drops what it has. It is still kept, for a copy may be lost, too. What was sent a round trip before
    /// the path was last heard had arrived by then, unless the other end says that it hears nothing.
    pub(super) fn copy_recent(&mut self, now: Instant, at: usize) {
        let Some(path) = self.paths.get(at).filter(|_| self.standby().is_some()) else { return };
        let (silent, flight) = (path.id, path.rtt.smoothed().unwrap_or_default() + timing::OVERTAKING_MARGIN);
        let since = path.heard.filter(|_| !path.peer_silent).and_then(|heard| heard.checked_sub(flight));
        let copies = self.outflow.to_copy(silent, since, super::SMALL_DATAGRAM, Path::COPIED_AT_ONCE);
        for sent in copies {
            let mut frame = vec![0; DATA_OVERHEAD + sent.datagram.len()];
            if let Some(room) = frame.get_mut(HEADER_LEN..DATA_HEADROOM) {
                room.copy_from_slice(&sent.sequence.to_be_bytes());
            }
            if let Some(room) = frame.get_mut(DATA_HEADROOM..DATA_HEADROOM + sent.datagram.len()) {
                room.copy_from_slice(&sent.datagram);
            }
            if let Some(copy) = self.copy(now, &frame, sent.flags) {
                self.outflow.note_copy(sent.sequence, copy);
            }
        }
    }

    /// Seals a frame for a path, and notes that it was sent.
    pub(super) fn seal(
        &mut self,
        now: Instant,
        at: usize,
        (kind, flags): (Kind, Flags),
        frame: &mut [u8],
    ) -> Option<PathKey> {
        let path = self.paths.get_mut(at)?;
        let epoch = self.keys.sealing_mut()?;
        let (index, counter) = epoch.next_counters(path.id, 1)?;
        let header = Header { kind, flags, path: path.id, epoch: epoch.id, index, counter };
        epoch.keys.seal(&header, frame).ok()?;
        path.note_sealed(frame.len());
        if kind == Kind::Data {
            path.pmtu.want(now, frame.len());
        }
        debug_assert!(now >= self.started);
        Some(path.key)
    }

    /// The path over which an authentic datagram came, a new one where it came from a new source: `Some(None)` where
    /// there is no room for it, `None` where a drill silences its link.
    fn learn_path(
        &mut self,
        now: Instant,
        key: PathKey,
        peer_path: crate::wire::PathId,
        length: usize,
        data: Option<Flags>,
    ) -> Option<Option<usize>> {
        let known = self.paths.iter().position(|p| p.key == key);
        let Some(at) = known.or_else(|| self.add_path(key)) else { return Some(None) };
        if self.silenced.is_some() && self.paths.get(at).is_some_and(|p| self.is_silenced(p)) {
            return None;
        }
        self.note_heard(now, at, length, data.map(|flags| (flags, 1)));
        // Nearly always there is nothing to learn.
        let known_well = |p: &Path| {
            p.peer_path == Some(peer_path)
                && p.peer_address.is_some()
                && p.state != PathState::Failed
                && !p.unsent
        };
        if known.is_some() && self.paths.get(at).is_some_and(known_well) {
            return Some(Some(at));
        }
        // The other end's path may have come from elsewhere before: a NAT gave it a new address. What was known
        // of the address then holds for the new one.
        let same_start = |p: &Path| p.key.interface == key.interface && p.key.local == key.local;
        let moved =
            self.paths.iter().position(|p| same_start(p) && p.key != key && p.peer_path == Some(peer_path));
        let address = moved.and_then(|m| self.paths.get(m)).and_then(|p| p.peer_address);
        let from = self.paths.get(at).and_then(|p| self.keys.next_of(p.id));
        let Some(path) = self.paths.get_mut(at) else { return Some(None) };
        path.peer_path = Some(peer_path);
        if path.peer_address.is_none() {
            path.peer_address = address;
        }
        if path.state == PathState::Validating && std::mem::take(&mut path.unsent) {
            // More came since, so more may go.
            path.probe = None;
            self.send_probe(now, at);
        } else if known.is_none() || path.state == PathState::Failed && path.probe.is_none() {
            let wait = path.probed.is_some_and(|p| now.saturating_duration_since(p) < timing::MIN_SILENCE);
            if !wait {
                if path.state == PathState::Failed {
                    path.note_retried(from);
                }
                path.state = PathState::Validating;
                self.send_probe(now, at);
            }
        }
        Some(Some(at))
    }
}
