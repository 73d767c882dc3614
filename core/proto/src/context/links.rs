//! Links: what fails together, and is paid for together.
//!
//! A link is an interface at the end that has it. A path joins one of this end's to one of the other's, and most often
//! several paths do: one for each version of IP, one for each pair of addresses. So whoever wants *two different* ways
//! (a standby, copies, the redundant and the bonded mode, the order of probing) asks how many links two paths share.

use super::path::Path;
use super::{Context, PathState};
use crate::interface::InterfaceId;
use crate::wire::AddressId;

/// One of the other end's links, as far as this end can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerLink {
    /// By the number in its SET.
    Number(u8),
    /// Its SET gives no number: then each of its addresses is a link of its own.
    Address(AddressId),
    /// Nothing is known of the address yet.
    Unknown(std::net::IpAddr),
}

/// A link of either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// This end's interface.
    Own(InterfaceId),
    /// The other end's.
    Peer(PeerLink),
}

/// How alike two paths are: how many links they share, then whether they are of one version of IP. The less the better
/// for whoever wants two different ways.
pub(super) type Likeness = (u8, bool);

impl Context {
    /// Whether a path is of a link.
    pub(super) fn is_of(&self, path: &Path, link: Link) -> bool {
        match link {
            Link::Own(interface) => path.key.interface == interface,
            Link::Peer(link) => self.peer.link(path) == link,
        }
    }

    /// At how many ends two paths share a link: 0 to 2.
    pub(super) fn shared(&self, one: &Path, other: &Path) -> u8 {
        u8::from(one.key.interface == other.key.interface)
            + u8::from(self.peer.link(one) == self.peer.link(other))
    }

    /// How alike two paths are.
    pub(super) fn likeness(&self, one: &Path, other: &Path) -> Likeness {
        (self.shared(one, other), one.key.remote.is_ipv6() == other.key.remote.is_ipv6())
    }

    /// Whether another path joins the same two links, and carries data or comes first.
    pub(super) fn is_second_of_its_links(&self, path: &Path) -> bool {
        self.active != Some(path.id)
            && self.paths.iter().any(|p| {
                p.id != path.id
                    && p.state == PathState::Validated
                    && (self.active == Some(p.id) || p.id < path.id)
                    && self.shared(p, path) == 2
            })
    }

    /// A drill silences the link of this path.
    pub(super) fn is_silenced(&self, path: &Path) -> bool {
        self.silenced.is_some_and(|link| self.is_of(path, link))
    }

    /// The active path fell silent. What shares a link with it is doubted until something is heard over it.
    pub(super) fn doubt_alike(&mut self, at: usize) {
        let Some(silent) = self.paths.get(at) else { return };
        let doubts: Vec<u8> = self
            .paths
            .iter()
            .map(|p| {
                if p.id == silent.id || p.state != PathState::Validated { 0 } else { self.shared(p, silent) }
            })
            .collect();
        for (path, doubt) in self.paths.iter_mut().zip(doubts) {
            path.doubt = path.doubt.max(doubt);
        }
    }
}
