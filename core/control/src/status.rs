//! What the service tells of its present state.

use serde::{Deserialize, Serialize};

use crate::event::{Event, lenient};
use crate::layers::LayerStatus;
use crate::part::{Part, UplinkPart};
#[cfg(doc)]
use crate::timestamp;
use crate::words;

/// Everything that an interface shows, at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Status {
    /// Whether the service carries traffic: the virtual interface exists.
    pub up: bool,
    /// This endpoint's name, as its peers see it.
    pub name: String,
    /// The service's version.
    pub version: String,
    /// This endpoint's public key, in base64.
    pub public_key: String,
    /// The local interfaces that could carry paths.
    #[serde(default)]
    pub interfaces: Vec<InterfaceStatus>,
    /// The interfaces that are up and have an address, and are not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ts", ts(optional, as = "Option<_>"))]
    pub left_out: Vec<LeftOut>,
    /// The peers, in the order in which they were added.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// The last few events, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
    /// While the tunnel is paused: when it comes up again by itself, as [`timestamp`] writes it.
    #[serde(default)]
    pub paused_until: Option<String>,
    /// What keeps the peers from answering, as far as the service can tell; none while all is well or down.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// Why something that was changed is in effect and not on the disk: a restart forgets it. None while all is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub unkept: Option<String>,
    /// What the system refuses of addresses, routes and protection, or other programs keep taking away, in English.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ts", ts(optional, as = "Option<_>"))]
    pub refused: Vec<String>,
    /// How leak protection stands.
    #[serde(default)]
    pub protection: Protection,
    /// The layers between this machine and its peers, the lowest first: what is known of each, and by what. None
    /// while nothing is tried.
    #[serde(default)]
    pub layers: Vec<LayerStatus>,
    /// The policy of all, which peers without one of their own follow.
    #[serde(default)]
    pub policy: Option<PolicyStatus>,
    /// What the user chose.
    #[serde(default)]
    pub settings: Settings,
    /// Where this endpoint's private key is.
    #[serde(default)]
    pub key: KeyPlace,
    /// What is only for those who may change things was left out: addresses and keys of peers, names of networks and
    /// hosts, what happened, and how much was carried.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "ts", ts(optional, as = "Option<_>"))]
    pub redacted: bool,
}

/// The lowest layer that fails, and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Trouble {
    /// Which layer.
    pub layer: Layer,
    /// What it is.
    #[serde(flatten, deserialize_with = "lenient")]
    pub cause: TroubleCause,
    /// The cause in English, with the remedy where there is one, for readers that do not know its code.
    #[serde(default)]
    pub detail: String,
}

impl Trouble {
    /// Trouble with its layer and its English.
    pub fn new(cause: TroubleCause) -> Self {
        let layer = match cause {
            TroubleCause::NoInterface | TroubleCause::Excluded { .. } => Layer::Link,
            TroubleCause::NameUnknown { .. } => Layer::Dns,
            TroubleCause::NoAnswer => Layer::Peer,
            TroubleCause::Portal => Layer::Portal,
            TroubleCause::KeyLocked | TroubleCause::Forbidden | TroubleCause::Unprotected => Layer::Service,
            TroubleCause::Other => Layer::Unknown,
        };
        Self { layer, detail: words::trouble(&cause), cause }
    }
}

/// What keeps the peers from answering.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum TroubleCause {
    /// No interface is connected.
    NoInterface,
    /// The only interfaces that are connected are never to be used.
    Excluded {
        /// One of them.
        interface: String,
    },
    /// A peer's name cannot be looked up.
    NameUnknown {
        /// The name.
        host: String,
    },
    /// A rule of this machine itself forbids to send.
    Forbidden,
    /// Leak protection is wanted, and not in force.
    Unprotected,
    /// Nothing comes back from the peers.
    NoAnswer,
    /// The network wants a login first.
    Portal,
    /// The service waits for its private key.
    KeyLocked,
    /// What this version has no code for; [`Trouble::detail`] says it.
    #[default]
    #[serde(other)]
    Other,
}

/// How leak protection stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Protection {
    /// There is nothing to hold back: it is off, or no full tunnel is wanted.
    #[default]
    Idle,
    /// Nothing leaves but what may.
    InForce,
    /// The system has no packet filter: routes alone decide, which a network can set.
    RoutesOnly {
        /// What the system lacks, in English.
        why: String,
    },
    /// It is wanted, and not in force.
    Missing {
        /// Why, in English.
        why: String,
    },
    /// What this version has no code for.
    #[serde(other)]
    Other,
}

/// What the user chose once, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Settings {
    /// What the tunnel does when the service starts.
    #[serde(default)]
    pub at_start: AtStart,
    /// Whether traffic that belongs into a full tunnel is refused rather than sent around it, even when the service
    /// is not running; `down` and `pause` let everything go its usual way.
    #[serde(default)]
    pub leak_protection: bool,
    /// Whether the local network may be spoken with all the same: private and link-local ranges, but no name servers
    /// there.
    #[serde(default = "yes")]
    pub local_network: bool,
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    fn default() -> Self {
        Self { at_start: AtStart::default(), leak_protection: false, local_network: true }
    }
}

/// A local interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct InterfaceStatus {
    /// Its name, such as `wlan0`.
    pub name: String,
    /// What it is attached to.
    pub kind: InterfaceKind,
    /// The network's name (an SSID, an operator), where known. It comes from the network: do not trust it.
    #[serde(default)]
    pub network: Option<String>,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether traffic over it costs the user money.
    #[serde(default)]
    pub metered: bool,
    /// Whether it can carry datagrams now.
    #[serde(default)]
    pub usable: bool,
    /// What the user said of its cost by hand; none where the system's word counts.
    #[serde(default)]
    pub metered_by_hand: Option<bool>,
    /// Whether the user said never to use it.
    #[serde(default)]
    pub excluded: bool,
    /// Whether its radio is weak now.
    #[serde(default)]
    pub weak: bool,
    /// Whether it has carried all of this month's budget.
    #[serde(default)]
    pub spent: bool,
    /// Its layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<LayerStatus>,
}

/// An interface that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: LeftOutWhy,
}

/// Why an interface is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum LeftOutWhy {
    /// The configuration says so.
    Ignored,
    /// It belongs to a bridge or bond, which is used in its stead.
    Port,
    /// It is a tunnel: what goes over it goes over another uplink.
    Tunnel,
    /// It leads to containers or virtual machines of this host.
    Inside,
    /// For a reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Which addresses of this host a peer is told. From where datagrams come it sees whatever is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum AddressesTold {
    /// Those that are of use to it.
    #[default]
    All,
    /// Of these, those that are not private.
    PublicOnly,
    /// Those that relays lend. There are none yet: no address is told.
    RelayedOnly,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

impl AddressesTold {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::PublicOnly => "public-only",
            Self::RelayedOnly => "relayed-only",
            Self::Unknown => "unknown",
        }
    }
}

/// A peer and the context with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PeerStatus {
    /// The name under which this host knows the peer.
    pub name: String,
    /// Its public key, in base64.
    pub public_key: String,
    /// Whether the peer answers.
    pub state: PeerState,
    /// What the peer speaks.
    pub kind: PeerKind,
    /// The endpoint identifiers of both ends.
    pub eid: Eids,
    /// What decides between paths.
    pub policy: PolicyStatus,
    /// Bytes received from the peer.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    #[serde(default)]
    pub tx_bytes: u64,
    /// Milliseconds since the peer was last heard on any path; none if never.
    #[serde(default)]
    pub last_heard_ms: Option<u64>,
    /// Its paths, by number.
    #[serde(default)]
    pub paths: Vec<PathStatus>,
    /// Whether it has a policy of its own; else that of all counts.
    #[serde(default)]
    pub own_policy: bool,
    /// Whether all traffic of this host goes to it; none where that cannot be had.
    #[serde(default)]
    pub full_tunnel: Option<bool>,
    /// Of a peer that came from a WireGuard file: whether MAST may be spoken with it; none for others.
    #[serde(default)]
    pub mast: Option<bool>,
    /// Which addresses of this host it is told, in MAST.
    #[serde(default)]
    pub addresses: AddressesTold,
    /// It is the user's own: it is told private addresses, too, that it may be unable to use.
    #[serde(default)]
    pub own: bool,
    /// The modes that can be chosen for it.
    #[serde(default)]
    pub modes: Vec<PolicyMode>,
    /// What of its addresses and routes is not set on this machine as it should be, in English.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ts", ts(optional, as = "Option<_>"))]
    pub troubles: Vec<String>,
    /// What each interface has to do with its data now.
    #[serde(default)]
    pub uplinks: Vec<UplinkPart>,
    /// Its own layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<LayerStatus>,
}

impl PeerState {
    /// Whether the peer answers.
    pub fn answers(self) -> bool {
        matches!(self, Self::Connected | Self::Partial)
    }
}

/// The endpoint identifiers that two peers agreed on: what transports bind to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Eids {
    /// This end's, IPv4.
    #[serde(default)]
    pub local_v4: Option<String>,
    /// This end's, IPv6.
    #[serde(default)]
    pub local_v6: Option<String>,
    /// The peer's, IPv4.
    #[serde(default)]
    pub remote_v4: Option<String>,
    /// The peer's, IPv6.
    #[serde(default)]
    pub remote_v6: Option<String>,
}

/// The policy of a context.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PolicyStatus {
    /// Who chooses.
    pub mode: PolicyMode,
    /// With [`PolicyMode::Pin`]: interfaces, kinds, or networks as `network:NAME`; the first that works is used.
    #[serde(default)]
    pub pin: Vec<String>,
    /// With [`PolicyMode::Pin`]: whether other paths may be used while no pinned one works.
    #[serde(default)]
    pub fallback: bool,
    /// With [`PolicyMode::Redundant`]: whether only small datagrams go over two paths.
    #[serde(default)]
    pub small: bool,
    /// With [`PolicyMode::Redundant`] and [`PolicyMode::Bonded`]: whether metered paths take part, too.
    #[serde(default)]
    pub metered: bool,
}

/// A local interface and a remote address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PathStatus {
    /// Its number within the context.
    pub id: u32,
    /// The local interface's name.
    pub interface: String,
    /// The local address.
    pub local: String,
    /// The remote address and port.
    pub remote: String,
    /// Whether its datagrams go straight to the remote address, or through a relay.
    #[serde(default)]
    pub via: Via,
    /// The peer's own number for the link that the remote address is on, where it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub peer_link: Option<u8>,
    /// What is known of it.
    pub state: PathState,
    /// Whether the context sends over it now.
    pub active: bool,
    /// How fit it is to carry data, where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub fitness: Option<Fitness>,
    /// What is wrong with it, where it works and is not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub ailment: Option<Ailment>,
    /// Whether it takes part in carrying data now, or why it does not.
    #[serde(default)]
    pub part: Part,
    /// Milliseconds since the peer last answered over it; none if never.
    #[serde(default)]
    pub answered_ms: Option<u64>,
    /// Smoothed round-trip time in milliseconds, once measured.
    #[serde(default)]
    pub srtt_ms: Option<f64>,
    /// Share of datagrams lost lately, 0 to 1, once measured.
    #[serde(default)]
    pub loss: Option<f64>,
    /// The largest datagram that is known to pass, in bytes.
    #[serde(default)]
    pub mtu: u16,
    /// Bytes received over it.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Bytes sent over it.
    #[serde(default)]
    pub tx_bytes: u64,
}

/// What is wrong with a path that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Ailment {
    /// Of a hundred datagrams so many do not arrive.
    #[serde(default)]
    pub lost_percent: u8,
    /// By how many milliseconds its round trip is longer than it can be.
    #[serde(default)]
    pub late_ms: u16,
    /// Nothing comes through for moments.
    #[serde(default)]
    pub stalled: bool,
}

/// Gives an enumeration of words its text form and its reading.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ } else $other:ident = $other_word:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS))]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            /// Anything else, such as a word of a newer service.
            #[serde(other)]
            $other,
        }

        impl $name {
            /// The word used by the API and in output.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::$other => $other_word,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// What an interface is attached to.
    InterfaceKind {
        /// IEEE 802.11.
        Wifi = "wifi",
        /// A mobile network.
        Cellular = "cellular",
        /// Wired.
        Ethernet = "ethernet",
    } else Other = "other"
}

words! {
    /// A layer that can fail, the lowest first.
    Layer {
        /// No interface is usable.
        Link = "link",
        /// An interface has no address.
        Address = "address",
        /// The network wants a login first.
        Portal = "portal",
        /// Names cannot be looked up.
        Dns = "dns",
        /// The network, or a NAT or firewall in it, does not let UDP through.
        Nat = "nat",
        /// The network is fine, the peer does not answer.
        Peer = "peer",
        /// The service itself: a setting, a permission, the key.
        Service = "service",
    } else Unknown = "unknown"
}

words! {
    /// What the tunnel does when the service starts.
    #[derive(Default)]
    AtStart {
        /// What it did when the service ended.
        #[default]
        Last = "last",
        /// It comes up.
        Up = "up",
        /// It waits to be asked.
        Down = "down",
    } else Unknown = "unknown"
}

words! {
    /// Where the private key is.
    #[derive(Default)]
    KeyPlace {
        /// In a file that only the service can read.
        #[default]
        File = "file",
        /// In a user's key store; the service has it until it ends.
        Session = "session",
        /// In a user's key store; the service waits for it.
        Locked = "locked",
    } else Unknown = "unknown"
}

words! {
    /// Whether a peer answers.
    PeerState {
        /// The peer answers: something sealed by it arrived over the active path within the time that the
        /// protocol allows. Never said on the strength of a past handshake alone.
        Connected = "connected",
        /// The peer answers, but what should go to it does not all do so: a full tunnel is not in force, or the system
        /// refuses all routes to it. [`PeerStatus::troubles`] says why.
        Partial = "partial",
        /// There is an address and an interface, and the peer is being tried; it has not yet answered since the
        /// service came up or the peer was added.
        Connecting = "connecting",
        /// The peer did answer, but now no path does; or attempts have gone on for long without any answer.
        Unreachable = "unreachable",
        /// Nothing is being tried: the service is down, no interface is usable, or no address of the peer is known.
        Down = "down",
    } else Unknown = "unknown"
}

words! {
    /// What a peer speaks.
    PeerKind {
        /// MAST: moves between paths without loss.
        Mast = "mast",
        /// Plain WireGuard: this end moves, the other follows.
        Wireguard = "wireguard",
    } else Unknown = "unknown"
}

words! {
    /// How the datagrams of a path get to the other end.
    #[derive(Default)]
    Via {
        /// Straight.
        #[default]
        Direct = "direct",
        /// Through a relay.
        Relay = "relay",
    } else Unknown = "unknown"
}

words! {
    /// What is known of a path.
    PathState {
        /// Not yet tried.
        Candidate = "candidate",
        /// Tried, no answer yet.
        Validating = "validating",
        /// The peer answered over it.
        Validated = "validated",
        /// It stopped answering a moment ago.
        Suspect = "suspect",
        /// It does not answer.
        Failed = "failed",
    } else Unknown = "unknown"
}

words! {
    /// How fit a path is to carry data.
    Fitness {
        /// Nothing speaks against it.
        Fit = "fit",
        /// It carries, but worse than it can.
        Strained = "strained",
        /// It loses or delays too much: any other is better.
        Unfit = "unfit",
    } else Unknown = "unknown"
}

words! {
    /// Who chooses the path, and whether one carries data or several.
    #[derive(Default)]
    PolicyMode {
        /// The service: the cheapest path that is fit, then the quickest.
        #[default]
        Auto = "auto",
        /// The user, by a list.
        Pin = "pin",
        /// Every datagram goes over the two best paths, and the first copy counts.
        Redundant = "redundant",
        /// Datagrams are spread over all good paths, and put in order again.
        Bonded = "bonded",
    } else Unknown = "unknown"
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn words_on_the_wire_are_the_words_in_output() {
        for word in ["connected", "connecting", "unreachable", "down", "unknown"] {
            let state: PeerState = from_value(json!(word)).unwrap();
            assert_eq!((state.as_str(), json!(state)), (word, json!(word)));
        }
        for word in ["wifi", "cellular", "ethernet", "other"] {
            assert_eq!(from_value::<InterfaceKind>(json!(word)).unwrap().as_str(), word);
        }
        for word in ["mast", "wireguard", "unknown"] {
            assert_eq!(from_value::<PeerKind>(json!(word)).unwrap().as_str(), word);
        }
        for word in ["candidate", "validating", "validated", "suspect", "failed", "unknown"] {
            assert_eq!(from_value::<PathState>(json!(word)).unwrap().as_str(), word);
        }
        for word in ["auto", "pin", "redundant", "bonded", "unknown"] {
            assert_eq!(from_value::<PolicyMode>(json!(word)).unwrap().as_str(), word);
        }
    }

    #[test]
    fn a_newer_services_status_can_be_read() {
        let status: Status = from_value(json!({
            "up": true, "name": "laptop", "version": "9.0", "public_key": "", "weather": "fine",
            "peers": [{
                "name": "home", "public_key": "", "state": "dreaming", "kind": "quic", "eid": {"local_v8": "x"},
                "policy": {"mode": "psychic"}, "paths": [],
            }],
        }))
        .unwrap();
        let peer = &status.peers[0];
        assert_eq!((peer.state, peer.kind), (PeerState::Unknown, PeerKind::Unknown));
        assert_eq!(peer.policy, PolicyStatus { mode: PolicyMode::Unknown, ..PolicyStatus::default() });
    }
}
