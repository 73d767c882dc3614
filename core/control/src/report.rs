//! What the doctor found, and what a drill showed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::lenient;
use crate::layers::{Evidence, LayerState, LayerStatus};
use crate::status::{Layer, PeerKind, PeerState};
use crate::words;

/// What `doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoctorReport {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was counted since the service started.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// What is only for those who may change things was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    #[serde(flatten, deserialize_with = "lenient")]
    pub finding: Finding,
    /// The finding in English, for readers that do not know its code.
    #[serde(default)]
    pub detail: String,
    /// What the user can do, in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// A finding with its English.
    pub fn new(name: impl Into<String>, finding: Finding) -> Self {
        let remedy = words::remedy(&finding).map(str::to_owned);
        Self { name: name.into(), ok: finding.is_well(), detail: words::finding(&finding), finding, remedy }
    }

    /// A finding for which there is no code: an explanation that holds its remedy, too.
    pub fn told(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, finding: Finding::Other, detail: detail.into(), remedy: None }
    }
}

/// What the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Finding {
    /// MAST is down.
    Down,
    /// MAST is up.
    Up {
        /// The virtual interface.
        interface: String,
        /// The UDP port; 0 where the system chose one for each socket.
        port: u16,
    },
    /// There is no interface that leads out.
    NoInterface,
    /// No interface is connected.
    Unconnected {
        /// Those that there are.
        interfaces: Vec<String>,
    },
    /// Interfaces that are connected.
    Uplinks {
        /// Which.
        interfaces: Vec<String>,
    },
    /// The state is saved.
    Saved,
    /// It is not.
    Unsaved {
        /// What the system says.
        error: String,
    },
    /// A rule of this machine itself forbids to send.
    Forbidden {
        /// So many seconds ago it did last.
        seconds: u64,
        /// So many times in all.
        count: u64,
    },
    /// Over an uplink no answer ever came, while others work.
    SilentUplink {
        /// It.
        interface: String,
        /// One that works.
        works: String,
        /// Both are in one network, as far as their addresses tell.
        alike: bool,
    },
    /// What left many at a time was lost, and single datagrams were not.
    BatchesLost {
        /// The uplinks over which they go one by one now.
        interfaces: Vec<String>,
    },
    /// Handshakes came that were made for this host, of somebody whose key no peer has.
    Strangers {
        /// So many.
        count: u64,
    },
    /// What a peer answers reaches the programs of this machine.
    AnswersArrive {
        /// The peers that were tried.
        peers: Vec<String>,
    },
    /// It does not: this machine drops it.
    AnswersDropped {
        /// The peer.
        peer: String,
        /// `IPv4` or `IPv6`.
        version: String,
        /// The address that the answers come from.
        from: String,
        /// The virtual interface.
        interface: String,
    },
    /// What this machine's programs send to a peer does not come out of the virtual interface.
    NothingLeaves {
        /// The peer.
        peer: String,
        /// `IPv4` or `IPv6`.
        version: String,
        /// The address that it was sent to.
        to: String,
        /// The virtual interface.
        interface: String,
    },
    /// The clock is years behind.
    ClockYears,
    /// The clock was set back.
    ClockBack {
        /// By so many seconds.
        seconds: u64,
    },
    /// The clock goes forward.
    ClockFine,
    /// How a layer stands, of one interface or one peer; [`Check::name`] says of which.
    Layer {
        /// Which layer.
        layer: Layer,
        /// How it stands.
        state: LayerState,
        /// By what that is known.
        evidence: Evidence,
    },
    /// How it stands with a peer.
    Peer {
        /// Its name.
        peer: String,
        /// Whether it answers.
        state: PeerState,
        /// What it speaks.
        kind: PeerKind,
        /// So many paths to it are known.
        paths: u32,
        /// Seconds since it was last heard; none if never.
        heard_s: Option<u64>,
        /// It is not tried, because MAST is down.
        unwanted: bool,
    },
    /// What this version has no code for; [`Check::detail`] says it.
    #[default]
    #[serde(other)]
    Other,
}

impl From<&LayerStatus> for Finding {
    fn from(layer: &LayerStatus) -> Self {
        Self::Layer { layer: layer.layer, state: layer.state, evidence: layer.evidence.clone() }
    }
}

impl Finding {
    fn is_well(&self) -> bool {
        match self {
            Self::Up { .. } | Self::Uplinks { .. } | Self::Saved | Self::ClockFine | Self::Other => true,
            Self::AnswersArrive { .. } | Self::BatchesLost { .. } | Self::Strangers { .. } => true,
            Self::AnswersDropped { .. } | Self::NothingLeaves { .. } | Self::SilentUplink { .. } => false,
            Self::Layer { state, .. } => *state != LayerState::Bad,
            Self::Peer { state, unwanted, .. } => *unwanted || *state == PeerState::Connected,
            Self::Down | Self::NoInterface | Self::Unconnected { .. } => false,
            Self::Forbidden { .. } | Self::Unsaved { .. } | Self::ClockYears | Self::ClockBack { .. } => {
                false
            }
        }
    }
}

/// How far a drill is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct DrillProgress {
    /// The same in English: "silencing wlan0".
    pub message: String,
    /// So many links will be silenced.
    #[serde(default)]
    pub links: u32,
    /// The step that just ended, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub step: Option<DrillStep>,
}

/// One link was silenced on purpose, with all its paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct DrillStep {
    /// The number of the first path of the link that was silenced.
    pub path: u32,
    /// How many paths were of it; 0 from a service that does not tell.
    #[serde(default)]
    pub paths: u32,
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
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct DrillReport {
    /// What happened to each path.
    pub steps: Vec<DrillStep>,
    /// Whether traffic survived.
    pub verdict: Verdict,
    /// So many links were to be silenced.
    #[serde(default)]
    pub links: u32,
    /// The verdict in English: [`words::drill_verdict`].
    #[serde(default)]
    pub detail: String,
}

impl DrillReport {
    /// Nobody hangs up for a silence of this length, in milliseconds.
    pub const LONGEST_SILENCE_MS: f64 = 1000.0;

    /// The verdict on what a drill showed. What is on its way over a path when it is lost is lost with it; that is no
    /// failure.
    pub fn judge(steps: Vec<DrillStep>, links: u32) -> Self {
        let (sent, lost) = steps.iter().fold((0, 0), |(s, l), step| (s + step.sent, l + step.lost));
        let longest = steps.iter().filter_map(|s| s.gap_ms).fold(0.0, f64::max);
        let stranded = steps.iter().any(|s| s.to.is_none());
        let early = usize::try_from(links).is_ok_and(|links| steps.len() < links);
        let verdict = if steps.is_empty() {
            Verdict::Inconclusive
        } else if stranded || longest > Self::LONGEST_SILENCE_MS || lost * 4 > sent {
            Verdict::Failed
        } else if early {
            Verdict::Inconclusive
        } else {
            Verdict::Passed
        };
        let mut report = Self { steps, verdict, links, detail: String::new() };
        report.detail = words::drill_verdict(&report);
        report
    }
}

/// Whether traffic survived a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Verdict {
    /// Every path could be lost without harm.
    Passed,
    /// Losing a path interrupted traffic for good, for more than a second, or with many datagrams lost.
    Failed,
    /// Nothing could be tried: there is only one path, or none.
    #[serde(other)]
    Inconclusive,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(to: Option<&str>, lost: u64) -> DrillStep {
        let gap_ms = to.map(|_| 70.0);
        DrillStep {
            path: 3,
            paths: 2,
            interface: "wlan0".into(),
            to: to.map(Into::into),
            gap_ms,
            sent: 180,
            lost,
        }
    }

    #[test]
    fn verdicts() {
        let good = || step(Some("eth0"), 0);
        let judge = |steps: Vec<DrillStep>| DrillReport::judge(steps, 2);
        assert_eq!(judge(vec![good(), good()]).verdict, Verdict::Passed);
        assert_eq!(judge(vec![good(), step(Some("eth0"), 6)]).verdict, Verdict::Passed);
        assert_eq!(judge(vec![good(), step(Some("eth0"), 120)]).verdict, Verdict::Failed);
        let stranded = judge(vec![good(), step(None, 180)]);
        assert_eq!(
            (stranded.verdict, stranded.detail.as_str()),
            (Verdict::Failed, "nothing took over from wlan0")
        );
        assert_eq!(judge(vec![]).verdict, Verdict::Inconclusive);
        assert_eq!(judge(vec![good()]).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn findings_travel_with_their_english() {
        let peer = Finding::Peer {
            peer: "nas".into(),
            state: PeerState::Unreachable,
            kind: PeerKind::Mast,
            paths: 2,
            heard_s: Some(9),
            unwanted: false,
        };
        let check = Check::new("peer nas", peer);
        assert!(!check.ok && check.remedy.is_some(), "{check:?}");
        let wire = serde_json::json!(check);
        assert_eq!((&wire["code"], &wire["paths"]), (&"peer".into(), &2.into()));
        assert_eq!(serde_json::from_value::<Check>(wire).unwrap(), check);
        let newer = serde_json::json!({"name": "moon", "ok": false, "code": "moon", "detail": "it is full"});
        assert_eq!(serde_json::from_value::<Check>(newer).unwrap(), Check::told("moon", false, "it is full"));
    }
}
