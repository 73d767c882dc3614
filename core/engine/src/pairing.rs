//! Pairing: how two hosts that share an invite become peers.
//!
//! ```text
//! joiner                                                   inviter
//!   handshake from the temporary key, over all addresses ─►  knows the key from the secret
//!                                                        ◄─  handshake response          (WireGuard)
//!   JOIN {version, key, name, proof}                     ─►
//!                                                        ◄─  JOINED {name}  or  REFUSED {reason}
//! ```
//!
//! JOIN is repeated until it is answered; the same joiner gets the same answer again. Nothing else is ever accepted
//! from a key that is not a peer's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_proto::{Interface, PathKey, wire};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::api::{InviteId, InviteProblem, PublicKey, SecretKey};
use crate::inner;
use crate::invite::{Derived, Link};
use crate::os::Family;
use crate::wireguard::{Identity, Indices, Owner, Session};

/// Between two addresses of a round, so that the first that works wins and a slow one does not delay the rest.
const STAGGER: Duration = Duration::from_millis(50);
/// Between two rounds, and between two JOINs: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
/// No answer for so long is none.
const PATIENCE: Duration = Duration::from_secs(8);

/// A message of the pairing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Join(Join),
    Joined(Joined),
    Refused(Refused),
}

/// Asks to become a peer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Join {
    #[n(0)]
    pub version: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub public_key: [u8; 32],
    #[n(2)]
    pub name: String,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub proof: [u8; 32],
    /// Its account at a presence service.
    #[n(4)]
    pub account: Option<String>,
}

/// Grants it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Joined {
    #[n(0)]
    pub name: String,
    /// Its account at a presence service.
    #[n(1)]
    pub account: Option<String>,
}

/// Does not.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Refused {
    #[n(0)]
    pub reason: Reason,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum Reason {
    #[n(0)]
    Expired,
    #[n(1)]
    Used,
    /// The proof is wrong, or the key is the inviter's own.
    #[n(2)]
    Key,
    #[n(3)]
    Version,
}

impl Reason {
    /// What it means for whoever accepts.
    pub fn problem(self) -> InviteProblem {
        match self {
            Self::Expired => InviteProblem::SaidExpired,
            Self::Used => InviteProblem::SaidUsed,
            Self::Key => InviteProblem::SaidKey,
            Self::Version => InviteProblem::SaidVersion,
        }
    }
}

const JOIN: u8 = 101;
const JOINED: u8 = 102;
const REFUSED: u8 = 103;

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        let mut encoder = Encoder::new(&mut out);
        let result = match self {
            Self::Join(m) => encoder.array(2).and_then(|e| e.u8(JOIN)).and_then(|e| e.encode(m)).map(drop),
            Self::Joined(m) => {
                encoder.array(2).and_then(|e| e.u8(JOINED)).and_then(|e| e.encode(m)).map(drop)
            }
            Self::Refused(m) => {
                encoder.array(2).and_then(|e| e.u8(REFUSED)).and_then(|e| e.encode(m)).map(drop)
            }
        };
        debug_assert!(result.is_ok());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        if decoder.array().ok()? != Some(2) {
            return None;
        }
        let message = match decoder.u8().ok()? {
            JOIN => Self::Join(decoder.decode().ok()?),
            JOINED => Self::Joined(decoder.decode().ok()?),
            REFUSED => Self::Refused(decoder.decode().ok()?),
            _ => return None,
        };
        Some(message)
    }
}

/// An invite that is being accepted.
pub(crate) struct Joining {
    pub link: Link,
    /// What the user wants to call the inviter.
    pub name: Option<String>,
    pub session: Session,
    pub lasting_key: SecretKey,
    join: Vec<u8>,
    paths: Vec<PathKey>,
    queue: VecDeque<PathKey>,
    fresh: bool,
    /// Where the inviter answers.
    answers: Option<PathKey>,
    next: Instant,
    pause: Duration,
    deadline: Instant,
}

/// What a [`Joining`] wants to send.
pub(crate) enum Step {
    Send(PathKey, Vec<u8>),
    Wait,
    GiveUp,
}

impl Joining {
    /// `None` when no interface has an address of the inviter's families.
    pub fn new(
        now: Instant,
        link: Link,
        name: Option<String>,
        (identity, own_name, account): (&Identity, &str, Option<&str>),
        interfaces: &[Interface],
        indices: &Indices,
    ) -> Option<Self> {
        let paths = paths(&link.addresses, interfaces);
        if paths.is_empty() {
            return None;
        }
        let derived = Derived::new(&link.secret);
        let temporary = Arc::new(Identity::new(&derived.temporary_key()));
        let psk = derived.pairing_key();
        let session = Session::new(temporary, &link.public_key, Some(psk), None, indices);
        let shared = identity.shared(&link.public_key);
        let public_key = identity.public();
        let join = Message::Join(Join {
            version: wire::VERSION,
            public_key,
            name: own_name.to_owned(),
            proof: derived.proof(&link.public_key, &public_key, &shared),
            account: account.map(str::to_owned),
        });
        Some(Self {
            lasting_key: derived.lasting_key(&link.public_key, &public_key),
            join: join.encode(),
            session,
            name,
            queue: paths.iter().copied().collect(),
            paths,
            fresh: true,
            answers: None,
            next: now,
            pause: FIRST_PAUSE,
            deadline: now + PATIENCE,
            link,
        })
    }

    /// The handshake is complete over this path.
    pub fn secure_up(&mut self, now: Instant, path: PathKey) {
        if self.answers.is_none() {
            self.pause = FIRST_PAUSE;
            self.next = now;
        }
        self.answers = Some(path);
    }

    /// The addresses of the link, the one that answers first.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        let first = self.answers.map(|p| p.remote);
        let others = self.link.addresses.iter().copied().filter(|a| Some(*a) != first);
        first.into_iter().chain(others).collect()
    }

    pub fn timeout(&self) -> Instant {
        self.next.min(self.deadline)
    }

    /// Whether the inviter answered at all.
    pub fn was_answered(&self) -> bool {
        self.answers.is_some()
    }

    /// The next thing to do. Call it until it waits.
    pub fn poll(&mut self, now: Instant, indices: &mut Indices) -> Step {
        if now >= self.deadline {
            return Step::GiveUp;
        }
        if now < self.next {
            return Step::Wait;
        }
        if let Some(path) = self.answers {
            self.next = now + self.pause;
            self.pause *= 2;
            return match self.session.seal(&inner::wrap(&self.join)) {
                Some(packet) => Step::Send(path, packet.to_vec()),
                None => Step::Wait,
            };
        }
        let Some(path) = self.queue.pop_front() else {
            // The next round, with a new initiation.
            self.queue = self.paths.iter().copied().collect();
            self.fresh = true;
            self.next = now + self.pause;
            self.pause *= 2;
            return Step::Wait;
        };
        self.next = now + STAGGER;
        let (initiation, index) = self.session.initiate(std::mem::take(&mut self.fresh));
        indices.claim(index, Owner::Joining);
        Step::Send(path, initiation.to_vec())
    }
}

/// Every pair of a usable interface and an address of one of its families; for each address the interfaces in
/// turn, then the next address.
fn paths(addresses: &[SocketAddr], interfaces: &[Interface]) -> Vec<PathKey> {
    let of = |remote: &SocketAddr| {
        let (remote, family) = (*remote, Family::of(remote.ip()));
        let local = move |i: &Interface| i.addresses.iter().copied().find(|a| Family::of(*a) == family);
        let usable = interfaces.iter().filter(|i| i.usable);
        usable.filter_map(move |i| Some(PathKey::direct(i.id, local(i)?, remote))).collect::<Vec<_>>()
    };
    addresses.iter().flat_map(of).collect()
}

/// An invite that was given out: the keys by which whoever accepts it is known, and the session with it.
pub(crate) struct Inviting {
    pub number: u64,
    pub id: InviteId,
    pub temporary: PublicKey,
    pub session: Option<Session>,
    derived: Derived,
}

impl Inviting {
    pub fn new(number: u64, secret: &[u8; 32]) -> Self {
        let derived = Derived::new(secret);
        let temporary = Identity::new(&derived.temporary_key()).public();
        Self { number, id: derived.id(), temporary, session: None, derived }
    }

    /// The session; made when it is first needed.
    pub fn session(&mut self, identity: &Arc<Identity>, indices: &Indices) -> &mut Session {
        let (temporary, derived) = (&self.temporary, &self.derived);
        self.session.get_or_insert_with(|| {
            let psk = derived.pairing_key();
            Session::new(Arc::clone(identity), temporary, Some(psk), None, indices)
        })
    }

    /// Whether the joiner has the key that it names.
    pub fn is_proven(&self, identity: &Identity, join: &Join) -> bool {
        let own = identity.public();
        let proof = self.derived.proof(&own, &join.public_key, &identity.shared(&join.public_key));
        let difference = proof.iter().zip(join.proof).fold(0, |sum, (a, b)| sum | (a ^ b));
        difference == 0 && join.public_key != own
    }

    pub fn lasting_key(&self, identity: &Identity, joiner: &PublicKey) -> SecretKey {
        self.derived.lasting_key(&identity.public(), joiner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let account = Some("alice@example.org".to_owned());
        let join = Join { version: 1, public_key: [1; 32], name: "pi".into(), proof: [2; 32], account };
        for message in [
            Message::Join(join.clone()),
            Message::Join(Join { account: None, ..join.clone() }),
            Message::Joined(Joined { name: "gate".into(), account: join.account.clone() }),
            Message::Joined(Joined { name: "gate".into(), account: None }),
            Message::Refused(Refused { reason: Reason::Used }),
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Some(message));
            for end in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..end]), None);
            }
        }
    }

    #[test]
    fn a_joiner_must_have_the_key_that_it_names() {
        let inviter = Identity::new(&[5; 32]);
        let joiner = Identity::new(&[6; 32]);
        let other = Identity::new(&[7; 32]);
        let inviting = Inviting::new(1, &[9; 32]);
        let derived = Derived::new(&[9; 32]);
        let proof = |holder: &Identity, named: &Identity| {
            derived.proof(&inviter.public(), &named.public(), &holder.shared(&inviter.public()))
        };
        let join = |named: &Identity, proof| Join {
            version: 1,
            public_key: named.public(),
            name: "x".into(),
            proof,
            account: None,
        };
        assert!(inviting.is_proven(&inviter, &join(&joiner, proof(&joiner, &joiner))));
        assert!(!inviting.is_proven(&inviter, &join(&other, proof(&joiner, &other))));
        assert!(!inviting.is_proven(&inviter, &join(&inviter, proof(&inviter, &inviter))));
    }
}
