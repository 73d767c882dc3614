//! All peers of this host: how they are found, whose keys they are met with, and which of them are to be looked at.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use mast_proto::{IndexKey, Indices};

use crate::api::{PeerConfig, PlainPeer, PublicKey};
use crate::directory::Directory;
use crate::due::{Alarms, Touched};
use crate::os::Family;
use crate::peer::{Peer, PeerId};
use crate::wireguard::Identity;

/// The peers. Those that take leave are among them until they have gone; whoever looks for one by name or key does not
/// find it any more.
pub(crate) struct Peers {
    /// Each in a place of its own, so that the tree stays small and is quick to search.
    all: BTreeMap<PeerId, Box<Peer>>,
    /// The latest number given.
    latest: u32,
    directory: Directory,
    /// Tells which peer's context an index is of: each has its peer's number.
    key: IndexKey,
    alarms: Alarms,
    /// Those whose context may have something to send or to tell.
    touched: Touched,
    /// This host's key pairs: its own first, then those that WireGuard files brought.
    identities: Vec<Arc<Identity>>,
    own: Arc<Identity>,
}

/// What the data road works with.
pub(crate) struct Lent<'a> {
    pub all: &'a mut BTreeMap<PeerId, Box<Peer>>,
    pub key: &'a IndexKey,
    pub touched: &'a mut Touched,
}

impl Peers {
    /// None yet.
    pub fn new(own: Identity, key: IndexKey) -> Self {
        let own = Arc::new(own);
        Self {
            all: BTreeMap::new(),
            latest: 0,
            directory: Directory::default(),
            key,
            alarms: Alarms::default(),
            touched: Touched::default(),
            identities: vec![Arc::clone(&own)],
            own,
        }
    }

    pub fn get(&self, id: PeerId) -> Option<&Peer> {
        self.all.get(&id).map(|peer| &**peer)
    }

    /// A peer that may have something to send or to tell afterwards.
    pub fn touch(&mut self, id: PeerId) -> Option<&mut Peer> {
        let peer = self.all.get_mut(&id)?;
        self.touched.add(id);
        Some(peer)
    }

    /// A peer whose context is not called.
    pub fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.all.get_mut(&id).map(|peer| &mut **peer)
    }

    /// All, those that take leave included, to be looked at afterwards.
    pub fn touch_all(&mut self) -> impl Iterator<Item = &mut Peer> {
        let touched = &mut self.touched;
        self.all.iter_mut().map(|(id, peer)| {
            touched.add(*id);
            &mut **peer
        })
    }

    /// Those that do not take leave.
    pub fn present(&self) -> impl Iterator<Item = &Peer> {
        self.all.values().map(|peer| &**peer).filter(|peer| peer.leaving.is_none())
    }

    /// All, those that take leave included.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.all.iter().map(|(id, peer)| (*id, &**peer))
    }

    /// At most so many after `after`, in the order of their numbers.
    pub fn page(&self, after: Option<PeerId>, most: usize) -> impl Iterator<Item = (PeerId, &Peer)> + Clone {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.all.range((start, Bound::Unbounded)).take(most).map(|(id, peer)| (*id, &**peer))
    }

    /// Whether one is a full tunnel.
    pub fn has_full_tunnel(&self) -> bool {
        let full = |peer: &Peer| peer.config.plain.as_ref().and_then(PlainPeer::full_tunnel) == Some(true);
        self.present().any(full)
    }

    /// Whether one is, for this version of IP.
    pub fn has_full_tunnel_for(&self, family: Family) -> bool {
        let full = |peer: &Peer| peer.config.plain.as_ref().is_some_and(|plain| plain.is_full_for(family));
        self.present().any(full)
    }

    pub fn named(&self, name: &str) -> Option<PeerId> {
        self.directory.of_name(name).filter(|id| self.is_present(*id))
    }

    /// The peer of this key.
    pub fn of_key(&self, key: &PublicKey) -> Option<PeerId> {
        self.directory.of_key(key).filter(|id| self.is_present(*id))
    }

    /// The peer of this key, also one that takes leave.
    pub fn of_key_at_all(&self, key: &PublicKey) -> Option<PeerId> {
        self.directory.of_key(key)
    }

    fn is_present(&self, id: PeerId) -> bool {
        self.get(id).is_some_and(|peer| peer.leaving.is_none())
    }

    // Keys.

    /// This host's own key pair.
    pub fn own_identity(&self) -> &Arc<Identity> {
        &self.own
    }

    /// All key pairs of this host, its own first.
    pub fn identities(&self) -> &[Arc<Identity>] {
        &self.identities
    }

    /// The key pair that a peer is met with.
    pub fn identity_of(&mut self, config: &PeerConfig) -> Arc<Identity> {
        let Some(private) = config.plain.as_ref().and_then(|p| p.private_key.as_ref()) else {
            return Arc::clone(&self.own);
        };
        let identity = Identity::new(private);
        if let Some(known) = self.identities.iter().find(|i| i.public() == identity.public()) {
            return Arc::clone(known);
        }
        let identity = Arc::new(identity);
        self.identities.push(Arc::clone(&identity));
        identity
    }

    /// Whether a peer of this key is met with that key pair.
    pub fn meets(&self, key: &PublicKey, identity: &Arc<Identity>) -> Option<PeerId> {
        let meets = |id: &PeerId| self.get(*id).is_some_and(|p| Arc::ptr_eq(&p.session.identity, identity));
        self.of_key(key).filter(meets)
    }

    // Coming and going.

    /// The number of the next peer, and the indices of its context. Numbers come round, and by then those of most peers
    /// are free again.
    pub fn next(&mut self) -> (PeerId, Indices) {
        let taken = |number| self.all.contains_key(&PeerId(number));
        let most = IndexKey::CONTEXTS - 1;
        let numbers = (self.latest + 1..=most).chain(1..=self.latest.min(most));
        let id =
            PeerId(numbers.into_iter().find(|n| !taken(*n)).unwrap_or_else(|| self.latest.max(most) + 1));
        (id, self.key.indices(id.0))
    }

    /// Takes in a peer under the number that [`Self::next`] gave.
    pub fn insert(&mut self, id: PeerId, peer: Peer) {
        self.latest = id.0;
        self.directory.insert(id, &peer.config);
        self.all.insert(id, Box::new(peer));
    }

    /// Whether it was there.
    pub fn remove(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.all.remove(&id) else { return false };
        self.directory.remove(id, &peer.config);
        self.alarms.remove(id, &peer);
        let identity = &peer.session.identity;
        let used = Arc::ptr_eq(identity, &self.own)
            || self.all.values().any(|p| Arc::ptr_eq(&p.session.identity, identity));
        if !used {
            self.identities.retain(|i| !Arc::ptr_eq(i, identity));
        }
        true
    }

    // Who is to be looked at.

    /// When the first is due.
    pub fn due(&mut self) -> Option<Instant> {
        self.alarms.next(&mut self.all)
    }

    /// Takes one whose time has come. Its next alarm is set once it is looked at.
    pub fn take_due(&mut self, now: Instant) -> Option<(PeerId, &mut Peer)> {
        loop {
            let id = self.alarms.take(now, &mut self.all)?;
            if self.all.contains_key(&id) {
                self.touched.add(id);
                return self.all.get_mut(&id).map(|peer| (id, &mut **peer));
            }
        }
    }

    /// Takes one that was touched.
    pub fn take_touched(&mut self) -> Option<PeerId> {
        self.touched.take()
    }

    /// It may be due earlier than before.
    pub fn note_due(&mut self, id: PeerId) {
        if let Some(peer) = self.all.get_mut(&id) {
            self.alarms.advance(id, peer);
        }
    }

    /// Nobody needs to be looked at.
    pub fn rest(&mut self) {
        self.touched.clear();
    }

    pub fn lend(&mut self) -> Lent<'_> {
        Lent { all: &mut self.all, key: &self.key, touched: &mut self.touched }
    }
}
