//! What an interface can ask for.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroize;

use crate::error::{ControlError, ErrorCode};
use crate::presence::PresenceLogin;
use crate::status::{AddressesTold, AtStart, PolicyMode};

/// A request that the service answers; greeting and subscribing are the server's own business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `status`: everything at once. Changes nothing: no path is tried because somebody asks.
    Status,
    /// `peer`: what `status` says of one peer, at a cost that does not grow with the others.
    Peer(PeerNamed),
    /// `check`: try now what was not heard of lately, of one peer or of all.
    Check(CheckPaths),
    /// `up`: carry traffic.
    Up,
    /// `down`: stop carrying traffic and take back every change to the system.
    Down,
    /// `peer.add`: accept an invite or read a WireGuard file.
    PeerAdd(PeerAdd),
    /// `peer.remove`: forget a peer.
    PeerRemove(PeerRemove),
    /// `invite`: make a link with which another host becomes a peer.
    Invite(Invite),
    /// `invite.list`: the invites that were given out.
    InviteList,
    /// `invite.revoke`: let nobody accept an invite any more.
    InviteRevoke(InviteRevoke),
    /// `policy.set`: how paths are chosen and used.
    PolicySet(PolicySet),
    /// `policy.clear`: let a peer follow the policy of all again.
    PolicyClear(PolicyClear),
    /// `pause`: stop carrying traffic for a while.
    Pause(Pause),
    /// `interface.set`: what the user says of an interface.
    InterfaceSet(InterfaceSet),
    /// `peer.set`: what the user says of a peer.
    PeerSet(PeerSet),
    /// `settings.set`: what the user chooses for good.
    SettingsSet(SettingsSet),
    /// `usage`: bytes by uplink and month.
    Usage,
    /// `budget.set`: how much an uplink may carry in a month before the user is warned.
    BudgetSet(BudgetSet),
    /// `story`: what happened, as far back as it is remembered.
    Story(StoryRequest),
    /// `history`: round trips over the last hour.
    History,
    /// `logs`: the service's last log lines.
    Logs,
    /// `key.owner`: say whose key it is. Only administrators may.
    KeyOwner(KeyOwner),
    /// `key.hand_over`: give the private key to the user's key store and forget its file. Only administrators and the
    /// key's owner may, as with the two below.
    KeyHandOver,
    /// `key.unlock`: here is the private key from the user's key store.
    KeyUnlock(KeyUnlock),
    /// `key.keep`: keep the private key in a file of the service again.
    KeyKeep,
    /// `presence`: the account by which peers that move are found, and how it fares.
    Presence,
    /// `presence.login`: use this account from now on, in place of another.
    PresenceLogin(PresenceLogin),
    /// `presence.logout`: use none, and forget its password.
    PresenceLogout,
    /// `doctor`: look for what is wrong.
    Doctor,
}

/// Parameters of `hello`. Unknown fields are ignored, so that versions can be compared at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`] of the client.
    pub protocol: u32,
    /// The client's name and version, for logs.
    #[serde(default)]
    pub client: String,
}

/// Parameters of `peer.add`: exactly one of `link` and `file`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAdd {
    /// An invite, `mast://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// A WireGuard configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PeerFile>,
    /// What to call the peer; the name in the invite or of the file otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A file, by value: the service may not be able to read where the user can.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerFile {
    /// Its name without directories.
    pub name: String,
    /// All of its text.
    pub contents: String,
}

// Both hold secrets, which must not reach a log.
impl fmt::Debug for PeerAdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAdd")
            .field("link", &self.link.as_ref().map(|_| "(secret)"))
            .field("file", &self.file)
            .field("name", &self.name)
            .finish()
    }
}

impl Drop for PeerFile {
    fn drop(&mut self) {
        self.contents.zeroize();
    }
}

impl fmt::Debug for PeerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerFile").field("name", &self.name).field("contents", &"(secret)").finish()
    }
}

/// Parameters of `peer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerNamed {
    /// The peer's name.
    pub name: String,
}

/// Parameters of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckPaths {
    /// The peer's name; without one, every peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// Parameters of `peer.remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRemove {
    /// The peer's name.
    pub name: String,
}

/// Parameters of `invite`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// How long the link may be accepted, in seconds.
    #[serde(default = "an_hour")]
    pub expires_s: u64,
    /// What to call the peer that accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn an_hour() -> u64 {
    3600
}

impl Default for Invite {
    fn default() -> Self {
        Self { expires_s: an_hour(), name: None }
    }
}

/// Parameters of `invite.revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRevoke {
    /// The invite, as `invite.list` calls it.
    pub id: String,
}

/// Parameters of `key.owner`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOwner {
    /// The user, in the system's own words: on Unix, its number. None: nobody but administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Parameters of `policy.set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    /// The peer's name; without one, every peer and the default for those to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Who chooses, and whether one path carries data or several.
    pub mode: PolicyMode,
    /// Interface names, kinds, or networks as `network:NAME`, in order: 1 to 16; only with [`PolicyMode::Pin`].
    #[serde(default)]
    pub pin: Vec<String>,
    /// Whether other paths may be used while no pinned one works; false only with [`PolicyMode::Pin`].
    #[serde(default = "yes")]
    pub fallback: bool,
    /// Only small datagrams go over two paths, bulk over one; only with [`PolicyMode::Redundant`].
    ///
    /// Like `metered`, it travels only when it is set, so that an older service is asked in its own words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub small: bool,
    /// Metered paths take part, too; only with [`PolicyMode::Redundant`] and [`PolicyMode::Bonded`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metered: bool,
}

fn yes() -> bool {
    true
}

impl Default for PolicySet {
    fn default() -> Self {
        Self {
            peer: None,
            mode: PolicyMode::Auto,
            pin: Vec::new(),
            fallback: true,
            small: false,
            metered: false,
        }
    }
}

/// Parameters of `policy.clear`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyClear {
    /// The peer's name.
    pub peer: String,
}

/// Parameters of `pause`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// For how long, in seconds: 1 to 86,400.
    pub seconds: u64,
}

/// Parameters of `interface.set`: what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSet {
    /// The interface's name.
    pub name: String,
    /// Whether traffic over it costs money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
    /// Whether it shall never be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<bool>,
}

/// What the user says of an interface's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Metered {
    /// It costs.
    Yes,
    /// It does not.
    No,
    /// The system shall tell.
    Auto,
}

/// Parameters of `peer.set`: what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSet {
    /// The peer's name.
    pub name: String,
    /// Whether all traffic of this host goes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_tunnel: Option<bool>,
    /// Whether MAST may be spoken with it; only of a peer of a WireGuard file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mast: Option<bool>,
    /// Which addresses of this host it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<AddressesTold>,
    /// Whether it is the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<bool>,
    /// The account of a presence service at which it is listened for; empty: none that was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<String>,
}

/// Parameters of `settings.set`: what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsSet {
    /// What the tunnel does when the service starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_start: Option<AtStart>,
    /// See [`crate::Settings::leak_protection`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leak_protection: Option<bool>,
    /// See [`crate::Settings::local_network`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_network: Option<bool>,
}

/// Parameters of `budget.set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSet {
    /// The uplink, as `usage` names it.
    pub uplink: String,
    /// Bytes a month, both directions together; none takes the budget away.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// Parameters of `story`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoryRequest {
    /// The most events to be told, the newest: 1 to 10,000.
    #[serde(default = "a_thousand")]
    pub limit: u32,
}

fn a_thousand() -> u32 {
    1000
}

impl Default for StoryRequest {
    fn default() -> Self {
        Self { limit: a_thousand() }
    }
}

/// Parameters of `key.unlock`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUnlock {
    /// In base64.
    pub private_key: String,
}

impl Drop for KeyUnlock {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl fmt::Debug for KeyUnlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyUnlock").field("private_key", &"(secret)").finish()
    }
}

/// Parameters of `drill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The peer's name.
    pub peer: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A request with the methods that the server handles by itself.
#[derive(Debug)]
pub(crate) enum Method {
    Hello(Hello),
    Subscribe,
    Drill(Drill),
    Call(Request),
}

impl Method {
    /// Reads a method and its parameters.
    pub(crate) fn parse(method: &str, params: Option<Value>) -> Result<Self, ControlError> {
        let call = match method {
            "hello" => return Ok(Self::Hello(read(params)?)),
            "events.subscribe" => return read::<Nothing>(params).map(|_| Self::Subscribe),
            "drill" => return Ok(Self::Drill(read(params)?)),
            "status" => read::<Nothing>(params).map(|_| Request::Status)?,
            "peer" => Request::Peer(read(params)?),
            "check" => Request::Check(read(params)?),
            "up" => read::<Nothing>(params).map(|_| Request::Up)?,
            "down" => read::<Nothing>(params).map(|_| Request::Down)?,
            "doctor" => read::<Nothing>(params).map(|_| Request::Doctor)?,
            "peer.add" => Request::PeerAdd(read::<PeerAdd>(params)?.checked()?),
            "peer.remove" => Request::PeerRemove(read(params)?),
            "invite" => Request::Invite(read::<Invite>(params)?.checked()?),
            "invite.list" => read::<Nothing>(params).map(|_| Request::InviteList)?,
            "invite.revoke" => Request::InviteRevoke(read(params)?),
            "policy.set" => Request::PolicySet(read::<PolicySet>(params)?.checked()?),
            "policy.clear" => Request::PolicyClear(read(params)?),
            "pause" => Request::Pause(read::<Pause>(params)?.checked()?),
            "interface.set" => Request::InterfaceSet(read::<InterfaceSet>(params)?.checked()?),
            "peer.set" => Request::PeerSet(read::<PeerSet>(params)?.checked()?),
            "settings.set" => Request::SettingsSet(read::<SettingsSet>(params)?.checked()?),
            "usage" => read::<Nothing>(params).map(|_| Request::Usage)?,
            "budget.set" => Request::BudgetSet(read(params)?),
            "story" => Request::Story(read::<StoryRequest>(params)?.checked()?),
            "history" => read::<Nothing>(params).map(|_| Request::History)?,
            "logs" => read::<Nothing>(params).map(|_| Request::Logs)?,
            "key.owner" => Request::KeyOwner(read(params)?),
            "key.hand_over" => read::<Nothing>(params).map(|_| Request::KeyHandOver)?,
            "key.unlock" => Request::KeyUnlock(read(params)?),
            "key.keep" => read::<Nothing>(params).map(|_| Request::KeyKeep)?,
            "presence" => read::<Nothing>(params).map(|_| Request::Presence)?,
            "presence.login" => Request::PresenceLogin(read::<PresenceLogin>(params)?.checked()?),
            "presence.logout" => read::<Nothing>(params).map(|_| Request::PresenceLogout)?,
            other => {
                let shown: String = other.chars().take(64).collect();
                return Err(ControlError::new(
                    ErrorCode::UnknownMethod,
                    format!("there is no method {shown:?} in protocol {}", crate::PROTOCOL),
                ));
            }
        };
        Ok(Self::Call(call))
    }

    /// Who may ask for it.
    pub(crate) fn audience(&self) -> Audience {
        match self {
            Self::Hello(_) | Self::Subscribe => Audience::Everybody,
            Self::Call(call) => call.audience(),
            Self::Drill(_) => Audience::Steering,
        }
    }
}

/// Who may ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Anybody on the machine. Whoever does not see everything gets an answer that tells whether it works, and no more.
    Everybody,
    /// Whoever sees everything: those who may change things, and, if the configuration says so, everybody.
    Seeing,
    /// Whoever may change things.
    Steering,
}

impl Request {
    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Peer(_)
                | Self::Doctor
                | Self::Usage
                | Self::Story(_)
                | Self::History
                | Self::InviteList
                | Self::Presence
        )
    }

    /// Who may ask it. The log and the invites tell of others.
    pub fn audience(&self) -> Audience {
        match self {
            Self::Status | Self::Peer(_) | Self::Doctor => Audience::Everybody,
            Self::Usage | Self::Story(_) | Self::History => Audience::Seeing,
            _ => Audience::Steering,
        }
    }

    /// The method's name.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Peer(_) => "peer",
            Self::Check(_) => "check",
            Self::Up => "up",
            Self::Down => "down",
            Self::PeerAdd(_) => "peer.add",
            Self::PeerRemove(_) => "peer.remove",
            Self::Invite(_) => "invite",
            Self::InviteList => "invite.list",
            Self::InviteRevoke(_) => "invite.revoke",
            Self::PolicySet(_) => "policy.set",
            Self::PolicyClear(_) => "policy.clear",
            Self::Pause(_) => "pause",
            Self::InterfaceSet(_) => "interface.set",
            Self::PeerSet(_) => "peer.set",
            Self::SettingsSet(_) => "settings.set",
            Self::Usage => "usage",
            Self::BudgetSet(_) => "budget.set",
            Self::Story(_) => "story",
            Self::History => "history",
            Self::Logs => "logs",
            Self::KeyOwner(_) => "key.owner",
            Self::KeyHandOver => "key.hand_over",
            Self::KeyUnlock(_) => "key.unlock",
            Self::KeyKeep => "key.keep",
            Self::Presence => "presence",
            Self::PresenceLogin(_) => "presence.login",
            Self::PresenceLogout => "presence.logout",
            Self::Doctor => "doctor",
        }
    }

    /// The parameters as they travel.
    pub(crate) fn params(&self) -> Value {
        match self {
            Self::Status | Self::Up | Self::Down | Self::Doctor => json!({}),
            Self::Usage | Self::History | Self::Logs | Self::KeyHandOver | Self::KeyKeep => json!({}),
            Self::InviteList | Self::Presence | Self::PresenceLogout => json!({}),
            Self::PresenceLogin(p) => json!(p),
            Self::InviteRevoke(p) => json!(p),
            Self::KeyOwner(p) => json!(p),
            Self::Peer(p) => json!(p),
            Self::Check(p) => json!(p),
            Self::PolicyClear(p) => json!(p),
            Self::Pause(p) => json!(p),
            Self::InterfaceSet(p) => json!(p),
            Self::PeerSet(p) => json!(p),
            Self::SettingsSet(p) => json!(p),
            Self::BudgetSet(p) => json!(p),
            Self::Story(p) => json!(p),
            Self::KeyUnlock(p) => json!(p),
            Self::PeerAdd(p) => json!(p),
            Self::PeerRemove(p) => json!(p),
            Self::Invite(p) => json!(p),
            Self::PolicySet(p) => json!(p),
        }
    }
}

impl PeerAdd {
    fn checked(self) -> Result<Self, ControlError> {
        match (&self.link, &self.file) {
            (Some(_), None) | (None, Some(_)) => Ok(self),
            (None, None) => Err(ControlError::bad_params("missing: give either `link` or `file`")),
            (Some(_), Some(_)) => Err(ControlError::bad_params("`link` and `file` exclude each other")),
        }
    }
}

impl Invite {
    fn checked(self) -> Result<Self, ControlError> {
        const WEEK: u64 = 7 * 24 * 3600;
        if (1..=WEEK).contains(&self.expires_s) {
            Ok(self)
        } else {
            Err(ControlError::bad_field("expires_s", format_args!("must be 1 to {WEEK} (a week)")))
        }
    }
}

impl Pause {
    fn checked(self) -> Result<Self, ControlError> {
        const DAY: u64 = 24 * 3600;
        if (1..=DAY).contains(&self.seconds) {
            Ok(self)
        } else {
            Err(ControlError::bad_field("seconds", format_args!("must be 1 to {DAY} (a day)")))
        }
    }
}

impl InterfaceSet {
    fn checked(self) -> Result<Self, ControlError> {
        if self.metered.is_none() && self.excluded.is_none() {
            return Err(ControlError::bad_params("missing: give `metered` or `excluded`"));
        }
        Ok(self)
    }
}

impl PeerSet {
    fn checked(self) -> Result<Self, ControlError> {
        let switch = self.full_tunnel.or(self.mast).or(self.own);
        if switch.is_none() && self.addresses.is_none() && self.presence.is_none() {
            let why = "missing: give `full_tunnel`, `mast`, `addresses`, `own` or `presence`";
            return Err(ControlError::bad_params(why));
        }
        if self.addresses == Some(AddressesTold::Unknown) {
            let why = "must be \"all\", \"public-only\" or \"relayed-only\"";
            return Err(ControlError::bad_field("addresses", why));
        }
        Ok(self)
    }
}

impl SettingsSet {
    fn checked(self) -> Result<Self, ControlError> {
        match (self.at_start, self.leak_protection.or(self.local_network)) {
            (Some(AtStart::Unknown), _) => {
                Err(ControlError::bad_field("at_start", "must be \"last\", \"up\" or \"down\""))
            }
            (None, None) => Err(ControlError::bad_params(
                "missing: give `at_start`, `leak_protection` or `local_network`",
            )),
            _ => Ok(self),
        }
    }
}

impl StoryRequest {
    fn checked(self) -> Result<Self, ControlError> {
        if (1..=10_000).contains(&self.limit) {
            Ok(self)
        } else {
            Err(ControlError::bad_field("limit", "must be 1 to 10000"))
        }
    }
}

impl PolicySet {
    fn checked(self) -> Result<Self, ControlError> {
        use PolicyMode::{Auto, Bonded, Pin, Redundant, Unknown};
        let mode = self.mode;
        let stray = |field: &str, only: &str| {
            let remedy = format!("leave it out, or set `mode` to {only}");
            Err(ControlError::bad_field(field, format_args!("does not belong to mode \"{mode}\": {remedy}")))
        };
        match mode {
            Unknown => {
                Err(ControlError::bad_field("mode", "must be \"auto\", \"pin\", \"redundant\" or \"bonded\""))
            }
            Pin if self.pin.is_empty() => {
                Err(ControlError::bad_field("pin", "must name an interface, a kind or a network"))
            }
            Pin if self.pin.len() > 16 => Err(ControlError::bad_field("pin", "may have at most 16 entries")),
            Auto | Redundant | Bonded if !self.pin.is_empty() => stray("pin", "\"pin\""),
            Auto | Redundant | Bonded if !self.fallback => stray("fallback", "\"pin\""),
            Auto | Pin | Bonded if self.small => stray("small", "\"redundant\""),
            Auto | Pin if self.metered => stray("metered", "\"redundant\" or \"bonded\""),
            Auto | Pin | Redundant | Bonded => Ok(self),
        }
    }
}

/// Reads parameters; an error names the field.
fn read<T: DeserializeOwned>(params: Option<Value>) -> Result<T, ControlError> {
    let params = match params {
        None | Some(Value::Null) => json!({}),
        Some(params @ Value::Object(_)) => params,
        Some(_) => return Err(ControlError::bad_params("`params` must be an object with named fields")),
    };
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        if path == "." {
            return ControlError::bad_params(error.inner().to_string());
        }
        ControlError::bad_value(path, error.inner())
    })
}

#[cfg(test)]
mod tests;
