//! The data road, both ways: batches in, batches out. No allocation, no lock and no await per datagram.
//!
//! `core/DATAPATH.md` follows a datagram through [`Outward`](crate::outward::Outward) and
//! [`Inward`](crate::inward::Inward). Each owns its buffers, gets what it needs of the rest of the engine as [`Parts`],
//! and tells the engine what it leaves to it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_proto::wire::Flags;
use mast_proto::{IndexKey, PathKey, SendError};

use crate::counters::Counters;
use crate::drill::Drill;
use crate::due::Touched;
use crate::icmp;
use crate::lane::Lane;
use crate::mirror::Mirror;
use crate::os::{Tun, Udp};
use crate::peer::{Peer, PeerId};
use crate::routing::Routing;
use crate::sockets::{Sent, Sockets};
use crate::traffic::Traffic;
use crate::wireguard::{Indices, Owner};

/// Reads of the virtual interface, or of one socket, before the others have their turn.
pub(crate) const READS: usize = 64;
/// Bytes of the same. A stream's acknowledgments come the other way: were a whole window of it moved before they have
/// their turn, the two ends would work by turns, and each wait for the other.
pub(crate) const TURN: usize = 512 * 1024;
/// The longest datagram, of the virtual interface and of a socket.
pub(crate) const MAX_DATAGRAM: usize = 65_535;
/// A socket that has no room for so long loses what is sent to it, so that one slow link cannot stop the others.
pub(crate) const PATIENCE: Duration = Duration::from_millis(5);

/// What sending needs, beside the peer.
pub(crate) struct Net<U> {
    pub sockets: Sockets<U>,
    pub indices: Indices,
    pub counters: Counters,
    pub traffic: Traffic,
    /// How many datagrams that do not fit may be answered.
    pub too_big: icmp::Allowance,
    /// A socket that had no room, and since when. Nothing is read from the virtual interface meanwhile.
    pub full: Option<(PathKey, Instant)>,
    /// The second thread, for load.
    pub lane: Lane<U>,
    /// What came of what it sent, for the peers.
    pub returned: Vec<Returned>,
    /// What goes back to the host, as though a peer had answered.
    pub mirror: Mirror,
}

/// What came of a run that went through the lane.
pub(crate) struct Returned {
    /// Whose it was.
    pub peer: PeerId,
    pub path: PathKey,
    /// Bytes that left.
    pub bytes: u64,
    /// So many datagrams were to leave with one call.
    pub count: usize,
    /// All of them were of one length.
    pub even: bool,
    pub error: Option<SendError>,
}

/// Datagrams that leave together: of one length, the last may be shorter.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub path: PathKey,
    /// The traffic class of the IP header.
    pub class: u8,
    pub stride: usize,
    pub payload: &'a [u8],
    /// Bytes of it that are datagrams of the host, and go out for the first time.
    pub carried: usize,
}

impl Run<'_> {
    /// So many datagrams.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.stride.max(1))
    }

    /// Whether all of them are of one length.
    pub fn is_even(&self) -> bool {
        self.payload.len().is_multiple_of(self.stride.max(1))
    }
}

impl<U: Udp> Net<U> {
    /// Sends UDP payloads to a peer. `false` when the system has no room for them: they may be sent again.
    pub fn send_run(&mut self, now: Instant, peer: &mut Peer, run: Run<'_>) -> bool {
        let sent = self.sockets.send_run(run.path, run.class, run.stride, run.payload);
        let Ok((bytes, error)) = self.note_sent(run, sent) else { return false };
        peer.tx_bytes += bytes;
        peer.note_run(now, run.path, run.count(), run.is_even());
        if let Some(error) = error {
            peer.context.handle_send_error(now, run.path, error);
        }
        true
    }

    /// Counts what was handed to the system. Tells how many bytes left, and what the context must know; the error is that
    /// there was no room.
    fn note_sent(&mut self, run: Run<'_>, sent: Sent) -> Result<(u64, Option<SendError>), ()> {
        match sent {
            Sent::Yes => {
                let count = run.payload.len().div_ceil(run.stride.max(1));
                self.traffic.sent(run.path, count, run.payload.len(), run.carried);
                return Ok((run.payload.len() as u64, None));
            }
            Sent::Full => return Err(()),
            Sent::Partly(count) => {
                let bytes = run.payload.len().min(count * run.stride);
                let carried = run.carried * bytes / run.payload.len().max(1);
                self.traffic.sent(run.path, count, bytes, carried);
                self.counters.add("send_queue_full");
                return Ok((bytes as u64, None));
            }
            Sent::Lost(reason) => self.counters.add(reason),
            Sent::Failed(error) => {
                self.counters.add("send_error");
                return Ok((0, Some(error)));
            }
        }
        Ok((0, None))
    }

    /// Takes back what went through the lane.
    pub fn take_back(&mut self) {
        while let Some(done) = self.lane.next_done() {
            let run = done.run();
            let sent = match done.result {
                Ok(()) => Sent::Yes,
                Err(not_sent) => {
                    self.sockets.refused(done.socket(), run.stride.min(run.payload.len()), not_sent)
                }
            };
            let (bytes, error) = self.note_sent(run, sent).unwrap_or_else(|()| {
                self.counters.add("send_queue_full");
                (0, None)
            });
            let (path, count, even) = (run.path, run.count(), run.is_even());
            self.returned.push(Returned { peer: done.peer(), path, bytes, count, even, error });
            self.lane.give_back(done);
        }
    }

    /// When what waits for room has waited long enough.
    pub fn full_until(&self) -> Option<Instant> {
        self.full.map(|(_, since)| since + PATIENCE)
    }

    /// Sends one UDP payload to a peer. Without room it is lost.
    pub fn send(&mut self, now: Instant, peer: &mut Peer, path: PathKey, payload: &[u8], carried: usize) {
        if !self.lane.is_empty() {
            // It overtakes nothing that goes the same way: the other end tells from the order what is lost.
            self.take_back();
            if self.lane.carries(path)
                && let Ok(socket) = self.sockets.socket(path)
            {
                self.lane.single(payload, peer.id(), (path, Arc::clone(socket)));
                return;
            }
        }
        let run = Run { path, class: 0, stride: payload.len(), payload, carried };
        if !self.send_run(now, peer, run) {
            self.counters.add("send_queue_full");
        }
    }

    /// Sends a WireGuard message to a plain WireGuard peer, over the path that the context picks.
    pub fn send_plain(&mut self, now: Instant, peer: &mut Peer, message: &[u8], carried: usize) {
        let Some(path) = peer.context.plain_path(now) else {
            self.counters.add("no_path");
            return;
        };
        self.send(now, peer, path, message, carried);
        peer.context.note_plain_sent(now, path, message.len());
    }

    /// Sends a datagram of the host to a plain WireGuard peer.
    pub fn seal_plain(&mut self, now: Instant, id: PeerId, peer: &mut Peer, datagram: &[u8]) {
        if !peer.context.take_plain(now, Flags::NONE, datagram) {
            return;
        }
        peer.context.note_plain_datagram(now, datagram);
        let (message, index) = peer.session.seal_or_queue(datagram);
        self.indices.claim(index, Owner::Peer(id));
        if let Some(message) = message {
            self.send_plain(now, peer, &message, datagram.len());
        }
    }
}

/// Whether traffic is so seldom that looking for more before the first is handed on only makes that late. Where there
/// is more to come, it would cost a call of the system for each look.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// Looks in a row that found one read.
    looks: u8,
}

impl Seldom {
    /// So many looks make it so.
    const LOOKS: u8 = 8;

    pub fn is(&self) -> bool {
        self.looks >= Self::LOOKS
    }

    /// A turn had so many reads.
    pub fn note(&mut self, reads: usize) {
        match reads {
            // It was the other direction that had something.
            0 => {}
            1 => self.looks = self.looks.saturating_add(1),
            _ => self.looks = 0,
        }
    }
}

/// What both roads need of the rest of the engine.
pub(crate) struct Parts<'a, T, U> {
    pub now: Instant,
    pub tun: Option<&'a T>,
    pub peers: &'a mut BTreeMap<PeerId, Box<Peer>>,
    /// Tells which peer a context's index is of.
    pub key: &'a IndexKey,
    pub routing: &'a Routing,
    /// Peers whose context may have something to send or to tell afterwards.
    pub touched: &'a mut Touched,
    pub net: &'a mut Net<U>,
    /// Its echoes are not for the host.
    pub drill: Option<&'a mut Drill>,
}

/// Hands a finished datagram to the host.
pub(crate) fn hand_over<T: Tun>(tun: &T, counters: &mut Counters, datagram: &[u8]) {
    if tun.try_send(&[io::IoSlice::new(datagram)], Default::default()).is_err() {
        counters.add("host_refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seldom_takes_time_to_believe_and_none_to_forget() {
        let mut seldom = Seldom::default();
        for _ in 0..Seldom::LOOKS {
            assert!(!seldom.is());
            seldom.note(1);
        }
        assert!(seldom.is());
        seldom.note(0);
        assert!(seldom.is());
        seldom.note(2);
        assert!(!seldom.is());
    }
}
