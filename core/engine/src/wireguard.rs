//! WireGuard sessions, by gotatun.
//!
//! With a MAST peer WireGuard makes first contact, authenticates, and agrees on keys; the context says when. With
//! a plain WireGuard peer it also carries the data, and keeps its own timers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult, handshake};
use gotatun::packet::{Packet, WgHandshakeInit, WgKind};
use gotatun::tun::MtuWatcher;
use gotatun::x25519::{PublicKey as Public, StaticSecret};
use mast_proto::{PathKey, Role};
use zeroize::Zeroizing;

use crate::api::{PublicKey, SecretKey};
use crate::peer::PeerId;

/// Handshakes per second from one address that are answered without proof that the address is real.
const HANDSHAKES_PER_SECOND: u64 = 100;
/// Initiations per second from all addresses together that are answered without that proof, and so many at once: each
/// costs several key agreements, some 0.3 ms, and a recorded one is as good as a new one until it was decrypted. Beyond,
/// everybody has to prove their address (the WireGuard paper, section 5.3).
const UNPROVEN: (f64, f64) = (100.0, 200.0);
/// And with that proof: somebody may have very many addresses.
const PROVEN: (f64, f64) = (1_000.0, 1_000.0);
/// Keys of a session that the protocol no longer needs are forgotten after so long (WireGuard's REJECT_AFTER_TIME).
const FORGET: Duration = Duration::from_secs(180);
/// Or a little later, while another handshake is tried.
const GRACE: Duration = Duration::from_secs(30);

/// Indices that are no longer in use are not worth looking for among so few.
const FEW_INDICES: usize = 64;

/// One of this host's key pairs: its own, or that of an imported WireGuard configuration.
pub(crate) struct Identity {
    private: StaticSecret,
    public: Public,
    limiter: Arc<RateLimiter>,
    /// Takes nobody's word for an address.
    strict: RateLimiter,
    unproven: Mutex<Bucket>,
    proven: Mutex<Bucket>,
}

/// So many in a second, and so many at once.
struct Bucket {
    limits: (f64, f64),
    left: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn new(limits: (f64, f64)) -> Mutex<Self> {
        Mutex::new(Self { limits, left: limits.1, at: None })
    }

    fn take(&mut self, now: Instant) -> bool {
        let (rate, most) = self.limits;
        if let Some(before) = self.at.replace(now) {
            let passed = now.saturating_duration_since(before).as_secs_f64();
            self.left = (self.left + passed * rate).min(most);
        }
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

impl Identity {
    pub fn new(private: &[u8; 32]) -> Self {
        let private = StaticSecret::from(*private);
        let public = Public::from(&private);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND));
        let strict = RateLimiter::new(&public, 0);
        Self {
            private,
            public,
            limiter,
            strict,
            unproven: Bucket::new(UNPROVEN),
            proven: Bucket::new(PROVEN),
        }
    }

    pub fn public(&self) -> PublicKey {
        *self.public.as_bytes()
    }

    fn tunn(
        &self,
        other: Public,
        preshared_key: Option<SecretKey>,
        keepalive: Option<u16>,
        table: &IndexTable,
    ) -> Tunn {
        let limiter = Arc::clone(&self.limiter);
        Tunn::new(
            self.private.clone(),
            other,
            preshared_key.map(|key| *key),
            keepalive,
            table.clone(),
            limiter,
        )
    }

    /// The secret shared with the holder of another key.
    pub fn shared(&self, other: &PublicKey) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.private.diffie_hellman(&Public::from(*other)).as_bytes())
    }

    /// Checks a handshake message's first MAC, and under load the sender's address.
    pub fn verify(&self, now: Instant, from: SocketAddr, message: &[u8]) -> Verified {
        let verified = Self::verify_by(&self.limiter, from, message);
        // A response is decrypted for a handshake of this end's own alone.
        let begins = matches!(verified, Verified::Yes(WgKind::HandshakeInit(_)));
        if !begins || take(&self.unproven, now) {
            return verified;
        }
        match Self::verify_by(&self.strict, from, message) {
            Verified::Yes(_) if !take(&self.proven, now) => Verified::No,
            verified => verified,
        }
    }

    fn verify_by(limiter: &RateLimiter, from: SocketAddr, message: &[u8]) -> Verified {
        limiter.try_reset_count();
        match limiter.verify_packet(from, Packet::copy_from(message)) {
            Ok(message) => Verified::Yes(message),
            Err(TunnResult::WriteToNetwork(cookie)) => Verified::Cookie(cookie.into()),
            Err(_) => Verified::No,
        }
    }

    /// Who sent a handshake initiation, if it was made for this identity.
    pub fn sender(&self, initiation: &WgHandshakeInit) -> Option<PublicKey> {
        let half = handshake::parse_handshake_anon(&self.private, &self.public, initiation).ok()?;
        Some(half.peer_static_public)
    }
}

fn take(bucket: &Mutex<Bucket>, now: Instant) -> bool {
    bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now)
}

/// The wall clock, which people and programs set, and the one that only ever goes on.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    wall: SystemTime,
    steady: Instant,
}

impl Clocks {
    /// What the two differ by of themselves.
    const DRIFT: Duration = Duration::from_secs(2);

    fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    /// Whether the wall clock was put forward since `then`, or the machine slept.
    fn is_ahead_of(self, then: Self) -> bool {
        let expected = then.wall.checked_add(self.steady.saturating_duration_since(then.steady));
        expected.and_then(|at| self.wall.duration_since(at).ok()).is_some_and(|ahead| ahead > Self::DRIFT)
    }
}

/// The outcome of [`Identity::verify`].
pub(crate) enum Verified {
    Yes(WgKind),
    /// Too many come from there: answer with this, to learn whether the address is real.
    Cookie(Packet),
    No,
}

/// Whom a session belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Peer(PeerId),
    /// Somebody who holds the invite of this number.
    Invite(u64),
    /// The inviter whose invite is being accepted.
    Joining,
}

/// The indices of all sessions and handshakes under way.
pub(crate) struct Indices {
    table: IndexTable,
    owners: HashMap<u32, Owner>,
    /// So many are known before those that are no longer in use are forgotten.
    most: usize,
}

impl Indices {
    pub fn new() -> Self {
        Self { table: IndexTable::from_os_rng(), owners: HashMap::new(), most: FEW_INDICES }
    }

    /// Notes whose session an index is; forgets those that are no longer in use.
    pub fn claim(&mut self, index: Option<u32>, owner: Owner) {
        let Some(index) = index else { return };
        if self.owners.len() >= self.most {
            self.owners.retain(|index, _| self.table.in_use(*index));
            // Twice as many as are in use: so it costs the same for each claim, however many there are.
            self.most = (2 * self.owners.len()).max(FEW_INDICES);
        }
        self.owners.insert(index, owner);
    }

    /// Whose session a message other than an initiation belongs to.
    pub fn owner(&self, message: &[u8]) -> Option<Owner> {
        // A response has the sender's index first.
        let at = if message.first() == Some(&2) { 8 } else { 4 };
        let index = u32::from_le_bytes(message.get(at..at + 4)?.try_into().ok()?);
        self.owners.get(&index).copied()
    }
}

/// What a message brought.
#[derive(Default)]
pub(crate) struct Outcome {
    /// It was authentic. False for what only began a handshake.
    pub authentic: bool,
    /// To be sent back over the same path.
    pub reply: Option<Packet>,
    /// This host's index of the session that the reply begins.
    pub index: Option<u32>,
    /// A handshake is complete.
    pub complete: Option<Role>,
    /// It is not the latest that this end began.
    pub superseded: bool,
    /// What confirms it came over the path over which the response went.
    pub proven: bool,
    /// An IP datagram from inside the session.
    pub inner: Option<Packet>,
}

/// The WireGuard state shared with one other host.
pub(crate) struct Session {
    tunn: Tunn,
    /// The clocks when that was made: it dates its handshakes by the first and what has passed since.
    made: Clocks,
    other: Public,
    preshared_key: Option<SecretKey>,
    keepalive: Option<u16>,
    table: IndexTable,
    pub identity: Arc<Identity>,
    /// The latest initiation, to be sent again over other paths.
    initiation: Option<Packet>,
    /// This host's index of the latest initiation, whoever wanted it.
    latest: Option<u32>,
    /// The session that this end's response began: the other end must use it first.
    unconfirmed: Option<u32>,
    /// Over which that response went.
    responded: Option<PathKey>,
    complete_at: Option<Instant>,
    /// Somebody calls [`Session::tick`] every second.
    pub ticking: bool,
}

impl Session {
    pub fn new(
        identity: Arc<Identity>,
        other: &PublicKey,
        preshared_key: Option<SecretKey>,
        keepalive: Option<u16>,
        indices: &Indices,
    ) -> Self {
        let (other, table) = (Public::from(*other), indices.table.clone());
        let tunn = identity.tunn(other, preshared_key.clone(), keepalive, &table);
        Self {
            tunn,
            made: Clocks::now(),
            other,
            preshared_key,
            keepalive,
            table,
            identity,
            initiation: None,
            latest: None,
            unconfirmed: None,
            responded: None,
            complete_at: None,
            ticking: false,
        }
    }

    /// Forgets all keys of sessions: somebody else may have them.
    pub fn begin_anew(&mut self) {
        self.tunn = self.identity.tunn(self.other, self.preshared_key.clone(), self.keepalive, &self.table);
        self.made = Clocks::now();
        self.initiation = None;
        (self.latest, self.unconfirmed, self.responded, self.complete_at) = (None, None, None, None);
    }

    pub fn set_preshared_key(&mut self, key: Option<SecretKey>) {
        self.tunn.set_preshared_key(key.as_deref().copied());
        self.preshared_key = key;
    }

    /// A handshake initiation: a new one, or the latest again. The index comes with a new one.
    pub fn initiate(&mut self, fresh: bool) -> (&[u8], Option<u32>) {
        let mut index = None;
        if fresh || self.initiation.is_none() {
            self.follow_clock();
            self.keep_time();
            let initiation = self.tunn.format_handshake_initiation(true);
            index = initiation.as_ref().map(|i| i.sender_idx.get());
            self.latest = index.or(self.latest);
            self.initiation = initiation.map(Packet::into_bytes);
        }
        (self.initiation.as_deref().unwrap_or_default(), index)
    }

    /// Takes in a message whose MAC was verified.
    pub fn receive(&mut self, now: Instant, path: PathKey, message: WgKind) -> Result<Outcome, &'static str> {
        let mut outcome = Outcome::default();
        match &message {
            WgKind::HandshakeInit(_) => self.keep_time(),
            WgKind::HandshakeResp(response) => {
                outcome.complete = Some(Role::Initiator);
                outcome.superseded = self.latest.is_some_and(|latest| latest != response.receiver_idx.get());
            }
            WgKind::CookieReply(_) => {}
            WgKind::Data(data) => {
                if self.unconfirmed == Some(data.header.receiver_idx.get()) {
                    outcome.complete = Some(Role::Target);
                    outcome.proven = self.responded == Some(path);
                }
                outcome.authentic = true;
            }
        }
        match self.tunn.handle_incoming_packet(message) {
            TunnResult::Done => {}
            TunnResult::WriteToNetwork(reply) => {
                if let WgKind::HandshakeResp(response) = &reply {
                    outcome.index = Some(response.sender_idx.get());
                    self.unconfirmed = outcome.index;
                    self.responded = Some(path);
                } else {
                    outcome.authentic = true;
                }
                outcome.reply = Some(reply.into());
            }
            TunnResult::WriteToTunnel(inner) => outcome.inner = Some(inner).filter(|i| !i.is_empty()),
            TunnResult::Err(error) => return Err(counter(&error)),
        }
        if outcome.complete.is_some() {
            self.complete_at = Some(now);
            self.unconfirmed = None;
            self.initiation = None;
        }
        Ok(outcome)
    }

    /// Seals an IP datagram; `None` while there is no session.
    pub fn seal(&mut self, inner: &[u8]) -> Option<Packet> {
        self.tunn.encapsulate_with_session(Packet::copy_from(inner)).ok().map(Packet::into)
    }

    /// Seals an IP datagram; without a session it waits for one, and a handshake may begin.
    pub fn seal_or_queue(&mut self, inner: &[u8]) -> (Option<Packet>, Option<u32>) {
        let (message, index) = tagged(self.tunn.handle_outgoing_packet(Packet::copy_from(inner), None));
        self.latest = index.or(self.latest);
        (message, index)
    }

    /// Seals what waited for the session.
    pub fn queued(&mut self) -> Vec<Packet> {
        let mut mtu = MtuWatcher::new(u16::MAX);
        self.tunn.get_queued_packets(&mut mtu).map(Into::into).collect()
    }

    /// WireGuard's own timers, about once a second, where WireGuard carries the data.
    pub fn tick(&mut self) -> (Option<Packet>, Option<u32>) {
        let (message, index) = tagged(self.tunn.update_timers().ok().flatten());
        self.latest = index.or(self.latest);
        (message, index)
    }

    /// Forgets the keys of a session that is no longer needed. Tells when to be called again.
    pub fn forget(&mut self, now: Instant) -> Option<Instant> {
        let due = self.complete_at? + FORGET;
        if now < due {
            return Some(due);
        }
        if self.initiation.is_some() && now < due + GRACE {
            // A handshake may be under way.
            return Some(now + GRACE);
        }
        self.tunn.reset();
        self.unconfirmed = None;
        self.complete_at = None;
        None
    }

    /// Where the wall clock was put forward meanwhile, the other end may take every handshake for an old one, and would
    /// until a restart. There is no session to lose then, since none can begin.
    fn follow_clock(&mut self) {
        let now = Clocks::now();
        let refused = self.initiation.is_some();
        let alive = self.complete_at.is_some_and(|at| now.steady.saturating_duration_since(at) < FORGET);
        if refused && !alive && now.is_ahead_of(self.made) {
            tracing::info!("the clock was put forward: handshakes follow it");
            self.tunn =
                self.identity.tunn(self.other, self.preshared_key.clone(), self.keepalive, &self.table);
            self.made = now;
        }
    }

    /// gotatun's clock stands still unless its timers are run. What they would send is the context's business here.
    fn keep_time(&mut self) {
        if !self.ticking {
            let _ = self.tunn.update_timers();
        }
    }
}

/// A message, and the index that it brings when it is an initiation.
fn tagged(message: Option<WgKind>) -> (Option<Packet>, Option<u32>) {
    let index = match &message {
        Some(WgKind::HandshakeInit(initiation)) => Some(initiation.sender_idx.get()),
        _ => None,
    };
    (message.map(Packet::from), index)
}

fn counter(error: &gotatun::noise::errors::WireGuardError) -> &'static str {
    use gotatun::noise::errors::WireGuardError as E;
    match error {
        // The copies of one initiation that were raced over other paths end here too.
        E::WrongTai64nTimestamp => "handshake_repeated",
        E::DuplicateCounter | E::InvalidCounter => "wireguard_replayed",
        E::InvalidAeadTag | E::InvalidMac | E::WrongKey => "wireguard_not_authentic",
        E::NoCurrentSession | E::WrongIndex => "wireguard_unknown_session",
        _ => "wireguard_refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_put_forward_is_told_from_one_that_goes() {
        let then = Clocks::now();
        let later = |wall, steady| Clocks {
            wall: then.wall + Duration::from_secs(wall),
            steady: then.steady + Duration::from_secs(steady),
        };
        assert!(!later(3_600, 3_600).is_ahead_of(then));
        assert!(later(31_536_000, 30).is_ahead_of(then));
        let back = Clocks { wall: then.wall - Duration::from_secs(3_600), steady: then.steady };
        assert!(!back.is_ahead_of(then));
        assert!(then.is_ahead_of(back));
    }

    /// One initiation that was recorded, from everywhere: beyond the budget nobody is answered without a cookie, and who
    /// has one is.
    #[test]
    fn under_load_everybody_proves_their_address() {
        let (near, far) = (Identity::new(&[1; 32]), Arc::new(Identity::new(&[2; 32])));
        let indices = Indices::new();
        let mut session = Session::new(Arc::clone(&far), &near.public(), None, None, &indices);
        let initiation = session.initiate(true).0.to_vec();
        let now = Instant::now();
        let from = |n: u32| SocketAddr::from((n.to_be_bytes(), 6278));
        let mut answered = 0;
        let mut cookies = Vec::new();
        for n in 0..5_000 {
            match near.verify(now, from(0x0a00_0000 + n), &initiation) {
                Verified::Yes(_) => answered += 1,
                Verified::Cookie(cookie) => cookies.push(cookie),
                Verified::No => panic!("refused"),
            }
        }
        assert_eq!(answered, UNPROVEN.1 as usize);
        let path = PathKey::direct(mast_proto::InterfaceId(1), [10, 0, 0, 1].into(), from(1));
        let cookie = cookies.pop().expect("a cookie").try_into_wg().expect("a message");
        assert!(session.receive(now, path, cookie).is_ok(), "the cookie is taken");
        let initiation = session.initiate(true).0.to_vec();
        assert!(matches!(near.verify(now, from(0x0a00_0000 + 4_999), &initiation), Verified::Yes(_)));
        assert!(matches!(near.verify(now, from(1), &initiation), Verified::Cookie(_)), "of another address");
        let later = now + Duration::from_secs(1);
        let again =
            (0..5_000).filter(|n| matches!(near.verify(later, from(*n), &initiation), Verified::Yes(_)));
        assert_eq!(again.count(), UNPROVEN.0 as usize);
        let mut noise = initiation;
        noise[0] = 9;
        assert!(matches!(near.verify(later, from(1), &noise), Verified::No));
    }

    #[test]
    fn indices_that_are_no_longer_in_use_are_forgotten() {
        let mut indices = Indices::new();
        let kept: Vec<_> = (0..500).map(|_| indices.table.new_index()).collect();
        for index in &kept {
            indices.claim(Some(index.value()), Owner::Joining);
        }
        for round in 0..20_000 {
            // Freed at once.
            let index = indices.table.new_index().value();
            indices.claim(Some(index), Owner::Invite(round));
            assert!(indices.owners.len() <= 1_002, "{}", indices.owners.len());
        }
        assert!(kept.iter().all(|i| indices.owners.get(&i.value()) == Some(&Owner::Joining)));
    }
}
