//! What contexts and WireGuard sessions have to send and to tell.

use std::time::{Duration, Instant};

use mast_proto::wire::Flags;
use mast_proto::{Event, PathKey, PeerKind, Transmit, eid_v6, wire};

use crate::api::{Change, Ends, Moved, What};
use crate::engine::Engine;
use crate::os::{Platform, Udp};
use crate::peer::{Names, Peer, PeerId};
use crate::road::Net;
use crate::segments::{Segmentation, Verdict};
use crate::sockets::Sockets;
use crate::story::Story;
use crate::wireguard::Owner;
use crate::{checksum, inner};

/// What is sent for one context before the others have their turn.
const TRANSMITS: usize = 512;
/// WireGuard's timers, where WireGuard carries the data.
const TICK: Duration = Duration::from_secs(1);

impl<P: Platform> Engine<P> {
    /// Sends and tells what the contexts have to send and to tell.
    pub(crate) fn settle(&mut self, now: Instant) {
        let mut again = Vec::new();
        while let Some(id) = self.peers.take_touched() {
            self.deliver_late(now, id);
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let mut left = TRANSMITS;
            while left > 0
                && let Some((mut datagram, flags)) = peer.context.poll_plain(now)
            {
                left -= 1;
                if flags.contains(Flags::PARTIAL) {
                    checksum::complete(&mut datagram);
                }
                self.net.seal_plain(now, id, peer, &datagram);
            }
            while left > 0
                && let Some(transmit) = peer.context.poll_transmit(now)
            {
                left -= 1;
                send(now, id, peer, &mut self.net, transmit);
            }
            let mut told = false;
            while let Some(event) = peer.context.poll_event() {
                told = true;
                handle_event(now, id, peer, &mut self.net, &mut self.story, self.uplinks.names(), event);
            }
            heed_batches(now, peer, &mut self.net.sockets, self.uplinks.names());
            peer.timeout = peer.context.poll_timeout(now);
            if left == 0 {
                // The others have their turn first.
                peer.timeout = Some(now);
                again.push(id);
            }
            if told {
                self.whereabouts.send_replace(());
                if peer.learn() && peer.leaving.is_none() {
                    // What it speaks may be news, and decides what it can do.
                    let policy = peer.config.policy_under(&self.settings.policy);
                    if *peer.context.policy() != policy {
                        peer.context.set_policy(now, policy);
                    }
                    let change = Change::Peer(peer.config.clone());
                    self.tell_change(change);
                }
                self.reroute(id);
                if left > 0 {
                    // An event may have led to more to send.
                    self.peers.touch(id);
                }
            }
            self.peers.note_due(id);
        }
        for id in again {
            self.peers.touch(id);
        }
    }
}

/// Has datagrams go one by one over an uplink that loses what leaves in batches.
fn heed_batches<U: Udp>(now: Instant, peer: &mut Peer, sockets: &mut Sockets<U>, names: &Names) {
    let Some(watch) = &mut peer.batches else { return };
    if !watch.is_due(now) {
        return;
    }
    let context = &peer.context;
    for Verdict { interface, then } in
        watch.look(now, |key| context.reported(key), |of| sockets.segmentation(of))
    {
        let name = names.of(interface);
        match then {
            Segmentation::Single => tracing::warn!(
                interface = name,
                "what left many at a time was lost, and single datagrams are not: they go one by one from now on"
            ),
            Segmentation::Untried if sockets.segmentation(interface) == Segmentation::Sound => {}
            Segmentation::Untried => {
                tracing::info!(interface = name, "what leaves many at a time arrives after all")
            }
            then => tracing::info!(interface = name, ?then, "much of what left many at a time was lost"),
        }
        sockets.set_segmentation(interface, then);
    }
}

/// Does what WireGuard's clock wants.
pub(crate) fn tick<U: Udp>(now: Instant, id: PeerId, peer: &mut Peer, net: &mut Net<U>) {
    if !peer.is_plain() {
        peer.tick = peer.session.forget(now);
        return;
    }
    let (message, index) = peer.session.tick();
    net.indices.claim(index, Owner::Peer(id));
    if let Some(message) = message {
        net.send_plain(now, peer, &message, 0);
    }
    peer.tick = Some(now + TICK);
}

fn send<U: Udp>(now: Instant, id: PeerId, peer: &mut Peer, net: &mut Net<U>, transmit: Transmit) {
    match transmit {
        Transmit::Datagram { path, payload } => {
            net.send(now, peer, path, &payload, 0);
            peer.context.recycle(payload);
        }
        Transmit::Contact { path, fresh } => {
            let (initiation, index) = peer.session.initiate(fresh);
            let initiation = initiation.to_vec();
            net.indices.claim(index, Owner::Peer(id));
            net.send(now, peer, path, &initiation, 0);
        }
        Transmit::Keepalive { path } => {
            if let Some(message) = peer.session.seal(&[]) {
                net.send(now, peer, path, &message, 0);
            }
        }
        Transmit::Secure { path, payload } => match peer.session.seal(&inner::wrap(&payload)) {
            Some(message) => net.send(now, peer, path, &message, 0),
            None => net.counters.add("no_session"),
        },
    }
}

/// A path as the story names it: the story outlives paths and interfaces.
fn ends(names: &Names, path: PathKey) -> Ends {
    Ends { interface: names.of(path.interface), local: Some(path.local), remote: path.remote }
}

fn handle_event<U: Udp>(
    now: Instant,
    id: PeerId,
    peer: &mut Peer,
    net: &mut Net<U>,
    story: &mut Story,
    names: &Names,
    event: Event,
) {
    match event {
        Event::Established { eid_v6: claimed, restarted, .. } => {
            if claimed != eid_v6(&peer.config.public_key) {
                // Its key decides.
                net.counters.add("eid_claim_ignored");
            }
            if restarted {
                story.tell(&peer.config.name, What::Restarted);
            }
        }
        Event::Kind(kind) => {
            let plain = kind == PeerKind::WireGuard;
            peer.session.ticking = plain;
            peer.tick = Some(now);
            while plain && let Some((mut datagram, flags)) = peer.context.take_held(now) {
                if flags.contains(Flags::PARTIAL) {
                    checksum::complete(&mut datagram);
                }
                net.seal_plain(now, id, peer, &datagram);
            }
        }
        Event::Switched { from, to, reason, gap } => {
            let from = from.map(|path| ends(names, path));
            let to = to.map(|path| ends(names, path));
            story.tell(&peer.config.name, What::Moved(Moved { from, to, reason, gap }));
        }
        Event::Shut(reason) => story.tell(
            &peer.config.name,
            match reason {
                wire::ShutReason::Down | wire::ShutReason::Unknown(_) => What::PeerOff,
                wire::ShutReason::Removed => What::RemovedByPeer,
            },
        ),
    }
}
