//! The files of the state directory, as they are written: JSON with a version.
//!
//! Fields that this version does not know are kept and written again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mast_control::AtStart;
use mast_engine::api::{AddressSource, Addresses, InviteId, InviteRecord, PeerConfig, PlainPeer};
use mast_engine::declared::Guard;
use mast_engine::os::{Family, Prefix};
use mast_proto::wire::EidPair;
use mast_proto::{AddressesTold, Disclosure, PeerKind, Policy, Selector};
use mast_state::Secret;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use crate::notation;
use crate::usage::Accounts;

/// The version of every file.
pub(super) const VERSION: u32 = 1;

/// A file of the state directory.
pub(super) trait StateFile: Serialize + DeserializeOwned + Default {
    /// Its name.
    const NAME: &'static str;
    /// What is lost without it, for messages.
    const CONTENT: &'static str;
}

macro_rules! state_file {
    ($type:ident, $name:literal, $content:literal) => {
        impl StateFile for $type {
            const NAME: &'static str = $name;
            const CONTENT: &'static str = $content;
        }
    };
}

state_file!(Peers, "peers.json", "the peers that were added, and the EIDs agreed with them");
state_file!(Invites, "invites.json", "the invites that were given out");
state_file!(Accounts, "usage.json", "what each uplink carried, and the budgets");
state_file!(Protection, "protection.json", "what the next start holds back before it reads anything else");
state_file!(Presence, "presence.json", "the account at a presence service, with its password");
state_file!(Settings, "settings.json", "the policy that was set, and whether the tunnel was up");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Peers {
    pub version: u32,
    pub peers: Vec<StoredPeer>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { version: VERSION, peers: Vec::new(), extra: Map::new() }
    }
}

/// All peers, as they are written.
#[derive(Serialize)]
pub(super) struct PeersView<'a> {
    version: u32,
    #[serde(serialize_with = "each")]
    peers: &'a [Arc<StoredPeer>],
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

impl<'a> PeersView<'a> {
    pub fn new(peers: &'a [Arc<StoredPeer>], extra: &'a Map<String, Value>) -> Self {
        Self { version: VERSION, peers, extra }
    }
}

fn each<S: Serializer>(peers: &[Arc<StoredPeer>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(peers.iter().map(|peer| &**peer))
}

/// A record of the journal: what changed of the peers since the record before.
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    /// The digest of the file of peers that it adds to.
    pub follows: String,
    /// Removed first.
    #[serde(default)]
    pub removed: Vec<Key>,
    /// Then set.
    #[serde(default)]
    pub peers: Vec<StoredPeer>,
}

impl Batch {
    /// The text of a record, in one line.
    pub fn text(follows: &str, removed: &[Key], peers: &[Arc<StoredPeer>]) -> Option<Zeroizing<Vec<u8>>> {
        #[derive(Serialize)]
        struct View<'a> {
            follows: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            removed: &'a [Key],
            #[serde(serialize_with = "each")]
            peers: &'a [Arc<StoredPeer>],
        }
        let mut text = Secret::default();
        serde_json::to_writer(&mut text, &View { follows, removed, peers }).ok()?;
        Some(text.into_bytes())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Invites {
    pub version: u32,
    pub invites: Vec<StoredInvite>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Invites {
    fn default() -> Self {
        Self { version: VERSION, invites: Vec::new(), extra: Map::new() }
    }
}

/// This machine's account at a presence service.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct StoredAccount {
    pub account: String,
    /// Sealed by `mast_state::seal`.
    pub password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// As PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

// It holds a secret, which must not reach a log.
impl fmt::Debug for StoredAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAccount").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Drop for StoredAccount {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Presence {
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<StoredAccount>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Presence {
    fn default() -> Self {
        Self { version: VERSION, login: None, extra: Map::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub version: u32,
    pub up: bool,
    /// The default policy, once it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<StoredPolicy>,
    /// What the configuration said then; when it says something else, that counts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_configured: Option<StoredPolicy>,
    /// What the user chose for interfaces, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<String, StoredChoice>,
    /// The private key that belongs to this public one is in a user's key store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_key: Option<String>,
    /// The user that may have the private key beside root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_owner: Option<String>,
    /// What the tunnel does at the start.
    #[serde(default)]
    pub at_start: AtStart,
    /// The tunnel is paused until then, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<u64>,
    /// Traffic that belongs into a full tunnel is refused rather than sent around it.
    #[serde(default)]
    pub leak_protection: bool,
    /// Private and link-local ranges may be spoken with directly all the same.
    #[serde(default = "yes")]
    pub local_network: bool,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: VERSION,
            up: true,
            policy: None,
            policy_configured: None,
            interfaces: BTreeMap::new(),
            handed_key: None,
            key_owner: None,
            at_start: AtStart::Last,
            paused_until: None,
            leak_protection: false,
            local_network: true,
            extra: Map::new(),
        }
    }
}

/// What the next start is to hold back at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Protection {
    pub version: u32,
    pub ipv4: bool,
    pub ipv6: bool,
    /// The virtual interface.
    pub interface: String,
    pub local_network: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Protection {
    pub fn of(guard: Option<&Guard>) -> Self {
        let holds = |family| guard.is_some_and(|g| g.families.contains(&family));
        Self {
            version: VERSION,
            ipv4: holds(Family::V4),
            ipv6: holds(Family::V6),
            interface: guard.and_then(|g| g.interfaces.first().cloned()).unwrap_or_default(),
            local_network: guard.is_some_and(|g| g.local_network),
        }
    }

    pub fn guard(&self) -> Option<Guard> {
        let families: BTreeSet<Family> = [(self.ipv4, Family::V4), (self.ipv6, Family::V6)]
            .into_iter()
            .filter_map(|(held, family)| held.then_some(family))
            .collect();
        let interfaces = [self.interface.clone()].into();
        (!families.is_empty()).then_some(Guard { families, interfaces, local_network: self.local_network })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredChoice {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<bool>,
    #[serde(default)]
    pub excluded: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredPeer {
    pub name: String,
    pub public_key: Key,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key: Option<Key>,
    /// As earlier versions wrote all addresses together; see [`StoredPeer::sort`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SocketAddr>,
    /// Where it may be reached, by source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<SocketAddr>>,
    /// Endpoints that are host names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eid_v4: Option<Eids>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<Plain>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<StoredPolicy>,
    /// What it may know, where that is not as it is at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure: Option<StoredDisclosure>,
    /// Its account at a presence service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What the configuration said of that when `disclosure` was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure_configured: Option<StoredDisclosure>,
    /// It stands in the configuration file, too; when it is taken out there, it is forgotten.
    #[serde(default)]
    pub configured: bool,
    /// What the configuration said of its policy when `policy` was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_configured: Option<StoredPolicy>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl StoredPeer {
    pub fn of(peer: &PeerConfig) -> Self {
        Self {
            name: peer.name.clone(),
            public_key: Key::of(&peer.public_key),
            preshared_key: peer.preshared_key.as_deref().map(Key::of),
            endpoints: Vec::new(),
            addresses: peer.addresses.lists().map(kept).filter(|(_, list)| !list.is_empty()).collect(),
            hosts: Vec::new(),
            kind: peer.kind.map(|kind| match kind {
                PeerKind::Mast => Kind::Mast,
                PeerKind::WireGuard => Kind::Wireguard,
            }),
            eid_v4: peer.eid_v4.map(|pair| Eids { local: pair.own, remote: pair.other }),
            plain: peer.plain.as_ref().map(|plain| Plain {
                addresses: plain.addresses.iter().copied().map(Range).collect(),
                allowed_ips: plain.allowed.iter().copied().map(Range).collect(),
                split: plain.split,
                unrouted: plain.unrouted,
                mtu: plain.mtu,
                dns: plain.dns.clone(),
                keepalive: plain.keepalive,
                private_key: plain.private_key.as_deref().map(Key::of),
            }),
            policy: peer.policy.as_ref().map(StoredPolicy::of),
            disclosure: StoredDisclosure::of(peer),
            account: peer.account.clone(),
            disclosure_configured: None,
            configured: false,
            policy_configured: None,
            extra: Map::new(),
        }
    }

    /// Puts the addresses that an earlier version wrote together under the source that most of them had, so that none
    /// is lost: a name that is looked up replaces its own, and an invite is not replaced.
    pub fn sort(&mut self) {
        if self.endpoints.is_empty() {
            return;
        }
        let source = if self.configured {
            // What the configuration says is read anew.
            AddressSource::EarlierRun
        } else if !self.hosts.is_empty() {
            AddressSource::Dns
        } else if self.plain.is_some() {
            AddressSource::Configuration
        } else {
            AddressSource::Invite
        };
        let list = self.addresses.entry(source.as_str().to_owned()).or_default();
        for at in std::mem::take(&mut self.endpoints) {
            if !list.contains(&at) {
                list.push(at);
            }
        }
    }

    /// Its addresses. A source that this version does not know is left alone.
    pub fn all_addresses(&self) -> Addresses {
        let mut addresses = Addresses::default();
        for (word, list) in &self.addresses {
            if let Some(source) = AddressSource::from_word(word) {
                addresses.set(source, list.iter().copied());
            }
        }
        addresses
    }

    /// What a source says.
    pub fn addresses_of(&self, source: AddressSource) -> &[SocketAddr] {
        self.addresses.get(source.as_str()).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn peer(&self) -> PeerConfig {
        PeerConfig {
            name: self.name.clone(),
            public_key: *self.public_key.0,
            preshared_key: self.preshared_key.as_ref().map(|k| k.0.clone()),
            addresses: self.all_addresses(),
            kind: self.kind.map(|kind| match kind {
                Kind::Mast => PeerKind::Mast,
                Kind::Wireguard => PeerKind::WireGuard,
            }),
            eid_v4: self.eid_v4.map(|eids| EidPair { own: eids.local, other: eids.remote }),
            plain: self.plain.as_ref().map(|plain| PlainPeer {
                addresses: plain.addresses.iter().map(|r| r.0).collect(),
                allowed: plain.allowed_ips.iter().map(|r| r.0).collect(),
                split: plain.split,
                unrouted: plain.unrouted,
                mtu: plain.mtu,
                dns: plain.dns.clone(),
                keepalive: plain.keepalive,
                private_key: plain.private_key.as_ref().map(|k| k.0.clone()),
            }),
            policy: self.policy.as_ref().map(StoredPolicy::policy),
            disclosure: match &self.disclosure {
                Some(stored) => stored.disclosure(),
                None => at_first(self.plain.is_some()),
            },
            account: self.account.clone(),
        }
    }
}

/// What is kept of a source. The number of an interface means another one after a restart; the zone it came from is
/// kept by its name.
fn kept((source, list): (AddressSource, &[SocketAddr])) -> (String, Vec<SocketAddr>) {
    let lasting = |at: &&SocketAddr| !matches!(at, SocketAddr::V6(at) if at.scope_id() != 0);
    (source.as_str().to_owned(), list.iter().filter(lasting).copied().collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Mast,
    Wireguard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Eids {
    pub local: Ipv4Addr,
    pub remote: Ipv4Addr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plain {
    pub addresses: Vec<Range>,
    pub allowed_ips: Vec<Range>,
    /// Its default route is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split: bool,
    /// Its file wants no routes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrouted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Key>,
}

/// What a peer may know, unless the user says something else.
fn at_first(plain: bool) -> Disclosure {
    if plain { Disclosure::WIREGUARD } else { Disclosure::default() }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDisclosure {
    pub mast: bool,
    pub addresses: String,
    #[serde(default)]
    pub own: bool,
}

impl StoredDisclosure {
    /// None where it is as at first.
    pub fn of(peer: &PeerConfig) -> Option<Self> {
        let Disclosure { mast, addresses, own } = peer.disclosure;
        let stored = Self { mast, addresses: addresses.as_str().to_owned(), own };
        (peer.disclosure != at_first(peer.plain.is_some())).then_some(stored)
    }

    fn disclosure(&self) -> Disclosure {
        // Of a word of a later version the least is made.
        let addresses = AddressesTold::from_word(&self.addresses).unwrap_or(AddressesTold::RelayedOnly);
        Disclosure { mast: self.mast, addresses, own: self.own }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub(super) enum StoredPolicy {
    Auto,
    Pin {
        pin: Vec<String>,
        fallback: bool,
    },
    Redundant {
        #[serde(default)]
        small: bool,
        #[serde(default)]
        metered: bool,
    },
    Bonded {
        #[serde(default)]
        metered: bool,
    },
}

impl StoredPolicy {
    pub fn of(policy: &Policy) -> Self {
        match policy {
            Policy::Auto => Self::Auto,
            Policy::Pin { order, fallback } => {
                Self::Pin { pin: order.iter().map(ToString::to_string).collect(), fallback: *fallback }
            }
            Policy::Redundant { small, metered } => Self::Redundant { small: *small, metered: *metered },
            Policy::Bonded { metered } => Self::Bonded { metered: *metered },
        }
    }

    pub fn policy(&self) -> Policy {
        match self {
            Self::Auto => Policy::Auto,
            Self::Pin { pin, fallback } => {
                Policy::Pin { order: pin.iter().map(|w| Selector::parse(w)).collect(), fallback: *fallback }
            }
            Self::Redundant { small, metered } => Policy::Redundant { small: *small, metered: *metered },
            Self::Bonded { metered } => Policy::Bonded { metered: *metered },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredInvite {
    pub secret: Key,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
    #[serde(default)]
    pub used: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl StoredInvite {
    /// What it is called, if somebody who finds it here would accept it.
    pub fn open(&self) -> Option<InviteId> {
        self.invite().filter(|invite| !invite.used && !invite.revoked).map(|invite| invite.id())
    }

    pub fn of(invite: &InviteRecord) -> Self {
        let since = invite.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            secret: Key::of(&invite.secret),
            name: invite.name.clone(),
            expires_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            used: invite.used,
            revoked: invite.revoked,
            extra: Map::new(),
        }
    }

    pub fn invite(&self) -> Option<InviteRecord> {
        let expires = UNIX_EPOCH.checked_add(Duration::from_millis(self.expires_ms))?;
        let record = InviteRecord {
            secret: self.secret.0.clone(),
            name: self.name.clone(),
            expires,
            used: self.used,
            revoked: self.revoked,
        };
        (expires > SystemTime::now()).then_some(record)
    }
}

/// A key, in base64; secret or not, it is wiped from memory and stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub Zeroizing<[u8; 32]>);

impl Key {
    pub fn of(key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(notation::key_text(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        notation::key(&text).map(|key| Self(Zeroizing::new(key))).map_err(D::Error::custom)
    }
}

/// An address range, in its usual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range(pub Prefix);

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        notation::prefix(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}
