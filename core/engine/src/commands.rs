//! What the service asks of the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_proto::wire::ShutReason;
use mast_proto::{AddressSource, PathState, PeerState, Policy, Selector};
use tokio::sync::oneshot;

use crate::api::{
    Change, EngineError, Glance, InterfaceTraffic, InviteProblem, Outline, PathGlance, PeerConfig,
    PeerSnapshot, Snapshot,
};
use crate::engine::{Closing, Engine};
use crate::handle::{Choose, Command, Disclose, Page, ToldPage};
use crate::mirror::Token;
use crate::name;
use crate::os::Platform;
use crate::peer::{Peer, PeerId};
use crate::sockets::is_plausible;

/// So many peers are told of at once.
const PAGE: usize = 256;
/// So long the peers have to acknowledge that this host takes leave.
const LEAVE: Duration = Duration::from_millis(300);

impl<P: Platform> Engine<P> {
    pub(crate) async fn command(&mut self, now: Instant, command: Command) {
        // Whoever asked may have gone: an answer that nobody takes is no error.
        match command {
            Command::Snapshot(reply) => drop(reply.send(Ok(self.snapshot()))),
            Command::Peers(after, reply) => drop(reply.send(Ok(self.page(now, after)))),
            Command::Peer(name, reply) => drop(reply.send(self.peer_snapshot(now, &name))),
            Command::Outline(reply) => drop(reply.send(Ok(self.outline()))),
            Command::Told(after, reply) => drop(reply.send(Ok(self.told(after)))),
            Command::Check(peer, reply) => drop(reply.send(self.check_paths(now, peer.as_deref()))),
            Command::Glance(paths, reply) => drop(reply.send(Ok(self.glance(paths)))),
            Command::SetAddresses { peer, source, list, reply } => {
                drop(reply.send(self.set_addresses(now, &peer, source, list)));
            }
            Command::StunServers(servers, reply) => {
                self.set_stun_servers(now, servers);
                drop(reply.send(Ok(())));
            }
            Command::Translated(interfaces, reply) => {
                if self.uplinks.translate(interfaces.clone()) {
                    self.net.sockets.translate(interfaces);
                    self.tell_interfaces(now);
                }
                drop(reply.send(Ok(())));
            }
            Command::AddRelay { interface, at, link, reply } => {
                drop(reply.send(self.add_relay(now, &interface, at, link)));
            }
            Command::RemoveRelay(number, reply) => {
                self.remove_relay(now, number);
                drop(reply.send(Ok(())));
            }
            Command::Spend(uplinks, reply) => {
                if self.uplinks.spend(uplinks) {
                    self.tell_interfaces(now);
                }
                drop(reply.send(Ok(())));
            }
            Command::Choose { interface, choice, reply } => {
                drop(reply.send(self.choose(now, &interface, choice)));
            }
            Command::SetAccount(account, reply) => {
                self.settings.account = account;
                drop(reply.send(Ok(())));
            }
            Command::SetPeerAccount { peer, account, reply } => {
                drop(reply.send(self.set_peer_account(&peer, account)));
            }
            Command::Disclose { peer, disclose, reply } => {
                drop(reply.send(self.disclose(now, &peer, disclose)))
            }
            Command::FullTunnel { peer, on, reply } => drop(reply.send(self.set_full_tunnel(&peer, on))),
            Command::Up(reply) => {
                let result = self.bring_up().await;
                if result.is_ok() {
                    self.tell_change(Change::Up(true));
                }
                drop(reply.send(result));
            }
            Command::Down(reply) => {
                self.tell_change(Change::Up(false));
                self.close(now, false, Some(reply));
            }
            Command::AddPeer(peer, reply) => {
                let result = self.check_peer(&peer);
                if result.is_ok() {
                    self.adopt(*peer);
                }
                drop(reply.send(result));
            }
            Command::RemovePeer(name, reply) => drop(reply.send(self.remove_peer(now, &name))),
            Command::Invite { expires, name, reply } => drop(reply.send(self.invite(expires, name))),
            Command::Invites(reply) => drop(reply.send(Ok(self.pairing.records()))),
            Command::RevokeInvite(id, reply) => drop(reply.send(self.revoke_invite(id))),
            Command::InviteKept(id, reply) => {
                self.invite_kept(id);
                drop(reply.send(Ok(())));
            }
            Command::Join { link, name, reply } => self.join(now, &link, name, reply),
            Command::Protect { on, local_network, reply } => self.set_protect(on, local_network, reply),
            Command::Applied(reply) => self.upkeep.wait(reply),
            Command::Woke(reply) => {
                self.revalidate_all(now);
                self.upkeep.note_disturbance(now);
                drop(reply.send(Ok(())));
            }
            Command::SetPolicy { peer, policy, reply } => {
                drop(reply.send(self.set_policy(now, peer.as_deref(), policy)));
            }
            Command::Recent(reply) => drop(reply.send(Ok(self.story.recent()))),
            Command::Mirror(reply) => {
                let mut token = Token::default();
                token.copy_from_slice(
                    [self.random.u64(), self.random.u64()].map(u64::to_ne_bytes).as_flattened(),
                );
                drop(reply.send(Ok((token, self.net.mirror.add(now, token)))));
            }
            Command::Drill { peer, reply } => drop(reply.send(self.start_drill(now, &peer))),
            Command::Stop(reply) => self.close(now, true, Some(reply)),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut counters = self.net.counters.list();
        counters.extend(Some(("events_missed", self.story.missed())).filter(|(_, missed)| *missed > 0));
        Snapshot {
            up: self.up,
            name: self.settings.name.clone(),
            public_key: self.peers.own_identity().public(),
            interfaces: self.uplinks.choices().all(),
            peers: Vec::new(),
            counters,
            single: self.net.sockets.single(),
            left_out: self.uplinks.left_out().to_vec(),
            forbidden: self.net.counters.ago(Instant::now(), "send_not_permitted"),
            refused: self.upkeep.troubles(),
            protection: self.protection_state(),
            policy: self.settings.policy.clone(),
            seen: self.outside.seen(),
        }
    }

    fn page(&self, now: Instant, after: Option<PeerId>) -> Page {
        let all = self.peers.page(after, PAGE);
        let last = all.clone().last().map(|(id, _)| id);
        let present = all.filter(|(_, p)| p.leaving.is_none());
        Page {
            peers: present.map(|(_, p)| p.snapshot(now, self.uplinks.names(), self.troubles_of(p))).collect(),
            last,
        }
    }

    fn told(&self, after: Option<PeerId>) -> ToldPage {
        let all = self.peers.page(after, PAGE);
        let last = all.clone().last().map(|(id, _)| id);
        let mast = all.filter(|(_, p)| p.leaving.is_none() && p.config.disclosure.mast && !p.is_plain());
        let list = |peer: &Peer| if self.up { peer.context.told_addresses() } else { Vec::new() };
        ToldPage { told: mast.map(|(_, p)| (p.config.public_key, list(p))).collect(), last }
    }

    fn peer_snapshot(&self, now: Instant, name: &str) -> Result<PeerSnapshot, EngineError> {
        let peer = self.peers.get(self.find_peer(name)?);
        peer.map(|peer| peer.snapshot(now, self.uplinks.names(), self.troubles_of(peer)))
            .ok_or(EngineError::Stopped)
    }

    fn outline(&self) -> Outline {
        let now = Instant::now();
        let needs = |peer: &Peer| {
            matches!(peer.context.state(now), PeerState::Connecting | PeerState::Unreachable)
                || peer.context.active_path().is_some_and(|path| path.relay().is_some())
        };
        Outline {
            needs_relay: self.up && self.peers.present().any(needs),
            up: self.up,
            interfaces: self.uplinks.choices().all(),
            full_tunnel: self.peers.has_full_tunnel(),
        }
    }

    fn check_paths(&mut self, now: Instant, name: Option<&str>) -> Result<(), EngineError> {
        let one = name.map(|n| self.find_peer(n)).transpose()?;
        if !self.up {
            return Ok(());
        }
        let check = |peer: &mut Peer| {
            if peer.leaving.is_none() {
                peer.context.check(now);
            }
        };
        match one {
            Some(id) => self.peers.touch(id).into_iter().for_each(check),
            None => self.peers.touch_all().for_each(check),
        }
        Ok(())
    }

    fn glance(&self, paths: usize) -> Glance {
        let traffic = self.net.traffic.interfaces().map(|id| {
            let all = self.uplinks.choices().all().into_iter().map(|(interface, _)| interface);
            let interface = all.into_iter().find(|i| i.id == id).ok_or_else(|| self.uplinks.names().of(id));
            InterfaceTraffic { interface, id: id.0, bytes: self.net.traffic.of(id) }
        });
        let all = self.peers.present().flat_map(|peer| {
            peer.context.paths().map(|path| PathGlance {
                peer: peer.config.name.clone(),
                interface: self.uplinks.names().of(path.key.interface),
                local: path.key.local,
                remote: path.key.remote,
                srtt: path.srtt.filter(|_| path.state == PathState::Validated),
                active: path.active,
            })
        });
        Glance { up: self.up, traffic: traffic.collect(), paths: all.take(paths).collect() }
    }

    fn choose(&mut self, now: Instant, name: &str, choice: Choose) -> Result<(), EngineError> {
        if !self.uplinks.choices().knows(name) {
            return Err(self.no_interface(name));
        }
        let mut chosen = self.uplinks.choices().of(name);
        chosen.metered = choice.metered.unwrap_or(chosen.metered);
        chosen.excluded = choice.excluded.unwrap_or(chosen.excluded);
        let (all, changed) = self.uplinks.choose(name, chosen);
        self.tell_change(Change::Choices(all));
        if changed {
            self.tell_interfaces(now);
        }
        Ok(())
    }

    fn set_addresses(
        &mut self,
        now: Instant,
        name: &str,
        source: AddressSource,
        list: Vec<SocketAddr>,
    ) -> Result<(), EngineError> {
        if source == AddressSource::Set {
            let why = "only the peer itself tells the addresses of its SET";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why).into());
        }
        let id = self.find_peer(name)?;
        let Some(peer) = self.peers.touch(id) else { return Ok(()) };
        if !peer.config.addresses.set(source, list) {
            return Ok(());
        }
        let config = peer.config.clone();
        if self.up {
            let list: Vec<_> = config.addresses.get(source).iter().copied().filter(is_plausible).collect();
            // They are sent to next.
            self.outside.freshen(now);
            self.ask_outside(now);
            if let Some(peer) = self.peers.touch(id) {
                peer.context.set_addresses(now, source, list);
            }
        }
        self.tell_change(Change::Peer(config));
        Ok(())
    }

    fn set_full_tunnel(&mut self, name: &str, on: bool) -> Result<(), EngineError> {
        let id = self.find_peer(name)?;
        let Some(peer) = self.peers.touch(id) else { return Ok(()) };
        let Some(plain) = peer.config.plain.as_mut().filter(|p| p.full_tunnel().is_some()) else {
            return Err(EngineError::NoFullTunnel { peer: name.to_owned() });
        };
        // Whoever switches it on wants its routes.
        let routed = on && std::mem::replace(&mut plain.unrouted, false);
        if std::mem::replace(&mut plain.split, !on) == on || routed {
            let config = peer.config.clone();
            self.reroute(id);
            self.tell_change(Change::Peer(config));
        }
        Ok(())
    }

    fn disclose(&mut self, now: Instant, name: &str, disclose: Disclose) -> Result<(), EngineError> {
        let id = self.find_peer(name)?;
        let under = self.settings.policy.clone();
        let Some(peer) = self.peers.touch(id) else { return Ok(()) };
        let mut disclosure = peer.config.disclosure;
        disclosure.mast = disclose.mast.unwrap_or(disclosure.mast);
        disclosure.addresses = disclose.addresses.unwrap_or(disclosure.addresses);
        disclosure.own = disclose.own.unwrap_or(disclosure.own);
        if !disclosure.mast && peer.config.plain.is_none() {
            return Err(EngineError::NotOfFile { peer: name.to_owned() });
        }
        if peer.config.disclosure == disclosure {
            return Ok(());
        }
        let speaks = peer.config.disclosure.mast != disclosure.mast;
        peer.config.disclosure = disclosure;
        peer.context.set_disclosure(now, disclosure);
        if speaks {
            peer.config.kind = peer.context.kind();
            peer.context.set_policy(now, peer.config.policy_under(&under));
        }
        let config = peer.config.clone();
        self.reroute(id);
        self.tell_change(Change::Peer(config));
        Ok(())
    }

    fn set_peer_account(&mut self, name: &str, account: Option<String>) -> Result<(), EngineError> {
        let id = self.find_peer(name)?;
        let Some(peer) = self.peers.touch(id) else { return Ok(()) };
        if peer.config.account != account {
            peer.config.account = account;
            let config = peer.config.clone();
            self.tell_change(Change::Peer(config));
        }
        Ok(())
    }

    fn no_interface(&self, name: &str) -> EngineError {
        let known = self.uplinks.choices().all().into_iter().map(|(i, _)| i.name).collect();
        EngineError::NoInterface { name: name.to_owned(), known }
    }

    /// Makes the virtual interface and the sockets, and connects.
    pub(crate) async fn bring_up(&mut self) -> Result<(), EngineError> {
        if let Some(Closing { stop: true, .. }) = self.closing {
            return Err(EngineError::Stopped);
        }
        let now = Instant::now();
        if self.closing.is_some() {
            // It was taking leave: never mind the answers.
            self.finish_closing();
        }
        if self.up {
            return Ok(());
        }
        // Whatever fails below, nothing leaves around what the user wants.
        if !std::mem::replace(&mut self.wanted, true) {
            self.upkeep.note_change();
            self.keep_up_now().await;
        }
        for failure in self.net.sockets.sync(&*self.platform, self.uplinks.interfaces(), now) {
            if failure.error.kind() == std::io::ErrorKind::NotFound {
                // The interface went in the meantime.
                continue;
            }
            let port = self.net.sockets.port();
            self.net.sockets.clear();
            return Err(EngineError::NoSocket { interface: failure.interface, port, error: failure.error });
        }
        // Nothing is carried yet, so that nothing waits for this.
        self.make_tun();
        let tun = self.tunnel.made().await;
        let tun = tun.inspect_err(|_| self.net.sockets.clear())?;
        self.set_tun(tun);
        self.up = true;
        self.keep_up_now().await;
        let now = Instant::now();
        let ids: Vec<PeerId> = self.peers.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.connect_peer(now, id);
        }
        Ok(())
    }

    /// Begins to take leave of all peers.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        stop: bool,
        reply: Option<oneshot::Sender<Result<(), EngineError>>>,
    ) {
        let closing =
            self.closing.get_or_insert_with(|| Closing { deadline: now + LEAVE, replies: vec![], stop });
        closing.stop |= stop;
        closing.replies.extend(reply);
        if std::mem::replace(&mut self.wanted, false) {
            self.upkeep.note_change();
        }
        if !self.up {
            return;
        }
        self.up = false;
        self.whereabouts.send_replace(());
        self.tunnel.clear();
        self.upkeep.note_change();
        self.drill = None;
        self.pairing.end(Err(InviteProblem::SwitchedOff.into()));
        for peer in self.peers.touch_all() {
            peer.context.shut(now, ShutReason::Down);
        }
    }

    /// Whether leave was taken, as [`Engine::close`] began: all peers have answered, or time is up.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        let Some(closing) = &self.closing else { return false };
        now >= closing.deadline || self.peers.iter().all(|(_, p)| p.context.state(now) == PeerState::Down)
    }

    /// Ends what [`Engine::close`] began. True ends the engine.
    pub(crate) fn finish_closing(&mut self) -> bool {
        // The last of what the peers are told leaves before the sockets go.
        self.net.lane.stop();
        self.net.sockets.clear();
        let leaving: Vec<_> =
            self.peers.iter().filter(|(_, p)| p.leaving.is_some()).map(|(id, _)| id).collect();
        for id in leaving {
            self.drop_peer(id);
        }
        let now = Instant::now();
        let mut changes = Vec::new();
        for peer in self.peers.touch_all() {
            if peer.learn() {
                changes.push(Change::Peer(peer.config.clone()));
            }
            peer.context.handle_interfaces(now, Arc::new([]));
            // What is left to send would be stale when MAST is up again.
            while peer.context.poll_transmit(now).is_some() || peer.context.poll_event().is_some() {}
            peer.timeout = None;
            peer.tick = None;
        }
        for change in changes {
            self.tell_change(change);
        }
        self.peers.rest();
        let Some(closing) = self.closing.take() else { return false };
        for reply in closing.replies {
            drop(reply.send(Ok(())));
        }
        closing.stop
    }

    /// Whether a peer can be added.
    pub(crate) fn check_peer(&self, peer: &PeerConfig) -> Result<(), EngineError> {
        if name::clean(&peer.name).as_ref() != Some(&peer.name) {
            return Err(EngineError::BadName { name: peer.name.clone() });
        }
        if self.peers.named(&peer.name).is_some() {
            return Err(EngineError::PeerExists { name: peer.name.clone() });
        }
        if peer.public_key == self.peers.own_identity().public() {
            return Err(EngineError::OwnKey);
        }
        let known = self.peers.of_key(&peer.public_key).and_then(|id| self.peers.get(id));
        if let Some(known) = known {
            return Err(EngineError::KeyExists { name: known.config.name.clone() });
        }
        Ok(())
    }

    /// Adds a peer that was checked, keeps it, and connects to it.
    pub(crate) fn adopt(&mut self, config: PeerConfig) {
        // One of the same key may still be taking leave.
        if let Some(old) = self.peers.of_key_at_all(&config.public_key) {
            self.drop_peer(old);
        }
        self.tell_change(Change::Peer(config.clone()));
        let id = self.insert_peer(config);
        self.reroute(id);
        if self.up {
            self.connect_peer(Instant::now(), id);
        }
    }

    fn remove_peer(&mut self, now: Instant, name: &str) -> Result<(), EngineError> {
        let id = self.find_peer(name)?;
        let Some(peer) = self.peers.touch(id) else { return Ok(()) };
        peer.context.shut(now, ShutReason::Removed);
        peer.leaving = Some(now + LEAVE);
        peer.tick = None;
        let key = peer.config.public_key;
        self.tell_change(Change::PeerRemoved(key));
        self.reroute(id);
        Ok(())
    }

    fn set_policy(
        &mut self,
        now: Instant,
        name: Option<&str>,
        policy: Option<Policy>,
    ) -> Result<(), EngineError> {
        if let Some(Policy::Pin { order, .. }) = &policy {
            if order.is_empty() {
                return Err(EngineError::EmptyPin);
            }
            for selector in order {
                if let Selector::Interface(wanted) = selector
                    && !self.uplinks.choices().knows(wanted)
                {
                    return Err(self.no_interface(wanted));
                }
            }
        }
        let one = name.map(|n| self.find_peer(n)).transpose()?;
        if let (Some(name), Some(policy)) = (name, &policy)
            && one.and_then(|id| self.peers.get(id)).is_some_and(|peer| !peer.config.can(policy))
        {
            return Err(EngineError::PlainMode { peer: name.to_owned(), policy: policy.clone() });
        }
        if one.is_none() {
            self.settings.policy = policy.clone().unwrap_or_default();
            self.tell_change(Change::Policy(self.settings.policy.clone()));
        }
        let under = self.settings.policy.clone();
        let Some(id) = one else {
            // Whoever has a policy of its own keeps it: what was chosen for one peer is not lost by a choice for all.
            for peer in self.peers.touch_all().filter(|peer| peer.config.policy.is_none()) {
                peer.context.set_policy(now, peer.config.policy_under(&under));
            }
            return Ok(());
        };
        let Some(peer) = self.peers.touch(id) else { return Ok(()) };
        let changed = peer.config.policy != policy;
        peer.config.policy = policy;
        peer.context.set_policy(now, peer.config.policy_under(&under));
        let change = Change::Peer(peer.config.clone());
        if changed {
            self.tell_change(change);
        }
        Ok(())
    }

    pub(crate) fn find_peer(&self, name: &str) -> Result<PeerId, EngineError> {
        self.peers.named(name).ok_or_else(|| {
            let present = self.peers.present();
            let known = present.map(|p| p.config.name.clone()).collect();
            EngineError::NoPeer { name: name.to_owned(), known }
        })
    }
}
