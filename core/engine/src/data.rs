//! The data road, both ways: batches in, batches out. No allocation, no lock and no await per datagram.
//!
//! `core/DATAPATH.md` follows a datagram through this file.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use mast_proto::wire::Flags;
use mast_proto::{DATA_HEADROOM, DATA_TAILROOM, Outgoing, PathKey, Received};

use crate::coalesce::Coalescer;
use crate::counters::Counters;
use crate::ecn::{self, class_of};
use crate::engine::{Engine, touch};
use crate::os::{Platform, Tun, Udp};
use crate::outbox::Outbox;
use crate::peer::{Peer, PeerId};
use crate::segment::Frame;
use crate::sockets::{Sent, Sockets};
use crate::traffic::Traffic;
use crate::wireguard::{Indices, Owner};
use crate::{checksum, clamp, icmp, inner};

/// Reads of the virtual interface, or of one socket, before the others have their turn.
const READS: usize = 64;
/// Bytes of the same. A stream's acknowledgments come the other way: were a whole window of it moved before they have
/// their turn, the two ends would work by turns, and each wait for the other.
const TURN: usize = 512 * 1024;
/// The longest datagram, of the virtual interface and of a socket.
pub(crate) const MAX_DATAGRAM: usize = 65_535;
/// What is received before it is handed to the host, in bytes: as much as still lies in a processor's own memory.
pub(crate) const BATCH: usize = 256 * 1024;
/// A socket that has no room for so long loses what is sent to it, so that one slow link cannot stop the others.
const PATIENCE: Duration = Duration::from_millis(5);

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

impl<U: Udp> Net<U> {
    /// Sends UDP payloads to a peer. `false` when the system has no room for them: they may be sent again.
    pub fn send_run(&mut self, now: Instant, peer: &mut Peer, run: Run<'_>) -> bool {
        match self.sockets.send_run(run.path, run.class, run.stride, run.payload) {
            Sent::Yes => {
                peer.tx_bytes += run.payload.len() as u64;
                let count = run.payload.len().div_ceil(run.stride.max(1));
                self.traffic.sent(run.path, count, run.payload.len(), run.carried);
            }
            Sent::Full => return false,
            Sent::Partly(count) => {
                let bytes = run.payload.len().min(count * run.stride);
                peer.tx_bytes += bytes as u64;
                let carried = run.carried * bytes / run.payload.len().max(1);
                self.traffic.sent(run.path, count, bytes, carried);
                self.counters.add("send_queue_full");
            }
            Sent::Lost(reason) => self.counters.add(reason),
            Sent::Failed(error) => {
                self.counters.add("send_error");
                peer.context.handle_send_error(now, run.path, error);
            }
        }
        true
    }

    /// Sends one UDP payload to a peer. Without room it is lost.
    pub fn send(&mut self, now: Instant, peer: &mut Peer, path: PathKey, payload: &[u8], carried: usize) {
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
        let (message, index) = peer.session.seal_or_queue(datagram);
        self.indices.claim(index, Owner::Peer(id));
        if let Some(message) = message {
            self.send_plain(now, peer, &message, datagram.len());
        }
    }
}

impl<P: Platform> Engine<P> {
    /// From the virtual interface to the network. Tells whether there may be more.
    pub(crate) fn pump_tun(&mut self, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.frame);
        let (mut reads, mut taken) = (0, 0);
        let more = loop {
            if reads == READS || taken >= TURN {
                break true;
            }
            if self.net.full.is_some() {
                break false;
            }
            let Some(tun) = &self.tunnel.tun else { break false };
            let (length, offload) = match tun.try_recv(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) => {
                    self.lose_tun(now, &error);
                    break false;
                }
            };
            reads += 1;
            taken += length;
            let frame = buffer.get_mut(..length).and_then(|bytes| Frame::read(bytes, offload));
            let Some((frame, (_, destination))) = frame.and_then(|f| Some((f, inner::addresses(f.bytes())?)))
            else {
                self.net.counters.add("host_malformed");
                continue;
            };
            match self.routing.peer(destination) {
                Some(peer) => self.put_out(now, peer, &frame),
                None => self.net.counters.add("no_route"),
            }
            if self.seldom_out && reads == 1 {
                self.flush_out(now);
            }
        };
        self.frame = buffer;
        self.seldom_out = reads <= 1;
        self.flush_out(now);
        more
    }

    /// Sends a datagram of the engine's own to a peer, as if it came from the host.
    pub(crate) fn forward(&mut self, now: Instant, id: PeerId, datagram: &mut [u8]) {
        if let Some(frame) = Frame::read(datagram, Default::default()) {
            self.put_out(now, id, &frame);
            self.flush_out(now);
        }
    }

    /// Puts the datagrams of a frame to those that leave together; what does not fit to them is sent before.
    fn put_out(&mut self, now: Instant, id: PeerId, frame: &Frame<'_>) {
        let class = class_of(frame.bytes());
        let flags = if frame.partial { Flags::PARTIAL } else { Flags::NONE };
        for at in 0..frame.count() {
            let length = frame.length(at);
            if !self.outbox.suits(id, class, flags, length) {
                self.flush_out(now);
                if !self.outbox.suits(id, class, flags, length) {
                    // The system has no room: as on any link, what comes on top of the queue is lost.
                    self.net.counters.add("send_queue_full");
                    continue;
                }
            }
            let Some(room) = self.outbox.room(id, class, flags, length) else { continue };
            frame.write(at, room);
            if clamp::is_candidate(room)
                && let Some(mtu) = self.peers.get(&id).and_then(|p| p.context.inner_mtu())
            {
                clamp::mss(room, mtu, frame.partial);
            }
        }
    }

    /// Seals and sends what was put together.
    pub(crate) fn flush_out(&mut self, now: Instant) {
        let Some(id) = self.outbox.peer() else { return };
        let Some(peer) = self.peers.get_mut(&id) else {
            self.outbox.clear();
            return;
        };
        touch(&mut self.touched, id);
        if peer.is_plain() {
            flush_plain(now, id, peer, &mut self.net, &mut self.outbox);
            return;
        }
        let (class, flags, stride) = (self.outbox.class(), self.outbox.flags(), self.outbox.stride());
        while !self.outbox.is_empty() {
            if let Some(path) = self.outbox.sealed() {
                let run = self.outbox.run(path, class);
                if !self.net.send_run(now, peer, run) {
                    // Sealed for this path, and for no other: it waits until there is room.
                    self.net.full.get_or_insert((path, now));
                    return;
                }
                self.outbox.sent();
                continue;
            }
            let frames = self.outbox.unsealed();
            let (count, outcome) = peer.context.seal_run(now, frames, stride, flags);
            match outcome {
                Outgoing::Send(path) => self.outbox.note_sealed(count, path),
                Outgoing::Held => self.outbox.skip(count),
                Outgoing::TooBig { mtu } => {
                    self.net.counters.add("too_big");
                    let first = self.outbox.first();
                    let answer = if self.net.too_big.take(now) { icmp::too_big(first, mtu) } else { None };
                    self.outbox.skip(count);
                    if let (Some(answer), Some(tun)) = (answer, &self.tunnel.tun) {
                        hand_over(tun, &mut self.net.counters, &answer);
                    }
                }
            }
        }
        self.outbox.clear();
    }

    /// A socket that had no room may have some again, or had its time.
    pub(crate) fn retry_full(&mut self, now: Instant) {
        let Some((_, since)) = self.net.full.take() else { return };
        self.flush_out(now);
        if let Some((path, _)) = self.net.full {
            if now >= since + PATIENCE {
                self.net.full = None;
                self.net.counters.add("send_queue_full");
                self.outbox.clear();
            } else {
                self.net.full = Some((path, since));
            }
        }
    }

    /// When [`Engine::retry_full`] must be called at the latest.
    pub(crate) fn full_until(&self) -> Option<Instant> {
        self.net.full.map(|(_, since)| since + PATIENCE)
    }

    /// From the network: to the virtual interface, to a context, or nowhere. Tells whether there may be more.
    pub(crate) fn pump_sockets(&mut self, now: Instant) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let mut inward = std::mem::take(&mut self.inward);
        if let Some(tun) = &self.tunnel.tun {
            inward.coalescer.suit(tun.offloads());
        }
        let (mut used, mut more, mut all) = (0, false, 0);
        for at in 0..self.net.sockets.len() {
            let (mut reads, mut taken) = (0, 0);
            loop {
                if reads == READS || taken >= TURN {
                    more = true;
                    break;
                }
                if batch.len() - used < MAX_DATAGRAM {
                    self.flush_in(&mut inward, &batch);
                    used = 0;
                }
                let Some(room) = batch.get_mut(used..) else { break };
                let Some((arrival, path)) = self.net.sockets.receive(at, room) else { break };
                reads += 1;
                all += 1;
                taken += arrival.length;
                let stride = arrival.stride.max(1);
                self.net.traffic.received(path, arrival.length.div_ceil(stride), arrival.length);
                if arrival.length == 0 {
                    self.net.counters.add("foreign_datagram");
                }
                let end = used + arrival.length;
                self.arrivals(now, path, arrival.class, stride, &mut batch, used..end, &mut inward);
                used = end;
                if let Some((_, id)) = inward.last {
                    self.deliver_ordered(now, id, &mut batch, &mut used, &mut inward);
                }
                if inward.seldom && all == 1 {
                    self.flush_in(&mut inward, &batch);
                    used = 0;
                }
            }
        }
        inward.seldom = all <= 1;
        self.flush_in(&mut inward, &batch);
        self.batch = batch;
        self.inward = inward;
        more
    }

    /// Datagrams of the network that came together, in this range of the batch: each of `stride` bytes, only the last may
    /// be shorter.
    #[expect(clippy::too_many_arguments, reason = "all of it is about the one arrival")]
    fn arrivals(
        &mut self,
        now: Instant,
        path: PathKey,
        class: u8,
        stride: usize,
        batch: &mut [u8],
        range: Range<usize>,
        inward: &mut Inward,
    ) {
        let mut at = range.start;
        while at < range.end {
            let (of, next) = next(batch, at, stride, range.end);
            let mut to = next;
            match of {
                Some(index) => {
                    while to < range.end
                        && let (Some(other), next) = self::next(batch, to, stride, range.end)
                        && other == index
                    {
                        to = next;
                    }
                    self.sealed(now, path, class, stride, index, batch, at..to, inward);
                }
                None => self.foreign(now, path, class, batch, at..to, inward),
            }
            at = to;
        }
    }

    /// A datagram that is not of MAST: of WireGuard, or of nobody.
    fn foreign(
        &mut self,
        now: Instant,
        path: PathKey,
        class: u8,
        batch: &mut [u8],
        range: Range<usize>,
        inward: &mut Inward,
    ) {
        let Some(datagram) = batch.get_mut(range.clone()) else { return };
        if datagram.len() < 8 || !matches!(datagram.first(), Some(1..=4)) {
            self.net.counters.add("foreign_datagram");
            return;
        }
        inward.admitted = Admitted::default();
        let Some((id, opened)) = self.wireguard(now, path, datagram) else { return };
        let Some(opened) = inner::trim(&opened) else {
            self.net.counters.add("inner_malformed");
            return;
        };
        // Back to where it came from, where there is room: the frame around it was longer.
        let Some(room) = datagram.get_mut(..opened.len()) else { return };
        room.copy_from_slice(opened);
        let inner = range.start..range.start + opened.len();
        self.admit(now, id, path, class, batch, inner, false, inward);
    }

    /// Sealed datagrams of MAST for the context of this index.
    #[expect(clippy::too_many_arguments, reason = "all of it is about the one arrival")]
    fn sealed(
        &mut self,
        now: Instant,
        path: PathKey,
        class: u8,
        stride: usize,
        index: u32,
        batch: &mut [u8],
        range: Range<usize>,
        inward: &mut Inward,
    ) {
        let last = inward.last.filter(|(last, _)| *last == index).map(|(_, id)| id);
        let id = last.or_else(|| self.by_index.get(&index).copied());
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else {
            for _ in 0..range.len().div_ceil(stride.max(1)) {
                self.net.counters.add("unknown_index");
            }
            return;
        };
        if last.is_none() {
            inward.last = Some((index, id));
            // They may be authentic and change something, even where they are dropped.
            touch(&mut self.touched, id);
        }
        let Some(datagrams) = batch.get_mut(range.clone()) else { return };
        let mut opened = std::mem::take(&mut inward.opened);
        peer.context.handle_run(now, path, datagrams, stride, &mut opened);
        let authentic = opened.iter().filter(|(_, received)| !matches!(received, Received::Dropped(_)));
        peer.rx_bytes += authentic.map(|(at, _)| at.len() as u64).sum::<u64>();
        for (at, received) in opened.drain(..) {
            match received {
                Received::Dropped(reason) => self.net.counters.add(reason.as_str()),
                Received::Control => {}
                Received::Data(inner, flags) => {
                    let from = range.start + at.start;
                    let inner = from + inner.start..from + inner.end;
                    let partial = flags.contains(Flags::PARTIAL);
                    self.admit(now, id, path, class, batch, inner, partial, inward);
                }
            }
        }
        inward.opened = opened;
    }

    /// Hands over what waited for its turn in the sender's order. `used` is how much of the batch is.
    fn deliver_ordered(
        &mut self,
        now: Instant,
        id: PeerId,
        batch: &mut [u8],
        used: &mut usize,
        inward: &mut Inward,
    ) {
        while let Some(peer) = self.peers.get_mut(&id)
            && let Some((datagram, flags, path)) = peer.context.poll_deliver(now)
        {
            if batch.len() - *used < datagram.len() {
                self.flush_in(inward, batch);
                *used = 0;
            }
            let range = *used..*used + datagram.len();
            if let Some(room) = batch.get_mut(range.clone()) {
                room.copy_from_slice(&datagram);
                *used = range.end;
                self.admit(now, id, path, 0, batch, range, flags.contains(Flags::PARTIAL), inward);
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.context.recycle(datagram);
            }
        }
    }

    /// The same when nothing arrived: what it waited for is given up.
    pub(crate) fn deliver_late(&mut self, now: Instant, id: PeerId) {
        if !self.peers.get(&id).is_some_and(|p| p.context.holds_early()) {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let mut inward = std::mem::take(&mut self.inward);
        self.deliver_ordered(now, id, &mut batch, &mut 0, &mut inward);
        self.flush_in(&mut inward, &batch);
        self.batch = batch;
        self.inward = inward;
    }

    /// Hands a datagram from a peer, in this range of the batch, to the host, if the peer may send it.
    #[expect(clippy::too_many_arguments, reason = "all of it is about the one datagram")]
    fn admit(
        &mut self,
        now: Instant,
        from: PeerId,
        path: PathKey,
        class: u8,
        batch: &mut [u8],
        range: Range<usize>,
        partial: bool,
        inward: &mut Inward,
    ) {
        let (Some(datagram), Some(tun)) = (batch.get_mut(range.clone()), &self.tunnel.tun) else { return };
        if !inward.admitted.is(from, datagram) {
            if inner::addresses(datagram).is_none() {
                self.net.counters.add("inner_malformed");
                return;
            }
            if let Err(refused) = self.routing.admit(from, datagram) {
                self.net.counters.add(refused.as_str());
                return;
            }
            inward.admitted.note(from, datagram);
        }
        if !ecn::combine(class, datagram) {
            self.net.counters.add("ecn_dropped");
            return;
        }
        self.net.traffic.delivered(path, datagram.len());
        if let Some(drill) = self.drill.as_mut()
            && drill.peer == from
            && let Some((identifier, sequence)) = icmp::echo_reply(datagram)
            && drill.reply(now, identifier, sequence)
        {
            return;
        }
        if clamp::is_candidate(datagram)
            && let Some(mtu) = self.peers.get(&from).and_then(|p| p.context.inner_mtu())
        {
            clamp::mss(datagram, mtu, partial);
        }
        inward.coalescer.push(tun, batch, range, partial);
    }

    fn flush_in(&mut self, inward: &mut Inward, batch: &[u8]) {
        if let Some(tun) = &self.tunnel.tun {
            inward.coalescer.flush(tun, batch);
        }
        for _ in 0..inward.coalescer.refused() {
            self.net.counters.add("host_refused");
        }
        inward.last = None;
        inward.admitted = Admitted::default();
    }
}

/// Seals and sends what was put together for a plain WireGuard peer, again as datagrams of one length.
fn flush_plain<U: Udp>(now: Instant, id: PeerId, peer: &mut Peer, net: &mut Net<U>, outbox: &mut Outbox) {
    let (class, partial) = (outbox.class(), outbox.flags().contains(Flags::PARTIAL));
    let (frames, messages) = outbox.plain();
    let mut run = PlainRun { class, ..PlainRun::default() };
    for frame in frames {
        let end = frame.len().saturating_sub(DATA_TAILROOM);
        let Some(datagram) = frame.get_mut(DATA_HEADROOM..end) else { continue };
        if partial && !checksum::complete(datagram) {
            net.counters.add("host_malformed");
            continue;
        }
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
    outbox.clear();
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

/// What is needed on the way in, and kept for the next time.
#[derive(Default)]
pub(crate) struct Inward {
    coalescer: Coalescer,
    /// The context that the last datagram was for, by index.
    last: Option<(u32, PeerId)>,
    /// Source and destination that were last found to be the peer's and this host's.
    admitted: Admitted,
    /// What became of the datagrams of one run; only its room is kept.
    opened: Vec<(Range<usize>, Received)>,
    /// No more than one read was worth it the last time: what comes then is handed on before it is looked for more.
    seldom: bool,
}

/// The context index of the datagram at this place of the batch, if it looks like one of MAST; and where the next is.
fn next(batch: &[u8], at: usize, stride: usize, end: usize) -> (Option<u32>, usize) {
    let next = end.min(at + stride.max(1));
    let head = batch.get(at..next).and_then(|datagram| datagram.first_chunk::<8>());
    let sealed = head.filter(|head| matches!(head[0], 0x60 | 0x61));
    (sealed.map(|head| u32::from_be_bytes([head[4], head[5], head[6], head[7]])), next)
}

/// Whose datagram was last admitted, and its addresses as they are in the header: those of the next are most likely the
/// same, and need not be looked up.
#[derive(Default)]
struct Admitted {
    from: Option<PeerId>,
    /// The version of IP.
    version: u8,
    v4: [u8; 8],
    v6: [u8; 32],
}

impl Admitted {
    fn note(&mut self, from: PeerId, datagram: &[u8]) {
        let Some(version) = datagram.first().map(|b| b >> 4) else { return };
        (self.from, self.version) = (Some(from), version);
        match version {
            4 => self.v4 = datagram.get(12..).and_then(|d| d.first_chunk().copied()).unwrap_or_default(),
            _ => self.v6 = datagram.get(8..).and_then(|d| d.first_chunk().copied()).unwrap_or([0; 32]),
        }
    }

    /// Whether a datagram has the addresses of the one that was last admitted, and is as long as a header at least.
    fn is(&self, from: PeerId, datagram: &[u8]) -> bool {
        let same = match datagram.first().map(|b| b >> 4) {
            Some(4) if self.version == 4 => {
                datagram.first_chunk::<20>().and_then(|d| d.last_chunk()) == Some(&self.v4)
            }
            Some(6) if self.version == 6 => {
                datagram.first_chunk::<40>().and_then(|d| d.last_chunk()) == Some(&self.v6)
            }
            _ => false,
        };
        same && self.from == Some(from)
    }
}

/// Hands a finished datagram to the host.
pub(crate) fn hand_over<T: Tun>(tun: &T, counters: &mut Counters, datagram: &[u8]) {
    if tun.try_send(&[io::IoSlice::new(datagram)], Default::default()).is_err() {
        counters.add("host_refused");
    }
}
