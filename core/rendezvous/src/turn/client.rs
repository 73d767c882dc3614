//! One allocation (RFC 8656, 7 to 12), without clock and sockets: what is to be sent, when, and what an answer means.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use stun_types::attribute::ErrorCode;
use stun_types::message::TransactionId;
use turn_types::AddressFamily;

use super::failure::Failure;
use super::message::{self, Access, Answer, Ask};
use super::peers::{Peers, Way, Wish};
use super::{LONGEST, Parcel};

/// The first pause without an answer; it doubles (RFC 8489, 6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// So often a request is sent: at 0, 0.5, 1.5, 3.5 and 7.5 s. RFC 8489 has seven, which is 40 s: too long to wait ahead of
/// trying another way.
const TRIES: u32 = 5;
/// After the last of them.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// The same on a stream, where one is enough.
const PATIENCE: Duration = Duration::from_millis(9_500);
/// The most often that one request is asked with another nonce, in a row.
const CHALLENGES: u32 = 3;
/// How long an allocation is to hold, in seconds: what servers give if not asked (RFC 8656, 3.2), and as long as one stays
/// behind when this host is gone.
const LIFETIME: u32 = 600;
/// A server that gives less than that is asked every [`SHORTEST`] / 2 nevertheless, and no more often.
const SHORTEST: Duration = Duration::from_secs(20);
/// As much ahead of its end an allocation is refreshed, but no earlier than halfway (RFC 8656, 7).
const AHEAD: Duration = Duration::from_secs(60);
/// After this long without a message in either direction the allocation is refreshed: it keeps a NAT's mapping, which lives
/// for 30 s at least, and finds out that a server has forgotten all.
const QUIET: Duration = Duration::from_secs(25);

/// Where an allocation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It has been asked for.
    Asking,
    /// There is one.
    Allocated(SocketAddr),
    /// It is over.
    Over(Failure),
    /// It was given up.
    Deleted,
}

/// A message to be sent.
#[derive(Debug)]
pub struct Outgoing {
    pub bytes: Vec<u8>,
    /// A datagram, which may be lost.
    pub parcel: bool,
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    id: TransactionId,
    ask: Ask,
    bytes: Vec<u8>,
    signed: bool,
    tries: u32,
    challenges: u32,
    due: Instant,
}

/// All of it.
#[derive(Debug)]
pub struct Client {
    access: Access,
    /// On a stream nothing is sent twice.
    stream: bool,
    stage: Stage,
    heard: bool,
    garbage: bool,
    pending: Vec<Pending>,
    out: VecDeque<Outgoing>,
    peers: Peers,
    expires: Instant,
    refresh: Instant,
    refreshed: Instant,
    sent: Instant,
    received: Instant,
}

impl Client {
    /// Asks for an allocation.
    pub fn new(now: Instant, access: Access, stream: bool) -> Self {
        let mut client = Self {
            access,
            stream,
            stage: Stage::Asking,
            heard: false,
            garbage: false,
            pending: Vec::new(),
            out: VecDeque::new(),
            peers: Peers::default(),
            expires: now,
            refresh: now,
            refreshed: now,
            sent: now,
            received: now,
        };
        client.ask(now, Ask::Allocate(AddressFamily::IPV4), 0);
        client
    }

    /// Where it stands.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether the server answered at all.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Takes over whom it is for, and what waits for them.
    pub fn adopt(&mut self, peers: Peers) {
        self.peers = peers;
    }

    /// Gives that back.
    pub fn into_peers(self) -> Peers {
        self.peers
    }

    /// Whom it is for.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The same, to change it.
    pub fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// The next message to be sent.
    pub fn take(&mut self, now: Instant) -> Option<Outgoing> {
        let outgoing = self.out.pop_front()?;
        self.sent = now;
        Some(outgoing)
    }

    fn over(&mut self, failure: Failure) {
        if !matches!(self.stage, Stage::Over(_) | Stage::Deleted) {
            self.pending.clear();
            self.out.clear();
            self.stage = Stage::Over(failure);
        }
    }

    fn ask(&mut self, now: Instant, ask: Ask, challenges: u32) {
        let id = TransactionId::generate();
        let Ok(bytes) = self.access.request(ask, id) else {
            return self.over(Failure::Name);
        };
        self.out.push_back(Outgoing { bytes: bytes.clone(), parcel: false });
        let due = now + if self.stream { PATIENCE } else { RTO };
        let signed = self.access.signs();
        self.pending.push(Pending { id, ask, bytes, signed, tries: 1, challenges, due });
    }

    /// Sends a datagram, or lets it wait.
    pub fn send(&mut self, now: Instant, parcel: Parcel) {
        if !is_fit(&parcel) {
            return self.drop_one();
        }
        let Stage::Allocated(relayed) = self.stage else {
            return self.peers.wait(now, parcel.peer, parcel.payload);
        };
        // A relay does not translate from one family to the other.
        if relayed.is_ipv4() != parcel.peer.is_ipv4() {
            return self.drop_one();
        }
        let peer = parcel.peer;
        let bytes = match self.peers.send(now, peer, parcel.payload) {
            Way::Indication(payload) => message::indication(peer, &payload).ok(),
            Way::Channel(number, payload) => message::on_channel(number, &payload),
            Way::Later => return self.wish(now),
            Way::Refused => None,
        };
        match bytes {
            Some(bytes) => self.out.push_back(Outgoing { bytes, parcel: true }),
            None => self.drop_one(),
        }
        self.wish(now);
    }

    fn drop_one(&mut self) {
        self.peers.dropped = self.peers.dropped.saturating_add(1);
    }

    fn wish(&mut self, now: Instant) {
        for wish in self.peers.wishes(now) {
            match wish {
                Wish::Permit(address) => self.ask(now, Ask::Permit(address), 0),
                Wish::Bind(peer, number) => self.ask(now, Ask::Bind(peer, number), 0),
            }
        }
    }

    /// Gives the allocation up.
    pub fn delete(&mut self, now: Instant) {
        self.pending.clear();
        self.out.clear();
        self.ask(now, Ask::Refresh(0), 0);
    }

    /// When [`tick`](Self::tick) is next due.
    pub fn due(&self, now: Instant) -> Instant {
        let pending = self.pending.iter().map(|pending| pending.due).min();
        let own = match self.stage {
            Stage::Allocated(_) => Some(self.refresh_at()),
            _ => None,
        };
        let peers = self.peers.due(now).filter(|_| own.is_some());
        // Nothing is due at all when it is over, and nobody waits for it then.
        pending.into_iter().chain(own).chain(peers).min().unwrap_or(now + QUIET)
    }

    fn refresh_at(&self) -> Instant {
        if self.pending.iter().any(|pending| matches!(pending.ask, Ask::Refresh(_))) {
            return self.expires;
        }
        let quiet = self.sent.min(self.received).max(self.refreshed) + QUIET;
        quiet.min(self.refresh)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        let due: Vec<Pending> = self.pending.extract_if(.., |pending| pending.due <= now).collect();
        for mut pending in due {
            if self.stream || pending.tries >= TRIES {
                self.unanswered(now, pending.ask);
                continue;
            }
            self.out.push_back(Outgoing { bytes: pending.bytes.clone(), parcel: false });
            pending.tries += 1;
            pending.due =
                now + if pending.tries == TRIES { LAST_PAUSE } else { RTO * (1 << (pending.tries - 1)) };
            self.pending.push(pending);
        }
        if !matches!(self.stage, Stage::Allocated(_)) {
            return;
        }
        if self.expires <= now {
            return self.over(Failure::Lost);
        }
        if self.refresh_at() <= now {
            self.refreshed = now;
            self.ask(now, Ask::Refresh(LIFETIME), 0);
        }
        self.wish(now);
    }

    fn unanswered(&mut self, now: Instant, ask: Ask) {
        match ask {
            Ask::Allocate(_) => self.over(if self.garbage { Failure::NotTurn } else { Failure::Silent }),
            Ask::Refresh(0) => self.stage = Stage::Deleted,
            Ask::Refresh(_) => self.over(Failure::Lost),
            Ask::Permit(address) => self.peers.permission_unanswered(now, address),
            Ask::Bind(peer, number) => self.peers.bound(now, peer, number, None),
        }
    }

    /// Takes a message of the server: a datagram of a peer, if it is one, and where in it that lies.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
        let from = if let Some((number, data)) = message::from_channel(bytes) {
            self.peers.on(number).map(|peer| (peer, data))
        } else if let Some((peer, data)) = message::from_indication(bytes) {
            self.peers.permits(peer.ip()).then_some((peer, data))
        } else {
            self.answer(now, bytes);
            None
        }?;
        self.received = now;
        (from.1.len() <= LONGEST).then_some(from)
    }

    fn answer(&mut self, now: Instant, bytes: &[u8]) {
        let at =
            message::answers(bytes).and_then(|id| self.pending.iter().position(|pending| pending.id == id));
        let Some(at) = at else {
            self.garbage = true;
            return;
        };
        let Some((ask, signed, challenges)) =
            self.pending.get(at).map(|pending| (pending.ask, pending.signed, pending.challenges))
        else {
            return;
        };
        let answer = self.access.answer(bytes, ask, signed);
        if answer == Answer::Invalid {
            // As if it had not come (RFC 8489, 9.2.5); a genuine one may follow.
            self.garbage = true;
            return;
        }
        self.pending.remove(at);
        (self.heard, self.received) = (true, now);
        match answer {
            Answer::Yes { lifetime, relayed } => self.granted(now, ask, lifetime, relayed),
            Answer::No(code) => self.refused(now, ask, code),
            // Asked and signed, and still unknown; who asks again with the same gets the same.
            Answer::Challenge { code, changed }
                if challenges >= CHALLENGES
                    || !changed
                    || (signed && code == ErrorCode::UNAUTHORIZED && matches!(ask, Ask::Allocate(_))) =>
            {
                self.refused(now, ask, ErrorCode::UNAUTHORIZED);
            }
            Answer::Challenge { .. } => self.ask(now, ask, challenges + 1),
            Answer::Invalid => {}
        }
    }

    fn granted(&mut self, now: Instant, ask: Ask, lifetime: Option<u32>, relayed: Option<SocketAddr>) {
        match ask {
            Ask::Allocate(_) => match relayed.filter(|at| at.port() != 0 && !at.ip().is_unspecified()) {
                Some(relayed) => {
                    self.stage = Stage::Allocated(relayed);
                    self.keep(now, lifetime);
                    self.wish(now);
                }
                None => self.over(Failure::NotTurn),
            },
            Ask::Refresh(0) => self.stage = Stage::Deleted,
            Ask::Refresh(_) => self.keep(now, lifetime),
            Ask::Permit(address) => {
                self.peers.permitted(now, address, true);
                self.send_waiting(now, address);
            }
            Ask::Bind(peer, number) => {
                self.peers.bound(now, peer, number, Some(true));
                self.send_waiting(now, peer.ip());
            }
        }
    }

    fn send_waiting(&mut self, now: Instant, address: std::net::IpAddr) {
        for (peer, payload) in self.peers.take_waiting(now, address) {
            self.send(now, Parcel { peer, payload });
        }
    }

    fn keep(&mut self, now: Instant, lifetime: Option<u32>) {
        let lifetime = Duration::from_secs(lifetime.unwrap_or(LIFETIME).into()).max(SHORTEST);
        let ahead = AHEAD.min(lifetime / 2);
        (self.expires, self.refresh, self.refreshed) = (now + lifetime, now + (lifetime - ahead), now);
    }

    fn refused(&mut self, now: Instant, ask: Ask, code: u16) {
        tracing::debug!(?ask, code, "a relay refuses");
        match ask {
            Ask::Refresh(0) => self.stage = Stage::Deleted,
            Ask::Allocate(AddressFamily::IPV4) if code == ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED => {
                self.ask(now, Ask::Allocate(AddressFamily::IPV6), 0);
            }
            Ask::Allocate(_) => self.over(Failure::of(code)),
            Ask::Refresh(_) => self.over(Failure::Lost),
            // Whatever was asked, without an allocation it fails in this way.
            _ if matches!(
                code,
                ErrorCode::ALLOCATION_MISMATCH | ErrorCode::WRONG_CREDENTIALS | ErrorCode::UNAUTHORIZED
            ) =>
            {
                self.over(Failure::Lost);
            }
            Ask::Permit(address) => self.peers.permitted(now, address, false),
            Ask::Bind(peer, number) => self.peers.bound(now, peer, number, Some(false)),
        }
    }
}

/// Whether a datagram may be sent through a relay at all.
pub fn is_fit(parcel: &Parcel) -> bool {
    parcel.payload.len() <= LONGEST && parcel.peer.port() != 0 && !parcel.peer.ip().is_unspecified()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
