//! The road out: from the virtual interface to the network.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mast_proto::wire::Flags;
use mast_proto::{DATA_HEADROOM, DATA_TAILROOM, Outgoing};

use crate::ecn::class_of;
use crate::os::{Offload, Tun, Udp};
use crate::outbox::Outbox;
use crate::peer::{Peer, PeerId};
use crate::road::{MAX_DATAGRAM, Net, PATIENCE, Parts, READS, Run, Seldom, TURN, hand_over};
use crate::segment::Frame;
use crate::wireguard::Owner;
use crate::{checksum, clamp, icmp, inner};

/// What came of a turn.
pub(crate) enum Pumped {
    /// The host may have more.
    More,
    /// It has no more, or what there is cannot leave now.
    Done,
    /// The virtual interface failed.
    Failed(io::Error),
}

/// The frame of which there was no room for all datagrams.
#[derive(Clone, Copy)]
struct Rest {
    length: usize,
    offload: Offload,
    /// The first datagram that there was no room for.
    at: usize,
}

/// The road out, and what is on it.
pub(crate) struct Outward {
    /// A frame of the virtual interface.
    frame: Box<[u8]>,
    /// What of it waits for room.
    rest: Option<Rest>,
    /// What leaves together.
    outbox: Outbox,
    /// Where there was no more than one frame each time, it leaves before it is looked for more.
    seldom: Seldom,
}

impl Outward {
    pub fn new() -> Self {
        Self {
            frame: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            rest: None,
            outbox: Outbox::new(),
            seldom: Seldom::default(),
        }
    }

    /// Moves what the host has, for one turn.
    pub fn pump<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>) -> Pumped {
        let (mut reads, mut taken) = (0, 0);
        if !self.outbox.is_empty() {
            flush(&mut self.outbox, parts);
        }
        let pumped = loop {
            if parts.net.full.is_some() || parts.net.lane.is_waiting() {
                break Pumped::Done;
            }
            if let Some(Rest { length, offload, at }) = self.rest.take() {
                self.take(parts, length, offload, at);
                continue;
            }
            if reads == READS || taken >= TURN {
                break Pumped::More;
            }
            let Some(tun) = parts.tun else { break Pumped::Done };
            let (length, offload) = match tun.try_recv(&mut self.frame) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Pumped::Done,
                Err(error) => break Pumped::Failed(error),
            };
            reads += 1;
            taken += length;
            self.take(parts, length, offload, 0);
            if reads == 1 && self.seldom.is() {
                flush(&mut self.outbox, parts);
            }
        };
        self.seldom.note(reads);
        flush(&mut self.outbox, parts);
        pumped
    }

    /// Puts the datagrams of a frame that was read, from one on, to those that leave together.
    fn take<T: Tun, U: Udp>(
        &mut self,
        parts: &mut Parts<'_, T, U>,
        length: usize,
        offload: Offload,
        at: usize,
    ) {
        let frame = self.frame.get_mut(..length).and_then(|bytes| Frame::read(bytes, offload));
        let Some((frame, (_, destination))) = frame.and_then(|f| Some((f, inner::addresses(f.bytes())?)))
        else {
            parts.net.counters.add("host_malformed");
            return;
        };
        if parts.net.mirror.is_on()
            && let Some(answer) = parts.net.mirror.answer(parts.now, frame.bytes(), frame.partial)
        {
            if let Some(tun) = parts.tun {
                hand_over(tun, &mut parts.net.counters, &answer);
            }
            return;
        }
        let Some(peer) = parts.routing.peer(destination) else {
            parts.net.counters.add("no_route");
            return;
        };
        if let Err(at) = put(&mut self.outbox, parts, peer, &frame, at) {
            // A checksum that was completed is not partial any more.
            let offload = if frame.partial { offload } else { Offload::default() };
            self.rest = Some(Rest { length, offload, at });
        }
    }

    /// Sends a datagram of the engine's own to a peer, as if it came from the host.
    pub fn forward<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>, id: PeerId, datagram: &mut [u8]) {
        if let Some(frame) = Frame::read(datagram, Default::default()) {
            if put(&mut self.outbox, parts, id, &frame, 0).is_err() {
                parts.net.counters.add("send_queue_full");
            }
            flush(&mut self.outbox, parts);
        }
    }

    /// A socket that had no room may have some again, or had its time.
    pub fn retry<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>) {
        let Some((_, since)) = parts.net.full.take() else { return };
        flush(&mut self.outbox, parts);
        if let Some((path, _)) = parts.net.full {
            if parts.now >= since + PATIENCE {
                parts.net.full = None;
                parts.net.counters.add("send_queue_full");
                self.outbox.clear();
            } else {
                parts.net.full = Some((path, since));
            }
        }
    }
}

/// Puts the datagrams of a frame, from one on, to those that leave together; what does not fit to them is sent before.
/// The error is the first that waits until there is room.
fn put<T: Tun, U: Udp>(
    outbox: &mut Outbox,
    parts: &mut Parts<'_, T, U>,
    id: PeerId,
    frame: &Frame<'_>,
    from: usize,
) -> Result<(), usize> {
    let class = class_of(frame.bytes());
    let flags = if frame.partial { Flags::PARTIAL } else { Flags::NONE };
    for at in from..frame.count() {
        let length = frame.length(at);
        if !outbox.suits(id, class, flags, length) {
            flush(outbox, parts);
            if !outbox.suits(id, class, flags, length) {
                return Err(at);
            }
        }
        let Some(room) = outbox.room(id, class, flags, length) else { continue };
        frame.write(at, room);
        if clamp::is_candidate(room)
            && let Some(mtu) = parts.peers.get(&id).and_then(|p| p.inner_mtu())
        {
            clamp::mss(room, mtu, frame.partial);
        }
    }
    Ok(())
}

/// Seals and sends what was put together.
fn flush<T: Tun, U: Udp>(outbox: &mut Outbox, parts: &mut Parts<'_, T, U>) {
    let now = parts.now;
    let Some(id) = outbox.peer() else { return };
    let Some(peer) = parts.peers.get_mut(&id) else {
        outbox.clear();
        return;
    };
    parts.touched.add(id);
    if peer.is_plain() {
        flush_plain(now, id, peer, parts.net, parts.tun, outbox);
        return;
    }
    let (class, flags, stride) = (outbox.class(), outbox.flags(), outbox.stride());
    parts.net.take_back();
    // The lane has sockets alone, and hands them addresses as they are.
    let relayed = !parts.net.sockets.relays.is_empty() && peer.context.is_relayed();
    let through =
        !relayed && !parts.net.sockets.is_translating() && parts.net.lane.takes(now, outbox.is_full());
    while !outbox.is_empty() {
        if let Some(path) = outbox.sealed() {
            let run = outbox.run(path, class);
            if !parts.net.send_run(now, peer, run) {
                // Sealed for this path, and for no other: it waits until there is room.
                parts.net.full.get_or_insert((path, now));
                return;
            }
            outbox.sent();
            continue;
        }
        if through && !parts.net.lane.has_room() {
            // Not even prepared: by the time that there is room it may be for another path.
            return;
        }
        let frames = outbox.unsealed();
        let (count, outcome, unsealed) = if through {
            peer.context.prepare_run(now, frames, stride, flags)
        } else {
            let (count, outcome) = peer.context.seal_run(now, frames, stride, flags);
            (count, outcome, None)
        };
        match outcome {
            Outgoing::Send(path) => {
                outbox.note_sealed(count, path);
                if through {
                    match parts.net.sockets.socket(path).map(Arc::clone) {
                        Ok(socket) => {
                            parts.net.lane.run(outbox, unsealed, id, (path, socket));
                        }
                        Err(reason) => {
                            parts.net.counters.add(reason);
                            outbox.sent();
                        }
                    }
                }
            }
            Outgoing::Held => outbox.skip(count),
            Outgoing::TooBig { mtu } => {
                refuse(now, parts.net, parts.tun, outbox.first(), mtu);
                outbox.skip(count);
            }
        }
    }
    outbox.clear();
}

/// Seals and sends what was put together for a plain WireGuard peer, again as datagrams of one length.
///
/// Without PROBEs no more is known of sizes than the file's MTU and what the interfaces refuse; the host is told of both.
fn flush_plain<T: Tun, U: Udp>(
    now: Instant,
    id: PeerId,
    peer: &mut Peer,
    net: &mut Net<U>,
    tun: Option<&T>,
    outbox: &mut Outbox,
) {
    let (class, partial) = (outbox.class(), outbox.flags().contains(Flags::PARTIAL));
    let (frames, messages) = outbox.plain();
    let mut run = PlainRun { class, ..PlainRun::default() };
    let before = peer.inner_mtu();
    for frame in frames {
        let end = frame.len().saturating_sub(DATA_TAILROOM);
        let Some(datagram) = frame.get_mut(DATA_HEADROOM..end) else { continue };
        if let Some(mtu) = before.filter(|mtu| datagram.len() > *mtu) {
            refuse(now, net, tun, datagram, mtu);
            continue;
        }
        if partial && !checksum::complete(datagram) {
            net.counters.add("host_malformed");
            continue;
        }
        if !peer.context.take_plain(now, Flags::NONE, datagram) {
            continue;
        }
        peer.context.note_plain_datagram(now, datagram);
        let (message, index) = peer.session.seal_or_queue(datagram);
        if index.is_some() {
            net.indices.claim(index, Owner::Peer(id));
        }
        let Some(message) = message else { continue };
        if run.length > 0 && message.len() > run.stride {
            run.send(now, peer, net, messages);
        }
        match messages.get_mut(run.length..run.length + message.len()) {
            // A handshake that the datagram waits for goes by itself.
            Some(room) if index.is_none() => room.copy_from_slice(&message),
            _ => {
                net.send_plain(now, peer, &message, 0);
                continue;
            }
        }
        if run.length == 0 {
            run.stride = message.len();
        }
        run.length += message.len();
        run.carried += datagram.len();
        if message.len() < run.stride {
            run.send(now, peer, net, messages);
        }
    }
    run.send(now, peer, net, messages);
    if let Some(mtu) = peer.inner_mtu().filter(|mtu| before.is_some_and(|before| *mtu < before)) {
        // The interface refused them just now.
        for frame in outbox.plain().0 {
            let end = frame.len().saturating_sub(DATA_TAILROOM);
            let datagram = frame.get(DATA_HEADROOM..end);
            if let Some(datagram) = datagram.filter(|d| d.len() > mtu && before.is_some_and(|b| d.len() <= b))
            {
                refuse(now, net, tun, datagram, mtu);
            }
        }
    }
    outbox.clear();
}

/// Tells the host that a datagram of its own does not fit.
fn refuse<T: Tun, U: Udp>(now: Instant, net: &mut Net<U>, tun: Option<&T>, datagram: &[u8], mtu: usize) {
    net.counters.add("too_big");
    let answer = if net.too_big.take(now) { icmp::too_big(datagram, mtu) } else { None };
    if let (Some(answer), Some(tun)) = (answer, tun) {
        hand_over(tun, &mut net.counters, &answer);
    }
}

/// Sealed datagrams for a plain WireGuard peer that leave together.
#[derive(Default)]
struct PlainRun {
    class: u8,
    stride: usize,
    length: usize,
    carried: usize,
}

impl PlainRun {
    fn send<U: Udp>(&mut self, now: Instant, peer: &mut Peer, net: &mut Net<U>, messages: &[u8]) {
        let (length, carried) = (std::mem::take(&mut self.length), std::mem::take(&mut self.carried));
        let Some(payload) = messages.get(..length).filter(|p| !p.is_empty()) else { return };
        let Some(path) = peer.context.plain_path(now) else {
            net.counters.add("no_path");
            return;
        };
        if !net.send_run(now, peer, Run { path, class: self.class, stride: self.stride, payload, carried }) {
            net.counters.add("send_queue_full");
        }
        peer.context.note_plain_sent(now, path, length);
    }
}
