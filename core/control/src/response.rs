//! What the service answers and reports.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::status::{Eids, Event, Status};

/// The answer to a [`crate::Request`]; which one is expected is written at each.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To `status`.
    Status(Box<Status>),
    /// To `up`, `down`, `peer.remove` and `policy.set`: it is done.
    Done {},
    /// To `peer.add`.
    PeerAdded(PeerAdded),
    /// To `invite`.
    Invited(Invited),
    /// To `doctor`.
    Doctor(DoctorReport),
}

impl Response {
    /// It is done.
    pub const DONE: Self = Self::Done {};
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
}

/// A peer was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAdded {
    /// The name that it got.
    pub name: String,
    /// The endpoint identifiers, as far as they are known yet.
    pub eid: Eids,
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

/// What `doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoctorReport {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was counted since the service started.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    #[serde(default)]
    pub detail: String,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How far a drill is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillProgress {
    /// For the user: "silencing wlan0".
    pub message: String,
    /// The step that just ended, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<DrillStep>,
}

/// One path was silenced on purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// The number of the path that was silenced.
    pub path: u32,
    /// Its interface.
    pub interface: String,
    /// The interface that took over; none if none did.
    #[serde(default)]
    pub to: Option<String>,
    /// How long nothing arrived, in milliseconds; none if nothing arrived any more.
    #[serde(default)]
    pub gap_ms: Option<f64>,
    /// Probe datagrams sent through the context meanwhile.
    pub sent: u64,
    /// Those that never arrived.
    pub lost: u64,
}

/// What a drill showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// What happened to each path.
    pub steps: Vec<DrillStep>,
    /// Whether traffic survived.
    pub verdict: Verdict,
    /// The verdict in a sentence.
    #[serde(default)]
    pub detail: String,
}

/// Whether traffic survived a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every path could be lost without harm.
    Passed,
    /// Losing a path interrupted traffic for good, for more than a second, or with many datagrams lost.
    Failed,
    /// Nothing could be tried: there is only one path, or none.
    #[serde(other)]
    Inconclusive,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// `event`: something happened.
    Event(Event),
    /// `status.changed`: what `status` answers is no longer the same.
    StatusChanged,
}
