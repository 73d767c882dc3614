//! The bonded mode: datagrams are spread over all good paths, by what each can carry.
//!
//! Each datagram gets its sequence number when it comes, and waits in the queue of the path over which it is expected
//! to arrive first: what waits there already, at the path's rate, and half a round trip. So a slow path is used only
//! once the quick one has enough to do. Each queue is sent at its path's own pace ([`Pacer`]); the receiver puts in
//! order what comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::outflow::Waited;
use super::path::Path;
use super::{Context, DATA_HEADROOM, DATA_OVERHEAD, DATA_TAILROOM, Outgoing, PathState, Transmit};
use crate::estimate::RttEstimator;
use crate::pacer::Pacer;
use crate::policy::Policy;
use crate::recent::{Past, Sent};
use crate::wire::{Flags, HEADER_LEN, Kind, PathId};

/// Datagrams of up to so many bytes are delivered as they come: TCP's acknowledgements with all their options, which tell
/// as much in any order, and would be held up by the loss of one.
const MAX_UNORDERED: usize = 120;

/// A frame that waits to be sealed.
#[derive(Debug)]
struct Waiting {
    past: Past,
    sequence: u32,
    flags: Flags,
    /// With room around the datagram.
    frame: Vec<u8>,
}

/// A path's part of the bond.
#[derive(Debug)]
struct Strand {
    path: PathId,
    pacer: Pacer,
    queue: VecDeque<Waiting>,
    bytes: usize,
    /// Its path takes part now.
    used: bool,
}

/// All paths' parts.
#[derive(Debug, Default)]
pub(super) struct Bond {
    strands: Vec<Strand>,
}

impl Bond {
    /// What the queues may hold at least: a burst of a transport that begins.
    const LEAST: f64 = 128.0 * 1024.0;
    /// And while some path's rate is not known yet: or a transport would end its own startup.
    const STARTING: f64 = 512.0 * 1024.0;
    /// And at most, in bytes.
    const MOST: f64 = 8.0 * 1024.0 * 1024.0;
    /// The round trip that the queues are made for, at least: that of transports over short paths grows to it.
    const LEAST_ROUND: f64 = 0.030;

    /// So many frames of a path are kept after a report that may have passed what was lost among them: as many as come
    /// before the next two.
    pub const KEPT: u64 = 128;

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.strands.iter().map(|s| s.bytes).sum()
    }

    fn strand(&mut self, now: Instant, path: PathId) -> &mut Strand {
        let at = match self.strands.iter().position(|s| s.path == path) {
            Some(at) => at,
            None => {
                let strand =
                    Strand { path, pacer: Pacer::new(now), queue: VecDeque::new(), bytes: 0, used: true };
                self.strands.push(strand);
                self.strands.len() - 1
            }
        };
        // It was just made or found.
        #[allow(clippy::indexing_slicing, reason = "the place was just found")]
        &mut self.strands[at]
    }

    /// A report about what was sent over a path.
    pub fn note_report(&mut self, now: Instant, report: &crate::wire::PathReport) {
        if let Some(strand) = self.strands.iter_mut().find(|s| s.path.0 == report.path) {
            strand.pacer.note_report(now, crate::wire::Epoch(report.epoch), report.highest, report.received);
        }
    }

    pub fn clear(&mut self) {
        self.strands.clear();
    }
}

/// How the receiver shall treat a frame of this length: what is not small comes in order.
fn in_order(flags: Flags, length: usize) -> Flags {
    if length > MAX_UNORDERED + DATA_OVERHEAD { flags.with(Flags::ORDERED) } else { flags }
}

/// What a path offers to a datagram.
struct Offer {
    at: usize,
    path: PathId,
    rtt: Duration,
}

impl Context {
    /// The places of the paths that share the data in the bonded mode.
    pub(super) fn offered(&self) -> Vec<usize> {
        self.offers().into_iter().map(|offer| offer.at).collect()
    }

    /// The paths that share the data in the bonded mode; none where it is not in force.
    fn offers(&self) -> Vec<Offer> {
        if !matches!(self.sending_policy(), Policy::Bonded { .. }) || !self.keys.can_seal() {
            return Vec::new();
        }
        let sound = |p: &Path| p.state == PathState::Validated && self.takes_part(p);
        let sick = |p: &Path| (p.doubt, self.merit(p).sickness);
        let least = self.paths.iter().filter(|p| sound(p)).map(sick).min().unwrap_or_default();
        let mut best: Vec<(usize, &Path)> =
            self.paths.iter().enumerate().filter(|(_, p)| sound(p) && sick(p) == least).collect();
        if best.len() > 1 {
            best = self.one_a_link(best);
        }
        best.into_iter()
            .map(|(at, p)| Offer {
                at,
                path: p.id,
                rtt: p.rtt.smoothed().unwrap_or(RttEstimator::INITIAL_RTO),
            })
            .collect()
    }

    /// What a link carries counts once, however many paths it has: of those that add no link the best one is taken.
    /// First those that share no link with a better one, then those that share one.
    pub(super) fn one_a_link<'p>(&self, mut paths: Vec<(usize, &'p Path)>) -> Vec<(usize, &'p Path)> {
        // One that is in use stays, unless another is clearly better: its rate is known.
        let used = |p: &Path| self.bond.strands.iter().any(|s| s.path == p.id && s.used);
        paths.sort_by_key(|(_, p)| (!used(p), self.merit(p).key()));
        let mut taken: Vec<(usize, &Path)> = Vec::new();
        for most in 0..2 {
            for (at, path) in &paths {
                let own = taken.iter().any(|(_, t)| t.key.interface == path.key.interface);
                let peer = taken.iter().any(|(_, t)| self.peer.link(t) == self.peer.link(path));
                if u8::from(own) + u8::from(peer) == most && taken.iter().all(|(_, t)| t.id != path.id) {
                    taken.push((*at, path));
                }
            }
        }
        taken.sort_by_key(|(at, _)| *at);
        taken
    }

    /// Whether the bonded mode carries the data now.
    pub(super) fn is_bonded(&self) -> bool {
        matches!(self.sending_policy(), Policy::Bonded { .. })
            && self.keys.can_seal()
            && self.paths.iter().any(|p| p.state == PathState::Validated && self.takes_part(p))
    }

    /// Over which path a frame is expected to arrive first.
    fn earliest<'o>(&mut self, now: Instant, offers: &'o [Offer], length: usize) -> Option<&'o Offer> {
        let mut best: Option<(f64, &Offer)> = None;
        for offer in offers {
            if self.paths.get(offer.at).is_none_or(|p| length > p.mtu()) {
                continue;
            }
            let strand = self.bond.strand(now, offer.path);
            let ahead = strand.bytes + length;
            let due = ahead as f64 / strand.pacer.rate(offer.rtt) + offer.rtt.as_secs_f64() / 2.0;
            if best.as_ref().is_none_or(|(least, _)| due < *least) {
                best = Some((due, offer));
            }
        }
        best.map(|(_, offer)| offer)
    }

    /// What the queues may hold together: what all paths carry in the longest round trip.
    fn room(&mut self, now: Instant, offers: &[Offer]) -> f64 {
        let (mut rate, mut round, mut starting) = (0.0, Bond::LEAST_ROUND, false);
        for offer in offers {
            let strand = self.bond.strand(now, offer.path);
            rate += strand.pacer.rate(offer.rtt);
            round = offer.rtt.as_secs_f64().max(round);
            starting |= strand.pacer.is_starting();
        }
        let least = if starting { Bond::STARTING } else { Bond::LEAST };
        (rate * round).clamp(least, Bond::MOST)
    }

    /// [`Context::seal_run`] in the bonded mode.
    pub(super) fn seal_bonded(
        &mut self,
        now: Instant,
        frames: &mut [u8],
        stride: usize,
        flags: Flags,
    ) -> (usize, Outgoing) {
        let offers = self.offers();
        self.spread(now, &offers);
        let room = self.room(now, &offers);
        let mut outcome = None;
        let mut count = 0;
        self.last_data = Some(now);
        for frame in frames.chunks_mut(stride.max(1)) {
            let Some(offer) = self.earliest(now, &offers, frame.len()) else {
                let mtu =
                    offers.iter().filter_map(|o| self.paths.get(o.at)).map(Path::mtu).max().unwrap_or(0);
                return match outcome {
                    Some(before) => (count, before),
                    None => (1, Outgoing::TooBig { mtu: mtu.saturating_sub(DATA_OVERHEAD) }),
                };
            };
            let (at, path, rtt) = (offer.at, offer.path, offer.rtt);
            let strand = self.bond.strand(now, path);
            let at_once = strand.queue.is_empty() && strand.pacer.may_send(now, rtt);
            let key = self.paths.get(at).map(|p| p.key);
            let next = match key {
                Some(key) if at_once => Outgoing::Send(key),
                _ => Outgoing::Held,
            };
            if outcome.is_some_and(|before| before != next) {
                break;
            }
            outcome = Some(next);
            count += 1;
            if !at_once && self.bond.bytes() + frame.len() > room as usize {
                // It is dropped before it has a number: the receiver misses nothing.
                continue;
            }
            let sequence = self.outflow.next_sequence();
            let flags = in_order(flags, frame.len());
            if at_once {
                self.seal_strand(now, at, (sequence, flags, Past::new(now)), frame, false);
            } else {
                let frame = self.spare.filled(frame);
                let strand = self.bond.strand(now, path);
                strand.bytes += frame.len();
                strand.queue.push_back(Waiting { past: Past::new(now), sequence, flags, frame });
            }
        }
        (count.max(1), outcome.unwrap_or(Outgoing::Held))
    }

    /// Seals a frame for a path of the bond.
    fn seal_strand(
        &mut self,
        now: Instant,
        at: usize,
        (sequence, flags, past): (u32, Flags, Past),
        frame: &mut [u8],
        more: bool,
    ) -> bool {
        let Some(path) = self.paths.get(at).map(|p| p.id) else { return false };
        let Some(next) = self.keys.next_of(path) else { return false };
        if let Some(room) = frame.get_mut(HEADER_LEN..DATA_HEADROOM) {
            room.copy_from_slice(&sequence.to_be_bytes());
        }
        self.outflow.keep(now, path, next, (sequence, flags, past), super::data::content(frame));
        if self.seal(now, at, (Kind::Data, flags), frame).is_none() {
            return false;
        }
        self.bond.strand(now, path).pacer.note_sent(now, next, frame.len(), more);
        self.note_data_sent(now, at);
        true
    }

    /// Sends what waits for paths that may be sent to now.
    pub(super) fn drive_bond(&mut self, now: Instant) {
        if self.bond.strands.is_empty() && !self.is_bonded() {
            return;
        }
        let offers = self.offers();
        self.take_back(&offers);
        if offers.is_empty() {
            return;
        }
        self.spread(now, &offers);
        for offer in &offers {
            loop {
                let strand = self.bond.strand(now, offer.path);
                if strand.queue.is_empty() || !strand.pacer.may_send(now, offer.rtt) {
                    break;
                }
                let Some(waiting) = strand.queue.pop_front() else { break };
                strand.bytes = strand.bytes.saturating_sub(waiting.frame.len());
                let more = !strand.queue.is_empty();
                let mut payload = waiting.frame;
                let kept = (waiting.sequence, waiting.flags, waiting.past);
                if self.seal_strand(now, offer.at, kept, &mut payload, more)
                    && let Some(path) = self.paths.get(offer.at).map(|p| p.key)
                {
                    self.transmits.push_back(Transmit::Datagram { path, payload });
                }
            }
        }
    }

    /// What waits for paths that do not take part any more goes again, before anything newer.
    fn take_back(&mut self, offers: &[Offer]) {
        let mut back = Vec::new();
        let bonded = matches!(self.sending_policy(), Policy::Bonded { .. });
        let paths = &self.paths;
        self.bond.strands.retain_mut(|strand| {
            strand.used = offers.iter().any(|o| o.path == strand.path);
            if strand.used {
                return true;
            }
            back.extend(strand.queue.drain(..));
            strand.bytes = 0;
            strand.pacer.forget_flight();
            // A path that is only suspect may be back in a moment.
            bonded && paths.iter().any(|p| p.id == strand.path && p.carries())
        });
        back.sort_by_key(|w| w.past.first);
        for waiting in back {
            let datagram = super::data::content(&waiting.frame).to_vec();
            self.outflow.put_again(Sent {
                sequence: waiting.sequence,
                past: waiting.past,
                flags: waiting.flags,
                datagram,
            });
        }
    }

    /// The other end misses these numbers: what was lost, as others that were sent after it over the same path have
    /// arrived, goes again over the path that is quickest now.
    pub(super) fn repair(&mut self, missing: &[u32]) {
        if missing.is_empty() || !self.is_bonded() {
            return;
        }
        let strands = &self.bond.strands;
        let passed = |path, epoch, counter| {
            strands.iter().any(|s| s.path == path && s.pacer.has_passed(epoch, counter))
        };
        self.outflow
            .resend(|sent| missing.contains(&sent.sequence) && passed(sent.path, sent.epoch, sent.counter));
    }

    /// What goes again or was held joins the queues, where it goes out at the paths' pace.
    fn spread(&mut self, now: Instant, offers: &[Offer]) {
        if self.outflow.is_clear() {
            return;
        }
        while let Some(Waited { datagram, flags, sequence, again, past }) = self.outflow.next(now) {
            let flags = if again { flags } else { in_order(flags, datagram.len() + DATA_OVERHEAD) };
            let Some(path) = self.earliest(now, offers, datagram.len() + DATA_OVERHEAD).map(|o| o.path)
            else {
                continue;
            };
            let sequence = sequence.unwrap_or_else(|| self.outflow.next_sequence());
            let mut frame = self.spare.filled(&[0; DATA_HEADROOM]);
            frame.extend_from_slice(&datagram);
            frame.resize(frame.len() + DATA_TAILROOM, 0);
            let strand = self.bond.strand(now, path);
            strand.bytes += frame.len();
            let waiting = Waiting { past, sequence, flags, frame };
            // The receiver waits for what goes again: it goes before what never went, in the order of its numbers.
            let later = |w: &Waiting| (w.sequence.wrapping_sub(sequence) as i32) > 0;
            let place = if again { strand.queue.iter().position(later) } else { None };
            match place {
                Some(place) => strand.queue.insert(place, waiting),
                None => strand.queue.push_back(waiting),
            }
        }
    }

    /// When a queue's path may be sent to again.
    pub(super) fn bond_due(&self) -> Option<Instant> {
        let waiting = self.bond.strands.iter().filter(|s| !s.queue.is_empty());
        waiting
            .filter_map(|strand| {
                let path =
                    self.paths.iter().find(|p| p.id == strand.path && p.state == PathState::Validated)?;
                strand.pacer.due(path.rtt.smoothed().unwrap_or(RttEstimator::INITIAL_RTO))
            })
            .min()
    }
}
