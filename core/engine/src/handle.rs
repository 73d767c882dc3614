//! How the service talks to the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use mast_proto::{AddressSource, AddressesTold, Interface, Policy, RelayId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{
    DrillStep, EngineError, Glance, Happening, InviteId, InviteRecord, Outline, PeerConfig, PeerSnapshot,
    PublicKey, Snapshot,
};
use crate::mirror::Token;
use crate::nat64::Nat64;
use crate::peer::PeerId;
use crate::relays::RelayLink;
use crate::tidings::{Reader, Tidings};

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the engine is asked.
pub(crate) enum Command {
    Snapshot(Reply<Snapshot>),
    Peers(Option<PeerId>, Reply<Page>),
    Peer(String, Reply<PeerSnapshot>),
    Outline(Reply<Outline>),
    Told(Option<PeerId>, Reply<ToldPage>),
    Check(Option<String>, Reply<()>),
    Up(Reply<()>),
    Down(Reply<()>),
    AddPeer(Box<PeerConfig>, Reply<()>),
    RemovePeer(String, Reply<()>),
    Invite { expires: Duration, name: Option<String>, reply: Reply<Invite> },
    Invites(Reply<Vec<InviteRecord>>),
    RevokeInvite(InviteId, Reply<()>),
    InviteKept(InviteId, Reply<()>),
    Join { link: String, name: Option<String>, reply: Reply<NewPeer> },
    Glance(usize, Reply<Glance>),
    SetPolicy { peer: Option<String>, policy: Option<Policy>, reply: Reply<()> },
    SetAddresses { peer: String, source: AddressSource, list: Vec<SocketAddr>, reply: Reply<()> },
    Choose { interface: String, choice: Choose, reply: Reply<()> },
    StunServers(Vec<SocketAddr>, Reply<()>),
    Translated(BTreeMap<String, Nat64>, Reply<()>),
    AddRelay { interface: String, at: SocketAddr, link: Box<dyn RelayLink>, reply: Reply<RelayId> },
    RemoveRelay(RelayId, Reply<()>),
    Spend(BTreeSet<String>, Reply<()>),
    FullTunnel { peer: String, on: bool, reply: Reply<()> },
    SetAccount(Option<String>, Reply<()>),
    SetPeerAccount { peer: String, account: Option<String>, reply: Reply<()> },
    Disclose { peer: String, disclose: Disclose, reply: Reply<()> },
    Protect { on: bool, local_network: bool, reply: Reply<()> },
    Applied(Reply<()>),
    Woke(Reply<()>),
    Recent(Reply<Vec<Happening>>),
    Mirror(Reply<(Token, Arc<AtomicBool>)>),
    Drill { peer: String, reply: Reply<(usize, mpsc::Receiver<DrillStep>)> },
    Stop(Reply<()>),
}

/// Some peers, and the last of them; none where there are no more.
pub(crate) struct Page {
    pub peers: Vec<PeerSnapshot>,
    pub last: Option<PeerId>,
}

/// What some peers may be told, and the last of them; none where there are no more.
pub(crate) struct ToldPage {
    pub told: Vec<(PublicKey, Vec<SocketAddr>)>,
    pub last: Option<PeerId>,
}

/// What is said of what a peer may know; what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disclose {
    /// Whether MAST may be spoken with it.
    pub mast: Option<bool>,
    /// Which addresses of this host it is told.
    pub addresses: Option<AddressesTold>,
    /// Whether it is the user's own.
    pub own: Option<bool>,
}

/// A change of what is chosen for an interface; what is none stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choose {
    /// Whether traffic over it costs money; `Some(None)` leaves it to the system.
    pub metered: Option<Option<bool>>,
    /// Whether it shall never be used.
    pub excluded: Option<bool>,
}

/// An invite to be handed to whoever shall become a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The link: `mast://1/…`. Whoever has it can become a peer, once.
    pub link: String,
    /// When it ends.
    pub expires: SystemTime,
}

/// A peer that came by an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPeer {
    /// What it is called here.
    pub name: String,
    /// Its identity.
    pub public_key: PublicKey,
    /// This host's IPv6 EID and the peer's. The IPv4 EIDs are agreed a moment later.
    pub eid_v6: (Ipv6Addr, Ipv6Addr),
}

/// Talks to a running engine. Cheap to clone; the engine ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) listeners: Tidings<Happening>,
    pub(crate) whereabouts: watch::Receiver<()>,
    pub(crate) uplinks: watch::Receiver<Arc<[Interface]>>,
    pub(crate) port: u16,
}

impl EngineHandle {
    /// How everything stands. Asking changes nothing; [`EngineHandle::check`] has paths tried.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot, EngineError> {
        let mut snapshot = self.ask(Command::Snapshot).await?;
        let mut after = None;
        loop {
            // Page by page: with very many peers, datagrams must not wait for all of them.
            let page = self.ask(|reply| Command::Peers(after, reply)).await?;
            snapshot.peers.extend(page.peers);
            after = page.last;
            if after.is_none() {
                return Ok(snapshot);
            }
        }
    }

    /// How it stands with one peer; the others cost nothing.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn peer(&self, name: &str) -> Result<PeerSnapshot, EngineError> {
        self.ask(|reply| Command::Peer(name.to_owned(), reply)).await
    }

    /// Has a datagram that begins with what is returned go back to the host, as though its destination had answered
    /// ([`crate::mirror`]). The flag becomes true when it came out of the virtual interface.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn mirror(&self) -> Result<(Token, Arc<AtomicBool>), EngineError> {
        self.ask(Command::Mirror).await
    }

    /// What costs little to tell, however many peers there are.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn outline(&self) -> Result<Outline, EngineError> {
        self.ask(Command::Outline).await
    }

    /// The interfaces that may be used, as the user wants them seen, whenever they change.
    pub fn uplinks(&self) -> watch::Receiver<Arc<[Interface]>> {
        self.uplinks.clone()
    }

    /// The UDP port of this host, over all interfaces.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses of this host that each peer of MAST is told, the best first, or would be if it could be reached; of
    /// plain WireGuard peers, and of all while MAST is down, nothing.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn told(&self) -> Result<Vec<(PublicKey, Vec<SocketAddr>)>, EngineError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.ask(|reply| Command::Told(after, reply)).await?;
            all.extend(page.told);
            after = page.last;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Changes whenever [`EngineHandle::told`] may say something else: after interfaces, relays or peers changed. How a peer
    /// sees this host may change without.
    pub fn whereabouts(&self) -> watch::Receiver<()> {
        self.whereabouts.clone()
    }

    /// This host's account at a presence service, which goes into invites and to whoever accepts one.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn set_account(&self, account: Option<String>) -> Result<(), EngineError> {
        self.ask(|reply| Command::SetAccount(account, reply)).await
    }

    /// The account of a peer there.
    ///
    /// # Errors
    /// When there is no such peer.
    pub async fn set_peer_account(&self, peer: &str, account: Option<String>) -> Result<(), EngineError> {
        let peer = peer.to_owned();
        self.ask(|reply| Command::SetPeerAccount { peer, account, reply }).await
    }

    /// Tries now what was not heard of lately, of one peer or of all: somebody looks, and wants no old news.
    ///
    /// # Errors
    /// When there is no such peer.
    pub async fn check(&self, peer: Option<&str>) -> Result<(), EngineError> {
        let peer = peer.map(str::to_owned);
        self.ask(|reply| Command::Check(peer, reply)).await
    }

    /// Makes the virtual interface and the sockets, and connects to every peer.
    ///
    /// # Errors
    /// When the system refuses; nothing is left behind.
    pub async fn up(&self) -> Result<(), EngineError> {
        self.ask(Command::Up).await
    }

    /// Takes leave of every peer and removes the virtual interface and the sockets.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn down(&self) -> Result<(), EngineError> {
        self.ask(Command::Down).await
    }

    /// Adds a peer and connects to it.
    ///
    /// # Errors
    /// When its name or key is there already.
    pub async fn add_peer(&self, peer: PeerConfig) -> Result<(), EngineError> {
        self.ask(|reply| Command::AddPeer(Box::new(peer), reply)).await
    }

    /// Takes leave of a peer and forgets it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn remove_peer(&self, name: &str) -> Result<(), EngineError> {
        self.ask(|reply| Command::RemovePeer(name.to_owned(), reply)).await
    }

    /// Makes an invite. The new peer will be called `name`, or else what it calls itself.
    ///
    /// # Errors
    /// When MAST is down, or has no address that the other end could reach.
    pub async fn invite(&self, expires: Duration, name: Option<String>) -> Result<Invite, EngineError> {
        self.ask(|reply| Command::Invite { expires, name, reply }).await
    }

    /// The invites that were given out, oldest first.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn invites(&self) -> Result<Vec<InviteRecord>, EngineError> {
        self.ask(Command::Invites).await
    }

    /// Lets nobody accept an invite any more. Who accepted it before stays a peer.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn revoke_invite(&self, id: InviteId) -> Result<(), EngineError> {
        self.ask(|reply| Command::RevokeInvite(id, reply)).await
    }

    /// That an invite was used is kept ([`crate::api::Change::InviteUsed`]): whoever used it may hear of it now.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn invite_kept(&self, id: InviteId) -> Result<(), EngineError> {
        self.ask(|reply| Command::InviteKept(id, reply)).await
    }

    /// Accepts an invite. The inviter will be called `name`, or else what it calls itself.
    ///
    /// # Errors
    /// [`EngineError::Invite`] with the reason and the remedy.
    pub async fn join(&self, link: &str, name: Option<String>) -> Result<NewPeer, EngineError> {
        self.ask(|reply| Command::Join { link: link.to_owned(), name, reply }).await
    }

    /// What every interface carried, and so many paths at a glance, those of the oldest peers.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn glance(&self, paths: usize) -> Result<Glance, EngineError> {
        self.ask(|reply| Command::Glance(paths, reply)).await
    }

    /// These uplinks have carried all that the user means to spend on them; others have not. They still carry where
    /// nothing else works, but nothing that works is left for them. An uplink is an interface's name, or `network:` and
    /// that of the network that it is attached to.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn spend(&self, uplinks: BTreeSet<String>) -> Result<(), EngineError> {
        self.ask(|reply| Command::Spend(uplinks, reply)).await
    }

    /// Sets the policy of a peer, or of all: peers with one of their own keep it, until [`EngineHandle::clear_policy`].
    /// Where that of all uses several paths at once, plain WireGuard peers follow [`Policy::Auto`].
    ///
    /// # Errors
    /// When there is no such peer, it is a plain WireGuard peer and the policy uses several paths at once, or the
    /// policy names an interface that does not exist.
    pub async fn set_policy(&self, peer: Option<&str>, policy: Policy) -> Result<(), EngineError> {
        let peer = peer.map(str::to_owned);
        self.ask(|reply| Command::SetPolicy { peer, policy: Some(policy), reply }).await
    }

    /// Lets a peer follow the policy of all again.
    ///
    /// # Errors
    /// When there is no such peer.
    pub async fn clear_policy(&self, peer: &str) -> Result<(), EngineError> {
        let peer = Some(peer.to_owned());
        self.ask(|reply| Command::SetPolicy { peer, policy: None, reply }).await
    }

    /// Replaces the addresses of a peer that a source names; those of other sources stay. What no source names any
    /// more is not tried again, and a path that carries data goes on for as long as it works. They are kept.
    ///
    /// # Errors
    /// When there is no such peer, or the source is [`AddressSource::Set`], whose list is the peer's own to tell.
    pub async fn set_addresses(
        &self,
        peer: &str,
        source: AddressSource,
        list: Vec<SocketAddr>,
    ) -> Result<(), EngineError> {
        let peer = peer.to_owned();
        self.ask(|reply| Command::SetAddresses { peer, source, list, reply }).await
    }

    /// Has these STUN servers asked how this host is seen from outside, at most four; none: nobody is asked.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn set_stun_servers(&self, servers: Vec<SocketAddr>) -> Result<(), EngineError> {
        self.ask(|reply| Command::StunServers(servers, reply)).await
    }

    /// Over which interfaces, by name, IPv4 addresses are reached by a NAT64 (RFC 6146), and with which prefix; all of them.
    /// It is of use to those that have no IPv4 of their own.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn set_translated(&self, interfaces: BTreeMap<String, Nat64>) -> Result<(), EngineError> {
        self.ask(|reply| Command::Translated(interfaces, reply)).await
    }

    /// Has an address at a relay, reached over an interface, by a link to it. The number by which it goes again. At a peer
    /// that relays the address is this host's EID.
    ///
    /// # Errors
    /// When there is no such interface, or it has no address of that version of IP, or there are too many relays.
    pub async fn add_relay(
        &self,
        interface: &str,
        at: SocketAddr,
        link: Box<dyn RelayLink>,
    ) -> Result<RelayId, EngineError> {
        let interface = interface.to_owned();
        self.ask(|reply| Command::AddRelay { interface, at, link, reply }).await
    }

    /// The relay of this number is gone; what went through it goes another way.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn remove_relay(&self, number: RelayId) -> Result<(), EngineError> {
        self.ask(|reply| Command::RemoveRelay(number, reply)).await
    }

    /// Changes what is chosen for an interface. It is in force when this returns.
    ///
    /// # Errors
    /// When there is no such interface, and nothing was chosen for one of that name before.
    pub async fn choose(&self, interface: &str, choice: Choose) -> Result<(), EngineError> {
        let interface = interface.to_owned();
        self.ask(|reply| Command::Choose { interface, choice, reply }).await
    }

    /// Has everything go to a peer, or only what is its own.
    ///
    /// # Errors
    /// When there is no such peer, or none to which everything could go.
    pub async fn set_full_tunnel(&self, peer: &str, on: bool) -> Result<(), EngineError> {
        let peer = peer.to_owned();
        self.ask(|reply| Command::FullTunnel { peer, on, reply }).await
    }

    /// Changes what a peer may know of this host.
    ///
    /// # Errors
    /// When there is no such peer, or MAST is forbidden with one that came by MAST.
    pub async fn disclose(&self, peer: &str, disclose: Disclose) -> Result<(), EngineError> {
        let peer = peer.to_owned();
        self.ask(|reply| Command::Disclose { peer, disclose, reply }).await
    }

    /// Whether nothing may leave around a full tunnel, and private ranges may be spoken with all the same. It is in force when this returns.
    ///
    /// # Errors
    /// When the system refuses; it is tried again all the same.
    pub async fn protect(&self, on: bool, local_network: bool) -> Result<(), EngineError> {
        self.ask(|reply| Command::Protect { on, local_network, reply }).await
    }

    /// Waits until what was asked for before is set on the host, too: addresses, routes, leak protection.
    ///
    /// # Errors
    /// When the system refuses leak protection, or cannot be asked. Single addresses and routes that it refuses are told
    /// as happenings.
    pub async fn applied(&self) -> Result<(), EngineError> {
        self.ask(Command::Applied).await
    }

    /// The machine slept, or the service was held up: every path is tried again, and what is set on the host is looked at.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn woke(&self) -> Result<(), EngineError> {
        self.ask(Command::Woke).await
    }

    /// What happens from now on. Nothing is lost to a listener before 32,768 happenings wait for it; then the oldest are,
    /// and [`crate::Heard::Missed`] stands in their place.
    pub fn happenings(&self) -> Reader<Happening> {
        self.listeners.subscribe()
    }

    /// What happened lately, oldest first.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn recent(&self) -> Result<Vec<Happening>, EngineError> {
        self.ask(Command::Recent).await
    }

    /// Takes each link to a peer away in turn, with all its paths, and tells of each: how many there are, and what
    /// comes of it. The drill ends when the receiver is dropped.
    ///
    /// # Errors
    /// When there is no such peer, another drill runs, or the peer is reached over fewer than two links.
    pub async fn drill(&self, peer: &str) -> Result<(usize, mpsc::Receiver<DrillStep>), EngineError> {
        self.ask(|reply| Command::Drill { peer: peer.to_owned(), reply }).await
    }

    /// Ends the engine: takes leave of every peer, waits a moment for their answer, removes the virtual interface.
    ///
    /// # Errors
    /// When it had stopped already.
    pub async fn stop(&self) -> Result<(), EngineError> {
        self.ask(Command::Stop).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }
}
