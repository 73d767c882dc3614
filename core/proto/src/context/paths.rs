//! Which paths there are: each address of this end with each of the other's, straight or through a relay.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::epoch::EpochState;
use super::path::Path;
use super::remotes::{reaches, zone};
use super::{Context, PathKey, PathState, Reason, Via};
use crate::disclosure::{AddressesTold, private_block};
use crate::eid::is_eid;
use crate::wire::{AddressId, PathId};

impl Context {
    /// The most paths to where nobody names an address of the peer, and nothing was answered.
    const MAX_STRAY: usize = 4;
    /// The most addresses of the other end that are tried through one relay.
    const MAX_THROUGH_RELAY: usize = 6;

    /// There are relays to turn to, or none. Where there are, a peer that may learn no address but those that they lend is
    /// spoken with through them alone ([`AddressesTold::RelayedOnly`](crate::AddressesTold)).
    pub fn set_relays(&mut self, now: Instant, relays: bool) {
        self.relays = relays;
        self.hide(now);
    }

    /// Whether this end is spoken with through relays alone.
    pub fn is_hidden(&self) -> bool {
        self.relays && self.config.disclosure.addresses == AddressesTold::RelayedOnly
    }

    /// Gives up what the other end must not see.
    pub(super) fn hide(&mut self, now: Instant) {
        if !self.is_hidden() || self.paths.iter().all(|p| p.key.via != Via::Direct) {
            return;
        }
        while let Some(at) = self.paths.iter().position(|p| p.key.via == Via::Direct) {
            self.remove_path(now, at);
        }
        self.select(now, Reason::Policy);
    }

    /// The paths to addresses that no source names any more go, but for those that carry.
    pub(super) fn withdraw(&mut self, now: Instant, withdrawn: &[SocketAddr]) {
        for remote in withdrawn {
            let used = |p: &Path| p.key.remote == *remote && p.carries();
            if self.paths.iter().any(used) {
                continue;
            }
            self.remotes.forget(*remote);
            while let Some(at) = self.paths.iter().position(|p| p.key.remote == *remote) {
                self.remove_path(now, at);
            }
        }
    }

    /// Whether any path through a relay may carry data.
    pub fn is_relayed(&self) -> bool {
        self.paths.iter().any(|p| p.key.via != Via::Direct && p.carries())
    }

    /// Makes the paths that are possible and missing; those through relays last.
    pub(super) fn make_paths(&mut self, now: Instant) {
        let own: Vec<_> = self.locals.addresses().iter().map(|o| (o.interface, o.ip, o.relay)).collect();
        let candidates = self.remotes.candidates();
        let mut wanted = Vec::new();
        for &remote in candidates.iter().filter(|_| !self.is_hidden()) {
            // An EID is no place: it would lead into the tunnel again.
            if is_eid(remote.ip()) {
                continue;
            }
            match zone(remote) {
                // It is reached over its own link alone, from an address of the same scope (RFC 4007).
                Some(zone) => wanted.extend(
                    self.locals
                        .link_local(zone)
                        .map(|(interface, ip)| PathKey::direct(interface, ip, remote)),
                ),
                None => {
                    let from = own.iter().filter(|(_, ip, relay)| relay.is_none() && reaches(*ip, remote));
                    wanted.extend(from.map(|(interface, ip, _)| PathKey::direct(*interface, *ip, remote)));
                }
            }
        }
        for own in self.locals.addresses() {
            let (Some(number), Some(at)) = (own.relay, self.locals.at_relay(own)) else { continue };
            // A peer that relays leads to its peers, by their EIDs; any other relay to what everybody can reach. Neither to
            // itself but by mistake.
            let far = |remote: &&SocketAddr| {
                reaches(at.ip(), **remote)
                    && zone(**remote).is_none()
                    && (is_eid(at.ip()) || private_block(remote.ip()).is_none())
                    && is_eid(at.ip()) == is_eid(remote.ip())
                    && **remote != at
            };
            let through = candidates.iter().filter(far).take(Self::MAX_THROUGH_RELAY);
            wanted.extend(through.map(|remote| PathKey {
                via: Via::Relay(number),
                ..PathKey::direct(own.interface, own.ip, *remote)
            }));
        }
        for key in wanted {
            // An address of this very host, as a peer on the same network may list it.
            let here = key.via == Via::Direct
                && (key.local == key.remote.ip()
                    || own.iter().any(|(i, ip, _)| *i == key.interface && *ip == key.remote.ip()));
            if here || self.paths.iter().any(|p| p.key == key) {
                continue;
            }
            // What was known first comes first; only a path that never answered gives way.
            if self.paths.len() >= Self::MAX_PATHS {
                let hopeless = |p: &Path| p.state == PathState::Failed && p.acknowledged.is_none();
                let Some(at) = self.paths.iter().position(hopeless) else { return };
                self.paths.remove(at);
            }
            if let Some(at) = self.add_path(key) {
                self.send_probe(now, at);
            }
        }
    }

    /// This end is seen elsewhere now, and says so. What a NAT kept out until now it lets in once its own host has sent, so
    /// both ends try at once: the other because it is told, this one because it tells (RFC 5128, 3.3).
    pub(super) fn try_together(&mut self, now: Instant) {
        for at in 0..self.paths.len() {
            let Some(path) = self.paths.get(at) else { break };
            let hopeless = path.state == PathState::Failed && path.acknowledged.is_none();
            let alike = |p: &Path| p.address == path.address && p.carries();
            let wanted = path.key.via == Via::Direct && self.remotes.names(path.key.remote);
            if !hopeless || !wanted || self.paths.iter().any(alike) {
                continue;
            }
            if let Some(path) = self.paths.get_mut(at) {
                path.retry_pause = Duration::ZERO;
                path.state = PathState::Validating;
                path.probe = None;
            }
            self.send_probe(now, at);
        }
    }

    /// This end's number for the local address of a path.
    fn own_address(&mut self, key: PathKey) -> Option<AddressId> {
        if let Some(id) = self.locals.of(key) {
            return Some(id);
        }
        if !self.locals.has(key) {
            return None;
        }
        let paths = &self.paths;
        let in_use = |id| paths.iter().any(|p| p.address == id && p.carries());
        if let Some(gone) = self.locals.make_room(in_use).ok()? {
            self.paths.retain(|p| p.address != gone);
        }
        self.locals.number(key.interface, key.local, None);
        self.locals.of(key)
    }

    pub(super) fn add_path(&mut self, key: PathKey) -> Option<usize> {
        if let Some(at) = self.paths.iter().position(|p| p.key == key) {
            return Some(at);
        }
        if key.via == Via::Direct && self.is_hidden() {
            return None;
        }
        let address = self.own_address(key)?;
        // Somebody on the way may give each datagram another sender: that must not use up what others need.
        let stray =
            |p: &&Path| p.acknowledged.is_none() && !p.carries() && !self.remotes.vouches(p.key.remote);
        if !self.remotes.vouches(key.remote) && self.paths.iter().filter(stray).count() >= Self::MAX_STRAY {
            let idlest = self.paths.iter().filter(stray).min_by_key(|p| p.heard).map(|p| p.id);
            self.paths.retain(|p| Some(p.id) != idlest);
        }
        if self.paths.len() >= Self::MAX_PATHS {
            let worst = self.paths.iter().rposition(|p| !p.carries() && p.state != PathState::Validating)?;
            self.paths.remove(worst);
        }
        let id = self.free_path_id()?;
        let mut path = Path::new(key, id, address);
        path.remote_known = self.remotes.is_known(key.remote);
        if let Some((failures, at)) = self.locals.failures(key.interface) {
            (path.failures, path.failed_at) = (failures, Some(at));
        }
        self.paths.push(path);
        Some(self.paths.len() - 1)
    }

    /// The smallest number that no path has; one that no path had as long as there are such: its counters would go on, and
    /// tell who watches both networks that the two are of one context.
    fn free_path_id(&self) -> Option<PathId> {
        let free = |id: &PathId| !self.paths.iter().any(|p| p.id == *id);
        let mut ids =
            (0..EpochState::MAX_PATHS).filter_map(|id| u8::try_from(id).ok()).map(PathId).filter(free);
        let first = ids.clone().next();
        ids.find(|id| !self.keys.knows(*id)).or(first)
    }

    pub(super) fn remove_path(&mut self, now: Instant, at: usize) {
        if at >= self.paths.len() {
            return;
        }
        let mut path = self.paths.remove(at);
        let was_active = self.selection.is_active(path.id);
        if was_active {
            self.selection.open_gap(path.heard);
        }
        if path.carries() {
            path.note_failed(now);
            self.locals.note_gone(now, &path);
        }
        if was_active {
            self.selection.lose(path.key);
        }
    }
}
