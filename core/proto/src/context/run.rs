//! Runs of datagrams of the host: the context notes first what it has to know of them, and seals them afterwards, or lets
//! another thread do that.

use std::sync::Arc;
use std::time::Instant;

use super::data::{DATA_HEADROOM, DATA_OVERHEAD, Outgoing, content};
use super::{Context, PathState, SMALL_DATAGRAM};
use crate::crypto::EpochKeys;
use crate::policy::Policy;
use crate::recent::Past;
use crate::wire::{Flags, HEADER_LEN, Header, Kind};

/// A run of [`Context::prepare_run`] that is not sealed yet: the context is done with it, so that another thread may do
/// the rest. Its keys live as long as it does.
#[derive(Debug)]
pub struct Unsealed {
    keys: Arc<EpochKeys>,
    /// Of the first frame.
    header: Header,
    /// So many frames: a counter belongs to one.
    count: usize,
}

impl Unsealed {
    /// Seals the frames that were prepared, in place: `stride` bytes each, only the last may be shorter.
    pub fn seal(mut self, frames: &mut [u8], stride: usize) {
        for frame in frames.chunks_mut(stride.max(1)).take(self.count) {
            // It fails only where the room is missing, and then the other end drops the frame.
            let _ = self.keys.seal(&self.header, frame);
            self.header.counter += 1;
        }
    }
}

impl Context {
    /// Seals datagrams of the host in place, for the path that carries data now.
    ///
    /// `frames` are `stride` bytes each, only the last may be shorter; each is [`DATA_HEADROOM`] bytes of room, the IP
    /// datagram, and [`DATA_TAILROOM`] bytes of room. The outcome holds for as many frames from the front as the first
    /// value says, at least one: call again with the rest. Copies for another path come from
    /// [`Context::poll_transmit`].
    pub fn seal_run(
        &mut self,
        now: Instant,
        frames: &mut [u8],
        stride: usize,
        flags: Flags,
    ) -> (usize, Outgoing) {
        self.run(now, frames, (stride, flags), None)
    }

    /// [`Context::seal_run`] without the sealing, where that can be done later and elsewhere: the third value is then
    /// what is left to do of the frames that the first one counts. Where it is `None`, they are sealed, if they are to be
    /// sent. Frames must be sent in the order in which they were prepared.
    pub fn prepare_run(
        &mut self,
        now: Instant,
        frames: &mut [u8],
        stride: usize,
        flags: Flags,
    ) -> (usize, Outgoing, Option<Unsealed>) {
        let mut unsealed = None;
        let (count, outcome) = self.run(now, frames, (stride, flags), Some(&mut unsealed));
        (count, outcome, unsealed)
    }

    fn run(
        &mut self,
        now: Instant,
        frames: &mut [u8],
        (stride, flags): (usize, Flags),
        later: Option<&mut Option<Unsealed>>,
    ) -> (usize, Outgoing) {
        let length = stride.min(frames.len());
        if self.is_bonded() {
            return self.seal_bonded(now, frames, stride, flags);
        }
        let flags = self.selection.ordered(now, flags);
        match self.clear_path(length) {
            Some(at) => {
                if let Policy::Redundant { .. } = self.sending_policy() {
                    self.copy_run(now, at, frames, stride, flags);
                }
                self.seal_clear(now, at, frames, (stride, flags), later)
            }
            None => {
                let frame = frames.get_mut(..length).unwrap_or_default();
                (1, self.seal_data(now, frame, flags))
            }
        }
    }

    /// The path that carries data, where nothing is to be done but to seal: it works, and nothing waits.
    fn clear_path(&self, length: usize) -> Option<usize> {
        // A path may answer a handshake before there is a key for data.
        let at = self.active_at().filter(|_| self.keys.can_seal())?;
        let path = self.paths.get(at)?;
        let plain = path.state == PathState::Validated
            && length <= path.mtu()
            && self.outflow.is_clear()
            && !self.is_unproven(at)
            && !(length <= SMALL_DATAGRAM + DATA_OVERHEAD && self.wavers(at));
        plain.then_some(at)
    }

    fn seal_clear(
        &mut self,
        now: Instant,
        at: usize,
        frames: &mut [u8],
        (stride, flags): (usize, Flags),
        later: Option<&mut Option<Unsealed>>,
    ) -> (usize, Outgoing) {
        let count = frames.len().div_ceil(stride.max(1)).max(1);
        let (Some(path), Some(epoch)) = (self.paths.get_mut(at), self.keys.sealing_mut()) else {
            return (count, Outgoing::Held);
        };
        let Some((index, first)) = epoch.next_counters(path.id, count as u64) else {
            // Only at the end of a key's counters, a moment before the next epoch.
            for frame in frames.chunks(stride.max(1)) {
                self.outflow.hold(now, flags, content(frame));
            }
            return (count, Outgoing::Held);
        };
        epoch.note_used(now);
        let mut header =
            Header { kind: Kind::Data, flags, path: path.id, epoch: epoch.id, index, counter: first };
        let now_sealed = later.is_none();
        if let Some(later) = later {
            *later = Some(Unsealed { keys: Arc::clone(&epoch.keys), header, count });
        }
        let past = Past::new(now);
        for frame in frames.chunks_mut(stride.max(1)) {
            let sequence = self.outflow.next_sequence();
            if let Some(room) = frame.get_mut(HEADER_LEN..DATA_HEADROOM) {
                room.copy_from_slice(&sequence.to_be_bytes());
            }
            let sealed = (epoch.id, header.counter);
            self.outflow.keep(now, path.id, sealed, (sequence, flags, past), content(frame));
            if now_sealed {
                // It fails only where the room is missing, and then the other end drops the frame.
                let _ = epoch.keys.seal(&header, frame);
            }
            header.counter += 1;
        }
        if let Some(copied) = &mut self.spare.copied {
            for (sequence, copy) in copied.drain(..) {
                self.outflow.note_copy(sequence, copy);
            }
        }
        path.note_sealed(frames.len());
        path.pmtu.want(now, stride.min(frames.len()));
        path.note_data(now);
        self.last_data = Some(now);
        (count, Outgoing::Send(path.key))
    }
}
