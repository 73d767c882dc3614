//! How strangers become peers: the engine's side of inviting and joining.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use mast_proto::{PathKey, PeerKind, wire};
use tokio::sync::oneshot;

use crate::api::{
    AddressSource, Addresses, Change, EngineError, InviteProblem, InviteRecord, PeerConfig, What,
};
use crate::engine::Engine;
use crate::handle::{Invite, NewPeer};
use crate::invite::{Link, LinkError, MAX_ADDRESSES};
use crate::name;
use crate::os::{Family, Platform};
use crate::pairing::{Inviting, Join, Joined, Joining, Message, Reason, Refused, Step};
use crate::wireguard::Outcome;
use crate::{inner, sockets};

/// The most invites at a time.
const MAX_INVITES: usize = 64;
/// So long after its end an invite is remembered, so that whoever comes late is told why it is refused.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);

/// An invite that was given out.
pub(crate) struct Invited {
    pub record: InviteRecord,
    pub pairing: Inviting,
}

/// An invite that is being accepted, and who asked for it.
pub(crate) struct Accepting {
    pub joining: Joining,
    pub reply: oneshot::Sender<Result<NewPeer, EngineError>>,
}

impl<P: Platform> Engine<P> {
    pub(crate) fn invite(&mut self, expires: Duration, name: Option<String>) -> Result<Invite, EngineError> {
        self.must_be_up()?;
        let name = match name {
            Some(name) => Some(name::clean(&name).ok_or(EngineError::BadName { name })?),
            None => None,
        };
        if let Some(name) = &name
            && self.peer_named(name).is_some()
        {
            return Err(EngineError::PeerExists { name: name.clone() });
        }
        let addresses = self.net.sockets.addresses(&self.list.interfaces, MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(EngineError::NoAddress);
        }
        self.prune_invites();
        if self.invites.len() >= MAX_INVITES {
            return Err(EngineError::TooManyInvites { most: MAX_INVITES });
        }
        // Whole seconds, as in the link.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires = now.checked_add(expires.as_secs().max(1)).map(Duration::from_secs);
        let expires =
            expires.and_then(|e| SystemTime::UNIX_EPOCH.checked_add(e)).ok_or(EngineError::TooLong)?;
        let secret = self.random.bytes();
        self.add_invite(InviteRecord { secret, name, expires, used: false });
        self.tell_invites();
        let link = Link {
            public_key: self.identity.public(),
            secret,
            name: self.settings.name.clone(),
            addresses,
            expires,
        };
        Ok(Invite { link: link.encode(), expires })
    }

    pub(crate) fn add_invite(&mut self, record: InviteRecord) {
        self.next_invite += 1;
        let pairing = Inviting::new(self.next_invite, &record.secret);
        self.invites.push(Invited { record, pairing });
    }

    fn prune_invites(&mut self) {
        let now = SystemTime::now();
        self.invites.retain(|i| i.record.expires.checked_add(REMEMBER).is_none_or(|end| now < end));
    }

    fn tell_invites(&mut self) {
        let records = self.invites.iter().map(|i| i.record.clone()).collect();
        self.tell_change(Change::Invites(records));
    }

    /// Something came inside the session with whoever accepts an invite.
    pub(crate) fn hear_invited(&mut self, path: PathKey, number: u64, outcome: Outcome) {
        if let Some(reply) = &outcome.reply {
            let _ = self.net.sockets.send(path, reply);
        }
        let join = outcome.inner.as_deref().and_then(inner::unwrap).and_then(Message::decode);
        let Some(Message::Join(join)) = join else { return };
        let answer = match self.admit_joiner(path, number, &join) {
            Ok(joined) => Message::Joined(joined),
            Err(reason) => {
                self.net.counters.add("join_refused");
                Message::Refused(Refused { reason })
            }
        };
        let Some(invited) = self.invites.iter_mut().find(|i| i.pairing.number == number) else { return };
        let session = invited.pairing.session(&self.identity, &self.net.indices);
        if let Some(message) = session.seal(&inner::wrap(&answer.encode())) {
            let _ = self.net.sockets.send(path, &message);
        }
    }

    fn admit_joiner(&mut self, path: PathKey, number: u64, join: &Join) -> Result<Joined, Reason> {
        let known = self.peer_of_key(&join.public_key).and_then(|id| self.peers.get_key_value(&id));
        let known = known.map(|(id, p)| (*id, p.config.preshared_key));
        let Some(invited) = self.invites.iter_mut().find(|i| i.pairing.number == number) else {
            return Err(Reason::Expired);
        };
        if join.version != wire::VERSION {
            return Err(Reason::Version);
        }
        if !invited.pairing.is_proven(&self.identity, join) {
            return Err(Reason::Key);
        }
        let key = invited.pairing.lasting_key(&self.identity, &join.public_key);
        let joined = Joined { name: self.settings.name.clone() };
        if invited.record.used {
            // Its answer was lost, and it asks again.
            return if known.is_some_and(|(_, k)| k == Some(key)) { Ok(joined) } else { Err(Reason::Used) };
        }
        if invited.record.is_expired(SystemTime::now()) {
            return Err(Reason::Expired);
        }
        invited.record.used = true;
        let wished = invited.record.name.clone().or_else(|| name::clean(&join.name));
        self.tell_invites();
        if let Some((id, _)) = known {
            // It had been a peer, and forgot this host.
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.config.preshared_key = Some(key);
                peer.session.set_preshared_key(Some(key));
                peer.context.set_addresses(Instant::now(), AddressSource::Invite, [path.remote]);
                let config = peer.config.clone();
                self.tell_change(Change::Peer(config));
            }
            return Ok(joined);
        }
        let name = name::unique(&wished.unwrap_or_else(|| "peer".into()), |n| self.peer_named(n).is_some());
        self.story.tell(&name, What::CameByInvite);
        self.adopt(PeerConfig {
            name,
            public_key: join.public_key,
            preshared_key: Some(key),
            addresses: Addresses::of(AddressSource::Invite, [path.remote]),
            kind: Some(PeerKind::Mast),
            eid_v4: None,
            plain: None,
            policy: None,
        });
        Ok(joined)
    }

    /// Begins to accept an invite. The answer comes when the inviter has spoken, or has not.
    pub(crate) fn join(
        &mut self,
        now: Instant,
        text: &str,
        name: Option<String>,
        reply: oneshot::Sender<Result<NewPeer, EngineError>>,
    ) {
        match self.prepare_join(now, text, name) {
            Ok(joining) => {
                self.joining = Some(Accepting { joining, reply });
                self.drive_joining(now);
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn prepare_join(
        &mut self,
        now: Instant,
        text: &str,
        name: Option<String>,
    ) -> Result<Joining, EngineError> {
        self.must_be_up()?;
        let refuse = |problem: InviteProblem| Err(problem.into());
        let link = Link::decode(text).map_err(|error| match error {
            LinkError::Foreign => InviteProblem::Foreign,
            LinkError::Version => InviteProblem::OtherVersion,
            LinkError::Damaged => InviteProblem::Damaged,
        })?;
        if link.public_key == self.identity.public() {
            return refuse(InviteProblem::Own);
        }
        if let Some(peer) = self.peer_of_key(&link.public_key).and_then(|id| self.peers.get(&id)) {
            let inviter = Some(peer.config.name.clone());
            return Err(EngineError::Invite { problem: InviteProblem::Known, inviter, port: None });
        }
        if SystemTime::now() >= link.expires {
            return refuse(InviteProblem::Expired);
        }
        if let Some(name) = &name
            && self.peer_named(name).is_some()
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
        let own = (&*self.identity, self.settings.name.as_str());
        Joining::new(now, link, name, own, &self.list.interfaces, &self.net.indices)
            .ok_or_else(|| unreached.into())
    }

    /// Sends what is due of the race to the inviter.
    pub(crate) fn drive_joining(&mut self, now: Instant) {
        while let Some(accepting) = &mut self.joining {
            match accepting.joining.poll(now, &mut self.net.indices) {
                Step::Send(path, message) => match self.net.sockets.send(path, &message) {
                    sockets::Sent::Yes => {}
                    sockets::Sent::Full | sockets::Sent::Partly(_) => {
                        self.net.counters.add("send_queue_full")
                    }
                    sockets::Sent::Lost(reason) => self.net.counters.add(reason),
                    sockets::Sent::Failed(_) => self.net.counters.add("send_error"),
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
                    self.end_joining(Err(EngineError::Invite { problem, inviter, port }));
                }
            }
        }
    }

    /// Something came inside the session with the inviter.
    pub(crate) fn hear_inviter(&mut self, now: Instant, path: PathKey, outcome: Outcome) {
        let Some(accepting) = &mut self.joining else { return };
        if let Some(reply) = &outcome.reply {
            let _ = self.net.sockets.send(path, reply);
        }
        if outcome.complete.is_some() {
            accepting.joining.secure_up(now, path);
        }
        match outcome.inner.as_deref().and_then(inner::unwrap).and_then(Message::decode) {
            Some(Message::Joined(joined)) => self.joined(&joined),
            Some(Message::Refused(refused)) => {
                let problem = refused.reason.problem();
                let inviter = Some(accepting.joining.link.name.clone());
                self.end_joining(Err(EngineError::Invite { problem, inviter, port: None }));
            }
            Some(Message::Join(_)) | None => {}
        }
        self.drive_joining(now);
    }

    fn joined(&mut self, joined: &Joined) {
        let Some(Accepting { joining, .. }) = &self.joining else { return };
        let wished = joining.name.clone().and_then(|n| name::clean(&n));
        let wished =
            wished.or_else(|| name::clean(&joined.name)).unwrap_or_else(|| joining.link.name.clone());
        let name = name::unique(&wished, |n| self.peer_named(n).is_some());
        let public_key = joining.link.public_key;
        let config = PeerConfig {
            name: name.clone(),
            public_key,
            preshared_key: Some(joining.lasting_key),
            addresses: Addresses::of(AddressSource::Invite, joining.endpoints()),
            kind: Some(PeerKind::Mast),
            eid_v4: None,
            plain: None,
            policy: None,
        };
        self.story.tell(&name, What::InviteAccepted);
        self.adopt(config);
        let eid_v6 = (self.own_eid_v6, mast_proto::eid_v6(&public_key));
        self.end_joining(Ok(NewPeer { name, public_key, eid_v6 }));
    }

    pub(crate) fn end_joining(&mut self, outcome: Result<NewPeer, EngineError>) {
        if let Some(Accepting { reply, .. }) = self.joining.take() {
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
    }

    fn must_be_up(&self) -> Result<(), EngineError> {
        if self.is_up() { Ok(()) } else { Err(EngineError::SwitchedOff) }
    }
}
