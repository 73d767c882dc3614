//! The data road, both ways. Batches in, batches out; no allocation and no await per datagram.

use std::io;
use std::time::Instant;

use mast_proto::{DATA_HEADROOM, DATA_TAILROOM, Outgoing, PathKey, Received};

use crate::counters::Counters;
use crate::drill::Drill;
use crate::engine::{Engine, touch};
use crate::os::{Platform, Tun};
use crate::peer::{Peer, PeerId};
use crate::routing::Routing;
use crate::sockets::{Sent, Sockets};
use crate::traffic::Traffic;
use crate::wireguard::{Indices, Owner};
use crate::{icmp, inner};

/// Datagrams that are taken from one source before the others have their turn.
const BATCH: usize = 64;
/// The longest datagram of the virtual interface.
pub(crate) const MAX_DATAGRAM: usize = 65_535;

/// What sending needs, beside the peer.
pub(crate) struct Net {
    pub sockets: Sockets,
    pub indices: Indices,
    pub counters: Counters,
    pub traffic: Traffic,
    /// How many datagrams that do not fit may be answered.
    pub too_big: icmp::Allowance,
}

impl Net {
    /// Sends a UDP payload to a peer; `carried` bytes of it are a datagram of the host that goes out for the first
    /// time.
    pub fn send(&mut self, now: Instant, peer: &mut Peer, path: PathKey, payload: &[u8], carried: usize) {
        match self.sockets.send(path, payload) {
            Sent::Yes => {
                peer.tx_bytes += payload.len() as u64;
                self.traffic.sent(path, payload.len(), carried);
            }
            Sent::Lost(reason) => self.counters.add(reason),
            Sent::Failed(error) => {
                self.counters.add("send_error");
                peer.context.handle_send_error(now, path, error);
            }
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
        let (message, index) = peer.session.seal_or_queue(datagram);
        self.indices.claim(index, Owner::Peer(id));
        if let Some(message) = message {
            self.send_plain(now, peer, &message, datagram.len());
        }
    }
}

impl<P: Platform> Engine<P> {
    /// From the virtual interface to the network.
    pub(crate) fn pump_tun(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Some(tun) = &self.tun else { return };
            let Some(room) = self.frame.get_mut(DATA_HEADROOM..DATA_HEADROOM + MAX_DATAGRAM) else { return };
            let length = match tun.try_recv(room) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.lose_tun(now, &error);
                    return;
                }
            };
            let Some((_, destination)) = room.get(..length).and_then(inner::addresses) else {
                self.net.counters.add("host_malformed");
                continue;
            };
            match self.routing.peer(destination) {
                Some(peer) => self.forward(now, peer, length),
                None => self.net.counters.add("no_route"),
            }
        }
    }

    /// Sends the datagram of this length in the frame buffer to a peer.
    pub(crate) fn forward(&mut self, now: Instant, id: PeerId, length: usize) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        touch(&mut self.touched, id);
        let end = DATA_HEADROOM + length;
        let Some(frame) = self.frame.get_mut(..end + DATA_TAILROOM) else { return };
        if peer.is_plain() {
            let datagram = frame.get(DATA_HEADROOM..end).unwrap_or_default();
            self.net.seal_plain(now, id, peer, datagram);
            return;
        }
        match peer.context.seal_data(now, frame, mast_proto::wire::Flags::NONE) {
            Outgoing::Send(path) => self.net.send(now, peer, path, frame, length),
            Outgoing::Held => {}
            Outgoing::TooBig { mtu } => {
                self.net.counters.add("too_big");
                if !self.net.too_big.take(now) {
                    return;
                }
                let answer = frame.get(DATA_HEADROOM..end).and_then(|d| icmp::too_big(d, mtu));
                if let (Some(answer), Some(tun)) = (answer, &self.tun) {
                    hand_over(tun, &mut self.net.counters, &answer);
                }
            }
        }
    }

    /// From the network: to the virtual interface, to a context, or nowhere.
    pub(crate) fn pump_sockets(&mut self, now: Instant) {
        for at in 0..self.net.sockets.len() {
            for _ in 0..BATCH {
                let Some((length, path)) = self.net.sockets.receive(at, &mut self.buffer) else { break };
                self.net.traffic.received(path, length);
                match self.buffer.first() {
                    Some(0x60 | 0x61) if length >= 8 => self.sealed(now, path, length),
                    Some(1..=4) if length >= 8 => self.wireguard(now, path, length),
                    _ => self.net.counters.add("foreign_datagram"),
                }
            }
        }
    }

    /// A sealed datagram of MAST.
    fn sealed(&mut self, now: Instant, path: PathKey, length: usize) {
        let Some(datagram) = self.buffer.get_mut(..length) else { return };
        let Some(index) = datagram.get(4..8).and_then(|i| i.try_into().ok()).map(u32::from_be_bytes) else {
            return;
        };
        let found = self.by_index.get(&index).and_then(|id| Some((*id, self.peers.get_mut(id)?)));
        let Some((id, peer)) = found else {
            self.net.counters.add("unknown_index");
            return;
        };
        let received = peer.context.handle_datagram(now, path, datagram);
        match received {
            Received::Dropped(reason) => {
                self.net.counters.add(reason.as_str());
                // It may have been authentic, and have changed something.
                touch(&mut self.touched, id);
                return;
            }
            Received::Control => {}
            Received::Data(range, _) => {
                if let (Some(datagram), Some(tun)) = (datagram.get(range), &self.tun) {
                    self.net.traffic.delivered(path, datagram.len());
                    deliver(
                        now,
                        id,
                        datagram,
                        &self.routing,
                        self.drill.as_mut(),
                        &mut self.net.counters,
                        tun,
                    );
                }
            }
        }
        peer.rx_bytes += length as u64;
        touch(&mut self.touched, id);
    }
}

/// Hands a datagram from a peer to the host, if the peer may send it.
pub(crate) fn deliver<T: Tun>(
    now: Instant,
    from: PeerId,
    datagram: &[u8],
    routing: &Routing,
    drill: Option<&mut Drill>,
    counters: &mut Counters,
    tun: &T,
) {
    if let Err(refused) = routing.admit(from, datagram) {
        counters.add(refused.as_str());
        return;
    }
    if let Some(drill) = drill
        && drill.peer == from
        && let Some((identifier, sequence)) = icmp::echo_reply(datagram)
        && drill.reply(now, identifier, sequence)
    {
        return;
    }
    hand_over(tun, counters, datagram);
}

fn hand_over<T: Tun>(tun: &T, counters: &mut Counters, datagram: &[u8]) {
    if tun.try_send(datagram).is_err() {
        counters.add("host_refused");
    }
}
