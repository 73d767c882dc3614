//! Finding a peer that moves (draft-crocker-mast-analysis-00, sections 1.1 and 2.1): two hosts that both lost their
//! addresses at the same time meet again by a third party that exists anyhow, such as DNS or a presence service.
//!
//! A [`Rendezvous`] is one such third party. It is told what this end has to tell ([`Own`]), and tells where peers are
//! ([`Found`]) and how it fares ([`Health`]). Any number run at once, each by itself: one that hangs holds up no other. What
//! they find are candidates, which a context validates before it believes them; nothing here touches a context, and
//! nothing here is trusted.

#![forbid(unsafe_code)]

pub mod dns;
#[doc(hidden)]
pub mod fuzzing;
pub mod lan;
pub mod presence;
pub mod sealed;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub mod turn;

/// A peer's identity: its Curve25519 public key.
pub type PeerKey = [u8; 32];

/// The most addresses of one peer that a rendezvous finds; what comes beyond is left out.
pub const MOST_ADDRESSES: usize = 16;

/// What one peer may be told, and by which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What only the two ends of the pair know; each rendezvous derives keys of its own from it.
    pub secret: PairSecret,
    /// The addresses that this peer may learn, the best first.
    pub addresses: Vec<SocketAddr>,
}

/// What the two ends of a pair share: it follows from the two identities (X25519) and never leaves the host.
#[derive(Clone, PartialEq, Eq)]
pub struct PairSecret(pub [u8; 32]);

impl std::fmt::Debug for PairSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairSecret(..)")
    }
}

/// What this end has to tell now. Nothing else ever leaves by a rendezvous.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// This end's identity.
    pub key: PeerKey,
    /// What anybody may read, such as a record of DNS; empty where no peer may be told addresses.
    pub public: Vec<SocketAddr>,
    /// The addresses of the uplinks that are of use now. They are for this end alone: what is told stands in the others.
    pub here: Vec<IpAddr>,
    /// What each peer may be told, sealed for it.
    pub peers: BTreeMap<PeerKey, Told>,
}

/// Where a peer is, as a rendezvous says; it replaces what this rendezvous said of the peer before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which peer.
    pub peer: PeerKey,
    /// Where it may be reached, the best first; at most [`MOST_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// How long that holds, from now on.
    pub lifetime: Duration,
}

/// How a rendezvous fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    /// It has not been answered yet.
    #[default]
    Starting,
    /// It was answered.
    Working,
    /// It cannot be used: why, and what helps. It goes on trying by itself unless the remedy is the user's.
    Failed {
        /// One sentence.
        why: String,
        /// One sentence.
        remedy: String,
    },
}

/// How a rendezvous speaks with the service.
#[derive(Debug)]
pub struct Posts {
    /// What this end has to tell; it changes when addresses or peers do.
    pub own: watch::Receiver<Own>,
    /// Where peers are.
    pub found: mpsc::Sender<Found>,
    /// How it fares.
    pub health: watch::Sender<Health>,
}

/// A third party by which peers find each other.
pub trait Rendezvous: Send + 'static {
    /// What it is called in what users read, such as `presence`.
    fn name(&self) -> &'static str;

    /// Runs until it is dropped, or until [`Posts::own`] closes.
    fn run(self, posts: Posts) -> impl Future<Output = ()> + Send;
}
