//! The other end: what it speaks, which of its lives this is, and what it said of itself.

use std::net::Ipv6Addr;

use super::path::Path;
use super::{PeerKind, PeerLink};
use crate::policy::Policy;
use crate::wire::{Address, AddressFlags, AddressId, AddressKind, Set};

/// What carries the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// Not known yet: first contact finds it out.
    Unknown,
    /// MAST: sealed datagrams, with PROBEs that measure the paths, and REPORTs.
    Mast,
    /// WireGuard alone: a handshake takes the place of a PROBE, and nothing is told of what arrives.
    WireGuard,
}

impl From<Option<PeerKind>> for Carrier {
    fn from(kind: Option<PeerKind>) -> Self {
        match kind {
            None => Self::Unknown,
            Some(PeerKind::Mast) => Self::Mast,
            Some(PeerKind::WireGuard) => Self::WireGuard,
        }
    }
}

/// What the other end's SET says.
#[derive(Debug)]
struct Told {
    sequence: u64,
    list: Vec<Address>,
    /// The policy that it wishes this end to send by.
    wished: Option<Policy>,
}

/// What is new when both ends have agreed on keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meeting {
    /// It has never been met, or was forgotten.
    pub first: bool,
    /// It started anew since.
    pub restarted: bool,
    /// It calls itself something else.
    pub changed: bool,
}

/// The other end.
#[derive(Debug)]
pub(super) struct Peer {
    carrier: Carrier,
    instance: Option<u64>,
    /// The one before its last restart.
    former: Option<u64>,
    name: String,
    eid_v6: Option<Ipv6Addr>,
    /// It ended the context, and has not come back.
    shut: bool,
    told: Option<Told>,
}

impl Peer {
    pub fn new(expected: Option<PeerKind>) -> Self {
        Self {
            carrier: expected.into(),
            instance: None,
            former: None,
            name: String::new(),
            eid_v6: None,
            shut: false,
            told: None,
        }
    }

    /// What it speaks, once known.
    pub fn kind(&self) -> Option<PeerKind> {
        match self.carrier {
            Carrier::Unknown => None,
            Carrier::Mast => Some(PeerKind::Mast),
            Carrier::WireGuard => Some(PeerKind::WireGuard),
        }
    }

    /// Whether WireGuard alone carries its data.
    pub fn is_plain(&self) -> bool {
        self.carrier == Carrier::WireGuard
    }

    /// Whether it is known to speak MAST.
    pub fn is_mast(&self) -> bool {
        self.carrier == Carrier::Mast
    }

    /// It turned out to speak this; whether that is news.
    pub fn speaks(&mut self, kind: PeerKind) -> bool {
        let before = std::mem::replace(&mut self.carrier, Some(kind).into());
        before != self.carrier
    }

    /// Whether it was met, and not forgotten since.
    pub fn is_met(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether this is the life that it has now.
    pub fn is_now(&self, instance: u64) -> bool {
        self.instance == Some(instance)
    }

    /// Whether this is the life before its last restart.
    pub fn was(&self, instance: u64) -> bool {
        self.former == Some(instance)
    }

    /// Both ends have agreed on keys.
    pub fn meet(&mut self, instance: u64, name: &str, eid_v6: Ipv6Addr) -> Meeting {
        let before = self.instance.replace(instance);
        let restarted = before.is_some_and(|before| before != instance);
        let first = before.is_none();
        if restarted {
            self.former = before;
        }
        if restarted || first {
            self.told = None;
        }
        let changed = self.name != name || self.eid_v6 != Some(eid_v6);
        name.clone_into(&mut self.name);
        self.eid_v6 = Some(eid_v6);
        self.shut = false;
        Meeting { first, restarted, changed }
    }

    /// The context is over.
    pub fn forget(&mut self) {
        self.told = None;
        self.instance = None;
    }

    /// What it calls itself. Untrusted text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv6 EID, as it claims it.
    pub fn eid_v6(&self) -> Option<Ipv6Addr> {
        self.eid_v6
    }

    /// Whether it ended the context, and has not come back.
    pub fn is_shut(&self) -> bool {
        self.shut
    }

    /// It ended the context (`true`), or is wanted again.
    pub fn set_shut(&mut self, shut: bool) {
        self.shut = shut;
    }

    /// Takes in its SET; whether that is newer than what it said before.
    pub fn take(&mut self, set: Set) -> bool {
        let newer = self.told.as_ref().is_none_or(|told| set.sequence > told.sequence);
        if newer {
            let wished = set.mode.and_then(Policy::wished);
            self.told = Some(Told { sequence: set.sequence, list: set.addresses, wished });
        }
        newer
    }

    /// The addresses in its SET.
    pub fn addresses(&self) -> &[Address] {
        self.told.as_ref().map_or(&[], |told| &told.list)
    }

    /// The policy that it wishes this end to send by.
    pub fn wished(&self) -> Option<&Policy> {
        self.told.as_ref()?.wished.as_ref()
    }

    /// What its SET says of the address that a path leads to.
    fn entry(&self, path: &Path) -> Option<&Address> {
        let list = self.addresses();
        list.iter()
            .find(|a| Some(a.id) == path.peer_address)
            .or_else(|| list.iter().find(|a| a.at == path.key.remote && a.kind != AddressKind::Outward))
    }

    /// What it says of the address that a path leads to: priority, flags, metered.
    pub fn wish(&self, path: &Path) -> (u8, AddressFlags, bool) {
        self.entry(path).map_or((0, AddressFlags::default(), false), |a| (a.priority, a.flags, a.metered))
    }

    /// Its link that a path leads to.
    pub fn link(&self, path: &Path) -> PeerLink {
        match self.entry(path) {
            Some(Address { link: Some(number), .. }) => PeerLink::Number(*number),
            // A host's address and what is seen of it from outside are one.
            Some(entry) => PeerLink::Address(AddressId(entry.id.0 & !AddressId::REFLEXIVE)),
            None => PeerLink::Unknown(path.key.remote.ip()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd4d, 0, 0, 0, 0, 0, 0, n)
    }

    #[test]
    fn a_meeting_tells_what_is_new() {
        let mut peer = Peer::new(Some(PeerKind::Mast));
        let all = Meeting { first: true, restarted: false, changed: true };
        assert_eq!(peer.meet(7, "a", eid(1)), all);
        let none = Meeting { first: false, restarted: false, changed: false };
        assert_eq!(peer.meet(7, "a", eid(1)), none);
        assert_eq!(peer.meet(7, "b", eid(1)), Meeting { changed: true, ..none });
        assert_eq!(peer.meet(8, "b", eid(1)), Meeting { restarted: true, ..none });
        assert!(peer.was(7) && peer.is_now(8) && !peer.is_now(7));
        peer.forget();
        assert!(!peer.is_met() && peer.meet(8, "b", eid(1)).first);
    }

    #[test]
    fn an_older_set_says_nothing_and_a_restart_ends_it() {
        let mut peer = Peer::new(None);
        peer.meet(1, "", eid(1));
        let set = |sequence| Set { sequence, addresses: vec![], mode: None };
        assert!(peer.take(set(5)) && !peer.take(set(5)) && !peer.take(set(4)) && peer.take(set(6)));
        peer.meet(2, "", eid(1));
        assert!(peer.take(set(1)), "the new life counts anew");
    }

    #[test]
    fn an_address_and_how_it_is_seen_from_outside_are_one_link() {
        use crate::interface::InterfaceId;
        use crate::wire::PathId;

        let at = |n: u8| std::net::SocketAddr::from(([192, 0, 2, n], 6278));
        let mut peer = Peer::new(Some(PeerKind::Mast));
        let address = |id: u8, kind, link| Address {
            id: AddressId(id),
            at: at(id),
            kind,
            priority: 9,
            metered: false,
            flags: AddressFlags::default(),
            link,
        };
        let seen = 3 | AddressId::REFLEXIVE;
        let addresses = vec![
            address(3, AddressKind::Host, None),
            address(seen, AddressKind::Host, None),
            address(4, AddressKind::Host, Some(7)),
        ];
        assert!(peer.take(Set { sequence: 1, addresses, mode: None }));
        let link = |n: u8| {
            let key = crate::context::PathKey::direct(InterfaceId(1), [198, 51, 100, 1].into(), at(n));
            peer.link(&Path::new(key, PathId(0), AddressId(0)))
        };
        assert_eq!((link(3), link(seen)), (PeerLink::Address(AddressId(3)), PeerLink::Address(AddressId(3))));
        assert_eq!(link(4), PeerLink::Number(7));
        assert_eq!(link(5), PeerLink::Unknown(at(5).ip()), "it said nothing of that");
    }

    #[test]
    fn what_it_speaks_is_news_once() {
        let mut peer = Peer::new(None);
        assert!(peer.kind().is_none() && !peer.is_plain() && !peer.is_mast());
        assert!(peer.speaks(PeerKind::WireGuard) && !peer.speaks(PeerKind::WireGuard) && peer.is_plain());
        assert!(peer.speaks(PeerKind::Mast) && peer.is_mast());
    }
}
