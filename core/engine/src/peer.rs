//! A peer: its configuration, its context, its WireGuard session.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Instant;

use mast_proto::wire::EidPair;
use mast_proto::{AddressSource, Context, Interface, InterfaceId, PathKey, PeerKind, eid_v6};

use crate::api::{PathSnapshot, PeerConfig, PeerSnapshot, PlainPeer};
use crate::segments::Watch;
use crate::sockets::is_plausible;
use crate::wireguard::Session;

/// Numbers peers in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub u32);

/// The sources of addresses that are told from outside and kept; the peer's SET is heard by the context alone.
pub(crate) const SOURCES: [AddressSource; 8] = [
    AddressSource::Configuration,
    AddressSource::Invite,
    AddressSource::EarlierRun,
    AddressSource::Dns,
    AddressSource::Lan,
    AddressSource::Stun,
    AddressSource::Presence,
    AddressSource::Peers,
];
/// The most addresses that are kept for the next run.
const MAX_ANSWERED: usize = 8;

pub(crate) struct Peer {
    pub config: PeerConfig,
    pub context: Context,
    pub session: Session,
    /// This host's IPv6 EID.
    pub own_eid_v6: Ipv6Addr,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// When the context wants to be called.
    pub timeout: Option<Instant>,
    /// When WireGuard wants to be called.
    pub tick: Option<Instant>,
    /// It was removed, and is told so until then.
    pub leaving: Option<Instant>,
    /// When it is looked at next: no later than it is due.
    pub alarm: Option<Instant>,
    /// What became of what left in batches, once any did.
    pub batches: Option<Box<Watch>>,
}

impl Peer {
    /// Its number, which its context's indices have.
    pub fn id(&self) -> PeerId {
        PeerId(self.context.indices().context())
    }

    /// When something is to be done for it that no event brings.
    pub fn due(&self) -> Option<Instant> {
        [self.timeout, self.tick, self.leaving].into_iter().flatten().min()
    }

    /// So many datagrams left over a path with one call, all of one length or not.
    pub fn note_run(&mut self, now: Instant, path: PathKey, count: usize, even: bool) {
        if self.batches.is_none() && (count < 2 || self.is_plain()) {
            return;
        }
        let (batches, context) = (&mut self.batches, &self.context);
        let watch = batches.get_or_insert_with(|| Box::new(Watch::new(now)));
        watch.note(now, path, count, even, |path| context.reported(path));
    }

    /// Whether WireGuard carries its data.
    pub fn is_plain(&self) -> bool {
        self.context.kind() == Some(PeerKind::WireGuard)
    }

    /// The largest datagram of the host that goes to it now, in bytes: what the paths in use take, and what its file
    /// allows.
    pub fn inner_mtu(&self) -> Option<usize> {
        let file = self.config.plain.as_ref().and_then(|p| p.mtu).map(usize::from);
        [self.context.inner_mtu(), file].into_iter().flatten().min()
    }

    /// This host's IPv6 EID and the peer's; a plain WireGuard peer has none. The peer's follows from its key,
    /// whatever it claims.
    pub fn eid_v6(&self) -> Option<(Ipv6Addr, Ipv6Addr)> {
        let mast = !self.is_plain() && (self.config.plain.is_none() || self.context.kind().is_some());
        mast.then(|| (self.own_eid_v6, eid_v6(&self.config.public_key)))
    }

    /// The IPv4 EIDs agreed.
    pub fn eid_v4(&self) -> Option<EidPair> {
        if self.is_plain() { None } else { self.context.eid_v4().or(self.config.eid_v4) }
    }

    /// Takes what was learned into the configuration; whether that changed it.
    pub fn learn(&mut self) -> bool {
        let before = self.config.clone();
        self.config.kind = self.context.kind().or(self.config.kind);
        if self.context.eid_v4().is_some() {
            self.config.eid_v4 = self.context.eid_v4();
        }
        // The next run begins with what answered in this one. The order follows the active path; that alone is not
        // worth writing down.
        let answered = self.context.known_remotes().into_iter().filter(is_plausible);
        let answered: Vec<_> = answered.take(MAX_ANSWERED).collect();
        let kept = self.config.addresses.get(AddressSource::EarlierRun);
        if answered.iter().any(|at| !kept.contains(at)) {
            self.config.addresses.set(AddressSource::EarlierRun, answered);
        }
        self.config != before
    }

    pub fn snapshot(
        &self,
        now: Instant,
        names: &Names,
        (troubles, partial): (Vec<String>, bool),
    ) -> PeerSnapshot {
        let paths = self.context.paths().zip(self.context.parts()).map(|(path, part)| PathSnapshot {
            id: path.id.0,
            interface: names.of(path.key.interface),
            local: path.key.local,
            remote: path.key.remote,
            via: path.key.via,
            peer_link: path.peer_link,
            state: path.state,
            active: path.active,
            fitness: path.fitness,
            ailment: part.ailment,
            part: part.part.as_str(),
            answered: part.answered.map(|at| now.saturating_duration_since(at)),
            srtt: path.srtt,
            loss: path.loss,
            mtu: path.mtu,
            rx_bytes: path.rx_bytes,
            tx_bytes: path.tx_bytes,
        });
        PeerSnapshot {
            name: self.config.name.clone(),
            public_key: self.config.public_key,
            state: self.context.state(now),
            troubles,
            partial,
            kind: self.context.kind(),
            eid_v6: self.eid_v6(),
            eid_v4: self.eid_v4(),
            policy: self.context.policy().clone(),
            own_policy: self.config.policy.is_some(),
            full_tunnel: self.config.plain.as_ref().and_then(PlainPeer::full_tunnel),
            plain: self.config.plain.clone(),
            disclosure: self.config.disclosure,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            last_heard: self.context.last_heard().map(|at| now.saturating_duration_since(at)),
            paths: paths.collect(),
        }
    }
}

/// The names of the interfaces that there are, and of those that were: a story tells of both.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<InterfaceId, String>);

impl Names {
    /// Interfaces that are gone are forgotten when there are more than this.
    const MAX: usize = 64;

    pub fn learn(&mut self, interfaces: &[Interface]) {
        if self.0.len() > Self::MAX {
            self.0.clear();
        }
        self.0.extend(interfaces.iter().map(|i| (i.id, i.name.clone())));
    }

    pub fn of(&self, id: InterfaceId) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| format!("interface {}", id.0))
    }
}
