//! Where the other end may be reached: its addresses, by the source that each came from.
//!
//! Every source has a list of its own and replaces it as a whole; an address goes when the last source that named it
//! withdraws it, unless it answers. No source can push out another's: they take turns.

use std::net::{IpAddr, SocketAddr};

use crate::interface::InterfaceId;

/// Where an address of a peer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressSource {
    /// The user's configuration.
    Configuration,
    /// The invite by which the peer came.
    Invite,
    /// The peer's SET.
    Set,
    /// It answered there in an earlier run.
    EarlierRun,
    /// A host name that was looked up.
    Dns,
    /// Announcements in the local network.
    Lan,
    /// A STUN server (RFC 8489).
    Stun,
    /// A presence service.
    Presence,
    /// It is a peer of a peer that relays: its EID.
    Peers,
}

impl AddressSource {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 9] = [
        Self::Configuration,
        Self::Invite,
        Self::Set,
        Self::EarlierRun,
        Self::Dns,
        Self::Lan,
        Self::Stun,
        Self::Presence,
        Self::Peers,
    ];

    /// The word used in output and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Invite => "invite",
            Self::Set => "set",
            Self::EarlierRun => "earlier run",
            Self::Dns => "dns",
            Self::Lan => "lan",
            Self::Stun => "stun",
            Self::Presence => "presence",
            Self::Peers => "peers",
        }
    }

    /// The source that a word names, if it names one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// The addresses of one peer.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    /// What each source names, ordered by source; no empty lists.
    lists: Vec<(AddressSource, Vec<SocketAddr>)>,
    /// What answered, the latest last: it stays although no source names it (any more).
    known: Vec<SocketAddr>,
}

impl Remotes {
    /// The most addresses that are tried.
    pub const MOST: usize = 24;
    /// The most that are remembered because they answered.
    const MOST_KNOWN: usize = 8;

    /// Replaces what a source names. The addresses that no source names any more, and that did not answer.
    pub fn set(
        &mut self,
        source: AddressSource,
        list: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let mut new: Vec<SocketAddr> = Vec::new();
        for at in list {
            let sane = at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast();
            // More could never be tried.
            if sane && !new.contains(&at) && new.len() < Self::MOST {
                new.push(at);
            }
        }
        let place = self.lists.iter().position(|(s, _)| *s >= source).unwrap_or(self.lists.len());
        let old = match self.lists.get_mut(place).filter(|(s, _)| *s == source) {
            Some((_, list)) => std::mem::replace(list, new),
            None => {
                self.lists.insert(place, (source, new));
                Vec::new()
            }
        };
        self.lists.retain(|(_, list)| !list.is_empty());
        old.into_iter().filter(|at| !self.names(*at)).collect()
    }

    /// Whether some source names an address.
    pub fn names(&self, at: SocketAddr) -> bool {
        self.lists.iter().any(|(_, list)| list.contains(&at))
    }

    /// Whether an address is more than where something came from.
    pub fn vouches(&self, at: SocketAddr) -> bool {
        self.names(at) || self.is_known(at)
    }

    /// Whether an address is named by somebody else than the peer, or answered: whatever it gets is this end's will.
    pub fn is_own(&self, at: SocketAddr) -> bool {
        let own = |source: AddressSource| {
            !matches!(source, AddressSource::Set | AddressSource::Presence | AddressSource::Lan)
        };
        self.is_known(at) || self.lists.iter().any(|(source, list)| own(*source) && list.contains(&at))
    }

    /// Whether a round trip was completed to an address.
    pub fn is_known(&self, at: SocketAddr) -> bool {
        self.known.contains(&at)
    }

    /// A round trip was completed to an address. `used` tells whether one is needed: it does not give way.
    pub fn note_answer(&mut self, at: SocketAddr, used: impl Fn(SocketAddr) -> bool) {
        if self.known.last() == Some(&at) {
            return;
        }
        self.known.retain(|known| *known != at);
        if self.known.len() >= Self::MOST_KNOWN {
            let idle = self.known.iter().position(|known| !used(*known)).unwrap_or(0);
            self.known.remove(idle);
        }
        self.known.push(at);
    }

    /// It is not the other end's any more.
    pub fn forget(&mut self, at: SocketAddr) {
        self.known.retain(|known| *known != at);
    }

    /// What answered, the latest first.
    pub fn known(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.known.iter().rev().copied()
    }

    /// Where each address came from, for a user interface.
    pub fn sources(&self, at: SocketAddr) -> impl Iterator<Item = AddressSource> + '_ {
        self.lists.iter().filter(move |(_, list)| list.contains(&at)).map(|(s, _)| *s)
    }

    /// What is to be tried, in this order: what answered, then the first of each source, the second of each, and so
    /// on, so that a long list of one does not keep the others out.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.known().collect();
        let longest = self.lists.iter().map(|(_, list)| list.len()).max().unwrap_or(0);
        for place in 0..longest {
            for at in self.lists.iter().filter_map(|(_, list)| list.get(place)) {
                if all.len() >= Self::MOST {
                    return all;
                }
                if !all.contains(at) {
                    all.push(*at);
                }
            }
        }
        all
    }

    /// Gives room back.
    pub fn rest(&mut self) {
        self.lists.shrink_to_fit();
        self.known.shrink_to_fit();
    }
}

/// The interface over which alone an address is reached.
pub(super) fn zone(at: SocketAddr) -> Option<InterfaceId> {
    match at {
        SocketAddr::V6(at) if at.ip().is_unicast_link_local() => Some(InterfaceId(at.scope_id())),
        _ => None,
    }
}

/// Whether datagrams from an address of this end can reach one that has no zone.
pub(super) fn reaches(own: IpAddr, remote: SocketAddr) -> bool {
    let link_local = matches!(own, IpAddr::V6(own) if own.is_unicast_link_local());
    own.is_ipv6() == remote.is_ipv6() && !link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 6278))
    }

    #[test]
    fn each_source_replaces_its_own_list() {
        let mut remotes = Remotes::default();
        assert!(remotes.set(AddressSource::Dns, [at(1), at(2)]).is_empty());
        assert!(remotes.set(AddressSource::Configuration, [at(2), at(3)]).is_empty());
        assert_eq!(remotes.set(AddressSource::Dns, [at(4)]), [at(1)], "the other is configured, too");
        assert_eq!(remotes.candidates(), [at(2), at(4), at(3)]);
        assert_eq!(remotes.set(AddressSource::Dns, []), [at(4)]);
        assert_eq!(remotes.candidates(), [at(2), at(3)]);
        assert_eq!(remotes.sources(at(2)).collect::<Vec<_>>(), [AddressSource::Configuration]);
    }

    #[test]
    fn a_name_with_forty_addresses_leaves_room_for_the_others() {
        let mut remotes = Remotes::default();
        remotes.set(AddressSource::Dns, (1..=40).map(at));
        remotes.set(AddressSource::Configuration, (100..104).map(at));
        remotes.set(AddressSource::Set, (200..206).map(at));
        let candidates = remotes.candidates();
        assert_eq!(candidates.len(), Remotes::MOST);
        assert!((100..104).chain(200..206).all(|n| candidates.contains(&at(n))), "{candidates:?}");
    }

    #[test]
    fn what_answers_is_not_withdrawn_with_its_source() {
        let mut remotes = Remotes::default();
        remotes.set(AddressSource::Dns, [at(1)]);
        remotes.note_answer(at(1), |_| false);
        assert_eq!(remotes.set(AddressSource::Dns, []), [at(1)]);
        assert!(remotes.vouches(at(1)) && !remotes.names(at(1)));
        assert_eq!(remotes.candidates(), [at(1)]);
        remotes.forget(at(1));
        assert!(remotes.candidates().is_empty());
    }

    #[test]
    fn what_the_peer_says_of_itself_is_nobody_elses_word() {
        let mut remotes = Remotes::default();
        remotes.set(AddressSource::Set, [at(1)]);
        remotes.set(AddressSource::Presence, [at(2)]);
        remotes.set(AddressSource::Lan, [at(2)]);
        remotes.set(AddressSource::Invite, [at(3)]);
        assert!(!remotes.is_own(at(1)) && !remotes.is_own(at(2)) && !remotes.is_own(at(4)));
        assert!(remotes.is_own(at(3)));
        remotes.note_answer(at(1), |_| false);
        assert!(remotes.is_own(at(1)), "it answered");
    }

    #[test]
    fn of_what_answered_the_idlest_gives_way() {
        let mut remotes = Remotes::default();
        for n in 0..100 {
            remotes.note_answer(at(n), |a| a == at(0));
        }
        assert_eq!(remotes.known().count(), Remotes::MOST_KNOWN);
        assert!(remotes.is_known(at(0)) && remotes.is_known(at(99)) && !remotes.is_known(at(50)));
    }

    #[test]
    fn what_is_nobodys_address_is_left_out() {
        let mut remotes = Remotes::default();
        remotes.set(
            AddressSource::Set,
            ["0.0.0.0:1", "224.0.0.1:1", "192.0.2.1:0", "192.0.2.1:1"].map(|a| a.parse().unwrap()),
        );
        assert_eq!(remotes.candidates(), ["192.0.2.1:1".parse().unwrap()]);
    }
}
