//! What the service answers and reports.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::event::Event;
use crate::note::Note;
use crate::presence::PresenceReport;
use crate::report::DoctorReport;
use crate::status::{Eids, InterfaceKind, InterfaceStatus, PeerStatus, Status};

/// The answer to a [`crate::Request`]; which one is expected is written at each.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To `status`.
    Status(Box<Status>),
    /// To `peer`.
    Peer(Box<PeerView>),
    /// To every request that only changes something: it is done.
    Done {},
    /// To `peer.add`.
    PeerAdded(PeerAdded),
    /// To `invite`.
    Invited(Invited),
    /// To `invite.list`.
    Invites(Invites),
    /// To `usage`.
    Usage(UsageReport),
    /// To `story`.
    Story(Story),
    /// To `history`.
    History(History),
    /// To `logs`.
    Logs(Logs),
    /// To `key.hand_over`.
    Key(HandedKey),
    /// To `presence`, `presence.login` and `presence.logout`.
    Presence(PresenceReport),
    /// To `doctor`.
    Doctor(DoctorReport),
    /// To a request that changed something: the answer proper, and in `unkept` why the change is in effect and not on the
    /// disk, or not yet. It is tried again.
    Unkept(serde_json::Map<String, serde_json::Value>),
}

impl Response {
    /// It is done.
    pub const DONE: Self = Self::Done {};

    /// The same of something that is in effect and not on the disk.
    #[must_use]
    pub fn unkept(self, why: impl Into<String>) -> Self {
        let mut answer = match serde_json::to_value(&self) {
            Ok(serde_json::Value::Object(answer)) => answer,
            // No answer is anything else.
            _ => serde_json::Map::new(),
        };
        answer.insert("unkept".to_owned(), why.into().into());
        Self::Unkept(answer)
    }
}

impl From<Status> for Response {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// [`crate::PROTOCOL`] of the service.
    pub protocol: u32,
    /// The service's version.
    pub version: String,
    /// This endpoint's name.
    #[serde(default)]
    pub name: String,
    /// Whether this client may change things.
    #[serde(default)]
    pub may_change: bool,
}

/// What every uplink carried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageReport {
    /// The uplinks, those with the most traffic this month first.
    pub uplinks: Vec<UplinkUsage>,
}

/// What an uplink carried. An uplink is a network where its name is known, else an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UplinkUsage {
    /// `network:NAME`, or the interface's name. It may come from the network: do not trust it.
    pub uplink: String,
    /// What it is attached to.
    pub kind: InterfaceKind,
    /// Whether it costs, when it was last seen.
    #[serde(default)]
    pub metered: bool,
    /// The months in which it carried anything, the newest first; twelve at most.
    #[serde(default)]
    pub months: Vec<MonthUsage>,
    /// Bytes a month, both directions together, beyond which the user is warned.
    #[serde(default)]
    pub budget: Option<u64>,
}

/// A month of an uplink, in bytes on the wire with the headers of UDP and IP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct MonthUsage {
    /// Year and month of local time, `2026-11`.
    pub month: String,
    /// Bytes received, all told.
    pub rx: u64,
    /// Bytes sent, all told.
    pub tx: u64,
    /// Those of `rx` that carried nothing of an application: headers, seals, probes, copies.
    pub rx_overhead: u64,
    /// Those of `tx`.
    pub tx_overhead: u64,
}

/// What happened, oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Story {
    /// The events.
    pub events: Vec<Event>,
}

/// Round trips of the last hour.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct History {
    /// Between two samples of a path, in milliseconds, while the service is up.
    pub interval_ms: u64,
    /// The paths, also those that are gone.
    pub paths: Vec<PathHistory>,
}

/// Round trips of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PathHistory {
    /// The peer's name.
    pub peer: String,
    /// The interface's name.
    pub interface: String,
    /// The local address.
    #[serde(default)]
    pub local: String,
    /// The remote address and port.
    pub remote: String,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

/// A path at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Smoothed round-trip time in milliseconds; none while the path does not work.
    pub srtt_ms: Option<f64>,
    /// Whether it carried the data.
    pub active: bool,
}

/// The service's last log lines, oldest first, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Logs {
    /// The lines.
    pub lines: Vec<String>,
}

/// The private key, on its way into a key store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedKey {
    /// In base64.
    pub private_key: String,
}

impl Drop for HandedKey {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl fmt::Debug for HandedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedKey").field("private_key", &"(secret)").finish()
    }
}

/// A peer was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAdded {
    /// The name that it got.
    pub name: String,
    /// The endpoint identifiers, as far as they are known yet.
    pub eid: Eids,
    /// What of it is not used, or not yet, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// An invite was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// The link, which holds a secret.
    pub link: String,
    /// Until when it may be accepted, as [`crate::timestamp`] writes it.
    pub expires: String,
}

impl fmt::Debug for Invited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invited").field("link", &"(secret)").field("expires", &self.expires).finish()
    }
}

/// The invites that were given out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Invites {
    /// Those that are remembered, oldest first: what is over is remembered for a day.
    pub invites: Vec<InviteStatus>,
}

/// An invite that was given out, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct InviteStatus {
    /// What it is called when it is revoked: eight hexadecimal digits.
    pub id: String,
    /// What the peer that accepts it will be called, where that was said.
    #[serde(default)]
    pub name: Option<String>,
    /// Until when it may be accepted, as [`crate::timestamp`] writes it.
    pub expires: String,
    /// Whether it can be accepted still.
    #[serde(default)]
    pub state: InviteState,
}

/// Whether an invite can be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum InviteState {
    /// It can.
    Open,
    /// It was.
    Used,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// What this version has no word for.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// `event`: something happened, and this is it. What it says is not said again by
    /// [`Notice::StatusChanged`]: a reader that wants more of the peer asks for that peer.
    Event(Arc<Event>),
    /// `status.changed`: what `status` answers is no longer the same, for another reason than an event.
    StatusChanged,
    /// `events.lost`: the reader did not keep up, and so many notices before the next one were left out.
    Missed(u64),
}

impl From<Event> for Notice {
    fn from(event: Event) -> Self {
        Self::Event(Arc::new(event))
    }
}

/// The answer to `peer`: one peer, and the interfaces that its paths name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Whether the service carries traffic.
    pub up: bool,
    /// The peer.
    pub peer: PeerStatus,
    /// The local interfaces that could carry paths.
    #[serde(default)]
    pub interfaces: Vec<InterfaceStatus>,
    /// What is only for those who may change things was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}
