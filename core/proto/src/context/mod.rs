//! The host-pair context: everything that one host knows of another.
//!
//! | file | idea |
//! |---|---|
//! | [`path`] | one path: its state and its figures |
//! | `peer` | the other end: what it speaks, and what it said of itself |
//! | `locals` | this end: its interfaces and addresses |
//! | `remotes` | where the other end may be reached, by source |
//! | `links` | what fails together: the links of both ends |
//! | [`epoch`] | one epoch: its keys, counters and replay windows |
//! | `keys` | all epochs, and the one that is sealed with |
//! | `timing` | every duration, with its reason |
//! | `timers` | everything that can be due: when, and what is done then |
//! | `contact` | first contact: the race of handshakes |
//! | `agreement` | INIT and its answer, new epochs |
//! | `control` | SET, PROBE, REPORT, SHUT: what comes in, what goes out |
//! | `liveness` | probing, suspicion, failure, retry |
//! | `steady` | the rhythm of what answers data that is sent without a pause |
//! | `answers` | which datagram answers which, where the peer reports nothing |
//! | `plain` | plain WireGuard peers: silence, tries, what is to be expected |
//! | `mtu` | asking paths what size they carry |
//! | `fitness` | judging how fit paths are, and what follows |
//! | `selection` | what is chosen, since when, and the silence that came with a move |
//! | `select` | which path carries data, and when to move |
//! | `part` | whether a path takes part in carrying data now, and why not |
//! | `data` | sealing and opening datagrams between EIDs |
//! | `run` | many at once: what changes the context first, and what may be sealed elsewhere |
//! | `outflow` | what leaves: numbers, what is held, what is not confirmed, what goes again |
//! | `redundant` | copies over a second path |
//! | `bonded` | data over all paths at once |
//! | `idle` | giving memory back when idle |

mod agreement;
mod answers;
mod bonded;
mod contact;
mod control;
mod data;
mod epoch;
mod fitness;
mod idle;
mod keys;
#[cfg(test)]
mod lies_tests;
mod links;
mod liveness;
mod locals;
mod mtu;
mod outflow;
mod part;
mod path;
mod paths;
mod peer;
mod plain;
mod redundant;
mod remotes;
mod run;
mod select;
mod selection;
mod steady;
mod timers;
pub mod timing;

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::{Aead, Indices, Random};
use crate::disclosure::Disclosure;
use crate::hold::HoldLimits;
use crate::interface::Interface;
use crate::policy::Policy;
use crate::wire::{EidPair, ShutReason};

pub use data::{DATA_HEADROOM, DATA_OVERHEAD, DATA_TAILROOM, Drop, Outgoing, Received};
pub use links::{Link, PeerLink};
pub use liveness::SendError;
pub use part::{LeftOut, Part, PathPart};
pub use path::{PathKey, PathState, PathView, Via};
pub use redundant::SMALL_DATAGRAM;
pub use remotes::AddressSource;
pub use run::Unsealed;
pub use select::Reason;

use agreement::Agreement;
use bonded::Bond;
use contact::Contact;
use control::OwnSet;
use data::Arrived;
use keys::Keys;
use locals::Locals;
use outflow::Outflow;
use path::Path;
use peer::Peer;
use plain::Plain;
use redundant::Spare;
use remotes::Remotes;
use selection::Selection;

/// What a context needs to know when it is made.
#[derive(Debug, Clone)]
pub struct ContextConfig {
    /// Where the indices come from that the other end shall put into its datagrams.
    pub indices: Indices,
    /// Random for each start of this process.
    pub instance: u64,
    /// Whether this end's public key is the lower one, compared as big-endian numbers. It settles every tie.
    pub lower: bool,
    /// What this host calls itself, at most [`crate::wire::MAX_NAME`] bytes.
    pub name: String,
    /// AEADs in order of preference.
    pub aeads: Vec<Aead>,
    /// This end's IPv6 EID.
    pub eid_v6: Ipv6Addr,
    /// The IPv4 EIDs agreed earlier.
    pub eid_v4: Option<EidPair>,
    /// The UDP port of this host, which SET announces.
    pub port: u16,
    /// What the peer is known to be; `None` when it must be found out.
    pub expect: Option<PeerKind>,
    /// What the user lets the peer know.
    pub disclosure: Disclosure,
    /// The user's policy.
    pub policy: Policy,
    /// Bounds of what is held while no path works.
    pub hold: HoldLimits,
    /// 32 random bytes.
    pub seed: [u8; 32],
}

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// MAST.
    Mast,
    /// WireGuard alone.
    WireGuard,
}

/// How things stand with the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Not wanted now, by either end.
    Down,
    /// Never reached since it was wanted.
    Connecting,
    /// It answers.
    Connected,
    /// It was reached, and answers on no path now.
    Unreachable,
}

/// What the owner of a context must send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A sealed datagram, as it is.
    Datagram {
        /// Over this path.
        path: PathKey,
        /// The UDP payload.
        payload: Vec<u8>,
    },
    /// A WireGuard handshake initiation.
    Contact {
        /// Over this path.
        path: PathKey,
        /// Begin a new handshake; else send the same initiation again: the target answers the copy that comes
        /// first, and takes the others for replays.
        fresh: bool,
    },
    /// An empty message in the WireGuard session, where there is one: a plain WireGuard peer sends to where the latest came
    /// from.
    Keepalive {
        /// Over this path.
        path: PathKey,
    },
    /// A message inside the WireGuard session.
    Secure {
        /// Over this path.
        path: PathKey,
        /// INIT or INIT-ACK.
        payload: Vec<u8>,
    },
}

/// What the owner of a context may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The two ends agreed on a context, or on new EIDs or names.
    Established {
        /// What the other end calls itself. Untrusted text.
        name: String,
        /// Its IPv6 EID, as it claims it. The owner checks it against the public key.
        eid_v6: Ipv6Addr,
        /// The IPv4 EIDs.
        eid_v4: Option<EidPair>,
        /// The other end started anew since the last time.
        restarted: bool,
    },
    /// It is known now what the peer speaks.
    Kind(PeerKind),
    /// Data goes over another path, or over none.
    Switched {
        /// Before.
        from: Option<PathKey>,
        /// From now on.
        to: Option<PathKey>,
        /// Why.
        reason: Reason,
        /// The silence that came with it, as this end heard it, where data was flowing.
        gap: Option<Duration>,
    },
    /// The other end ended the context.
    Shut(ShutReason),
}

/// The state shared with one other host. See the [module's documentation](self) and the crate's.
pub struct Context {
    config: ContextConfig,
    random: Random,
    /// When it was made: the start of the clock in PROBEs.
    started: Instant,
    wanted: bool,
    peer: Peer,
    eid_v4: Option<EidPair>,
    /// What to propose where nothing is agreed.
    proposal: Option<EidPair>,
    /// A drill takes this link away, with all its paths.
    silenced: Option<Link>,
    /// This host has relays to turn to.
    relays: bool,

    locals: Locals,
    remotes: Remotes,
    paths: Vec<Path>,
    selection: Selection,

    contact: Contact,
    agreement: Agreement,
    /// What is known of a plain WireGuard peer; made when first needed.
    plain: Option<Box<Plain>>,
    keys: Keys,
    set: OwnSet,
    shutting: Option<(Instant, u32, ShutReason)>,

    received: Arrived,
    outflow: Outflow,
    last_data: Option<Instant>,
    last_heard: Option<Instant>,
    /// Bytes that may go to addresses that the peer names and that never answered: no more than came from it.
    allowance: u32,
    /// When it last earned some by a presence service.
    present: Option<Instant>,

    transmits: VecDeque<Transmit>,
    spare: Spare,
    /// What waits for the paths of the bonded mode.
    bond: Bond,
    events: VecDeque<Event>,
}

impl Context {
    /// The most paths of a context; what does not fit is not tried.
    pub const MAX_PATHS: usize = 32;

    /// A context that does nothing until it is [wanted](Self::connect).
    pub fn new(config: ContextConfig, now: Instant) -> Self {
        Self {
            random: Random::new(config.seed),
            started: now,
            wanted: false,
            peer: Peer::new(if config.disclosure.mast { config.expect } else { Some(PeerKind::WireGuard) }),
            eid_v4: config.eid_v4,
            proposal: None,
            silenced: None,
            locals: Locals::default(),
            remotes: Remotes::default(),
            relays: false,
            paths: Vec::new(),
            selection: Selection::default(),
            contact: Contact::default(),
            agreement: Agreement::default(),
            plain: None,
            keys: Keys::default(),
            set: OwnSet::default(),
            shutting: None,
            received: Arrived::default(),
            outflow: Outflow::new(config.hold),
            last_data: None,
            last_heard: None,
            allowance: 0,
            present: None,
            transmits: VecDeque::new(),
            spare: Spare::default(),
            bond: Bond::default(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Replaces the addresses of the peer that a source names; those of other sources stay. What no source names any
    /// more is not tried again; a path to it that carries data goes on for as long as it works.
    ///
    /// The list of [`AddressSource::Set`] is what the other end says, and is not to be set from outside.
    pub fn set_addresses(
        &mut self,
        now: Instant,
        source: AddressSource,
        list: impl IntoIterator<Item = SocketAddr>,
    ) {
        let list: Vec<SocketAddr> = list.into_iter().collect();
        if matches!(source, AddressSource::Presence | AddressSource::Lan) && !list.is_empty() {
            self.heed(now);
        }
        let withdrawn = self.remotes.set(source, list);
        let before = self.paths.len();
        self.withdraw(now, &withdrawn);
        let kept = self.paths.len();
        self.make_paths(now);
        if kept < before {
            self.select(now, Reason::PeerAddressGone);
        }
        self.announce(now);
        if self.wanted && self.keys.is_empty() && self.paths.len() > kept {
            self.start_contact(now);
        }
    }

    /// The peer said where it is before anything came from it: a little may go there all the same, now and then.
    fn heed(&mut self, now: Instant) {
        let early = self.present.is_some_and(|at| now.saturating_duration_since(at) < timing::PRESENCE_PAUSE);
        if !early {
            self.present = Some(now);
            self.allowance = self.allowance.max(timing::PRESENCE_ALLOWANCE);
        }
    }

    /// Where an address of the peer came from.
    pub fn address_sources(&self, at: SocketAddr) -> impl Iterator<Item = AddressSource> + '_ {
        self.remotes.sources(at)
    }

    /// Wants the peer: makes first contact as soon as there is a way.
    pub fn connect(&mut self, now: Instant) {
        self.wanted = true;
        self.peer.set_shut(false);
        self.shutting = None;
        self.start_contact(now);
    }

    /// Ends the context: tells the other end, and forgets keys and paths once it has acknowledged or does not answer.
    pub fn shut(&mut self, now: Instant, reason: ShutReason) {
        self.wanted = false;
        self.contact.stop();
        self.agreement.stop();
        if self.keys.can_seal() && self.paths.iter().any(Path::carries) {
            self.shutting = Some((now, 0, reason));
            self.send_shut(now);
        } else {
            self.forget();
        }
    }

    /// Changes the policy. It takes effect at once where the paths allow it, and the other end is told of its mode.
    pub fn set_policy(&mut self, now: Instant, policy: Policy) {
        self.config.policy = policy;
        self.selection.force(now);
        self.select(now, Reason::Policy);
        self.announce(now);
        if self.wanted && !self.peer.is_shut() && self.selection.active().is_none() && !self.contact_running()
        {
            self.start_contact(now);
        }
    }

    /// Changes what the peer may know. What it was told already cannot be taken back.
    pub fn set_disclosure(&mut self, now: Instant, disclosure: Disclosure) {
        let before = std::mem::replace(&mut self.config.disclosure, disclosure);
        match (before.mast, disclosure.mast) {
            (true, false) => {
                if self.keys.can_seal() {
                    self.shutting = Some((now, 0, ShutReason::Down));
                    self.send_shut(now);
                }
                self.forget();
                self.peer = Peer::new(Some(PeerKind::WireGuard));
                self.emit(Event::Kind(PeerKind::WireGuard));
            }
            // It carries what it carried until it has answered.
            (false, true) => self.agreement.ask_again(),
            _ => {
                self.hide(now);
                self.make_paths(now);
                self.announce(now);
                return;
            }
        }
        if self.wanted {
            self.start_contact(now);
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.config.policy
    }

    /// Takes in the interfaces as they are now.
    ///
    /// Paths whose interface or local address is gone go at once; for each new interface and each remote address
    /// of its family a path is made and tried.
    pub fn handle_interfaces(&mut self, now: Instant, interfaces: Arc<[Interface]>) {
        let mut lost_active = None;
        let mut at = 0;
        while let Some(path) = self.paths.get(at) {
            let interface = interfaces.iter().find(|i| i.id == path.key.interface);
            let reason = match interface {
                Some(interface) if !interface.usable && !interface.addresses.is_empty() => {
                    Reason::InterfaceDown
                }
                None => Reason::InterfaceDown,
                Some(interface) if !interface.has(path.key.local) => Reason::AddressGone,
                Some(interface) if !interface.carries(path.key.local) => Reason::InterfaceDown,
                // The relay took it back.
                Some(interface) if path.key.relay().is_some_and(|n| interface.at_relay(n).is_none()) => {
                    Reason::AddressGone
                }
                Some(_) => {
                    at += 1;
                    continue;
                }
            };
            if self.selection.is_active(path.id) {
                lost_active = Some(reason);
            }
            let key = path.key;
            self.selection.refine(key, reason);
            self.remove_path(now, at);
        }
        self.locals.update(interfaces);
        self.heed_radio(now);
        let before = self.paths.len();
        self.make_paths(now);
        self.select(now, lost_active.unwrap_or(Reason::Better));
        self.announce(now);
        if self.wanted && self.paths.len() > before && !self.answers() {
            self.start_contact(now);
        }
    }

    /// Tries every path now: routes have changed, or the host woke from sleep, and what was known may not hold.
    pub fn revalidate(&mut self, now: Instant) {
        for at in 0..self.paths.len() {
            let Some(path) = self.paths.get_mut(at) else { break };
            path.retry_pause = Duration::ZERO;
            if path.state == PathState::Failed {
                path.state = PathState::Validating;
            }
            path.probe = None;
            path.pmtu.restart();
            self.send_probe(now, at);
        }
        if self.wanted && !self.answers() {
            self.start_contact(now);
        }
    }

    /// Tries the active path now if nothing was heard lately: somebody is looking.
    pub fn check(&mut self, now: Instant) {
        let stale =
            self.last_heard.is_none_or(|at| now.saturating_duration_since(at) > Duration::from_secs(3));
        // A handshake of a plain WireGuard peer for each look would be too many.
        if stale
            && !self.peer.is_plain()
            && let Some(at) = self.active_at()
            && self.paths.get(at).is_some_and(|p| p.probe.is_none())
        {
            self.send_probe(now, at);
        }
    }

    /// How things stand.
    pub fn state(&self, now: Instant) -> PeerState {
        if self.peer.is_shut() || (!self.wanted && !self.keys.can_seal()) {
            PeerState::Down
        } else if self.peer.is_plain() {
            match self.last_heard {
                None => PeerState::Connecting,
                Some(_) if self.plain_silent(now) => PeerState::Unreachable,
                Some(_) => PeerState::Connected,
            }
        } else if !self.keys.can_seal() {
            if self.peer.is_met() { PeerState::Unreachable } else { PeerState::Connecting }
        } else if self.paths.iter().any(|p| p.carries() && self.permitted(p))
            && self.last_heard.is_some_and(|at| now < at + timing::FRESH)
        {
            // A path that works and must not be used is of no use.
            PeerState::Connected
        } else {
            PeerState::Unreachable
        }
    }

    /// What the peer speaks, once known.
    pub fn kind(&self) -> Option<PeerKind> {
        self.peer.kind()
    }

    /// What the peer calls itself. Untrusted text.
    pub fn peer_name(&self) -> &str {
        self.peer.name()
    }

    /// The other end's IPv6 EID, as it claims it.
    pub fn peer_eid_v6(&self) -> Option<Ipv6Addr> {
        self.peer.eid_v6()
    }

    /// The IPv4 EIDs agreed.
    pub fn eid_v4(&self) -> Option<EidPair> {
        self.eid_v4
    }

    /// The indices that the other end puts into its datagrams. The owner finds the context by them.
    pub fn indices(&self) -> &Indices {
        &self.config.indices
    }

    /// When the peer was last heard.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// The paths, for a user interface.
    pub fn paths(&self) -> impl Iterator<Item = PathView> + '_ {
        self.paths.iter().map(|p| PathView {
            key: p.key,
            id: p.id,
            peer_link: self.peer.link(p),
            state: p.state,
            active: self.selection.is_active(p.id),
            srtt: p.rtt.smoothed(),
            loss: p.loss.share(),
            fitness: self.fitness_of(p),
            mtu: p.mtu().saturating_sub(DATA_OVERHEAD),
            rx_bytes: p.rx_bytes,
            tx_bytes: p.tx_bytes,
        })
    }

    /// The path that carries this end's data now.
    pub fn active_path(&self) -> Option<PathKey> {
        self.active_at().and_then(|at| self.paths.get(at)).map(|p| p.key)
    }

    /// Remote addresses that answered, worth remembering for the next start; the active path's first.
    pub fn known_remotes(&self) -> Vec<SocketAddr> {
        let active = self.active_path().map(|k| k.remote);
        let others = self.remotes.known().filter(|at| Some(*at) != active);
        active.into_iter().chain(others).collect()
    }

    /// Bytes held, and datagrams that were held and given up.
    pub fn held(&self) -> (usize, u64) {
        self.outflow.held()
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.transmits.is_empty() {
            self.drive_bond(now);
        }
        self.transmits.pop_front().or_else(|| self.release(now))
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether any path is usable.
    fn answers(&self) -> bool {
        self.paths.iter().any(Path::carries)
    }

    fn busy(&self, now: Instant) -> bool {
        self.last_data.is_some_and(|at| now.saturating_duration_since(at) < timing::BUSY)
    }

    fn active_at(&self) -> Option<usize> {
        self.selection.active().and_then(|id| self.paths.iter().position(|p| p.id == id))
    }

    fn emit(&mut self, event: Event) {
        // An owner that never asks must not make this grow.
        if self.events.len() < 256 {
            self.events.push_back(event);
        }
    }

    /// Back to how it was made, but for what was agreed for good.
    fn forget(&mut self) {
        self.keys.clear();
        // Where the other end has not heard of the end, it learns of it when it meets another instance: it drops its keys
        // then, and with them whatever the network held back.
        self.config.instance = self.random.u64().max(1);
        self.shutting = None;
        // The sequence goes on: the other end may not have heard of the end.
        self.set.unacknowledged();
        self.peer.forget();
        self.last_heard = None;
        self.last_data = None;
        self.selection = Selection::default();
        self.plain = None;
        // A drill ends with the context.
        self.silenced = None;
        self.contact.stop();
        self.agreement.stop();
        let keys: Vec<_> = self.paths.drain(..).map(|p| p.key).collect();
        for key in keys {
            if self.remotes.vouches(key.remote) {
                self.add_path(key);
            }
        }
        self.transmits.retain(|t| matches!(t, Transmit::Datagram { .. }));
        self.outflow.clear();
        self.bond.clear();
    }
}
