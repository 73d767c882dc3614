//! What the control API can ask for, done by the engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mast_control::layers::{self, Facts};
use mast_control::part;
use mast_control::{
    AddressesTold, BudgetSet, Caller, ControlError, Drill, DrillProgress, DrillReport, DrillStep, Eids,
    InterfaceSet, Invite, InviteState, InviteStatus, Invited, Invites, KeyOwner, KeyPlace, KeyUnlock, Logs,
    Metered, Note, Noted, Notices, PeerAdd, PeerAdded, PeerFile, PeerSet, PeerView, PolicyMode, PolicySet,
    Request, Response, Service, SettingsSet, Story, What, Why, timestamp, words as say,
};
use mast_engine::api::{self, EngineError, PeerConfig};
use mast_engine::{Choose, Disclose};
use mast_proto::{AddressSource, Policy, Selector};
use mast_state::{StateDir, StateError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::shared_range;
use crate::convert::{self, millis, refusal};
use crate::daemon::{Daemon, EVENTS};
use crate::endpoint::Endpoint;
use crate::keeper::{DISK, HASTE, PATIENCE};
use crate::{VERSION, doctor, key, log_ring, notation, presence, resolve, wgquick};

/// How long whoever adds a peer waits for its name to be looked up; after that it goes on in the background.
const LOOK_UP: Duration = Duration::from_secs(3);

/// The control API's requests, answered.
pub(crate) struct MastService(pub Arc<Daemon>);

impl Service for MastService {
    async fn call(&self, request: Request, caller: &Caller) -> Result<Response, ControlError> {
        if !request.only_reads() {
            tracing::info!(method = request.method(), user = caller.user, client = caller.client, "asked");
        }
        let kept = !request.only_reads() && !matches!(request, Request::Check(_) | Request::Logs);
        let patience = match request {
            Request::Down | Request::Pause(_) => HASTE,
            _ => PATIENCE,
        };
        let guarded = matches!(
            request,
            Request::Up
                | Request::Down
                | Request::Pause(_)
                | Request::PeerAdd(_)
                | Request::PeerRemove(_)
                | Request::PeerSet(_)
        );
        let answer = match request {
            Request::Status => self.status().await,
            Request::Peer(peer) => self.peer(&peer.name).await,
            Request::Check(check) => done(self.0.engine.check(check.peer.as_deref()).await),
            Request::Up => self.up().await,
            Request::Down => self.down(None).await,
            Request::Pause(pause) => self.down(Some(Duration::from_secs(pause.seconds))).await,
            Request::PeerAdd(add) => self.peer_add(add).await.map(Response::PeerAdded),
            Request::PeerRemove(peer) => self.peer_remove(&peer.name).await,
            Request::Invite(invite) => self.invite(invite).await,
            Request::InviteList => self.invite_list().await,
            Request::InviteRevoke(revoke) => self.invite_revoke(&revoke.id).await,
            Request::PolicySet(policy) => self.policy_set(policy).await,
            Request::PolicyClear(clear) => done(self.0.engine.clear_policy(&clear.peer).await),
            Request::InterfaceSet(set) => self.interface_set(set).await,
            Request::SettingsSet(set) => self.settings_set(set).await,
            Request::Usage => self.usage().await,
            Request::BudgetSet(set) => self.budget_set(set).await,
            Request::Story(story) => Ok(Response::Story(Story {
                events: self.0.events(usize::try_from(story.limit).unwrap_or(usize::MAX)),
            })),
            Request::History => Ok(Response::History(self.0.samples().report())),
            Request::Logs => Ok(Response::Logs(Logs { lines: log_ring::lines() })),
            Request::PeerSet(set) => self.peer_set(set).await,
            Request::KeyOwner(owner) => self.key_owner(owner, caller),
            Request::KeyHandOver => self.key_hand_over(caller).await,
            Request::KeyUnlock(unlock) => self.key_unlock(&unlock, caller).await,
            Request::KeyKeep => self.key_keep(caller).await,
            Request::Presence => Ok(Response::Presence(presence::report(&self.0).await)),
            Request::PresenceLogin(login) => presence::login(&self.0, login).await.map(Response::Presence),
            Request::PresenceLogout => Ok(Response::Presence(presence::logout(&self.0).await)),
            Request::Doctor if caller.steers => doctor::report(&self.0).await.map(Response::Doctor),
            Request::Doctor => doctor::report_to_others(&self.0).await.map(Response::Doctor),
        };
        // What is refused rather than sent around a full tunnel depends on all of these.
        if guarded && answer.is_ok() {
            let done = self.0.guard().await;
            done.map_err(|error| ControlError::of(Why::ProtectionRefused { error }))?;
        }
        let answer = answer?;
        if kept {
            self.0.take_changes(None);
            if let Err(why) = self.0.save(patience).await {
                return Ok(answer.unkept(why));
            }
        }
        Ok(answer)
    }

    async fn drill(
        &self,
        drill: Drill,
        progress: mpsc::Sender<DrillProgress>,
        caller: &Caller,
    ) -> Result<DrillReport, ControlError> {
        tracing::info!(method = "drill", user = caller.user, client = caller.client, "asked");
        let peer = self.0.engine.peer(&drill.peer).await.map_err(refusal)?;
        let (links, mut steps) = self.0.engine.drill(&drill.peer).await.map_err(refusal)?;
        let numbers: BTreeMap<(String, SocketAddr), u8> =
            peer.paths.into_iter().map(|p| ((p.interface, p.remote), p.id)).collect();
        let message = say::drill_progress(&drill.peer, links);
        let links = u32::try_from(links).unwrap_or(u32::MAX);
        // A slow reader misses progress; the report holds everything.
        let _ = progress.try_send(DrillProgress { message, links, step: None });
        let mut done = Vec::new();
        while let Some(step) = steps.recv().await {
            let path = numbers.get(&(step.interface.clone(), step.remote)).copied().unwrap_or_default();
            let step = drill_step(step, path);
            let message = say::silenced(&step);
            let _ = progress.try_send(DrillProgress { message, links, step: Some(step.clone()) });
            done.push(step);
        }
        Ok(DrillReport::judge(done, links))
    }

    fn subscribe(&self) -> impl Notices {
        self.0.subscribe()
    }
}

impl MastService {
    async fn status(&self) -> Result<Response, ControlError> {
        let snapshot = self.0.engine.snapshot().await.map_err(refusal)?;
        let forbidden = doctor::is_forbidden(&snapshot);
        let mut status = convert::status(snapshot, VERSION, self.0.events(EVENTS));
        status.key = self.0.key.lock().await.place();
        let store = self.0.store();
        status.paused_until = store.paused_until().filter(|_| !status.up).map(timestamp::rfc3339);
        status.settings.at_start = store.at_start();
        status.settings.leak_protection = store.leak_protection();
        status.settings.local_network = store.local_network();
        status.unkept = self.0.unsaved();
        layers::fill(&mut status, &Facts { forbidden, names: store.names(), ..Facts::default() });
        Ok(status.into())
    }

    async fn peer(&self, name: &str) -> Result<Response, ControlError> {
        let peer = self.0.engine.peer(name).await.map_err(refusal)?;
        let outline = self.0.engine.outline().await.map_err(refusal)?;
        let interfaces = outline.interfaces.into_iter().map(|(i, choice)| convert::interface(i, choice));
        let mut interfaces: Vec<_> = interfaces.collect();
        let mut peer = convert::peer(peer);
        let facts = Facts { names: self.0.store().names(), ..Facts::default() };
        peer.layers = layers::of_peer(&peer, &facts);
        peer.uplinks = part::of_uplinks(&interfaces, &peer.paths);
        for interface in &mut interfaces {
            interface.layers = layers::of_uplink(interface, std::slice::from_ref(&peer), &facts);
        }
        let view = PeerView { up: outline.up, peer, interfaces, redacted: false };
        Ok(Response::Peer(Box::new(view)))
    }

    async fn up(&self) -> Result<Response, ControlError> {
        self.0.store().set_paused_until(None);
        self.0.pause(None);
        done(self.0.engine.up().await)
    }

    /// For good, or for a while.
    async fn down(&self, pause: Option<Duration>) -> Result<Response, ControlError> {
        self.0.engine.down().await.map_err(refusal)?;
        self.0.store().set_paused_until(pause.map(|pause| SystemTime::now() + pause));
        self.0.pause(pause);
        self.0.status_changed();
        Ok(Response::DONE)
    }

    async fn interface_set(&self, set: InterfaceSet) -> Result<Response, ControlError> {
        let metered = set.metered.map(|metered| match metered {
            Metered::Yes => Some(true),
            Metered::No => Some(false),
            Metered::Auto => None,
        });
        let choice = Choose { metered, excluded: set.excluded };
        done(self.0.engine.choose(&set.name, choice).await)
    }

    async fn settings_set(&self, set: SettingsSet) -> Result<Response, ControlError> {
        if set.leak_protection.is_some() || set.local_network.is_some() {
            let before = {
                let mut store = self.0.store();
                let before = (store.leak_protection(), store.local_network());
                store.set_leak_protection(set.leak_protection.unwrap_or(before.0));
                store.set_local_network(set.local_network.unwrap_or(before.1));
                before
            };
            if let Err(error) = self.0.guard().await {
                {
                    let mut store = self.0.store();
                    store.set_leak_protection(before.0);
                    store.set_local_network(before.1);
                }
                // As it was; that this fails, too, would be said of the first.
                let _ = self.0.guard().await;
                return Err(ControlError::of(Why::System { error }).in_field("leak_protection"));
            }
            // What may be said in the local network may be another thing now.
            self.0.rendezvous.changed.notify_one();
        }
        if let Some(at_start) = set.at_start {
            self.0.store().set_at_start(at_start);
        }
        self.0.status_changed();
        Ok(Response::DONE)
    }

    /// Refuses whoever is neither administrator nor the key's owner: to steer is not to be this host.
    fn check_owner(&self, caller: &Caller) -> Result<(), ControlError> {
        key::check_owner(self.0.store().key_owner(), caller)
    }

    fn key_owner(&self, owner: KeyOwner, caller: &Caller) -> Result<Response, ControlError> {
        if !caller.administrator {
            return Err(ControlError::not_permitted(
                "only root says whose the private key is: run with sudo",
            ));
        }
        if let Some(user) = &owner.user
            && (user.is_empty() || user.len() > 64 || user.chars().any(char::is_control))
        {
            return Err(ControlError::bad_value("user", "must be a user's number, such as \"1000\""));
        }
        self.0.store().set_key_owner(owner.user);
        Ok(Response::DONE)
    }

    async fn key_hand_over(&self, caller: &Caller) -> Result<Response, ControlError> {
        self.check_owner(caller)?;
        Ok(Response::Key(self.0.key.lock().await.hand_over()))
    }

    /// The key store has the key: the file goes, and the state says where the key is, and whose it is. In this order, so
    /// that a crash between the two leaves the file.
    async fn key_unlock(&self, unlock: &KeyUnlock, caller: &Caller) -> Result<Response, ControlError> {
        self.check_owner(caller)?;
        let mut holder = self.0.key.lock().await;
        if holder.confirm(unlock)? {
            {
                let mut store = self.0.store();
                store.set_handed_key(Some(api::public_key(holder.key())));
                if !caller.administrator {
                    store.set_key_owner(Some(caller.user.clone()));
                }
            }
            if let Err(why) = self.0.save(PATIENCE).await {
                return Err(ControlError::unavailable(format!("the key stays in its file: {why}")));
            }
            self.0.keeper.set_key(None);
            self.in_state(|dir| dir.forget_private_key()).await?;
            holder.moved(KeyPlace::Session);
            self.0.status_changed();
        }
        Ok(Response::DONE)
    }

    async fn key_keep(&self, caller: &Caller) -> Result<Response, ControlError> {
        self.check_owner(caller)?;
        let mut holder = self.0.key.lock().await;
        let key = holder.key().clone();
        self.in_state(move |dir| dir.write_private_key(&key)).await?;
        self.0.store().set_handed_key(None);
        holder.moved(KeyPlace::File);
        self.0.status_changed();
        Ok(Response::DONE)
    }

    /// Does something with the state directory, where waiting for the disk holds up nobody.
    async fn in_state(
        &self,
        work: impl FnOnce(&StateDir) -> Result<(), StateError> + Send + 'static,
    ) -> Result<(), ControlError> {
        let dir = Arc::clone(self.0.store().dir());
        match DISK.within(PATIENCE, move || work(&dir)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ControlError::unavailable(error.to_string())),
            Err(hung) => {
                let why = format!("the disk of the state directory does not answer: {hung}");
                Err(ControlError::unavailable(why))
            }
        }
    }

    async fn usage(&self) -> Result<Response, ControlError> {
        let glance = self.0.engine.glance(0).await.map_err(refusal)?;
        self.0.fold(glance.traffic);
        Ok(Response::Usage(self.0.store().accounts.report()))
    }

    async fn budget_set(&self, set: BudgetSet) -> Result<Response, ControlError> {
        let present = self.0.engine.outline().await.map_err(refusal)?.interfaces;
        let present: Vec<_> =
            present.into_iter().map(|(i, _)| i.network.map_or(i.name, |n| format!("network:{n}"))).collect();
        let known = {
            let accounts = &mut self.0.store().accounts;
            if accounts.set_budget(&set.uplink, set.bytes, &present) { None } else { Some(accounts.names()) }
        };
        if let Some(mut known) = known {
            known.extend(present);
            known.sort();
            known.dedup();
            return Err(ControlError::of(Why::NoUplink { name: set.uplink }).with_known(known));
        }
        self.0.tell_spent().await;
        Ok(Response::DONE)
    }

    async fn peer_add(&self, add: PeerAdd) -> Result<PeerAdded, ControlError> {
        let name = match add.name {
            Some(name) => Some(notation::name(&name).map_err(|why| ControlError::bad_value("name", why))?),
            None => None,
        };
        if let Some(link) = add.link {
            let peer = self.0.engine.join(&link, name).await.map_err(refusal)?;
            let (local, remote) = peer.eid_v6;
            let eid = Eids {
                local_v6: Some(local.to_string()),
                remote_v6: Some(remote.to_string()),
                ..Eids::default()
            };
            return Ok(PeerAdded { name: peer.name, eid, notes: Vec::new() });
        }
        match add.file {
            Some(file) => self.add_file(&file, name).await,
            None => Err(ControlError::bad_params("missing: give either `link` or `file`")),
        }
    }

    /// Adds the peers of a WireGuard file: all, or none.
    async fn add_file(&self, file: &PeerFile, name: Option<String>) -> Result<PeerAdded, ControlError> {
        let read = wgquick::parse(&file.contents)
            .map_err(|error| Why::BadFile { file: file.name.clone(), problem: error.to_string() })
            .map_err(ControlError::of)?;
        self.check_zones(&file.name, &read.peers).await?;
        let name = name.unwrap_or_else(|| wgquick::name_of_file(&file.name));
        let several = read.peers.len() > 1;
        let mut peers: Vec<(PeerConfig, Option<Endpoint>)> = Vec::new();
        let known = self.0.store().peers();
        for (index, wg) in read.peers.into_iter().enumerate() {
            let mut peer = wg.peer;
            peer.name = if several { format!("{name}-{}", index + 1) } else { name.clone() };
            let earlier = known.iter().chain(peers.iter().map(|(p, _)| p));
            free(&peer, earlier)?;
            peers.push((peer, wg.endpoint.filter(|e| e.address().is_none())));
        }
        let (mut added, mut notes): (Vec<PeerAdded>, Vec<Noted>) = (Vec::new(), Vec::new());
        // For all of them together: whoever asked waits.
        let until = Instant::now() + LOOK_UP;
        let uplinks = resolve::past(&self.0).await;
        for (mut peer, host) in peers {
            let mut looked_up = None;
            if let Some(host) = &host {
                if let Some(at) = host.zoned() {
                    peer.addresses.set(AddressSource::Configuration, [at]);
                } else {
                    let found = tokio::time::timeout_at(until, resolve::Found::look_up(host, &uplinks)).await;
                    let found = found.unwrap_or_default();
                    looked_up = Some(!found.addresses.is_empty());
                    peer.addresses.set(AddressSource::Dns, found.addresses);
                    notes.extend(found.notes);
                }
                self.0.store().set_hosts(peer.public_key, vec![host.clone()]);
                if let Some(found) = looked_up {
                    self.0.store().note_look_up(peer.public_key, found);
                }
            }
            let (key, name) = (peer.public_key, peer.name.clone());
            let unresolved = host.filter(|_| peer.addresses.is_empty());
            let eid = peer.plain.as_ref().map(convert::plain_eids).unwrap_or_default();
            if let Err(error) = self.0.engine.add_peer(peer).await {
                self.withdraw(&added, key).await;
                return Err(refusal(error));
            }
            if let Some(host) = unresolved {
                self.0.note(&name, What::NameUnknown { host: host.to_string() });
            }
            added.push(PeerAdded { name, eid, notes: Vec::new() });
        }
        let mut first =
            added.into_iter().next().ok_or_else(|| ControlError::invalid("the file has no peer"))?;
        notes.extend(read.notes);
        first.notes = notes.into_iter().map(Note::from).collect();
        for note in &first.notes {
            self.0.note_text(&first.name, note.text.clone());
        }
        Ok(first)
    }

    async fn peer_set(&self, set: PeerSet) -> Result<Response, ControlError> {
        let account = set.presence.as_deref().map(presence::of_peer).transpose()?;
        if let Some(on) = set.full_tunnel {
            if on {
                self.check_full_tunnel(&set.name)?;
            }
            self.0.engine.set_full_tunnel(&set.name, on).await.map_err(refusal)?;
        }
        if let Some(account) = account {
            self.0.engine.set_peer_account(&set.name, account).await.map_err(refusal)?;
            self.0.rendezvous.changed.notify_one();
        }
        let addresses = set.addresses.map(|told| match told {
            AddressesTold::All => mast_proto::AddressesTold::All,
            AddressesTold::PublicOnly => mast_proto::AddressesTold::PublicOnly,
            // What is unknown was refused when the request was read.
            AddressesTold::RelayedOnly | AddressesTold::Unknown => mast_proto::AddressesTold::RelayedOnly,
        });
        let disclose = Disclose { mast: set.mast, addresses, own: set.own };
        done(self.0.engine.disclose(&set.name, disclose).await)
    }

    /// Whether everything may go to a peer: not while it goes to another.
    fn check_full_tunnel(&self, name: &str) -> Result<(), ControlError> {
        let known = self.0.store().peers();
        let Some(mut peer) = known.iter().find(|p| p.name == name).cloned() else { return Ok(()) };
        if let Some(plain) = &mut peer.plain {
            (plain.split, plain.unrouted) = (false, false);
        }
        free(&peer, known.iter())
    }

    /// Whether every zone is an interface that is used: no other ever leads to the peer.
    async fn check_zones(&self, file: &str, peers: &[wgquick::WgPeer]) -> Result<(), ControlError> {
        let zoned = peers.iter().filter_map(|p| p.endpoint.as_ref()).filter(|e| e.zone().is_some());
        for endpoint in zoned {
            let present = self.0.engine.outline().await.map_err(refusal)?.interfaces;
            let is_used =
                |zone: &str| present.iter().any(|(i, _)| i.name == zone || zone.parse() == Ok(i.id.0));
            if let Some(zone) = endpoint.zone().filter(|zone| !is_used(zone)) {
                let names: Vec<_> = present.iter().map(|(i, _)| i.name.as_str()).collect();
                let known = if names.is_empty() { "none now".to_owned() } else { names.join(", ") };
                let problem = format!(
                    "`{endpoint}`: the zone `{zone}` is no interface that MAST uses; there are: {known}"
                );
                return Err(ControlError::of(Why::BadFile { file: file.to_owned(), problem }));
            }
        }
        Ok(())
    }

    /// Takes back peers that were added before one could not be.
    async fn withdraw(&self, added: &[PeerAdded], refused: api::PublicKey) {
        if self.0.store().peer(&refused).is_none() {
            self.0.store().forget_hosts(refused);
        }
        for peer in added {
            if let Err(error) = self.0.engine.remove_peer(&peer.name).await {
                tracing::warn!(%error, "a peer could not be taken back");
            }
        }
    }

    async fn peer_remove(&self, name: &str) -> Result<Response, ControlError> {
        if self.0.store().is_configured(name) {
            let (name, file) = (name.to_owned(), self.0.facts.config.display().to_string());
            return Err(ControlError::of(Why::Configured { name, file }));
        }
        let key = self.0.store().key_of(name);
        self.0.engine.remove_peer(name).await.map_err(refusal)?;
        if let Some(key) = key {
            self.0.store().forget_hosts(key);
        }
        Ok(Response::DONE)
    }

    async fn invite(&self, invite: Invite) -> Result<Response, ControlError> {
        let name = invite.name.as_deref().map(notation::name).transpose();
        let name = name.map_err(|why| ControlError::bad_value("name", why))?;
        let made =
            self.0.engine.invite(Duration::from_secs(invite.expires_s), name).await.map_err(refusal)?;
        Ok(Response::Invited(Invited { link: made.link, expires: timestamp::rfc3339(made.expires) }))
    }

    async fn invite_list(&self) -> Result<Response, ControlError> {
        let now = SystemTime::now();
        let invites = self.0.engine.invites().await.map_err(refusal)?;
        let invites = invites.into_iter().map(|invite| InviteStatus {
            id: invite.id().to_string(),
            state: match &invite {
                invite if invite.used => InviteState::Used,
                invite if invite.revoked => InviteState::Revoked,
                invite if invite.is_expired(now) => InviteState::Expired,
                _ => InviteState::Open,
            },
            expires: timestamp::rfc3339(invite.expires),
            name: invite.name,
        });
        Ok(Response::Invites(Invites { invites: invites.collect() }))
    }

    async fn invite_revoke(&self, id: &str) -> Result<Response, ControlError> {
        let revoked = match id.parse() {
            Ok(id) => self.0.engine.revoke_invite(id).await,
            Err(error) => Err(error),
        };
        match revoked {
            Err(error @ EngineError::NoInvite { .. }) => {
                let known = self.0.engine.invites().await.map_err(refusal)?;
                Err(refusal(error).with_known(known.iter().map(|invite| invite.id().to_string())))
            }
            revoked => done(revoked),
        }
    }

    async fn policy_set(&self, set: PolicySet) -> Result<Response, ControlError> {
        if let Some(word) =
            set.pin.iter().find(|w| w.is_empty() || w.len() > 128 || w.chars().any(char::is_control))
        {
            let problem = format!("{word:?} names no interface, kind or network");
            return Err(ControlError::bad_value("pin", problem));
        }
        let policy = match set.mode {
            PolicyMode::Pin => Policy::Pin {
                order: set.pin.iter().map(|word| Selector::parse(word)).collect(),
                fallback: set.fallback,
            },
            PolicyMode::Redundant => Policy::Redundant { small: set.small, metered: set.metered },
            PolicyMode::Bonded => Policy::Bonded { metered: set.metered },
            // What is unknown was refused when the request was read.
            PolicyMode::Auto | PolicyMode::Unknown => Policy::Auto,
        };
        done(self.0.engine.set_policy(set.peer.as_deref(), policy).await)
    }
}

/// Whether no range of a peer leads to one of the others already.
fn free<'a>(peer: &PeerConfig, others: impl Iterator<Item = &'a PeerConfig>) -> Result<(), ControlError> {
    for other in others.filter(|p| p.public_key != peer.public_key) {
        if let Some(range) = shared_range(other, peer) {
            let (peer, range, other) = (peer.name.clone(), range.to_string(), other.name.clone());
            return Err(ControlError::of(Why::RangeTaken { peer, range, other }));
        }
    }
    Ok(())
}

fn done(result: Result<(), EngineError>) -> Result<Response, ControlError> {
    result.map(|()| Response::DONE).map_err(refusal)
}

fn drill_step(step: api::DrillStep, path: u8) -> DrillStep {
    let gap_ms = step.to.is_some().then(|| millis(step.gap));
    DrillStep {
        path: path.into(),
        paths: u32::try_from(step.paths).unwrap_or(u32::MAX),
        interface: step.interface,
        to: step.to,
        gap_ms,
        sent: step.sent.into(),
        lost: step.lost.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_after_which_nothing_carried_on_has_no_gap() {
        let step = |to: Option<&str>| {
            let step = api::DrillStep {
                interface: "wlan0".into(),
                remote: "192.0.2.1:1".parse().unwrap(),
                paths: 2,
                to: to.map(Into::into),
                gap: Duration::from_millis(70),
                sent: 180,
                lost: 1,
            };
            drill_step(step, 3)
        };
        assert_eq!(
            (step(Some("eth0")).path, step(Some("eth0")).gap_ms, step(None).gap_ms),
            (3, Some(70.0), None)
        );
    }
}
