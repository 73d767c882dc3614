//! What the engine is told and what it tells: the types that the service works with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use mast_proto::wire::EidPair;
use mast_proto::{
    Ailment, Disclosure, EidPool, Fitness, Interface, PathState, PeerKind, PeerLink, PeerState, Policy,
    Reason, Via,
};

pub use crate::addresses::Addresses;
pub use crate::filtering::Filtering;
use crate::os::{Family, Prefix};
pub use crate::outside::{Mapping, Seen};
pub use crate::traffic::Bytes;
pub use mast_proto::AddressSource;

/// A Curve25519 public key.
pub type PublicKey = [u8; 32];

/// A key that nobody else may know. It is wiped from memory when it goes.
pub type SecretKey = zeroize::Zeroizing<[u8; 32]>;

pub use crate::pair::pair_secret;

/// The public key that belongs to a private one.
pub fn public_key(private: &[u8; 32]) -> PublicKey {
    crate::wireguard::Identity::new(private).public()
}

/// What the engine needs to start.
#[derive(Clone)]
pub struct EngineConfig {
    /// This host's private key.
    pub private_key: SecretKey,
    /// What this host calls itself.
    pub name: String,
    /// The UDP port; 0 lets the system choose one per socket.
    pub port: u16,
    /// The name of the virtual interface.
    pub tun_name: String,
    /// The virtual interface's MTU in bytes.
    pub mtu: u16,
    /// Where IPv4 EIDs are taken from.
    pub pool: EidPool,
    /// The policy of peers that have none of their own.
    pub policy: Policy,
    /// The peers.
    pub peers: Vec<PeerConfig>,
    /// Invites that were given out and have not expired.
    pub invites: Vec<InviteRecord>,
    /// What the user chose for interfaces, by name.
    pub choices: BTreeMap<String, InterfaceChoice>,
    /// Whether nothing may leave around a full tunnel.
    pub protect: bool,
    /// Whether private and link-local ranges may be spoken with directly all the same.
    pub local_network: bool,
    /// Whether relays may be added ([`crate::EngineHandle::add_relay`]): a peer that may learn relayed addresses alone is then
    /// spoken with through them alone.
    pub relays: bool,
    /// Whether to bring the virtual interface up at once.
    pub up: bool,
    /// Whoever runs the engine says when it is kept that an invite was used ([`crate::EngineHandle::invite_kept`]);
    /// until then, who used it is not told. Otherwise it is told at once.
    pub confirms: bool,
}

/// What the user chose for an interface; it wins over what the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceChoice {
    /// Whether traffic over it costs money; none leaves it to the system.
    pub metered: Option<bool>,
    /// Never use it.
    pub excluded: bool,
}

/// A peer, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// What the user calls it; unique.
    pub name: String,
    /// Its identity.
    pub public_key: PublicKey,
    /// WireGuard's preshared key.
    pub preshared_key: Option<SecretKey>,
    /// Where it may be reached.
    pub addresses: Addresses,
    /// What it is known to speak.
    pub kind: Option<PeerKind>,
    /// The IPv4 EIDs agreed with it; for a plain WireGuard peer, none.
    pub eid_v4: Option<EidPair>,
    /// For a plain WireGuard peer: this host's addresses and what may come from and go to the peer (AllowedIPs).
    pub plain: Option<PlainPeer>,
    /// Its own policy.
    pub policy: Option<Policy>,
    /// What it may know of this host.
    pub disclosure: Disclosure,
    /// Its account at a presence service, where that is known: other words for the engine, which carries them in invites.
    pub account: Option<String>,
}

impl PeerConfig {
    /// Whether a policy can be followed with it: several paths at a time need MAST at both ends. Where it is not
    /// yet known what a peer speaks, the peer of a WireGuard file is taken for plain WireGuard.
    pub fn can(&self, policy: &Policy) -> bool {
        let several = matches!(policy, Policy::Redundant { .. } | Policy::Bonded { .. });
        let plain = match self.kind {
            _ if !self.disclosure.mast => true,
            Some(kind) => kind == PeerKind::WireGuard,
            None => self.plain.is_some(),
        };
        !(several && plain)
    }

    /// The policy that is followed with it, while `all` is that of all peers.
    pub fn policy_under(&self, all: &Policy) -> Policy {
        let chosen = self.policy.as_ref().unwrap_or(all);
        if self.can(chosen) { chosen.clone() } else { Policy::Auto }
    }
}

/// What a wg-quick file says of a plain WireGuard peer beyond its key and endpoint.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PlainPeer {
    /// `Address` of the interface section.
    pub addresses: Vec<Prefix>,
    /// `AllowedIPs` of the peer section.
    pub allowed: Vec<Prefix>,
    /// The user does not want everything to go to it: the ranges that together are a default route are left out.
    pub split: bool,
    /// Its file wants no routes (`Table = off`): none is set on the host, and everything does not go to it.
    pub unrouted: bool,
    /// `PersistentKeepalive` in seconds.
    pub keepalive: Option<u16>,
    /// `PrivateKey` of the interface section, where it differs from this host's own key.
    pub private_key: Option<SecretKey>,
    /// `MTU` of the interface section: no larger datagram goes to it, in bytes.
    pub mtu: Option<u16>,
    /// The addresses of `DNS` of the interface section: who is asked for names while everything goes to it.
    pub dns: Vec<IpAddr>,
}

impl PlainPeer {
    /// The ranges in force.
    pub fn ranges(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.allowed
            .iter()
            .copied()
            .filter(|range| !((self.split || self.unrouted) && self.is_default(*range)))
    }

    /// Whether everything goes to it; none where its ranges are no default route.
    pub fn full_tunnel(&self) -> Option<bool> {
        self.allowed.iter().any(|range| self.is_default(*range)).then_some(!self.split && !self.unrouted)
    }

    /// Whether everything of this version of IP goes to it.
    pub fn is_full_for(&self, family: Family) -> bool {
        let of =
            |range: &Prefix| range.address.is_ipv4() == (family == Family::V4) && self.is_default(*range);
        self.full_tunnel() == Some(true) && self.allowed.iter().any(of)
    }

    /// A default route, or one of the two halves as which such routes are often written; a half alone is none.
    fn is_default(&self, range: Prefix) -> bool {
        let is_other_half = |other: &Prefix| {
            other.length == 1
                && other.address.is_ipv4() == range.address.is_ipv4()
                && !range.contains(other.address)
        };
        range.length == 0 || range.length == 1 && self.allowed.iter().any(is_other_half)
    }
}

/// What tells an invite from others, without its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InviteId(pub [u8; 4]);

impl std::fmt::Display for InviteId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl std::str::FromStr for InviteId {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let number = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8);
        number.map(|n| Self(n.to_be_bytes())).ok_or_else(|| EngineError::NoInvite { id: text.to_owned() })
    }
}

/// An invite that was given out.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteRecord {
    /// The one-time secret.
    pub secret: SecretKey,
    /// What the new peer shall be called here; else what it calls itself.
    pub name: Option<String>,
    /// When it ends.
    pub expires: SystemTime,
    /// It was accepted: whoever comes with it again is told so.
    pub used: bool,
    /// It was revoked: nobody may accept it any more.
    pub revoked: bool,
}

/// What the service must keep, so that a restart finds it again.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "changes are rare")]
pub enum Change {
    /// A peer is new, or something of it changed.
    Peer(PeerConfig),
    /// A peer was removed.
    PeerRemoved(PublicKey),
    /// The invites are now these.
    Invites(Vec<InviteRecord>),
    /// An invite was used. Where [`EngineConfig::confirms`], whoever used it is not told before
    /// [`crate::EngineHandle::invite_kept`].
    InviteUsed(InviteId),
    /// What the user chose for interfaces is now this.
    Choices(BTreeMap<String, InterfaceChoice>),
    /// The default policy is now this.
    Policy(Policy),
    /// The tunnel was switched on or off.
    Up(bool),
}

/// Everything a user interface shows, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Whether the virtual interface is up.
    pub up: bool,
    /// This host's name.
    pub name: String,
    /// This host's identity.
    pub public_key: PublicKey,
    /// The interfaces, those that are excluded too, each with what the user chose for it.
    pub interfaces: Vec<(Interface, InterfaceChoice)>,
    /// The peers.
    pub peers: Vec<PeerSnapshot>,
    /// Datagrams dropped, by reason, and other counters, for `mast doctor`.
    pub counters: Vec<(&'static str, u64)>,
    /// The interfaces over which datagrams leave one by one, because what left many at a time was lost.
    pub single: Vec<String>,
    /// The interfaces that lead somewhere and are not used, and why.
    pub left_out: Vec<(String, LeftOut)>,
    /// How long ago a rule of this host last forbade to send, if one did.
    pub forbidden: Option<Duration>,
    /// What is not set on the host as it should be, in words.
    pub refused: Vec<String>,
    /// How leak protection stands.
    pub protection: crate::declared::Protection,
    /// The policy of all, which peers without one of their own follow.
    pub policy: Policy,
    /// How this host's addresses are seen by STUN servers.
    pub seen: Vec<Seen>,
}

/// Why an interface is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// The configuration says so.
    Ignored,
    /// It belongs to a bridge or bond, which is used in its stead.
    Port,
    /// It is a tunnel: what goes over it goes over another uplink.
    Tunnel,
    /// It is no hardware, and has no default route: it leads to containers or virtual machines of this host.
    Inside,
}

/// What costs little to tell, however many peers there are.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Whether the virtual interface is up.
    pub up: bool,
    /// The interfaces, those that are excluded too, each with what the user chose for it.
    pub interfaces: Vec<(Interface, InterfaceChoice)>,
    /// Whether everything goes to some peer.
    pub full_tunnel: bool,
    /// Whether a peer is missed, or reached through a relay alone.
    pub needs_relay: bool,
}

/// A peer at one moment.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// What the user calls it.
    pub name: String,
    /// Its identity.
    pub public_key: PublicKey,
    /// How things stand.
    pub state: PeerState,
    /// What is not set on the host as it should be for this peer, in words.
    pub troubles: Vec<String>,
    /// Because of that, a full tunnel is not in force, or nothing of the peer's can be reached.
    pub partial: bool,
    /// What it speaks, once known.
    pub kind: Option<PeerKind>,
    /// This host's IPv6 EID and the peer's.
    pub eid_v6: Option<(Ipv6Addr, Ipv6Addr)>,
    /// This host's IPv4 EID and the peer's.
    pub eid_v4: Option<EidPair>,
    /// The policy in force.
    pub policy: Policy,
    /// Whether it is its own; else it is that of all.
    pub own_policy: bool,
    /// Whether everything goes to it; none where that cannot be had.
    pub full_tunnel: Option<bool>,
    /// What is known of it from a WireGuard file.
    pub plain: Option<PlainPeer>,
    /// What it may know of this host.
    pub disclosure: Disclosure,
    /// Bytes received from it, of UDP payload.
    pub rx_bytes: u64,
    /// Bytes sent to it, of UDP payload.
    pub tx_bytes: u64,
    /// How long ago it was last heard.
    pub last_heard: Option<Duration>,
    /// Its paths.
    pub paths: Vec<PathSnapshot>,
}

/// A path at one moment.
#[derive(Debug, Clone)]
pub struct PathSnapshot {
    /// Its number.
    pub id: u8,
    /// The interface's name.
    pub interface: String,
    /// The local address.
    pub local: IpAddr,
    /// The remote address.
    pub remote: SocketAddr,
    /// Direct, or through a relay.
    pub via: Via,
    /// The other end's link that it leads to, as far as that is known.
    pub peer_link: PeerLink,
    /// Its state.
    pub state: PathState,
    /// Whether it carries data now.
    pub active: bool,
    /// How fit it is to carry data.
    pub fitness: Fitness,
    /// What is wrong with it, where it works and is not fit.
    pub ailment: Option<Ailment>,
    /// Whether it takes part in carrying data now, by the policy, or why it does not, in a word.
    pub part: &'static str,
    /// How long ago the peer last answered over it.
    pub answered: Option<Duration>,
    /// Smoothed round trip.
    pub srtt: Option<Duration>,
    /// Share of datagrams lost, from 0 to 1.
    pub loss: Option<f64>,
    /// The largest datagram between EIDs that fits, in bytes.
    pub mtu: usize,
    /// Bytes received over it.
    pub rx_bytes: u64,
    /// Bytes sent over it.
    pub tx_bytes: u64,
}

/// What is looked at again and again.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// Whether the virtual interface is up.
    pub up: bool,
    /// What each interface carried since the engine started.
    pub traffic: Vec<InterfaceTraffic>,
    /// Paths of the peers, as many as were asked for.
    pub paths: Vec<PathGlance>,
}

/// What an interface carried since the engine started.
#[derive(Debug, Clone)]
pub struct InterfaceTraffic {
    /// The interface as it is, or its name if it is gone.
    pub interface: Result<Interface, String>,
    /// Its number: one that comes back as another has another.
    pub id: u32,
    /// The counts.
    pub bytes: Bytes,
}

/// A path at a glance.
#[derive(Debug, Clone)]
pub struct PathGlance {
    /// The peer's name.
    pub peer: String,
    /// The interface's name.
    pub interface: String,
    /// The local address.
    pub local: IpAddr,
    /// The remote address.
    pub remote: SocketAddr,
    /// Smoothed round trip, while the path works.
    pub srtt: Option<Duration>,
    /// Whether it carries data now.
    pub active: bool,
}

/// Something that a user would want to see in the story.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// When.
    pub time: SystemTime,
    /// With which peer, by name; empty when it concerns none.
    pub peer: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Data goes over another path, or over none, or again over one.
    Moved(Moved),
    /// The peer's service started anew.
    Restarted,
    /// The peer switched MAST off.
    PeerOff,
    /// The peer removed this host.
    RemovedByPeer,
    /// The peer came by an invite of this host.
    CameByInvite,
    /// This host accepted the peer's invite.
    InviteAccepted,
    /// The system refuses addresses or routes of the virtual interface.
    RoutesRefused {
        /// What it says.
        error: String,
    },
    /// Another program changed what was set on the host; it is set again.
    PutBack {
        /// What, in words.
        what: String,
        /// It does so again and again.
        again: bool,
    },
    /// The virtual interface failed, and is made again.
    TunnelLost {
        /// What the system says.
        error: String,
    },
    /// No socket can be had on an interface; it is tried again.
    NoSocket {
        /// The interface's name.
        interface: String,
        /// The UDP port.
        port: u16,
        /// Which kind of error.
        kind: std::io::ErrorKind,
        /// What the system says.
        error: String,
    },
    /// The system no longer tells of changes of the network.
    WatchEnded,
}

/// Data moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The path that carried data before.
    pub from: Option<Ends>,
    /// The path that carries it now.
    pub to: Option<Ends>,
    /// Why.
    pub reason: Reason,
    /// The silence that came with it.
    pub gap: Option<Duration>,
}

/// The two ends of a path, with the name that its interface had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The interface's name.
    pub interface: String,
    /// The local address; none where it is not known any more.
    pub local: Option<IpAddr>,
    /// The remote address.
    pub remote: SocketAddr,
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillStep {
    /// The link taken away: this host's interface; where the peer's links are taken in turn, with `remote`.
    pub interface: String,
    /// The remote address of its first path.
    pub remote: SocketAddr,
    /// How many paths were of it.
    pub paths: usize,
    /// The interface that took over, if any did.
    pub to: Option<String>,
    /// The longest silence of a 100 Hz echo.
    pub gap: Duration,
    /// Echo requests sent.
    pub sent: u32,
    /// Echo requests that stayed unanswered.
    pub lost: u32,
}

/// Why the engine could not do what it was asked. The words are for logs; what the user is told, with the remedy, is
/// made from the values.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No peer of that name.
    #[error("no peer {name:?}")]
    NoPeer {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// A selector matches no interface.
    #[error("no interface {name:?}")]
    NoInterface {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// There are more relays than are used at a time.
    #[error("there are {most} relays already")]
    TooManyRelays {
        /// So many are used.
        most: usize,
    },
    /// The name cannot be that of a peer.
    #[error("{name:?} is no name of a peer")]
    BadName {
        /// The name.
        name: String,
    },
    /// There is a peer of that name.
    #[error("there is a peer {name:?}")]
    PeerExists {
        /// The name.
        name: String,
    },
    /// The key is a peer's already.
    #[error("the key is that of the peer {name:?}")]
    KeyExists {
        /// The peer's name.
        name: String,
    },
    /// The key is this host's own.
    #[error("the key is this host's own")]
    OwnKey,
    /// A plain WireGuard peer cannot use several paths at once.
    #[error("{peer:?} speaks plain WireGuard, which cannot do {policy:?}")]
    PlainMode {
        /// The peer's name.
        peer: String,
        /// The policy asked for.
        policy: Policy,
    },
    /// Not everything can go to this peer.
    #[error("not everything can go to {peer:?}")]
    NoFullTunnel {
        /// The peer's name.
        peer: String,
    },
    /// MAST can be forbidden with peers of WireGuard files only.
    #[error("{peer:?} came by MAST")]
    NotOfFile {
        /// The peer's name.
        peer: String,
    },
    /// A pin names nothing.
    #[error("the pin names nothing")]
    EmptyPin,
    /// MAST is switched off.
    #[error("MAST is switched off")]
    SwitchedOff,
    /// This host has no address that an invite could tell.
    #[error("there is no address to be told")]
    NoAddress,
    /// There is no invite that is called so.
    #[error("there is no invite `{id}`")]
    NoInvite {
        /// What was asked for.
        id: String,
    },
    /// There are as many invites as are kept.
    #[error("there are {most} invites")]
    TooManyInvites {
        /// So many.
        most: usize,
    },
    /// The time that an invite shall last is too long.
    #[error("the time is too long")]
    TooLong,
    /// Another invite is being accepted.
    #[error("another invite is being accepted")]
    Joining,
    /// An invite was refused.
    #[error("the invite cannot be accepted: {problem:?}")]
    Invite {
        /// Why.
        problem: InviteProblem,
        /// What its maker calls itself, or what it is called here where it is a peer; where that is known.
        inviter: Option<String>,
        /// The UDP port at which its maker was asked, where it was.
        port: Option<u16>,
    },
    /// Another drill runs.
    #[error("another drill runs")]
    DrillRuns,
    /// A drill needs MAST at the peer, too.
    #[error("{peer:?} speaks plain WireGuard")]
    DrillPlain {
        /// The peer's name.
        peer: String,
    },
    /// A drill needs two links that work.
    #[error("{working} link(s) to {peer:?} work")]
    DrillLinks {
        /// The peer's name.
        peer: String,
        /// So many work.
        working: usize,
    },
    /// No socket can be had on an interface.
    #[error("no socket at UDP port {port} on {interface}: {error}")]
    NoSocket {
        /// The interface's name.
        interface: String,
        /// The UDP port.
        port: u16,
        /// What the system says.
        error: std::io::Error,
    },
    /// The system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The engine has ended.
    #[error("the engine has stopped")]
    Stopped,
}

/// Why an invite cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteProblem {
    /// It is no link of MAST.
    Foreign,
    /// Another version of MAST made it.
    OtherVersion,
    /// It is not complete, or was altered.
    Damaged,
    /// This very host made it.
    Own,
    /// Its maker is a peer already.
    Known,
    /// Its time is over.
    Expired,
    /// It holds no address.
    NoAddress,
    /// Its maker is reached over this version of IP only, and no network of this host has that.
    Needs(Family),
    /// Its maker is reached over either version of IP, and no network of this host has one.
    NeedsNetwork,
    /// Nothing came back.
    NoAnswer,
    /// Its maker answered, and the pairing did not come to its end.
    Unfinished,
    /// Its maker says that its time is over.
    SaidExpired,
    /// Its maker says that it was used.
    SaidUsed,
    /// Its maker does not take this host's key.
    SaidKey,
    /// Its maker runs another version.
    SaidVersion,
    /// MAST was switched off meanwhile.
    SwitchedOff,
}

impl From<InviteProblem> for EngineError {
    fn from(problem: InviteProblem) -> Self {
        Self::Invite { problem, inviter: None, port: None }
    }
}

// What holds secrets says nothing of them in logs.

impl std::fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, port, tun_name, mtu, policy, peers, invites, up, .. } = self;
        f.debug_struct("EngineConfig")
            .field("name", name)
            .field("port", port)
            .field("tun_name", tun_name)
            .field("mtu", mtu)
            .field("policy", policy)
            .field("peers", peers)
            .field("invites", invites)
            .field("up", up)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, public_key, addresses, kind, eid_v4, plain, policy, .. } = self;
        f.debug_struct("PeerConfig")
            .field("name", name)
            .field("public_key", public_key)
            .field("addresses", addresses)
            .field("kind", kind)
            .field("eid_v4", eid_v4)
            .field("plain", plain)
            .field("policy", policy)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PlainPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addresses, allowed, split, keepalive, .. } = self;
        f.debug_struct("PlainPeer")
            .field("addresses", addresses)
            .field("allowed", allowed)
            .field("split", split)
            .field("keepalive", keepalive)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for InviteRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, expires, used, .. } = self;
        f.debug_struct("InviteRecord")
            .field("name", name)
            .field("expires", expires)
            .field("used", used)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(allowed: &[&str], split: bool) -> PlainPeer {
        let range = |text: &&str| {
            let (address, length) = text.split_once('/').unwrap();
            Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
        };
        PlainPeer { allowed: allowed.iter().map(range).collect(), split, ..PlainPeer::default() }
    }

    #[test]
    fn a_full_tunnel_is_a_default_route_whole_or_in_halves() {
        for (allowed, rest) in [
            (&["0.0.0.0/0", "10.0.0.0/8"][..], Some(&["10.0.0.0/8"][..])),
            (&["::/0"], Some(&[])),
            (&["0.0.0.0/0", "::/0"], Some(&[])),
            (&["128.0.0.0/1", "0.0.0.0/1", "::/1"], Some(&["::/1"])),
            (&["8000::/1", "::/1", "fd00::/8"], Some(&["fd00::/8"])),
            (&["0.0.0.0/1", "10.0.0.0/8"], None),
            (&["0.0.0.0/1", "0.0.0.0/1", "8000::/1"], None),
            (&["10.0.0.0/8"], None),
            (&[], None),
        ] {
            let (full, split) = (peer(allowed, false), peer(allowed, true));
            assert_eq!(full.full_tunnel(), rest.map(|_| true), "{allowed:?}");
            assert_eq!(split.full_tunnel(), rest.map(|_| false), "{allowed:?}");
            assert_eq!(full.ranges().collect::<Vec<_>>(), full.allowed, "{allowed:?}");
            let left = peer(rest.unwrap_or(allowed), false).allowed;
            assert_eq!(split.ranges().collect::<Vec<_>>(), left, "{allowed:?}");
        }
    }
}
