//! The peers that are kept, in the order in which they came, found by key and by name, with what of them is not yet
//! written.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use mast_engine::api::PublicKey;

use super::format::StoredPeer;

/// The peers. No two have the same key.
#[derive(Debug, Default)]
pub(super) struct Book {
    peers: BTreeMap<u64, Arc<StoredPeer>>,
    by_key: HashMap<PublicKey, u64>,
    by_name: HashMap<String, u64>,
    next: u64,
    changes: BTreeMap<PublicKey, Change>,
}

/// What is to be written of a peer.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    /// It was removed since; it may have been added again.
    removed: bool,
}

/// Changes that are not yet written, each peer once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New or changed, in the order in which they came.
    pub peers: Vec<Arc<StoredPeer>>,
    /// Removed before these were added.
    pub removed: Vec<PublicKey>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.removed.is_empty()
    }
}

impl Book {
    /// Enters a peer, in the place of one of the same key, without noting a change.
    pub fn enter(&mut self, peer: StoredPeer) {
        let key = *peer.public_key.0;
        let at = *self.by_key.entry(key).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        let name = peer.name.clone();
        if let Some(before) = self.peers.insert(at, Arc::new(peer))
            && before.name != name
        {
            self.forget_name(&before.name, at);
        }
        self.by_name.insert(name, at);
    }

    /// Sets a peer, in the place of one of the same key.
    pub fn set(&mut self, peer: StoredPeer) {
        self.changes.entry(*peer.public_key.0).or_default();
        self.enter(peer);
    }

    /// Takes a peer out without noting a change; whether it was there.
    pub fn take(&mut self, key: &PublicKey) -> bool {
        let Some(at) = self.by_key.remove(key) else { return false };
        if let Some(peer) = self.peers.remove(&at) {
            self.forget_name(&peer.name, at);
        }
        true
    }

    /// Removes a peer; whether it was there.
    pub fn remove(&mut self, key: &PublicKey) -> bool {
        let there = self.take(key);
        if there {
            self.changes.entry(*key).or_default().removed = true;
        }
        there
    }

    fn forget_name(&mut self, name: &str, at: u64) {
        if self.by_name.get(name) == Some(&at) {
            self.by_name.remove(name);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &StoredPeer> {
        self.peers.values().map(|peer| &**peer)
    }

    /// All of them, for another thread.
    pub fn all(&self) -> Vec<Arc<StoredPeer>> {
        self.peers.values().cloned().collect()
    }

    pub fn get(&self, key: &PublicKey) -> Option<&StoredPeer> {
        self.shared(key).map(|peer| &**peer)
    }

    pub fn named(&self, name: &str) -> Option<&StoredPeer> {
        self.peers.get(self.by_name.get(name)?).map(|peer| &**peer)
    }

    fn shared(&self, key: &PublicKey) -> Option<&Arc<StoredPeer>> {
        self.peers.get(self.by_key.get(key)?)
    }

    /// Whether one was removed and that is not yet written.
    pub fn has_removed(&self) -> bool {
        self.changes.values().any(|change| change.removed)
    }

    /// What is not yet written.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        let mut ordered = BTreeMap::new();
        for (key, change) in &self.changes {
            if change.removed {
                changes.removed.push(*key);
            }
            if let Some(at) = self.by_key.get(key)
                && let Some(peer) = self.peers.get(at)
            {
                ordered.insert(at, Arc::clone(peer));
            }
        }
        changes.peers = ordered.into_values().collect();
        changes
    }

    /// Changes were written; what has changed since stays to be written.
    pub fn note_written(&mut self, written: &Changes) {
        for peer in &written.peers {
            if let Entry::Occupied(change) = self.changes.entry(*peer.public_key.0)
                && self
                    .by_key
                    .get(&*peer.public_key.0)
                    .and_then(|at| self.peers.get(at))
                    .is_some_and(|now| Arc::ptr_eq(now, peer))
            {
                change.remove();
            }
        }
        for key in &written.removed {
            if !self.by_key.contains_key(key) {
                self.changes.remove(key);
            }
        }
    }
}
