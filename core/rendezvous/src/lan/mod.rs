//! Rendezvous in the local network, by multicast DNS (RFC 6762, `core/PROTOCOL.md`, section 26).
//!
//! A host asks for each of its peers by a name that only the two of them know, and that changes every [`EPOCH`]:
//!
//! ```text
//! ask     4f7c…d1.local. TXT ?        and, as what this end proposes,   83aa…02.local. TXT "sealed"
//! answer  4f7c…d1.local. TXT "sealed"
//! ```
//!
//! What is sealed is where its sender is on this very link. Whoever is no peer sees random bytes of a fixed length, and never
//! the same twice; nobody but a peer gets an answer, and all of it stays on the link. Hosts ask when they come to a network,
//! and while a peer is missed, less and less often; in between they only listen.

mod run;
mod station;
mod tag;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::watch;

pub use tag::EPOCH;

use crate::{PairSecret, PeerKey, Posts, Rendezvous};

/// The port of multicast DNS.
pub const PORT: u16 = 5353;
/// Its groups.
pub const GROUPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb))];
/// The most peers that are asked for, and answered; others are left out.
pub const MOST_PEERS: usize = 4096;
/// The most links on which they are; others are left out.
pub const MOST_LINKS: usize = 8;

/// Opens a socket on the interface of a name that hears what is sent to a group at [`PORT`], and sends to it from there.
pub type Open = Arc<dyn Fn(&str, IpAddr) -> io::Result<UdpSocket> + Send + Sync>;

/// A link of this host where peers may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The system's number of the interface, which is the zone of link-local addresses.
    pub number: u32,
    /// The interface's name.
    pub name: String,
    /// What its network is called, where that is known.
    pub network: Option<String>,
    /// Where this host is reached there, link-local addresses among them; the best first.
    pub addresses: Vec<SocketAddr>,
}

/// A peer that may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// What it shares with this host.
    pub secret: PairSecret,
    /// No path leads to it.
    pub missed: bool,
}

/// Who may be where. Nobody else is asked for, or answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Near {
    /// This host's identity.
    pub key: PeerKey,
    /// The peers that may know that this host is here.
    pub peers: BTreeMap<PeerKey, Neighbour>,
    /// The links. One that changed is asked over anew.
    pub links: Vec<Link>,
}

/// Finds peers in the local network, and is found there.
pub struct Lan {
    open: Open,
    near: watch::Receiver<Near>,
}

impl Lan {
    /// Makes one, which follows what is said of peers and links.
    pub fn new(open: Open) -> (Self, watch::Sender<Near>) {
        let (say, near) = watch::channel(Near::default());
        (Self { open, near }, say)
    }
}

impl Rendezvous for Lan {
    fn name(&self) -> &'static str {
        "lan"
    }

    async fn run(self, posts: Posts) {
        run::run(self.open, self.near, posts).await;
    }
}

/// Reads any bytes as what comes by multicast ([`crate::fuzzing`]).
pub(crate) fn fuzz(data: &[u8]) {
    if let Some(read) = wire::read(data) {
        assert!(read.asked.len() <= wire::MOST && read.records.len() <= wire::MOST);
    }
    station::fuzz(data);
}
