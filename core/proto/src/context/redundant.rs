//! The redundant mode: a copy of each datagram goes over a second path, so that the loss of one is never noticed.
//!
//! Both copies have the same sequence number, and the receiver drops the one that comes second. Each path carries
//! data, so each owes reports, and the silence of either is noticed.

use std::time::Instant;

use super::data::content;
use super::path::Path;
use super::{Context, PathState, Transmit};
use crate::policy::Policy;
use crate::recent::Sealed;
use crate::wire::{Flags, HEADER_LEN, Kind};

/// With `small`, datagrams of up to so many bytes have a copy: those of calls (20 ms of speech take 60 to 200 bytes),
/// keystrokes, queries to name servers and TCP's acknowledgements, but no segment of bulk data.
pub const SMALL_DATAGRAM: usize = 300;

/// Buffers of copies and of what was put in order, to be used again instead of allocated anew.
#[derive(Debug, Default)]
pub(super) struct Spare {
    buffers: Vec<Vec<u8>>,
    /// The copies of the frames that are about to be sealed, by sequence number.
    #[allow(clippy::box_collection, reason = "most contexts never need it, and there may be very many")]
    pub copied: Option<Box<Vec<(u32, Sealed)>>>,
}

impl Spare {
    /// A batch of the owner's: what one round of sending needs.
    const MOST: usize = 64;
    /// No datagram needs more.
    const LARGEST: usize = 64 * 1024;

    /// A buffer that holds these bytes and nothing else.
    pub fn filled(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    pub fn put(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < Self::MOST && buffer.capacity() <= Self::LARGEST {
            self.buffers.push(buffer);
        }
    }
}

impl Context {
    /// The most datagrams that wait for [`Context::poll_transmit`] beside which copies are made: an owner that does
    /// not ask must not make them grow.
    const MAX_WAITING: usize = 4096;

    /// Gives back the payload of a [`Transmit::Datagram`] that was sent, or a datagram that came from
    /// [`Context::poll_deliver`]: its memory is used again. Not needed, but cheaper.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.spare.put(buffer);
    }

    /// The policy that this end sends by: its own, or where that leaves it open, the one that the other end wishes.
    pub(super) fn sending_policy(&self) -> &Policy {
        match (&self.config.policy, self.peer.wished()) {
            (Policy::Auto, Some(wished)) => wished,
            (own, _) => own,
        }
    }

    /// Whether a path besides the active one carries data by the policy, as far as it works.
    pub(super) fn takes_part(&self, path: &Path) -> bool {
        let metered = match *self.sending_policy() {
            Policy::Auto | Policy::Pin { .. } => return false,
            Policy::Redundant { metered, .. } | Policy::Bonded { metered } => metered,
        };
        // The other end cannot agree to what costs this one.
        let here = metered && self.config.policy.is_several();
        self.permitted(path)
            && (here || !self.is_metered_here(path))
            && (metered || !self.is_metered_there(path))
    }

    /// The path that gets the copies of what goes over the path at `first`: the best one that shares the fewest links
    /// with it, and not both, for then the two most often die together, and fill the same link twice.
    pub(super) fn second(&self, first: usize) -> Option<usize> {
        if !matches!(self.sending_policy(), Policy::Redundant { .. }) {
            return None;
        }
        let first = self.paths.get(first)?;
        let others = self.paths.iter().enumerate();
        others
            .filter(|(_, p)| p.id != first.id && p.state == PathState::Validated && self.takes_part(p))
            .map(|(at, p)| (at, p, self.likeness(p, first)))
            .filter(|(_, _, likeness)| likeness.0 < 2)
            .min_by_key(|(_, p, likeness)| (*likeness, self.merit(p).key()))
            .map(|(at, ..)| at)
    }

    /// Whether a datagram of this length has a copy.
    fn is_copied(&self, length: usize) -> bool {
        match *self.sending_policy() {
            Policy::Redundant { small, .. } => !small || length <= SMALL_DATAGRAM,
            _ => false,
        }
    }

    /// Sends a copy of a frame that is not sealed yet over the path at `second`, if the policy asks for it.
    pub(super) fn copy_over(
        &mut self,
        now: Instant,
        second: Option<usize>,
        (sequence, flags): (u32, Flags),
        frame: &[u8],
    ) -> Option<Sealed> {
        let second = second.filter(|_| self.is_copied(content(frame).len()))?;
        if self.transmits.len() >= Self::MAX_WAITING
            || self.paths.get(second).is_none_or(|p| frame.len() > p.mtu())
        {
            return None;
        }
        let id = self.paths.get(second)?.id;
        let (epoch, counter) = self.keys.next_of(id)?;
        let mut payload = self.spare.filled(frame);
        if let Some(room) = payload.get_mut(HEADER_LEN..super::DATA_HEADROOM) {
            room.copy_from_slice(&sequence.to_be_bytes());
        }
        let Some(path) = self.seal(now, second, (Kind::Data, flags), &mut payload) else {
            self.spare.put(payload);
            return None;
        };
        self.note_data_sent(now, second);
        self.transmits.push_back(Transmit::Datagram { path, payload });
        Some(Sealed { path: id, epoch, counter })
    }

    /// Sends copies of frames that are about to be sealed for the path at `first`, the first of them with the next
    /// sequence number.
    pub(super) fn copy_run(
        &mut self,
        now: Instant,
        first: usize,
        frames: &[u8],
        stride: usize,
        flags: Flags,
    ) {
        let Some(second) = self.second(first) else { return };
        let mut sequence = self.outflow.sequence();
        let mut copied = self.spare.copied.take().unwrap_or_default();
        for frame in frames.chunks(stride.max(1)) {
            if let Some(copy) = self.copy_over(now, Some(second), (sequence, flags), frame) {
                copied.push((sequence, copy));
            }
            sequence = sequence.wrapping_add(1);
        }
        self.spare.copied = Some(copied);
    }
}
