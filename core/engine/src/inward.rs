//! The road in: from the network to the virtual interface.

use std::ops::Range;

use mast_proto::wire::{ContextIndex, Flags};
use mast_proto::{PathKey, Received};

use crate::coalesce::Coalescer;
use crate::os::{Tun, Udp};
use crate::peer::PeerId;
use crate::road::{MAX_DATAGRAM, Parts, READS, Seldom, TURN};
use crate::{clamp, ecn, icmp, inner};

/// What is received before it is handed to the host, in bytes: as much as still lies in a processor's own memory.
const BATCH: usize = 256 * 1024;

/// What came of a step.
pub(crate) enum Step {
    /// A WireGuard message, for whoever knows the sessions. What it holds for the host comes back by [`Inward::put`].
    WireGuard(Message),
    /// The turn is over; the sockets may have more.
    More,
    /// The turn is over, and the sockets have no more.
    Done,
}

/// Where a WireGuard message lies, and how it came.
pub(crate) struct Message {
    pub path: PathKey,
    class: u8,
    range: Range<usize>,
}

impl Message {
    /// Its bytes, in the batch.
    pub fn within<'a>(&self, batch: &'a [u8]) -> &'a [u8] {
        batch.get(self.range.clone()).unwrap_or_default()
    }
}

/// Datagrams that came together, and were not looked at yet: each of `stride` bytes, only the last may be shorter.
#[derive(Clone)]
struct Arrived {
    path: PathKey,
    class: u8,
    stride: usize,
    range: Range<usize>,
}

/// A turn under way.
#[derive(Default)]
struct Turn {
    /// The socket that has its turn.
    socket: usize,
    /// Reads of it, and bytes.
    reads: usize,
    taken: usize,
    /// Reads of all of them.
    all: usize,
    /// Some may have more.
    more: bool,
    rest: Option<Arrived>,
}

/// The road in, and what is on it.
pub(crate) struct Inward {
    /// Datagrams of the network, where they were received and opened; so much of it is in use.
    batch: Box<[u8]>,
    used: usize,
    coalescer: Coalescer,
    turn: Turn,
    /// The context that the last datagram was for, by index.
    last: Option<(u32, PeerId)>,
    /// Source and destination that were last found to be the peer's and this host's.
    admitted: Admitted,
    /// What became of the datagrams of one run; only its room is kept.
    opened: Vec<(Range<usize>, Received)>,
    /// Where no more than one read was worth it each time, what comes is handed on before it is looked for more.
    seldom: Seldom,
}

impl Inward {
    pub fn new() -> Self {
        Self {
            batch: vec![0; BATCH + MAX_DATAGRAM].into_boxed_slice(),
            used: 0,
            coalescer: Coalescer::default(),
            turn: Turn::default(),
            last: None,
            admitted: Admitted::default(),
            opened: Vec::new(),
            seldom: Seldom::default(),
        }
    }

    /// Moves what the sockets have, until the turn is over or there is something for others.
    pub fn step<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>) -> Step {
        loop {
            if let Some(rest) = self.turn.rest.take()
                && let Some(message) = self.look_at(parts, rest)
            {
                return Step::WireGuard(message);
            }
            if !self.receive(parts) {
                break;
            }
        }
        let turn = std::mem::take(&mut self.turn);
        self.seldom.note(turn.all);
        self.flush(parts);
        if turn.more { Step::More } else { Step::Done }
    }

    /// Lends out the batch, for whoever takes in a WireGuard message. It must be given back before the next step.
    pub fn lend(&mut self) -> Box<[u8]> {
        std::mem::take(&mut self.batch)
    }

    /// See [`Inward::lend`].
    pub fn give_back(&mut self, batch: Box<[u8]>) {
        self.batch = batch;
    }

    /// What was inside a WireGuard message of a peer: it goes back to where that came from, as the message around it was
    /// longer, and from there to the host.
    pub fn put<T: Tun, U: Udp>(
        &mut self,
        parts: &mut Parts<'_, T, U>,
        message: &Message,
        from: PeerId,
        opened: &[u8],
    ) {
        let Some(opened) = inner::trim(opened) else {
            parts.net.counters.add("inner_malformed");
            return;
        };
        let range = message.range.start..message.range.start + opened.len();
        if range.end > message.range.end {
            return;
        }
        let Some(room) = self.batch.get_mut(range.clone()) else { return };
        room.copy_from_slice(opened);
        self.admit(parts, from, (message.path, message.class), range, false);
    }

    /// Takes what the next read brings; `false` when the turn is over.
    fn receive<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>) -> bool {
        if self.turn.all > 0 {
            self.deliver_ordered(parts);
            if self.turn.all == 1 && self.seldom.is() {
                self.flush(parts);
            }
        } else if let Some(tun) = parts.tun {
            self.coalescer.suit(tun.offloads());
        }
        while self.turn.socket < parts.net.sockets.len() {
            if self.turn.reads == READS || self.turn.taken >= TURN {
                self.turn.more = true;
            } else {
                if self.batch.len() - self.used < MAX_DATAGRAM {
                    self.flush(parts);
                }
                let room = self.batch.get_mut(self.used..).unwrap_or_default();
                if let Some((arrival, path)) = parts.net.sockets.receive(self.turn.socket, room) {
                    self.turn.reads += 1;
                    self.turn.all += 1;
                    self.turn.taken += arrival.length;
                    let stride = arrival.stride.max(1);
                    parts.net.traffic.received(path, arrival.length.div_ceil(stride), arrival.length);
                    if arrival.length == 0 {
                        parts.net.counters.add("foreign_datagram");
                    }
                    let range = self.used..self.used + arrival.length;
                    self.used = range.end;
                    self.turn.rest = Some(Arrived { path, class: arrival.class, stride, range });
                    return true;
                }
            }
            (self.turn.socket, self.turn.reads, self.turn.taken) = (self.turn.socket + 1, 0, 0);
        }
        false
    }

    /// Goes on with an arrival, up to the next WireGuard message.
    fn look_at<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>, arrived: Arrived) -> Option<Message> {
        let Arrived { path, class, stride, range: Range { start: mut at, end } } = arrived;
        while at < end {
            let (of, mut to) = next(&self.batch, at, stride, end);
            if let Some(index) = of {
                while to < end
                    && let (Some(other), after) = next(&self.batch, to, stride, end)
                    && other == index
                {
                    to = after;
                }
                self.sealed(parts, (path, class), stride, index, at..to);
            } else if to - at >= 8 && matches!(self.batch.get(at), Some(1..=4)) {
                self.admitted = Admitted::default();
                self.turn.rest = Some(Arrived { path, class, stride, range: to..end });
                return Some(Message { path, class, range: at..to });
            } else {
                parts.net.counters.add("foreign_datagram");
            }
            at = to;
        }
        None
    }

    /// Sealed datagrams of MAST for the context of this index.
    fn sealed<T: Tun, U: Udp>(
        &mut self,
        parts: &mut Parts<'_, T, U>,
        (path, class): (PathKey, u8),
        stride: usize,
        index: u32,
        range: Range<usize>,
    ) {
        let last = self.last.filter(|(last, _)| *last == index).map(|(_, id)| id);
        // An index that was never handed out may lead anywhere, and nothing of it is authentic there.
        let id = last.or_else(|| Some(PeerId(parts.key.context(ContextIndex(index)))));
        let Some((id, peer)) = id.and_then(|id| Some((id, parts.peers.get_mut(&id)?))) else {
            for _ in 0..range.len().div_ceil(stride) {
                parts.net.counters.add("unknown_index");
            }
            return;
        };
        if last.is_none() {
            self.last = Some((index, id));
            // They may be authentic and change something, even where they are dropped.
            parts.touched.add(id);
        }
        let Some(datagrams) = self.batch.get_mut(range.clone()) else { return };
        let mut opened = std::mem::take(&mut self.opened);
        peer.context.handle_run(parts.now, path, datagrams, stride, &mut opened);
        let authentic = opened.iter().filter(|(_, received)| !matches!(received, Received::Dropped(_)));
        peer.rx_bytes += authentic.map(|(at, _)| at.len() as u64).sum::<u64>();
        for (at, received) in opened.drain(..) {
            match received {
                Received::Dropped(reason) => parts.net.counters.add(reason.as_str()),
                Received::Control => {}
                Received::Data(inner, flags) => {
                    let from = range.start + at.start;
                    let inner = from + inner.start..from + inner.end;
                    self.admit(parts, id, (path, class), inner, flags.contains(Flags::PARTIAL));
                }
            }
        }
        self.opened = opened;
    }

    /// Hands over what waited for its turn in the sender's order, of the peer that was last heard.
    fn deliver_ordered<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>) {
        if let Some((_, id)) = self.last {
            self.deliver(parts, id);
        }
    }

    fn deliver<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>, id: PeerId) {
        while let Some(peer) = parts.peers.get_mut(&id)
            && let Some((datagram, flags, path)) = peer.context.poll_deliver(parts.now)
        {
            if self.batch.len() - self.used < datagram.len() {
                self.flush(parts);
            }
            let range = self.used..self.used + datagram.len();
            if let Some(room) = self.batch.get_mut(range.clone()) {
                room.copy_from_slice(&datagram);
                self.used = range.end;
                self.admit(parts, id, (path, 0), range, flags.contains(Flags::PARTIAL));
            }
            if let Some(peer) = parts.peers.get_mut(&id) {
                peer.context.recycle(datagram);
            }
        }
    }

    /// The same when nothing arrived: what it waited for is given up.
    pub fn deliver_late<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>, id: PeerId) {
        if parts.peers.get(&id).is_some_and(|p| p.context.holds_early()) {
            self.deliver(parts, id);
            self.flush(parts);
        }
    }

    /// Hands a datagram from a peer, in this range of the batch, to the host, if the peer may send it. It came over this
    /// path, under this traffic class.
    fn admit<T: Tun, U: Udp>(
        &mut self,
        parts: &mut Parts<'_, T, U>,
        from: PeerId,
        (path, class): (PathKey, u8),
        range: Range<usize>,
        partial: bool,
    ) {
        let (Some(datagram), Some(tun)) = (self.batch.get_mut(range.clone()), parts.tun) else { return };
        if !self.admitted.is(from, datagram) {
            if inner::addresses(datagram).is_none() {
                parts.net.counters.add("inner_malformed");
                return;
            }
            if let Err(refused) = parts.routing.admit(from, datagram) {
                parts.net.counters.add(refused.as_str());
                return;
            }
            self.admitted.note(from, datagram);
        }
        if !ecn::combine(class, datagram) {
            parts.net.counters.add("ecn_dropped");
            return;
        }
        parts.net.traffic.delivered(path, datagram.len());
        if let Some(drill) = parts.drill.as_mut()
            && drill.peer == from
            && let Some((identifier, sequence)) = icmp::echo_reply(datagram)
            && drill.reply(parts.now, identifier, sequence)
        {
            return;
        }
        if clamp::is_candidate(datagram)
            && let Some(mtu) = parts.peers.get(&from).and_then(|p| p.inner_mtu())
        {
            clamp::mss(datagram, mtu, partial);
        }
        self.coalescer.push(tun, &mut self.batch, range, partial);
    }

    /// Writes what was put together to the host; the batch is free again.
    fn flush<T: Tun, U: Udp>(&mut self, parts: &mut Parts<'_, T, U>) {
        if let Some(tun) = parts.tun {
            self.coalescer.flush(tun, &self.batch);
        }
        for _ in 0..self.coalescer.refused() {
            parts.net.counters.add("host_refused");
        }
        self.used = 0;
        self.last = None;
        self.admitted = Admitted::default();
    }
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
