//! Datagrams of the host that leave together: for one peer, of one class, and of one length but for the last.
//!
//! They lie one after the other, each with the room that its frame needs, so that they are sealed where they lie and
//! handed to the system with one call.

use mast_proto::wire::Flags;
use mast_proto::{DATA_HEADROOM, DATA_OVERHEAD, PathKey};

use crate::peer::PeerId;
use crate::road::Run;

/// The most frames of one call (`Udp::MOST`).
const MOST: usize = 64;
/// Their most bytes: an IP datagram has at most 65,535, headers included.
const LONGEST: usize = 65_000;
/// A single datagram may be longer than that, and is then refused by the context.
const ROOM: usize = 65_535 + DATA_OVERHEAD;
/// What WireGuard adds to a datagram, padding included, in bytes: room for the sealed form of as many.
const WIREGUARD: usize = MOST * 48;

/// What the datagrams have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Common {
    peer: PeerId,
    class: u8,
    flags: Flags,
    /// The length of a frame.
    stride: usize,
}

/// See the [module's documentation](self).
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    common: Option<Common>,
    /// Frames up to here were sent, in bytes.
    sent: usize,
    /// Frames up to here are sealed for this path, in bytes.
    sealed: usize,
    path: Option<PathKey>,
    /// Frames up to here are there, in bytes.
    end: usize,
    count: usize,
    /// The last frame is shorter than the others.
    closed: bool,
    /// The sealed form of datagrams for a plain WireGuard peer; made when first needed.
    messages: Vec<u8>,
}

impl Outbox {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ROOM].into_boxed_slice(),
            common: None,
            sent: 0,
            sealed: 0,
            path: None,
            end: 0,
            count: 0,
            closed: false,
            messages: Vec::new(),
        }
    }

    /// Whether a datagram of this length may leave with those that are there.
    pub fn suits(&self, peer: PeerId, class: u8, flags: Flags, length: usize) -> bool {
        let Some(common) = self.common else { return true };
        let frame = length + DATA_OVERHEAD;
        self.sealed == 0
            && !self.closed
            && self.count < MOST
            && frame <= common.stride
            && self.end + frame <= LONGEST
            && common == (Common { peer, class, flags, stride: common.stride })
    }

    /// Room for one more, for which [`Outbox::suits`] was asked.
    pub fn room(&mut self, peer: PeerId, class: u8, flags: Flags, length: usize) -> Option<&mut [u8]> {
        let frame = length + DATA_OVERHEAD;
        let stride = self.common.get_or_insert(Common { peer, class, flags, stride: frame }).stride;
        let at = self.end + DATA_HEADROOM;
        let room = self.bytes.get_mut(at..at + length)?;
        self.end += frame;
        self.count += 1;
        self.closed = frame < stride;
        Some(room)
    }

    /// Whom they are for; `None` when there are none.
    pub fn peer(&self) -> Option<PeerId> {
        self.common.map(|c| c.peer)
    }

    /// The traffic class of their headers.
    pub fn class(&self) -> u8 {
        self.common.map_or(0, |c| c.class)
    }

    /// How the receiver shall treat them.
    pub fn flags(&self) -> Flags {
        self.common.map_or(Flags::NONE, |c| c.flags)
    }

    /// The length of a frame in bytes.
    pub fn stride(&self) -> usize {
        self.common.map_or(1, |c| c.stride)
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.sent >= self.end
    }

    /// The path that frames are sealed for and not yet sent over.
    pub fn sealed(&self) -> Option<PathKey> {
        self.path
    }

    /// These frames.
    pub fn run(&self, path: PathKey, class: u8) -> Run<'_> {
        let payload = self.bytes.get(self.sent..self.sealed).unwrap_or_default();
        let stride = self.stride();
        let carried = payload.len() - payload.len().div_ceil(stride) * DATA_OVERHEAD;
        Run { path, class, stride, payload, carried }
    }

    /// The same, to be sealed.
    pub fn sealed_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.sent..self.sealed).unwrap_or_default()
    }

    /// Whether there is hardly room for more.
    pub fn is_full(&self) -> bool {
        self.count >= MOST / 2 || self.end >= LONGEST / 2
    }

    /// Moves what is sealed for a path to another outbox, which is empty. Nearly always that is everything, and the two
    /// change places.
    pub fn part(&mut self, other: &mut Self) {
        if self.sent == 0 && self.sealed == self.end {
            std::mem::swap(self, other);
            return;
        }
        let (from, to) =
            (self.bytes.get(self.sent..self.sealed), other.bytes.get_mut(..self.sealed - self.sent));
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
            other.end = to.len();
        }
        (other.common, other.sent, other.sealed) = (self.common, 0, other.end);
        self.sent();
    }

    /// They were sent, or are lost.
    pub fn sent(&mut self) {
        self.sent = self.sealed;
        self.path = None;
    }

    /// Frames that wait for being sealed.
    pub fn unsealed(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.sent..self.end).unwrap_or_default()
    }

    /// So many from the front were sealed for a path.
    pub fn note_sealed(&mut self, count: usize, path: PathKey) {
        self.sealed = self.end.min(self.sent + count.max(1) * self.stride());
        self.path = Some(path);
    }

    /// So many from the front do not leave.
    pub fn skip(&mut self, count: usize) {
        self.sent = self.end.min(self.sent + count.max(1) * self.stride());
        self.sealed = self.sent;
    }

    /// The first datagram that waits.
    pub fn first(&self) -> &[u8] {
        let end = self.end.min(self.sent + self.stride());
        self.bytes
            .get(self.sent + DATA_HEADROOM..end.saturating_sub(DATA_OVERHEAD - DATA_HEADROOM))
            .unwrap_or_default()
    }

    /// The frames, each to be sealed in another way, and room for what comes of it.
    pub fn plain(&mut self) -> (std::slice::ChunksMut<'_, u8>, &mut [u8]) {
        self.messages.resize(ROOM + WIREGUARD, 0);
        let stride = self.stride().max(1);
        (self.bytes.get_mut(self.sent..self.end).unwrap_or_default().chunks_mut(stride), &mut self.messages)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.common = None;
        self.sent = 0;
        self.sealed = 0;
        self.path = None;
        self.end = 0;
        self.count = 0;
        self.closed = false;
    }
}
