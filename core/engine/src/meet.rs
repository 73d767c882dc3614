//! How strangers become peers: the invites that were given out, and the one that is being accepted. The messages and the
//! two halves of one pairing are in [`crate::pairing`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mast_proto::{Disclosure, Interface, PathKey, PeerKind, wire};
use tokio::sync::oneshot;

use crate::api::{
    AddressSource, Addresses, Change, EngineError, InviteId, InviteProblem, InviteRecord, PeerConfig,
    PublicKey, SecretKey, What,
};
use crate::engine::Engine;
use crate::handle::{Invite, NewPeer};
use crate::invite::{Link, LinkError, MAX_ADDRESSES, account};
use crate::name;
use crate::os::{Family, Platform, Udp};
use crate::pairing::{Inviting, Join, Joined, Joining, Message, Reason, Refused, Step};
use crate::peer::PeerId;
use crate::peers::Peers;
use crate::road::Net;
use crate::wireguard::{Identity, Indices, Outcome, Session};
use crate::{inner, sockets};

/// The most invites at a time.
const MAX_INVITES: usize = 64;
/// So long after its end an invite is remembered, so that whoever comes late is told why it is refused.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);

/// An invite that was given out.
pub(crate) struct Invited {
    pub record: InviteRecord,
    pub pairing: Inviting,
    /// It was used, and that is not kept yet: where whoever used it is told once it is.
    unkept: Option<PathKey>,
}

/// An invite that is being accepted, and who asked for it.
pub(crate) struct Accepting {
    pub joining: Joining,
    pub reply: oneshot::Sender<Result<NewPeer, EngineError>>,
}

/// All that goes on of pairing.
#[derive(Default)]
pub(crate) struct Pairing {
    invites: Vec<Invited>,
    /// The latest number given to an invite.
    latest: u64,
    joining: Option<Accepting>,
    /// Nobody hears that an invite was used before that is kept.
    confirms: bool,
}

/// What becomes of a wish to become a peer.
enum Admitted {
    /// It is granted, by what follows where that is new.
    Now(Option<Met>),
    /// The same, and whoever wished hears of it later.
    Later(Option<Met>),
}

/// What pairing looks at and uses of the rest of the engine.
pub(crate) struct Around<'a, U> {
    pub peers: &'a Peers,
    /// This host's.
    pub name: &'a str,
    /// This host's account at a presence service.
    pub account: Option<&'a str>,
    pub interfaces: &'a [Interface],
    pub net: &'a mut Net<U>,
}

impl<U> Around<'_, U> {
    fn joined(&self) -> Joined {
        Joined { name: self.name.to_owned(), account: self.account.map(str::to_owned) }
    }
}

/// What follows for the rest of the engine.
pub(crate) enum Met {
    /// Who used an invite of this host has become a peer.
    Invited { config: PeerConfig, invite: InviteId },
    /// It had been a peer, and forgot this host.
    Again { id: PeerId, invite: InviteId, preshared_key: SecretKey, remote: SocketAddr },
    /// The inviter has become a peer: whoever asked for it is told once it is one.
    Inviter { config: PeerConfig, reply: oneshot::Sender<Result<NewPeer, EngineError>> },
}

impl Pairing {
    /// With `confirms`, nobody hears that an invite was used before [`Pairing::kept`].
    pub fn new(confirms: bool) -> Self {
        Self { confirms, ..Self::default() }
    }

    /// The invites as they are kept.
    pub fn records(&self) -> Vec<InviteRecord> {
        self.invites.iter().map(|i| i.record.clone()).collect()
    }

    /// When [`Pairing::drive`] must be called.
    pub fn timeout(&self) -> Option<Instant> {
        self.joining.as_ref().map(|j| j.joining.timeout())
    }

    /// The invite that this temporary key belongs to.
    pub fn invite_of(&self, temporary: &PublicKey) -> Option<u64> {
        let invited = self.invites.iter().find(|i| i.pairing.temporary == *temporary);
        invited.map(|i| i.pairing.number)
    }

    /// The session with whoever uses an invite.
    pub fn session_of(
        &mut self,
        number: u64,
        identity: &Arc<Identity>,
        indices: &Indices,
    ) -> Option<&mut Session> {
        let invited = self.invites.iter_mut().find(|i| i.pairing.number == number)?;
        Some(invited.pairing.session(identity, indices))
    }

    /// The session with the inviter.
    pub fn own_session(&mut self) -> Option<&mut Session> {
        self.joining.as_mut().map(|j| &mut j.joining.session)
    }

    /// Gives out an invite: [`Pairing::records`] have changed then.
    pub fn invite<U: Udp>(
        &mut self,
        around: &Around<'_, U>,
        secret: SecretKey,
        expires: Duration,
        name: Option<String>,
    ) -> Result<Invite, EngineError> {
        let name = match name {
            Some(name) => Some(name::clean(&name).ok_or(EngineError::BadName { name })?),
            None => None,
        };
        if let Some(name) = &name
            && around.peers.named(name).is_some()
        {
            return Err(EngineError::PeerExists { name: name.clone() });
        }
        let addresses = around.net.sockets.addresses(around.interfaces, MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(EngineError::NoAddress);
        }
        self.prune();
        if self.invites.len() >= MAX_INVITES {
            return Err(EngineError::TooManyInvites { most: MAX_INVITES });
        }
        // Whole seconds, as in the link.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires = now.checked_add(expires.as_secs().max(1)).map(Duration::from_secs);
        let expires =
            expires.and_then(|e| SystemTime::UNIX_EPOCH.checked_add(e)).ok_or(EngineError::TooLong)?;
        self.add(InviteRecord { secret: secret.clone(), name, expires, used: false, revoked: false });
        let link = Link {
            public_key: around.peers.own_identity().public(),
            secret,
            name: around.name.to_owned(),
            addresses,
            expires,
            account: around.account.map(str::to_owned),
        };
        Ok(Invite { link: link.encode(), expires })
    }

    /// An invite that was given out before.
    pub fn add(&mut self, record: InviteRecord) {
        self.latest += 1;
        let pairing = Inviting::new(self.latest, &record.secret);
        self.invites.push(Invited { record, pairing, unkept: None });
    }

    /// Lets nobody accept an invite any more.
    pub fn revoke(&mut self, id: InviteId) -> Result<(), EngineError> {
        self.prune();
        match self.invites.iter_mut().find(|i| i.pairing.id == id) {
            // Who used it is a peer, and stays one.
            Some(invited) if !invited.record.used => {
                invited.record.revoked = true;
                Ok(())
            }
            Some(_) => Ok(()),
            None => Err(EngineError::NoInvite { id: id.to_string() }),
        }
    }

    /// That an invite was used is kept: whoever used it may hear of it.
    pub fn kept<U: Udp>(&mut self, around: &mut Around<'_, U>, id: InviteId) {
        let Some(invited) = self.invites.iter_mut().find(|i| i.pairing.id == id) else { return };
        let Some(path) = invited.unkept.take() else { return };
        let session = invited.pairing.session(around.peers.own_identity(), &around.net.indices);
        let answer = Message::Joined(around.joined());
        if let Some(message) = session.seal(&inner::wrap(&answer.encode())) {
            // Where it is lost, whoever waits asks again.
            let _ = around.net.sockets.send(path, &message);
        }
    }

    fn prune(&mut self) {
        let now = SystemTime::now();
        self.invites.retain(|i| i.record.expires.checked_add(REMEMBER).is_none_or(|end| now < end));
    }

    /// Something came inside the session with whoever accepts an invite.
    pub fn hear_invited<U: Udp>(
        &mut self,
        around: &mut Around<'_, U>,
        path: PathKey,
        number: u64,
        outcome: Outcome,
    ) -> Option<Met> {
        if let Some(reply) = &outcome.reply {
            let _ = around.net.sockets.send(path, reply);
        }
        let join = outcome.inner.as_deref().and_then(inner::unwrap).and_then(Message::decode);
        let Some(Message::Join(join)) = join else { return None };
        let (answer, met) = match self.admit(around, path, number, &join) {
            Ok(Admitted::Later(met)) => return met,
            Ok(Admitted::Now(met)) => (Message::Joined(around.joined()), met),
            Err(reason) => {
                around.net.counters.add("join_refused");
                (Message::Refused(Refused { reason }), None)
            }
        };
        let session = self.session_of(number, around.peers.own_identity(), &around.net.indices)?;
        if let Some(message) = session.seal(&inner::wrap(&answer.encode())) {
            let _ = around.net.sockets.send(path, &message);
        }
        met
    }

    fn admit<U>(
        &mut self,
        around: &Around<'_, U>,
        path: PathKey,
        number: u64,
        join: &Join,
    ) -> Result<Admitted, Reason> {
        let known = around.peers.of_key(&join.public_key);
        let Some(invited) = self.invites.iter_mut().find(|i| i.pairing.number == number) else {
            return Err(Reason::Expired);
        };
        if join.version != wire::VERSION {
            return Err(Reason::Version);
        }
        let identity = around.peers.own_identity();
        if !invited.pairing.is_proven(identity, join) {
            return Err(Reason::Key);
        }
        let key = invited.pairing.lasting_key(identity, &join.public_key);
        if invited.record.used {
            // Its answer was lost, and it asks again.
            let present =
                known.and_then(|id| around.peers.get(id)).and_then(|p| p.config.preshared_key.as_ref());
            return match &mut invited.unkept {
                _ if present != Some(&key) => Err(Reason::Used),
                Some(at) => {
                    *at = path;
                    Ok(Admitted::Later(None))
                }
                None => Ok(Admitted::Now(None)),
            };
        }
        if invited.record.revoked || invited.record.is_expired(SystemTime::now()) {
            return Err(Reason::Expired);
        }
        invited.record.used = true;
        let admitted = if self.confirms {
            invited.unkept = Some(path);
            Admitted::Later
        } else {
            Admitted::Now
        };
        let invite = invited.pairing.id;
        if let Some(id) = known {
            return Ok(admitted(Some(Met::Again { id, invite, preshared_key: key, remote: path.remote })));
        }
        let wished = invited.record.name.clone().or_else(|| name::clean(&join.name));
        let name =
            name::unique(&wished.unwrap_or_else(|| "peer".into()), |n| around.peers.named(n).is_some());
        let account = account(join.account.as_deref());
        let config = peer(name, join.public_key, key, [path.remote], account);
        Ok(admitted(Some(Met::Invited { config, invite })))
    }

    /// Begins to accept an invite. The answer comes when the inviter has spoken, or has not.
    pub fn join<U: Udp>(
        &mut self,
        around: &mut Around<'_, U>,
        now: Instant,
        text: &str,
        name: Option<String>,
        reply: oneshot::Sender<Result<NewPeer, EngineError>>,
    ) {
        match self.prepare(around, now, text, name) {
            Ok(joining) => {
                self.joining = Some(Accepting { joining, reply });
                self.drive(now, around.net);
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn prepare<U>(
        &self,
        around: &Around<'_, U>,
        now: Instant,
        text: &str,
        name: Option<String>,
    ) -> Result<Joining, EngineError> {
        let refuse = |problem: InviteProblem| Err(problem.into());
        let link = Link::decode(text).map_err(|error| match error {
            LinkError::Foreign => InviteProblem::Foreign,
            LinkError::Version => InviteProblem::OtherVersion,
            LinkError::Damaged => InviteProblem::Damaged,
        })?;
        let identity = around.peers.own_identity();
        if link.public_key == identity.public() {
            return refuse(InviteProblem::Own);
        }
        if let Some(peer) = around.peers.of_key(&link.public_key).and_then(|id| around.peers.get(id)) {
            let inviter = Some(peer.config.name.clone());
            return Err(EngineError::Invite { problem: InviteProblem::Known, inviter, port: None });
        }
        if SystemTime::now() >= link.expires {
            return refuse(InviteProblem::Expired);
        }
        if let Some(name) = &name
            && around.peers.named(name).is_some()
        {
            return Err(EngineError::PeerExists { name: name.clone() });
        }
        if self.joining.is_some() {
            return Err(EngineError::Joining);
        }
        if link.addresses.is_empty() {
            return refuse(InviteProblem::NoAddress);
        }
        let families = |v4: bool| link.addresses.iter().any(|a| a.is_ipv4() == v4);
        let unreached = match (families(true), families(false)) {
            (true, true) => InviteProblem::NeedsNetwork,
            (true, false) => InviteProblem::Needs(Family::V4),
            _ => InviteProblem::Needs(Family::V6),
        };
        let own = (&**identity, around.name, around.account);
        Joining::new(now, link, name, own, around.interfaces, &around.net.indices)
            .ok_or_else(|| unreached.into())
    }

    /// Sends what is due of the race to the inviter.
    pub fn drive<U: Udp>(&mut self, now: Instant, net: &mut Net<U>) {
        while let Some(accepting) = &mut self.joining {
            match accepting.joining.poll(now, &mut net.indices) {
                Step::Send(path, message) => match net.sockets.send(path, &message) {
                    sockets::Sent::Yes => {}
                    sockets::Sent::Full | sockets::Sent::Partly(_) => net.counters.add("send_queue_full"),
                    sockets::Sent::Lost(reason) => net.counters.add(reason),
                    sockets::Sent::Failed(_) => net.counters.add("send_error"),
                },
                Step::Wait => return,
                Step::GiveUp => {
                    let joining = &accepting.joining;
                    let problem = match joining.was_answered() {
                        true => InviteProblem::Unfinished,
                        false => InviteProblem::NoAnswer,
                    };
                    let inviter = Some(joining.link.name.clone());
                    let port = joining.link.addresses.first().map(SocketAddr::port);
                    self.end(Err(EngineError::Invite { problem, inviter, port }));
                }
            }
        }
    }

    /// Something came inside the session with the inviter.
    pub fn hear_inviter<U: Udp>(
        &mut self,
        around: &mut Around<'_, U>,
        now: Instant,
        path: PathKey,
        outcome: Outcome,
    ) -> Option<Met> {
        let accepting = self.joining.as_mut()?;
        if let Some(reply) = &outcome.reply {
            let _ = around.net.sockets.send(path, reply);
        }
        if outcome.complete.is_some() {
            accepting.joining.secure_up(now, path);
        }
        match outcome.inner.as_deref().and_then(inner::unwrap).and_then(Message::decode) {
            Some(Message::Joined(joined)) => {
                let Accepting { joining, reply } = self.joining.take()?;
                let wished = joining.name.clone().and_then(|n| name::clean(&n));
                let wished = wished.or_else(|| name::clean(&joined.name));
                let wished = wished.unwrap_or_else(|| joining.link.name.clone());
                let name = name::unique(&wished, |n| around.peers.named(n).is_some());
                let endpoints = joining.endpoints();
                let told = account(joined.account.as_deref()).or(joining.link.account);
                let config = peer(name, joining.link.public_key, joining.lasting_key, endpoints, told);
                return Some(Met::Inviter { config, reply });
            }
            Some(Message::Refused(refused)) => {
                let problem = refused.reason.problem();
                let inviter = Some(accepting.joining.link.name.clone());
                self.end(Err(EngineError::Invite { problem, inviter, port: None }));
            }
            Some(Message::Join(_)) | None => {}
        }
        self.drive(now, around.net);
        None
    }

    /// Whoever asked for the joining under way, if there is one, is answered so.
    pub fn end(&mut self, outcome: Result<NewPeer, EngineError>) {
        if let Some(Accepting { reply, .. }) = self.joining.take() {
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
    }
}

/// A peer that an invite brought.
fn peer(
    name: String,
    public_key: PublicKey,
    preshared_key: SecretKey,
    addresses: impl IntoIterator<Item = SocketAddr>,
    account: Option<String>,
) -> PeerConfig {
    PeerConfig {
        name,
        public_key,
        preshared_key: Some(preshared_key),
        addresses: Addresses::of(AddressSource::Invite, addresses),
        kind: Some(PeerKind::Mast),
        eid_v4: None,
        plain: None,
        policy: None,
        disclosure: Disclosure::default(),
        account,
    }
}

impl<P: Platform> Engine<P> {
    pub(crate) fn around(&mut self) -> (&mut Pairing, Around<'_, P::Udp>) {
        let around = Around {
            peers: &self.peers,
            name: &self.settings.name,
            account: self.settings.account.as_deref(),
            interfaces: self.uplinks.interfaces(),
            net: &mut self.net,
        };
        (&mut self.pairing, around)
    }

    pub(crate) fn invite(&mut self, expires: Duration, name: Option<String>) -> Result<Invite, EngineError> {
        if !self.up {
            return Err(EngineError::SwitchedOff);
        }
        let secret = SecretKey::new(self.random.bytes());
        let (pairing, around) = self.around();
        let invite = pairing.invite(&around, secret, expires, name)?;
        self.tell_change(Change::Invites(self.pairing.records()));
        Ok(invite)
    }

    pub(crate) fn revoke_invite(&mut self, id: InviteId) -> Result<(), EngineError> {
        self.pairing.revoke(id)?;
        self.tell_change(Change::Invites(self.pairing.records()));
        Ok(())
    }

    pub(crate) fn invite_kept(&mut self, id: InviteId) {
        let (pairing, mut around) = self.around();
        pairing.kept(&mut around, id);
    }

    /// Begins to accept an invite. The answer comes when the inviter has spoken, or has not.
    pub(crate) fn join(
        &mut self,
        now: Instant,
        text: &str,
        name: Option<String>,
        reply: oneshot::Sender<Result<NewPeer, EngineError>>,
    ) {
        if !self.up {
            let _ = reply.send(Err(EngineError::SwitchedOff));
            return;
        }
        let (pairing, mut around) = self.around();
        pairing.join(&mut around, now, text, name, reply);
    }

    /// After the peer was told of: whatever is kept of the two, an invite that was used has somebody who used it.
    fn tell_used(&mut self, invite: InviteId) {
        self.tell_change(Change::Invites(self.pairing.records()));
        self.tell_change(Change::InviteUsed(invite));
    }

    /// Does what follows of a pairing.
    pub(crate) fn meet(&mut self, now: Instant, met: Option<Met>) {
        let Some(met) = met else { return };
        match met {
            Met::Invited { config, invite } => {
                self.story.tell(&config.name, What::CameByInvite);
                self.adopt(config);
                self.tell_used(invite);
            }
            Met::Again { id, invite, preshared_key, remote } => {
                if let Some(peer) = self.peers.touch(id) {
                    peer.config.preshared_key = Some(preshared_key.clone());
                    peer.session.set_preshared_key(Some(preshared_key));
                    peer.context.set_addresses(now, AddressSource::Invite, [remote]);
                    let config = peer.config.clone();
                    self.tell_change(Change::Peer(config));
                }
                self.tell_used(invite);
            }
            Met::Inviter { config, reply } => {
                let (name, public_key) = (config.name.clone(), config.public_key);
                self.story.tell(&name, What::InviteAccepted);
                self.adopt(config);
                let eid_v6 = (self.own_eid_v6, mast_proto::eid_v6(&public_key));
                // Whoever asked may have gone.
                let _ = reply.send(Ok(NewPeer { name, public_key, eid_v6 }));
            }
        }
    }
}
