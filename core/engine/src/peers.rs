//! All peers of this host: how they are found, whose keys they are met with, and which of them are to be looked at.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use mast_proto::Random;

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
    /// Whose a context's index is.
    by_index: HashMap<u32, PeerId>,
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
    pub by_index: &'a HashMap<u32, PeerId>,
    pub touched: &'a mut Touched,
}

impl Peers {
    /// None yet.
    pub fn new(own: Identity) -> Self {
        let own = Arc::new(own);
        Self {
            all: BTreeMap::new(),
            latest: 0,
            directory: Directory::default(),
            by_index: HashMap::new(),
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

    /// Every key pair of this host begins another life.
    pub fn renew_instances(&self, random: &mut Random) {
        for identity in &self.identities {
            identity.renew(random.u64());
        }
    }

    /// The key pair that a peer is met with.
    pub fn identity_of(&mut self, config: &PeerConfig, random: &mut Random) -> Arc<Identity> {
        let Some(private) = config.plain.as_ref().and_then(|p| p.private_key.as_ref()) else {
            return Arc::clone(&self.own);
        };
        let identity = Identity::new(private, random.u64());
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

    /// An index for a context that no other has.
    pub fn free_index(&self, random: &mut Random) -> u32 {
        loop {
            let index = (random.u64() >> 32) as u32;
            if index != 0 && !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    pub fn insert(&mut self, peer: Peer) -> PeerId {
        self.latest += 1;
        let id = PeerId(self.latest);
        self.by_index.insert(peer.context.index().0, id);
        self.directory.insert(id, &peer.config);
        self.all.insert(id, Box::new(peer));
        id
    }

    /// Whether it was there.
    pub fn remove(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.all.remove(&id) else { return false };
        self.by_index.remove(&peer.context.index().0);
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
        Lent { all: &mut self.all, by_index: &self.by_index, touched: &mut self.touched }
    }
}
