//! WireGuard messages from the network: whose they are, and what follows from them.

use std::sync::Arc;
use std::time::Instant;

use gotatun::packet::{Packet, WgKind};
use mast_proto::PathKey;

use crate::eid_book::Book;
use crate::engine::Engine;
use crate::inner;
use crate::os::Platform;
use crate::outside::is_stun;
use crate::peer::PeerId;
use crate::wireguard::{Outcome, Owner, Session, Verified};

impl<P: Platform> Engine<P> {
    /// A WireGuard message. What it holds for the host comes back, with the peer that it is from.
    pub(crate) fn wireguard(
        &mut self,
        now: Instant,
        path: PathKey,
        message: &[u8],
    ) -> Option<(PeerId, Packet)> {
        let length = message.len();
        if is_stun(message) {
            self.heed_outside(now, path, message);
            return None;
        }
        if message.first() == Some(&1) {
            self.initiation(now, path, message);
            return None;
        }
        let Some(owner) = self.net.indices.owner(message) else {
            self.net.counters.add("wireguard_unknown_session");
            return None;
        };
        let message = if message.first() == Some(&2) {
            let identity = self.session(owner).map(|s| Arc::clone(&s.identity))?;
            match identity.verify(now, path.remote, message) {
                Verified::Yes(message) => message,
                Verified::Cookie(cookie) => {
                    self.answer_cookie(path, &cookie);
                    return None;
                }
                Verified::No => {
                    self.net.counters.add("wireguard_not_authentic");
                    return None;
                }
            }
        } else if let Ok(message) = Packet::copy_from(message).try_into_wg() {
            message
        } else {
            self.net.counters.add("wireguard_malformed");
            return None;
        };
        self.accept(now, path, owner, message, length)
    }

    /// A handshake initiation: from a peer, or from somebody who holds an invite.
    fn initiation(&mut self, now: Instant, path: PathKey, message: &[u8]) {
        for at in 0..self.peers.identities().len() {
            let Some(identity) = self.peers.identities().get(at).map(Arc::clone) else { return };
            let initiation = match identity.verify(now, path.remote, message) {
                Verified::Yes(WgKind::HandshakeInit(initiation)) => initiation,
                Verified::Cookie(cookie) => {
                    self.answer_cookie(path, &cookie);
                    return;
                }
                Verified::Yes(_) | Verified::No => continue,
            };
            let Some(key) = identity.sender(&initiation) else { break };
            let own = Arc::ptr_eq(&identity, self.peers.own_identity());
            let owner = if let Some(id) = self.peers.meets(&key, &identity) {
                Owner::Peer(id)
            } else if let Some(number) = self.pairing.invite_of(&key).filter(|_| own) {
                Owner::Invite(number)
            } else {
                self.net.counters.add("handshake_of_stranger");
                return;
            };
            if self.is_hidden_from(owner, path) {
                self.net.counters.add("not_through_relay");
                return;
            }
            self.accept(now, path, owner, WgKind::HandshakeInit(initiation), message.len());
            return;
        }
        self.net.counters.add("wireguard_not_authentic");
    }

    /// Whether an answer would show a peer where this host is, which must not know it.
    fn is_hidden_from(&self, owner: Owner, path: PathKey) -> bool {
        let Owner::Peer(id) = owner else { return false };
        path.relay().is_none() && self.peers.get(id).is_some_and(|peer| peer.context.is_hidden())
    }

    fn answer_cookie(&mut self, path: PathKey, cookie: &Packet) {
        self.net.counters.add("handshake_cookie");
        let _ = self.net.sockets.send(path, cookie);
    }

    fn session(&mut self, owner: Owner) -> Option<&mut Session> {
        match owner {
            Owner::Peer(id) => self.peers.get_mut(id).map(|p| &mut p.session),
            Owner::Invite(number) => {
                self.pairing.session_of(number, self.peers.own_identity(), &self.net.indices)
            }
            Owner::Joining => self.pairing.own_session(),
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        path: PathKey,
        owner: Owner,
        message: WgKind,
        length: usize,
    ) -> Option<(PeerId, Packet)> {
        let Some(session) = self.session(owner) else {
            self.net.counters.add("wireguard_unknown_session");
            return None;
        };
        let outcome = match session.receive(now, path, message) {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.net.counters.add(reason);
                return None;
            }
        };
        if outcome.index.is_some() {
            self.net.indices.claim(outcome.index, owner);
        }
        match owner {
            Owner::Peer(id) => self.hear_peer(now, path, id, outcome, length).map(|inner| (id, inner)),
            Owner::Invite(number) => {
                let (pairing, mut around) = self.around();
                let met = pairing.hear_invited(&mut around, path, number, outcome);
                self.meet(now, met);
                None
            }
            Owner::Joining => {
                let (pairing, mut around) = self.around();
                let met = pairing.hear_inviter(&mut around, now, path, outcome);
                self.meet(now, met);
                None
            }
        }
    }

    fn hear_peer(
        &mut self,
        now: Instant,
        path: PathKey,
        id: PeerId,
        outcome: Outcome,
        length: usize,
    ) -> Option<Packet> {
        let peer = self.peers.touch(id)?;
        if let Some(reply) = &outcome.reply {
            self.net.send(now, peer, path, reply, 0);
        }
        if outcome.authentic {
            peer.rx_bytes += length as u64;
            // An answer to a handshake is no answer to what the host sent.
            if peer.is_plain() && outcome.complete != Some(mast_proto::Role::Initiator) {
                peer.context.note_plain_received(now, path, length, outcome.inner.as_deref());
            }
        }
        if let Some(role) = outcome.complete {
            if outcome.superseded {
                peer.context.secure_superseded(now, path);
            } else {
                peer.context.secure_up(now, path, role, outcome.proven);
            }
            if peer.is_plain() {
                for message in peer.session.queued() {
                    self.net.send_plain(now, peer, &message, 0);
                }
            }
            peer.tick.get_or_insert(now);
        }
        let datagram = outcome.inner?;
        let Some(payload) = inner::unwrap(&datagram) else { return Some(datagram) };
        if self.settings.plain_only || !peer.config.disclosure.mast {
            self.net.counters.add("mast_not_wanted");
            return None;
        }
        let mut book = Book {
            routing: &self.routing,
            interfaces: self.uplinks.interfaces(),
            occupied: self.uplinks.occupied(),
            pool: self.settings.pool,
            random: &mut self.random,
            asking: id,
        };
        let before = peer.eid_v4();
        peer.context.handle_secure(now, path, payload, &mut book);
        if peer.eid_v4() != before {
            // The next datagram may come from the new EID already.
            self.reroute(id);
        }
        None
    }
}
